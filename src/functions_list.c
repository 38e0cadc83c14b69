/*-------------------------------------------------------------------------
 *
 * functions_list.c
 *		Finding files: fsync_list(), fsync_find(), fsync_find_content().
 *
 * A folder is no row; it is what many paths begin with.  So the children of a
 * folder are found by steps through the unique index on (repository_id,
 * file_path): a few rows are read, and where the last of them lies in a
 * sub-folder, the next step begins behind all that can be in that.  How many
 * rows a step reads follows from how many children the last one met: one folder
 * with all files in it costs a step, and so do a hundred files side by side.
 *
 * The paths are compared by bytes, hence behind all paths that begin with "a/"
 * comes "a0", as '0' is the byte after '/'.
 *
 * These functions read files as their caller, with the rights and policies of
 * the caller.  Only where a path or a content is to be looked for is found out
 * as the owner of the tables, and says nothing by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "functions.h"
#include "shown.h"

PG_FUNCTION_INFO_V1(fsync_list);
PG_FUNCTION_INFO_V1(fsync_find);
PG_FUNCTION_INFO_V1(fsync_find_content);

/* Columns of fsync_folder_entry. */
enum
{
	ENTRY_NAME,
	ENTRY_IS_DIRECTORY,
	ENTRY_PATH,
	ENTRY_ID,
	ENTRY_FILE_SIZE,
	ENTRY_MOD_TIME,
	ENTRY_CONTENT_HASH,
	ENTRY_COLUMNS
};

/* Rows that a step reads. */
#define STEP_MIN		2
#define STEP_MAX		1000

#define SHA256_HEX		64
#define SHA256_BYTES	32

#define STEP_ROWS \
	"SELECT file_path, id, file_size, mod_time, content_hash FROM %1$s.file_records" \
	" WHERE repository_id = $1 AND file_path >= $2"
#define STEP_ORDER \
	" AND missing_since IS NULL ORDER BY repository_id, file_path LIMIT $3"

/* In the watched directory itself. */
static SessionPlan root_step_plan = {
	.sql = STEP_ROWS STEP_ORDER,
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, INT4OID},
	.index_only = true,
};

static SessionPlan folder_step_plan = {
	.sql = STEP_ROWS " AND file_path < $4" STEP_ORDER,
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, INT4OID, TEXTOID},
	.index_only = true,
};

static SessionPlan known_plan = {
	.sql = "SELECT 1 FROM %1$s.fsync_repositories WHERE repository_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID},
};

static SessionPlan roots_plan = {
	.sql = "SELECT repository_id, watch_root, path || coalesce('/' || user_area, '')"
	" FROM %1$s.fsync_repositories ORDER BY created_at, repository_id",
};

static SessionPlan file_plan = {
	.sql = "SELECT * FROM %1$s.fsync_files WHERE repository_id = $1 AND file_path = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID},
};

static SessionPlan content_plan = {
	.sql = "SELECT array_agg(id) FROM %1$s.file_records WHERE content_hash = $1",
	.nargs = 1,
	.argtypes = {BYTEAOID},
};

static SessionPlan files_plan = {
	.sql = "SELECT * FROM %1$s.fsync_files WHERE id = ANY ($1) ORDER BY id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID},
};

/* ---------------------------------------------------------------------
 * A folder
 * ---------------------------------------------------------------------
 */

/* A call of fsync_list(). */
typedef struct FolderListing
{
	const ExtensionObjects *objects;
	Tuplestorestate *store;
	TupleDesc	desc;
	Datum		repository_id;
	char	   *prefix;			/* of all paths in the folder: "" or "…/" */
	size_t		prefix_len;
	Datum		end;			/* text, behind them; 0: the whole repository */
	int			left;			/* rows that may be returned */
} FolderListing;

/* The bytes of a path, then one more. */
static char *
path_and(const char *path, size_t len, char c)
{
	return psprintf("%.*s%c", (int) len, path, c);
}

/* The length of the child's path that a path lies in; *is_folder: and is not. */
static size_t
child_len(const FolderListing *listing, const char *path, bool *is_folder)
{
	const char *slash = strchr(path + listing->prefix_len, '/');

	*is_folder = slash != NULL;
	return slash != NULL ? (size_t) (slash - path) : strlen(path);
}

static void
put_entry(FolderListing *listing, const char *path, size_t len, bool is_folder, uint64 row)
{
	Datum		values[ENTRY_COLUMNS];
	bool		nulls[ENTRY_COLUMNS] = {false};

	values[ENTRY_NAME] = PointerGetDatum(cstring_to_text_with_len(path + listing->prefix_len,
																  len - listing->prefix_len));
	values[ENTRY_IS_DIRECTORY] = BoolGetDatum(is_folder);
	values[ENTRY_PATH] = PointerGetDatum(cstring_to_text_with_len(path, len + is_folder));
	for (int i = ENTRY_ID; i < ENTRY_COLUMNS; i++)
	{
		nulls[i] = is_folder;
		if (!is_folder)
			values[i] = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
									  i - ENTRY_ID + 2, &nulls[i]);
	}
	tuplestore_putvalues(listing->store, listing->desc, values, nulls);
	listing->left--;
}

/*
 * Returns the children from a path on: either the folders or the files among
 * them.
 */
static void
list_children(FolderListing *listing, const char *begin, bool folders)
{
	int			step = STEP_MIN;
	StringInfoData from;
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(outer, "fsync list step",
												  ALLOCSET_DEFAULT_SIZES);

	initStringInfo(&from);
	appendStringInfoString(&from, begin);
	while (listing->left > 0)
	{
		Datum		values[4];
		char	   *last = NULL;
		size_t		last_len = 0;
		bool		is_folder = false;
		int			children = 0;
		int			n;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		values[0] = listing->repository_id;
		values[1] = CStringGetTextDatum(from.data);
		values[2] = Int32GetDatum(step);
		values[3] = listing->end;
		n = (int) session_execute(listing->objects, listing->end != (Datum) 0 ?
								  &folder_step_plan : &root_step_plan, values, NULL,
								  SPI_OK_SELECT);
		for (int i = 0; i < n && listing->left > 0; i++)
		{
			char	   *path = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
			size_t		len = child_len(listing, path, &is_folder);

			/* Of a folder the first row speaks for all. */
			if (last == NULL || !is_folder || len != last_len ||
				memcmp(path, last, len) != 0)
			{
				children++;
				if (is_folder == folders)
					put_entry(listing, path, len, is_folder, i);
			}
			last = path;
			last_len = len;
		}
		SPI_freetuptable(SPI_tuptable);
		if (n < step || last == NULL)
			break;
		resetStringInfo(&from);
		appendBinaryStringInfo(&from, last, last_len);
		appendStringInfoChar(&from, is_folder ? '0' : '\1');
		step = children * 2 >= n ? Min(step * 2, STEP_MAX) : STEP_MIN;
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

/* What is before the paths in a folder that the user names. */
static char *
folder_prefix(const char *directory)
{
	size_t		len = strlen(directory);

	if (directory[0] == '/')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("directory \"%s\" is not relative to the repository's directory",
						shown_path(directory)),
				 errhint("Name it without \"/\" at the beginning; '' is the repository's directory itself.")));
	while (len > 0 && directory[len - 1] == '/')
		len--;
	return len > 0 ? path_and(directory, len, '/') : pstrdup("");
}

static void
check_after(const FolderListing *listing, const char *after)
{
	const char *name = after + listing->prefix_len;
	size_t		len;

	if (strncmp(after, listing->prefix, listing->prefix_len) == 0)
	{
		len = strcspn(name, "/");
		if (len > 0 && (name[len] == '\0' || name[len + 1] == '\0'))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is not the path of something in directory \"%s\"",
					shown_path(after), shown_path(listing->prefix)),
			 errhint("For after, give the path of the last row that was returned.")));
}

static bool
is_known(const ExtensionObjects *objects, Datum repository_id)
{
	SessionScope scope;
	bool		known;

	session_scope_enter(&scope, objects);
	known = session_execute(objects, &known_plan, &repository_id, NULL, SPI_OK_SELECT) == 1;
	session_scope_leave(&scope);
	return known;
}

Datum
fsync_list(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	TupleDesc	desc;
	FolderListing		listing = {0};
	char	   *after = NULL;

	listing.store = functions_begin_result(fcinfo, &desc);
	listing.desc = desc;
	functions_require_columns(desc, ENTRY_COLUMNS);
	functions_require_argument(fcinfo, 0, "repository_id");
	functions_require_argument(fcinfo, 1, "directory");
	if (PG_ARGISNULL(3) || PG_GETARG_INT32(3) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be zero or more")));
	functions_find_extension(&objects);
	listing.objects = &objects;
	listing.repository_id = PG_GETARG_DATUM(0);
	listing.left = PG_GETARG_INT32(3);
	listing.prefix = folder_prefix(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	listing.prefix_len = strlen(listing.prefix);
	if (listing.prefix_len > 0)
		listing.end = CStringGetTextDatum(path_and(listing.prefix, listing.prefix_len - 1, '0'));
	if (!PG_ARGISNULL(2))
	{
		after = text_to_cstring(PG_GETARG_TEXT_PP(2));
		check_after(&listing, after);
	}
	if (!is_known(&objects, listing.repository_id))
		functions_unknown_repository(PG_GETARG_UUID_P(0));

	session_reader_enter(&scope);
	if (after == NULL)
		list_children(&listing, listing.prefix, true);
	else if (after[strlen(after) - 1] == '/')
		list_children(&listing, path_and(after, strlen(after) - 1, '0'), true);
	if (after == NULL || after[strlen(after) - 1] == '/')
		list_children(&listing, listing.prefix, false);
	else
		list_children(&listing, path_and(after, strlen(after), '\1'), false);
	session_scope_leave(&scope);
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * A path
 * ---------------------------------------------------------------------
 */

/* An absolute path without empty and "." components. */
static char *
normal_absolute_path(const char *path)
{
	StringInfoData normal;

	if (path[0] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s\" is not absolute", shown_path(path)),
				 errhint("Begin it with \"/\".")));
	initStringInfo(&normal);
	for (const char *p = path; *p != '\0';)
	{
		size_t		len = strcspn(p, "/");

		if (len == 2 && p[0] == '.' && p[1] == '.')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("path \"%s\" contains \"..\"", shown_path(path))));
		if (len > 0 && !(len == 1 && p[0] == '.'))
		{
			appendStringInfoChar(&normal, '/');
			appendBinaryStringInfo(&normal, p, len);
		}
		p += len + (p[len] == '/');
	}
	return normal.data;
}

/* What is left of a path below a directory; NULL: it does not lie there. */
static const char *
below_directory(const char *path, const char *directory)
{
	size_t		len = strlen(directory);

	if (strncmp(path, directory, len) != 0 || path[len] != '/' || path[len + 1] == '\0')
		return NULL;
	return path + len + 1;
}

/* Where a file may be: a repository, and its path there. */
typedef struct FilePlace
{
	pg_uuid_t	repository_id;
	const char *path;
} FilePlace;

/* For each repository that the path leads into. */
static List *
find_places(const ExtensionObjects *objects, const char *path)
{
	MemoryContext caller = CurrentMemoryContext;
	SessionScope scope;
	List	   *places = NIL;
	uint64		n;

	session_scope_enter(&scope, objects);
	n = session_execute(objects, &roots_plan, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		const char *root = below_directory(path, SPI_getvalue(tuple, desc, 2));
		char	   *given = SPI_getvalue(tuple, desc, 3);
		const char *below[2] = {root, NULL};
		MemoryContext old_context = MemoryContextSwitchTo(caller);
		bool		isnull;

		if (given != NULL && given[0] == '/' && strstr(given, "/../") == NULL)
			below[1] = below_directory(path, normal_absolute_path(given));
		for (int j = 0; j < 2; j++)
		{
			FilePlace	   *place;

			if (below[j] == NULL || (j == 1 && below[0] == below[1]))
				continue;
			place = palloc(sizeof(FilePlace));
			place->repository_id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull));
			place->path = below[j];
			places = lappend(places, place);
		}
		MemoryContextSwitchTo(old_context);
	}
	session_scope_leave(&scope);
	return places;
}

Datum
fsync_find(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	List	   *places;
	ListCell   *lc;

	functions_find_extension(&objects);
	places = find_places(&objects,
						 normal_absolute_path(text_to_cstring(PG_GETARG_TEXT_PP(0))));
	session_reader_enter(&scope);
	foreach(lc, places)
	{
		FilePlace	   *place = lfirst(lc);
		Datum		values[2];

		values[0] = UUIDPGetDatum(&place->repository_id);
		values[1] = CStringGetTextDatum(place->path);
		(void) session_execute(&objects, &file_plan, values, NULL, SPI_OK_SELECT);
		functions_put_rows(store, desc);
	}
	session_scope_leave(&scope);
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * A content
 * ---------------------------------------------------------------------
 */

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
		c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A hash as people write it: hexadecimal digits, \x before them or not. */
static Datum
parse_hash(const char *text)
{
	const char *digits = text[0] == '\\' && text[1] == 'x' ? text + 2 : text;
	bytea	   *hash = palloc(VARHDRSZ + SHA256_BYTES);
	bool		good = strlen(digits) == SHA256_HEX;

	SET_VARSIZE(hash, VARHDRSZ + SHA256_BYTES);
	for (int i = 0; i < SHA256_BYTES && good; i++)
	{
		int			high = hex_digit(digits[2 * i]);
		int			low = hex_digit(digits[2 * i + 1]);

		good = high >= 0 && low >= 0;
		VARDATA(hash)[i] = (char) (high << 4 | low);
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid content hash \"%s\"", text),
				 errhint("Give the SHA-256 as %d hexadecimal digits.", SHA256_HEX)));
	return PointerGetDatum(hash);
}

Datum
fsync_find_content(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	TupleDesc	desc;
	Tuplestorestate *store = functions_begin_result(fcinfo, &desc);
	MemoryContext context = CurrentMemoryContext;
	Datum		hash = parse_hash(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Datum		ids = (Datum) 0;
	bool		none;

	functions_find_extension(&objects);
	session_scope_enter(&scope, &objects);
	(void) session_execute(&objects, &content_plan, &hash, NULL, SPI_OK_SELECT);
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &none);
	if (!none)
	{
		MemoryContext old_context = MemoryContextSwitchTo(context);

		ids = PointerGetDatum(DatumGetArrayTypePCopy(ids));
		MemoryContextSwitchTo(old_context);
	}
	session_scope_leave(&scope);

	/* Also where there are none: a right that the caller lacks is an error. */
	if (none)
		ids = PointerGetDatum(construct_empty_array(INT8OID));
	session_reader_enter(&scope);
	(void) session_execute(&objects, &files_plan, &ids, NULL, SPI_OK_SELECT);
	functions_put_rows(store, desc);
	session_scope_leave(&scope);
	return (Datum) 0;
}
