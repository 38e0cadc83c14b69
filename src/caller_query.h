/*-------------------------------------------------------------------------
 *
 * caller_query.h
 *		Queries of the SQL-callable functions with the rights of their caller.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_CALLER_QUERY_H
#define FSYNC_CALLER_QUERY_H

#include "session.h"

#include "utils/tuplestore.h"

/* Takes the rows that are in SPI_tuptable, SPI_processed of them. */
typedef void (*CallerRows) (void *arg);

/*
 * Runs a query as the current user, who meets his own row-level security, with
 * the active snapshot; the rows come some thousands at a time.  The text is a
 * format as that of a SessionPlan.  nulls may be NULL.  SPI is connected while
 * take is called.
 */
extern void caller_query(const ExtensionObjects *objects, const char *format,
						 int nargs, Oid *argtypes, Datum *values, const char *nulls,
						 CallerRows take, void *arg);

/* A function's result, and what puts the rows into it, by the names of columns. */
typedef struct CallerResult
{
	Tuplestorestate *store;
	TupleDesc	desc;
} CallerResult;

extern void caller_put_rows(void *result);

/* The error of who may not SELECT from this table of the extension's, nor from
 * any column of it. */
extern void caller_require_select(const ExtensionObjects *objects, const char *table);

#endif							/* FSYNC_CALLER_QUERY_H */
