/*-------------------------------------------------------------------------
 *
 * functions_manifest.c
 *		The hashes of a repository's files as sha256sum prints and checks them:
 *		fsync_manifest(), fsync_manifest_hash().
 *
 * A line has the hash, two spaces and the path.  coreutils writes a backslash,
 * a line feed and a carriage return in a name as \\, \n and \r, and a
 * backslash before such a line.  A path is the bytes that the directory has, in whatever
 * encoding the database is: so the hash is over what the files are called, and
 * not over what a client is shown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "caller_query.h"
#include "feed_history.h"
#include "functions.h"

PG_FUNCTION_INFO_V1(fsync_manifest);
PG_FUNCTION_INFO_V1(fsync_manifest_hash);

static const char files_sql[] =
"SELECT content_hash, file_path FROM %1$s.file_records"
" WHERE repository_id = $1 AND missing_since IS NULL ORDER BY file_path";

typedef void (*TakeLine) (void *arg, const StringInfoData *line);

typedef struct Manifest
{
	TakeLine	take;
	void	   *arg;
	StringInfoData line;
	int64		without_hash;
} Manifest;

static void
append_escaped(StringInfo line, const char *path, int len)
{
	for (int i = 0; i < len; i++)
	{
		switch (path[i])
		{
			case '\\':
				appendStringInfoString(line, "\\\\");
				break;
			case '\n':
				appendStringInfoString(line, "\\n");
				break;
			case '\r':
				appendStringInfoString(line, "\\r");
				break;
			default:
				appendStringInfoCharMacro(line, path[i]);
		}
	}
}

static bool
needs_escape(const char *path, int len)
{
	return memchr(path, '\\', len) != NULL || memchr(path, '\n', len) != NULL ||
		memchr(path, '\r', len) != NULL;
}

static void
make_line(StringInfo line, bytea *hash, text *path)
{
	const char *name = VARDATA_ANY(path);
	int			len = VARSIZE_ANY_EXHDR(path);

	resetStringInfo(line);
	if (needs_escape(name, len))
		appendStringInfoChar(line, '\\');
	for (int i = 0; i < (int) VARSIZE_ANY_EXHDR(hash); i++)
		appendStringInfo(line, "%02x", ((unsigned char *) VARDATA_ANY(hash))[i]);
	appendStringInfoString(line, "  ");
	append_escaped(line, name, len);
}

static void
take_files(void *arg)
{
	Manifest   *manifest = arg;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		bool		no_hash;
		Datum		hash = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
										 &no_hash);
		Datum		path = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2,
										 &isnull);

		if (no_hash)
		{
			manifest->without_hash++;
			continue;
		}
		make_line(&manifest->line, DatumGetByteaPP(hash), DatumGetTextPP(path));
		manifest->take(manifest->arg, &manifest->line);
	}
}

/* Each line of the manifest to take. */
static void
make_manifest(FunctionCallInfo fcinfo, TakeLine take, void *arg)
{
	ExtensionObjects objects;
	SessionScope scope;
	FeedHistory history;
	Manifest	manifest = {.take = take,.arg = arg};
	Oid			argtypes[1] = {UUIDOID};
	Datum		values[1];
	bool		found;

	functions_require_argument(fcinfo, 0, "repository_id");
	functions_find_extension(&objects);
	caller_require_select(&objects, "file_records");
	session_scope_enter(&scope, &objects);
	found = feed_history_read(&objects, PG_GETARG_UUID_P(0), &history);
	session_scope_leave(&scope);
	if (!found)
		functions_unknown_repository(PG_GETARG_UUID_P(0));

	initStringInfo(&manifest.line);
	values[0] = PG_GETARG_DATUM(0);
	caller_query(&objects, files_sql, 1, argtypes, values, NULL, take_files, &manifest);
	if (manifest.without_hash > 0)
		ereport(NOTICE,
				(errmsg_plural(INT64_FORMAT " file without a hash is left out",
							   INT64_FORMAT " files without a hash are left out",
							   (unsigned long) manifest.without_hash,
							   manifest.without_hash)));
}

static void
store_line(void *arg, const StringInfoData *line)
{
	const CallerResult *result = arg;
	Datum		values[1];
	bool		nulls[1] = {false};

	values[0] = PointerGetDatum(cstring_to_text_with_len(line->data, line->len));
	tuplestore_putvalues(result->store, result->desc, values, nulls);
	pfree(DatumGetPointer(values[0]));
}

Datum
fsync_manifest(PG_FUNCTION_ARGS)
{
	CallerResult result;

	result.store = functions_begin_result(fcinfo, &result.desc);
	make_manifest(fcinfo, store_line, &result);
	return (Datum) 0;
}

static void
hash_line(void *arg, const StringInfoData *line)
{
	sha256_update_compat(arg, line->data, line->len);
	sha256_update_compat(arg, "\n", 1);
}

Datum
fsync_manifest_hash(PG_FUNCTION_ARGS)
{
	Sha256Compat hash;
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char		text[2 * PG_SHA256_DIGEST_LENGTH + 1];

	sha256_begin_compat(&hash);
	make_manifest(fcinfo, hash_line, &hash);
	sha256_end_compat(&hash, digest);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
