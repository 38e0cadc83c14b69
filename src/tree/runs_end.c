/*-------------------------------------------------------------------------
 *
 * runs_end.c
 *		What follows from the end of a scan: problems that are no more, what it
 *		has made good, who is told.  Or it is made again.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <stdio.h>

typedef struct Cure
{
	Engine	   *engine;
	Scan	   *scan;
} Cure;

static bool
cure_covers(void *arg, const char *path, size_t len)
{
	return scan_covers(((Cure *) arg)->scan, path, len);
}

static bool
cure_gone(void *arg, const char *path, size_t len)
{
	return cure_covers(arg, path, len) && refused_has_gone(((Cure *) arg)->engine, path, len);
}

static void
cure_report(void *arg, const char *path, size_t len)
{
	report_cured(((Cure *) arg)->engine, path, len, 0);
}

/*
 * The scan failed for want of something: it is made again when it is there.  False
 * if it failed for another reason.
 */
static bool
put_off_run(Engine *engine, ScanRun *run)
{
	const ScanPlace *places;
	size_t		n;

	if (run->result != PROTO_SCAN_FAILED || !shortage_is(run->error))
		return false;
	engine->scan_due_us = shortage_note(&engine->shortage, run->error);
	if (runs_is_full(engine, run))
	{
		if (engine->scan_queued)
			return false;		/* by the one that waits already */
		runs_queue_again(engine, run);
		return true;
	}
	if (run->id != 0)
	{
		asked_again(engine);
		return true;
	}
	places = scan_places_of(run->scan, &n);
	for (size_t i = 0; i < n; i++)
	{
		if (places[i].local)
			changes_want_local_subtree(engine, places[i].path, places[i].len, run->epoch);
		else
			changes_want_subtree(engine, places[i].path, places[i].len, run->epoch);
	}
	if (run->news < engine->places_news)
		engine->places_news = run->news;
	runs_forget(run);
	return true;
}

void
runs_end(Engine *engine, ScanRun *run)
{
	Cure		cure = {engine, run->scan};
	ScanStatus	status;

	if (put_off_run(engine, run))
		return;

	/* Events were lost meanwhile: what it stands for is not known until that is
	 * made good. */
	if (run == &engine->asked && engine->healing && run->result == PROTO_SCAN_COMPLETE)
	{
		asked_again(engine);
		return;
	}

	/* what was scanned is of no interest if the path does not lead there */
	if (run->id != 0 && run->result == PROTO_SCAN_COMPLETE && !engine_check_path(engine) &&
		engine->exit_status >= 0)
	{
		run->result = PROTO_SCAN_FAILED;
		snprintf(run->message, sizeof(run->message), "%.255s", engine->reason);
		snprintf(run->hint, sizeof(run->hint), "%.255s", engine->hint);
	}

	/* files that went out unexamined have been noted by now */
	scan_status(run->scan, &status);
	if (run->result == PROTO_SCAN_COMPLETE && status.direct && run->links_round != 0)
		links_searched(engine->links, run->links_round);
	if (run->result == PROTO_SCAN_COMPLETE)
	{
		problems_expire(&engine->problems, run->round, cure_covers, cure_report, &cure);
		if (engine->refused.table.count > 0 && root_open(&engine->root, false) == ROOT_OK)
		{
			problems_expire(&engine->refused, problems_next_round(&engine->refused), cure_gone,
							cure_report, &cure);
			spelling_forget(engine->spelling);
		}
	}
	if (!runs_is_full(engine, run) && run->result == PROTO_SCAN_COMPLETE)
		hashing_look_for_files(engine, run->scan);
	if (runs_is_full(engine, run) && run->result == PROTO_SCAN_COMPLETE)
	{
		engine->root.replaced = false;
		changes_scanned(engine, run->times_blind);
		hash_pool_forget(engine->pool);
	}
	if (runs_is_full(engine, run))
	{
		if (engine->heal_scan_runs && run->result == PROTO_SCAN_COMPLETE)
		{
			engine_log(engine, 'L', "everything has been compared after events were lost");
			engine->healing = engine->heal_scan_runs = false;
		}
		unwatched_report(engine, true);
		report_scan_done(engine, run);
	}
	else if (run->id != 0)
	{
		report_scan_done(engine, run);
		asked_forget(engine);
		return;
	}
	else if (run->result != PROTO_SCAN_COMPLETE)
		changes_heal(engine, run->message);
	else if (run->news < engine->resolve_news)
		engine->resolve_news = run->news;	/* of what cannot be looked at yet */
	runs_forget(run);
}
