/*-------------------------------------------------------------------------
 *
 * beliefs.h
 *		Rows become pages of beliefs: what the worker tells fsync-tree.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_BELIEFS_H
#define FSYNC_BELIEFS_H

#include "session.h"
#include "tree/protocol.h"

/*
 * Answers one request by appending a PROTO_BELIEFS frame to out.  One short
 * transaction of its own; keyset pages in path order from the index on
 * (repository_id, file_path).  A page ends early rather than outgrow 4 MiB;
 * last is then false.  Returns false when the extension is gone.  Throws what
 * the database throws (lock timeout): the caller tries again.
 */
extern bool beliefs_answer(const ExtensionObjects *objects,
						   const pg_uuid_t *repository_id,
						   const ProtoBeliefsRequest *request, ProtoBuf *out);

#endif							/* FSYNC_BELIEFS_H */
