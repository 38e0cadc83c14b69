/*-------------------------------------------------------------------------
 *
 * pending.h
 *		Names that changed and are to be looked at, debounced.
 *
 * A name waits until it has been quiet for debounce_ms, but not longer than
 * debounce_max_ms after its first event.  The debounce only saves work: a
 * name may be taken earlier at any time.
 *
 * A file of which nothing but the ctime has moved is to be read again, to be
 * sure, after all that has changed: its name waits in a list of its own, in the
 * order in which it came there, and is taken when the engine has time for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PENDING_H
#define FSYNC_PENDING_H

#include "table.h"

/* What the events said; hints, never the reason to write a row. */
#define HINT_CONTENT	0x01	/* it was written, or may have been */
#define HINT_CLOSED		0x02	/* a writer closed it */
#define HINT_GONE		0x04	/* it was moved away */
#define HINT_ARRIVED	0x08	/* something was moved to this name */
#define HINT_FOUND		0x10	/* a scan found it, no event */
#define HINT_DELETED	0x20	/* the name was removed */
#define HINT_META		0x40	/* times or mode, not content */
#define HINT_LINK		0x80	/* another name of its file changed; that is
								 * all there is to it */
#define HINT_HALF		0x100	/* one end of a rename, whose other may come */
#define HINT_UNREAD		0x200	/* its content is not known to be as hashed */

/* What may be the end of a rename. */
#define HINT_MOVES		(HINT_GONE | HINT_ARRIVED | HINT_HALF)

/* The epoch of what no flush waits for. */
#define EPOCH_NONE		UINT64_MAX

typedef struct PendingName
{
	TableLink	link;
	struct PendingName *next;
	struct PendingName *prev;
	int64_t		first_us;		/* CLOCK_MONOTONIC */
	int64_t		last_us;
	int64_t		since_us;		/* the first event that was not reported yet */
	int64_t		due_us;			/* a retry: not before; 0: debounced */
	bool		starved;		/* ... nor for a flush: what is needed to look at
								 * it is not to be had */
	bool		low;			/* only its ctime moved */
	uint64_t	epoch;			/* a flush of this epoch or later waits for it */
	uint64_t	news;			/* halves.h: the number of its oldest event, or of
								 * that of a name it was renamed from */
	int64_t		scan_id;		/* the scan that waits for it, or 0 */
	unsigned	hints;
	unsigned	retries;		/* hashes that failed */
	unsigned	put_offs;		/* looks at it, since then */
	int64_t		put_off_us;		/* since when it waits for its directory; 0: not */
	uint64_t	node;			/* of the watch tree; 0: name is a path */
	size_t		name_len;
	char		name[];			/* terminated */
} PendingName;

typedef struct PendingList
{
	PendingName *first;			/* in order of last_us */
	PendingName *last;
	int64_t		oldest_us;		/* a lower bound of first_us */
} PendingList;

typedef struct Pending
{
	Table		table;
	PendingList names;
	PendingList moves;			/* with one of HINT_MOVES */
	PendingList retries;		/* those with due_us, in no order */
	PendingList low;			/* those that are low, in the order of coming */
	size_t		n_low;
	size_t		starved;		/* of these */
	bool		lost;			/* there was no memory for a name: all is to be
								 * compared */
	uint64_t	news;			/* of what is noted now */
} Pending;

extern void pending_init(Pending *pending);
extern void pending_clear(Pending *pending);

/*
 * Notes an event; restarts the debounce.  A name that waits keeps its older
 * epoch.  NULL when out of memory; then the names are known to be incomplete.
 */
extern PendingName *pending_note(Pending *pending, uint64_t node, const char *name,
								 size_t len, unsigned hints, int64_t now_us,
								 uint64_t epoch);

/*
 * The path, which no event spoke of, waits as if one had; since_us is the time
 * of the first that did for what is above it, or 0.
 */
extern PendingName *pending_wait(Pending *pending, const char *path, size_t len,
								 unsigned hints, int64_t now_us, int64_t since_us,
								 uint64_t epoch);

/* The hints of a name that waits, or 0. */
extern unsigned pending_hints(const Pending *pending, uint64_t node,
							  const char *name, size_t len);

/* Whether a name, or a path that ends in it, waits in any directory. */
extern bool pending_has_name(const Pending *pending, const char *name, size_t len);

/*
 * A name or path that is to be looked at again, not before due_us; since_us
 * is the time of its first event, or 0.  The caller
 * sets what else is to be kept; NULL as above.
 */
extern PendingName *pending_retry(Pending *pending, uint64_t node, const char *name,
								  size_t len, unsigned hints, int64_t due_us,
								  int64_t since_us, uint64_t epoch, int64_t scan_id);

/*
 * The same of what could not be looked at for want of a thread, a descriptor or
 * memory: whoever waits for it, it is not tried before due_us.
 */
extern PendingName *pending_starve(Pending *pending, uint64_t node, const char *name,
								   size_t len, unsigned hints, int64_t due_us,
								   int64_t since_us, uint64_t epoch, int64_t scan_id);

/*
 * The name, with the hint that it is unread, is taken when the rule has room for
 * it, whoever waits for it; what else is said of it takes it out of that list.
 */
extern PendingName *pending_low(Pending *pending, uint64_t node, const char *name,
								size_t len, unsigned hints, int64_t since_us,
								uint64_t epoch, int64_t scan_id);

typedef struct PendingRule
{
	int64_t		now_us;
	int64_t		debounce_us;
	int64_t		debounce_max_us;
	uint64_t	flush_epoch;	/* everything of this epoch or before is due, but
								 * what is starved */
	bool		moves;			/* everything that was moved is due... */
	bool		hold_moves;		/* ... or nothing of it */
	size_t		low;			/* so many of those that are low are due */
} PendingRule;

/*
 * Calls take() for each name that is due, which says whether it is done with
 * it; then it is removed and freed.  Ends after max names.
 */
extern void pending_collect(Pending *pending, const PendingRule *rule, size_t max,
							bool (*take) (void *arg, const PendingName *name),
							void *arg);

/* When the next name will be due, or INT64_MAX. */
extern int64_t pending_due(const Pending *pending, const PendingRule *rule);

/* The oldest epoch that waits, and whether a scan's name does. */
extern uint64_t pending_min_epoch(const Pending *pending);
extern bool pending_has_scan(const Pending *pending, int64_t scan_id);

/* The oldest news of what may be the end of a rename, or UINT64_MAX. */
extern uint64_t pending_min_news(const Pending *pending);

/* The scan waits for no name any more. */
extern void pending_drop_scan(Pending *pending, int64_t scan_id);

/*
 * A flush waits for what was given up for the time being as well: one more
 * attempt, as of this epoch.
 */
extern void pending_renew(Pending *pending, uint64_t epoch);

#endif							/* FSYNC_PENDING_H */
