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

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

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

/*
 * What calls a trigger function of fsync_repositories; errors: something else
 * does.  For whoever has EXECUTE on these functions could make a trigger of them
 * on a table of his own.
 */
extern struct TriggerData *functions_trigger_data(FunctionCallInfo fcinfo);

/*
 * A WARNING that names the consumers which would get changes of the repository,
 * but for its change feed, which is off: without asking, or where it is.  Inside
 * a session_scope.
 */
extern void consumers_warn(const ExtensionObjects *objects, const pg_uuid_t *id);
extern void consumers_warn_if_off(const ExtensionObjects *objects, const pg_uuid_t *id);

/* An argument named timeout, in milliseconds; errors: it is negative. */
extern int64 functions_timeout_ms(const Interval *timeout);

/*
 * functions.c, for what registers a directory.  The error of a caller who may not
 * do so.  path and, below it, user_area or NULL.  The error of a root (text) that
 * another repository has, inside a session_scope.
 */
extern void functions_require_right_to_register(void);
extern char *functions_join_user_area(const char *path, const char *user_area);
extern void functions_check_root_is_free(const ExtensionObjects *objects, Datum root,
										 const pg_uuid_t *id);

/*
 * functions_relocate.c.  The repository that is registered here by this path, or
 * has this root (NULL: not known); NULL: none.  Says so in a NOTICE.  Errors: it
 * has another id than is wanted (NULL: any); it is not active.
 */
extern pg_uuid_t *functions_find_registered(const ExtensionObjects *objects, const char *given,
											const char *root, const pg_uuid_t *wanted);

/* The text form of an id. */
extern char *functions_uuid_text(const pg_uuid_t *id);

/* A set-returning function's result, to be filled with rows, or values, of its type. */
extern Tuplestorestate *functions_begin_result(FunctionCallInfo fcinfo,
											   TupleDesc *desc);

/*
 * The row type of a function that is declared with one of the extension's types,
 * for rows that are built by position.  Error: it was altered.
 */
extern TupleDesc functions_row_type(FunctionCallInfo fcinfo, int columns);
extern void functions_require_columns(TupleDesc desc, int columns);

/*
 * Adds SPI's rows to it: columns go by their names, so that those which users
 * have added or dropped are no matter.
 */
extern void functions_put_rows(Tuplestorestate *store, TupleDesc desc);

/*
 * functions_settings.c.  fsync_add_repository() and fsync_configure_repository()
 * take, from first_arg on: include, exclude, calculate_hashes, ignore_case,
 * include_hidden, use_ignore_files, min_size, max_size, on_missing,
 * missing_retention, on_type_change, on_overwrite, on_excluded, change_feed.
 */
extern void settings_check_arguments(FunctionCallInfo fcinfo, int first_arg);
struct Selection;
extern void settings_check_selection(const struct Selection *selection);
extern void settings_check_row(HeapTuple row, TupleDesc desc);
extern bool settings_store(const ExtensionObjects *objects, Datum repository_id,
						   FunctionCallInfo fcinfo, int first_arg);

#endif							/* FSYNC_FUNCTIONS_H */
