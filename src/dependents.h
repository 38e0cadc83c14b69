/*-------------------------------------------------------------------------
 *
 * dependents.h
 *		Rows of other tables that go with rows of the extension's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_DEPENDENTS_H
#define FSYNC_DEPENDENTS_H

#include "session.h"

#include "lib/stringinfo.h"

/* Rows of one of the extension's tables that are to be removed. */
typedef struct DependentsRoot
{
	const char *table;
	const char *condition;		/* which they are, with $1 */
	Oid			type;			/* of $1 */
	Datum		value;
} DependentsRoot;

/*
 * Appends to out, a line for each table, how many rows of other tables are
 * removed with these, lose their reference to them, or keep them from being
 * removed: what foreign keys say, from table to table.  Numbers of tables that
 * the reader may not read are left out.  Nothing is appended where there are
 * none.  Inside a session_scope; errors of others are told as that the rows
 * could not be counted, and thrown only where the query was cancelled.
 */
extern void dependents_describe(const ExtensionObjects *objects, Oid reader,
								const DependentsRoot *roots, int n_roots, StringInfo out);

#endif							/* FSYNC_DEPENDENTS_H */
