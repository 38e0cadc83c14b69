/*-------------------------------------------------------------------------
 *
 * impact.c
 *		What a change of settings, or a removal, takes away.
 *
 * Rows of files go when their repository does, and when its settings do not
 * track them any more; and with them, by foreign keys, an application's own
 * rows.  Who changes the one learns of the other by a NOTICE, while he can still
 * roll back.  It is given by a trigger on fsync_repositories, so that it does
 * not matter how the table is changed.
 *
 * Which rows settings leave out is decided by the code that decides it for
 * files, from the names and sizes in the table.  What .fsyncignore files say is
 * on the disk, where fsync_preview() looks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "dependents.h"
#include "functions.h"
#include "impact.h"
#include "tree/filter.h"

PG_FUNCTION_INFO_V1(fsync_repositories_notice);

/* Rows are looked at for so long, and so many are remembered. */
#define LOOK_MS			5000
#define MAX_IDS			5000000
#define FETCH_ROWS		10000

/* Rows of file_records that are to go. */
typedef struct Doomed
{
	Datum	   *ids;
	int			n;
	int			room;
	bool		cut;			/* there may be more */
} Doomed;

/* ---------------------------------------------------------------------
 * Rows that settings leave out
 * ---------------------------------------------------------------------
 */

static Datum
column(HeapTuple row, TupleDesc desc, const char *name, bool *isnull)
{
	int			attnum = SPI_fnumber(desc, name);

	*isnull = true;
	return attnum > 0 ? SPI_getbinval(row, desc, attnum, isnull) : (Datum) 0;
}

static bool
flag(HeapTuple row, TupleDesc desc, const char *name)
{
	bool		isnull;
	Datum		value = column(row, desc, name, &isnull);

	return !isnull && DatumGetBool(value);
}

static bool
is_mark(HeapTuple row, TupleDesc desc, const char *name)
{
	bool		isnull;
	Datum		value = column(row, desc, name, &isnull);

	return !isnull && strcmp(TextDatumGetCString(value), "mark") == 0;
}

void
impact_read_selection(Selection *selection, HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

	value = column(row, desc, "include", &isnull);
	selection->include = isnull ? (Datum) 0 : value;
	value = column(row, desc, "exclude", &isnull);
	selection->exclude = isnull ? (Datum) 0 : value;
	selection->ignore_case = flag(row, desc, "ignore_case");
	selection->include_hidden = flag(row, desc, "include_hidden");
	selection->use_ignore_files = flag(row, desc, "use_ignore_files");
	value = column(row, desc, "min_size", &isnull);
	selection->min_size = isnull ? 0 : DatumGetInt64(value);
	value = column(row, desc, "max_size", &isnull);
	selection->max_size = isnull ? PG_INT64_MAX : DatumGetInt64(value);
}

static FilterPattern *
patterns_of(Datum array, size_t *count)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	FilterPattern *patterns;

	*count = 0;
	if (array == (Datum) 0)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	patterns = palloc(sizeof(FilterPattern) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		char	   *pattern;

		if (nulls[i])
			continue;
		pattern = TextDatumGetCString(elements[i]);
		patterns[*count].data = pattern;
		patterns[(*count)++].len = strlen(pattern);
	}
	return patterns;
}

static Filter *
make_filter(const Selection *selection)
{
	FilterSettings settings = {
		.ignore_case = selection->ignore_case,
		.include_hidden = selection->include_hidden,
		.min_size = selection->min_size,
		.max_size = selection->max_size
	};
	const char *error;
	Filter	   *filter;

	settings.include = patterns_of(selection->include, &settings.n_include);
	settings.exclude = patterns_of(selection->exclude, &settings.n_exclude);
	filter = filter_create(&settings, &error);
	if (filter == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not prepare the patterns of a repository: %s", error)));
	return filter;
}

static void
add_id(Doomed *doomed, int64 id)
{
	if (doomed->n == MAX_IDS)
	{
		doomed->cut = true;
		return;
	}
	if (doomed->n == doomed->room)
	{
		doomed->room = Max(1024, doomed->room * 2);
		doomed->ids = doomed->ids == NULL ? palloc(sizeof(Datum) * doomed->room) :
			repalloc_huge(doomed->ids, sizeof(Datum) * doomed->room);
	}
	doomed->ids[doomed->n++] = Int64GetDatum(id);
}

/*
 * Goes through "SELECT id, file_path, file_size" with one argument, for a while;
 * filter NULL: all are meant.
 */
static void
collect(Doomed *doomed, const char *sql, Oid *types, Datum *values, const char *nulls,
		int nargs, const Filter *filter)
{
	MemoryContext context = CurrentMemoryContext;
	TimestampTz start = GetCurrentTimestamp();
	Portal		portal = SPI_cursor_open_with_args(NULL, sql, nargs, types, values, nulls,
												   true, 0);

	do
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		MemoryContextSwitchTo(context);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple	tuple = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		isnull;
			text	   *path = DatumGetTextPP(SPI_getbinval(tuple, desc, 2, &isnull));
			int64		size = DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));

			if (filter == NULL ||
				filter_accepts_file(filter, NULL, VARDATA_ANY(path),
									VARSIZE_ANY_EXHDR(path)) == FILTER_REFUSED ||
				!filter_accepts_size(filter, size))
				add_id(doomed, DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)));
		}
		SPI_freetuptable(SPI_tuptable);
		if (SPI_processed > 0 &&
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(), LOOK_MS))
			doomed->cut = true;
	} while (SPI_processed > 0 && !doomed->cut);
	SPI_cursor_close(portal);
}

static void
collect_left_out(Doomed *doomed, const ExtensionObjects *objects,
				 const pg_uuid_t *repository_id, const Selection *selection)
{
	Oid			type = UUIDOID;
	Datum		value = UUIDPGetDatum(repository_id);
	char	   *sql = psprintf("SELECT id, file_path, file_size FROM %s.file_records"
							   " WHERE repository_id = $1 AND missing_since IS NULL",
							   objects->schema_name);
	Filter	   *volatile filter = make_filter(selection);

	PG_TRY();
	{
		collect(doomed, sql, &type, &value, NULL, 1, filter);
	}
	PG_FINALLY();
	{
		filter_free(filter);
	}
	PG_END_TRY();
}

static bool
has_rows(const ExtensionObjects *objects, Datum id)
{
	static SessionPlan any_plan = {
		.sql = "SELECT 1 FROM %1$s.file_records WHERE repository_id = $1"
		" AND missing_since IS NULL LIMIT 1",
		.nargs = 1,
		.argtypes = {UUIDOID},
	};

	return session_execute(objects, &any_plan, &id, NULL, SPI_OK_SELECT) == 1;
}

/* Appends what goes with these rows. */
static void
describe_ids(const ExtensionObjects *objects, Oid reader, const Doomed *doomed, StringInfo out)
{
	DependentsRoot root = {.table = "file_records",.condition = "id = ANY ($1)",
	.type = INT8ARRAYOID};

	root.value = PointerGetDatum(construct_array(doomed->ids, doomed->n, INT8OID,
												 sizeof(int64), FLOAT8PASSBYVAL,
												 TYPALIGN_DOUBLE));
	dependents_describe(objects, reader, &root, 1, out);
}

void
impact_of_selection(const ExtensionObjects *objects, Oid reader,
					const pg_uuid_t *repository_id, const Selection *selection, bool mark)
{
	Doomed		doomed = {0};
	StringInfoData detail;
	const char *at_least;

	collect_left_out(&doomed, objects, repository_id, selection);
	at_least = doomed.cut ? "at least " : "";
	initStringInfo(&detail);
	if (doomed.n == 0)
		return;
	if (mark)
	{
		ereport(NOTICE,
				(errmsg("%s%d row%s of repository \"%s\" will be marked as missing",
						at_least, doomed.n, doomed.n == 1 ? "" : "s",
						functions_uuid_text(repository_id)),
				 errdetail("The settings do not track their files any more.")));
		return;
	}
	describe_ids(objects, reader, &doomed, &detail);
	ereport(NOTICE,
			(errmsg("%s%d row%s of repository \"%s\" will be removed", at_least, doomed.n,
					doomed.n == 1 ? "" : "s", functions_uuid_text(repository_id)),
			 errdetail("The settings do not track their files any more.%s%s",
					   detail.len > 0 ? "\n" : "", detail.data),
			 errhint("With on_excluded = 'mark' they stay, and are marked.")));
}

/* ---------------------------------------------------------------------
 * The trigger
 * ---------------------------------------------------------------------
 */

static bool
arrays_differ(Datum a, Datum b)
{
	if (a == (Datum) 0 || b == (Datum) 0)
		return a != b;
	a = PointerGetDatum(DatumGetArrayTypeP(a));
	b = PointerGetDatum(DatumGetArrayTypeP(b));
	return VARSIZE(DatumGetPointer(a)) != VARSIZE(DatumGetPointer(b)) ||
		memcmp(DatumGetPointer(a), DatumGetPointer(b), VARSIZE(DatumGetPointer(a))) != 0;
}

/* Whether files may be left out now that were not before. */
static bool
selections_differ(const Selection *a, const Selection *b)
{
	return arrays_differ(a->include, b->include) || arrays_differ(a->exclude, b->exclude) ||
		a->ignore_case != b->ignore_case || a->include_hidden != b->include_hidden ||
		a->min_size != b->min_size || a->max_size != b->max_size;
}

/* Rows that were marked, and are kept no longer. */
static void
notice_purge(const ExtensionObjects *objects, Oid reader, Datum id, HeapTuple row,
			 TupleDesc desc)
{
	Oid			types[2] = {UUIDOID, INTERVALOID};
	Datum		values[2];
	bool		isnull;
	bool		kept = is_mark(row, desc, "on_missing") || is_mark(row, desc, "on_type_change") ||
		is_mark(row, desc, "on_excluded");
	Doomed		doomed = {0};
	StringInfoData detail;

	values[0] = id;
	values[1] = column(row, desc, "missing_retention", &isnull);
	if (kept && isnull)
		return;
	collect(&doomed, psprintf("SELECT id, file_path, file_size FROM %s.file_records"
							  " WHERE repository_id = $1 AND missing_since IS NOT NULL%s",
							  objects->schema_name,
							  kept ? " AND missing_since < now() - $2" : ""),
			types, values, NULL, kept ? 2 : 1, NULL);
	if (doomed.n == 0)
		return;
	initStringInfo(&detail);
	describe_ids(objects, reader, &doomed, &detail);
	ereport(NOTICE,
			(errmsg("%d row%s of missing files of repository \"%s\" will be removed",
					doomed.n, doomed.n == 1 ? "" : "s",
					functions_uuid_text(DatumGetUUIDP(id))),
			 errdetail("The settings do not keep marked rows %s.%s%s",
					   kept ? "for so long" : "any more", detail.len > 0 ? "\n" : "",
					   detail.data)));
}

static bool
strategies_differ(HeapTuple old, HeapTuple new, TupleDesc desc)
{
	static const char *const names[] = {"on_missing", "on_type_change", "on_excluded"};
	bool		old_null;
	bool		new_null;
	Datum		before = column(old, desc, "missing_retention", &old_null);
	Datum		after = column(new, desc, "missing_retention", &new_null);

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		if (is_mark(old, desc, names[i]) && !is_mark(new, desc, names[i]))
			return true;
	}
	return !new_null &&
		(old_null || DatumGetBool(DirectFunctionCall2(interval_lt, after, before)));
}

static void
notice_update(const ExtensionObjects *objects, Oid reader, TriggerData *data)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	HeapTuple	old = data->tg_trigtuple;
	HeapTuple	new = data->tg_newtuple;
	Selection	before;
	Selection	after;
	bool		isnull;
	Datum		id = column(new, desc, "repository_id", &isnull);

	if (isnull)
		return;
	impact_read_selection(&before, old, desc);
	impact_read_selection(&after, new, desc);
	if (selections_differ(&before, &after))
		impact_of_selection(objects, reader, DatumGetUUIDP(id), &after,
							is_mark(new, desc, "on_excluded"));
	if (after.use_ignore_files && !before.use_ignore_files && has_rows(objects, id))
		ereport(NOTICE,
				(errmsg("rows of files that .fsyncignore files exclude will be %s",
						is_mark(new, desc, "on_excluded") ? "marked as missing" : "removed"),
				 errhint("fsync_preview() tells how many these would be.")));
	if (flag(old, desc, "change_feed") && !flag(new, desc, "change_feed"))
		consumers_warn(objects, DatumGetUUIDP(id));
	if (strategies_differ(old, new, desc))
		notice_purge(objects, reader, id, new, desc);
}

/* id NULL: all repositories. */
static void
notice_removal(const ExtensionObjects *objects, Oid reader, Datum *id)
{
	static const char *const tables[] = {
		"fsync_repositories", "file_records", "sync_operations", "fsync_verifications",
		"fsync_problems", "file_changes", "fsync_consumer_positions",
		"fsync_consumer_deliveries"
	};
	DependentsRoot roots[lengthof(tables)];
	Oid			type = UUIDOID;
	char	   *sql = psprintf("SELECT count(*) FROM %s.file_records%s", objects->schema_name,
							   id != NULL ? " WHERE repository_id = $1" : "");
	StringInfoData detail;
	int64		rows;
	bool		isnull;

	if (SPI_execute_with_args(sql, id != NULL ? 1 : 0, &type, id, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", sql);
	rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	initStringInfo(&detail);
	for (int i = 0; id != NULL && i < (int) lengthof(tables); i++)
	{
		roots[i].table = tables[i];
		roots[i].condition = "repository_id = $1";
		roots[i].type = UUIDOID;
		roots[i].value = *id;
	}
	if (id != NULL)
		dependents_describe(objects, reader, roots, lengthof(tables), &detail);
	if (rows == 0 && detail.len == 0)
		return;
	ereport(NOTICE,
			(id != NULL ?
			 errmsg(INT64_FORMAT " row%s of file_records %s removed with repository \"%s\"", rows,
					rows == 1 ? "" : "s", rows == 1 ? "is" : "are",
					functions_uuid_text(DatumGetUUIDP(*id))) :
			 errmsg(INT64_FORMAT " row%s of file_records %s removed with all repositories", rows,
					rows == 1 ? "" : "s", rows == 1 ? "is" : "are"),
			 detail.len > 0 ? errdetail_internal("%s", detail.data) : 0));
}

Datum
fsync_repositories_notice(PG_FUNCTION_ARGS)
{
	TriggerData *data = functions_trigger_data(fcinfo);
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	bool		for_row = TRIGGER_FIRED_FOR_ROW(data->tg_event);
	ExtensionObjects objects;
	SessionScope scope;
	Oid			reader = session_caller();
	bool		isnull;

	if (session_find_extension(&objects))
	{
		session_scope_enter(&scope, &objects);
		if (is_update)
			notice_update(&objects, reader, data);
		else if (for_row)
		{
			Datum		id = column(data->tg_trigtuple, RelationGetDescr(data->tg_relation),
									"repository_id", &isnull);

			notice_removal(&objects, reader, &id);
		}
		else
			notice_removal(&objects, reader, NULL);
		session_scope_leave(&scope);
	}
	return PointerGetDatum(!for_row ? NULL : is_update ? data->tg_newtuple : data->tg_trigtuple);
}
