/*-------------------------------------------------------------------------
 *
 * own_directories.h
 *		The directories that the server keeps its files in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_OWN_DIRECTORIES_H
#define FSYNC_OWN_DIRECTORIES_H

#include "fsync.h"

#include "nodes/pg_list.h"

#include "tree/protocol.h"

typedef struct OwnDirectory
{
	ProtoPlace	place;			/* whole: the server's own, else one above it */
	const char *what;			/* what is or lies there, but for a tablespace */
	Oid			tablespace;
} OwnDirectory;

/*
 * The data directory, that of the write-ahead log, the tablespaces, and all
 * directories above them (List of OwnDirectory).  Needs no transaction.  Errors
 * where one of them cannot be looked at.
 */
extern List *own_directories(void);

#endif							/* FSYNC_OWN_DIRECTORIES_H */
