/*-------------------------------------------------------------------------
 *
 * repository.h
 *		A registered repository as the worker knows it: its row, its state,
 *		its fsync-tree.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_REPOSITORY_H
#define FSYNC_REPOSITORY_H

#include "registrations.h"
#include "session.h"
#include "tree/protocol.h"

/* What fsync_repositories holds; in a memory context of its own. */
typedef struct RepositoryRow
{
	MemoryContext context;
	pg_uuid_t	id;
	char	   *root;			/* path[/user_area], as stored in watch_root */
	char	   *given_path;		/* the same as it was given; where it fits, as
								 * it was registered */
	char	  **include;
	int			n_include;
	char	  **exclude;
	int			n_exclude;
	bool		calculate_hashes;	/* the repository's own, else the setting */
	bool		active;			/* made here, not brought by a dump, a copy or
								 * a statement: column active, database_oid is
								 * this database, and it fits */
	RegistrationFit fit;		/* to what was registered */
	char	   *identity;		/* as registered; "" where none was accepted yet */
	char	   *rows_identity;	/* of the root at the last complete scan; "" where
								 * none was */
	bool		fresh;			/* mounts were never accepted */
	char	   *mounts;			/* list, mounts_len bytes */
	int			mounts_len;
	int64		generation;		/* scan_generation */
	int64		last_complete_generation;	/* 0: never complete */
	TimestampTz last_complete_scan; /* 0 where never */
	bool		paused;
	bool		ignore_case;
	bool		include_hidden;
	bool		use_ignore_files;
	int64		min_size;		/* bytes */
	int64		max_size;		/* bytes; PG_INT64_MAX: no limit */
	bool		mark_missing;	/* on_missing = mark */
	bool		mark_type_change;	/* on_type_change = mark, or as the former */
	bool		mark_excluded;	/* on_excluded = mark */
	Interval   *missing_retention;	/* NULL: for ever */
	bool		change_feed;
	int64		debounce_ms;	/* of the repository; -1: the setting's */
	int64		reconciliation_ms;	/* the same; 0: none by itself */
	int64		poll_ms;		/* the same */
	TimestampTz created_at;		/* tells it from one of the same id before it */
} RepositoryRow;

/*
 * Reads all rows (List of RepositoryRow, each in its own context below
 * parent), in a transaction of its own; NIL as well when the extension is
 * gone, and *gone says so.
 */
extern List *repository_load_all(const ExtensionObjects *objects,
								 MemoryContext parent, bool *gone);

/* One row, for a session's function, in its memory context; NULL: none. */
extern RepositoryRow *repository_load_one(const ExtensionObjects *objects,
										  const pg_uuid_t *id);

/* Elements of a text[], without NULLs. */
extern char **repository_copy_patterns(Datum array, bool isnull, int *count);

/* Puts PROTO_INIT into the buffer, which may fail; own: see own_directories(). */
extern void repository_put_init(const RepositoryRow *row, const ProtoConfig *config,
								int64 watches, List *own, ProtoBuf *out);
extern void repository_free(RepositoryRow *row);

/* True when fsync-tree must be started anew to follow the change. */
extern bool repository_settings_differ(const RepositoryRow *a, const RepositoryRow *b);

/* Writes state, state_reason and state_hint, where they changed. */
extern void repository_store_state(const ExtensionObjects *objects,
								   const pg_uuid_t *id, const char *state,
								   const char *reason, const char *hint);

#endif							/* FSYNC_REPOSITORY_H */
