/*-------------------------------------------------------------------------
 *
 * engine.h
 *		The one thread that brings everything together, and what its parts
 *		share.
 *
 *		start.c		what comes before: what is opened, and then the sandbox
 *		engine.c	the loop: socket, state, flushes
 *		changes.c	from events to names and places that changed
 *		mounted_files.c	files that are mounted over files
 *		noisy.c		directories that are written to faster than can be read
 *		unwatched.c	directories without a watch
 *		runs.c		scans, and what is to be inspected now
 *		runs_queue.c	the scan of everything, until it begins
 *		runs_end.c	what follows from the end of a scan
 *		asked.c		the scan of a part that somebody says has changed
 *		refused.c	files whose rows the database refused
 *		inspect_points.c  points, and what the worker believes of them
 *		inspect.c	what the disk says of them, and what follows
 *		inspect_links.c	... for other names of their files
 *		unread.c	files of which only the ctime has moved
 *		moves.c		which of them are renames, and which may become one
 *		heard.c		what is still to be heard of ends of renames that wait
 *		hashing.c	files that are hashed, and what comes of it
 *		report.c	observations, onto the socket
 *		verifying.c	files that are read again on request
 *
 * Two rules keep what is reported true.  Only this thread sends observations,
 * each from a stat that it has just made, or that no event has come after
 * where everything is watched, so that the last observation of a path is the
 * latest.  And a belief is asked for after everything sent before
 * is in the socket, and nothing is sent before it was used, so that it is what
 * the table says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_ENGINE_H
#define FSYNC_ENGINE_H

#include "clock.h"
#include "events.h"
#include "halves.h"
#include "hash.h"
#include "links.h"
#include "names.h"
#include "pending.h"
#include "problems.h"
#include "root.h"
#include "root_path.h"
#include "rules.h"
#include "sandbox.h"
#include "scan.h"
#include "shortage.h"
#include "spelling.h"
#include "spools.h"
#include "statistics.h"
#include "throttle.h"
#include "watch_tree.h"

/* Frames whose scan's share is known when the worker says what they cost. */
#define REPORT_FRAMES		64

/* A path to be inspected, with all that is found out about it. */
typedef struct Point
{
	char	   *path;			/* terminated, owned */
	size_t		len;
	uint64_t	node;			/* its directory in the watch tree, or 0 */
	NameLink	by_name;		/* in points_by_name, while inspecting */
	unsigned	hints;			/* HINT_* */
	unsigned	retries;
	int64_t		put_off_us;
	unsigned	put_offs;
	int64_t		since_us;		/* its first event; 0: a scan found it */
	uint64_t	epoch;
	int64_t		scan_id;
	uint64_t	news;			/* as PendingName's; NEWS_NONE: not heard of */
	uint64_t	waited;			/* the news that it has waited for as the end of
								 * a rename; 0: it has not */
	bool		seen[HALF_KINDS];	/* ... or as what a scan has found it */
	HalfFile	files[HALF_KINDS];

	bool		low;			/* it has waited in the list of those that are */
	bool		has_belief;
	ProtoBelief belief;			/* its path is this path */

	bool		looked;			/* at, before the belief has come */
	int			error;			/* of stat; ENOENT: there is no such file */
	ProtoGone	gone;			/* ... and why */
	bool		stale;			/* the directory is not here any more */
	bool		settled;		/* nothing more to be done */
	bool		moved_away;		/* its row has gone to another path */
	bool		gives;			/* moves.c: its row is to go to another path */
	bool		held;			/* ... or that has to wait */
	struct Pair *received;		/* ... the rename to this path */
	FileInfo	info;
} Point;

typedef struct HashItem
{
	HashJob		job;			/* path and len are of this */
	TableLink	link;
	bool		superseded;		/* its result is not wanted any more */
	uint64_t	node;
	NameLink	by_name;
	FileInfo	info;			/* of the file when it was submitted */
	unsigned	hints;
	unsigned	retries;
	int64_t		since_us;
	uint64_t	epoch;
	int64_t		scan_id;
	uint64_t	batches_taken;	/* the engine's, when it was submitted */
	bool		has_belief;
	ProtoBelief belief;			/* without its path */
} HashItem;

/* A directory that made the kernel's queue overflow; noisy.c. */
typedef struct NoisyDirectory
{
	dev_t		dev;
	ino_t		ino;
	unsigned	overflows;		/* lately; 0: the entry is free */
	int64_t		last_us;		/* the last of them, or change to its files */
	bool		polled;			/* instead of watched for IN_MODIFY */
	uint64_t	node;			/* in the watch tree, if it is still that one */
	int64_t		due_us;			/* the next look */
	uint64_t   *seen;			/* fingerprints of its files then, in order */
	size_t		n_seen;
} NoisyDirectory;

#define NOISY_MAX			16

/* A file that is mounted over another; mounted_files.c. */
typedef struct MountedFile
{
	char	   *path;			/* terminated, owned */
	dev_t		dev;
	int64_t		inode;
	int			wd;				/* several paths may have one; -1: not watched */
} MountedFile;

typedef struct FlushWait
{
	struct FlushWait *next;
	int64_t		token;
	uint64_t	epoch;
} FlushWait;

/* A scan, and then the inspection of what it found. */
typedef struct ScanRun
{
	Scan	   *scan;			/* NULL: none */
	Candidates *checked;		/* replaces the scan's own candidates */
	int64_t		request;		/* for beliefs, the last one */
	bool		drained;		/* all candidates were taken */
	bool		put_off;		/* more could be done; the throttle said no */
	bool		winding_up;		/* only hashes of new files are still to come */
	int64_t		id;				/* 0: of places that events named, or none */
	uint32_t	flags;
	double		threshold;
	int64_t		since_us;		/* the first event of its places */
	uint64_t	epoch;
	uint64_t	news;			/* the oldest that it is to look at */
	uint64_t	round;			/* of problems */
	uint64_t	links_round;	/* of the search for other names; 0: none */
	uint64_t	departures;		/* the engine's, when it began */
	uint64_t	times_blind;	/* the same */
	uint64_t	bytes_hashed;
	uint64_t	removals;
	uint64_t	named_files;	/* that are places themselves */
	uint8_t		result;			/* ProtoScanResult */
	int			error;			/* why it failed, or 0 */
	char		message[256];
	char		hint[256];
} ScanRun;

/* What is open, and what is allowed, when the engine begins. */
typedef struct EngineStart
{
	int			mountinfo_fd;	/* -1: it could not be opened */
	bool		has_root;		/* files can be read below this directory */
	dev_t		root_device;
	ino_t		root_inode;
	bool		must_be_complete;	/* else it does not begin */
	Sandbox		sandbox;
	Spools		spools;
} EngineStart;

typedef struct Engine
{
	int			socket;
	int			wake_fd;		/* eventfd: a thread has something for us */
	ProtoBuf	in;
	ProtoBuf	out;

	/* settings */
	ProtoConfig config;
	Filter	   *filter;
	Rules	   *rules;			/* of the tree; NULL: they do not count */
	Spelling   *spelling;		/* where names fold */
	bool		utf8;
	bool		fresh;			/* the mounts were never accepted */
	bool		initialized;	/* PROTO_INIT was received */

	/* what it was started with */
	const EngineStart *start;
	Spools		spools;

	/* state */
	Root		root;
	RootPath	root_path;		/* whether the registered path leads there */
	bool		running;		/* the root is there and watched (or polled) */
	uint8_t		state;			/* as last reported */
	char		reason[512];
	char		hint[512];
	uint64_t	reported_directories;
	bool		state_changed;	/* identity, mounts...: report in any case */
	int64_t		retry_us;		/* when to try again what is not running */
	int			exit_status;	/* -1: go on */

	EventReader *reader;		/* NULL: no inotify instance to be had */
	WatchTree  *watches;
	bool		resolving;		/* touched names are not all looked at */
	int64_t		resolve_due_us; /* what it takes was not to be had: not before */
	uint64_t	resolve_epoch;	/* since when */
	uint64_t	resolve_news;	/* the same, also while some cannot be looked at */
	int64_t		left_due_us;	/* the next look at these */
	int64_t		watches_granted;	/* directories that may be watched ... */
	int64_t		watches_wanted; /* ... and that were asked for; 0: nothing is
								 * outstanding */
	bool		watches_refused;	/* there are no more for the time being */
	bool		building;		/* the watches are put up; a scan follows */
	bool		healing;		/* events were lost, the scan has not ended */
	bool		heal_scan_runs;
	EventBatch	batch;
	uint64_t	batches_taken;	/* and times that watching began anew */
	int64_t		last_event_us;	/* CLOCK_REALTIME */

	/* the last renames, to find the other half of one */
	struct
	{
		uint32_t	cookie;		/* 0: paired */
		unsigned	hints;		/* of the old name */
		uint64_t	news;		/* the same */
	}			renames[64];
	unsigned	next_rename;
	NoisyDirectory noisy[NOISY_MAX];
	MountedFile *mounted_files;
	size_t		n_mounted_files;
	int64_t		blind_since_ns; /* hashes from then on are in doubt, until a scan
								 * has compared them; CLOCK_REALTIME */
	uint64_t	times_blind;
	bool		compared;		/* a scan has compared everything since then */

	Shortage	shortage;		/* what is lacking, and puts off the rest */
	int			watch_error;	/* why there is no watch tree */
	int64_t		path_due_us;	/* the root's path could not be looked at, for want
								 * of something: once more then; 0: it could */
	int			mounts_error;	/* they could not be read; 0: they could */
	int64_t		mounts_due_us;
	Problems	unwatched;		/* directories that fsync_problems names ... */
	uint64_t	unwatched_counted;	/* ... of so many, if not all */
	uint64_t	unwatched_version;	/* of the watch tree then; 0: there was none */
	int64_t		unwatched_due_us;

	Pending		pending;
	Halves		halves;
	Problems	problems;
	Problems	refused;		/* those of the worker; without rounds */
	Links	   *links;
	HashPool   *pool;
	Throttle	throttle;		/* of the full scan */
	size_t		done;			/* files, rows: in this turn of the loop ... */
	size_t		done_for_scan;	/* ... and of these for the full scan */
	struct Verify *verify;		/* NULL until the first verification */
	int64_t		verify_run;		/* of what is outstanding there; 0: nothing */
	Table		items;			/* HashItems in the pool, by path */
	HashJob    *to_submit;		/* of these, not in the pool yet */
	HashJob   **to_submit_end;
	size_t		n_to_submit;
	size_t		scan_items;		/* of these, not urgent */
	size_t		low_items;		/* of these, low (and not counted before) */
	Table		items_by_name;	/* ... and by node and name */
	uint64_t	epoch;			/* of what happens now; a flush ends it */
	FlushWait  *flushes;

	/* directories that changed: places of the next partial scan */
	ScanPlace  *places;
	size_t		n_places;
	size_t		places_capacity;
	bool		places_sorted;
	int64_t		places_first_us;
	int64_t		places_last_us;
	uint64_t	places_epoch;
	ScanPlace  *spare_place;	/* for when there is no memory for another */
	uint64_t	places_news;
	ScanRun		partial;
	ScanRun		full;
	ScanRun		asked;			/* of a part; its epoch holds from the request */
	char	   *asked_place;	/* of the one that waits or runs; NULL: none */
	bool		scan_queued;	/* a PROTO_SCAN that waits for the state */
	ProtoScan	queued_scan;
	int64_t		scan_due_us;	/* no thread was to be had for one: not before */
	unsigned	scan_restarts;	/* of the queued scan, or the one that runs */
	int64_t		restart_due_us; /* until then a restart waits for quiet */
	uint64_t	departures;		/* names and directories seen to go, or move */

	/* the points in inspection */
	Point	   *points;
	size_t		n_points;
	size_t		points_capacity;
	Table		points_by_name;
	size_t		points_asked;	/* beliefs were asked for up to here */
	size_t		points_answered;
	size_t		points_looked;	/* at, ahead */
	uint32_t	points_page;	/* rows of the next range */
	bool		points_sparse;	/* the last range held few of the points' rows */
	uint64_t	inspections;	/* loads of points that were looked at */
	bool		inspecting;

	/* requests for beliefs: the id says whose */
	int64_t		last_request;
	int64_t		points_request;
	int64_t		guard_request;
	size_t		guard_next;		/* mount whose rows are asked for */

	/* report.c */
	bool		sent_all;		/* in this turn: the next one comes at once */
	bool		frame_open;
	size_t		frame_count_at;
	uint32_t	frame_count;
	uint32_t	frame_of_scan;	/* of these, found by the full scan */
	uint32_t	unacknowledged; /* OBSERVATIONS not yet APPLIED */
	double		scan_shares[REPORT_FRAMES]; /* of those, the last ones */
	uint32_t	frames_sent;
	Statistics	statistics;
	int64_t		cause_us;		/* first event of what is reported now; or 0 */
	int64_t		last_progress_us;
	bool		progress_due;
} Engine;

/*
 * start.c: opens what is needed for the root at this path, and enters the
 * sandbox.  Without such a directory the engine says so, and ends when there
 * is one.  The spools are left to the caller.
 */
extern void engine_prepare(EngineStart *start, const char *path);

/* Whether an open root is the one below which files can be read. */
extern bool engine_may_read(const EngineStart *start, int rootfd);

/* engine.c */
extern int	engine_run(int socket, const EngineStart *start);

/* Sends PROTO_LOG; a condition is logged when it begins and when it ends. */
extern void engine_log(Engine *engine, char level, const char *format,...)
			__attribute__((format(printf, 3, 4)));

/* The root is lost or another: the process ends and is started again. */
extern void engine_root_trouble(Engine *engine, RootTrouble trouble);

/*
 * Looks whether the registered path still leads to the root, by one statx of
 * it, and one of the path as it was given where that is another.  False: it
 * does not, of which no event tells, and the state says so; or the process is
 * to end, as for a lost root.
 */
extern bool engine_check_path(Engine *engine);

/* changes.c */
extern bool changes_process_events(Engine *engine);
extern void changes_must_resolve(Engine *engine);
extern bool changes_resolve(Engine *engine);

/* Whether whatever happens in the tree is reported, and all that was is known. */
extern bool changes_sees_all(const Engine *engine);

/*
 * Where nobody watches nothing says that a file was closed.  From which ctime
 * on hashes are in doubt for that, in nanoseconds; INT64_MAX: none.
 */
extern int64_t changes_doubt_since(const Engine *engine);

/* To be called when not everything can be watched, and before more is. */
extern void changes_note_blindness(Engine *engine);

/* A scan has compared everything; what the engine's times_blind was before. */
extern void changes_scanned(Engine *engine, uint64_t times_blind);

/*
 * Whether events have told of all that happened since a scan compared
 * everything: what differs of a file otherwise is of a time when nobody looked.
 */
extern bool changes_saw_all(const Engine *engine);
extern void changes_heal(Engine *engine, const char *reason);
extern void changes_ask_for_scan(Engine *engine, const char *reason);

/* All below path is to be compared; also when out of memory. */
extern void changes_want_subtree(Engine *engine, const char *path, size_t len,
								 uint64_t epoch);

/* The same, but for file systems mounted there whose changes others make. */
extern void changes_want_local_subtree(Engine *engine, const char *path, size_t len,
									   uint64_t epoch);
extern bool changes_spare_place(Engine *engine);
extern bool changes_covers(Engine *engine, const char *path, size_t len);
extern bool changes_closed(Engine *engine, const char *path, size_t len);
extern bool changes_start_watching(Engine *engine);

/* PROTO_WATCHES: what was asked for is granted, or a part of it. */
extern void changes_watches_granted(Engine *engine, int64_t granted);

/* Asks for more, if there are too few and it may help. */
extern void changes_want_watches(Engine *engine);
extern void changes_stop_watching(Engine *engine);
extern void changes_read_mounts(Engine *engine);
extern void changes_look_at_mounts(Engine *engine);
extern void changes_ask_about_guard(Engine *engine);
extern void changes_guard_answered(Engine *engine, const ProtoBeliefsHeader *header);

/* mounted_files.c */

/*
 * Watches the files among the mounts that are there now, and has the paths
 * looked at where one came or went.  The root must be open.
 */
extern void mounted_files_watch(Engine *engine);

/* A mount that came or went is taken as it is: until now nothing was said of it. */
extern void mounted_files_accepted(Engine *engine, const Mount *mount);

/* The instance has ended, with its watches. */
extern void mounted_files_forget(Engine *engine);

/* An event, if it is of one of them: its paths are to be looked at. */
extern void mounted_files_event(Engine *engine, const Event *event);

/* noisy.c */

/* The batch was lost: whose events were most of it? */
extern void noisy_overflow(Engine *engine);

/* Whether writing to the directory's files is not reported, and that of any. */
extern bool noisy_is_polled(const Engine *engine, dev_t dev, ino_t ino);
extern bool noisy_any_polled(const Engine *engine);

/* Looks at the files of such directories, if it is time, or of all. */
extern void noisy_poll(Engine *engine, bool all);

/* When it is time, in microseconds; INT64_MAX. */
extern int64_t noisy_due(const Engine *engine);

/* unwatched.c */

/* A barrier of this epoch looks at what is not watched. */
extern void unwatched_look(Engine *engine, uint64_t epoch);

/*
 * Has fsync_problems name the directories, and no others: what changed, or all of
 * them anew, as a full scan that ends without them expires them.
 */
extern void unwatched_report(Engine *engine, bool anew);

/* When there is something to report, by monotonic_us(), or INT64_MAX. */
extern int64_t unwatched_due(const Engine *engine);

/* refused.c */

/* A PROTO_REFUSED; false: it does not parse. */
extern bool refused_take(Engine *engine, ProtoReader body);

/* A PROTO_LOOK; false: it does not parse. */
extern bool refused_look(Engine *engine, ProtoReader body);

/* Whether there is no such file, in a root that was opened just now. */
extern bool refused_has_gone(const Engine *engine, const char *path, size_t len);

/* runs_queue.c */
extern void runs_start_scan(Engine *engine, const ProtoScan *scan);
extern void runs_start_queued(Engine *engine);
extern void runs_queue_again(Engine *engine, ScanRun *run);
extern bool runs_restart(Engine *engine, ScanRun *run);
extern void runs_cancel_scan(Engine *engine, int64_t scan_id);

/* Of two scans that found a file, 0: none, who is to wait for it. */
extern int64_t runs_who_waits(const Engine *engine, int64_t a, int64_t b);

/* asked.c */

/* A PROTO_SCAN of a part; false when out of memory. */
extern bool asked_scan(Engine *engine, const ProtoScan *scan);

/* Starts it, when its time has come; again: once more, after it was given up. */
extern void asked_start(Engine *engine);
extern void asked_again(Engine *engine);

/*
 * The scan that is told of a path that was looked at for an event, or for none
 * (0): the one of a part, if that was asked for when the event had happened, and
 * the path is in it.
 */
extern int64_t asked_owner(const Engine *engine, int64_t scan_id, const char *path, size_t len,
						   int64_t since_us);

/* It has ended, or will not begin. */
extern void asked_forget(Engine *engine);

/* runs.c */
extern bool runs_is_full(const Engine *engine, const ScanRun *run);
extern bool runs_begin(Engine *engine, ScanRun *run, ScanPlace *places, size_t *n);
extern void runs_forget(ScanRun *run);
extern bool runs_heal_undrained(const Engine *engine);
extern void runs_renew(Engine *engine, uint64_t epoch);
extern void runs_step(Engine *engine);
extern int64_t runs_due(Engine *engine);
extern uint64_t runs_min_epoch(Engine *engine);
extern bool runs_beliefs(Engine *engine, const ProtoBeliefsHeader *header, ProtoReader body);

/* runs_end.c */
extern void runs_end(Engine *engine, ScanRun *run);

/* inspect_points.c */
extern Point *inspect_add(Engine *engine, const char *path, size_t len, unsigned hints,
						  uint64_t epoch, int64_t scan_id);
extern Point *inspect_add_name(Engine *engine, uint64_t node, const char *name, size_t len,
							   unsigned hints, uint64_t epoch, int64_t scan_id,
							   bool *gone);
extern void inspect_start(Engine *engine);
extern bool inspect_beliefs(Engine *engine, const ProtoBeliefsHeader *header, ProtoReader body);
extern unsigned inspect_hints(const Engine *engine, uint64_t node, const char *name,
							  size_t len, uint64_t *news);
extern ProtoProblem inspect_untrackable(const Engine *engine, const Point *point);

/* inspect.c */
extern void inspect_examine(Engine *engine);

/* Looks at some points ahead; whether there are any for the next turn. */
extern void inspect_look_ahead(Engine *engine);
extern bool inspect_looks_ahead(const Engine *engine);
extern void inspect_forget_rules(Engine *engine);
extern FilterVerdict inspect_verdict(Engine *engine, const char *path, size_t len);

/*
 * stat of a path; ENOENT also where the file system folds names, and no
 * directory lists this spelling.  Listings are kept until
 * spelling_forget().  0, or -1 with errno.
 */
extern int	inspect_stat(const Engine *engine, const char *path, size_t len, FileInfo *info);
extern bool inspect_starved(const Engine *engine, const char *path, size_t len, int error);
extern void inspect_starve(Engine *engine, int error);
extern void inspect_renew(Engine *engine, uint64_t epoch);
extern uint64_t inspect_min_epoch(const Engine *engine);
extern void inspect_drop_scan(Engine *engine, int64_t scan_id);
extern bool inspect_has_scan(const Engine *engine, int64_t scan_id);

/* unread.c */

/* Files whose ctime alone has moved, and that are to be read for that. */
extern uint64_t unread_count(const Engine *engine);

/* How many more of the pending names that are low may be taken now. */
extern size_t unread_room(const Engine *engine);

/*
 * Whether the point is such a file, and waits now.  If not, it says whether it is
 * to be hashed as one.
 */
extern bool unread_put_off(Engine *engine, Point *point);

/* inspect_links.c */
extern void inspect_links(Engine *engine, const Point *point);
extern void inspect_former_links(Engine *engine, const Point *point);
extern void inspect_doubt(Engine *engine, const Point *point);

/* moves.c */
extern void moves_decide(Engine *engine);

/* heard.c */

/* The oldest news that are not looked at yet, or NEWS_NONE. */
extern uint64_t heard_oldest(const Engine *engine);

/* Whether all of these news was looked at, and what the scan has found. */
extern bool heard_all(const Engine *engine, uint64_t oldest, uint64_t news, int64_t scan_id);

/* What was heard of a name is for the scan of the places that changed to find. */
extern void heard_leave_to_places(Engine *engine, uint64_t news);

/*
 * Takes ends that have met or have waited long enough as points, until there
 * are max points; also that of a name, and the other end of a file that a scan
 * has found.
 */
extern void heard_take(Engine *engine, size_t max);
extern void heard_take_name(Engine *engine, uint64_t node, const char *name, size_t len);
extern void heard_take_other_end(Engine *engine, const Candidate *candidate);

/* Looks again at directories that have no place now, when it is time. */
extern void heard_retry(Engine *engine);
extern int64_t heard_retry_due(const Engine *engine);

/* Whether heard_take() would take one now. */
extern bool heard_ready(const Engine *engine);

/* Whether a scan, or a flush up to this epoch, waits for an end that waits for
 * these news. */
extern bool heard_wanted(const Engine *engine, uint64_t news, uint64_t epoch);

/* hashing.c */
extern void hashing_submit(Engine *engine, const Point *point);

/* Hands to the pool what was submitted: before the engine waits. */
extern void hashing_start(Engine *engine);
extern void hashing_row_came(Engine *engine, const char *path, size_t len,
							 const ProtoBelief *row);
extern void hashing_gone(Engine *engine, const char *path, size_t len);
extern void hashing_look_for_files(Engine *engine, const Scan *scan);
extern uint64_t hashing_bytes_under_way(const Engine *engine, int64_t scan_id);
extern const HashJob *hashing_largest(const Engine *engine);
extern void hashing_new_file(Engine *engine, const Finding *finding, uint64_t epoch,
							 int64_t scan_id, LastDirectory *last);
extern bool hashing_due(const Engine *engine, const char *path, size_t len);
extern unsigned hashing_hints(const Engine *engine, uint64_t node, const char *name,
							  size_t len);
extern void hashing_collect(Engine *engine);
extern uint64_t hashing_min_epoch(const Engine *engine);
extern bool hashing_has_scan(const Engine *engine, int64_t scan_id);
extern void hashing_drop_scan(Engine *engine, int64_t scan_id);
extern void hashing_renew(Engine *engine, uint64_t epoch);
extern void hashing_forget_nodes(Engine *engine);

/* verifying.c */
extern bool verifying_start(Engine *engine, ProtoReader body);
extern void verifying_cancel(Engine *engine, int64_t run_id);
extern void verifying_report(Engine *engine);

/* report.c */

/* Makes the full scan pay its share of what a frame has cost the worker. */
extern void report_applied(Engine *engine, int64_t cpu_us);
extern void report_file(Engine *engine, ProtoOp op, const char *path, size_t len,
						const ProtoStat *stat, const uint8_t *hash, int64_t hashed_us,
						int64_t bytes_read, int64_t scan_id);
extern void report_moved(Engine *engine, int64_t id, const char *old_path, size_t old_len,
						 const char *path, size_t len, bool renamed,
						 const ProtoStat *stat, const uint8_t *hash, int64_t hashed_us,
						 int64_t scan_id);
extern void report_removed(Engine *engine, int64_t id, ProtoGone gone, const char *path,
						   size_t len, int64_t scan_id);
extern void report_problem(Engine *engine, ProtoProblem problem, int error,
						   const char *path, size_t len, int64_t scan_id);
extern void report_not_watched(Engine *engine, const char *path, size_t len,
							   const char *message);
extern void report_cured(Engine *engine, const char *path, size_t len, int64_t scan_id);

/* Forgets what problem the path had, also with the database; true if it had one. */
extern bool report_forget_problem(Engine *engine, const char *path, size_t len);

/* Closes the frame: a frame that must be whole begins and ends with this. */
extern void report_end_frame(Engine *engine);

/* Whether n moves of so many bytes fit into the open frame. */
extern bool report_room_for_moves(const Engine *engine, size_t n, size_t bytes);

/* Closes it, if the worker is idle or the frame is full. */
extern void report_offer_frame(Engine *engine);

/* Whether the worker is so far behind that no new work should be begun. */
extern bool report_congested(const Engine *engine);
extern void report_request_beliefs(Engine *engine, const ProtoBeliefsRequest *request);
extern void report_state(Engine *engine, uint8_t state, const char *reason, const char *hint);
extern void report_progress(Engine *engine);
extern void report_scan_done(Engine *engine, const ScanRun *run);

#endif							/* FSYNC_ENGINE_H */
