/*-------------------------------------------------------------------------
 *
 * oracle.c
 *		A program in the place of fsync-tree that says what comes to its mind.
 *
 * It sends the worker random observations, as an fsync-tree of a tree that
 * changes beyond reason would, and keeps a table of its own, to which they are
 * applied one after the other.  After each message it asks the worker for all
 * that it believes, which must be equal: every row with its id.
 *
 * Each flush is answered after a number of messages.  The root has a file
 * "oracle" with a seed and that number, and gets a file "result": how many
 * messages and observations were right, or what was wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATHS			40
#define MAX_ITEMS		30

typedef struct Row
{
	bool		exists;
	int64_t		id;				/* 0: new, and not yet told */
	ProtoStat	stat;
	bool		has_hash;
	uint8_t		hash[PROTO_HASH_LEN];
	int64_t		hashed_us;
} Row;

static const int fd = PROTO_SOCKET_FD;
static ProtoBuf in;
static ProtoBuf out;
static char root[PATH_MAX];
static char *paths[PATHS];		/* in byte order */
static Row	rows[PATHS];
static bool touched[PATHS];		/* by the message */
static bool settled[PATHS];		/* not to be touched by it again */
static int64_t highest_id;
static uint64_t state;
static int	per_flush;
static int	messages;
static int	observations;
static char said[MAX_ITEMS * 300];	/* the message, for people */

/* ---- chance ---- */

static uint64_t
next_random(void)
{
	uint64_t	z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int
below(int n)
{
	return (int) (next_random() % (uint64_t) n);
}

static int64_t
random_time(void)
{
	return below(10) > 0 ? INT64_C(1600000000000000000) + below(1000000000) :
		(int64_t) next_random();
}

static void
random_content(Row *row)
{
	ProtoStat  *s = &row->stat;

	s->size = (int64_t) (next_random() >> (1 + below(60)));
	s->inode = (int64_t) (next_random() >> 1);
	s->mtime_ns = random_time();
	s->mtime_sec = s->mtime_ns / 1000000000 - (s->mtime_ns % 1000000000 < 0);
	s->mtime_nsec = (int32_t) (s->mtime_ns - s->mtime_sec * 1000000000);
	s->ctime_ns = random_time();
	s->btime_ns = below(4) > 0 ? random_time() : PROTO_NO_TIME;
	row->has_hash = below(5) > 0;
	for (int i = 0; i < PROTO_HASH_LEN; i++)
		row->hash[i] = row->has_hash ? (uint8_t) next_random() : 0;
	row->hashed_us = INT64_C(1600000000000000) + (int64_t) (next_random() >> 18);
}

static int
compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Few of them, so that they meet; some lie below others, some are long. */
static void
make_paths(void)
{
	for (int i = 0; i < PATHS; i++)
	{
		int			long_part = i % 10 == 9 ? 200 : 0;

		if (asprintf(&paths[i], "%s%s%d%0*d", i % 3 == 1 ? "d/" : i % 3 == 2 ? "d/d/" : "",
					 i % 7 == 6 ? "\xC3\xBC'\"\\ " : "f", i, long_part, 0) < 0)
			exit(1);
	}
	qsort(paths, PATHS, sizeof(paths[0]), compare_paths);
}

/* ---- the end ---- */

/* Whole or not at all: the test reads it meanwhile. */
static void
write_result(const char *text)
{
	char		new[PATH_MAX + 16];
	char		path[PATH_MAX + 16];
	FILE	   *file;

	snprintf(new, sizeof(new), "%s/result.new", root);
	snprintf(path, sizeof(path), "%s/result", root);
	file = fopen(new, "w");
	if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0 || rename(new, path) != 0)
		exit(1);
}

static void
wrong(const char *path, const char *what, int64_t is, int64_t should_be)
{
	char	   *text;

	if (asprintf(&text, "message %d: \"%.40s\": %s is %lld and should be %lld, after\n%s",
				 messages, path, what, (long long) is, (long long) should_be, said) < 0)
		exit(1);
	write_result(text);
	for (;;)
		pause();				/* not to be started again */
}

/* ---- what is said ---- */

static void
put(uint8_t op, int path, int from, int64_t id, const Row *row)
{
	ProtoObservation o = {.op = op, .id = id, .scan_id = 0};

	o.path.data = paths[path];
	o.path.len = (uint32_t) strlen(paths[path]);
	if (from >= 0)
	{
		o.old_path.data = paths[from];
		o.old_path.len = (uint32_t) strlen(paths[from]);
	}
	if (row != NULL)
	{
		o.stat = row->stat;
		o.has_hash = row->has_hash;
		memcpy(o.hash, row->hash, PROTO_HASH_LEN);
		o.hashed_us = row->hashed_us;
	}
	proto_put_observation(&out, &o);
	sprintf(said + strlen(said), "%c %lld %.20s%s%.20s\n", op, (long long) id,
			from >= 0 ? paths[from] : "", from >= 0 ? " -> " : "", paths[path]);
	touched[path] = true;
	if (from >= 0)
		touched[from] = true;
	observations++;
}

/* The file at a path is new or another. */
static int
say_file(void)
{
	int			path = below(PATHS);
	Row		   *row = &rows[path];

	if (settled[path])
		return 0;
	random_content(row);
	if (!row->exists)
		row->id = 0;
	put("AUT"[below(3)], path, -1, 0, row);
	row->exists = true;
	return 1;
}

static int
say_removed(void)
{
	int			path = below(PATHS);
	Row		   *row = &rows[path];

	if (row->exists && row->id == 0)
		return 0;				/* nobody can know its id */
	if (row->exists && below(8) > 0)
	{
		put('R', path, -1, row->id, NULL);
		row->exists = false;
	}
	else if (touched[path])
		return 0;
	else
		put('R', path, -1, highest_id + 1000000 + observations, NULL);	/* of no row */
	return 1;
}

/*
 * A row that is not there any more is said to have moved: it is a new file.  An
 * fsync-tree says nothing else of that path in the same message.
 */
static int
say_moved_unknown(void)
{
	int			from = below(PATHS);
	int			to = below(PATHS);

	if (from == to || rows[from].exists || rows[to].exists || touched[from] || touched[to])
		return 0;
	settled[to] = true;
	random_content(&rows[to]);
	rows[to].exists = true;
	rows[to].id = 0;
	put('M', to, from, highest_id + 1000000 + observations, &rows[to]);
	return 1;
}

/*
 * Some rows move at the same time, also to where others of them are; what was
 * in the place of one that comes, and does not move itself, goes.
 */
static int
say_moves(int max)
{
	int			sources[8];
	int			targets[8];
	Row			moved[8];
	int			n = 0;
	int			wanted = 1 + below(max < 8 ? max : 8);

	for (int tries = 0; tries < 100 && n < wanted; tries++)
	{
		int			path = below(PATHS);
		bool		usable = rows[path].exists && rows[path].id != 0;

		for (int i = 0; i < n; i++)
			usable &= sources[i] != path;
		if (usable)
			sources[n++] = path;
	}
	for (int i = 0; i < n;)
	{
		bool		usable;

		targets[i] = below(2) ? sources[below(n)] : below(PATHS);
		usable = targets[i] != sources[i] && !settled[targets[i]];
		for (int j = 0; j < i; j++)
			usable &= targets[j] != targets[i];

		/* the last of a ring may be left with its own place only */
		if (usable)
			i++;
		else if (below(50) == 0)
			n = i;
	}
	for (int i = 0; i < n; i++)
	{
		moved[i] = rows[sources[i]];
		random_content(&moved[i]);
		put('M', targets[i], sources[i], moved[i].id, &moved[i]);
	}
	for (int i = 0; i < n; i++)
		rows[sources[i]].exists = false;
	for (int i = 0; i < n; i++)
		rows[targets[i]] = moved[i];
	return n;
}

static void
say_message(void)
{
	int			wanted = 1 + below(MAX_ITEMS);
	int			moves_at = below(4) > 0 ? below(wanted) : wanted;
	int			n = 0;
	size_t		count_at;

	said[0] = '\0';
	memset(touched, 0, sizeof(touched));
	memset(settled, 0, sizeof(settled));
	proto_begin(&out, PROTO_OBSERVATIONS);
	count_at = proto_offset(&out);
	proto_put_u32(&out, 0);
	while (n < wanted)
	{
		if (n >= moves_at)
		{
			n += say_moves(wanted - n);
			moves_at = wanted;
		}
		else
		{
			int			what = below(20);

			n += what < 12 ? say_file() : what < 18 ? say_removed() : say_moved_unknown();
		}
	}
	proto_patch_u32(&out, count_at, (uint32_t) n);
	proto_end(&out);
	messages++;
}

/* ---- what is believed ---- */

static void
check(const ProtoBelief *b, int path, bool learn)
{
	Row		   *row = &rows[path];
	const ProtoStat *s = &row->stat;

	if (learn)
	{
		row->exists = true;
		row->id = b->id;
		row->stat.size = b->size;
		row->stat.inode = b->inode;
		row->stat.mtime_ns = b->mtime_ns;
		row->stat.ctime_ns = b->ctime_ns;
		row->stat.btime_ns = b->btime_ns;
		row->has_hash = b->has_hash;
		memcpy(row->hash, b->hash, PROTO_HASH_LEN);
		row->hashed_us = b->scanned_us;
	}
	if (!row->exists)
		wrong(paths[path], "a row's id", b->id, 0);
	if (row->id == 0 && b->id <= highest_id)
		wrong(paths[path], "a new row's id", b->id, highest_id + 1);
	if (row->id == 0)
		row->id = b->id;
#define SAME(what, is, should_be) \
	if ((is) != (should_be)) wrong(paths[path], what, is, should_be)
	SAME("id", b->id, row->id);
	SAME("size", b->size, s->size);
	SAME("inode", b->inode, s->inode);
	SAME("mtime", b->mtime_ns, s->mtime_ns);
	SAME("ctime", b->ctime_ns, s->ctime_ns);
	SAME("btime", b->btime_ns, s->btime_ns);
	SAME("has_hash", b->has_hash, row->has_hash);
	SAME("hash", row->has_hash ? memcmp(b->hash, row->hash, PROTO_HASH_LEN) : 0, 0);
	if (row->has_hash)
		SAME("last_scanned", b->scanned_us, row->hashed_us);
}

static void
transmit(void)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};

	while (proto_buf_pending(&out) > 0)
	{
		if (proto_send(fd, &out) < 0 && errno != EAGAIN)
			exit(0);
		if (proto_buf_pending(&out) > 0)
			poll(&pfd, 1, -1);
	}
}

/* The next message of the worker; ends with it. */
static uint8_t
receive(ProtoReader *body)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	uint8_t		type;
	int			more;

	transmit();
	while ((more = proto_next(&in, &type, body)) == 0)
	{
		ssize_t		n;

		poll(&pfd, 1, -1);
		n = proto_recv(fd, &in);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			exit(0);
	}
	if (more < 0)
		exit(1);
	return type;
}

static void
pong(ProtoReader body)
{
	int64_t		token = proto_get_i64(&body);

	proto_begin(&out, PROTO_PONG);
	proto_put_i64(&out, token);
	proto_end(&out);
}

/* Asks for all rows, and compares them with ours, or takes them for ours. */
static void
compare(bool learn)
{
	ProtoBeliefsRequest request = {
		.kind = PROTO_BELIEFS_RANGE, .inclusive = true, .limit = 1000
	};
	int64_t		highest = highest_id;
	int			path = 0;

	request.request_id = messages + 1;
	request.after.data = request.before.data = "";
	proto_begin(&out, PROTO_BELIEFS_REQUEST);
	proto_put_beliefs_request(&out, &request);
	proto_end(&out);
	for (;;)
	{
		ProtoReader body;
		ProtoBeliefsHeader header;
		uint8_t		type = receive(&body);

		if (type == PROTO_PING)
			pong(body);
		if (type != PROTO_BELIEFS)
			continue;
		if (!proto_get_beliefs_header(&body, &header))
			exit(1);
		for (uint32_t i = 0; i < header.count; i++)
		{
			ProtoBelief b;
			int			c = 1;

			if (!proto_get_belief(&body, &b))
				exit(1);
			for (; path < PATHS; path++)
			{
				c = strncmp(paths[path], b.path.data, b.path.len);
				if (c == 0 && strlen(paths[path]) > b.path.len)
					c = 1;
				if (c >= 0)
					break;
				if (rows[path].exists && !learn)
					wrong(paths[path], "a row's id", 0, rows[path].id);
			}
			if (c != 0)
				wrong("", "a row of no path of ours: id", b.id, 0);
			check(&b, path++, learn);
			if (b.id > highest)
				highest = b.id;
		}
		for (; path < PATHS; path++)
		{
			if (rows[path].exists && !learn)
				wrong(paths[path], "a row's id", 0, rows[path].id);
		}
		break;
	}
	highest_id = highest;
}

/* ---- the rest of what an fsync-tree does ---- */

static void
begin(ProtoReader body)
{
	ProtoInit	m;
	ProtoState	s = {.state = PROTO_STATE_WATCHING, .directories = 1};
	char		path[PATH_MAX + 16];
	unsigned long long seed;
	FILE	   *file;

	if (!proto_get_init(&body, &m) || m.root.len >= sizeof(root))
		exit(1);
	memcpy(root, m.root.data, m.root.len);
	snprintf(path, sizeof(path), "%s/oracle", root);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%llu %d", &seed, &per_flush) != 2)
		exit(1);
	fclose(file);
	state = seed;
	s.identity = m.identity;
	if (s.identity.len == 0)
	{
		s.identity.data = "type:oracle";
		s.identity.len = strlen(s.identity.data);
	}
	s.reason.data = s.hint.data = s.mounts.data = "";
	proto_begin(&out, PROTO_STATE);
	proto_put_state(&out, &s);
	proto_end(&out);
}

static void
scan(ProtoReader body)
{
	ProtoScan	m;
	ProtoScanDone done = {.result = PROTO_SCAN_COMPLETE};

	if (!proto_get_scan(&body, &m))
		exit(1);
	done.scan_id = m.scan_id;
	done.message.data = done.hint.data = "";
	proto_begin(&out, PROTO_SCAN_DONE);
	proto_put_scan_done(&out, &done);
	proto_end(&out);
}

static void
flush(ProtoReader body)
{
	int64_t		token = proto_get_i64(&body);
	char		text[100];

	if (messages == 0)
		compare(true);
	for (int i = 0; i < per_flush; i++)
	{
		say_message();
		compare(false);
	}
	snprintf(text, sizeof(text), "%d messages, %d observations", messages, observations);
	write_result(text);
	proto_begin(&out, PROTO_FLUSHED);
	proto_put_i64(&out, token);
	proto_put_u8(&out, PROTO_FLUSH_DONE);
	proto_end(&out);
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "check") == 0)
		return printf("ok\t%s%c-\n0 0\n", argv[2], '\0') < 0;
	if (argc != 3 || strcmp(argv[1], "worker") != 0)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	proto_buf_init(&in);
	proto_buf_init(&out);
	make_paths();
	proto_begin(&out, PROTO_HELLO);
	proto_put_u32(&out, PROTO_VERSION);
	proto_put_str(&out, NULL, 0);
	proto_end(&out);
	for (;;)
	{
		ProtoReader body;

		switch (receive(&body))
		{
			case PROTO_INIT:
				begin(body);
				break;
			case PROTO_SCAN:
				scan(body);
				break;
			case PROTO_FLUSH:
				flush(body);
				break;
			case PROTO_PING:
				pong(body);
				break;
			default:
				break;
		}
	}
}
