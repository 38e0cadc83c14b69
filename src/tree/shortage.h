/*-------------------------------------------------------------------------
 *
 * shortage.h
 *		What the process lacks: a thread, a descriptor, memory.
 *
 * Any system call may fail for want of these, and that says nothing of the
 * path it was about.  Whoever meets it puts the work off, keeps it where
 * barriers look, and notes the shortage here; so there is one place that knows
 * when it is worth trying again, and what the state is to say when it lasts.
 *
 * May be used by any thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SHORTAGE_H
#define FSYNC_SHORTAGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What pthread_create(3) fails with; of other calls it means something else. */
#define SHORTAGE_OF_THREADS		EAGAIN

typedef struct Shortage
{
	pthread_mutex_t lock;
	int			notify_fd;		/* eventfd, written when one begins; or -1 */
	int			error;			/* the errno that tells what lacks; 0: nothing */
	int64_t		since_us;		/* CLOCK_MONOTONIC: when it was met first ... */
	int64_t		last_us;		/* ... and last */
	unsigned	waiting;		/* threads in shortage_wait() */
} Shortage;

extern void shortage_init(Shortage *shortage, int notify_fd);

/* Whether an errno says that the process lacks something, not that the path
 * is to blame: EMFILE, ENFILE, ENOMEM. */
extern bool shortage_is(int error);

/*
 * Whether the process lacks that now, as far as can be found out at once;
 * there are file systems that give any error for a file of theirs.
 */
extern bool shortage_confirmed(int error);

/*
 * Notes that something was put off for this errno.  Returns when to try it
 * again, by monotonic_us(): soon at first, twice a second in the end.
 */
extern int64_t shortage_note(Shortage *shortage, int error);

/*
 * Notes it and sleeps a while, for a thread that can do nothing else
 * meanwhile; false once *stop is true: it is to give up.
 */
extern bool shortage_wait(Shortage *shortage, int error, const atomic_bool *stop);

/*
 * Whether something has lacked for a second or more; then reason gets a
 * message, of at most size bytes, and *hint what to do about it.  It is over
 * when nothing was put off for a while, and nothing is; outstanding says
 * whether anything is.
 */
extern bool shortage_lasts(Shortage *shortage, bool outstanding, char *reason, size_t size,
						   const char **hint);

/* What to do about this errno: a sentence. */
extern const char *shortage_hint(int error);

/* When shortage_lasts() may give another answer, by monotonic_us(), or
 * INT64_MAX. */
extern int64_t shortage_due(Shortage *shortage);

#endif							/* FSYNC_SHORTAGE_H */
