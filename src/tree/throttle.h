/*-------------------------------------------------------------------------
 *
 * throttle.h
 *		How much of the machine a scan may take.
 *
 * One account of CPU time for everybody who works for a scan: the threads
 * that walk, compare and hash, the engine, and the worker, which says what its
 * share has cost.  Time on the clock pays into it, at the rate of the limit; who works is
 * charged what it used.  While the account is overdrawn, threads that only
 * work for a scan sleep; the engine never does, it puts off what it would
 * begin.  Changes that events reported are not charged and never wait.
 *
 * All functions may be called from any thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_THROTTLE_H
#define FSYNC_THROTTLE_H

#include "protocol.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct Throttle
{
	pthread_mutex_t lock;
	int64_t		(*now_ns) (void);
	atomic_int	limit_ppm;		/* millionths of a core; 0: no limit */
	atomic_int	io_priority;	/* ProtoIoPriority */
	int64_t		balance;		/* CPU time in ns times a million, which makes
								 * the arithmetic exact; negative: overdrawn */
	int64_t		paid_ns;		/* until when the clock has paid */
	bool		pausing;		/* since it was overdrawn, until there is
								 * enough for a while */
} Throttle;

/* now_ns is for tests; NULL is the monotonic clock. */
extern void throttle_init(Throttle *throttle, int64_t (*now_ns) (void));

/* Takes effect at once; what was overdrawn is paid at the new rate. */
extern void throttle_set(Throttle *throttle, int limit_ppm, ProtoIoPriority io_priority);

/* Charges CPU time, in nanoseconds. */
extern void throttle_charge(Throttle *throttle, int64_t cpu_ns);

/* Nanoseconds until there may be more work; 0: now. */
extern int64_t throttle_delay_ns(Throttle *throttle);

/*
 * For a thread that works for others as well.  throttle_clock() is the
 * thread's CPU time, or -1 without a limit; throttle_charge_since() charges
 * this part of what was used since then.
 */
extern int64_t throttle_clock(const Throttle *throttle);
extern void throttle_charge_since(Throttle *throttle, int64_t clock, size_t part,
								  size_t whole);

/* What a thread that works for a scan has of its own. */
typedef struct ThrottleMeter
{
	Throttle   *throttle;		/* NULL: it is not limited */
	int64_t		charged_ns;		/* of the thread's CPU time; -1: no limit yet */
	int			io_priority;	/* as set for the thread */
} ThrottleMeter;

/*
 * The thread begins to work for a scan (throttle is NULL: for somebody else),
 * and ends.  What it uses between two pieces of work for a scan is charged with
 * the second.  The meter begins as zeros.
 */
extern void throttle_begin(ThrottleMeter *meter, Throttle *throttle);
extern void throttle_end(ThrottleMeter *meter);

/* Charges what was used since the last time.  Nanoseconds to sleep now. */
extern int64_t throttle_used(ThrottleMeter *meter);

/*
 * The same, and sleeps as long as it must, or until stop says so, which is
 * asked every few milliseconds.
 */
extern void throttle_pass(ThrottleMeter *meter, const atomic_bool *stop);

/* The longest sleep, so that cancelling and a new limit are noticed. */
#define THROTTLE_SLEEP_NS	(INT64_C(50) * 1000000)

#endif							/* FSYNC_THROTTLE_H */
