/*-------------------------------------------------------------------------
 *
 * worker_messages.c
 *		What fsync-tree says: its frames, in their order.
 *
 * A frame is done when its consequences are committed.  One that the database
 * cannot take now is kept where it is, in the receive buffer, and nothing more
 * is read from that socket until it is done: fsync-tree feels it as a full
 * socket, other repositories not at all.
 *
 * fsync-tree reads what strangers wrote, so it may say anything.  What it may
 * not say (tree/talk.h) ends it before anything of that frame is used, and it
 * has no more than its share of the worker: of its memory, as nothing is read
 * while it does not take its answers, and of its time, as a turn does what fits
 * into some milliseconds.  A single frame can take longer; who sent it then
 * rests as long, while a session waits for another repository.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "miscadmin.h"

#include "beliefs.h"
#include "shown.h"
#include "worker.h"

/* Answers that wait to be sent from which on no frame is taken. */
#define UNSENT_MAX		(8 * 1024 * 1024)

/* What a repository has of a turn, and how long it rests at most. */
#define SHARE_MS		20
#define REST_MAX_MS		500

typedef enum FrameResult
{
	FRAME_DONE,
	FRAME_STALLED,				/* to be done again later */
	FRAME_BAD,					/* what talk_hear() should have found */
} FrameResult;

/* ---------------------------------------------------------------------
 * Observations and beliefs
 * ---------------------------------------------------------------------
 */

typedef struct ApplyWork
{
	ProtoReader body;
	int64		generation;
	int64		place_scan;
	ApplyResult result;
	bool		found;
} ApplyWork;

static void
apply_work(WorkerRepository *repository, void *arg)
{
	ApplyWork  *work = arg;

	work->found = apply_observations(&worker_objects, &repository->row->id,
									 repository->row->created_at, repository->row->root,
									 work->generation, work->place_scan, work->body,
									 repository->held.paths, &work->result);
}

static void
accept_work(WorkerRepository *repository, void *arg)
{
	operations_accept_root(&worker_objects, &repository->row->id, repository->row->root,
						   repository->identity.data);
}

/*
 * A directory that was not there when it was registered is accepted with the first
 * that is found in it: from then on there are rows to lose.  False when it is to
 * be called again.
 */
static bool
accept_root(WorkerRepository *repository)
{
	RepositoryRow *row = repository->row;

	if (row->identity[0] != '\0' || repository->identity.len == 0)
		return true;
	if (worker_database_work(repository, accept_work, NULL) != 0)
		return false;
	row->identity = MemoryContextStrdup(row->context, repository->identity.data);
	return true;
}

static void
count_commit(const WorkerRepository *repository, const ApplyResult *result)
{
	const ApplyCounts *const parts[] = {&result->realtime, &result->scan, &result->place};
	RepositoryCounters more = {.commits = 1};

	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		more.files_added += parts[i]->added;
		more.files_updated += parts[i]->updated;
		more.files_moved += parts[i]->moved;
		more.files_removed += parts[i]->removed;
	}
	counters_add(&repository->row->id, &more);
}

static FrameResult
take_observations(WorkerRepository *repository, ProtoReader body)
{
	ApplyWork	work = {.body = body};
	int			error;

	if (!accept_root(repository))
		return FRAME_STALLED;
	work.generation = runs_generation(repository);
	if (repository->place.phase == RUN_RUNNING)
		work.place_scan = repository->place.operation_id;
	error = worker_database_work(repository, apply_work, &work);
	if (error == ERRCODE_BAD_MESSAGE)
		return FRAME_BAD;
	if (error != 0)
		return FRAME_STALLED;
	if (work.found)
	{
		count_commit(repository, &work.result);
		runs_count(repository, &work.result, body);
	}
	else
		worker_request_reload();
	if (work.result.marked)
		repository->purge_at = Min(repository->purge_at, clock_ms() + PURGE_DELAY_MS);

	if (work.result.n_refused > 0)
	{
		proto_begin(&repository->tree.out, PROTO_REFUSED);
		proto_put_u32(&repository->tree.out, (uint32) work.result.n_refused);
		for (int i = 0; i < work.result.n_refused; i++)
			proto_put_str(&repository->tree.out, work.result.refused[i].data,
						  work.result.refused[i].len);
		proto_end(&repository->tree.out);
		pfree(work.result.refused);
	}
	held_add(repository, &work.result);
	proto_begin(&repository->tree.out, PROTO_APPLIED);
	proto_put_i64(&repository->tree.out, session_cpu_lap());
	proto_end(&repository->tree.out);
	process_send(repository);
	return FRAME_DONE;
}

typedef struct BeliefsWork
{
	const ProtoBeliefsRequest *request;
	ProtoBuf   *out;
	bool		found;
} BeliefsWork;

/* Rows that a user wrote and no file can have are removed on the way. */

static void
beliefs_work(WorkerRepository *repository, void *arg)
{
	BeliefsWork *work = arg;
	List	   *impossible = NIL;
	uint64		writes = totals_writes();
	BeliefsSeen seen;

	work->found = beliefs_answer(&worker_objects, &repository->row->id,
								 work->request, &impossible, &seen, work->out);
	if (impossible != NIL)
		work->found = apply_remove_impossible(&worker_objects, &repository->row->id,
											  impossible) &&
			beliefs_answer(&worker_objects, &repository->row->id, work->request, NULL,
						   &seen, work->out);
	if (work->found)
		totals_scan_page(repository, work->request, &seen, writes);
}

static FrameResult
take_beliefs_request(WorkerRepository *repository, ProtoReader body)
{
	ProtoBeliefsRequest request;
	BeliefsWork work = {.request = &request, .out = &repository->tree.out};

	if (!proto_get_beliefs_request(&body, &request))
		return FRAME_BAD;
	if (worker_database_work(repository, beliefs_work, &work) != 0)
		return FRAME_STALLED;
	if (!work.found)
		worker_request_reload();
	process_send(repository);
	return FRAME_DONE;
}

/* ---------------------------------------------------------------------
 * State and progress
 * ---------------------------------------------------------------------
 */

/* Once in a worker's life, for it is the same for all its processes. */
static void
log_missing(const char *missing)
{
	static char logged[STATUS_SANDBOX_LEN];

	if (strcmp(missing, logged) == 0)
		return;
	strlcpy(logged, missing, sizeof(logged));
	if (missing[0] != '\0')
		ereport(LOG,
				(errmsg("the sandbox of fsync-tree is not complete: there is no %s", missing),
				 errhint("fsync.require_sandbox = on refuses to go on without.")));
}

static FrameResult
take_hello(WorkerRepository *repository, ProtoReader body)
{
	uint32		version = proto_get_u32(&body);
	ProtoStr	missing;

	if (version != PROTO_VERSION)
	{
		process_fail(repository, "fsync-tree is of another version than the library",
					 "Install both from one package, and restart the server.");
		return FRAME_DONE;
	}
	missing = proto_get_str(&body);
	if (body.failed)
		return FRAME_BAD;
	worker_copy_text(repository->missing, sizeof(repository->missing), missing);
	repository->greeted = true;
	log_missing(repository->missing);
	return FRAME_DONE;
}

static void
copy_bytes(StringInfo to, ProtoStr from)
{
	resetStringInfo(to);
	appendBinaryStringInfo(to, from.data, from.len);
}

static ProtoStr
accepted_mounts(const Talk *talk)
{
	ProtoStr	mounts = {talk->mounts.data, talk->mounts.len};

	return mounts;
}

static FrameResult
take_state(WorkerRepository *repository, ProtoReader body)
{
	ProtoState	state;
	bool		was_unavailable = repository->tree_state == PROTO_STATE_UNAVAILABLE;

	if (!proto_get_state(&body, &state))
		return FRAME_BAD;

	repository->tree_state = state.state;
	worker_copy_text(repository->tree_condition.reason,
					 sizeof(repository->tree_condition.reason), state.reason);
	worker_copy_text(repository->tree_condition.hint,
					 sizeof(repository->tree_condition.hint), state.hint);
	repository->polled = state.polled;
	repository->directories = state.directories;
	copy_bytes(&repository->identity, state.identity);
	copy_bytes(&repository->mounts, accepted_mounts(&repository->tree.talk));

	if (state.state != PROTO_STATE_STARTING)
	{
		repository->reported = true;
		worker_set_condition(&repository->trouble, NULL, NULL);
	}
	if (was_unavailable && state.state != PROTO_STATE_UNAVAILABLE &&
		!runs_is_healed(repository))
		runs_want(repository, false, true, false, "the root is available again", 0);
	return FRAME_DONE;
}

static FrameResult
take_progress(WorkerRepository *repository, ProtoReader body)
{
	ProtoProgress progress;

	if (!proto_get_progress(&body, &progress))
		return FRAME_BAD;
	repository->pending = progress.pending;
	repository->directories = progress.directories;
	worker_copy_text(repository->reading, sizeof(repository->reading), progress.reading);
	repository->reading_done = progress.reading_done;
	repository->reading_size = progress.reading_size;
	repository->unread = progress.unread;
	if (progress.last_event_us != 0)
		repository->last_event = Min(progress.last_event_us -
									 (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
									 USECS_PER_DAY, GetCurrentTimestamp());
	if (repository->run.phase == RUN_RUNNING &&
		progress.scan_id == repository->run.operation_id)
	{
		repository->run.files_done = progress.files_done;
		repository->run.bytes_done = progress.bytes_hashed;
	}
	if (repository->place.phase == RUN_RUNNING &&
		progress.scan_id == repository->place.operation_id)
	{
		repository->place.files_done = progress.files_done;
		repository->place.bytes_done = progress.bytes_hashed;
	}
	return FRAME_DONE;
}

/* Adds what has been counted since the last message. */
static FrameResult
take_statistics(WorkerRepository *repository, ProtoReader body)
{
	ProtoStatistics now;
	ProtoStatistics *before = &repository->statistics;
	RepositoryCounters more = {0};

	if (!proto_get_statistics(&body, &now))
		return FRAME_BAD;
	more.events = now.events - before->events;
	more.overflows = now.overflows - before->overflows;
	more.inspections = now.inspections - before->inspections;
	more.files_hashed = now.files_hashed - before->files_hashed;
	more.bytes_hashed = now.bytes_hashed - before->bytes_hashed;
	for (int i = 0; i < LAG_BUCKETS; i++)
		more.lag[i] = now.lag[i] - before->lag[i];
	*before = now;
	counters_add(&repository->row->id, &more);
	return FRAME_DONE;
}

static FrameResult
take_log(WorkerRepository *repository, ProtoReader body)
{
	uint8		level = proto_get_u8(&body);
	ProtoStr	message = proto_get_str(&body);
	char		text[1024];
	int64		left_out;

	if (body.failed)
		return FRAME_BAD;
	if (!worker_may_log(&repository->log_said, &left_out))
		return FRAME_DONE;
	worker_copy_text(text, sizeof(text), message);
	ereport(level == 'W' ? WARNING : level == 'L' ? LOG : DEBUG1,
			(errmsg("repository \"%s\": %s", shown_path(repository->row->root), text),
			 left_out > 0 ?
			 errdetail("Messages of its fsync-tree that were left out before: " INT64_FORMAT ".",
					   left_out) : 0));
	return FRAME_DONE;
}

/* ---------------------------------------------------------------------
 * Runs and barriers
 * ---------------------------------------------------------------------
 */

static FrameResult
take_scan_wanted(WorkerRepository *repository, ProtoReader body)
{
	ProtoStr	reason = proto_get_str(&body);
	char		text[STATUS_TEXT_LEN];

	if (body.failed)
		return FRAME_BAD;
	worker_copy_text(text, sizeof(text), reason);
	runs_events_lost(repository, text);
	return FRAME_DONE;
}

static FrameResult
take_watches_wanted(WorkerRepository *repository, ProtoReader body)
{
	int64		wanted = proto_get_i64(&body);

	if (body.failed)
		return FRAME_BAD;
	process_grant_watches(repository, wanted);
	proto_begin(&repository->tree.out, PROTO_WATCHES);
	proto_put_i64(&repository->tree.out, repository->watches);
	proto_end(&repository->tree.out);
	process_send(repository);
	return FRAME_DONE;
}

static FrameResult
take_scan_done(WorkerRepository *repository, ProtoReader body)
{
	ProtoScanDone done;

	if (!proto_get_scan_done(&body, &done))
		return FRAME_BAD;
	return runs_scan_done(repository, &done) ? FRAME_DONE : FRAME_STALLED;
}

static FrameResult
take_verified(WorkerRepository *repository, ProtoReader body)
{
	ProtoVerifiedHeader header;
	int			error;

	if (!proto_get_verified_header(&body, &header))
		return FRAME_BAD;
	error = verify_verdicts(repository, &header, body);
	if (error == ERRCODE_BAD_MESSAGE)
		return FRAME_BAD;
	return error == 0 ? FRAME_DONE : FRAME_STALLED;
}

static FrameResult
take_flushed(WorkerRepository *repository, ProtoReader body)
{
	int64		token = proto_get_i64(&body);
	uint8		result = proto_get_u8(&body);

	if (body.failed || result > PROTO_FLUSH_IN_VAIN)
		return FRAME_BAD;
	return flush_answered(repository, token, result) ? FRAME_DONE : FRAME_STALLED;
}

static FrameResult
take_frame(WorkerRepository *repository, uint8 type, ProtoReader body)
{
	switch (type)
	{
		case PROTO_HELLO:
			return take_hello(repository, body);
		case PROTO_STATE:
			return take_state(repository, body);
		case PROTO_BELIEFS_REQUEST:
			return take_beliefs_request(repository, body);
		case PROTO_OBSERVATIONS:
			return take_observations(repository, body);
		case PROTO_PROGRESS:
			return take_progress(repository, body);
		case PROTO_STATISTICS:
			return take_statistics(repository, body);
		case PROTO_SCAN_WANTED:
			return take_scan_wanted(repository, body);
		case PROTO_WATCHES_WANTED:
			return take_watches_wanted(repository, body);
		case PROTO_SCAN_DONE:
			return take_scan_done(repository, body);
		case PROTO_VERIFIED:
			return take_verified(repository, body);
		case PROTO_FLUSHED:
			return take_flushed(repository, body);
		case PROTO_PONG:
			repository->ping_sent = 0;
			return FRAME_DONE;
		case PROTO_LOG:
			return take_log(repository, body);
		default:
			return FRAME_BAD;
	}
}

/* ---------------------------------------------------------------------
 * A repository's share
 * ---------------------------------------------------------------------
 */

static void
refuse(WorkerRepository *repository, const char *why)
{
	char		reason[STATUS_TEXT_LEN];

	snprintf(reason, sizeof(reason), "fsync-tree said what it cannot have meant: %s", why);
	process_fail(repository, reason,
				 "It is started again. Should this come back, check the installation.");
}

bool
messages_are_blocked(const WorkerRepository *repository)
{
	return proto_buf_pending(&repository->tree.out) > UNSENT_MAX;
}

static bool
is_resting(const WorkerRepository *repository)
{
	return repository->rest_until > clock_ms() && worker_others_wait(repository);
}

bool
messages_may_receive(const WorkerRepository *repository)
{
	return process_can_talk(repository) && !repository->stalled &&
		!messages_are_blocked(repository) && !is_resting(repository);
}

/*
 * Does the kept frame and the whole frames in the buffer, up to a stall or the
 * end of the share.
 */
static void
take_frames(WorkerRepository *repository)
{
	int64		begin = clock_ms();
	int64		now = begin;

	repository->frames_left = false;
	while (repository->process == PROCESS_RUNNING && !repository->stalled)
	{
		FrameResult result;

		if (repository->at_end)
			tree_client_forget_unsent(&repository->tree);
		if (messages_are_blocked(repository) || now - begin >= SHARE_MS)
		{
			repository->frames_left = true;
			break;
		}
		if (!repository->has_frame)
		{
			const char *why;
			int			next = tree_client_next(&repository->tree, &repository->frame_type,
												&repository->frame_body, &why);

			if (next == 0)
				break;
			if (next < 0)
			{
				refuse(repository, why);
				return;
			}
			repository->has_frame = true;
		}
		result = take_frame(repository, repository->frame_type, repository->frame_body);
		if (result == FRAME_BAD)
		{
			refuse(repository, "a message that cannot be understood");
			return;
		}
		if (result == FRAME_DONE)
			repository->has_frame = false;
		CHECK_FOR_INTERRUPTS();
		now = clock_ms();
	}
	if (now - begin > SHARE_MS)
		repository->rest_until = now + Min(now - begin, REST_MAX_MS);
	if (repository->process == PROCESS_RUNNING && !repository->stalled &&
		!repository->frames_left && repository->at_end)
		process_ended(repository);
}

void
messages_receive(WorkerRepository *repository)
{
	/* What was left comes first, and has its turn in messages_advance(). */
	if (!messages_may_receive(repository) || repository->frames_left)
		return;
	(void) session_cpu_lap();	/* what went before was for somebody else */
	if (!tree_client_receive(&repository->tree))
		repository->at_end = true;
	take_frames(repository);
}

/* The database may take now what it could not take before. */
static void
resume(WorkerRepository *repository)
{
	repository->stalled = false;
	repository->database_trouble.reason[0] = '\0';
	if (repository->run.phase == RUN_ENDING && !runs_finish(repository))
		return;
	repository->frames_left = true;
}

void
messages_advance(WorkerRepository *repository, int64 now, int64 *deadline)
{
	bool		resting;

	(void) session_cpu_lap();
	if (repository->stalled && now >= repository->retry_at)
		resume(repository);
	if (repository->stalled || repository->process != PROCESS_RUNNING)
		return;
	resting = is_resting(repository);
	if (repository->frames_left && !resting && !messages_are_blocked(repository))
	{
		take_frames(repository);
		resting = is_resting(repository);
	}
	if (resting)
		lower_deadline(deadline, repository->rest_until);
	else if (repository->frames_left && !messages_are_blocked(repository))
		lower_deadline(deadline, now);
}
