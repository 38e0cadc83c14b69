/*-------------------------------------------------------------------------
 *
 * functions_why.c
 *		fsync_why(): which rule decides about a path.
 *
 * A session touches no watched tree, and the same code has to decide here as
 * there: so fsync-tree is asked, with the settings as the worker would tell
 * them to it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "functions.h"
#include "repository.h"
#include "shown.h"
#include "tree_ask.h"
#include "tree/protocol.h"

PG_FUNCTION_INFO_V1(fsync_why);

/*
 * What follows directory in path, or NULL.  Both are absolute; slashes count
 * once.
 */
static const char *
path_below(const char *path, const char *directory)
{
	while (true)
	{
		while (directory[0] == '/' && (directory[1] == '/' || directory[1] == '\0'))
			directory++;
		while (path[0] == '/' && path[1] == '/')
			path++;
		if (*directory == '\0')
			return *path == '/' || *path == '\0' ? path : NULL;
		if (*path != *directory)
			return NULL;
		path++;
		directory++;
	}
}

/*
 * The path relative to the root, its names between single slashes; a slash at
 * its end, which asks about a directory, is kept.
 */
static char *
normal_path(const char *path, const RepositoryRow *row)
{
	const char *below = path;
	StringInfoData normal;

	if (path[0] == '/')
	{
		below = path_below(path, row->root);
		if (below == NULL)
			below = path_below(path, row->given_path);
		if (below == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("path \"%s\" does not lie below the repository's directory",
							shown_path(path)),
					 errdetail("The directory is \"%s\".", shown_path(row->root)),
					 errhint("Name a path below it, or one that is relative to it.")));
	}
	initStringInfo(&normal);
	while (*below != '\0')
	{
		size_t		len = strcspn(below, "/");

		if (len == 2 && below[0] == '.' && below[1] == '.')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("path \"%s\" contains \"..\"", shown_path(path))));
		if (len > 0 && !(len == 1 && below[0] == '.'))
		{
			appendBinaryStringInfo(&normal, below, len);
			if (below[len] == '/')
				appendStringInfoChar(&normal, '/');
		}
		below += len + (below[len] == '/');
	}
	if (normal.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s\" names nothing in the repository's directory",
						shown_path(path)),
				 errhint("The directory itself is always looked at.")));
	return normal.data;
}

static void
ask_why(const RepositoryRow *row, const char *path, ProtoWhy *why)
{
	const char *args[] = {"why", row->root, path, NULL};
	ProtoConfig config = {.batch_size = 1, .max_concurrency = 1};	/* no matter here */
	ProtoBuf	question;
	ProtoBuf	answer;
	ProtoReader body;
	char	   *volatile bytes = NULL;
	size_t		len;
	uint8_t		type;

	proto_buf_init(&question);
	repository_put_init(row, &config, 0, NIL, &question);
	if (question.failed)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	PG_TRY();
	{
		bytes = tree_ask(args, question.data, question.len, TREE_ASK_TIMEOUT_S * 1000,
						 TREE_ASK_ANSWER, &len);
	}
	PG_FINALLY();
	{
		proto_buf_free(&question);
	}
	PG_END_TRY();

	if (bytes == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not look at \"%s\": no answer within %d seconds",
						shown_path(path), TREE_ASK_TIMEOUT_S),
				 errhint("Its file system may hang.")));

	/* Not a buffer of its own: only read. */
	proto_buf_init(&answer);
	answer.data = bytes;
	answer.len = answer.cap = len;
	if (proto_next(&answer, &type, &body) != 1 || type != PROTO_WHY ||
		!proto_get_why(&body, why))
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not look at \"%s\"", shown_path(path)),
				 errdetail("fsync-tree did not answer as expected."),
				 errhint("Check the installation, and fsync.helper_path if it is set.")));
}

Datum
fsync_why(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	RepositoryRow *row;
	ProtoWhy	why;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false, false, false, false, false, false};
	char	   *path;

	functions_require_argument(fcinfo, 0, "repository_id");
	functions_require_argument(fcinfo, 1, "path");
	desc = functions_row_type(fcinfo, lengthof(values));
	functions_find_extension(&objects);
	row = repository_load_one(&objects, PG_GETARG_UUID_P(0));
	if (row == NULL)
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	if (row->fit != REGISTRATION_FITS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("repository \"%s\" is not active",
						functions_uuid_text(PG_GETARG_UUID_P(0))),
				 errhint("fsync_status() says more.")));
	path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	functions_require_path_length(path, NULL);
	path = normal_path(path, row);
	ask_why(row, path, &why);

	nulls[0] = !why.known;
	values[0] = BoolGetDatum(why.tracked);
	values[1] = shown_datum(why.source, &nulls[1]);
	values[2] = shown_datum(why.rule, &nulls[2]);
	values[3] = shown_datum(why.rule_file, &nulls[3]);
	values[4] = name_datum(why.decided, &nulls[4]);
	values[5] = shown_datum(why.detail, &nulls[5]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
