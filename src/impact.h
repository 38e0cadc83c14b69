/*-------------------------------------------------------------------------
 *
 * impact.h
 *		What a change of settings, or a removal, takes away.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_IMPACT_H
#define FSYNC_IMPACT_H

#include "session.h"

#include "access/htup.h"
#include "utils/uuid.h"

/* The settings that say which files are tracked. */
typedef struct Selection
{
	Datum		include;		/* text[]; 0: NULL */
	Datum		exclude;
	bool		ignore_case;
	bool		include_hidden;
	bool		use_ignore_files;
	int64		min_size;		/* bytes */
	int64		max_size;		/* bytes; PG_INT64_MAX: no limit */
} Selection;

/* Those of a row of fsync_repositories; they point into it. */
extern void impact_read_selection(Selection *selection, HeapTuple row, TupleDesc desc);

/*
 * A NOTICE of how many rows of the repository are of files that these settings
 * do not track, by their names and sizes, and what goes with them; none if there
 * are none.  mark: they are only marked.  Inside a session_scope; reader may
 * know of the rows that he may read.
 */
extern void impact_of_selection(const ExtensionObjects *objects, Oid reader,
								const pg_uuid_t *repository_id,
								const Selection *selection, bool mark);

#endif							/* FSYNC_IMPACT_H */
