/*-------------------------------------------------------------------------
 *
 * protocol.h
 *		What fsync-tree and the PostgreSQL worker say to each other.
 *
 * The two run on one machine, from one package, at the ends of a socketpair:
 * integers are in the machine's own byte order, and a version number in the
 * first message of each side refuses a mixture of packages.  A frame is
 *
 *		uint32	length of what follows
 *		uint8	type, one of the PROTO_* below
 *		...		body
 *
 * and a byte string in a body is a uint32 length and its bytes.  Both ends
 * decode with bounds checked: a frame that does not parse ends the connection,
 * never the process that read it.
 *
 * The order of the socket is the order of the world.  The worker commits all
 * observations that it received before a BELIEFS_REQUEST or a FLUSHED before
 * it acts on that message; nothing else is needed to keep the two in step.
 *
 * This header, protocol.c and messages.c are compiled into both programs, so
 * they use malloc() and know neither PostgreSQL nor threads.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PROTOCOL_H
#define FSYNC_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lag.h"

#define PROTO_VERSION		6
#define PROTO_MAX_FRAME		(32 * 1024 * 1024)

/* The longest frame of fsync-tree: what it says may be false, and is kept
 * whole in the worker's memory. */
#define PROTO_MAX_TREE_FRAME	(2 * 1024 * 1024)

/*
 * The most observations of one message: so many times batch_size, where they
 * are all of a scan, and of moves, which may have to go together, so many.
 */
#define PROTO_SCAN_BATCHES	5
#define PROTO_MAX_MOVES		10000

/* The most rows that a belief request asks for, by range and by path. */
#define PROTO_MAX_RANGE		20000
#define PROTO_MAX_PATHS		1000

#define PROTO_HASH_LEN		32

/* The longest file_path, in bytes: a btree row ends at 2,704. */
#define PROTO_PATH_MAX		2500

/* A time that the file system does not know (birth time, mostly). */
#define PROTO_NO_TIME		INT64_MIN

/*
 * fsync-tree ends with this status when its root was lost or replaced: it is
 * to be started again at once, which is no failure.
 */
#define PROTO_EXIT_RESTART	3

/*
 * ... and with this one when it has found the directory that it is not allowed
 * to read: the next one is, and is told again what to do.
 */
#define PROTO_EXIT_OTHER_ROOT	5

/* ... and with this one, at once, when it was told to begin in a complete
 * sandbox only, and the kernel has none for it. */
#define PROTO_EXIT_UNCONFINED	4

/*
 * The descriptors on which fsync-tree finds its socket and, behind it, files
 * without a name for what does not fit into memory.
 */
#define PROTO_SOCKET_FD		3

/* How the first argument begins where a server has started it; see main.c. */
#define PROTO_TITLE			"fsync-tree: "
#define PROTO_SPOOL_FD		4
#define PROTO_SPOOLS		3

typedef enum ProtoType
{
	/* worker to fsync-tree */
	PROTO_INIT = 'I',			/* ProtoInit: first message, once */
	PROTO_CONFIG = 'C',			/* ProtoConfig: settings were reloaded */
	PROTO_SCAN = 'S',			/* ProtoScan: compare the whole tree, or a part;
								 * one of each at a time */
	PROTO_SCAN_CANCEL = 'X',	/* int64 scan_id, or run_id of a verification */
	PROTO_VERIFY = 'V',			/* ProtoVerify, then its beliefs: read these
								 * files again; one message at a time */
	PROTO_BELIEFS = 'B',		/* ProtoBeliefsHeader, then its beliefs */
	PROTO_FLUSH = 'F',			/* int64 token: answer when all is sent */
	PROTO_PING = 'P',			/* int64 token */
	PROTO_APPLIED = 'A',		/* int64 cpu_us: one more OBSERVATIONS frame
								 * has been committed, which cost the worker
								 * so much CPU time */
	PROTO_WATCHES = 'W',		/* int64: so many directories may be watched;
								 * answers a PROTO_WATCHES_WANTED */
	PROTO_REFUSED = 'R',		/* uint32 count, then a string each: files whose
								 * rows in the frame that is APPLIED next the
								 * database refused; they are problems */
	PROTO_LOOK = 'L',			/* a string each: files to be looked at again,
								 * though no event names them */

	/* fsync-tree to worker */
	PROTO_HELLO = 'h',			/* uint32 version, string: what is missing of
								 * the sandbox, and why; empty: nothing */
	PROTO_STATE = 's',			/* ProtoState */
	PROTO_BELIEFS_REQUEST = 'b',	/* ProtoBeliefsRequest */
	PROTO_OBSERVATIONS = 'o',	/* uint32 count, then ProtoObservation each */
	PROTO_PROGRESS = 'g',		/* ProtoProgress */
	PROTO_STATISTICS = 't',		/* ProtoStatistics */
	PROTO_WATCHES_WANTED = 'n', /* int64: so many directories in all are to be
								 * watched; one at a time */
	PROTO_SCAN_WANTED = 'w',	/* string reason: events were lost; the
								 * worker answers with a PROTO_SCAN */
	PROTO_SCAN_DONE = 'd',		/* ProtoScanDone */
	PROTO_VERIFIED = 'v',		/* ProtoVerifiedHeader, then its verdicts */
	PROTO_FLUSHED = 'f',		/* int64 token, uint8 ProtoFlushResult */
	PROTO_PONG = 'p',			/* int64 token */
	PROTO_LOG = 'l',			/* uint8 level ('W' warning, 'L' log, 'D'
								 * debug), string message */

	/* fsync-tree to a session that asks */
	PROTO_WHY = 'y',			/* ProtoWhy */
} ProtoType;

/* A byte string inside a received frame; not terminated, not owned. */
typedef struct ProtoStr
{
	const char *data;
	uint32_t	len;
} ProtoStr;

/* How a scan's reads rank among others; see ioprio_set(2). */
typedef enum ProtoIoPriority
{
	PROTO_IO_NONE = 0,			/* as those of any process */
	PROTO_IO_BEST_EFFORT,		/* after those */
	PROTO_IO_IDLE,				/* only while nobody else reads or writes */
} ProtoIoPriority;

typedef struct ProtoConfig
{
	int32_t		debounce_ms;	/* restarted by each event of a path */
	int32_t		debounce_max_ms;	/* from the first event of a path */
	int32_t		batch_size;		/* most observations in one message */
	int32_t		max_concurrency;	/* threads that hash */
	bool		calculate_hashes;
	int32_t		scan_cpu_ppm;	/* CPU time that a scan may take on both sides,
								 * in millionths of a core; 0: no limit */
	uint8_t		io_priority;	/* ProtoIoPriority, of scans */
} ProtoConfig;

/*
 * include, exclude and mounts are lists: each element a string, the list
 * itself a string that holds them one after the other (proto_get_str on a
 * reader of its own; proto_list_next).
 */
typedef struct ProtoInit
{
	uint32_t	version;
	ProtoConfig config;
	bool		utf8;			/* names must be valid UTF-8 */
	ProtoStr	root;			/* absolute path that is watched */
	ProtoStr	given;			/* the path that it was registered by, perhaps
								 * through symbolic links; empty: none */
	ProtoStr	identity;		/* of the root at the last complete scan, as
								 * fsync-tree reported it; empty: none yet */
	ProtoStr	rows_identity;	/* of the root that the rows were read from, if
								 * that may have been another; empty: not known */
	ProtoStr	mounts;			/* list: as reported in ProtoState */
	ProtoStr	include;		/* list of patterns; empty: everything */
	ProtoStr	exclude;		/* list of patterns */
	bool		ignore_case;	/* in patterns */
	bool		include_hidden; /* names that begin with '.' are tracked */
	bool		use_ignore_files;	/* the tree's .fsyncignore files count */
	int64_t		min_size;		/* bytes, >= 0 */
	int64_t		max_size;		/* bytes, >= 0; INT64_MAX: no limit */
	int64_t		watches;		/* so many directories may be watched */
	bool		fresh;			/* no scan was complete: mounts are accepted as
								 * they are */
	ProtoStr	server;			/* list: ProtoPlace, of the server's directories
								 * and those above them, which are no root */
} ProtoInit;

/* A directory, by what stat says of it. */
typedef struct ProtoPlace
{
	uint64_t	device;
	uint64_t	inode;
	bool		whole;			/* nothing below it is a root either */
} ProtoPlace;

/* Flags of a scan. */
#define PROTO_SCAN_FORCE		0x01	/* accept a new root, new mounts and a
										 * mass deletion */

typedef struct ProtoScan
{
	int64_t		scan_id;		/* > 0 */
	uint32_t	flags;
	double		mass_delete_threshold;	/* 0..1, share of the believed rows */
	ProtoStr	place;			/* a file or directory, of which somebody says
								 * that it changed, so that there is no
								 * threshold; empty: everything */
} ProtoScan;

/* What stat says of a file. */
typedef struct ProtoStat
{
	int64_t		size;
	int64_t		inode;
	int64_t		mtime_sec;		/* exact, of any year */
	int32_t		mtime_nsec;		/* 0..999999999, also before 1970 */
	int64_t		mtime_ns;		/* since 1970, saturating */
	int64_t		ctime_ns;		/* the same */
	int64_t		btime_ns;		/* the same, or PROTO_NO_TIME */
} ProtoStat;

/* A row of file_records, as the worker believes it. */
typedef struct ProtoBelief
{
	int64_t		id;
	ProtoStr	path;
	int64_t		size;
	int64_t		inode;
	int64_t		mtime_ns;
	int64_t		ctime_ns;
	int64_t		btime_ns;		/* PROTO_NO_TIME where the row has NULL */
	int64_t		scanned_us;		/* last_scanned, microseconds since 1970 */
	bool		has_hash;
	uint8_t		hash[PROTO_HASH_LEN];
} ProtoBelief;

typedef enum ProtoBeliefsKind
{
	PROTO_BELIEFS_RANGE = 'r',	/* path > after (or >=), path < before */
	PROTO_BELIEFS_PATHS = 'p',	/* exactly these paths */
} ProtoBeliefsKind;

typedef struct ProtoBeliefsRequest
{
	int64_t		request_id;
	uint8_t		kind;
	bool		inclusive;		/* range: path >= after */
	ProtoStr	after;			/* range: empty and inclusive: from the
								 * beginning */
	ProtoStr	before;			/* range: empty: to the end */
	uint32_t	limit;			/* range: rows of this page */
	ProtoStr	paths;			/* paths: a list in ascending byte order */
} ProtoBeliefsRequest;

/* Followed by count beliefs, in byte order of their paths. */
typedef struct ProtoBeliefsHeader
{
	int64_t		request_id;
	bool		last;			/* range: nothing follows this page */
	int64_t		cpu_us;			/* what reading it cost the worker */
	uint32_t	count;
} ProtoBeliefsHeader;

typedef enum ProtoOp
{
	/*
	 * These three write "path is a file with this stat and hash", whether or
	 * not there is a row; they differ in what is counted.
	 */
	PROTO_OP_ADDED = 'A',		/* there was no row */
	PROTO_OP_UPDATED = 'U',		/* size, mtime or content is new */
	PROTO_OP_TOUCHED = 'T',		/* only bookkeeping (ctime, inode): counts
								 * nothing */

	/*
	 * The row with this id and old_path is now at path, with this stat and
	 * hash; a row at path goes first.  Where there is no such row any more,
	 * as PROTO_OP_ADDED.  All moves of one message happen together (they may
	 * overlap: exchanges, d/d/x to d/x).
	 */
	PROTO_OP_MOVED = 'M',
	PROTO_OP_REMOVED = 'R',		/* the row with this id and path has no file
								 * any more; gone says why */

	PROTO_OP_PROBLEM = 'P',		/* problem, message, path, stat unused */
	PROTO_OP_CLEAR = 'C',		/* the problem of path is gone */
} ProtoOp;

/* Words of fsync_problems.problem; see proto_problem_name(). */
typedef enum ProtoProblem
{
	PROTO_PROBLEM_PERMISSION = 1,	/* permission denied */
	PROTO_PROBLEM_ENCODING,		/* name invalid in the database's encoding */
	PROTO_PROBLEM_TOO_LONG,		/* path longer than PROTO_PATH_MAX */
	PROTO_PROBLEM_CHANGING,		/* kept changing while it was read */
	PROTO_PROBLEM_IO,			/* I/O error, message says which */
	PROTO_PROBLEM_LEASE,		/* another process holds a lease on it */
	PROTO_PROBLEM_NOT_WATCHED,	/* a directory without a watch */
	PROTO_PROBLEM_MOUNT,		/* a mount appeared or vanished here */
	PROTO_PROBLEM_REFERENCED,	/* worker: a foreign key kept the row */
	PROTO_PROBLEM_REJECTED,		/* worker: the database refused the row */
	PROTO_PROBLEM_CORRUPT,		/* worker: other content than was hashed, while
								 * stat says that nothing changed */
	PROTO_PROBLEM_UNREADABLE,	/* worker: a verification could not read it */
	PROTO_PROBLEM_LOCKED,		/* worker: another transaction holds the row */
} ProtoProblem;

/* Why there is no file at a path. */
typedef enum ProtoGone
{
	PROTO_GONE_ABSENT = 0,		/* there is no such name */
	PROTO_GONE_TYPE,			/* the name is that of something else */
	PROTO_GONE_EXCLUDED,		/* there is one, and it is not to be tracked */
} ProtoGone;

typedef struct ProtoObservation
{
	uint8_t		op;
	int64_t		scan_id;		/* the scan that found it; 0: real time */
	int64_t		id;				/* moved, removed */
	ProtoStr	path;
	ProtoStr	old_path;		/* moved */
	bool		renamed;		/* moved: the file itself was renamed, not a
								 * directory above it */
	ProtoStat	stat;			/* added, updated, touched, moved */
	bool		has_hash;		/* false: content_hash is NULL */
	uint8_t		hash[PROTO_HASH_LEN];
	int64_t		hashed_us;		/* with a hash: when its reading began,
								 * microseconds since 1970 */
	int64_t		bytes_read;		/* with a hash: for it; 0: it is that of
								 * another name of the file */
	uint8_t		gone;			/* removed: ProtoGone */
	uint8_t		problem;		/* ProtoProblem */
	ProtoStr	message;		/* problem: in words, may be empty */
} ProtoObservation;

/*
 * What "fsync-tree why" answers: one frame PROTO_WHY on its standard output,
 * for one PROTO_INIT on its standard input.  Empty strings: there is none.
 */
typedef struct ProtoWhy
{
	bool		known;			/* else tracked means nothing */
	bool		tracked;
	ProtoStr	source;			/* what kind of rule decides */
	ProtoStr	rule;			/* as it was written */
	ProtoStr	rule_file;		/* the .fsyncignore that it is in */
	ProtoStr	decided;		/* the part of the path that it speaks of */
	ProtoStr	detail;			/* a sentence */
} ProtoWhy;

typedef enum ProtoTreeState
{
	PROTO_STATE_STARTING = 1,	/* putting up watches */
	PROTO_STATE_WATCHING,		/* all directories are watched */
	PROTO_STATE_DEGRADED,		/* works, but not all of it; reason says why */
	PROTO_STATE_UNAVAILABLE,	/* the root cannot be used; rows stay */
} ProtoTreeState;

/* Sent whenever something in it changed. */
typedef struct ProtoState
{
	uint8_t		state;			/* ProtoTreeState */
	ProtoStr	reason;			/* a message, empty when all is well */
	ProtoStr	hint;			/* what the user can do, or empty */
	bool		polled;			/* part of the tree has no events: reconcile
								 * more often */
	uint64_t	directories;	/* watched */
	ProtoStr	identity;		/* of the accepted root; empty: unknown */
	ProtoStr	mounts;			/* list: the accepted mounts in the tree */
} ProtoState;

/* Sent at most every 200 ms while there is work, and once when it ends. */
typedef struct ProtoProgress
{
	int64_t		scan_id;		/* the running scan, or 0 */
	uint64_t	files_done;		/* of the scan: compared */
	uint64_t	bytes_hashed;	/* of the scan */
	uint64_t	pending;		/* changes that wait or are inspected */
	int64_t		last_event_us;	/* microseconds since 1970; 0: none yet */
	uint64_t	directories;	/* watched */
	ProtoStr	reading;		/* of the files that are to be hashed, the
								 * largest; empty: there is none */
	int64_t		reading_done;	/* bytes of it that were read */
	int64_t		reading_size;	/* bytes that it has */
	uint64_t	unread;			/* of those pending, files of which only the ctime
								 * moved, and that are to be read for that */
} ProtoProgress;

typedef enum ProtoFlushResult
{
	PROTO_FLUSH_DONE = 0,		/* all that had happened has been sent */
	PROTO_FLUSH_IN_VAIN,		/* the registered path does not lead to the
								 * registered directory: the state says more */
} ProtoFlushResult;

/* Counted since the process began; sent after a PROTO_PROGRESS. */
typedef struct ProtoStatistics
{
	uint64_t	events;			/* inotify's */
	uint64_t	overflows;		/* times that events were lost */
	uint64_t	inspections;	/* paths that were looked at */
	uint64_t	files_hashed;
	uint64_t	bytes_hashed;
	uint64_t	lag[LAG_BUCKETS];	/* from a change's first event to its
									 * commit */
} ProtoStatistics;

typedef enum ProtoScanResult
{
	PROTO_SCAN_COMPLETE = 0,
	PROTO_SCAN_CANCELLED,		/* by the worker, or the root went away */
	PROTO_SCAN_FAILED,			/* message says why */
	PROTO_SCAN_MASS_DELETE,		/* nothing was removed; removals says how much
								 * would have been */
} ProtoScanResult;

/* Comes after the last observation of its scan. */
typedef struct ProtoScanDone
{
	int64_t		scan_id;
	uint8_t		result;			/* ProtoScanResult */
	uint64_t	files_scanned;
	uint64_t	bytes_hashed;
	uint64_t	removals;		/* that the scan found */
	uint64_t	believed;		/* rows that were compared */
	ProtoStr	message;
	ProtoStr	hint;
} ProtoScanDone;

/* Files to be read again, whose rows have a hash: count beliefs follow. */
typedef struct ProtoVerify
{
	int64_t		run_id;			/* > 0 */
	int64_t		rate;			/* bytes a second; 0: no limit */
	uint32_t	count;
} ProtoVerify;

typedef enum ProtoVerdict
{
	PROTO_VERIFIED_RIGHT = 1,	/* the content is what was hashed */
	PROTO_VERIFIED_CORRUPT,		/* it is not, while stat says that it is */
	PROTO_VERIFIED_UNREADABLE,	/* error says why */
	PROTO_VERIFIED_CHANGED,		/* the file is not as the belief says, or more
								 * is to be heard of it: no verdict */
} ProtoVerdict;

/* Sent as verdicts come; those of a PROTO_VERIFY may come in several. */
typedef struct ProtoVerifiedHeader
{
	int64_t		run_id;
	bool		last;			/* nothing of the PROTO_VERIFY follows */
	uint32_t	count;
} ProtoVerifiedHeader;

typedef struct ProtoVerified
{
	int64_t		id;				/* of the row */
	uint8_t		verdict;		/* ProtoVerdict */
	int64_t		bytes;			/* read */
	int32_t		error;			/* errno, or 0 */
	uint8_t		expected[PROTO_HASH_LEN];	/* of the belief */
	uint8_t		found[PROTO_HASH_LEN];
} ProtoVerified;

/* ---------------------------------------------------------------------
 * Buffers
 * ---------------------------------------------------------------------
 */

/*
 * A growing byte buffer, written at the end and consumed from the front.
 * failed is set when memory ran out or a frame grew too long; the buffer is
 * then not to be sent.
 */
typedef struct ProtoBuf
{
	char	   *data;
	size_t		start;			/* first unconsumed byte */
	size_t		len;			/* end of the data */
	size_t		cap;
	size_t		frame;			/* where the open frame begins */
	bool		open;			/* there is one: it is not sent yet */
	bool		failed;
	uint32_t	max_frame;		/* of a frame that is read; 0: PROTO_MAX_FRAME */
} ProtoBuf;

typedef struct ProtoReader
{
	const char *p;
	const char *end;
	bool		failed;			/* something did not fit: refuse the frame */
} ProtoReader;

extern void proto_buf_init(ProtoBuf *buf);
extern void proto_buf_free(ProtoBuf *buf);

/* Unconsumed bytes; those of a frame that is still open are not among them. */
extern size_t proto_buf_pending(const ProtoBuf *buf);

/* Room for len bytes at the end; NULL (and failed) when out of memory. */
extern char *proto_buf_reserve(ProtoBuf *buf, size_t len);

/* One frame is open at a time; proto_end() fills in its length. */
extern void proto_begin(ProtoBuf *buf, ProtoType type);
extern void proto_end(ProtoBuf *buf);

extern void proto_put_u8(ProtoBuf *buf, uint8_t v);
extern void proto_put_u32(ProtoBuf *buf, uint32_t v);
extern void proto_put_i64(ProtoBuf *buf, int64_t v);
extern void proto_put_double(ProtoBuf *buf, double v);
extern void proto_put_str(ProtoBuf *buf, const void *data, size_t len);

/* Without a length: both ends know it. */
extern void proto_put_bytes(ProtoBuf *buf, const void *data, size_t len);

/* Overwrites a uint32 put earlier at this offset from the frame's start. */
extern size_t proto_offset(const ProtoBuf *buf);
extern void proto_patch_u32(ProtoBuf *buf, size_t offset, uint32_t v);

extern ProtoReader proto_reader(const void *data, size_t len);
extern uint8_t proto_get_u8(ProtoReader *r);
extern uint32_t proto_get_u32(ProtoReader *r);
extern int64_t proto_get_i64(ProtoReader *r);
extern double proto_get_double(ProtoReader *r);
extern ProtoStr proto_get_str(ProtoReader *r);

/* Copies the next bytes, or zeros once the reader has failed. */
extern void proto_get_bytes(ProtoReader *r, void *to, size_t len);

/* Steps through a list; false at its end (or when it is malformed). */
extern bool proto_list_next(ProtoStr *list, ProtoStr *element);

/*
 * Takes the next whole frame out of the buffer.  Returns 1 and fills type and
 * body (valid until the buffer is written again), 0 when more bytes are
 * needed, -1 when the stream is not this protocol.
 */
extern int	proto_next(ProtoBuf *buf, uint8_t *type, ProtoReader *body);

/*
 * Moves bytes without blocking.  proto_send() returns the bytes left to send
 * or -1 with errno; proto_recv() returns the bytes read, 0 at end of file,
 * and -1 with errno (EAGAIN: nothing there).
 */
extern ssize_t proto_send(int fd, ProtoBuf *buf);
extern ssize_t proto_recv(int fd, ProtoBuf *buf);

/* ---------------------------------------------------------------------
 * Messages: put_x writes the body (or the element) into the open frame,
 * get_x returns false when it does not parse.
 * ---------------------------------------------------------------------
 */
extern void proto_put_config(ProtoBuf *buf, const ProtoConfig *m);
extern bool proto_get_config(ProtoReader *r, ProtoConfig *m);
extern void proto_put_init(ProtoBuf *buf, const ProtoInit *m);
extern bool proto_get_init(ProtoReader *r, ProtoInit *m);
extern void proto_put_place(ProtoBuf *list, const ProtoPlace *place);
extern bool proto_next_place(ProtoStr *list, ProtoPlace *place);
extern void proto_put_why(ProtoBuf *buf, const ProtoWhy *m);
extern bool proto_get_why(ProtoReader *r, ProtoWhy *m);
extern void proto_put_scan(ProtoBuf *buf, const ProtoScan *m);
extern bool proto_get_scan(ProtoReader *r, ProtoScan *m);
extern void proto_put_beliefs_header(ProtoBuf *buf, const ProtoBeliefsHeader *m);
extern bool proto_get_beliefs_header(ProtoReader *r, ProtoBeliefsHeader *m);
extern void proto_put_belief(ProtoBuf *buf, const ProtoBelief *m);
extern bool proto_get_belief(ProtoReader *r, ProtoBelief *m);
extern void proto_put_beliefs_request(ProtoBuf *buf, const ProtoBeliefsRequest *m);
extern bool proto_get_beliefs_request(ProtoReader *r, ProtoBeliefsRequest *m);
extern void proto_put_observation(ProtoBuf *buf, const ProtoObservation *m);
extern bool proto_get_observation(ProtoReader *r, ProtoObservation *m);
extern void proto_put_state(ProtoBuf *buf, const ProtoState *m);
extern bool proto_get_state(ProtoReader *r, ProtoState *m);
extern void proto_put_progress(ProtoBuf *buf, const ProtoProgress *m);
extern bool proto_get_progress(ProtoReader *r, ProtoProgress *m);
extern void proto_put_statistics(ProtoBuf *buf, const ProtoStatistics *m);
extern bool proto_get_statistics(ProtoReader *r, ProtoStatistics *m);
extern void proto_put_scan_done(ProtoBuf *buf, const ProtoScanDone *m);
extern bool proto_get_scan_done(ProtoReader *r, ProtoScanDone *m);

extern void proto_put_verify(ProtoBuf *buf, const ProtoVerify *m);
extern bool proto_get_verify(ProtoReader *r, ProtoVerify *m);

/* Returns where count is, for proto_patch_u32(). */
extern size_t proto_put_verified_header(ProtoBuf *buf, const ProtoVerifiedHeader *m);
extern bool proto_get_verified_header(ProtoReader *r, ProtoVerifiedHeader *m);
extern void proto_put_verified(ProtoBuf *buf, const ProtoVerified *m);
extern bool proto_get_verified(ProtoReader *r, ProtoVerified *m);

/* The word for fsync_problems.problem, for instance "permission denied". */
extern const char *proto_problem_name(uint8_t problem);

#endif							/* FSYNC_PROTOCOL_H */
