/*-------------------------------------------------------------------------
 *
 * pending.h
 *		Names that changed and are to be looked at, debounced.
 *
 * A name waits until it has been quiet for debounce_ms, but not longer than
 * debounce_max_ms after its first event.  The debounce only saves work: a
 * name may be taken earlier at any time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PENDING_H
#define FSYNC_PENDING_H

#include "table.h"

/* What the events said; hints, never the reason to write a row. */
#define HINT_CONTENT	0x01	/* it was written, or may have been */
#define HINT_CLOSED		0x02	/* a writer closed it */
#define HINT_GONE		0x04	/* the name was removed or moved away */
#define HINT_ARRIVED	0x08	/* something was moved to this name */
#define HINT_FOUND		0x10	/* a scan found it, no event */
#define HINT_TRUSTED	0x20	/* ... of a tree that was not watched before: a
								 * rename is believed on its proof */

/* The epoch of what no flush waits for. */
#define EPOCH_NONE		UINT64_MAX

typedef struct PendingName
{
	TableLink	link;
	struct PendingName *next;
	struct PendingName *prev;
	int64_t		first_us;		/* CLOCK_MONOTONIC */
	int64_t		last_us;
	int64_t		due_us;			/* a retry: not before; 0: debounced */
	uint64_t	epoch;			/* a flush of this epoch or later waits for it */
	int64_t		scan_id;		/* the scan that waits for it, or 0 */
	unsigned	hints;
	unsigned	retries;
	uint64_t	node;			/* of the watch tree; 0: name is a path */
	size_t		name_len;
	char		name[];			/* terminated */
} PendingName;

typedef struct Pending
{
	Table		table;
	PendingName *first;			/* in order of last_us */
	PendingName *last;
	PendingName *retries;		/* those with due_us, in no order; few */
	int64_t		oldest_us;		/* a lower bound of first_us */
} Pending;

extern void pending_init(Pending *pending);
extern void pending_clear(Pending *pending);

/*
 * Notes an event; restarts the debounce.  A name that waits keeps its older
 * epoch.  False when out of memory.
 */
extern bool pending_note(Pending *pending, uint64_t node, const char *name, size_t len,
						 unsigned hints, int64_t now_us, uint64_t epoch);

/* The hints of a name that waits, or 0. */
extern unsigned pending_hints(const Pending *pending, uint64_t node,
							  const char *name, size_t len);

/* A path that is to be looked at again, not before due_us. */
extern bool pending_retry(Pending *pending, const char *path, size_t len,
						  unsigned hints, int64_t due_us, uint64_t epoch,
						  int64_t scan_id, unsigned retries);

typedef struct PendingRule
{
	int64_t		now_us;
	int64_t		debounce_us;
	int64_t		debounce_max_us;
	uint64_t	flush_epoch;	/* everything of this epoch or before is due */
	bool		moves;			/* everything that was moved is due... */
	bool		hold_moves;		/* ... or nothing of it */
} PendingRule;

/* The next name that is due, removed from the table; NULL: none.  The caller
 * frees it. */
extern PendingName *pending_take(Pending *pending, const PendingRule *rule);

/* When the next name will be due, or INT64_MAX. */
extern int64_t pending_due(const Pending *pending, const PendingRule *rule);

/* The oldest epoch that waits, and whether a scan's name does. */
extern uint64_t pending_min_epoch(const Pending *pending);
extern bool pending_has_scan(const Pending *pending, int64_t scan_id);

#endif							/* FSYNC_PENDING_H */
