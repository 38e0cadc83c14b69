/*-------------------------------------------------------------------------
 *
 * functions_settings.c
 *		The settings of a repository: what they may be, and changing them.
 *
 * fsync_add_repository() and fsync_configure_repository() take the settings as
 * the same run of arguments, and both write them with one statement.  The
 * trigger that guards fsync_repositories checks the row, so that a setting is
 * as good when somebody updates the table directly; the functions check their
 * arguments as well, as their errors then speak of these alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "functions.h"
#include "impact.h"
#include "requests.h"
#include "tree/filter.h"

PG_FUNCTION_INFO_V1(fsync_configure_repository);

/* In the order of the arguments. */
enum
{
	SETTING_INCLUDE,
	SETTING_EXCLUDE,
	SETTING_CALCULATE_HASHES,
	SETTING_IGNORE_CASE,
	SETTING_INCLUDE_HIDDEN,
	SETTING_USE_IGNORE_FILES,
	SETTING_MIN_SIZE,
	SETTING_MAX_SIZE,
	SETTING_ON_MISSING,
	SETTING_MISSING_RETENTION,
	SETTING_ON_TYPE_CHANGE,
	SETTING_ON_OVERWRITE,
	SETTING_ON_EXCLUDED,
	SETTING_CHANGE_FEED,
	SETTING_DEBOUNCE_INTERVAL,
	SETTING_RECONCILIATION_INTERVAL,
	SETTING_POLL_INTERVAL,
	SETTINGS_ARGS
};

static const char *const columns[SETTINGS_ARGS] = {
	"include", "exclude", "calculate_hashes", "ignore_case", "include_hidden",
	"use_ignore_files", "min_size", "max_size", "on_missing", "missing_retention",
	"on_type_change", "on_overwrite", "on_excluded", "change_feed",
	"debounce_interval", "reconciliation_interval", "poll_interval",
};

/* Of include and exclude together. */
#define MAX_PATTERNS		10000
#define MAX_PATTERN_BYTES	(1024 * 1024)

/* What intervals are compared with. */
static const Interval no_time = {0};
static const Interval one_millisecond = {.time = 1000};
static const Interval one_second = {.time = USECS_PER_SEC};
static const Interval one_day = {.day = 1};
static const Interval thousand_years = {.month = 1000 * MONTHS_PER_YEAR};

typedef struct Settings
{
	Datum		values[SETTINGS_ARGS];
	bool		nulls[SETTINGS_ARGS];
} Settings;

/*
 * NULL leaves a setting as it is.  What has no value of its own that says
 * "none" is cleared by one that makes no sense otherwise.
 */
static SessionPlan settings_plan = {
	.sql = "UPDATE %1$s.fsync_repositories SET"
	" include = CASE WHEN $2 IS NULL THEN include WHEN cardinality($2) > 0 THEN $2 END,"
	" exclude = CASE WHEN $3 IS NULL THEN exclude WHEN cardinality($3) > 0 THEN $3 END,"
	" calculate_hashes = coalesce($4, calculate_hashes),"
	" ignore_case = coalesce($5, ignore_case),"
	" include_hidden = coalesce($6, include_hidden),"
	" use_ignore_files = coalesce($7, use_ignore_files),"
	" min_size = CASE WHEN $8 IS NULL THEN min_size WHEN $8 <> -1 THEN $8 END,"
	" max_size = CASE WHEN $9 IS NULL THEN max_size WHEN $9 <> -1 THEN $9 END,"
	" on_missing = coalesce($10, on_missing),"
	" missing_retention = CASE WHEN $11 IS NULL THEN missing_retention"
	" WHEN $11 > interval '0' THEN $11 END,"
	" on_type_change = coalesce($12, on_type_change),"
	" on_overwrite = coalesce($13, on_overwrite),"
	" on_excluded = coalesce($14, on_excluded),"
	" change_feed = coalesce($15, change_feed),"
	" debounce_interval = CASE WHEN $16 IS NULL THEN debounce_interval"
	" WHEN $16 >= interval '0' THEN $16 END,"
	" reconciliation_interval = CASE WHEN $17 IS NULL THEN reconciliation_interval"
	" WHEN $17 >= interval '0' THEN $17 END,"
	" poll_interval = CASE WHEN $18 IS NULL THEN poll_interval"
	" WHEN $18 >= interval '0' THEN $18 END"
	" WHERE repository_id = $1",
	.nargs = 1 + SETTINGS_ARGS,
	.argtypes = {UUIDOID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, BOOLOID, BOOLOID,
	BOOLOID, INT8OID, INT8OID, TEXTOID, INTERVALOID, TEXTOID, TEXTOID, TEXTOID,
	BOOLOID, INTERVALOID, INTERVALOID, INTERVALOID},
};

/* ---------------------------------------------------------------------
 * Checks
 * ---------------------------------------------------------------------
 */

/* What include and exclude are together; each file is compared with all that. */
typedef struct PatternAmount
{
	int64		count;
	int64		bytes;
} PatternAmount;

/*
 * Throws for a pattern that is bad, or where they are too many; which is
 * "include" or "exclude".
 */
static void
check_patterns(ArrayType *patterns, const char *which, PatternAmount *amount)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (ARR_NDIM(patterns) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("%s must be a one-dimensional array", which)));
	amount->count += ArrayGetNItems(ARR_NDIM(patterns), ARR_DIMS(patterns));
	if (amount->count > MAX_PATTERNS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many patterns in include and exclude"),
				 errdetail("There are " INT64_FORMAT "; at most %d are possible.",
						   amount->count, MAX_PATTERNS)));
	deconstruct_array(patterns, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *pattern;
		const char *error;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("patterns in %s must not be null", which)));
		pattern = TextDatumGetCString(elements[i]);
		amount->bytes += strlen(pattern);
		if (amount->bytes > MAX_PATTERN_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the patterns in include and exclude are too long"),
					 errdetail("Together they can have at most %d bytes.", MAX_PATTERN_BYTES)));
		error = filter_check_pattern(pattern, strlen(pattern));
		if (error != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid pattern \"%s\" in %s", pattern, which),
					 errdetail_internal("%s", error),
					 errhint("Patterns are written as in .gitignore.")));
		pfree(pattern);
	}
}

/* A limit in bytes; -1 where there is none. */
static int64
check_size(const Settings *settings, int which)
{
	int64		size;

	if (settings->nulls[which])
		return -1;
	size = DatumGetInt64(settings->values[which]);
	if (size < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", columns[which]),
				 errhint("NULL in the table, and -1 for fsync_configure_repository(), means that there is no limit.")));
	return size;
}

static void
check_word(const Settings *settings, int which, const char *const *words, const char *hint)
{
	char	   *word;

	if (settings->nulls[which])
		return;
	word = TextDatumGetCString(settings->values[which]);
	for (; *words != NULL; words++)
	{
		if (strcmp(word, *words) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for %s: \"%s\"", columns[which], word),
			 errhint("%s", hint)));
}

static void
check_strategies(const Settings *settings)
{
	static const char *const missing[] = {"delete", "mark", NULL};
	static const char *const type_change[] = {"missing", "delete", "mark", NULL};
	static const char *const overwrite[] = {"target", "source", NULL};
	static const char *const excluded[] = {"remove", "mark", NULL};

	check_word(settings, SETTING_ON_MISSING, missing,
			   "It is either \"delete\" or \"mark\".");
	check_word(settings, SETTING_ON_TYPE_CHANGE, type_change,
			   "It is \"missing\", \"delete\" or \"mark\".");
	check_word(settings, SETTING_ON_OVERWRITE, overwrite,
			   "It is either \"target\" or \"source\".");
	check_word(settings, SETTING_ON_EXCLUDED, excluded,
			   "It is either \"remove\" or \"mark\".");
}

/* Negative, zero or positive, as the interval is shorter, as long, or longer. */
static int
compare_interval(Datum interval, const Interval *with)
{
	return DatumGetInt32(DirectFunctionCall2(interval_cmp, interval,
											 IntervalPGetDatum(with)));
}

static bool
is_positive(Datum interval)
{
	return compare_interval(interval, &no_time) > 0;
}

/*
 * A time between two things that are done again and again: 0, or neither
 * shorter than the one nor longer than the other.
 */
static void
check_interval(const Settings *settings, int which, const Interval *least,
			   const Interval *most, const char *range)
{
	Datum		value = settings->values[which];

	if (settings->nulls[which] || compare_interval(value, &no_time) == 0 ||
		(compare_interval(value, least) >= 0 && compare_interval(value, most) <= 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is out of range", columns[which]),
			 errdetail("It can be 0, or %s.", range),
			 errhint("NULL in the table, and -1 for fsync_configure_repository(), means: as the setting fsync.%s says.",
					 columns[which])));
}

static void
check_settings(const Settings *settings)
{
	int64		min_size;
	int64		max_size;
	PatternAmount amount = {0};

	for (int i = SETTING_INCLUDE; i <= SETTING_EXCLUDE; i++)
	{
		if (!settings->nulls[i])
			check_patterns(DatumGetArrayTypeP(settings->values[i]), columns[i], &amount);
	}
	min_size = check_size(settings, SETTING_MIN_SIZE);
	max_size = check_size(settings, SETTING_MAX_SIZE);
	if (max_size >= 0 && min_size > max_size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min_size must not be greater than max_size"),
				 errdetail("They are " INT64_FORMAT " and " INT64_FORMAT " bytes: no file would be tracked.",
						   min_size, max_size)));
	check_strategies(settings);
	if (!settings->nulls[SETTING_MISSING_RETENTION] &&
		!is_positive(settings->values[SETTING_MISSING_RETENTION]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("missing_retention must be positive"),
				 errhint("NULL in the table, and zero for fsync_configure_repository(), means that marked rows are kept for ever.")));
	check_interval(settings, SETTING_DEBOUNCE_INTERVAL, &one_millisecond, &one_day,
				   "from 1 millisecond to 1 day");
	for (int i = SETTING_RECONCILIATION_INTERVAL; i <= SETTING_POLL_INTERVAL; i++)
		check_interval(settings, i, &one_second, &thousand_years, "from 1 second to 1000 years");
}

/* Throws where a row of fsync_repositories has a setting that cannot be. */
void
settings_check_row(HeapTuple row, TupleDesc desc)
{
	Settings	settings;

	for (int i = 0; i < SETTINGS_ARGS; i++)
	{
		int			attnum = SPI_fnumber(desc, columns[i]);

		/* Before ALTER EXTENSION UPDATE the table may lack some. */
		settings.nulls[i] = true;
		if (attnum > 0)
			settings.values[i] = SPI_getbinval(row, desc, attnum, &settings.nulls[i]);
	}
	check_settings(&settings);
}

/* The same for those that say which files are tracked. */
void
settings_check_selection(const Selection *selection)
{
	Settings	settings;

	memset(settings.nulls, true, sizeof(settings.nulls));
	settings.values[SETTING_INCLUDE] = selection->include;
	settings.nulls[SETTING_INCLUDE] = selection->include == (Datum) 0;
	settings.values[SETTING_EXCLUDE] = selection->exclude;
	settings.nulls[SETTING_EXCLUDE] = selection->exclude == (Datum) 0;
	settings.values[SETTING_MIN_SIZE] = Int64GetDatum(selection->min_size);
	settings.nulls[SETTING_MIN_SIZE] = false;
	settings.values[SETTING_MAX_SIZE] = Int64GetDatum(selection->max_size);
	settings.nulls[SETTING_MAX_SIZE] = selection->max_size == PG_INT64_MAX;
	check_settings(&settings);
}

/* The same for the arguments of a function. */
void
settings_check_arguments(FunctionCallInfo fcinfo, int first_arg)
{
	Settings	settings;
	Datum	   *values = settings.values;
	bool	   *nulls = settings.nulls;

	for (int i = 0; i < SETTINGS_ARGS; i++)
	{
		nulls[i] = PG_ARGISNULL(first_arg + i);
		values[i] = nulls[i] ? (Datum) 0 : PG_GETARG_DATUM(first_arg + i);
	}

	/* What stands for "none" is no value. */
	for (int i = SETTING_MIN_SIZE; i <= SETTING_MAX_SIZE; i++)
		nulls[i] |= !nulls[i] && DatumGetInt64(values[i]) == -1;
	nulls[SETTING_MISSING_RETENTION] |= !nulls[SETTING_MISSING_RETENTION] &&
		!is_positive(values[SETTING_MISSING_RETENTION]);
	for (int i = SETTING_DEBOUNCE_INTERVAL; i <= SETTING_POLL_INTERVAL; i++)
		nulls[i] |= !nulls[i] && compare_interval(values[i], &no_time) < 0;
	check_settings(&settings);
}

/* ---------------------------------------------------------------------
 * Changing
 * ---------------------------------------------------------------------
 */

/*
 * Writes the settings that are given among the function's arguments from
 * first_arg on, inside a session_scope.  False: there is no such repository.
 */
bool
settings_store(const ExtensionObjects *objects, Datum repository_id,
			   FunctionCallInfo fcinfo, int first_arg)
{
	Datum		values[1 + SETTINGS_ARGS];
	char		nulls[1 + SETTINGS_ARGS];

	values[0] = repository_id;
	nulls[0] = ' ';
	for (int i = 0; i < SETTINGS_ARGS; i++)
	{
		bool		isnull = PG_ARGISNULL(first_arg + i);

		values[1 + i] = isnull ? (Datum) 0 : PG_GETARG_DATUM(first_arg + i);
		nulls[1 + i] = isnull ? 'n' : ' ';
	}
	return session_execute(objects, &settings_plan, values, nulls, SPI_OK_UPDATE) == 1;
}

Datum
fsync_configure_repository(PG_FUNCTION_ARGS)
{
	ExtensionObjects objects;
	SessionScope scope;
	bool		found;

	PreventCommandIfReadOnly("fsync_configure_repository()");
	functions_require_argument(fcinfo, 0, "repository_id");
	settings_check_arguments(fcinfo, 1);
	functions_find_extension(&objects);
	session_scope_enter(&scope, &objects);
	found = settings_store(&objects, PG_GETARG_DATUM(0), fcinfo, 1);
	session_scope_leave(&scope);
	if (!found)
		functions_unknown_repository(PG_GETARG_UUID_P(0));
	PG_RETURN_VOID();
}
