/*-------------------------------------------------------------------------
 *
 * worker.h
 *		The worker of one database: its repositories and their lives.
 *
 * Private to worker*.c:
 *
 *		worker.c			process, loop, list of repositories, requests
 *		worker_process.c	life of a repository's fsync-tree: start, watchdog, end
 *		worker_messages.c	what fsync-tree says, and how much of it in a turn
 *		worker_runs.c		scans, bursts of real-time changes
 *		worker_places.c		scans of a part, of which somebody says that it changed
 *		worker_flush.c		barriers
 *		worker_held.c		files whose rows others hold
 *		worker_verify.c		verifications
 *		worker_state.c		state: derived, stored, published, logged
 *		worker_analyze.c	statistics after a first scan
 *		worker_prune.c		removal of history and of changes that are old
 *		worker_log.c		what the log hears on a good day
 *
 * There is one thread and one loop.  Each turn lets every repository advance:
 * do what is due, and say when it wants to be called again.  Times are
 * milliseconds of clock_ms(), and INT64_MAX stands for never.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WORKER_H
#define FSYNC_WORKER_H

#include "fsync.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "storage/latch.h"

#include "apply.h"
#include "beliefs.h"
#include "missing.h"
#include "operations.h"
#include "repository.h"
#include "requests.h"
#include "tree_client.h"
#include "tree_errors.h"
#include "verification.h"

#define NEVER				INT64_MAX

/* Rows were marked: when to look which are to be purged. */
#define PURGE_DELAY_MS		1000

/* A message and what the user can do about it; valid in the database's
 * encoding. */
typedef struct Condition
{
	char		reason[STATUS_TEXT_LEN];
	char		hint[STATUS_TEXT_LEN];
} Condition;

/*
 * How many lines of one kind the log still takes: some at once, and then one in
 * a while.
 */
typedef struct LogAllowance
{
	int			left;
	int64		renewed_at;
	int64		left_out;		/* lines since the last one that was written */
} LogAllowance;

/* The process of a repository. */
typedef enum ProcessPhase
{
	PROCESS_NONE,				/* to be started at next_start */
	PROCESS_RUNNING,
	PROCESS_ENDING,				/* its socket is closed, it is not reaped */
} ProcessPhase;

typedef enum RunPhase
{
	RUN_NONE,
	RUN_RUNNING,				/* fsync-tree scans */
	RUN_ENDING,					/* it has ended, sync_operations does not say
								 * so yet */
} RunPhase;

/* Who waits for the end of a run. */
typedef struct RunWaiter
{
	RequestRef	ref;
	uint64		refusals;		/* all that there had been when he came */
} RunWaiter;

/* A scan that is wanted. */
typedef struct QueuedRun
{
	bool		wanted;
	bool		startup;		/* nothing was watched before */
	bool		force;
	bool		heals;			/* without it the table may not be equal */
	bool		scheduled;		/* nobody asked for it */
	char		reason[STATUS_TEXT_LEN];
	int64		due;
	List	   *waiters;		/* RunWaiter * */
} QueuedRun;

/* The scan that goes on. */
typedef struct Run
{
	RunPhase	phase;
	bool		startup;		/* nothing was watched before */
	bool		heals;
	bool		scheduled;		/* nobody asked for it */
	bool		cancelled;		/* somebody called fsync_cancel() */
	uint32		flags;			/* PROTO_SCAN_* */
	char		reason[STATUS_TEXT_LEN];
	List	   *waiters;
	int64		operation_id;	/* also its scan_id */
	int64		generation;
	int64		started_at;
	uint64		losses;			/* of the repository, when it began */
	ApplyCounts counts;
	int64		files_done;
	int64		bytes_done;

	/* RUN_ENDING */
	uint8		result;			/* ProtoScanResult */
	Condition	failure;
} Run;

/* The scan of a part that goes on; see worker_places.c. */
typedef struct PlaceRun
{
	RunPhase	phase;
	char	   *path;
	List	   *waiters;		/* RunWaiter * */
	int64		operation_id;	/* also its scan_id */
	bool		sent;			/* this fsync-tree was asked */
	int			lost;			/* processes that ended before it did */
	bool		cancelled;		/* somebody called fsync_cancel() */
	ApplyCounts counts;
	int64		files_done;
	int64		bytes_done;

	/* RUN_ENDING */
	uint8		result;			/* ProtoScanResult */
	Condition	failure;
} PlaceRun;

/* The verification that goes on; see worker_verify.c. */
typedef struct Verification
{
	RunPhase	phase;
	VerifyLimits limits;
	List	   *waiters;		/* RequestRef * */
	int64		operation_id;
	int64		started_at;
	VerificationCursor cursor;
	VerificationCounts counts;
	bool		outstanding;	/* fsync-tree reads files */
	bool		cancelled;		/* somebody called fsync_cancel() */

	/* RUN_ENDING */
	char		status[16];
	char		message[STATUS_TEXT_LEN];
} Verification;

/* Real-time changes that become one row of sync_operations. */
typedef struct Burst
{
	bool		open;
	TimestampTz start;
	TimestampTz last;
	int64		started_at;
	int64		last_at;
	ApplyCounts counts;
	int64		files;
	int64		bytes;
} Burst;

/* Files whose rows others hold; see worker_held.c. */
typedef struct HeldFiles
{
	List	   *paths;			/* ApplyHeld *, to be looked at again */
	bool		too_many;		/* to be kept: a scan takes their place */
	int64		look_at;		/* when */
	int			interval_ms;
	List	   *looked_at;		/* the same of the look that goes on */
	int64		token;			/* of the barrier behind that; 0: none goes on */
	int64		flush_at;		/* barriers not before */
} HeldFiles;

typedef struct WorkerRepository
{
	MemoryContext context;
	RepositoryRow *row;

	/* the process (worker_process.c) */
	TreeClient	tree;
	TreeErrors	errors;
	ProcessPhase process;
	int64		next_start;
	int64		started_at;
	int			start_backoff_ms;
	bool		started_before;
	bool		resumed;		/* it came back to a running worker */
	bool		at_end;			/* the stream has ended; its last frames wait */
	bool		reported;		/* it has said more than that it starts */
	int64		ended_at;
	int64		reap_at;
	int			reap_ms;
	bool		killed;			/* SIGKILL was sent */
	bool		given_up;		/* by us, for the reason in trouble */
	bool		hung;			/* because it did not answer */
	bool		silent;			/* it does not answer, and still has time */
	bool		planned;		/* trouble is no trouble: a change of settings */
	int64		busy_since;		/* an answer is outstanding; 0: none is */
	int64		ping_sent;		/* 0: no ping is outstanding */
	int64		next_token;
	Condition	trouble;		/* why there is, or was, no process; empty
								 * reason: none */

	/* what fsync-tree said (worker_messages.c) */
	int64		watches;		/* of inotify that were granted to it */
	bool		greeted;		/* this process: the text below is of it */
	char		missing[STATUS_SANDBOX_LEN];	/* of its sandbox; empty: nothing */
	uint8		tree_state;		/* ProtoTreeState, 0: nothing yet */
	Condition	tree_condition;
	bool		polled;
	StringInfoData identity;
	StringInfoData mounts;
	int64		directories;
	int64		pending;
	TimestampTz last_event;
	char		reading[STATUS_TEXT_LEN];	/* see RepositoryStatus */
	int64		reading_done;
	int64		reading_size;
	int64		unread;			/* see RepositoryStatus */
	ProtoStatistics statistics; /* of this process, as last heard */
	LogAllowance log_said;		/* of what it wants to have logged */

	/* its share of the turns (worker_messages.c) */
	bool		frames_left;	/* in tree.in: more than a turn had time for */
	int64		rest_until;		/* while somebody waits for another one */

	/* the database could not take something (worker.c) */
	bool		stalled;		/* until retry_at; nothing is read */
	int64		retry_at;
	int			retry_ms;
	int			refusals;		/* in a row, and none of them passes by itself */
	uint64		all_refusals;
	Condition	database_trouble;
	bool		has_frame;		/* kept: in tree.in, which is not touched */
	uint8		frame_type;
	ProtoReader frame_body;

	/* runs and bursts (worker_runs.c) */
	QueuedRun	queued;
	Run			run;
	uint64		losses;			/* times that events were lost, or none were
								 * there yet */
	uint64		healed;			/* losses that a complete scan made good */
	int			loss_backoff_ms;
	int64		last_loss;
	int64		last_run_end;	/* 0: none yet */
	Condition	scan_trouble;	/* of the last scan */
	Burst		burst;
	int			sent_cpu_ppm;	/* as last sent to the process */

	/* scans of a part (worker_places.c) */
	PlaceRun	place;
	List	   *places;			/* QueuedPlace *, behind it */

	/* barriers (worker_flush.c) */
	List	   *flushes;		/* FlushWaiter * */
	uint64		flushed;		/* see RepositoryStatus */
	uint64		flush_refused;

	HeldFiles	held;			/* worker_held.c */

	/* totals (worker_totals.c) */
	TotalsCounts totals;
	int64		count_at;		/* not before */
	int64		count_began_at;
	int64		scan_counted_at;	/* a page of a scan */

	/* verifications (worker_verify.c) */
	Verification verification;
	List	   *verifications;	/* QueuedVerification *, behind it */

	/* rows of missing files (worker.c) */
	int64		purge_at;
	MissingCursor purge_cursor;

	/* state (worker_state.c) */
	RepositoryStatus published;
	char		stored_state[32];
	Condition	stored;
	int64		store_at;		/* not before: the last attempt failed */
	int			store_backoff_ms;
	int			logged_source;	/* of the condition in the log; 0: none */
	LogAllowance log_condition;

	/* the loop (worker.c) */
	int			event_position; /* in the wait event set; -1: not in it */
	uint32		event_mask;
} WorkerRepository;

/* worker.c */
extern ExtensionObjects worker_objects;

/* Runs in PG_TRY; the transaction is over when it returns. */
typedef void (*DatabaseWork) (WorkerRepository *repository, void *arg);

/*
 * Runs it and returns NULL, or a copy of the error after the transaction was
 * aborted.  Does not return when the worker was asked to end meanwhile.
 */
extern ErrorData *worker_try(WorkerRepository *repository, DatabaseWork work, void *arg);

/*
 * Does something in the database for a repository.  Returns 0, or the
 * SQLSTATE of the error; then the repository is stalled (except after
 * ERRCODE_BAD_MESSAGE, which is fsync-tree's fault), and the caller
 * leaves everything as it is and is called again.
 */
extern int	worker_database_work(WorkerRepository *repository, DatabaseWork work, void *arg);

/* worker_trouble.c: the error becomes the repository's trouble with the database. */
extern void trouble_note(WorkerRepository *repository, const ErrorData *error);

/* Repositories that are being scanned. */
extern int	worker_scans(void);

/* Whether a session waits for another repository than this one. */
extern bool worker_others_wait(const WorkerRepository *repository);

/* Sockets are waited for that were not, or no longer. */
extern void worker_renew_wait_set(void);

/* Lives as long as the worker. */
extern MemoryContext worker_context;

/* worker_repositories.c */
extern List *worker_repositories;	/* WorkerRepository * */
extern WorkerRepository *repositories_find(const pg_uuid_t *id);

/* The repository's row, or the extension, is gone or different: look. */
extern void worker_request_reload(void);

/* Looks if that is due; when it will be; whether it was asked for. */
extern void repositories_advance(int64 now);
extern void repositories_lower_deadline(int64 *deadline);
extern bool repositories_are_stale(void);

/* Runs that an earlier worker left open have been closed. */
extern bool repositories_closed_history(void);

/* worker_process.c */
#define PROCESS_SILENT		"fsync-tree does not answer"
#define PROCESS_SILENT_HINT	"Its file system may hang, or the process be stopped."
extern void process_advance(WorkerRepository *repository, int64 now, int64 *deadline);
extern void process_watch(WorkerRepository *repository, int64 now, int64 *deadline);
extern void process_send(WorkerRepository *repository);
extern void process_ended(WorkerRepository *repository);
extern void process_fail(WorkerRepository *repository, const char *reason, const char *hint);
extern void process_restart(WorkerRepository *repository, const char *reason);
extern void process_send_config(WorkerRepository *repository);
extern void process_share_limit(WorkerRepository *repository, int scans);
extern void process_grant_watches(WorkerRepository *repository, int64 wanted);
extern void process_ping(WorkerRepository *repository);
extern bool process_can_talk(const WorkerRepository *repository);

/* worker_messages.c */
/* The socket is readable, and is asked whether it is only where it may be read. */
extern void messages_receive(WorkerRepository *repository);
extern bool messages_may_receive(const WorkerRepository *repository);

/* It does not take the answers that it asked for. */
extern bool messages_are_blocked(const WorkerRepository *repository);

/* What the last turn left: a frame that the database did not take, and others. */
extern void messages_advance(WorkerRepository *repository, int64 now, int64 *deadline);

/* worker_runs.c */
extern void runs_advance(WorkerRepository *repository, int64 now, int64 *deadline);
extern void runs_want(WorkerRepository *repository, bool startup, bool heals, bool force,
					  const char *reason, int64 due);
extern void runs_want_for_request(WorkerRepository *repository, const TakenRequest *request);
extern void runs_events_lost(WorkerRepository *repository, const char *reason);
extern void runs_process_started(WorkerRepository *repository);
extern void runs_process_ended(WorkerRepository *repository, bool keep_run);
extern bool runs_scan_done(WorkerRepository *repository, const ProtoScanDone *done);
extern bool runs_finish(WorkerRepository *repository);

/* Per cent of a core that the scans of this worker may take, as this one goes; 0: all. */
extern int	runs_cpu_limit(const WorkerRepository *repository);
extern bool runs_is_healed(const WorkerRepository *repository);
extern int64 runs_generation(const WorkerRepository *repository);
extern void runs_count(WorkerRepository *repository, const ApplyResult *result,
					   ProtoReader body);
extern bool runs_close_burst(WorkerRepository *repository);
extern void runs_cancel(WorkerRepository *repository, const TakenRequest *request);
extern bool runs_pause(WorkerRepository *repository);
extern void runs_dismiss(WorkerRepository *repository);

/* Whether the database has refused for so long what a run needs that nobody is to wait. */
extern bool runs_are_refused(const WorkerRepository *repository);

/* Answers who waits for such a run, when the state is known. */
extern void runs_give_up(WorkerRepository *repository);

/* The waiters, and one more; without those who are to wait no longer, whom it answers. */
extern List *runs_add_waiter(WorkerRepository *repository, List *waiters, RequestRef ref,
							 uint64 refusals);
extern List *runs_without_those_in_vain(const WorkerRepository *repository, List *waiters);

/* worker_places.c */
extern void places_want_for_request(WorkerRepository *repository,
									const TakenRequest *request);
extern void places_advance(WorkerRepository *repository);

/* Whether fsync-tree owes an answer to one. */
extern bool places_outstanding(const WorkerRepository *repository);

/* The end of a scan; false: it is no scan of a part. */
extern bool places_scan_done(WorkerRepository *repository, const ProtoScanDone *done);
extern bool places_cancel(WorkerRepository *repository, const TakenRequest *request);
extern void places_process_ended(WorkerRepository *repository);
extern bool places_pause(WorkerRepository *repository);
extern void places_give_up(WorkerRepository *repository);
extern void places_dismiss(WorkerRepository *repository);

/* worker_flush.c */
typedef struct Barrier Barrier;

/* Begins a session's barrier, of the repositories that are added until then. */
extern Barrier *flush_begin(RequestRef ref);
extern void flush_add(WorkerRepository *repository, Barrier *barrier);
extern void flush_added(Barrier *barrier);

/* Whether fsync-tree owes an answer to one. */
extern bool flush_outstanding(const WorkerRepository *repository);

/* Whether it is to be asked for one. */
extern bool flush_wanted(const WorkerRepository *repository);

/* The answer; false when it is to be called again for the same message. */
extern bool flush_answered(WorkerRepository *repository, int64 token,
						   ProtoFlushResult result);
extern void flush_process_ended(WorkerRepository *repository);
extern void flush_dismiss(WorkerRepository *repository);

/*
 * Asks fsync-tree, before the watchdog looks what it owes; deadline: when it is
 * to be asked, if that is not now.
 */
extern void flush_advance(WorkerRepository *repository, int64 now, int64 *deadline);

/* Answers who waits in vain, when the state is known. */
extern void flush_give_up(WorkerRepository *repository);

/* worker_held.c */

/* Takes note of what a message could not write. */
extern void held_add(WorkerRepository *repository, const ApplyResult *result);

/* Looks if that is due. */
extern void held_advance(WorkerRepository *repository, int64 now, int64 *deadline);

/* Whether barriers may be sent, as they go behind a look. */
extern bool held_lets_flush(WorkerRepository *repository, int64 now, int64 *deadline);

/*
 * A barrier has come back.  False when it is to be called again for the same
 * message.
 */
extern bool held_flushed(WorkerRepository *repository, int64 token);

/*
 * Whether a barrier that came back is over; held_since: since when all is written
 * but rows that others hold, 0 at first.
 */
extern bool held_lets_pass(WorkerRepository *repository, int64 *held_since);

/* A scan that is to come finds them all. */
extern void held_forget(WorkerRepository *repository);

/* worker_verify.c */
extern void verify_want_for_request(WorkerRepository *repository,
									const TakenRequest *request);
extern void verify_advance(WorkerRepository *repository, int64 now, int64 *deadline);
extern int	verify_verdicts(WorkerRepository *repository,
							const ProtoVerifiedHeader *header, ProtoReader verdicts);
extern bool verify_cancel(WorkerRepository *repository, const TakenRequest *request);
extern void verify_process_ended(WorkerRepository *repository);
extern bool verify_pause(WorkerRepository *repository);
extern void verify_dismiss(WorkerRepository *repository);

/* worker_state.c */
/*
 * Whether a line may go to the log now; *left_out: how many did not since the
 * last one.
 */
extern bool worker_may_log(LogAllowance *allowance, int64 *left_out);

/*
 * Copies a message from outside as a line of text that is valid in the
 * database's encoding: other bytes, and control characters, become \ and three
 * octal digits.
 */
extern void worker_copy_text(char *to, size_t size, ProtoStr from);
extern void worker_set_condition(Condition *condition, const char *reason, const char *hint);
extern bool state_is_published(const WorkerRepository *repository);

/* What sessions see is what is known now. */
extern void state_publish(WorkerRepository *repository);

/* Whether no answer of its fsync-tree is to be expected; a root that is
 * unavailable is asked about. */
extern bool state_is_hopeless(const WorkerRepository *repository);
extern void state_refresh(WorkerRepository *repository, int64 now, int64 *deadline);

/* worker_analyze.c */
/* The first scan of a repository is complete, and has added so many rows. */
extern void analyze_want(int64 rows);
extern void analyze_advance(int64 now, bool somebody_waits, int64 *deadline);

/* worker_totals.c */
/*
 * A page of rows was read for the scan that goes on, or not for it; writes: those
 * of others before that.
 */
extern void totals_scan_page(WorkerRepository *repository,
							 const ProtoBeliefsRequest *request, const BeliefsSeen *page,
							 uint64 writes);
extern void totals_advance(int64 now, int64 *deadline);

/* worker_prune.c */
extern void prune_advance(int64 now, int64 *deadline);

/* The settings may have changed: prunes at the next opportunity. */
extern void prune_reload(void);

/* worker_log.c */

/* In a transaction, and with the database's name in the process title too. */
extern void worker_log_name_database(void);

/* The worker has read its repositories (RepositoryRow *) for the first time. */
extern void worker_log_started(List *rows);

/*
 * A run has ended ("completed", "failed", ...) that began at started_at, which is
 * logged where it took long, or always.  bytes: read; counts: NULL where it writes no
 * rows.
 */
extern void worker_log_ended(const WorkerRepository *repository, const char *what, bool always,
							 const char *status, int64 started_at, int64 files, int64 bytes,
							 const ApplyCounts *counts);

static inline void
lower_deadline(int64 *deadline, int64 t)
{
	if (t < *deadline)
		*deadline = t;
}

#endif							/* FSYNC_WORKER_H */
