/*-------------------------------------------------------------------------
 *
 * session.h
 *		The worker's own session: pinned settings, transactions, and SPI as
 *		the owner of the extension's tables.
 *
 * ALTER DATABASE and ALTER ROLE reach a background worker too, and a user's
 * triggers run inside its transactions.  So the settings that the worker's
 * work depends on are pinned after connecting, and every statement runs as
 * the owner of the tables, who can do nothing else (owner.h), under a
 * restricted security context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SESSION_H
#define FSYNC_SESSION_H

#include "fsync.h"

#include "executor/spi.h"

/*
 * What fsync-tree said does not parse.  Of our own, as a user's trigger may
 * well raise ERRCODE_PROTOCOL_VIOLATION.
 */
#define ERRCODE_BAD_MESSAGE		MAKE_SQLSTATE('F', 'S', '0', '0', '1')

/*
 * What the extension's objects are called in this database.  Found by OID
 * from pg_extension, so that the extension may live in any schema and be
 * moved or renamed around.
 */
typedef struct ExtensionObjects
{
	Oid			extension;
	Oid			schema;
	Oid			owner;			/* of file_records: the role the work runs as */
	Oid			file_records;
	Oid			repositories;
	Oid			operations;
	Oid			problems;
	Oid			registrations;	/* see registrations.h; InvalidOid: missing */
	char	   *schema_name;	/* quoted as an identifier, in
								 * TopMemoryContext */
	char	   *version;		/* extversion */
} ExtensionObjects;

/* Pins the worker's settings; once, after connecting. */
extern void session_pin_settings(void);

/*
 * Looks the extension up; needs a transaction.  False where it is absent (or
 * half-way through being dropped).
 */
extern bool session_find_extension(ExtensionObjects *objects);

/*
 * begin: statement timestamp, transaction, snapshot, SPI, activity report,
 * and from then on the owner's identity.  commit: restores the user only
 * after all triggers (deferred ones too: SET CONSTRAINTS ALL IMMEDIATE)
 * fired, then statistics.  abort: for a PG_CATCH block, after
 * the error was copied; leaves no transaction behind.
 *
 * begin returns false, with no transaction left open, when the extension's
 * tables are gone.
 */
extern bool session_begin(const ExtensionObjects *objects, const char *activity);
extern void session_commit(void);
extern void session_abort(void);

/*
 * SET CONSTRAINTS ALL IMMEDIATE, for the rest of the transaction; what is
 * pending fires now, as the current user.
 */
extern void session_constraints_immediate(void);

/*
 * The longest wait for a lock in what is left of the transaction, in
 * milliseconds.  To be called when the tables are locked, for which the worker
 * has more patience: rows are held by those who think, and a table is waited
 * for in its queue.
 */
extern void session_limit_lock_waits(int ms);

/* What it is without that, and for tables. */
#define SESSION_LOCK_WAIT_MS	2000

/* Whether the last session failed for a lock that it waited for after that. */
extern bool session_lost_to_row_lock(int sqlerrcode);

/*
 * For functions called by users: runs the code between the two as the owner
 * of the tables, inside the caller's transaction, with SPI connected.  Errors:
 * the owner is not powerless (owner.h).
 */
typedef struct SessionScope
{
	Oid			save_userid;
	int			save_sec_context;
	int			save_nestlevel;
} SessionScope;

extern void session_scope_enter(SessionScope *scope, const ExtensionObjects *objects);
extern void session_scope_leave(SessionScope *scope);

/* Whose statement or call this is: also within a scope, for triggers. */
extern Oid	session_caller(void);

/*
 * The same for functions that only read, as the caller: with the caller's rights
 * and under the policies that hold for the caller.
 */
extern void session_reader_enter(SessionScope *scope);

/*
 * A prepared plan kept for the life of the session.  The text is a format in
 * which %1$s stands for the quoted schema name.  The key is a static pointer of the
 * caller; plans are forgotten when the schema's name changes.
 */
typedef struct SessionPlan
{
	const char *sql;
	int			nargs;
	Oid			argtypes[24];
	SPIPlanPtr	plan;			/* NULL until first used */
	bool		index_only;		/* plan with seqscan, bitmapscan and sort off:
								 * keyset pages of a table not analysed */
} SessionPlan;

/*
 * Executes, and leaves the current memory context as it was; errors when the
 * result is not the expected SPI code.
 */
extern uint64 session_execute(const ExtensionObjects *objects, SessionPlan *plan,
							  Datum *values, const char *nulls, int expected);

/* The same for a SELECT whose rows go to dest as they come. */
extern uint64 session_stream(const ExtensionObjects *objects, SessionPlan *plan,
							 Datum *values, DestReceiver *dest);

/* True for errors that are not the data's fault (lock timeout, disk full,
 * out of memory, read-only, shutdown...): try again later, blame no row. */
extern bool session_error_is_transient(int sqlerrcode);

/*
 * The same for an error from writing rows of file_records, where a lack of
 * privilege is that of a user's trigger if the owner has all that it needs.
 */
extern bool session_error_blames_no_row(const ExtensionObjects *objects, int sqlerrcode);

/* True for what makes every UPDATE and DELETE of a table fail because of how it
 * is published; also for other errors that are the table's, not a row's. */
extern bool session_error_is_of_publication(int sqlerrcode);

/* CPU time that the worker has used since the last call, in microseconds. */
extern int64 session_cpu_lap(void);

#endif							/* FSYNC_SESSION_H */
