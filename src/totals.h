/*-------------------------------------------------------------------------
 *
 * totals.h
 *		How many files a repository has, and how many bytes: kept in shared
 *		memory, so that nobody has to read its rows for that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TOTALS_H
#define FSYNC_TOTALS_H

#include "fsync.h"

#include "tree/protocol.h"
#include "utils/uuid.h"

/* Rows of file_records but those of missing files, and their sizes. */
typedef struct Totals
{
	int64		files;
	int64		bytes;
} Totals;

/*
 * A count of a repository's rows in the order of their paths, a page a
 * transaction, between which rows are written.
 */
typedef struct TotalsCount
{
	bool		going;
	uint64		writes;			/* of others, before it began */
	Totals		sum;			/* of the rows up to the path */
	char	   *path;			/* of the last row that was counted */
	size_t		len;
	bool		empty;			/* no row was counted yet, and there is no path */
} TotalsCount;

/* Who counts: the worker for its own sake, or on the way of a scan. */
typedef enum TotalsCounter
{
	TOTALS_BY_PAGES,
	TOTALS_BY_SCAN,
	TOTALS_COUNTERS				/* how many there are */
} TotalsCounter;

/* The counts of one repository; see totals_register(). */
typedef struct TotalsCounts
{
	pg_uuid_t	id;
	TotalsCount counts[TOTALS_COUNTERS];
} TotalsCounts;

/* What a transaction changes, in all and behind the path of each count. */
typedef struct TotalsDelta
{
	Totals		all;
	Totals		counted[TOTALS_COUNTERS];
} TotalsDelta;

/* Called once, by the postmaster. */
extern void totals_install(void);

/* ---- sessions ---- */

/*
 * The totals of a repository of this database; false: they are not known, or are
 * not those that the transaction sees.  The table is the extension's as it is now.
 */
extern bool totals_get(Oid file_records, const pg_uuid_t *id, Totals *out);

/*
 * The same of its problems, which the session that counted them last has left
 * there.  False: they are to be counted; *writes is then what goes with the
 * result to totals_put_problems(), which takes no note of it if others wrote
 * meanwhile.  The count must be made with a newer snapshot than this call.
 */
extern bool totals_get_problems(Oid table, const pg_uuid_t *id, int64 *problems,
								uint64 *writes);
extern void totals_put_problems(const pg_uuid_t *id, int64 problems, uint64 writes);

/* ---- worker ---- */

/* From now on whoever writes these tables of the database is noticed. */
extern void totals_follow(Oid file_records, Oid problems);

/* Statements within those of the worker are noticed as well; once. */
extern void totals_watch_statements(void);

/* The next statement is the worker's own; or none is, any more. */
extern void totals_expect_statement(bool expected);

/* The counts of a repository take part in what is written, until forgotten. */
extern void totals_register(TotalsCounts *counts);
extern void totals_forget(TotalsCounts *counts);

/* Those of the repository; NULL: none. */
extern const TotalsCounts *totals_find(const pg_uuid_t *id);

/* Files (and bytes) that came to this path, or with a minus went. */
extern void totals_changed(TotalsDelta *delta, const TotalsCounts *counts, ProtoStr path,
						   int64 files, int64 bytes);

/*
 * All that the transaction writes to file_records, of this repository.  Comes
 * last before the commit.
 */
extern void totals_account(const pg_uuid_t *id, const TotalsDelta *delta);

/* How often others have written file_records so far. */
extern uint64 totals_writes(void);

/* Whether those of the repository are known. */
extern bool totals_are_known(const pg_uuid_t *id);

/*
 * Whether a prepared transaction may have written; and that there is none any
 * more, unless one was prepared after the first of these calls.
 */
extern bool totals_are_in_doubt(uint32 *doubts);
extern void totals_are_certain(uint32 doubts);

/*
 * Takes over what was counted; false: somebody has written meanwhile.  *differ:
 * the totals were known, and wrong; they are then in *before.
 */
extern bool totals_set(const pg_uuid_t *id, const TotalsCount *count, bool *differ,
					   Totals *before);

#endif							/* FSYNC_TOTALS_H */
