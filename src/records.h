/*-------------------------------------------------------------------------
 *
 * records.h
 *		file_records below SQL: its columns, and its rows by their path.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_RECORDS_H
#define FSYNC_RECORDS_H

#include "session.h"

#include "access/genam.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "nodes/nodes.h"
#include "tree/protocol.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/*
 * These interfaces change with nearly every major version.  On one that is
 * newer than the newest that was tested, the library is made without them:
 * records_open() opens nothing, and statements do it all, more slowly.
 */
#ifndef RECORDS_NEWEST_TESTED
#define RECORDS_NEWEST_TESTED 19
#endif
#if PG_VERSION_NUM / 10000 <= RECORDS_NEWEST_TESTED
#define RECORDS_BELOW_SQL 1
#endif

typedef enum RecordsColumn
{
	RECORDS_ID,
	RECORDS_REPOSITORY_ID,
	RECORDS_FILE_PATH,
	RECORDS_FILE_SIZE,
	RECORDS_MOD_TIME,
	RECORDS_CONTENT_HASH,
	RECORDS_LAST_SCANNED,
	RECORDS_SCAN_GENERATION,
	RECORDS_CREATED_AT,
	RECORDS_UPDATED_AT,
	RECORDS_INODE,
	RECORDS_MTIME_NS,
	RECORDS_CTIME_NS,
	RECORDS_BTIME_NS,
	RECORDS_MISSING_SINCE,
	RECORDS_MISSING_REASON,
	RECORDS_COLUMNS				/* how many there are */
} RecordsColumn;

typedef struct Records
{
	Relation	rel;
	Relation	path_index;		/* on (repository_id, file_path) */
	AttrNumber	attnums[RECORDS_COLUMNS];
} Records;

/*
 * Opens the table for CMD_SELECT, CMD_INSERT or CMD_UPDATE, within a session
 * that the caller has begun.  False, with nothing open: users have made it
 * something that only a statement honours in full, or that is an error which a
 * statement reports best.
 */
extern bool records_open(Records *records, const ExtensionObjects *objects,
						 CmdType operation);
extern void records_close(Records *records);

/* Finds one row after the other, as the active snapshot sees them. */
typedef struct RecordsLookup
{
	Records    *records;
	IndexScanDesc scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;		/* the row that was found */
} RecordsLookup;

extern void records_lookup_begin(RecordsLookup *lookup, Records *records,
								 const pg_uuid_t *repository_id);

/* The same as another snapshot sees them, which may be a dirty one. */
extern void records_lookup_begin_as(RecordsLookup *lookup, Records *records,
									const pg_uuid_t *repository_id, Snapshot snapshot);
extern void records_lookup_end(RecordsLookup *lookup);

/* The row at this path, which is then in the slot; false: there is none. */
extern bool records_lookup(RecordsLookup *lookup, ProtoStr path, int64 *id);

/*
 * Whether there is no row from one path to another one, both included.  False
 * also when that took more than so many steps to find out: ask for each path.
 */
extern bool records_range_is_empty(RecordsLookup *lookup, ProtoStr first, ProtoStr last,
								   int steps);

#endif							/* FSYNC_RECORDS_H */
