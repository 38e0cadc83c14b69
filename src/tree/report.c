/*-------------------------------------------------------------------------
 *
 * report.c
 *		Observations, onto the socket.
 *
 * Each frame of observations becomes one transaction.  While the worker is
 * busy with one, the next fills up; when it is idle, what is there goes out
 * at once.  So frames are small when changes are few and grow to batch_size
 * under load.  Nobody waits for single observations of a scan: those gather
 * until the next report of progress, and more of them go into a transaction,
 * which costs some milliseconds whatever is in it.
 *
 *-------------------------------------------------------------------------
 */
#include "checks.h"
#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Bytes waiting for the socket above which no new work is begun. */
#define REPORT_CONGESTED	(4 * 1024 * 1024)
#define REPORT_MAX_UNACKNOWLEDGED	4

/*
 * A frame is closed at this size whatever its count.  What may still go into
 * one that is nearly full, an observation or moves that go together, is
 * smaller than what the worker takes beyond it.
 */
#define REPORT_FRAME_BYTES	(1024 * 1024)

void
report_end_frame(Engine *engine)
{
	if (!engine->frame_open)
		return;
	proto_patch_u32(&engine->out, engine->frame_count_at, engine->frame_count);
	proto_end(&engine->out);
	engine->frame_open = false;
	engine->scan_shares[engine->frames_sent++ % REPORT_FRAMES] =
		(double) engine->frame_of_scan / engine->frame_count;
	engine->unacknowledged++;
	statistics_frame_sent(&engine->statistics);
}

void
report_applied(Engine *engine, int64_t cpu_us)
{
	uint32_t	frame = engine->frames_sent - engine->unacknowledged;

	engine->unacknowledged--;
	statistics_frame_applied(&engine->statistics, monotonic_us());
	engine->progress_due |= engine->statistics.changed;
	if (cpu_us > 0 && cpu_us < INT64_MAX / 1000)
		throttle_charge(&engine->throttle,
						cpu_us * 1000 * engine->scan_shares[frame % REPORT_FRAMES]);
}

/* Whether the open frame has observations of the full scan, and no others. */
static bool
of_scan_alone(const Engine *engine)
{
	return engine->frame_of_scan == engine->frame_count;
}

void
report_offer_frame(Engine *engine)
{
	if (engine->frame_open && engine->unacknowledged == 0 && !of_scan_alone(engine))
		report_end_frame(engine);
}

static bool
frame_is_full(const Engine *engine)
{
	uint64_t	max = engine->config.batch_size;

	if (of_scan_alone(engine) && !engine->full.winding_up)
		max *= PROTO_SCAN_BATCHES;
	return engine->frame_count >= max ||
		proto_offset(&engine->out) > REPORT_FRAME_BYTES;
}

bool
report_congested(const Engine *engine)
{
	return engine->unacknowledged >= REPORT_MAX_UNACKNOWLEDGED ||
		proto_buf_pending(&engine->out) > REPORT_CONGESTED;
}

/* Moves may have to stay in one frame, which moves.c knows. */
static void
put(Engine *engine, const ProtoObservation *o)
{
	if (engine->watches != NULL)
		watch_tree_examined(engine->watches);
	if (!engine->frame_open)
	{
		proto_begin(&engine->out, PROTO_OBSERVATIONS);
		engine->frame_count_at = proto_offset(&engine->out);
		proto_put_u32(&engine->out, 0);
		engine->frame_open = true;
		engine->frame_count = 0;
		engine->frame_of_scan = 0;
	}
	proto_put_observation(&engine->out, o);
	engine->frame_count++;
	statistics_change(&engine->statistics, o->scan_id == 0 ? engine->cause_us : 0);
	if (o->scan_id != 0 && o->scan_id == engine->full.id)
		engine->frame_of_scan++;
	if (o->op != PROTO_OP_MOVED && frame_is_full(engine))
		report_end_frame(engine);
	engine->progress_due = true;
}

static ProtoObservation
observation(ProtoOp op, const char *path, size_t len, int64_t scan_id)
{
	ProtoObservation o = {.op = op, .scan_id = scan_id};

	o.path.data = path;
	o.path.len = len;
	return o;
}

static void
put_file(Engine *engine, ProtoObservation *o, const ProtoStat *stat, const uint8_t *hash,
		 int64_t hashed_us)
{
	o->stat = *stat;
	o->has_hash = hash != NULL;
	if (hash)
	{
		memcpy(o->hash, hash, PROTO_HASH_LEN);
		o->hashed_us = hashed_us;
	}
	put(engine, o);
}

bool
report_room_for_moves(const Engine *engine, size_t n, size_t bytes)
{
	return !engine->frame_open ||
		(engine->frame_count + n <= PROTO_MAX_MOVES &&
		 proto_offset(&engine->out) + bytes <= REPORT_FRAME_BYTES);
}

bool
report_forget_problem(Engine *engine, const char *path, size_t len)
{
	bool		ours = problems_forget(&engine->problems, path, len);

	return problems_forget(&engine->refused, path, len) || ours;
}

void
report_file(Engine *engine, ProtoOp op, const char *path, size_t len,
			const ProtoStat *stat, const uint8_t *hash, int64_t hashed_us,
			int64_t bytes_read, int64_t scan_id)
{
	ProtoObservation o = observation(op, path, len, scan_id);

	o.bytes_read = bytes_read;
	(void) report_forget_problem(engine, path, len);	/* the worker does too */
	put_file(engine, &o, stat, hash, hashed_us);
}

void
report_moved(Engine *engine, int64_t id, const char *old_path, size_t old_len,
			 const char *path, size_t len, bool renamed, const ProtoStat *stat,
			 const uint8_t *hash, int64_t hashed_us, int64_t scan_id)
{
	ProtoObservation o = observation(PROTO_OP_MOVED, path, len, scan_id);

	o.id = id;
	o.renamed = renamed;
	o.old_path.data = old_path;
	o.old_path.len = old_len;
	(void) report_forget_problem(engine, path, len);
	problems_forget(&engine->refused, old_path, old_len);
	put_file(engine, &o, stat, hash, hashed_us);
}

void
report_removed(Engine *engine, int64_t id, ProtoGone gone, const char *path, size_t len,
			   int64_t scan_id)
{
	ProtoObservation o = observation(PROTO_OP_REMOVED, path, len, scan_id);

	o.id = id;
	o.gone = gone;
	put(engine, &o);
}

void
report_problem(Engine *engine, ProtoProblem problem, int error,
			   const char *path, size_t len, int64_t scan_id)
{
	ProtoObservation o = observation(PROTO_OP_PROBLEM, path, len, scan_id);

	o.problem = problem;
	if (error != 0)
	{
		o.message.data = strerror(error);
		o.message.len = strlen(o.message.data);
	}
	problems_note(&engine->problems, path, len);
	put(engine, &o);
}

void
report_not_watched(Engine *engine, const char *path, size_t len, const char *message)
{
	ProtoObservation o = observation(PROTO_OP_PROBLEM, path, len, 0);

	o.problem = PROTO_PROBLEM_NOT_WATCHED;
	o.message.data = message;
	o.message.len = strlen(message);
	put(engine, &o);
}

void
report_cured(Engine *engine, const char *path, size_t len, int64_t scan_id)
{
	ProtoObservation o = observation(PROTO_OP_CLEAR, path, len, scan_id);

	put(engine, &o);
}

void
report_request_beliefs(Engine *engine, const ProtoBeliefsRequest *request)
{
	report_end_frame(engine);	/* beliefs include what was sent before */
	proto_begin(&engine->out, PROTO_BELIEFS_REQUEST);
	proto_put_beliefs_request(&engine->out, request);
	proto_end(&engine->out);
}

static ProtoStr
str(const char *s)
{
	ProtoStr	r = {s, strlen(s)};

	return r;
}

void
report_state(Engine *engine, uint8_t state, const char *reason, const char *hint)
{
	WatchTreeStatus watched = {0};
	ProtoState	m = {.state = state};
	ProtoBuf	mounts;

	if (engine->watches)
		watched = *watch_tree_status(engine->watches);
	if (!engine->state_changed && engine->state == state &&
		engine->reported_directories == watched.watched &&
		strcmp(engine->reason, reason) == 0 && strcmp(engine->hint, hint) == 0)
		return;
	engine->state_changed = false;
	engine->state = state;
	engine->reported_directories = watched.watched;
	snprintf(engine->reason, sizeof(engine->reason), "%s", reason);
	snprintf(engine->hint, sizeof(engine->hint), "%s", hint);

	report_end_frame(engine);
	proto_buf_init(&mounts);
	mounts_encode(&engine->root.accepted, &mounts);
	if (mounts.len > CHECK_MOUNTS_MAX)
		mounts.len = 0;			/* thousands: told as none, they are asked about again */
	m.reason = str(engine->reason);
	m.hint = str(engine->hint);
	m.directories = watched.watched;
	m.polled = engine->root.polled || engine->reader == NULL ||
		watched.unwatched > 0;
	m.identity = str(engine->root.identity);
	m.mounts.data = mounts.data;
	m.mounts.len = mounts.failed ? 0 : mounts.len;
	proto_begin(&engine->out, PROTO_STATE);
	proto_put_state(&engine->out, &m);
	proto_end(&engine->out);
	proto_buf_free(&mounts);
}

void
report_progress(Engine *engine)
{
	const ScanRun *run = engine->full.scan ? &engine->full : &engine->asked;
	const HashJob *reading;
	ProtoProgress m = {0};
	ScanStatus	status;

	report_end_frame(engine);
	if (run->scan)
	{
		scan_status(run->scan, &status);
		m.scan_id = run->id;
		m.files_done = status.files;
		m.bytes_hashed = run->bytes_hashed + hashing_bytes_under_way(engine, run->id);
	}
	m.pending = engine->pending.table.count + engine->items.count +
		engine->n_points + engine->n_places;
	m.unread = unread_count(engine);
	m.last_event_us = engine->last_event_us;
	m.directories = engine->reported_directories;
	reading = hashing_largest(engine);
	if (reading != NULL && reading->len <= PROTO_PATH_MAX && hash_size(reading) >= 0)
	{
		m.reading.data = reading->path;
		m.reading.len = reading->len;
		m.reading_done = hash_bytes(reading);
		m.reading_size = hash_size(reading);
	}
	proto_begin(&engine->out, PROTO_PROGRESS);
	proto_put_progress(&engine->out, &m);
	proto_end(&engine->out);
	proto_begin(&engine->out, PROTO_STATISTICS);
	proto_put_statistics(&engine->out, &engine->statistics.counted);
	proto_end(&engine->out);
	engine->statistics.changed = false;
	engine->last_progress_us = monotonic_us();
	engine->progress_due = false;
}

void
report_scan_done(Engine *engine, const ScanRun *run)
{
	ProtoScanDone m = {.scan_id = run->id, .result = run->result};
	ScanStatus	status = {0};

	report_end_frame(engine);
	if (run->scan)
		scan_status(run->scan, &status);
	m.files_scanned = status.files + run->named_files;
	m.believed = status.believed;
	m.bytes_hashed = run->bytes_hashed;
	m.removals = run->removals;
	m.message = str(run->message);
	m.hint = str(run->hint);
	proto_begin(&engine->out, PROTO_SCAN_DONE);
	proto_put_scan_done(&engine->out, &m);
	proto_end(&engine->out);
	engine->progress_due = true;
}

void
engine_log(Engine *engine, char level, const char *format,...)
{
	char		message[1024];
	va_list		args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	report_end_frame(engine);
	proto_begin(&engine->out, PROTO_LOG);
	proto_put_u8(&engine->out, level);
	proto_put_str(&engine->out, message, strlen(message));
	proto_end(&engine->out);
}
