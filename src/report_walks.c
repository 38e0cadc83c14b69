/*-------------------------------------------------------------------------
 *
 * report_walks.c
 *		Figures of fsync_report() that take a look at every row, a little at each
 *		call.
 *
 * How much is there twice, and how many files were verified, no index and no
 * counter tells: a million rows have to be looked at, and fsync_report() is
 * asked each second.  So each call goes on for a few milliseconds where the one
 * before it stopped, and shows what the last whole walk found.  A table of a few
 * thousand rows is walked by one call.  The state is the session's, for it is the
 * same session that asks again and again; the next walk begins when the last one
 * is old, all the later the longer it took, so that walks take a hundredth of the
 * time at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "functions.h"
#include "report_walks.h"

#define PAGE_ROWS			2000
#define BUDGET_US			10000
#define WALK_AGAIN_US		(INT64CONST(60) * 1000 * 1000)
#define SHARE_OF_TIME		100

#define HASH_BYTES			32
#define TOP_CONTENTS		10

/* Of one content, and then the figures are lower bounds. */
#define CONTENT_ROWS		20000

/* Rows in index order; how far, and what it took. */
typedef struct ReportWalk
{
	bool		going;
	bool		complete;		/* one walk has ended */
	int64		rows;			/* so far */
	int64		last_rows;		/* of the walk that ended last */
	int64		spent_us;
	TimestampTz due;			/* of the next one */
	TimestampTz ended;
} ReportWalk;

typedef struct Content
{
	uint8		hash[HASH_BYTES];
	int64		file_size;
	int64		copies;
	double		wasted_bytes;
} Content;

typedef struct Duplicates
{
	int64		contents;
	int64		superfluous;
	double		wasted_bytes;
	int			n_top;
	Content		top[TOP_CONTENTS];	/* the most wasteful first */
} Duplicates;

typedef struct VerifiedCount
{
	pg_uuid_t	repository_id;
	int64		files;
} VerifiedCount;

typedef struct VerifiedCounts
{
	int			n;
	int			size;
	VerifiedCount *counts;		/* in TopMemoryContext */
} VerifiedCounts;

static Oid	walked_table = InvalidOid;

static ReportWalk duplicates_walk;
static uint8 duplicates_at[HASH_BYTES];
static Duplicates duplicates_next;
static Duplicates duplicates;

static ReportWalk verified_walk;
static int64 verified_at;
static VerifiedCounts verified_next;
static VerifiedCounts verified;

static SessionPlan contents_plan = {
	.sql = "SELECT content_hash, pg_catalog.count(*) FROM"
	" (SELECT content_hash FROM %1$s.file_records WHERE content_hash > $1"
	" ORDER BY content_hash LIMIT $2) page"
	" GROUP BY content_hash ORDER BY content_hash",
	.nargs = 2,
	.argtypes = {BYTEAOID, INT4OID},
	.index_only = true,
};

/* As the view fsync_duplicates has it. */
static SessionPlan copies_plan = {
	.sql = "SELECT h.content_hash, f.file_size, f.copies"
	" FROM pg_catalog.unnest($1) AS h(content_hash) CROSS JOIN LATERAL"
	" (SELECT pg_catalog.min(file_size) AS file_size,"
	" pg_catalog.count(DISTINCT (repository_id, inode, btime_ns, mtime_ns)) AS copies"
	" FROM (SELECT * FROM %1$s.file_records WHERE content_hash = h.content_hash LIMIT $2) r"
	" WHERE missing_since IS NULL AND file_size > 0 AND NOT EXISTS"
	" (SELECT FROM %1$s.fsync_verifications v WHERE v.file_id = r.id AND v.problem IS NOT NULL)) f"
	" WHERE f.copies > 1",
	.nargs = 2,
	.argtypes = {BYTEAARRAYOID, INT4OID},
	.index_only = true,
};

static SessionPlan verified_plan = {
	.sql = "SELECT repository_id, pg_catalog.count(last_verified), pg_catalog.max(file_id),"
	" pg_catalog.count(*) FROM (SELECT repository_id, file_id, last_verified"
	" FROM %1$s.fsync_verifications WHERE file_id > $1 ORDER BY file_id LIMIT $2) page"
	" GROUP BY repository_id",
	.nargs = 2,
	.argtypes = {INT8OID, INT4OID},
};

static int64
column_int64(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* ---------------------------------------------------------------------
 * Duplicates
 * ---------------------------------------------------------------------
 */

static Datum
hash_datum(const uint8 *hash, int len)
{
	bytea	   *value = palloc(VARHDRSZ + len);

	SET_VARSIZE(value, VARHDRSZ + len);
	memcpy(VARDATA(value), hash, len);
	return PointerGetDatum(value);
}

/* False where it is no hash of ours: users can write the table, too. */
static bool
column_hash(uint64 row, uint8 *hash)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &isnull);
	bytea	   *bytes;

	if (isnull)
		return false;
	bytes = DatumGetByteaPP(value);
	memset(hash, 0, HASH_BYTES);
	memcpy(hash, VARDATA_ANY(bytes), Min(VARSIZE_ANY_EXHDR(bytes), HASH_BYTES));
	return VARSIZE_ANY_EXHDR(bytes) == HASH_BYTES;
}

static void
add_content(Duplicates *to, const Content *content)
{
	int			i = to->n_top;

	to->contents++;
	to->superfluous += content->copies - 1;
	to->wasted_bytes += content->wasted_bytes;
	if (i == TOP_CONTENTS && content->wasted_bytes <= to->top[i - 1].wasted_bytes)
		return;
	if (i == TOP_CONTENTS)
		i--;
	else
		to->n_top++;
	for (; i > 0 && to->top[i - 1].wasted_bytes < content->wasted_bytes; i--)
		to->top[i] = to->top[i - 1];
	to->top[i] = *content;
}

static void
add_copies(const ExtensionObjects *objects, Duplicates *to, Datum *hashes, int n)
{
	Datum		values[2];
	uint64		rows;

	if (n == 0)
		return;
	values[0] = PointerGetDatum(construct_array(hashes, n, BYTEAOID, -1, false, TYPALIGN_INT));
	values[1] = Int32GetDatum(CONTENT_ROWS);
	rows = session_execute(objects, &copies_plan, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < rows; i++)
	{
		Content		content;

		(void) column_hash(i, content.hash);
		content.file_size = column_int64(i, 2);
		content.copies = column_int64(i, 3);
		content.wasted_bytes = (double) content.file_size * (content.copies - 1);
		add_content(to, &content);
	}
}

/*
 * One page; true when it was the last.  The last content of a full page may go on
 * in the next one, which then begins with it; unless it fills the page.
 */
static bool
walk_contents(const ExtensionObjects *objects, ReportWalk *walk)
{
	Datum		values[2];
	Datum	   *hashes;
	Duplicates	sum = duplicates_next;
	uint8		at[HASH_BYTES];
	int64		rows = 0;
	int			n = 0;
	uint64		groups;
	bool		full;

	values[0] = hash_datum(duplicates_at, walk->rows == 0 ? 0 : HASH_BYTES);
	values[1] = Int32GetDatum(PAGE_ROWS);
	groups = session_execute(objects, &contents_plan, values, NULL, SPI_OK_SELECT);
	hashes = palloc(sizeof(Datum) * Max(groups, 1));
	for (uint64 i = 0; i < groups; i++)
		rows += column_int64(i, 2);
	full = rows == PAGE_ROWS;
	if (full && groups > 1)
	{
		groups--;
		rows -= column_int64(groups, 2);
	}
	memcpy(at, duplicates_at, sizeof(at));
	for (uint64 i = 0; i < groups; i++)
	{
		bool		ours = column_hash(i, at);

		if (ours && column_int64(i, 2) > 1)
			hashes[n++] = hash_datum(at, HASH_BYTES);
	}
	add_copies(objects, &sum, hashes, n);

	/* Nothing can fail from here on. */
	duplicates_next = sum;
	memcpy(duplicates_at, at, sizeof(at));
	walk->rows += rows;
	return !full;
}

/* ---------------------------------------------------------------------
 * Verified files
 * ---------------------------------------------------------------------
 */

static void
add_verified(VerifiedCounts *to, const pg_uuid_t *id, int64 files)
{
	for (int i = 0; i < to->n; i++)
	{
		if (memcmp(&to->counts[i].repository_id, id, sizeof(*id)) == 0)
		{
			to->counts[i].files += files;
			return;
		}
	}
	if (to->n == to->size)
	{
		int			size = Max(to->size * 2, 16);

		to->counts = to->counts == NULL ?
			MemoryContextAlloc(TopMemoryContext, sizeof(VerifiedCount) * size) :
			repalloc(to->counts, sizeof(VerifiedCount) * size);
		to->size = size;
	}
	to->counts[to->n].repository_id = *id;
	to->counts[to->n++].files = files;
}

static bool
walk_verified(const ExtensionObjects *objects, ReportWalk *walk)
{
	Datum		values[2];
	int64		rows = 0;
	uint64		groups;

	if (walk->rows == 0)
	{
		verified_at = PG_INT64_MIN;
		verified_next.n = 0;
	}
	values[0] = Int64GetDatum(verified_at);
	values[1] = Int32GetDatum(PAGE_ROWS);
	groups = session_execute(objects, &verified_plan, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < groups; i++)
	{
		bool		isnull;
		Datum		id = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		add_verified(&verified_next, DatumGetUUIDP(id), column_int64(i, 2));
		verified_at = Max(verified_at, column_int64(i, 3));
		rows += column_int64(i, 4);
	}
	walk->rows += rows;
	return rows < PAGE_ROWS;
}

/* ---------------------------------------------------------------------
 * Both
 * ---------------------------------------------------------------------
 */

/* True when the walk has ended. */
static bool
advance(const ExtensionObjects *objects, ReportWalk *walk,
		bool (*page) (const ExtensionObjects *objects, ReportWalk *walk))
{
	TimestampTz start = GetCurrentTimestamp();
	bool		ended = false;

	if (!walk->going && start < walk->due)
		return false;
	if (!walk->going)
	{
		walk->going = true;
		walk->rows = 0;
		walk->spent_us = 0;
	}
	while (!ended)
	{
		TimestampTz now;

		CHECK_FOR_INTERRUPTS();
		ended = page(objects, walk);
		now = GetCurrentTimestamp();
		if (!ended && now - start < BUDGET_US && now >= start)
			continue;
		walk->spent_us += Max(now - start, 0);
		if (ended)
		{
			walk->going = false;
			walk->complete = true;
			walk->last_rows = walk->rows;
			walk->ended = now;
			walk->due = now + Min(Max(walk->spent_us * SHARE_OF_TIME,
									  walk->rows < PAGE_ROWS ? 0 : WALK_AGAIN_US),
								  USECS_PER_DAY);
		}
		break;
	}
	return ended;
}

void
report_walks_begin(const ExtensionObjects *objects)
{
	if (walked_table == objects->file_records)
		return;
	walked_table = objects->file_records;
	memset(&duplicates_walk, 0, sizeof(duplicates_walk));
	memset(&duplicates_next, 0, sizeof(duplicates_next));
	memset(&duplicates, 0, sizeof(duplicates));
	memset(&verified_walk, 0, sizeof(verified_walk));
	verified.n = 0;
}

void
report_walks_advance(const ExtensionObjects *objects)
{
	if (advance(objects, &duplicates_walk, walk_contents))
	{
		duplicates = duplicates_next;
		memset(&duplicates_next, 0, sizeof(duplicates_next));
	}
	if (advance(objects, &verified_walk, walk_verified))
	{
		VerifiedCounts old = verified;

		verified = verified_next;
		verified_next = old;
	}
}

void
report_walks_put_duplicates(StringInfo out, bool with_contents)
{
	const ReportWalk *walk = &duplicates_walk;
	char		ended[MAXDATELEN + 1];

	if (!walk->complete)
	{
		appendStringInfo(out, "{\"known\":false,\"rows_seen\":" INT64_FORMAT "}", walk->rows);
		return;
	}
	appendStringInfo(out, "{\"known\":true,\"as_of\":\"%s\",\"rows_seen\":" INT64_FORMAT
					 ",\"contents\":" INT64_FORMAT ",\"superfluous_files\":" INT64_FORMAT
					 ",\"wasted_bytes\":%.0f,\"largest\":",
					 JsonEncodeDateTime(ended, TimestampTzGetDatum(walk->ended), TIMESTAMPTZOID,
										NULL),
					 walk->last_rows, duplicates.contents, duplicates.superfluous,
					 duplicates.wasted_bytes);
	if (!with_contents)
	{
		appendStringInfoString(out, "null}");
		return;
	}
	appendStringInfoChar(out, '[');
	for (int i = 0; i < duplicates.n_top; i++)
	{
		const Content *content = &duplicates.top[i];

		appendStringInfo(out, "%s{\"content_hash\":\"", i > 0 ? "," : "");
		for (int j = 0; j < HASH_BYTES; j++)
			appendStringInfo(out, "%02x", content->hash[j]);
		appendStringInfo(out, "\",\"file_size\":" INT64_FORMAT ",\"copies\":" INT64_FORMAT
						 ",\"wasted_bytes\":%.0f}", content->file_size, content->copies,
						 content->wasted_bytes);
	}
	appendStringInfoString(out, "]}");
}

void
report_walks_put_verified(StringInfo out)
{
	if (!verified_walk.complete)
	{
		appendStringInfoString(out, "null");
		return;
	}
	appendStringInfoChar(out, '{');
	for (int i = 0; i < verified.n; i++)
		appendStringInfo(out, "%s\"%s\":" INT64_FORMAT, i > 0 ? "," : "",
						 functions_uuid_text(&verified.counts[i].repository_id),
						 verified.counts[i].files);
	appendStringInfoChar(out, '}');
}
