/*-------------------------------------------------------------------------
 *
 * runs_queue.c
 *		The scan of everything that the worker asked for, until it runs: it is
 *		queued, begun when its time has come, begun anew, cancelled.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often a scan is begun again because the tree changed under it. */
#define RUNS_RESTARTS		5

/* How long it waits for quiet at most, however long the debounce. */
#define RUNS_QUIET_MS		5000

static void
refuse_scan(Engine *engine, const ProtoScan *scan, const char *message)
{
	ScanRun		run = {.id = scan->scan_id, .result = PROTO_SCAN_FAILED};

	snprintf(run.message, sizeof(run.message), "%s", message);
	snprintf(run.hint, sizeof(run.hint), "%.255s", engine->hint);
	report_scan_done(engine, &run);
}

/* Starts the scan of everything that is queued, when its time has come. */
void
runs_start_queued(Engine *engine)
{
	ProtoScan  *scan = &engine->queued_scan;
	ScanPlace  *place;
	size_t		n = 1;
	RootTrouble trouble;

	if (!engine->scan_queued || engine->building || engine->resolving ||
		engine->full.scan != NULL || engine->scan_due_us > monotonic_us())
		return;
	if (engine->scan_restarts > 0 && engine->restart_due_us > monotonic_us() &&
		(engine->pending.table.count > 0 || engine->n_places > 0 ||
		 engine->partial.scan != NULL || engine->inspecting))
		return;
	trouble = root_open(&engine->root, false);
	if (trouble == ROOT_STARVED)
	{
		engine->scan_due_us = shortage_note(&engine->shortage, errno);
		return;
	}
	if (trouble != ROOT_OK)
	{
		engine->scan_queued = false;
		engine_root_trouble(engine, trouble);
		refuse_scan(engine, scan, engine->reason);
		return;
	}
	place = calloc(1, sizeof(ScanPlace));
	if (place == NULL || (place->path = strdup("")) == NULL)
	{
		free(place);
		engine->scan_due_us = shortage_note(&engine->shortage, ENOMEM);
		return;
	}
	if (scan->flags & PROTO_SCAN_FORCE)
	{
		changes_look_at_mounts(engine);
		root_accept_mounts(&engine->root);
		engine->state_changed = true;
	}
	engine->full.id = scan->scan_id;
	engine->full.flags = scan->flags;
	engine->full.threshold = scan->mass_delete_threshold;
	engine->full.epoch = EPOCH_NONE;
	if (!runs_begin(engine, &engine->full, place, &n))
	{
		free(place->path);
		free(place);
		engine->full.id = 0;
		return;
	}
	engine->scan_queued = false;
	engine->heal_scan_runs = engine->healing;
}

void
runs_start_scan(Engine *engine, const ProtoScan *scan)
{
	if (engine->scan_queued)
		refuse_scan(engine, &engine->queued_scan, "another scan took its place");
	engine->queued_scan = *scan;
	engine->scan_queued = true;
	engine->scan_restarts = 0;
}

/* The full scan is to begin anew; the run is over. */
void
runs_queue_again(Engine *engine, ScanRun *run)
{
	engine->queued_scan.scan_id = run->id;
	engine->queued_scan.flags = run->flags;
	engine->queued_scan.mass_delete_threshold = run->threshold;
	engine->scan_queued = true;
	runs_forget(run);
}

/*
 * So much seems to be gone that force would be asked for; but names were seen
 * to go while the scan ran, and what it missed may be there under other names,
 * or be removed by now and no news.  It begins anew, once the tree is quiet or
 * has had the time.
 */
bool
runs_restart(Engine *engine, ScanRun *run)
{
	if (engine->departures == run->departures || engine->scan_queued ||
		engine->scan_restarts == RUNS_RESTARTS)
		return false;
	runs_queue_again(engine, run);
	engine->scan_restarts++;
	engine->restart_due_us = monotonic_us() + INT64_C(1000) *
		(engine->config.debounce_max_ms < RUNS_QUIET_MS ? engine->config.debounce_max_ms :
		 RUNS_QUIET_MS);
	return true;
}

void
runs_cancel_scan(Engine *engine, int64_t scan_id)
{
	ScanRun    *run;

	if (engine->scan_queued && engine->queued_scan.scan_id == scan_id)
	{
		engine->scan_queued = false;
		refuse_scan(engine, &engine->queued_scan, "cancelled");
	}
	run = engine->asked_place != NULL && engine->asked.id == scan_id ? &engine->asked :
		&engine->full;
	if (run->id != scan_id || (run->scan == NULL && run == &engine->full))
		return;
	run->drained = true;
	run->result = PROTO_SCAN_CANCELLED;
	snprintf(run->message, sizeof(run->message), "cancelled");
	if (run->scan == NULL)
	{
		report_scan_done(engine, run);
		asked_forget(engine);
		return;
	}
	scan_cancel(run->scan);
	hashing_drop_scan(engine, scan_id);
	inspect_drop_scan(engine, scan_id);
	pending_drop_scan(&engine->pending, scan_id);
	halves_drop_scan(&engine->halves, scan_id);
}
