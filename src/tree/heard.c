/*-------------------------------------------------------------------------
 *
 * heard.c
 *		What is still to be heard of ends of renames that wait.
 *
 * A rename's events are queued before it is over, and a look that finds the
 * old name absent waits for the rename to be over.  So when a row's file was
 * seen to have left, and the kernel's queue was read after that, where the
 * file had come to by then is known: as a name, a directory or a place that
 * is to be looked at.  When all of these were looked at and none had that
 * file, it has left the tree, whatever else goes on there meanwhile.  If it
 * has moved on from one of them before that was looked at, the name that it
 * came to takes the place of the other (changes.c), and where no event tells
 * which file it was, but a scan had seen it, who waits for it waits anew.
 *
 * A file that has come waits in the same way for the name that it has left.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#define HEARD_RETRY_US		100000

uint64_t
heard_oldest(const Engine *engine)
{
	uint64_t	oldest = pending_min_news(&engine->pending);
	bool		touched = engine->resolving ||
		(engine->watches != NULL && watch_tree_left(engine->watches));

	/* What was lost, only the scan that makes up for it can find. */
	if (engine->healing &&
		!(engine->heal_scan_runs && engine->full.scan != NULL && engine->full.drained))
		return 0;
	if (touched && engine->resolve_news < oldest)
		oldest = engine->resolve_news;
	if (engine->n_places > 0 && engine->places_news < oldest)
		oldest = engine->places_news;

	/* Where its directories have come to meanwhile counts as what it looked at. */
	if (engine->partial.scan != NULL && (touched || !engine->partial.drained) &&
		engine->partial.news < oldest)
		oldest = engine->partial.news;
	return oldest;
}

/* Whether the scan of this id has found more than was taken. */
static bool
is_undrained(const ScanRun *run, int64_t scan_id)
{
	return scan_id != 0 && scan_id == run->id && run->scan != NULL && !run->drained;
}

bool
heard_all(const Engine *engine, uint64_t oldest, uint64_t news, int64_t scan_id)
{
	return oldest > news && !is_undrained(&engine->full, scan_id) &&
		!is_undrained(&engine->asked, scan_id);
}

void
heard_leave_to_places(Engine *engine, uint64_t news)
{
	if (engine->n_places > 0 && news < engine->places_news)
		engine->places_news = news;
	if (engine->partial.scan != NULL && news < engine->partial.news)
		engine->partial.news = news;
}

/*
 * When what could not be looked at is to be tried again, as somebody waits for
 * it: its event may be late, or a descriptor was not to be had.  INT64_MAX: no.
 */
int64_t
heard_retry_due(const Engine *engine)
{
	return engine->halves.waiting.first != NULL && engine->watches != NULL &&
		!engine->resolving && watch_tree_left(engine->watches) ?
		engine->left_due_us : INT64_MAX;
}

void
heard_retry(Engine *engine)
{
	int64_t		now = monotonic_us();

	if (heard_retry_due(engine) > now)
		return;
	engine->left_due_us = now + HEARD_RETRY_US;
	changes_must_resolve(engine);
}

/* ---- taking them ---- */

/*
 * Makes a point of it, and forgets it.  False: it stays, as its directory has
 * no place now.
 */
static bool
take(Engine *engine, Half *half)
{
	bool		gone;
	Point	   *p = inspect_add_name(engine, half->node, half->name, half->name_len,
									 half->hints, half->epoch, half->scan_id, &gone);

	if (p == NULL && (!gone || engine->resolving))
		return false;
	if (gone)
		heard_leave_to_places(engine, half->news);
	else
	{
		p->retries = half->retries;
		p->since_us = half->since_us;
		p->news = p->waited = half->news;
		for (int kind = 0; kind < HALF_KINDS; kind++)
		{
			p->seen[kind] = half->ends[kind].half != NULL;
			p->files[kind] = half->ends[kind].file;
		}
	}
	halves_remove(&engine->halves, half);
	return true;
}

static bool
take_with_partner(Engine *engine, Half *half)
{
	Half	   *partner = half->partner;

	return take(engine, half) && (partner == NULL || take(engine, partner));
}

/* The first that has waited long enough. */
static Half *
first_ready(const Engine *engine)
{
	uint64_t	oldest = engine->halves.waiting.first ? heard_oldest(engine) : 0;

	for (Half *h = engine->halves.waiting.first; h != NULL && h->news < oldest; h = h->next)
		if (heard_all(engine, oldest, h->news, h->scan_id))
			return h;
	return NULL;
}

bool
heard_ready(const Engine *engine)
{
	return !engine->resolving &&
		(engine->halves.met.first != NULL || first_ready(engine) != NULL);
}

void
heard_take(Engine *engine, size_t max)
{
	Half	   *half;

	if (engine->resolving)
		return;
	while (engine->n_points < max && (half = engine->halves.met.first) != NULL)
		if (!take_with_partner(engine, half))
			return;
	half = engine->n_points < max ? first_ready(engine) : NULL;
	if (half != NULL)
	{
		uint64_t	oldest = heard_oldest(engine);
		Half	   *next;

		for (; half != NULL && half->news < oldest && engine->n_points < max; half = next)
		{
			next = half->next;
			if (heard_all(engine, oldest, half->news, half->scan_id) &&
				!take(engine, half))
				return;
		}
	}
}

void
heard_take_name(Engine *engine, uint64_t node, const char *name, size_t len)
{
	Half	   *half = halves_of_name(&engine->halves, node, name, len);

	if (half != NULL)
		(void) take_with_partner(engine, half);
}

void
heard_take_other_end(Engine *engine, const Candidate *candidate)
{
	HalfKind	kind = candidate->kind == CANDIDATE_REMOVED ? HALF_CAME : HALF_LEFT;
	HalfFile	file = {
		candidate->inode, candidate->btime_ns, candidate->size, candidate->mtime_ns
	};
	Half	   *half = halves_find(&engine->halves, kind, &file);

	if (half != NULL)
		(void) take_with_partner(engine, half);
}

bool
heard_wanted(const Engine *engine, uint64_t news, uint64_t epoch)
{
	for (const Half *h = engine->halves.waiting.first; h != NULL; h = h->next)
		if (h->news >= news && (h->epoch <= epoch || h->scan_id != 0))
			return true;
	return false;
}
