/*-------------------------------------------------------------------------
 *
 * shown.h
 *		Names as people are shown them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SHOWN_H
#define FSYNC_SHOWN_H

#include "fsync.h"

#include "lib/stringinfo.h"

#include "tree/protocol.h"

/*
 * Appends bytes as text of the database's encoding that does nothing where it is
 * printed: what the encoding refuses, control characters, and characters that
 * turn the direction of writing or end a line, are written as in bytea's escape
 * format.  So are backslashes, if they are to be told from these.  Ends with
 * "..." where it grows longer than max bytes.
 */
extern void shown_append(StringInfo out, ProtoStr bytes, bool backslashes, int max);

/* The same of a path, for a message. */
extern char *shown_path(const char *path);

/* A sentence or a rule of fsync-tree's, for people, as text; NULL where empty. */
extern Datum shown_datum(ProtoStr string, bool *isnull);

/*
 * A name as text: as it is where it is valid in the database's encoding, else as
 * shown_append() writes it, with backslashes; NULL where empty.
 */
extern Datum name_datum(ProtoStr string, bool *isnull);

#endif							/* FSYNC_SHOWN_H */
