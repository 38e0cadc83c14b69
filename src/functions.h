/*-------------------------------------------------------------------------
 *
 * functions.h
 *		What the SQL-callable functions share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_FUNCTIONS_H
#define FSYNC_FUNCTIONS_H

#include "session.h"

#include "fmgr.h"
#include "utils/tuplestore.h"

/* The extension in this database, of the library's version; else an error. */
extern void functions_find_extension(ExtensionObjects *objects);

/* Errors: on a standby; where the library was not preloaded. */
extern void functions_require_workers(void);

extern void functions_unknown_repository(const pg_uuid_t *id) pg_attribute_noreturn();

/* The text form of an id. */
extern char *functions_uuid_text(const pg_uuid_t *id);

/* A set-returning function's result, to be filled with rows of its type. */
extern Tuplestorestate *functions_begin_result(FunctionCallInfo fcinfo,
											   TupleDesc *desc);

#endif							/* FSYNC_FUNCTIONS_H */
