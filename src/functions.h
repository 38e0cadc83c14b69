/*-------------------------------------------------------------------------
 *
 * functions.h
 *		What the SQL-callable functions share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_FUNCTIONS_H
#define FSYNC_FUNCTIONS_H

#include "compat.h"
#include "session.h"

#include "fmgr.h"
#include "utils/tuplestore.h"

/* The extension in this database, of the library's version; else an error. */
extern void functions_find_extension(ExtensionObjects *objects);

/* Errors: on a standby; where the library was not preloaded. */
extern void functions_require_workers(void);

/* The error of an argument that is NULL and must not be. */
extern void functions_require_argument(FunctionCallInfo fcinfo, int arg, const char *name);

/* The error of a path, and one below it or NULL, that the system does not take. */
extern void functions_require_path_length(const char *path, const char *below);

pg_noreturn extern void functions_unknown_repository(const pg_uuid_t *id);

/* Errors: the first argument, a consumer's name, is NULL; is that of none. */
extern void functions_require_consumer(FunctionCallInfo fcinfo);
pg_noreturn extern void functions_unknown_consumer(FunctionCallInfo fcinfo);

/* The text form of an id. */
extern char *functions_uuid_text(const pg_uuid_t *id);

/* A set-returning function's result, to be filled with rows, or values, of its type. */
extern Tuplestorestate *functions_begin_result(FunctionCallInfo fcinfo,
											   TupleDesc *desc);

/*
 * Adds SPI's rows to it: columns go by their names, so that those which users
 * have added or dropped are no matter.
 */
extern void functions_put_rows(Tuplestorestate *store, TupleDesc desc);

/*
 * functions_settings.c.  fsync_add_repository() and fsync_configure_repository()
 * take, from first_arg on: include, exclude, calculate_hashes, ignore_case,
 * include_hidden, use_ignore_files, min_size, max_size, on_missing,
 * missing_retention, on_type_change, on_overwrite, change_feed.
 */
extern void settings_check_arguments(FunctionCallInfo fcinfo, int first_arg);
extern void settings_check_row(HeapTuple row, TupleDesc desc);
extern bool settings_store(const ExtensionObjects *objects, Datum repository_id,
						   FunctionCallInfo fcinfo, int first_arg);

#endif							/* FSYNC_FUNCTIONS_H */
