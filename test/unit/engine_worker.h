/*-------------------------------------------------------------------------
 *
 * engine_worker.h
 *		A worker for the unit tests, which answers the engine when it is told to.
 *
 * The engine runs in a process of its own, as it does for a server, and what
 * it says becomes rows of a table in memory.  While `hold` is set its questions
 * for rows are kept, so that a test can change the disk in the middle of a scan
 * or an inspection, at the same place each time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TEST_ENGINE_WORKER_H
#define FSYNC_TEST_ENGINE_WORKER_H

#include "clock.h"
#include "engine.h"
#include "files.h"
#include "grow.h"
#include "path_order.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

/* How long an answer may take: longer than any machine needs. */
#define WORKER_PATIENCE_US	INT64_C(600000000)

/* Questions that may wait: one a scan, and one of an inspection. */
#define WORKER_HELD			3

typedef struct WorkerRow
{
	char	   *path;
	size_t		len;
	int64_t		id;
	bool		gone;			/* within worker_apply() only */
	ProtoStat	stat;
} WorkerRow;

typedef struct Worker
{
	pid_t		pid;
	int			socket;
	ProtoBuf	in;
	ProtoBuf	out;
	WorkerRow  *rows;			/* in path order */
	size_t		n_rows;
	size_t		capacity;
	int64_t		last_id;
	int64_t		last_scan;
	int64_t		scanned;		/* the last scan that is done */
	unsigned	scans_done;		/* ever */
	uint8_t		result;			/* ... and how */
	int64_t		last_flush;
	int64_t		flushed;
	uint64_t	removed;		/* rows, ever */
	uint64_t	added;
	bool		hold;
	ProtoBuf	held[WORKER_HELD];	/* the bodies of the questions that wait */
	size_t		n_held;
} Worker;

static int
worker_compare(const void *a, const void *b)
{
	const WorkerRow *x = a;
	const WorkerRow *y = b;

	return path_order(x->path, x->len, y->path, y->len);
}

/* The first row that is not before path. */
static size_t
worker_row_at(const Worker *w, const char *path, size_t len)
{
	size_t		low = 0;
	size_t		high = w->n_rows;

	while (low < high)
	{
		size_t		mid = low + (high - low) / 2;

		if (path_order(w->rows[mid].path, w->rows[mid].len, path, len) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static WorkerRow *
worker_find(const Worker *w, const char *path, size_t len)
{
	size_t		at = worker_row_at(w, path, len);

	return at < w->n_rows && w->rows[at].len == len &&
		memcmp(w->rows[at].path, path, len) == 0 ? &w->rows[at] : NULL;
}

/* The id of the row with this path, or 0. */
static int64_t
worker_id(const Worker *w, const char *path)
{
	const WorkerRow *row = worker_find(w, path, strlen(path));

	return row ? row->id : 0;
}

/* As apply.c: removals, then moves in two steps, then the others. */
static void
worker_apply(Worker *w, ProtoReader body)
{
	uint32_t	n = proto_get_u32(&body);
	ProtoReader again = body;
	ProtoObservation o;
	WorkerRow  *row;
	size_t		kept = 0;
	size_t		sorted;

	for (uint32_t i = 0; i < n; i++)
	{
		FILES_MUST(proto_get_observation(&body, &o));
		if (o.op != PROTO_OP_REMOVED && o.op != PROTO_OP_MOVED)
			continue;
		row = o.op == PROTO_OP_REMOVED ? worker_find(w, o.path.data, o.path.len) :
			worker_find(w, o.old_path.data, o.old_path.len);
		if (row != NULL && row->id == o.id)
			row->gone = true;
		w->removed += o.op == PROTO_OP_REMOVED;
	}
	for (size_t i = 0; i < w->n_rows; i++)
	{
		if (w->rows[i].gone)
			free(w->rows[i].path);
		else
			w->rows[kept++] = w->rows[i];
	}
	sorted = w->n_rows = kept;
	for (uint32_t i = 0; i < n; i++)
	{
		FILES_MUST(proto_get_observation(&again, &o));
		if (o.op != PROTO_OP_MOVED && o.op != PROTO_OP_ADDED && o.op != PROTO_OP_UPDATED &&
			o.op != PROTO_OP_TOUCHED)
			continue;
		w->n_rows = sorted;		/* what is new is in no order yet */
		row = worker_find(w, o.path.data, o.path.len);
		w->n_rows = kept;
		if (row == NULL)
		{
			w->rows = grow(w->rows, &w->capacity, kept + 1, sizeof(WorkerRow));
			FILES_MUST(w->rows != NULL);
			row = &w->rows[kept++];
			row->path = strndup(o.path.data, o.path.len);
			row->len = o.path.len;
			row->gone = false;
			row->id = o.op == PROTO_OP_MOVED ? o.id : ++w->last_id;
			w->n_rows = kept;
			w->added += o.op != PROTO_OP_MOVED;
		}
		else if (o.op == PROTO_OP_MOVED)
			row->id = o.id;
		row->stat = o.stat;
	}
	qsort(w->rows, w->n_rows, sizeof(WorkerRow), worker_compare);
	proto_begin(&w->out, PROTO_APPLIED);
	proto_put_i64(&w->out, 0);
	proto_end(&w->out);
}

static void
worker_put_belief(Worker *w, const WorkerRow *row)
{
	ProtoBelief b = {
		.id = row->id, .path = {row->path, row->len}, .size = row->stat.size,
		.inode = row->stat.inode, .mtime_ns = row->stat.mtime_ns,
		.ctime_ns = row->stat.ctime_ns, .btime_ns = row->stat.btime_ns
	};

	proto_put_belief(&w->out, &b);
}

static void
worker_answer(Worker *w, ProtoReader body)
{
	ProtoBeliefsRequest r;
	ProtoBeliefsHeader header = {.last = true};
	ProtoStr	path;
	size_t		from;
	size_t		to;

	FILES_MUST(proto_get_beliefs_request(&body, &r));
	header.request_id = r.request_id;
	proto_begin(&w->out, PROTO_BELIEFS);
	if (r.kind == PROTO_BELIEFS_PATHS)
	{
		ProtoStr	list = r.paths;

		while (proto_list_next(&list, &path))
			header.count += worker_find(w, path.data, path.len) != NULL;
		proto_put_beliefs_header(&w->out, &header);
		while (proto_list_next(&r.paths, &path))
		{
			const WorkerRow *row = worker_find(w, path.data, path.len);

			if (row != NULL)
				worker_put_belief(w, row);
		}
		proto_end(&w->out);
		return;
	}
	from = worker_row_at(w, r.after.data, r.after.len);
	if (!r.inclusive && worker_find(w, r.after.data, r.after.len) != NULL)
		from++;
	to = r.before.len ? worker_row_at(w, r.before.data, r.before.len) : w->n_rows;
	if (to > from + r.limit)
	{
		to = from + r.limit;
		header.last = false;
	}
	header.count = to > from ? to - from : 0;
	proto_put_beliefs_header(&w->out, &header);
	for (; from < to; from++)
		worker_put_belief(w, &w->rows[from]);
	proto_end(&w->out);
}

static void
worker_on_frame(Worker *w, uint8_t type, ProtoReader body)
{
	ProtoScanDone done;
	ProtoScan	scan;
	ProtoBuf   *held;

	switch (type)
	{
		case PROTO_OBSERVATIONS:
			worker_apply(w, body);
			break;
		case PROTO_BELIEFS_REQUEST:
			if (!w->hold)
			{
				worker_answer(w, body);
				break;
			}
			FILES_MUST(w->n_held < WORKER_HELD);
			held = &w->held[w->n_held++];
			proto_buf_init(held);
			FILES_MUST(proto_buf_reserve(held, body.end - body.p) != NULL);
			memcpy(held->data, body.p, body.end - body.p);
			held->len = body.end - body.p;
			break;
		case PROTO_SCAN_WANTED:
			scan = (ProtoScan) {.scan_id = ++w->last_scan,.mass_delete_threshold = 1.0};
			proto_begin(&w->out, PROTO_SCAN);
			proto_put_scan(&w->out, &scan);
			proto_end(&w->out);
			break;
		case PROTO_SCAN_DONE:
			FILES_MUST(proto_get_scan_done(&body, &done));
			w->scanned = done.scan_id;
			w->scans_done++;
			w->result = done.result;
			break;
		case PROTO_FLUSHED:
			w->flushed = proto_get_i64(&body);
			break;
		default:
			break;
	}
}

/* Serves the engine for so long, or until something has come. */
static void
worker_serve(Worker *w, int timeout_ms)
{
	struct pollfd pfd = {.fd = w->socket, .events = POLLIN};
	uint8_t		type;
	ProtoReader body;

	FILES_MUST(proto_send(w->socket, &w->out) == 0 || errno == EAGAIN);
	if (proto_buf_pending(&w->out) > 0)
		pfd.events |= POLLOUT;
	if (poll(&pfd, 1, timeout_ms) <= 0 || !(pfd.revents & (POLLIN | POLLHUP)))
		return;
	FILES_MUST(proto_recv(w->socket, &w->in) != 0);
	while (proto_next(&w->in, &type, &body) == 1)
		worker_on_frame(w, type, body);
	FILES_MUST(proto_send(w->socket, &w->out) == 0 || errno == EAGAIN);
}

/* Serves the engine until the condition holds; false: it never did. */
#define WORKER_UNTIL(w, cond) \
	do { \
		int64_t until_ = monotonic_us() + WORKER_PATIENCE_US; \
		while (!(cond) && monotonic_us() < until_) \
			worker_serve(w, 100); \
		FILES_MUST(cond); \
	} while (0)

static void
worker_scan(Worker *w, uint32_t flags)
{
	ProtoScan	scan = {.scan_id = ++w->last_scan,.flags = flags,.mass_delete_threshold = 1.0};

	proto_begin(&w->out, PROTO_SCAN);
	proto_put_scan(&w->out, &scan);
	proto_end(&w->out);
}

/* Of a part. */
__attribute__((unused))
static void
worker_scan_part(Worker *w, const char *path)
{
	ProtoScan	scan = {
		.scan_id = ++w->last_scan, .mass_delete_threshold = 0, .place = {path, strlen(path)}
	};

	proto_begin(&w->out, PROTO_SCAN);
	proto_put_scan(&w->out, &scan);
	proto_end(&w->out);
}

static void
worker_flush(Worker *w)
{
	proto_begin(&w->out, PROTO_FLUSH);
	proto_put_i64(&w->out, ++w->last_flush);
	proto_end(&w->out);
}

/* The next questions wait, until worker_release(). */
static void
worker_hold(Worker *w)
{
	w->hold = true;
}

static void
worker_release(Worker *w)
{
	w->hold = false;
	for (size_t i = 0; i < w->n_held; i++)
	{
		worker_answer(w, proto_reader(w->held[i].data, w->held[i].len));
		proto_buf_free(&w->held[i]);
	}
	w->n_held = 0;
}

/* A scan, or a flush, from its beginning to its end. */
__attribute__((unused))
static void
worker_scan_all(Worker *w)
{
	worker_scan(w, 0);
	WORKER_UNTIL(w, w->scanned == w->last_scan);
}

__attribute__((unused))
static void
worker_flush_all(Worker *w)
{
	worker_flush(w);
	WORKER_UNTIL(w, w->flushed == w->last_flush);
}

/*
 * Starts an engine for the directory, and scans it.  Files are not hashed, and
 * a name waits for so long unless somebody waits for it.
 */
static void
worker_start(Worker *w, const char *root, int debounce_ms)
{
	ProtoInit	init = {
		.version = PROTO_VERSION, .utf8 = true, .max_size = INT64_MAX, .watches = 100000,
		.config = {.debounce_ms = debounce_ms, .debounce_max_ms = debounce_ms,
		.batch_size = 1000, .max_concurrency = 1}
	};
	int			sockets[2];

	memset(w, 0, sizeof(*w));
	FILES_MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) == 0);
	fflush(NULL);
	w->pid = fork();
	FILES_MUST(w->pid >= 0);
	if (w->pid == 0)
	{
		EngineStart start;

		close(sockets[0]);
		engine_prepare(&start, root);
		_exit(engine_run(sockets[1], &start));
	}
	close(sockets[1]);
	w->socket = sockets[0];
	proto_buf_init(&w->in);
	proto_buf_init(&w->out);
	init.root.data = root;
	init.root.len = strlen(root);
	proto_begin(&w->out, PROTO_INIT);
	proto_put_init(&w->out, &init);
	proto_end(&w->out);
	worker_scan(w, 0);
	WORKER_UNTIL(w, w->scanned == w->last_scan);
	worker_flush_all(w);
}

/* Ends the engine, and says whether it ended well. */
static bool
worker_stop(Worker *w)
{
	int			status;

	close(w->socket);
	for (size_t i = 0; i < w->n_rows; i++)
		free(w->rows[i].path);
	free(w->rows);
	proto_buf_free(&w->in);
	proto_buf_free(&w->out);
	return waitpid(w->pid, &status, 0) == w->pid && status == 0;
}

#endif							/* FSYNC_TEST_ENGINE_WORKER_H */
