/*-------------------------------------------------------------------------
 *
 * test_checks.c
 *		What fsync-tree may say: each check, and the rules of the conversation.
 *
 * What goes wrong when this fails: the worker stores, shows or allocates by a
 * value that no fsync-tree can have meant, or ends one that did nothing wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "talk.h"

#include <stdlib.h>

#include "unit.h"

static Talk talk;
static ProtoBuf to_tree;
static ProtoBuf to_worker;
static int64_t now_us;

static ProtoStr
str(const char *s)
{
	ProtoStr	r = {s, (uint32_t) strlen(s)};

	return r;
}

/* ---- both ends ---- */

static void
sent(void)
{
	proto_end(&to_tree);
	talk_note(&talk, &to_tree);
	to_tree.start = to_tree.len;
	talk_noted(&talk, &to_tree);
}

/* What is wrong with the frame that was just put; NULL: nothing. */
static const char *
heard(void)
{
	ProtoReader body;
	uint8_t		type;

	proto_end(&to_worker);
	if (proto_next(&to_worker, &type, &body) != 1)
		abort();
	return talk_hear(&talk, type, body, now_us);
}

static void
send_init(const char *identity, ProtoStr mounts, int32_t batch_size, bool fresh)
{
	ProtoInit	m = {.version = PROTO_VERSION, .max_size = INT64_MAX, .fresh = fresh};

	m.config.batch_size = batch_size;
	m.config.max_concurrency = 1;
	m.root = str("/r");
	m.identity = str(identity);
	m.mounts = mounts;
	proto_begin(&to_tree, PROTO_INIT);
	proto_put_init(&to_tree, &m);
	sent();
}

static void
send_scan(int64_t id, uint32_t flags)
{
	ProtoScan	m = {.scan_id = id, .flags = flags, .mass_delete_threshold = 0.5};

	proto_begin(&to_tree, PROTO_SCAN);
	proto_put_scan(&to_tree, &m);
	sent();
}

static void
send_token(uint8_t type, int64_t token)
{
	proto_begin(&to_tree, type);
	proto_put_i64(&to_tree, token);
	sent();
}

static const char *
hear_token(uint8_t type, int64_t token)
{
	proto_begin(&to_worker, type);
	proto_put_i64(&to_worker, token);
	return heard();
}

static const char *
hear_hello(void)
{
	proto_begin(&to_worker, PROTO_HELLO);
	proto_put_u32(&to_worker, PROTO_VERSION);
	proto_put_str(&to_worker, NULL, 0);
	return heard();
}

static const char *
hear_state(const char *identity, ProtoStr mounts)
{
	ProtoState	m = {.state = PROTO_STATE_WATCHING};

	m.reason = m.hint = str("");
	m.identity = str(identity);
	m.mounts = mounts;
	proto_begin(&to_worker, PROTO_STATE);
	proto_put_state(&to_worker, &m);
	return heard();
}

static const char *
hear_scan_done(int64_t id)
{
	ProtoScanDone m = {.scan_id = id};

	m.message = m.hint = str("");
	proto_begin(&to_worker, PROTO_SCAN_DONE);
	proto_put_scan_done(&to_worker, &m);
	return heard();
}

static const char *
hear_observations(uint32_t n, int64_t scan_id)
{
	ProtoObservation m = {.op = PROTO_OP_CLEAR, .scan_id = scan_id};

	m.path = str("a");
	proto_begin(&to_worker, PROTO_OBSERVATIONS);
	proto_put_u32(&to_worker, n);
	for (uint32_t i = 0; i < n; i++)
		proto_put_observation(&to_worker, &m);
	return heard();
}

static const char *
hear_range(int64_t id, const char *after, const char *before)
{
	ProtoBeliefsRequest m = {
		.request_id = id, .kind = PROTO_BELIEFS_RANGE, .inclusive = true, .limit = 1
	};

	m.after = str(after);
	m.before = str(before);
	m.paths = str("");
	proto_begin(&to_worker, PROTO_BELIEFS_REQUEST);
	proto_put_beliefs_request(&to_worker, &m);
	return heard();
}

static void
answer_range(int64_t id, uint32_t count)
{
	ProtoBeliefsHeader m = {.request_id = id, .last = true, .count = count};
	ProtoBelief belief = {.id = 1};

	belief.path = str("x");
	proto_begin(&to_tree, PROTO_BELIEFS);
	proto_put_beliefs_header(&to_tree, &m);
	for (uint32_t i = 0; i < count; i++)
		proto_put_belief(&to_tree, &belief);
	sent();
}

static void
begin_with(const char *identity, ProtoStr mounts, bool fresh)
{
	talk_free(&talk);
	proto_buf_free(&to_tree);
	proto_buf_free(&to_worker);
	now_us = 1000;
	talk_init(&talk, now_us);
	send_init(identity, mounts, 1, fresh);
	CHECK(hear_hello() == NULL, "a greeting");
}

static void
begin(const char *identity, ProtoStr mounts)
{
	begin_with(identity, mounts, false);
}

/* ---- one value ---- */

static void
test_paths(void)
{
	static const char *const good[] = {
		"a", "a/b", "...", "..a", "a..", ".a", "a/.b", "a/...", " ", "\n", "\xff", "a\\b"
	};
	static const char *const bad[] = {
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/.", "a/..", "a/./b",
		"a/../b", "//", "../../etc/passwd", "/1"
	};
	ProtoStr	zero = {"a\0b", 3};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(check_path(str(good[i]), 10) == NULL, "\"%s\" is a path", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(check_path(str(bad[i]), 100) != NULL, "\"%s\" is none", bad[i]);
	CHECK(check_path(zero, 10) != NULL, "nor is one with a zero byte");
	CHECK(check_path(str("12345"), 5) == NULL && check_path(str("123456"), 5) != NULL,
		  "nor one that is too long");
}

static ProtoObservation
file(void)
{
	ProtoObservation m = {.op = PROTO_OP_ADDED};

	m.path = str("a");
	m.old_path = m.message = str("");
	return m;
}

static void
test_observations(void)
{
	static const struct
	{
		int64_t		sec;
		int32_t		nsec;
		int64_t		ns;
	}			times[] = {
		{0, 0, 0},
		{1, 5, 1000000005},
		{-1, 999999999, -1},
		{-2, 0, -2000000000},
		{INT64_MAX, 0, INT64_MAX},
		{9223372036, 854775807, INT64_MAX},
		{INT64_MIN, 0, INT64_MIN + 1},
		{-9223372037, 145224192, INT64_MIN + 1},
		{-9223372037, 145224192, INT64_MIN},	/* of a row */
		{-9223372037, 145224193, INT64_MIN + 1},
	};
	ProtoObservation m = file();

	CHECK(check_observation(&m) == NULL, "an empty file of 1970");
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
	{
		m.stat.mtime_sec = times[i].sec;
		m.stat.mtime_nsec = times[i].nsec;
		m.stat.mtime_ns = times[i].ns;
		CHECK(check_observation(&m) == NULL, "time %d", (int) i);
		m.stat.mtime_ns ^= 2;
		CHECK(check_observation(&m) != NULL, "and not another");
	}
	m = file();
	m.stat.size = INT64_MAX;
	CHECK(check_observation(&m) == NULL, "the largest file");
	m.stat.size = -1;
	CHECK(check_observation(&m) != NULL, "a size below zero");
	m = file();
	m.op = PROTO_OP_MOVED;
	m.old_path = str("../written by hand/");
	m.id = -3;
	CHECK(check_observation(&m) == NULL, "a row that was written by hand moves");
	m.op = PROTO_OP_REMOVED;
	m.path = m.old_path;
	CHECK(check_observation(&m) == NULL, "or goes");
	for (uint8_t problem = 0; problem < 20; problem++)
	{
		bool		of_worker = problem >= PROTO_PROBLEM_REFERENCED &&
			problem <= PROTO_PROBLEM_LOCKED;

		m = file();
		m.op = PROTO_OP_PROBLEM;
		m.problem = problem;
		CHECK((check_observation(&m) != NULL) == of_worker, "problem %d", problem);
	}
	m.problem = PROTO_PROBLEM_IO;
	m.path = str("");
	CHECK(check_observation(&m) == NULL, "a problem of the root");
	m.path = str("..");
	CHECK(check_observation(&m) != NULL, "or of what is above it");
}

static ProtoStr
list(ProtoBuf *buf, const char *const *elements, int n)
{
	ProtoStr	s;

	proto_buf_init(buf);
	for (int i = 0; i < n; i++)
		proto_put_str(buf, elements[i], strlen(elements[i]));
	s.data = buf->data != NULL ? buf->data : "";
	s.len = (uint32_t) buf->len;
	return s;
}

static void
test_requests(void)
{
	static const char *const sorted[] = {"a", "b", "b/c"};
	static const char *const twice[] = {"a", "a"};
	static const char *const back[] = {"b", "a"};
	ProtoBeliefsRequest m = {.kind = PROTO_BELIEFS_PATHS};
	ProtoBuf	buf;

	m.paths = list(&buf, sorted, 3);
	CHECK(check_beliefs_request(&m) == NULL, "rows by path");
	proto_buf_free(&buf);
	m.paths = list(&buf, twice, 2);
	CHECK(check_beliefs_request(&m) != NULL, "one row twice");
	proto_buf_free(&buf);
	m.paths = list(&buf, back, 2);
	CHECK(check_beliefs_request(&m) != NULL, "rows in no order");
	proto_buf_free(&buf);
	m.kind = PROTO_BELIEFS_RANGE;
	m.limit = PROTO_MAX_RANGE;
	CHECK(check_beliefs_request(&m) == NULL, "a range");
	m.limit++;
	CHECK(check_beliefs_request(&m) != NULL, "a range of more rows");
	m.limit = 0;
	CHECK(check_beliefs_request(&m) != NULL, "a range of none");
}

static void
test_mount_lists(void)
{
	/* In the order of what the escapes stand for. */
	static const char *const good[] = {
		"a\ttype:x", "a\\n\ttype:x", "a\tb\ttype:x", "a/b\ttype:x", "a//deleted\ttype:x",
		"b\\\\c\ttype:x"
	};
	static const char *const bad[][2] = {
		{"b\tx", "a\tx"}, {"a\tx", "a\ty"}, {"a", "b\tx"}, {"a\t", "b\tx"}, {"\tx", "b\tx"},
		{"/a\tx", "b\tx"}, {"a\\", "b\tx"}, {"a\\b\tx", "b\tx"}, {"a\n\tx", "b\tx"},
		{"a\\n\tx", "a\tx"}
	};
	static const char *sorted[6];
	ProtoBuf	buf;

	sorted[0] = good[0];
	sorted[1] = good[2];
	sorted[2] = good[1];
	sorted[3] = good[4];
	sorted[4] = good[3];
	sorted[5] = good[5];
	CHECK(check_mounts(list(&buf, sorted, 6)) == NULL, "a list of mounts");
	proto_buf_free(&buf);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		CHECK(check_mounts(list(&buf, bad[i], 2)) != NULL, "list %d is none", (int) i);
		proto_buf_free(&buf);
	}
	CHECK(check_mounts(str("")) == NULL, "no mounts");
	CHECK(check_mounts(str("abc")) != NULL, "bytes");
}

static void
test_numbers(void)
{
	ProtoProgress p = {.files_done = 9000000, .bytes_hashed = UINT64_C(1) << 39};
	ProtoScanDone d = {.files_scanned = 5};
	ProtoStatistics before = {.events = 5};
	ProtoStatistics s = before;

	CHECK(check_progress(&p, 0) == NULL, "progress");
	p.files_done = 90000000;
	CHECK(check_progress(&p, 1000000) != NULL, "too much of it in a second");
	CHECK(check_progress(&p, 20000000) == NULL, "but not in twenty");
	p.files_done = UINT64_MAX;
	CHECK(check_progress(&p, INT64_MAX) != NULL, "more than there can be");
	d.message = d.hint = str("");
	CHECK(check_scan_done(&d, 0) == NULL, "the end of a scan");
	d.bytes_hashed = UINT64_MAX;
	CHECK(check_scan_done(&d, INT64_MAX) != NULL, "with more bytes than there can be");
	s.lag[1] = s.lag[63] = 2;
	CHECK(check_statistics(&s, &before, 4, 0) == NULL, "counts");
	CHECK(check_statistics(&s, &before, 3, 0) != NULL, "of more commits than there were");
	s.lag[1] = UINT64_MAX;
	CHECK(check_statistics(&s, &before, 4, 0) != NULL, "of very many more");
	s = before;
	s.events = 4;
	CHECK(check_statistics(&s, &before, 4, 0) != NULL, "that went back");
	s.events = UINT64_MAX;
	CHECK(check_statistics(&s, &before, 4, INT64_MAX) != NULL, "that cannot be");
}

/* ---- the conversation ---- */

static void
test_answers(void)
{
	begin("", str(""));
	CHECK(hear_hello() != NULL, "two greetings");
	CHECK(hear_token(PROTO_FLUSHED, 1) != NULL, "an answer to no flush");
	send_token(PROTO_FLUSH, 1);
	send_token(PROTO_FLUSH, 2);
	CHECK(hear_token(PROTO_FLUSHED, 2) == NULL, "answers in any order");
	CHECK(hear_token(PROTO_FLUSHED, 1) == NULL, "each");
	CHECK(hear_token(PROTO_FLUSHED, 1) != NULL, "once");
	CHECK(hear_token(PROTO_PONG, 7) != NULL, "an answer to no ping");
	send_token(PROTO_PING, 7);
	CHECK(hear_token(PROTO_PONG, 6) != NULL, "an answer to another ping");
	CHECK(hear_token(PROTO_PONG, 7) == NULL, "an answer to this one");
	CHECK(hear_token(PROTO_PONG, 7) != NULL, "once");

	CHECK(hear_scan_done(5) != NULL, "the end of no scan");
	CHECK(hear_observations(1, 5) != NULL, "an observation of no scan");
	CHECK(hear_observations(1, 0) == NULL, "an observation of real time");
	send_scan(5, 0);
	CHECK(hear_observations(1, 5) == NULL, "an observation of the scan");
	CHECK(hear_scan_done(6) != NULL, "the end of another scan");
	CHECK(hear_scan_done(5) == NULL, "the end of this one");
	CHECK(hear_scan_done(5) != NULL, "once");
	CHECK(hear_scan_done(0) != NULL, "the end of a scan without a number");

	CHECK(hear_observations(PROTO_MAX_MOVES, 0) == NULL, "as many as moves may be");
	CHECK(hear_observations(PROTO_MAX_MOVES + 1, 0) != NULL, "one more");
	CHECK(hear_token(PROTO_APPLIED, 1) != NULL, "what only the worker says");
	CHECK(hear_range(3, "", "") == NULL, "a request");
	CHECK(hear_range(3, "", "") != NULL, "with a number that was there before");

	talk_free(&talk);
	talk_init(&talk, 0);
	CHECK(hear_observations(0, 0) != NULL, "anything before the greeting");
}

/* While a scan of everything goes on, there may be any number of a part. */
static void
test_scans_beside(void)
{
	begin("type:1 inode:2", str(""));
	send_scan(1, 0);
	for (int64_t id = 2; id < 100; id++)
	{
		send_scan(id, 0);
		CHECK(hear_observations(1, id) == NULL, "an observation of the one");
		CHECK(hear_observations(1, 1) == NULL, "and of the other");
		CHECK(hear_scan_done(id) == NULL, "one ends");
		CHECK(hear_scan_done(id) != NULL, "once");
	}
	CHECK(hear_observations(1, 1) == NULL, "the first goes on");
	CHECK(hear_scan_done(1) == NULL, "and ends");
}

static void
test_identity(void)
{
	begin("type:1 inode:2", str(""));
	CHECK(hear_state("type:1 inode:2", str("")) == NULL, "the root that was given");
	CHECK(hear_state("type:1 inode:3", str("")) != NULL, "another one");
	CHECK(hear_state("", str("")) != NULL, "none");
	send_scan(1, PROTO_SCAN_FORCE);
	CHECK(hear_state("type:1 inode:3", str("")) == NULL, "another one, by force");
	CHECK(hear_state("type:1 inode:4", str("")) != NULL, "once");
	begin("", str(""));
	CHECK(hear_state("", str("")) == NULL, "no root yet");
	CHECK(hear_state("evil", str("")) != NULL, "one that is none");
	CHECK(hear_state("type:1\xff", str("")) != NULL, "one that is no text");
	CHECK(hear_state("type:1 inode:2", str("")) == NULL, "the first one");
	CHECK(hear_state("type:1 inode:3", str("")) != NULL, "another one then");
	begin("written by hand", str(""));
	CHECK(hear_state("written by hand", str("")) == NULL, "whatever was given");
}

static bool
mounts_are(ProtoStr mounts)
{
	return talk.mounts.len == mounts.len &&
		memcmp(talk.mounts.data != NULL ? talk.mounts.data : "", mounts.data, mounts.len) == 0;
}

static void
test_mounts(void)
{
	static const char *const a[] = {"a\ttype:x"};
	static const char *const ab[] = {"a\ttype:x", "b\\n\ttype:x"};
	ProtoBuf	buf_a;
	ProtoBuf	buf_ab;
	ProtoStr	one = list(&buf_a, a, 1);
	ProtoStr	two = list(&buf_ab, ab, 2);

	begin("", str(""));
	CHECK(hear_state("type:1", one) == NULL && mounts_are(one), "mounts of a new root");
	CHECK(hear_state("type:1", two) == NULL && mounts_are(one), "another one is not taken over");
	CHECK(hear_range(1, "b\n/", "b\n0") == NULL, "it asks for rows below it");
	answer_range(1, 1);
	CHECK(hear_state("type:1", two) == NULL && mounts_are(one), "there are some");
	CHECK(hear_range(2, "b\n/", "b\n0") == NULL, "it asks again");
	answer_range(2, 0);
	CHECK(hear_state("type:1", two) == NULL && mounts_are(two), "there are none");
	CHECK(hear_state("type:1", str("")) == NULL && mounts_are(two), "others are still there");

	begin("type:1", one);
	CHECK(hear_state("type:1", two) == NULL && mounts_are(one), "nor beside those that were given");
	send_scan(1, PROTO_SCAN_FORCE);
	CHECK(hear_state("type:1", two) == NULL && mounts_are(two), "but by force");

	begin_with("type:1", str(""), true);
	CHECK(hear_state("type:1", str("")) == NULL, "a root that was registered just now");
	CHECK(hear_state("type:1", one) == NULL && mounts_are(one), "may have any mounts");

	begin("type:1", one);
	for (int i = 1; i <= TALK_EMPTY_RANGES + 10; i++)
	{
		CHECK(hear_range(i, "a/", "a0") == NULL, "many requests");
		answer_range(i, 0);
	}
	CHECK(hear_state("type:1", str("")) == NULL && mounts_are(str("")), "the last of them count");
	proto_buf_free(&buf_a);
	proto_buf_free(&buf_ab);
}

static void
test_verdicts(void)
{
	ProtoVerify m = {.run_id = 9, .count = 2};
	ProtoBelief belief = {.id = 1, .has_hash = true};

	belief.path = str("a");
	begin("", str(""));
	proto_begin(&to_tree, PROTO_VERIFY);
	proto_put_verify(&to_tree, &m);
	for (int i = 0; i < 2; i++)
		proto_put_belief(&to_tree, &belief);
	sent();
	for (int i = 0; i < 4; i++)
	{
		ProtoVerifiedHeader header = {.run_id = i == 0 ? 8 : 9, .count = 1};
		ProtoVerified verdict = {.id = 1, .verdict = PROTO_VERIFIED_RIGHT};

		proto_begin(&to_worker, PROTO_VERIFIED);
		proto_put_verified_header(&to_worker, &header);
		proto_put_verified(&to_worker, &verdict);
		CHECK((heard() == NULL) == (i == 1 || i == 2), "verdict %d of two", i);
	}
}

/* Frames that are added while others wait are noted once. */
static void
test_noting(void)
{
	begin("", str(""));
	proto_begin(&to_tree, PROTO_FLUSH);
	proto_put_i64(&to_tree, 1);
	proto_end(&to_tree);
	talk_note(&talk, &to_tree);
	to_tree.start += 3;
	talk_noted(&talk, &to_tree);
	proto_begin(&to_tree, PROTO_FLUSH);
	proto_put_i64(&to_tree, 2);
	proto_end(&to_tree);
	proto_begin(&to_tree, PROTO_FLUSH);
	proto_put_i64(&to_tree, 3);
	talk_note(&talk, &to_tree);
	CHECK(hear_token(PROTO_FLUSHED, 1) == NULL && hear_token(PROTO_FLUSHED, 1) != NULL,
		  "a frame that waits");
	CHECK(hear_token(PROTO_FLUSHED, 2) == NULL, "one behind it");
	CHECK(hear_token(PROTO_FLUSHED, 3) != NULL, "not one that is not whole yet");
	proto_end(&to_tree);
	talk_note(&talk, &to_tree);
	CHECK(hear_token(PROTO_FLUSHED, 3) == NULL, "but when it is");
}

int
main(void)
{
	proto_buf_init(&to_tree);
	proto_buf_init(&to_worker);
	test_paths();
	test_observations();
	test_requests();
	test_mount_lists();
	test_numbers();
	test_answers();
	test_scans_beside();
	test_identity();
	test_mounts();
	test_verdicts();
	test_noting();
	talk_free(&talk);
	proto_buf_free(&to_tree);
	proto_buf_free(&to_worker);
	return unit_done();
}
