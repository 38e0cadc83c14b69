/*-------------------------------------------------------------------------
 *
 * throttle.c
 *		How much of the machine a scan may take.
 *
 * A bucket of CPU time, with two marks.  It may run below empty, since work is
 * charged after it was done; then everybody pauses until there is enough for
 * a few milliseconds, so that a small limit means short bursts far apart and
 * not a wake-up for each file.  What is paid in while nobody works is soon
 * full: an idle hour earns no busy minute.
 *
 * Input and output are another matter: the kernel shares them out by the
 * priority of the thread that asks, if its scheduler does that at all.
 *
 *-------------------------------------------------------------------------
 */
#include "throttle.h"

#include "clock.h"

#include <linux/ioprio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MILLION			INT64_C(1000000)

/* CPU time that is enough to go on, and the most that is kept. */
#define ENOUGH_NS		(5 * MILLION)
#define FULL_NS			(20 * MILLION)

/* More than this is not overdrawn, whatever clocks say: an hour of a core. */
#define DEBT_MAX_NS		(3600 * 1000 * MILLION)

static int64_t
monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

void
throttle_init(Throttle *throttle, int64_t (*now_ns) (void))
{
	pthread_mutex_init(&throttle->lock, NULL);
	throttle->now_ns = now_ns ? now_ns : monotonic_ns;
	atomic_init(&throttle->limit_ppm, 0);
	atomic_init(&throttle->io_priority, PROTO_IO_NONE);
	throttle->balance = FULL_NS * MILLION;
	throttle->paid_ns = throttle->now_ns();
	throttle->pausing = false;
}

/* Lets the clock pay. */
static void
pay_locked(Throttle *throttle, int limit_ppm)
{
	int64_t		now = throttle->now_ns();
	int64_t		elapsed = now - throttle->paid_ns;
	int64_t		missing = FULL_NS * MILLION - throttle->balance;

	throttle->paid_ns = now;
	if (elapsed <= 0 || missing <= 0)
		return;
	if (limit_ppm == 0 || elapsed > missing / limit_ppm)
		throttle->balance += missing;
	else
		throttle->balance += elapsed * limit_ppm;
	if (throttle->balance >= ENOUGH_NS * MILLION)
		throttle->pausing = false;
}

void
throttle_set(Throttle *throttle, int limit_ppm, ProtoIoPriority io_priority)
{
	atomic_store(&throttle->io_priority, (int) io_priority);
	if (atomic_load(&throttle->limit_ppm) == limit_ppm)
		return;
	pthread_mutex_lock(&throttle->lock);
	pay_locked(throttle, atomic_load(&throttle->limit_ppm));
	atomic_store(&throttle->limit_ppm, limit_ppm);
	pthread_mutex_unlock(&throttle->lock);
}

void
throttle_charge(Throttle *throttle, int64_t cpu_ns)
{
	int			limit_ppm = atomic_load(&throttle->limit_ppm);

	if (limit_ppm == 0 || cpu_ns <= 0)
		return;
	if (cpu_ns > DEBT_MAX_NS)
		cpu_ns = DEBT_MAX_NS;
	pthread_mutex_lock(&throttle->lock);

	/* Before the clock pays for the time that this has taken: a full bucket
	 * would spill it. */
	throttle->balance -= cpu_ns * MILLION;
	if (throttle->balance < -DEBT_MAX_NS * MILLION)
		throttle->balance = -DEBT_MAX_NS * MILLION;
	pay_locked(throttle, limit_ppm);
	if (throttle->balance < 0)
		throttle->pausing = true;
	pthread_mutex_unlock(&throttle->lock);
}

int64_t
throttle_delay_ns(Throttle *throttle)
{
	int			limit_ppm = atomic_load(&throttle->limit_ppm);
	int64_t		delay = 0;

	if (limit_ppm == 0)
		return 0;
	pthread_mutex_lock(&throttle->lock);
	pay_locked(throttle, limit_ppm);
	if (throttle->pausing)
		delay = (ENOUGH_NS * MILLION - throttle->balance) / limit_ppm + 1;
	pthread_mutex_unlock(&throttle->lock);
	return delay;
}

int64_t
throttle_clock(const Throttle *throttle)
{
	return atomic_load(&throttle->limit_ppm) == 0 ? -1 : clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void
throttle_charge_since(Throttle *throttle, int64_t clock, size_t part, size_t whole)
{
	if (clock >= 0 && part > 0)
		throttle_charge(throttle, (clock_ns(CLOCK_THREAD_CPUTIME_ID) - clock) *
						((double) part / whole));
}

/* ---- a thread that works for a scan ---- */

/*
 * Of the ordinary class the lowest priority; that of PROTO_IO_NONE comes from
 * the thread's nice value.  Where the kernel refuses, it is only less polite.
 */
static void
set_io_priority(ThrottleMeter *meter, int io_priority)
{
	int			value = 0;

	if (meter->io_priority == io_priority)
		return;
	meter->io_priority = io_priority;
	if (io_priority == PROTO_IO_BEST_EFFORT)
		value = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7);
	else if (io_priority == PROTO_IO_IDLE)
		value = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0);
	(void) syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value);
}

void
throttle_begin(ThrottleMeter *meter, Throttle *throttle)
{
	int64_t		cpu_ns = throttle != NULL ? throttle_clock(throttle) : -1;

	meter->throttle = throttle;
	set_io_priority(meter, throttle == NULL ? PROTO_IO_NONE :
					atomic_load(&throttle->io_priority));
	if (cpu_ns < 0 || meter->charged_ns < 0)
		meter->charged_ns = cpu_ns;
}

int64_t
throttle_used(ThrottleMeter *meter)
{
	Throttle   *throttle = meter->throttle;
	int64_t		cpu_ns;

	if (throttle == NULL)
		return 0;

	/* What was used before there is a limit is free. */
	cpu_ns = throttle_clock(throttle);
	if (cpu_ns >= 0 && meter->charged_ns >= 0)
		throttle_charge(throttle, cpu_ns - meter->charged_ns);
	meter->charged_ns = cpu_ns;
	set_io_priority(meter, atomic_load(&throttle->io_priority));
	return throttle_delay_ns(throttle);
}

void
throttle_end(ThrottleMeter *meter)
{
	(void) throttle_used(meter);
	meter->throttle = NULL;
}

void
throttle_pass(ThrottleMeter *meter, const atomic_bool *stop)
{
	int64_t		delay;

	while ((delay = throttle_used(meter)) > 0 && !atomic_load(stop))
	{
		struct timespec pause = {0, 0};

		pause.tv_nsec = delay < THROTTLE_SLEEP_NS ? delay : THROTTLE_SLEEP_NS;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
}
