/*-------------------------------------------------------------------------
 *
 * apply_arrays.h
 *		Sets of observations as arrays, for the statements of apply_rows.c.
 *
 * All results are in the current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_ARRAYS_H
#define FSYNC_APPLY_ARRAYS_H

#include "datatype/timestamp.h"

#include "apply_plan.h"

/* Columns for what stat and hashing say, the types of their arrays, and how
 * many these are; apply_stat_columns() fills them in this order. */
#define STAT_COLUMNS	"file_path, file_size, mod_time, content_hash, last_scanned," \
	" inode, mtime_ns, ctime_ns, btime_ns"
#define STAT_TYPES		TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, BYTEAARRAYOID, \
	TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID
#define STAT_COUNT		9

extern void apply_stat_columns(Datum *values, ApplyItem **items, int n, TimestampTz now);

/* The items' places in their set, from 0, as int4[]. */
extern Datum apply_ordinals(int n);

/* The ids of rows as bigint[], and the paths of files as text[]. */
extern Datum apply_ids(ApplyItem **items, int n);
extern Datum apply_paths(ApplyItem **items, int n);

/* Why there are no such files, in the words of missing_reason, as text[]. */
extern Datum apply_gone_words(ApplyItem **items, int n);

/* Where the rows of moves are; aside: those that stepped aside are there already. */
extern Datum apply_old_paths(ApplyItem **items, int n, bool aside);

/* mtime as a timestamptz: microseconds, rounded down, or an infinity. */
extern Datum apply_mod_time(const ProtoStat *st);

/* When the content was read, or now where it is not hashed; not later than now. */
extern Datum apply_last_scanned(const ProtoObservation *obs, TimestampTz now);

/* content_hash of an observation that has one, as bytea. */
extern Datum apply_hash(const ProtoObservation *obs);

#endif							/* FSYNC_APPLY_ARRAYS_H */
