/*-------------------------------------------------------------------------
 *
 * standalone.c
 *		fsync-tree without PostgreSQL, for people and for tests.
 *
 * "watch" forks the engine with a socket, exactly as the worker does, and is
 * its worker: a sorted array of rows takes the place of file_records.  So the
 * whole of fsync-tree can be tortured under sanitizers without a server.
 *
 *-------------------------------------------------------------------------
 */
#include "standalone.h"

#include "clock.h"
#include "engine.h"
#include "grow.h"
#include "path_order.h"
#include "talk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct Row
{
	char	   *path;
	size_t		len;
	int64_t		id;
	bool		gone;			/* within apply() only */
	ProtoStat	stat;
	int64_t		scanned_us;
	bool		has_hash;
	uint8_t		hash[PROTO_HASH_LEN];
} Row;

typedef struct Watcher
{
	int			socket;
	ProtoBuf	in;
	ProtoBuf	out;
	Talk		talk;
	ProtoConfig config;
	Row		   *rows;			/* in path order */
	size_t		n_rows;
	size_t		capacity;
	int64_t		last_id;
	int64_t		last_scan;
	bool		quiet;			/* print no observations: only answers */
	bool		input_open;
	int			expected;		/* answers that are still to come */
} Watcher;

/* Bytes that would end a line or not show, as in C. */
static void
print_path(const char *path, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = path[i];

		if (c == '\\' || c < 0x20 || c == 0x7f)
			printf("\\%03o", c);
		else
			putchar(c);
	}
}

static void
print_file(const ProtoStat *stat, const uint8_t *hash, const char *path, size_t len)
{
	for (int i = 0; i < PROTO_HASH_LEN; i++)
	{
		if (hash)
			printf("%02x", hash[i]);
		else
			fputs("--", stdout);
	}
	printf("  %" PRId64 "  %" PRId64 ".%09d  ", stat->size, stat->mtime_sec,
		   (int) stat->mtime_nsec);
	print_path(path, len);
	putchar('\n');
}

static const char *
entry_trouble(const WalkEntry *entry)
{
	switch (entry->kind)
	{
		case WALK_BAD_NAME:
			return "name is not valid UTF-8";
		case WALK_TOO_LONG:
			return "path is too long";
		case WALK_GUARDED:
		case WALK_REMOTE:
			return "not entered";
		default:
			return strerror(entry->error);
	}
}

int
standalone_scan(const char *directory)
{
	const char *error;
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	WalkOptions options = {.filter = filter_create(&settings, &error), .utf8 = true};
	Sandbox		sandbox;
	Walk	   *walk;
	WalkEntry	entry;
	int			rootfd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int			more;
	int			status = 0;

	if (rootfd < 0)
	{
		fprintf(stderr, "fsync-tree: could not open directory \"%s\": %s\n",
				directory, strerror(errno));
		return 1;
	}
	sandbox_enter(rootfd, &sandbox);
	walk = walk_open(rootfd, "", 0, &options);
	if (options.filter == NULL || walk == NULL)
		return 1;
	while ((more = walk_next(walk, &entry)) == 1)
	{
		HashJob		job = {.result = HASH_ERROR};

		if (entry.kind == WALK_FILE)
		{
			job.path = (char *) entry.path;
			job.len = entry.len;
			for (int tries = 0; tries < 3 && job.result != HASH_DONE && job.result != HASH_GONE;
				 tries++)
				hash_file(rootfd, &job);
			if (job.result == HASH_GONE)
				continue;
			print_file(job.result == HASH_DONE ? &job.info.stat : &entry.info.stat,
					   job.result == HASH_DONE ? job.hash : NULL, entry.path, entry.len);
			continue;
		}
		status = 1;
		fprintf(stderr, "fsync-tree: \"%s\": %s\n", entry.path, entry_trouble(&entry));
	}
	walk_close(walk);
	close(rootfd);
	return more < 0 ? 1 : status;
}

/* ---- the table ---- */

/* The first row that is not before path. */
static size_t
row_at(const Watcher *w, const char *path, size_t len)
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

static Row *
find_row(const Watcher *w, const char *path, size_t len)
{
	size_t		at = row_at(w, path, len);

	return at < w->n_rows && path_order(w->rows[at].path, w->rows[at].len, path, len) == 0 ?
		&w->rows[at] : NULL;
}

/* Takes out the rows that were marked, all at once. */
static void
remove_gone(Watcher *w)
{
	size_t		kept = 0;

	for (size_t i = 0; i < w->n_rows; i++)
	{
		if (w->rows[i].gone)
			free(w->rows[i].path);
		else
			w->rows[kept++] = w->rows[i];
	}
	w->n_rows = kept;
}

static void
put_row(Watcher *w, const ProtoObservation *o, int64_t id)
{
	size_t		at = row_at(w, o->path.data, o->path.len);
	Row		   *row = find_row(w, o->path.data, o->path.len);

	if (row == NULL)
	{
		w->rows = grow(w->rows, &w->capacity, w->n_rows + 1, sizeof(Row));
		if (w->rows == NULL)
			abort();
		row = &w->rows[at];
		memmove(row + 1, row, (w->n_rows - at) * sizeof(Row));
		w->n_rows++;
		row->gone = false;
		row->path = strndup(o->path.data, o->path.len);
		row->len = o->path.len;
		row->id = id ? id : ++w->last_id;
	}
	else if (id)
		row->id = id;
	row->stat = o->stat;
	row->scanned_us = o->has_hash ? o->hashed_us : clock_us(CLOCK_REALTIME);
	row->has_hash = o->has_hash;
	memcpy(row->hash, o->hash, PROTO_HASH_LEN);
}

static void
print_observation(const Watcher *w, const ProtoObservation *o)
{
	if (w->quiet)
		return;
	printf("%c ", o->op);
	if (o->op == PROTO_OP_MOVED)
	{
		print_path(o->old_path.data, o->old_path.len);
		fputs(" -> ", stdout);
	}
	print_path(o->path.data, o->path.len);
	if (o->op == PROTO_OP_PROBLEM)
		printf(": %s", proto_problem_name(o->problem));
	putchar('\n');
}

/* As apply.c: removals, then moves in two steps, then the others. */
static bool
apply(Watcher *w, ProtoReader body)
{
	uint32_t	n = proto_get_u32(&body);
	ProtoReader again = body;
	ProtoObservation o;
	bool		gone = false;

	for (uint32_t i = 0; i < n; i++)
	{
		Row		   *row;

		if (!proto_get_observation(&body, &o))
			return false;
		print_observation(w, &o);
		row = NULL;
		if (o.op == PROTO_OP_REMOVED)
			row = find_row(w, o.path.data, o.path.len);
		else if (o.op == PROTO_OP_MOVED)
			row = find_row(w, o.old_path.data, o.old_path.len);
		if (row != NULL && row->id == o.id)
			gone = row->gone = true;
	}
	if (gone)
		remove_gone(w);
	for (uint32_t i = 0; i < n; i++)
	{
		proto_get_observation(&again, &o);
		if (o.op == PROTO_OP_MOVED)
			put_row(w, &o, o.id);
		else if (o.op == PROTO_OP_ADDED || o.op == PROTO_OP_UPDATED ||
				 o.op == PROTO_OP_TOUCHED)
			put_row(w, &o, 0);
	}
	proto_begin(&w->out, PROTO_APPLIED);
	proto_put_i64(&w->out, 0);
	proto_end(&w->out);
	return true;
}

static void
put_belief(Watcher *w, const Row *row)
{
	ProtoBelief b = {
		.id = row->id, .path = {row->path, row->len}, .size = row->stat.size,
		.inode = row->stat.inode, .mtime_ns = row->stat.mtime_ns,
		.ctime_ns = row->stat.ctime_ns, .btime_ns = row->stat.btime_ns,
		.scanned_us = row->scanned_us, .has_hash = row->has_hash
	};

	memcpy(b.hash, row->hash, PROTO_HASH_LEN);
	proto_put_belief(&w->out, &b);
}

static bool
answer_beliefs(Watcher *w, ProtoReader body)
{
	ProtoBeliefsRequest r;
	ProtoBeliefsHeader header = {.last = true};
	ProtoStr	path;
	size_t		from;
	size_t		to;

	if (!proto_get_beliefs_request(&body, &r))
		return false;
	header.request_id = r.request_id;
	proto_begin(&w->out, PROTO_BELIEFS);
	if (r.kind == PROTO_BELIEFS_PATHS)
	{
		ProtoStr	list = r.paths;

		while (proto_list_next(&list, &path))
			header.count += find_row(w, path.data, path.len) != NULL;
		proto_put_beliefs_header(&w->out, &header);
		while (proto_list_next(&r.paths, &path))
		{
			const Row  *row = find_row(w, path.data, path.len);

			if (row)
				put_belief(w, row);
		}
		proto_end(&w->out);
		return true;
	}
	from = row_at(w, r.after.data, r.after.len);
	if (!r.inclusive && from < w->n_rows &&
		path_order(w->rows[from].path, w->rows[from].len, r.after.data, r.after.len) == 0)
		from++;
	to = r.before.len ? row_at(w, r.before.data, r.before.len) : w->n_rows;
	if (to > from + r.limit)
	{
		to = from + r.limit;
		header.last = false;
	}
	header.count = to > from ? to - from : 0;
	proto_put_beliefs_header(&w->out, &header);
	while (from < to)
		put_belief(w, &w->rows[from++]);
	proto_end(&w->out);
	return true;
}

/* ---- the worker's part ---- */

static void
send_scan(Watcher *w, uint32_t flags)
{
	ProtoScan	scan = {.scan_id = ++w->last_scan, .flags = flags, .mass_delete_threshold = 1.0};

	proto_begin(&w->out, PROTO_SCAN);
	proto_put_scan(&w->out, &scan);
	proto_end(&w->out);
}

static bool
on_frame(Watcher *w, uint8_t type, ProtoReader body)
{
	ProtoScanDone done;
	ProtoState	state;
	ProtoStr	text;

	switch (type)
	{
		case PROTO_OBSERVATIONS:
			return apply(w, body);
		case PROTO_BELIEFS_REQUEST:
			return answer_beliefs(w, body);
		case PROTO_SCAN_WANTED:
			text = proto_get_str(&body);
			printf("# %.*s\n", (int) text.len, text.data);
			send_scan(w, 0);
			return true;
		case PROTO_SCAN_DONE:
			if (!proto_get_scan_done(&body, &done))
				return false;
			printf("scanned %d: %" PRIu64 " files%s%.*s\n", done.result,
				   done.files_scanned, done.message.len ? ": " : "",
				   (int) done.message.len, done.message.data);
			w->expected--;
			break;
		case PROTO_FLUSHED:
			printf("flushed\n");
			w->expected--;
			break;
		case PROTO_STATE:
			if (!proto_get_state(&body, &state))
				return false;
			if (state.reason.len)
				printf("# %.*s\n", (int) state.reason.len, state.reason.data);
			break;
		case PROTO_LOG:
			proto_get_u8(&body);
			text = proto_get_str(&body);
			printf("# %.*s\n", (int) text.len, text.data);
			break;
		default:
			return true;
	}
	fflush(stdout);
	return true;
}

static void
on_command(Watcher *w, const char *line)
{
	ProtoConfig config = w->config;

	if (sscanf(line, "configure %" SCNd32 " %" SCNd32 " %" SCNd32, &config.max_concurrency,
			   &config.scan_cpu_ppm, &config.debounce_ms) == 3)
	{
		config.debounce_max_ms = 10 * config.debounce_ms;
		proto_begin(&w->out, PROTO_CONFIG);
		proto_put_config(&w->out, &config);
		proto_end(&w->out);
		printf("configured\n");
	}
	else if (strcmp(line, "flush") == 0)
	{
		proto_begin(&w->out, PROTO_FLUSH);
		proto_put_i64(&w->out, 1);
		proto_end(&w->out);
		w->expected++;
	}
	else if (strcmp(line, "scan") == 0)
	{
		send_scan(w, 0);
		w->expected++;
	}
	else if (strcmp(line, "quiet") == 0)
		w->quiet = true;
	else if (strcmp(line, "ids") == 0)
	{
		for (size_t i = 0; i < w->n_rows; i++)
		{
			printf("%" PRId64 "  %" PRId64 "  ", w->rows[i].id, w->rows[i].stat.inode);
			print_path(w->rows[i].path, w->rows[i].len);
			putchar('\n');
		}
		printf("end\n");
	}
	else if (strcmp(line, "dump") == 0)
	{
		for (size_t i = 0; i < w->n_rows; i++)
			print_file(&w->rows[i].stat, w->rows[i].has_hash ? w->rows[i].hash : NULL,
					   w->rows[i].path, w->rows[i].len);
		printf("end\n");
	}
	fflush(stdout);
}

static void
read_commands(Watcher *w)
{
	static char line[256];
	static size_t len;
	char		c;
	ssize_t		n = read(STDIN_FILENO, &c, 1);

	if (n <= 0)
		w->input_open = false;
	else if (c == '\n')
	{
		line[len] = '\0';
		len = 0;
		on_command(w, line);
	}
	else if (len < sizeof(line) - 1)
		line[len++] = c;
}

/* As the worker, which ends an fsync-tree that says what it may not. */
static bool
is_allowed(Watcher *w, uint8_t type, ProtoReader body)
{
	const char *why = talk_hear(&w->talk, type, body, monotonic_us());

	if (why != NULL)
		fprintf(stderr, "fsync-tree: said %s\n", why);
	return why == NULL;
}

static int
watch(Watcher *w, const char *directory)
{
	ProtoInit	init = {
		.version = PROTO_VERSION, .config = w->config, .utf8 = true, .max_size = INT64_MAX,
		.watches = INT64_MAX
	};

	init.root.data = directory;
	init.root.len = strlen(directory);
	proto_begin(&w->out, PROTO_INIT);
	proto_put_init(&w->out, &init);
	proto_end(&w->out);
	send_scan(w, 0);
	w->input_open = true;
	w->expected = 1;
	while (w->input_open || w->expected > 0)
	{
		struct pollfd fds[2] = {
			{.fd = w->socket, .events = POLLIN},
			{.fd = w->input_open ? STDIN_FILENO : -1, .events = POLLIN},
		};
		uint8_t		type;
		ProtoReader body;
		int			more;

		if (proto_buf_pending(&w->out) > 0)
			fds[0].events |= POLLOUT;
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents & (POLLIN | POLLHUP))
		{
			ssize_t		n = proto_recv(w->socket, &w->in);

			if (n == 0)
				return 1;
			while ((more = proto_next(&w->in, &type, &body)) == 1)
				if (!is_allowed(w, type, body) || !on_frame(w, type, body))
					return 1;
			if (more < 0)
				return 1;
			fflush(stdout);
		}
		if (fds[1].revents)
			read_commands(w);
		talk_note(&w->talk, &w->out);
		if (proto_send(w->socket, &w->out) < 0 && errno != EAGAIN)
			return 1;
		talk_noted(&w->talk, &w->out);
	}
	return 0;
}

int
standalone_watch(const char *directory, int debounce_ms)
{
	Watcher		w = {
		.config = {.debounce_ms = debounce_ms, .debounce_max_ms = 10 * debounce_ms,
		.batch_size = 1000, .max_concurrency = 4, .calculate_hashes = true}
	};
	int			sockets[2];
	char	   *real = realpath(directory, NULL);
	int			status;
	pid_t		pid;

	if (real == NULL)
	{
		fprintf(stderr, "fsync-tree: could not open directory \"%s\": %s\n",
				directory, strerror(errno));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0 ||
		(pid = fork()) < 0)
	{
		fprintf(stderr, "fsync-tree: could not start: %s\n", strerror(errno));
		return 1;
	}
	if (pid == 0)
	{
		EngineStart start;

		close(sockets[0]);
		engine_prepare(&start, real);
		_exit(engine_run(sockets[1], &start));
	}
	close(sockets[1]);
	w.socket = sockets[0];
	proto_buf_init(&w.in);
	proto_buf_init(&w.out);
	w.in.max_frame = PROTO_MAX_TREE_FRAME;
	talk_init(&w.talk, monotonic_us());
	status = watch(&w, real);
	talk_free(&w.talk);
	close(w.socket);
	for (size_t i = 0; i < w.n_rows; i++)
		free(w.rows[i].path);
	free(w.rows);
	proto_buf_free(&w.in);
	proto_buf_free(&w.out);
	free(real);
	return status;
}
