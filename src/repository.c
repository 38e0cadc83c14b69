/*-------------------------------------------------------------------------
 *
 * repository.c
 *		The rows of fsync_repositories, read and written by the worker.
 *
 * A row is active only where it was made: a dump that is restored and a
 * database that is copied bring rows along whose directories may belong to
 * somebody else, or be gone, and a restore that is still loading file_records
 * must not meet a writer.  So both the column active and the database's OID
 * have to agree; and as whoever may write the table can write these, there must
 * be a registration of the same directory (registrations.h), from which the
 * root is taken.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "own_directories.h"
#include "registrations.h"
#include "repository.h"

/* A state is tried to be stored again; nobody else should wait for that. */
#define STORE_LOCK_WAIT_MS	5

#define LOAD_ROWS \
	"SELECT repository_id, watch_root, include, exclude, calculate_hashes," \
	" active AND database_oid = $1, root_identity, mounts, scan_generation," \
	" last_complete_generation, last_complete_scan, paused, ignore_case," \
	" include_hidden, use_ignore_files, coalesce(min_size, 0)," \
	" coalesce(max_size, 9223372036854775807), on_missing = 'mark'," \
	" on_type_change = 'mark' OR on_type_change = 'missing' AND on_missing = 'mark'," \
	" missing_retention, change_feed, path || coalesce('/' || user_area, '')," \
	" created_at, on_excluded = 'mark'," \
	" (extract(epoch FROM debounce_interval)::float8 * 1000::float8)::bigint," \
	" (extract(epoch FROM reconciliation_interval)::float8 * 1000::float8)::bigint," \
	" (extract(epoch FROM poll_interval)::float8 * 1000::float8)::bigint" \
	" FROM %1$s.fsync_repositories "

static SessionPlan load_plan = {
	.sql = LOAD_ROWS "ORDER BY created_at, repository_id",
	.nargs = 1,
	.argtypes = {OIDOID},
};

static SessionPlan load_one_plan = {
	.sql = LOAD_ROWS "WHERE repository_id = $2",
	.nargs = 2,
	.argtypes = {OIDOID, UUIDOID},
};

static SessionPlan store_state_plan = {
	.sql = "UPDATE %1$s.fsync_repositories"
	" SET state = $2, state_reason = $3, state_hint = $4"
	" WHERE repository_id = $1"
	" AND (state, state_reason, state_hint) IS DISTINCT FROM ($2, $3, $4)",
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, TEXTOID, TEXTOID},
};

/* Elements of a text[]; NULLs among them say nothing and are left out. */
char **
repository_copy_patterns(Datum array, bool isnull, int *count)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	char	  **patterns;

	*count = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	patterns = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (!nulls[i])
			patterns[(*count)++] = TextDatumGetCString(elements[i]);
	}
	return patterns;
}

/* A number of milliseconds; -1 where there is none. */
static int64
get_ms(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? -1 : DatumGetInt64(value);
}

/* One row of load_plan, in a context of its own. */
static RepositoryRow *
copy_row(MemoryContext parent, HeapTuple tuple, TupleDesc desc)
{
	MemoryContext context;
	MemoryContext old_context;
	RepositoryRow *row;
	Datum		value;
	bool		isnull;

	context = AllocSetContextCreate(parent, "fsync repository", ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(context);
	row = palloc0(sizeof(RepositoryRow));
	row->context = context;
	row->id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull));
	row->root = TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull));
	value = SPI_getbinval(tuple, desc, 3, &isnull);
	row->include = repository_copy_patterns(value, isnull, &row->n_include);
	value = SPI_getbinval(tuple, desc, 4, &isnull);
	row->exclude = repository_copy_patterns(value, isnull, &row->n_exclude);
	value = SPI_getbinval(tuple, desc, 5, &isnull);
	row->calculate_hashes = isnull ? setting_calculate_hashes : DatumGetBool(value);
	value = SPI_getbinval(tuple, desc, 6, &isnull);
	row->active = !isnull && DatumGetBool(value);
	value = SPI_getbinval(tuple, desc, 7, &isnull);
	row->rows_identity = isnull ? pstrdup("") : TextDatumGetCString(value);
	value = SPI_getbinval(tuple, desc, 8, &isnull);
	row->fresh = isnull;
	if (isnull)
		row->mounts = pstrdup("");
	else
	{
		bytea	   *mounts = DatumGetByteaPP(value);

		row->mounts_len = VARSIZE_ANY_EXHDR(mounts);
		row->mounts = palloc(row->mounts_len + 1);
		memcpy(row->mounts, VARDATA_ANY(mounts), row->mounts_len);
		row->mounts[row->mounts_len] = '\0';
	}
	row->generation = DatumGetInt64(SPI_getbinval(tuple, desc, 9, &isnull));
	row->last_complete_generation =
		DatumGetInt64(SPI_getbinval(tuple, desc, 10, &isnull));
	value = SPI_getbinval(tuple, desc, 11, &isnull);
	row->last_complete_scan = isnull ? 0 : DatumGetTimestampTz(value);
	row->paused = DatumGetBool(SPI_getbinval(tuple, desc, 12, &isnull));
	row->ignore_case = DatumGetBool(SPI_getbinval(tuple, desc, 13, &isnull));
	row->include_hidden = DatumGetBool(SPI_getbinval(tuple, desc, 14, &isnull));
	row->use_ignore_files = DatumGetBool(SPI_getbinval(tuple, desc, 15, &isnull));
	row->min_size = DatumGetInt64(SPI_getbinval(tuple, desc, 16, &isnull));
	row->max_size = DatumGetInt64(SPI_getbinval(tuple, desc, 17, &isnull));
	row->mark_missing = DatumGetBool(SPI_getbinval(tuple, desc, 18, &isnull));
	row->mark_type_change = DatumGetBool(SPI_getbinval(tuple, desc, 19, &isnull));
	value = SPI_getbinval(tuple, desc, 20, &isnull);
	if (!isnull)
	{
		row->missing_retention = palloc(sizeof(Interval));
		*row->missing_retention = *DatumGetIntervalP(value);
	}
	row->change_feed = DatumGetBool(SPI_getbinval(tuple, desc, 21, &isnull));
	row->given_path = TextDatumGetCString(SPI_getbinval(tuple, desc, 22, &isnull));
	row->created_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 23, &isnull));
	row->mark_excluded = DatumGetBool(SPI_getbinval(tuple, desc, 24, &isnull));
	row->debounce_ms = get_ms(tuple, desc, 25);
	row->reconciliation_ms = get_ms(tuple, desc, 26);
	row->poll_ms = get_ms(tuple, desc, 27);
	MemoryContextSwitchTo(old_context);
	return row;
}

/* What is watched is what was registered, whatever the row says. */
static void
follow_registration(RepositoryRow *row, List *registrations)
{
	const Registration *registration = registrations_find(registrations, &row->id);
	MemoryContext old_context;

	row->identity = row->rows_identity;
	row->fit = registration_fit(registration, row->root);
	if (row->fit != REGISTRATION_FITS)
	{
		row->active = false;
		return;
	}
	old_context = MemoryContextSwitchTo(row->context);
	row->given_path = pstrdup(registration->given);
	row->identity = pstrdup(registration->identity);

	/* One that came later: what was empty before it had no mounts to lose. */
	row->fresh |= row->identity[0] == '\0';
	MemoryContextSwitchTo(old_context);
}

List *
repository_load_all(const ExtensionObjects *objects, MemoryContext parent, bool *gone)
{
	List	   *rows = NIL;
	List	   *registrations;
	Datum		values[1];
	uint64		n;

	*gone = !session_begin(objects, "fsync: reading fsync_repositories");
	if (*gone)
		return NIL;
	registrations = registrations_load(objects);
	values[0] = ObjectIdGetDatum(MyDatabaseId);
	n = session_execute(objects, &load_plan, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		RepositoryRow *row = copy_row(parent, SPI_tuptable->vals[i],
									  SPI_tuptable->tupdesc);
		MemoryContext old_context = MemoryContextSwitchTo(parent);

		follow_registration(row, registrations);
		rows = lappend(rows, row);
		MemoryContextSwitchTo(old_context);
	}
	session_commit();
	return rows;
}

RepositoryRow *
repository_load_one(const ExtensionObjects *objects, const pg_uuid_t *id)
{
	MemoryContext context = CurrentMemoryContext;
	SessionScope scope;
	RepositoryRow *row = NULL;
	Datum		values[2];

	values[0] = ObjectIdGetDatum(MyDatabaseId);
	values[1] = UUIDPGetDatum(id);
	session_scope_enter(&scope, objects);
	if (session_execute(objects, &load_one_plan, values, NULL, SPI_OK_SELECT) == 1)
	{
		row = copy_row(context, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
		follow_registration(row, registrations_load(objects));
	}
	session_scope_leave(&scope);
	return row;
}

static ProtoStr
pattern_list(ProtoBuf *buf, char **patterns, int n)
{
	ProtoStr	list;

	for (int i = 0; i < n; i++)
		proto_put_str(buf, patterns[i], strlen(patterns[i]));
	list.data = buf->data + buf->start;
	list.len = proto_buf_pending(buf);
	return list;
}

void
repository_put_init(const RepositoryRow *row, const ProtoConfig *config,
					int64 watches, List *own, ProtoBuf *out)
{
	ProtoInit	init = {0};
	ProtoBuf	include;
	ProtoBuf	exclude;
	ProtoBuf	server;
	ListCell   *lc;

	proto_buf_init(&server);
	proto_buf_init(&include);
	proto_buf_init(&exclude);
	init.version = PROTO_VERSION;
	init.config = *config;
	init.utf8 = GetDatabaseEncoding() == PG_UTF8;
	init.root.data = row->root;
	init.root.len = strlen(row->root);
	init.given.data = row->given_path;
	init.given.len = strnlen(row->given_path, PATH_MAX);	/* no longer one leads anywhere */
	init.identity.data = row->identity;
	init.identity.len = strlen(row->identity);
	init.rows_identity.data = row->rows_identity;
	init.rows_identity.len = strnlen(row->rows_identity, PATH_MAX); /* others write it, too */
	init.mounts.data = row->mounts;
	init.mounts.len = row->mounts_len;
	init.include = pattern_list(&include, row->include, row->n_include);
	init.exclude = pattern_list(&exclude, row->exclude, row->n_exclude);
	init.ignore_case = row->ignore_case;
	init.include_hidden = row->include_hidden;
	init.use_ignore_files = row->use_ignore_files;
	init.min_size = row->min_size;
	init.max_size = row->max_size;
	init.watches = watches;
	init.fresh = row->fresh;
	foreach(lc, own)
		proto_put_place(&server, &((OwnDirectory *) lfirst(lc))->place);
	init.server.data = server.data + server.start;
	init.server.len = proto_buf_pending(&server);

	proto_begin(out, PROTO_INIT);
	proto_put_init(out, &init);
	proto_end(out);
	if (include.failed || exclude.failed || server.failed)
		out->failed = true;
	proto_buf_free(&server);
	proto_buf_free(&include);
	proto_buf_free(&exclude);
}

void
repository_free(RepositoryRow *row)
{
	MemoryContextDelete(row->context);
}

static bool
patterns_differ(char **a, int n_a, char **b, int n_b)
{
	if (n_a != n_b)
		return true;
	for (int i = 0; i < n_a; i++)
	{
		if (strcmp(a[i], b[i]) != 0)
			return true;
	}
	return false;
}

/*
 * Identity and mounts are what the running fsync-tree itself reported.  Hashes
 * that are wanted from now on take a scan of everything, as a start does.
 */
bool
repository_settings_differ(const RepositoryRow *a, const RepositoryRow *b)
{
	return a->active != b->active ||
		a->calculate_hashes != b->calculate_hashes ||
		a->ignore_case != b->ignore_case ||
		a->include_hidden != b->include_hidden ||
		a->use_ignore_files != b->use_ignore_files ||
		a->min_size != b->min_size || a->max_size != b->max_size ||
		strcmp(a->root, b->root) != 0 || strcmp(a->given_path, b->given_path) != 0 ||
		patterns_differ(a->include, a->n_include, b->include, b->n_include) ||
		patterns_differ(a->exclude, a->n_exclude, b->exclude, b->n_exclude);
}

void
repository_store_state(const ExtensionObjects *objects, const pg_uuid_t *id,
					   const char *state, const char *reason, const char *hint)
{
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	if (!session_begin(objects, "fsync: storing a state"))
		return;
	session_limit_lock_waits(STORE_LOCK_WAIT_MS);
	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(state);
	if (reason != NULL && reason[0] != '\0')
		values[2] = CStringGetTextDatum(reason);
	else
		nulls[2] = 'n';
	if (hint != NULL && hint[0] != '\0')
		values[3] = CStringGetTextDatum(hint);
	else
		nulls[3] = 'n';
	(void) session_execute(objects, &store_state_plan, values, nulls, SPI_OK_UPDATE);
	session_commit();
}
