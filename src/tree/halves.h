/*-------------------------------------------------------------------------
 *
 * halves.h
 *		Ends of renames that wait for the other end.
 *
 * A row whose file has left its path, and a file at a path that no row speaks
 * of, may be the two ends of one rename, whichever of them was noticed first,
 * by an event or by a scan.  An end without the other waits here, found by
 * the file's identity, until the other comes or is known not to come.
 *
 * How long that is, is not a matter of time.  News are numbered: each name,
 * directory or place that is to be looked at bears the number of when it was
 * heard of, and an end that waits that of when it was last seen.  All that
 * was queued by then has a number that is not higher.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_HALVES_H
#define FSYNC_HALVES_H

#include "table.h"

/* Later than any news. */
#define NEWS_NONE		UINT64_MAX

typedef enum HalfKind
{
	HALF_LEFT,					/* the row's file is not at its path */
	HALF_CAME,					/* no row of its path speaks of the file */
} HalfKind;

#define HALF_KINDS		2

/* What is known of a file; without a birth time (PROTO_NO_TIME) all counts. */
typedef struct HalfFile
{
	int64_t		inode;
	int64_t		btime_ns;
	int64_t		size;
	int64_t		mtime_ns;
} HalfFile;

typedef struct HalfEnd
{
	struct HalfGroup *group;	/* of its kind and file */
	struct HalfEnd *next;		/* in the group */
	struct HalfEnd *prev;
	struct Half *half;			/* whose end it is; NULL: none */
	HalfFile	file;
} HalfEnd;

/*
 * The ends of one kind and file: a file may have any number of names.  Those
 * without a partner come first.
 */
typedef struct HalfGroup
{
	TableLink	link;
	HalfKind	kind;
	HalfFile	file;
	HalfEnd    *first;
	HalfEnd    *last;
	uint64_t	renewed;		/* up to these news, all of them */
} HalfGroup;

/*
 * A name that waits.  It is both ends where a row's file has left and another
 * has come.
 */
typedef struct Half
{
	TableLink	by_name;
	HalfEnd		ends[HALF_KINDS];
	struct Half *next;
	struct Half *prev;
	struct Half *partner;		/* the other end; NULL: not known */
	bool		met;			/* to be looked at now */
	uint64_t	news;			/* when it was last seen */
	unsigned	hints;			/* as PendingName's, and so are the next */
	unsigned	retries;
	int64_t		since_us;
	uint64_t	epoch;
	int64_t		scan_id;
	uint64_t	node;			/* of the watch tree; 0: name is a path */
	size_t		name_len;
	char		name[];			/* terminated */
} Half;

typedef struct HalfList
{
	Half	   *first;
	Half	   *last;
} HalfList;

typedef struct Halves
{
	Table		names;
	Table		groups;
	HalfList	waiting;		/* in order of news */
	HalfList	met;
} Halves;

extern void halves_init(Halves *halves);
extern void halves_clear(Halves *halves);

/*
 * The name begins to wait, or goes on: then what was known of it is kept where
 * it says more (epoch, scan, hints), and its ends are the new ones.  news must
 * not be lower than that of one which waits.  ends: NULL where the name is no
 * such end.  NULL when out of memory.
 */
extern Half *halves_add(Halves *halves, uint64_t node, const char *name, size_t len,
						const HalfFile *const ends[HALF_KINDS], uint64_t news);

/* The entry of a name, or NULL. */
extern Half *halves_of_name(const Halves *halves, uint64_t node, const char *name,
							size_t len);

/* One of this kind and file that has no partner yet, or NULL. */
extern Half *halves_find(const Halves *halves, HalfKind kind, const HalfFile *file);

/* These two are partners, to be looked at together, now. */
extern void halves_meet(Halves *halves, Half *a, Half *b);

/* Those of this kind and file wait for what was heard of until these news. */
extern void halves_renew(Halves *halves, HalfKind kind, const HalfFile *file, uint64_t news);

/* Forgets and frees it; its partner is to be looked at all the same. */
extern void halves_remove(Halves *halves, Half *half);

/* Whether the two are one file. */
extern bool halves_same_file(const HalfFile *a, const HalfFile *b);

/* Whether one ends in this name, whatever its directory. */
extern bool halves_has_name(const Halves *halves, const char *name, size_t len);

/* As of Pending. */
extern uint64_t halves_min_epoch(const Halves *halves);
extern bool halves_has_scan(const Halves *halves, int64_t scan_id);
extern void halves_drop_scan(Halves *halves, int64_t scan_id);

#endif							/* FSYNC_HALVES_H */
