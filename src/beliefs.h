/*-------------------------------------------------------------------------
 *
 * beliefs.h
 *		Rows become pages of beliefs: what the worker tells fsync-tree.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_BELIEFS_H
#define FSYNC_BELIEFS_H

#include "nodes/pg_list.h"

#include "session.h"
#include "tree/protocol.h"

/* The rows of a page, told or not. */
typedef struct BeliefsSeen
{
	int64		rows;
	int64		bytes;			/* of their sizes; saturating */
	ProtoStr	path;			/* of the last one */
	bool		last;			/* nothing follows */
} BeliefsSeen;

/*
 * Answers one request by appending a PROTO_BELIEFS frame to out.  One short
 * transaction of its own; keyset pages in path order from the index on
 * (repository_id, file_path).  A page ends early rather than outgrow 4 MiB;
 * last is then false.  Returns false when the extension is gone.  Throws what
 * the database throws (lock timeout): the caller tries again.
 *
 * Where there are rows among them whose path no file can have, *impossible is set
 * to these, ApplyPurge * in the current context, and nothing is answered: the
 * caller removes them and asks once more, with NULL if some are still there.
 * Else *seen is what was read of file_records, in the current context.
 */
extern bool beliefs_answer(const ExtensionObjects *objects,
						   const pg_uuid_t *repository_id,
						   const ProtoBeliefsRequest *request, List **impossible,
						   BeliefsSeen *seen, ProtoBuf *out);

/* Whether a file can have this path: components that are names. */
extern bool beliefs_path_is_possible(ProtoStr path);

#endif							/* FSYNC_BELIEFS_H */
