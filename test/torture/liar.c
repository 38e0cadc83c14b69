/*-------------------------------------------------------------------------
 *
 * liar.c
 *		A program in the place of fsync-tree that has been taken over.
 *
 * Where the root has a file ".lie", it tells the lie that this names, with an
 * argument (the table at the end has them).  Else, and for everything but a
 * worker, it becomes the program "true" in its own directory.  It is started
 * anew each time that the worker has had enough of it, and lies once more.
 *
 *-------------------------------------------------------------------------
 */
#include "checks.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const int fd = PROTO_SOCKET_FD;
static ProtoBuf in;
static ProtoBuf out;
static ProtoInit init;
static char root[PATH_MAX];
static int64_t scan_id;			/* the last that was asked for */
static int64_t request_id;

/* ---- the socket ---- */

/* Waits until all is sent; what comes meanwhile is kept. */
static void
transmit(void)
{
	while (proto_buf_pending(&out) > 0)
	{
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};

		if (proto_send(fd, &out) < 0 && errno != EAGAIN)
			exit(0);
		if (proto_buf_pending(&out) > 0)
			poll(&pfd, 1, -1);
	}
}

/* As transmit(), and throws away what comes: the answers are not wanted. */
static void
transmit_deaf(void)
{
	static char waste[1024 * 1024];

	while (proto_buf_pending(&out) > 0)
	{
		struct pollfd pfd = {.fd = fd, .events = POLLOUT | POLLIN};

		if (proto_send(fd, &out) < 0 && errno != EAGAIN)
			exit(0);
		poll(&pfd, 1, -1);
		if ((pfd.revents & POLLIN) && recv(fd, waste, sizeof(waste), MSG_DONTWAIT) == 0)
			exit(0);
	}
}

static uint8_t
receive(ProtoReader *body)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	uint8_t		type;
	int			more;

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

/* Goes on as if nothing had been, and takes no notice of anything. */
static void
stay(void)
{
	for (;;)
	{
		ProtoReader body;
		uint8_t		type = receive(&body);

		if (type == PROTO_PING || type == PROTO_FLUSH)
		{
			proto_begin(&out, type == PROTO_PING ? PROTO_PONG : PROTO_FLUSHED);
			proto_put_i64(&out, proto_get_i64(&body));
			proto_end(&out);
			transmit();
		}
	}
}

/* ---- what is said ---- */

static ProtoStr
str(const char *s)
{
	ProtoStr	r = {s, (uint32_t) strlen(s)};

	return r;
}

static void
hello(uint32_t version)
{
	proto_begin(&out, PROTO_HELLO);
	proto_put_u32(&out, version);
	proto_put_str(&out, NULL, 0);
	proto_end(&out);
}

static ProtoState
good_state(void)
{
	ProtoState	s = {.state = PROTO_STATE_WATCHING, .directories = 1};

	s.identity = init.identity.len > 0 ? init.identity :
		str("type:ef53 uuid:- fsid:- inode:2 birth:-");
	s.reason = s.hint = str("");
	s.mounts = init.mounts;
	return s;
}

static void
say_state(const ProtoState *s)
{
	proto_begin(&out, PROTO_STATE);
	proto_put_state(&out, s);
	proto_end(&out);
}

static ProtoObservation
observation(uint8_t op, const char *path)
{
	ProtoObservation o = {.op = op};

	o.path = str(path);
	o.old_path = o.message = str("");
	o.id = 1;
	o.stat.inode = 1;
	o.stat.mtime_sec = 1000000000;
	o.stat.mtime_ns = INT64_C(1000000000000000000);
	o.stat.ctime_ns = o.stat.mtime_ns;
	o.stat.btime_ns = PROTO_NO_TIME;
	o.problem = PROTO_PROBLEM_IO;
	return o;
}

static size_t
begin_observations(void)
{
	size_t		at;

	proto_begin(&out, PROTO_OBSERVATIONS);
	at = proto_offset(&out);
	proto_put_u32(&out, 0);
	return at;
}

static void
end_observations(size_t at, uint32_t n)
{
	proto_patch_u32(&out, at, n);
	proto_end(&out);
}

static void
say_observation(const ProtoObservation *o)
{
	size_t		at = begin_observations();

	proto_put_observation(&out, o);
	end_observations(at, 1);
}

/* n of them, of paths that differ. */
static void
say_many(uint8_t op, uint32_t first, uint32_t n)
{
	size_t		at = begin_observations();

	for (uint32_t i = 0; i < n; i++)
	{
		char		path[32];
		ProtoObservation o;

		snprintf(path, sizeof(path), "%u", first + i);
		o = observation(op, path);
		o.old_path = str("the same for all");
		proto_put_observation(&out, &o);
	}
	end_observations(at, n);
}

static void
say_scan_done(int64_t id, uint8_t result)
{
	ProtoScanDone done = {.scan_id = id, .result = result};

	done.message = done.hint = str("");
	proto_begin(&out, PROTO_SCAN_DONE);
	proto_put_scan_done(&out, &done);
	proto_end(&out);
}

static void
say_token(uint8_t type, int64_t token)
{
	proto_begin(&out, type);
	proto_put_i64(&out, token);
	proto_end(&out);
}

static void
say_text(uint8_t type, const char *text, size_t len)
{
	proto_begin(&out, type);
	if (type == PROTO_LOG)
		proto_put_u8(&out, 'L');
	proto_put_str(&out, text, len);
	proto_end(&out);
}

static ProtoBeliefsRequest
range_request(void)
{
	ProtoBeliefsRequest r = {
		.kind = PROTO_BELIEFS_RANGE, .inclusive = true, .limit = PROTO_MAX_RANGE
	};

	r.request_id = ++request_id;
	r.after = r.before = r.paths = str("");
	return r;
}

static void
say_request(const ProtoBeliefsRequest *r)
{
	proto_begin(&out, PROTO_BELIEFS_REQUEST);
	proto_put_beliefs_request(&out, r);
	proto_end(&out);
}

/* Waits for the scan that the worker asks for at the start. */
static void
wait_for_scan(void)
{
	ProtoReader body;
	ProtoScan	scan;

	transmit();
	while (receive(&body) != PROTO_SCAN || !proto_get_scan(&body, &scan))
		;
	scan_id = scan.scan_id;
}

/* ---- lies of a single value ---- */

static const char *argument;	/* the second word in ".lie" */

static void
lie_path(void)
{
	static char path[PROTO_PATH_MAX + 2];
	ProtoObservation o;
	ProtoStr	s = str(argument);

	if (strcmp(argument, "empty") == 0)
		s.len = 0;
	else if (strcmp(argument, "zero") == 0)
		s.data = "a\0b", s.len = 3;
	else if (strcmp(argument, "long") == 0)
	{
		memset(path, 'a', sizeof(path));
		s.data = path;
		s.len = PROTO_PATH_MAX + 1;
	}
	o = observation(PROTO_OP_ADDED, "");
	o.path = s;
	say_observation(&o);
}

static void
lie_moved_path(void)
{
	ProtoObservation o = observation(PROTO_OP_MOVED, argument);

	o.old_path = str("true");
	say_observation(&o);
}

static void
lie_problem_path(void)
{
	ProtoObservation o = observation(PROTO_OP_PROBLEM, argument);

	say_observation(&o);
}

static void
lie_size(void)
{
	ProtoObservation o = observation(PROTO_OP_ADDED, "lie");

	o.stat.size = -1;
	say_observation(&o);
}

static void
lie_time(void)
{
	ProtoObservation o = observation(PROTO_OP_ADDED, "lie");

	if (strcmp(argument, "nsec") == 0)
		o.stat.mtime_nsec = 1000000000;
	else
		o.stat.mtime_ns = INT64_MAX;
	say_observation(&o);
}

static void
lie_problem(void)
{
	ProtoObservation o = observation(PROTO_OP_PROBLEM, "\xff\xfe");

	o.problem = (uint8_t) atoi(argument);
	say_observation(&o);
}

static void
lie_op(void)
{
	ProtoObservation o = observation((uint8_t) argument[0], "lie");

	say_observation(&o);
}

static void
lie_scan_id(void)
{
	ProtoObservation o = observation(PROTO_OP_ADDED, "lie");

	o.scan_id = scan_id + atoi(argument);
	say_observation(&o);
}

static void
lie_count(void)
{
	size_t		at = begin_observations();

	end_observations(at, UINT32_MAX);
}

static void
lie_state(void)
{
	ProtoState	s = good_state();
	ProtoBuf	mounts;
	static char text[64 * 1024];

	memset(text, 'x', sizeof(text));
	proto_buf_init(&mounts);
	if (strcmp(argument, "enum") == 0)
		s.state = 9;
	else if (strcmp(argument, "identity") == 0)
		s.identity = str("type:1 uuid:- fsid:0123456789abcdef inode:99 birth:-");
	else if (strcmp(argument, "no-identity") == 0)
		s.identity = str("\xff\n");
	else if (strcmp(argument, "directories") == 0)
		s.directories = UINT64_MAX;
	else if (strcmp(argument, "reason") == 0)
		s.reason.data = text, s.reason.len = sizeof(text);
	else
	{
		/* mounts: twice the same, one that does not parse, one that is none */
		if (strcmp(argument, "mounts-twice") == 0)
		{
			proto_put_str(&mounts, "a\ttype:x", 8);
			proto_put_str(&mounts, "a\ttype:x", 8);
		}
		else if (strcmp(argument, "mounts-escape") == 0)
			proto_put_str(&mounts, "a\\b\ttype:x", 10);
		else
			proto_put_str(&mounts, "a", 1);
		s.mounts.data = mounts.data;
		s.mounts.len = (uint32_t) mounts.len;
	}
	say_state(&s);
}

static void
lie_progress(void)
{
	ProtoProgress p = {0};

	if (strcmp(argument, "files") == 0)
		p.files_done = UINT64_MAX;
	else if (strcmp(argument, "pending") == 0)
		p.pending = UINT64_C(1) << 62;
	else if (strcmp(argument, "event") == 0)
		p.last_event_us = INT64_MIN;
	else
		p.scan_id = scan_id + 7;
	proto_begin(&out, PROTO_PROGRESS);
	proto_put_progress(&out, &p);
	proto_end(&out);
}

static void
lie_statistics(void)
{
	ProtoStatistics s = {0};

	if (strcmp(argument, "lag") == 0)
		s.lag[3] = 1;
	else
		s.events = s.bytes_hashed = UINT64_MAX / 2;
	for (int i = 0; i < 2; i++)
	{
		proto_begin(&out, PROTO_STATISTICS);
		proto_put_statistics(&out, &s);
		proto_end(&out);
		s.events = 0;
	}
}

static void
lie_request(void)
{
	ProtoBeliefsRequest r = range_request();
	ProtoBuf	paths;

	proto_buf_init(&paths);
	if (strcmp(argument, "limit") == 0)
		r.limit = UINT32_MAX;
	else if (strcmp(argument, "again") == 0)
	{
		say_request(&r);
	}
	else
	{
		r.kind = PROTO_BELIEFS_PATHS;
		for (int i = 0; i < (strcmp(argument, "order") == 0 ? 2 : PROTO_MAX_PATHS + 1); i++)
		{
			char		path[8];

			snprintf(path, sizeof(path), "%04d", strcmp(argument, "order") == 0 ? 0 : i);
			proto_put_str(&paths, path, strlen(path));
		}
		r.paths.data = paths.data;
		r.paths.len = (uint32_t) paths.len;
	}
	say_request(&r);
}

static void
lie_verdict(void)
{
	ProtoVerifiedHeader header = {.run_id = scan_id, .last = true, .count = 1};
	ProtoVerified v = {.id = 1, .verdict = PROTO_VERIFIED_CORRUPT};

	proto_begin(&out, PROTO_VERIFIED);
	proto_put_verified_header(&out, &header);
	proto_put_verified(&out, &v);
	proto_end(&out);
}

static void
lie_flushed(void)
{
	say_token(PROTO_FLUSHED, 1000000 + request_id);
}

static void
lie_pong(void)
{
	say_token(PROTO_PONG, 1000000);
}

static void
lie_scan_done(void)
{
	say_scan_done(scan_id, PROTO_SCAN_COMPLETE);
	say_scan_done(strcmp(argument, "twice") == 0 ? scan_id : scan_id + 1,
				  PROTO_SCAN_COMPLETE);
}

static void
lie_bytes(void)
{
	if (strcmp(argument, "type") == 0)
		say_text('z', "x", 1);
	else if (strcmp(argument, "worker") == 0)
		say_token(PROTO_APPLIED, 1);
	else if (strcmp(argument, "hello") == 0)
		hello(PROTO_VERSION);
	else if (strcmp(argument, "length") == 0)
	{
		uint32_t	len = PROTO_MAX_TREE_FRAME + 1;

		proto_put_u32(&out, len);
	}
	else
	{
		for (int i = 0; i < 100000; i++)
			proto_put_u8(&out, (uint8_t) (i * 7919 >> 3));
	}
}

/* ---- floods ---- */

/* One frame, as long as the worker of long ago took them. */
static void
flood_frame(void)
{
	uint32_t	n = 700000;
	size_t		at = begin_observations();
	static char path[64];

	for (uint32_t i = 0; i < n; i++)
	{
		ProtoObservation o = observation(PROTO_OP_PROBLEM, "");

		snprintf(path, sizeof(path), "%u", i);
		o.path = str(path);
		proto_put_observation(&out, &o);
		if (i % 2 == 0)
		{
			o.op = 'D';
			proto_put_observation(&out, &o);
		}
	}
	end_observations(at, n + n / 2);
}

/* As many as may be in one, in one frame after the other. */
static void
flood_observations(void)
{
	for (uint32_t i = 0;; i += PROTO_MAX_MOVES)
	{
		say_many((uint8_t) argument[0], i % 300000, PROTO_MAX_MOVES);
		transmit_deaf();
	}
}

static void
flood_singles(void)
{
	for (uint32_t i = 0;; i++)
	{
		say_many(PROTO_OP_ADDED, i % 1000, 1);
		if (i % 5000 == 0)
			transmit_deaf();
	}
}

static void
flood_requests(void)
{
	for (;;)
	{
		ProtoBeliefsRequest r = range_request();

		say_request(&r);
		transmit();				/* and reads no answer */
	}
}

static void
flood_log(void)
{
	static char text[CHECK_TEXT_MAX];

	memset(text, 'x', sizeof(text));
	memcpy(text, "forged\n2026-01-01 00:00:00 UTC [1] FATAL:  \x1b[31m\xff ", 50);
	for (;;)
	{
		for (int i = 0; i < 100; i++)
			say_text(PROTO_LOG, text, sizeof(text));
		transmit();
	}
}

static void
flood_states(void)
{
	for (uint32_t i = 0;; i++)
	{
		ProtoState	s = good_state();

		s.state = i % 2 == 0 ? PROTO_STATE_UNAVAILABLE : PROTO_STATE_WATCHING;
		s.reason = str(i % 2 == 0 ? "a lie" : "");
		say_state(&s);
		say_text(PROTO_SCAN_WANTED, "a lie", 5);
		if (i % 100 == 0)
			transmit_deaf();
	}
}

static uint64_t
next_random(void)
{
	static uint64_t state;
	uint64_t	z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* What may be said, of anything, in any order, about names that often meet. */
static void
flood_random(void)
{
	static const char *const names[] = {
		"a", "b", "a/b", "a/b/c", "\xff", "\xc3\xbc", "\\", "'", "a\nb", "{a,NULL}", "%s", "...",
		"a b", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x01"
	};
	static const int64_t numbers[] = {
		0, 1, 2, -1, INT64_MAX, INT64_MIN, INT64_MIN + 1, INT64_C(1600000000000000000)
	};

	for (;;)
	{
		uint32_t	n = (uint32_t) (next_random() % 200);
		size_t		at = begin_observations();

		for (uint32_t i = 0; i < n; i++)
		{
			uint64_t	r = next_random();
			ProtoObservation o = observation((uint8_t) "AUTMRPC"[r % 7], names[r / 7 % 16]);

			o.old_path = str(names[r / 112 % 16]);
			o.id = (int64_t) (r >> 12) % 64 - 2;
			o.stat.size = numbers[(r >> 20) % 8] & INT64_MAX;
			o.stat.inode = numbers[(r >> 23) % 8];
			o.stat.ctime_ns = numbers[(r >> 26) % 8];
			o.stat.btime_ns = numbers[(r >> 29) % 8];
			if ((r >> 32) % 2)
			{
				o.stat.mtime_sec = (r >> 33) % 2 ? INT64_MAX : INT64_MIN;
				o.stat.mtime_ns = (r >> 33) % 2 ? INT64_MAX : INT64_MIN + 1;
			}
			o.has_hash = (r >> 34) % 2;
			memset(o.hash, (int) (r >> 35) % 3, sizeof(o.hash));
			o.hashed_us = numbers[(r >> 38) % 8];
			o.gone = (r >> 41) % 3;
			o.problem = 1 + (r >> 43) % PROTO_PROBLEM_MOUNT;
			proto_put_observation(&out, &o);
		}
		end_observations(at, n);
		transmit_deaf();
	}
}

/*
 * Everything that can be told of another root and its mounts, and then all is
 * said to have been compared: what is stored by that outlives this process.
 */
static void
lie_mounts(void)
{
	ProtoState	s = good_state();
	ProtoBuf	mounts;

	proto_buf_init(&mounts);
	proto_put_str(&mounts, "d\ttype:lie fsid:1", 17);
	s.mounts.data = mounts.data;
	s.mounts.len = (uint32_t) mounts.len;
	say_state(&s);
	say_scan_done(scan_id, PROTO_SCAN_COMPLETE);
	transmit();
	stay();
}

/* ---- the table ---- */

static const struct
{
	const char *name;
	void		(*say) (void);
} lies[] = {
	{"path", lie_path},
	{"moved-path", lie_moved_path},
	{"problem-path", lie_problem_path},
	{"size", lie_size},
	{"time", lie_time},
	{"problem", lie_problem},
	{"op", lie_op},
	{"scan-id", lie_scan_id},
	{"count", lie_count},
	{"state", lie_state},
	{"progress", lie_progress},
	{"statistics", lie_statistics},
	{"request", lie_request},
	{"verdict", lie_verdict},
	{"flushed", lie_flushed},
	{"pong", lie_pong},
	{"scan-done", lie_scan_done},
	{"bytes", lie_bytes},
	{"mounts", lie_mounts},
	{"flood-frame", flood_frame},
	{"flood-observations", flood_observations},
	{"flood-singles", flood_singles},
	{"flood-requests", flood_requests},
	{"flood-log", flood_log},
	{"flood-states", flood_states},
	{"flood-random", flood_random},
};

static void
lie(char *text)
{
	char	   *space = strchr(text, ' ');

	argument = space != NULL ? space + 1 : "";
	if (space != NULL)
		*space = '\0';
	if (strcmp(text, "version") == 0)
	{
		hello(PROTO_VERSION - 1);
		transmit();
		stay();
	}
	if (strcmp(text, "no-hello") != 0)
		hello(PROTO_VERSION);
	{
		ProtoState	s = good_state();

		say_state(&s);
	}
	wait_for_scan();
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
	{
		if (strcmp(text, lies[i].name) == 0)
			lies[i].say();
	}
	transmit_deaf();
	stay();
}

/* ---- who it is ---- */

/* The first line of a file of the root; false: there is none. */
static bool
read_lie(char *line, size_t size)
{
	char		path[PATH_MAX + 8];
	FILE	   *file;
	bool		good;

	snprintf(path, sizeof(path), "%s/.lie", root);
	file = fopen(path, "r");
	good = file != NULL && fgets(line, (int) size, file) != NULL;
	if (file != NULL)
		fclose(file);
	if (good)
		line[strcspn(line, "\n")] = '\0';
	return good;
}

static void
be_true(char **argv)
{
	char		program[PATH_MAX + 8];
	ssize_t		len = readlink("/proc/self/exe", program, PATH_MAX);

	if (len <= 0)
		exit(1);
	program[len] = '\0';
	strcpy(strrchr(program, '/') + 1, "true");
	execv(program, argv);
	exit(1);
}

/* The first message, which stays in the socket for the true program. */
static void
look_at_init(void)
{
	static char bytes[1024 * 1024];
	uint32_t	len = UINT32_MAX - sizeof(len);
	ssize_t		n = 0;
	ProtoReader body;

	while (n < (ssize_t) sizeof(len) || (size_t) n < sizeof(len) + len)
	{
		struct pollfd pfd = {.fd = fd, .events = POLLIN};

		poll(&pfd, 1, -1);
		n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
		if (n == 0 || n == (ssize_t) sizeof(bytes))
			exit(1);
		if (n >= (ssize_t) sizeof(len))
			memcpy(&len, bytes, sizeof(len));
	}
	body = proto_reader(bytes + sizeof(len) + 1, len - 1);
	if (!proto_get_init(&body, &init) || init.root.len >= sizeof(root))
		exit(1);
	memcpy(root, init.root.data, init.root.len);
}

int
main(int argc, char **argv)
{
	static char line[256];

	if (argc < 2 || strcmp(argv[1], "worker") != 0)
		be_true(argv);
	signal(SIGPIPE, SIG_IGN);
	proto_buf_init(&in);
	proto_buf_init(&out);
	look_at_init();
	if (!read_lie(line, sizeof(line)))
		be_true(argv);
	lie(line);
	return 0;
}
