/*-------------------------------------------------------------------------
 *
 * worker_totals.c
 *		Counts rows, where the totals of a repository are not known.
 *
 * That is so when the worker starts, and after others have written file_records.
 * Pages of rows are counted in the order of their paths, one in a turn of the
 * loop, so that nobody waits longer than for a page; meanwhile sessions count
 * for themselves.  What is written behind the last page's end goes to both, the
 * table and the count (totals.c).  Where others write all the time, a count
 * rests ten times as long as it took.
 *
 * A scan reads all rows anyway, in the same order, so that is a count as well:
 * one that is spared the worker at its start, and later one that proves the
 * totals.  They have never been wrong if nothing is amiss.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "beliefs.h"
#include "path_key.h"
#include "shown.h"
#include "worker.h"

#define PAGE_ROWS			5000

/* A scan that has asked for no page for so long keeps nobody from counting. */
#define SCAN_PATIENCE_MS	1000

/* How long a count rests after one that others have spoilt. */
#define REST_FACTOR			10
#define REST_MIN_MS			100
#define REST_MAX_MS			60000

/* After an error, and where the sum is out of range. */
#define RETRY_MS			60000

/* How often it is looked whether a prepared transaction is gone. */
#define DOUBT_MS			1000

#define PAGE(condition) \
	"SELECT count(*), coalesce(sum(s.file_size), 0)::int8, max(s.file_path)" \
	" FROM (SELECT file_size, file_path FROM %1$s.file_records" \
	" WHERE repository_id = $1 AND missing_since IS NULL AND " condition \
	" ORDER BY file_path LIMIT $3) s"

static SessionPlan first_page_plan = {
	.sql = PAGE("file_path >= $2"),
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, INT8OID},
	.index_only = true,
};

static SessionPlan next_page_plan = {
	.sql = PAGE("file_path > $2"),
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, INT8OID},
	.index_only = true,
};

static SessionPlan prepared_plan = {
	.sql = "SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'relation'"
	" AND database = $1 AND relation IN ($2, $3) AND pid IS NULL"
	" AND mode IN ('RowExclusiveLock', 'AccessExclusiveLock') LIMIT 1",
	.nargs = 3,
	.argtypes = {OIDOID, OIDOID, OIDOID},
};

static int64 doubt_at = 0;		/* when to look for prepared transactions */

/* ---------------------------------------------------------------------
 * A count
 * ---------------------------------------------------------------------
 */

static void
begin_count(TotalsCount *count, uint64 writes)
{
	count->going = true;
	count->empty = true;
	count->writes = writes;
	memset(&count->sum, 0, sizeof(count->sum));
}

/* The rows behind the last page; false: the sum is out of range. */
static bool
add_page(WorkerRepository *repository, TotalsCount *count, const BeliefsSeen *page)
{
	if (pg_add_s64_overflow(count->sum.files, page->rows, &count->sum.files) ||
		pg_add_s64_overflow(count->sum.bytes, page->bytes, &count->sum.bytes))
	{
		count->going = false;
		return false;
	}
	if (page->rows == 0)
		return true;
	if (count->path != NULL)
		pfree(count->path);
	count->path = MemoryContextAlloc(repository->context, page->path.len + 1);
	memcpy(count->path, page->path.data, page->path.len);
	count->len = page->path.len;
	count->empty = false;
	return true;
}

/* All rows have been counted; false: others wrote meanwhile. */
static bool
end_count(WorkerRepository *repository, TotalsCount *count)
{
	Totals		before;
	bool		differ;

	count->going = false;
	if (!totals_set(&repository->row->id, count, &differ, &before))
		return false;
	if (differ)
		ereport(LOG,
				(errmsg("the totals of repository \"%s\" were wrong", shown_path(repository->row->root)),
				 errdetail("They were " INT64_FORMAT " files and " INT64_FORMAT " bytes, and are now "
						   INT64_FORMAT " and " INT64_FORMAT ".", before.files, before.bytes,
						   count->sum.files, count->sum.bytes)));
	return true;
}

/* ---------------------------------------------------------------------
 * By scans
 * ---------------------------------------------------------------------
 */

void
totals_scan_page(WorkerRepository *repository, const ProtoBeliefsRequest *request,
				 const BeliefsSeen *page, uint64 writes)
{
	TotalsCount *count = &repository->totals.counts[TOTALS_BY_SCAN];
	ProtoStr	to = {count->path, count->len};

	if (request->kind != PROTO_BELIEFS_RANGE || request->before.len > 0 ||
		repository->run.phase != RUN_RUNNING)
		return;
	if (request->inclusive && request->after.len == 0)
		begin_count(count, writes);
	else if (!count->going || request->inclusive || count->empty ||
			 !path_equal(request->after, to))
		return;
	repository->scan_counted_at = clock_ms();
	if (add_page(repository, count, page) && page->last)
		(void) end_count(repository, count);
}

/* ---------------------------------------------------------------------
 * By pages
 * ---------------------------------------------------------------------
 */

static void
page_work(WorkerRepository *repository, void *arg)
{
	const TotalsCount *count = &repository->totals.counts[TOTALS_BY_PAGES];
	BeliefsSeen *page = arg;
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3];
	Datum		row[3];
	bool		isnull;

	page->last = true;
	if (!session_begin(&worker_objects, "fsync: counting file_records"))
		return;
	values[0] = UUIDPGetDatum(&repository->row->id);
	values[1] = PointerGetDatum(cstring_to_text_with_len(count->empty ? "" : count->path,
														 count->empty ? 0 : count->len));
	values[2] = Int64GetDatum(PAGE_ROWS);
	(void) session_execute(&worker_objects, count->empty ? &first_page_plan : &next_page_plan,
						   values, NULL, SPI_OK_SELECT);
	for (int i = 0; i < 3; i++)
		row[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	page->rows = DatumGetInt64(row[0]);
	page->bytes = DatumGetInt64(row[1]);
	page->last = page->rows < PAGE_ROWS;
	if (!isnull)
	{
		text	   *path = DatumGetTextPP(row[2]);

		page->path.len = VARSIZE_ANY_EXHDR(path);
		page->path.data = MemoryContextAlloc(context, page->path.len + 1);
		memcpy((char *) page->path.data, VARDATA_ANY(path), page->path.len);
	}
	session_commit();
}

/* When it is to be counted. */
static int64
due(const WorkerRepository *repository)
{
	if (repository->stalled || !state_is_published(repository) ||
		totals_are_known(&repository->row->id))
		return NEVER;
	if (repository->run.phase == RUN_RUNNING &&
		repository->totals.counts[TOTALS_BY_SCAN].going)
		return Max(repository->count_at, repository->scan_counted_at + SCAN_PATIENCE_MS);
	return repository->count_at;
}

static void
rest(WorkerRepository *repository, int64 now)
{
	int64		took = now - repository->count_began_at;

	repository->count_at = now + Min(Max(took * REST_FACTOR, REST_MIN_MS), REST_MAX_MS);
}

static void
count_page(WorkerRepository *repository)
{
	TotalsCount *count = &repository->totals.counts[TOTALS_BY_PAGES];
	uint64		writes = totals_writes();
	BeliefsSeen page = {0};
	bool		failed;

	if (count->going && count->writes != writes)
	{
		count->going = false;
		rest(repository, clock_ms());
		return;
	}
	if (!count->going)
	{
		begin_count(count, writes);
		repository->count_began_at = clock_ms();
	}
	failed = worker_try(repository, page_work, &page) != NULL ||
		!add_page(repository, count, &page);
	if (failed)
	{
		count->going = false;
		repository->count_at = clock_ms() + RETRY_MS;
	}
	else if (page.last)
	{
		(void) end_count(repository, count);
		rest(repository, clock_ms());
	}
}

/* ---------------------------------------------------------------------
 * The loop
 * ---------------------------------------------------------------------
 */

static void
prepared_work(WorkerRepository *repository, void *arg)
{
	bool	   *prepared = arg;
	Datum		values[3];

	*prepared = true;
	if (!session_begin(&worker_objects, "fsync: looking for prepared transactions"))
		return;
	values[0] = ObjectIdGetDatum(MyDatabaseId);
	values[1] = ObjectIdGetDatum(worker_objects.file_records);
	values[2] = ObjectIdGetDatum(worker_objects.problems);
	*prepared = session_execute(&worker_objects, &prepared_plan, values, NULL,
								SPI_OK_SELECT) > 0;
	session_commit();
}

/* While a prepared transaction may have written, counting is of no use. */
static bool
is_in_doubt(int64 now, int64 *deadline)
{
	uint32		doubts;
	bool		prepared;

	if (!totals_are_in_doubt(&doubts))
		return false;
	if (now >= doubt_at)
	{
		if (worker_try(NULL, prepared_work, &prepared) == NULL && !prepared)
		{
			totals_are_certain(doubts);
			worker_request_reload();	/* a history may have ended with it */
			return false;
		}
		doubt_at = clock_ms() + DOUBT_MS;
	}
	lower_deadline(deadline, doubt_at);
	return true;
}

void
totals_advance(int64 now, int64 *deadline)
{
	WorkerRepository *first = NULL;
	ListCell   *lc;

	if (worker_repositories == NIL || is_in_doubt(now, deadline))
		return;
	foreach(lc, worker_repositories)
	{
		WorkerRepository *repository = lfirst(lc);
		int64		at = due(repository);

		if (at > now)
			lower_deadline(deadline, at);
		else if (first == NULL)
			first = repository;
	}
	if (first == NULL)
		return;
	count_page(first);
	lower_deadline(deadline, now);
}
