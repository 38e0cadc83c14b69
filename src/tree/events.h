/*-------------------------------------------------------------------------
 *
 * events.h
 *		The kernel's inotify queue, emptied by a thread that does nothing else.
 *
 * The queue holds 16,384 events by default and overflows in milliseconds.  So
 * its reader never waits for hashing, the socket or the database: it copies
 * events into memory, where the engine takes them in batches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_EVENTS_H
#define FSYNC_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Event
{
	int			wd;
	uint32_t	mask;
	uint32_t	cookie;
	uint32_t	name_len;
	size_t		name;			/* offset in names; terminated there */
} Event;

/* How many of the events were a watch's IN_MODIFY, or up to a fifth of all too few. */
typedef struct BusyWatch
{
	int			wd;
	uint32_t	modified;
} BusyWatch;

#define EVENTS_BUSIEST		4

typedef struct EventBatch
{
	Event	   *events;
	size_t		count;
	size_t		capacity;
	char	   *names;
	size_t		names_len;
	size_t		names_capacity;
	bool		lost;			/* the queue overflowed, or memory ran out: the
								 * events are worth nothing */
	uint32_t	decoded;		/* events, with repetitions */
	BusyWatch	busiest[EVENTS_BUSIEST];
} EventBatch;

typedef struct EventReader EventReader;

/*
 * Makes an inotify instance and starts its reader.  notify_fd is an eventfd
 * that is written when events wait.  NULL with errno (EMFILE: the limit of
 * instances, or of descriptors).
 */
extern EventReader *events_start(int notify_fd);

/* Stops the thread, closes the instance and drops what was not taken. */
extern void events_stop(EventReader *reader);

/* The inotify descriptor, for inotify_add_watch(2) and inotify_rm_watch(2). */
extern int	events_fd(const EventReader *reader);

/*
 * Moves everything read so far into batch (emptied first); false when there
 * is nothing.
 */
extern bool events_take(EventReader *reader, EventBatch *batch);

/*
 * Reads now what the kernel had queued when it was called: the barrier.  What
 * is queued meanwhile may or may not be among it.
 */
extern void events_drain(EventReader *reader);

/* Decodes a buffer of struct inotify_event into batch; for the fuzzer too. */
extern void events_decode(EventBatch *batch, const char *data, size_t len);
extern void events_batch_free(EventBatch *batch);

#endif							/* FSYNC_EVENTS_H */
