/*-------------------------------------------------------------------------
 *
 * functions_survey.c
 *		What other settings would track, and what is not tracked:
 *		fsync_preview(), fsync_ignored().
 *
 * Both look at the disk, by an fsync-tree of their own that is given a while,
 * and change nothing.  They name files, so they are for who may read
 * file_records; and files that are in no row, so that is not enough.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rls.h"

#include "functions.h"
#include "impact.h"
#include "own_directories.h"
#include "repository.h"
#include "shown.h"
#include "tree_ask.h"
#include "tree/answers.h"

PG_FUNCTION_INFO_V1(fsync_preview);
PG_FUNCTION_INFO_V1(fsync_ignored);

#define MAX_ROWS		10000
#define MAX_TIMEOUT_MS	(3600 * 1000)

/* fsync-tree ends by itself; this is for one that cannot. */
#define GRACE_MS		5000

/* The arguments of fsync_preview(), after repository_id. */
enum
{
	ARG_INCLUDE = 1,
	ARG_EXCLUDE,
	ARG_IGNORE_CASE,
	ARG_INCLUDE_HIDDEN,
	ARG_USE_IGNORE_FILES,
	ARG_MIN_SIZE,
	ARG_MAX_SIZE,
	ARG_MAX_PATHS,
	ARG_TIMEOUT,
};

/* ---------------------------------------------------------------------
 * Asking
 * ---------------------------------------------------------------------
 */

/* Errors: who may not read file_records, or not all of it. */
static void
require_right_to_read(const ExtensionObjects *objects)
{
	AclResult	result = pg_class_aclcheck(objects->file_records, GetUserId(), ACL_SELECT);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLE, "file_records");
	if (check_enable_rls(objects->file_records, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", "file_records"),
				 errdetail("A row-level security policy hides rows of it.")));
}

/* The repository, for a role that may know what is in it. */
static RepositoryRow *
load_repository(FunctionCallInfo fcinfo, ExtensionObjects *objects)
{
	RepositoryRow *row;

	functions_require_argument(fcinfo, 0, "repository_id");
	functions_find_extension(objects);
	require_right_to_read(objects);
	row = repository_load_one(objects, PG_GETARG_UUID_P(0));
	if (row == NULL)
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	if (row->fit != REGISTRATION_FITS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("repository \"%s\" is not active",
						functions_uuid_text(PG_GETARG_UUID_P(0))),
				 errhint("fsync_status() says more.")));
	return row;
}

static int
timeout_argument(FunctionCallInfo fcinfo, int arg)
{
	functions_require_argument(fcinfo, arg, "timeout");
	return (int) Min(functions_timeout_ms(PG_GETARG_INTERVAL_P(arg)), MAX_TIMEOUT_MS);
}

static int
count_argument(FunctionCallInfo fcinfo, int arg, const char *name, int min, int max)
{
	int			value;

	functions_require_argument(fcinfo, arg, name);
	value = PG_GETARG_INT32(arg);
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between %d and %d", name, min, max)));
	return value;
}

/* Asks about the repository, and with other settings where other is not NULL. */
static void
ask(const char *what, const RepositoryRow *row, const RepositoryRow *other, int count,
	int timeout_ms, ProtoBuf *answer)
{
	const char *args[] = {what, row->root, psprintf("%d", count), psprintf("%d", timeout_ms), NULL};
	ProtoConfig config = {.batch_size = 1,.max_concurrency = 1};	/* no matter here */
	List	   *own = own_directories();
	ProtoBuf	question;
	char	   *volatile bytes = NULL;
	size_t		len;

	proto_buf_init(&question);
	repository_put_init(row, &config, 0, own, &question);
	if (other != NULL)
		repository_put_init(other, &config, 0, own, &question);
	if (question.failed)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	PG_TRY();
	{
		bytes = tree_ask(args, question.data, question.len, timeout_ms + GRACE_MS,
						 ANSWER_MAX_BYTES, &len);
	}
	PG_FINALLY();
	{
		proto_buf_free(&question);
	}
	PG_END_TRY();
	if (bytes == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not look at directory \"%s\": no answer within %d seconds",
						shown_path(row->root), (timeout_ms + GRACE_MS) / 1000),
				 errhint("Its file system may hang.")));

	/* Not a buffer of its own: only read. */
	proto_buf_init(answer);
	answer->data = bytes;
	answer->len = answer->cap = len;
}

static void
bad_answer(const RepositoryRow *row)
{
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("could not look at directory \"%s\"", shown_path(row->root)),
			 errdetail("fsync-tree did not answer as expected."),
			 errhint("Check the installation, and fsync.helper_path if it is set.")));
}

/* Errors of the root; warnings of what is not all. */
static void
report_end(const RepositoryRow *row, const AnswerEnd *end)
{
	switch ((AnswerResult) end->result)
	{
		case ANSWER_NO_ROOT:
			ereport(ERROR,
					(errcode(end->error == ENOENT ? ERRCODE_UNDEFINED_FILE :
							 ERRCODE_IO_ERROR),
					 errmsg("could not look at directory \"%s\": %s", shown_path(row->root),
							strerror(end->error))));
		case ANSWER_OTHER_ROOT:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("directory \"%s\" is not the one that was registered",
							shown_path(row->root)),
					 errhint("fsync_status() says more.")));
		case ANSWER_TIMED_OUT:
			ereport(WARNING_CLIENT_ONLY,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("directory \"%s\" was not looked at to its end",
							shown_path(row->root)),
					 errhint("Call the function with a longer timeout.")));
			break;
		case ANSWER_CUT:
			ereport(WARNING_CLIENT_ONLY,
					(errmsg("there is more in directory \"%s\" that is not tracked",
							shown_path(row->root)),
					 errhint("Call the function with a larger max_rows (at most %d).",
							 MAX_ROWS)));
			break;
		case ANSWER_COMPLETE:
			break;
	}
}

/* ---------------------------------------------------------------------
 * fsync_preview()
 * ---------------------------------------------------------------------
 */

static Datum
pattern_array(char **patterns, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	if (n == 0)
		return (Datum) 0;
	for (int i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(patterns[i]);
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The settings that the arguments come to; those left out are the repository's. */
static void
read_selection(FunctionCallInfo fcinfo, const RepositoryRow *row, Selection *selection)
{
	selection->include = PG_ARGISNULL(ARG_INCLUDE) ?
		pattern_array(row->include, row->n_include) : PG_GETARG_DATUM(ARG_INCLUDE);
	selection->exclude = PG_ARGISNULL(ARG_EXCLUDE) ?
		pattern_array(row->exclude, row->n_exclude) : PG_GETARG_DATUM(ARG_EXCLUDE);
	selection->ignore_case = PG_ARGISNULL(ARG_IGNORE_CASE) ? row->ignore_case :
		PG_GETARG_BOOL(ARG_IGNORE_CASE);
	selection->include_hidden = PG_ARGISNULL(ARG_INCLUDE_HIDDEN) ? row->include_hidden :
		PG_GETARG_BOOL(ARG_INCLUDE_HIDDEN);
	selection->use_ignore_files = PG_ARGISNULL(ARG_USE_IGNORE_FILES) ?
		row->use_ignore_files : PG_GETARG_BOOL(ARG_USE_IGNORE_FILES);
	selection->min_size = PG_ARGISNULL(ARG_MIN_SIZE) ? row->min_size :
		PG_GETARG_INT64(ARG_MIN_SIZE);
	selection->max_size = PG_ARGISNULL(ARG_MAX_SIZE) ? row->max_size :
		PG_GETARG_INT64(ARG_MAX_SIZE);
	if (selection->min_size == -1)
		selection->min_size = 0;
	if (selection->max_size == -1)
		selection->max_size = PG_INT64_MAX;
	settings_check_selection(selection);
}

/* The repository with other settings. */
static RepositoryRow
with_selection(const RepositoryRow *row, const Selection *selection)
{
	RepositoryRow other = *row;

	other.include = repository_copy_patterns(selection->include,
											 selection->include == (Datum) 0,
											 &other.n_include);
	other.exclude = repository_copy_patterns(selection->exclude,
											 selection->exclude == (Datum) 0,
											 &other.n_exclude);
	other.ignore_case = selection->ignore_case;
	other.include_hidden = selection->include_hidden;
	other.use_ignore_files = selection->use_ignore_files;
	other.min_size = selection->min_size;
	other.max_size = selection->max_size;
	return other;
}

static Datum
path_array(ProtoStr list)
{
	Datum	   *elements = palloc(sizeof(Datum) * ANSWER_MAX_PATHS);
	ProtoStr	path;
	int			n = 0;

	while (n < ANSWER_MAX_PATHS && proto_list_next(&list, &path))
	{
		bool		isnull;

		elements[n++] = name_datum(path, &isnull);
	}
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum
fsync_preview(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	RepositoryRow *row = load_repository(fcinfo, &objects);
	RepositoryRow other;
	Selection	selection;
	AnswerPreview preview;
	ProtoBuf	answer;
	ProtoReader body;
	uint8_t		type;
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {false, false, false, false, false};
	int			max_paths = count_argument(fcinfo, ARG_MAX_PATHS, "max_paths", 0,
										   ANSWER_MAX_PATHS);
	int			timeout_ms = timeout_argument(fcinfo, ARG_TIMEOUT);
	Oid			caller = GetUserId();

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	read_selection(fcinfo, row, &selection);
	other = with_selection(row, &selection);
	ask("preview", row, &other, max_paths, timeout_ms, &answer);
	if (proto_next(&answer, &type, &body) != 1 || type != ANSWER_PREVIEW ||
		!answer_get_preview(&body, &preview))
		bad_answer(row);
	report_end(row, &preview.end);
	if (preview.end.unreadable > 0)
		ereport(WARNING_CLIENT_ONLY,
				(errmsg(INT64_FORMAT " directories or .fsyncignore files could not be read",
						preview.end.unreadable),
				 errdetail("Their files are not counted: rows of them stay.")));
	values[0] = Int64GetDatum(preview.added);
	values[1] = Int64GetDatum(preview.removed);
	values[2] = path_array(preview.first_added);
	values[3] = path_array(preview.first_removed);
	values[4] = BoolGetDatum(preview.end.result == ANSWER_COMPLETE);

	/* What would go with rows, as the settings themselves would tell it. */
	if (preview.removed > 0)
	{
		session_scope_enter(&scope, &objects);
		impact_of_selection(&objects, caller, &row->id, &selection, row->mark_excluded);
		session_scope_leave(&scope);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---------------------------------------------------------------------
 * fsync_ignored()
 * ---------------------------------------------------------------------
 */

Datum
fsync_ignored(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	RepositoryRow *row = load_repository(fcinfo, &objects);
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	AnswerIgnored ignored;
	AnswerEnd	end;
	ProtoBuf	answer;
	ProtoReader body;
	uint8_t		type = 0;
	int			rows = count_argument(fcinfo, 1, "max_rows", 1, MAX_ROWS);

	ask("ignored", row, NULL, rows, timeout_argument(fcinfo, 2), &answer);
	while (proto_next(&answer, &type, &body) == 1 && type == ANSWER_IGNORED)
	{
		Datum		values[6];
		bool		nulls[6] = {false, false, false, false, false, false};

		if (rows-- == 0 || !answer_get_ignored(&body, &ignored))
			bad_answer(row);
		values[0] = name_datum(ignored.path, &nulls[0]);
		values[1] = BoolGetDatum(ignored.directory);
		values[2] = shown_datum(ignored.source, &nulls[2]);
		values[3] = shown_datum(ignored.rule, &nulls[3]);
		values[4] = shown_datum(ignored.rule_file, &nulls[4]);
		values[5] = shown_datum(ignored.detail, &nulls[5]);
		tuplestore_putvalues(store, desc, values, nulls);
		type = 0;
	}
	if (type != ANSWER_END || !answer_get_end(&body, &end))
		bad_answer(row);
	report_end(row, &end);
	return (Datum) 0;
}
