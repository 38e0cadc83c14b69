/*-------------------------------------------------------------------------
 *
 * test_protocol.c
 *		Every message there and back, cut short, and out of range.
 *
 * What goes wrong when this fails: a row is written with another file's
 * values, or bytes that are not a message are taken for one, by a process
 * that can write the user's tables.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

typedef union Message
{
	ProtoConfig config;
	ProtoInit	init;
	ProtoScan	scan;
	ProtoBeliefsHeader header;
	ProtoBelief belief;
	ProtoBeliefsRequest request;
	ProtoObservation observation;
	ProtoState	state;
	ProtoProgress progress;
	ProtoStatistics statistics;
	ProtoScanDone done;
	ProtoVerify verify;
	ProtoVerifiedHeader verified_header;
	ProtoVerified verified;
	ProtoWhy	why;
} Message;

/* ---------------------------------------------------------------------
 * Random messages.  Strings live until the next message is made.
 * ---------------------------------------------------------------------
 */

static char arena[64 * 1024];
static size_t arena_used = 0;

static ProtoStr
random_str(size_t min, size_t max, bool zeros)
{
	ProtoStr	s;

	s.len = (uint32_t) (min + unit_below(max - min + 1));
	s.data = arena + arena_used;
	for (uint32_t i = 0; i < s.len; i++)
		arena[arena_used++] = (char) (zeros ? unit_below(256) : 1 + unit_below(255));
	return s;
}

static ProtoStr
random_list(void)
{
	ProtoStr	elements[4];
	ProtoStr	list;
	size_t		n = unit_below(5);

	for (size_t i = 0; i < n; i++)
		elements[i] = random_str(0, 20, true);
	list.data = arena + arena_used;
	for (size_t i = 0; i < n; i++)
	{
		memcpy(arena + arena_used, &elements[i].len, 4);
		memcpy(arena + arena_used + 4, elements[i].data, elements[i].len);
		arena_used += 4 + elements[i].len;
	}
	list.len = (uint32_t) (arena + arena_used - list.data);
	return list;
}

static int64_t
random_i64(void)
{
	switch (unit_below(4))
	{
		case 0:
			return INT64_MIN;
		case 1:
			return INT64_MAX;
		case 2:
			return (int64_t) unit_below(100);
		default:
			return (int64_t) unit_random();
	}
}

static bool
random_bool(void)
{
	return unit_below(2) == 1;
}

static void
random_hash(bool has_hash, uint8_t *hash)
{
	for (int i = 0; has_hash && i < PROTO_HASH_LEN; i++)
		hash[i] = (uint8_t) unit_random();
}

static void
random_config(Message *m)
{
	m->config.debounce_ms = (int32_t) unit_below(INT32_MAX);
	m->config.debounce_max_ms = (int32_t) unit_below(INT32_MAX);
	m->config.batch_size = 1 + (int32_t) unit_below(1000);
	m->config.max_concurrency = 1 + (int32_t) unit_below(64);
	m->config.calculate_hashes = random_bool();
	m->config.scan_cpu_ppm = (int32_t) unit_below(INT32_MAX);
	m->config.io_priority = (uint8_t) unit_below(PROTO_IO_IDLE + 1);
}

static void
random_init(Message *m)
{
	Message		config;

	random_config(&config);
	m->init.version = (uint32_t) unit_random();
	m->init.config = config.config;
	m->init.utf8 = random_bool();
	m->init.root = random_str(1, 50, false);
	m->init.identity = random_str(0, 50, false);
	m->init.rows_identity = random_str(0, 50, false);
	m->init.mounts = random_list();
	m->init.include = random_list();
	m->init.exclude = random_list();
	m->init.ignore_case = random_bool();
	m->init.include_hidden = random_bool();
	m->init.use_ignore_files = random_bool();
	m->init.min_size = (int64_t) (unit_random() >> 1);
	m->init.max_size = (int64_t) (unit_random() >> 1);
	m->init.watches = (int64_t) unit_random();
	m->init.fresh = random_bool();
	m->init.server = random_list();
}

static void
random_scan(Message *m)
{
	m->scan.scan_id = 1 + (int64_t) unit_below(INT32_MAX);
	m->scan.flags = (uint32_t) unit_below(2);
	m->scan.mass_delete_threshold = (double) unit_below(1001) / 1000;
	m->scan.place = random_str(0, 300, false);
}

/* A header whose beliefs follow is tested apart. */
static void
random_header(Message *m)
{
	m->header.request_id = random_i64();
	m->header.last = random_bool();
	m->header.cpu_us = random_i64();
	m->header.count = 0;
}

static void
random_belief(Message *m)
{
	m->belief.id = random_i64();
	m->belief.path = random_str(1, 300, false);
	m->belief.size = random_i64();
	m->belief.inode = random_i64();
	m->belief.mtime_ns = random_i64();
	m->belief.ctime_ns = random_i64();
	m->belief.btime_ns = random_i64();
	m->belief.scanned_us = random_i64();
	m->belief.has_hash = random_bool();
	random_hash(m->belief.has_hash, m->belief.hash);
}

static void
random_request(Message *m)
{
	m->request.request_id = random_i64();
	m->request.kind = random_bool() ? PROTO_BELIEFS_RANGE : PROTO_BELIEFS_PATHS;
	m->request.inclusive = random_bool();
	m->request.after = random_str(0, 100, false);
	m->request.before = random_str(0, 100, false);
	m->request.limit = (uint32_t) unit_random();
	m->request.paths = random_list();
}

static void
random_observation(Message *m)
{
	static const char ops[] = "AUTMRPC";
	ProtoObservation *o = &m->observation;

	o->op = (uint8_t) ops[unit_below(sizeof(ops) - 1)];
	o->scan_id = random_i64();
	o->path = random_str(1, 300, false);
	o->old_path.data = o->message.data = "";
	if (strchr("MR", o->op))
		o->id = random_i64();
	if (o->op == 'M')
	{
		o->old_path = random_str(1, 300, false);
		o->renamed = unit_below(2) != 0;
	}
	if (o->op == 'R')
		o->gone = (uint8_t) unit_below(PROTO_GONE_EXCLUDED + 1);
	if (strchr("AUTM", o->op))
	{
		o->stat.size = random_i64();
		o->stat.inode = random_i64();
		o->stat.mtime_sec = random_i64();
		o->stat.mtime_nsec = (int32_t) unit_below(1000000000);
		o->stat.mtime_ns = random_i64();
		o->stat.ctime_ns = random_i64();
		o->stat.btime_ns = random_i64();
		o->has_hash = random_bool();
		random_hash(o->has_hash, o->hash);
		if (o->has_hash)
		{
			o->hashed_us = random_i64();
			o->bytes_read = random_i64();
		}
	}
	if (o->op == 'P')
	{
		o->problem = (uint8_t) (1 + unit_below(PROTO_PROBLEM_REJECTED));
		o->message = random_str(0, 100, true);
	}
}

static void
random_state(Message *m)
{
	m->state.state = (uint8_t) (1 + unit_below(4));
	m->state.reason = random_str(0, 50, true);
	m->state.hint = random_str(0, 50, true);
	m->state.polled = random_bool();
	m->state.directories = unit_random();
	m->state.identity = random_str(0, 50, false);
	m->state.mounts = random_list();
}

static void
random_progress(Message *m)
{
	m->progress.scan_id = random_i64();
	m->progress.files_done = unit_random();
	m->progress.bytes_hashed = unit_random();
	m->progress.pending = unit_random();
	m->progress.last_event_us = random_i64();
	m->progress.directories = unit_random();
	m->progress.reading = random_str(0, 300, false);
	m->progress.reading_done = random_i64() & INT64_MAX;
	m->progress.reading_size = random_i64() & INT64_MAX;
	m->progress.unread = unit_random();
}

static void
random_done(Message *m)
{
	m->done.scan_id = random_i64();
	m->done.result = (uint8_t) unit_below(4);
	m->done.files_scanned = unit_random();
	m->done.bytes_hashed = unit_random();
	m->done.removals = unit_random();
	m->done.believed = unit_random();
	m->done.message = random_str(0, 50, true);
	m->done.hint = random_str(0, 50, true);
}

static void
random_statistics(Message *m)
{
	m->statistics.events = unit_random();
	m->statistics.overflows = unit_random();
	m->statistics.inspections = unit_random();
	m->statistics.files_hashed = unit_random();
	m->statistics.bytes_hashed = unit_random();
	for (int i = 0; i < LAG_BUCKETS; i++)
		m->statistics.lag[i] = unit_random();
}

/* Nothing follows, and the count says so. */
static void
random_verify(Message *m)
{
	m->verify.run_id = 1 + (int64_t) (unit_random() >> 2);
	m->verify.rate = (int64_t) (unit_random() >> 1);
	m->verify.count = 0;
}

static void
random_verified_header(Message *m)
{
	m->verified_header.run_id = random_i64();
	m->verified_header.last = random_bool();
	m->verified_header.count = 0;
}

static void
random_verified(Message *m)
{
	m->verified.id = random_i64();
	m->verified.verdict = (uint8_t) (1 + unit_below(PROTO_VERIFIED_CHANGED));
	m->verified.bytes = (int64_t) (unit_random() >> 1);
	m->verified.error = (int32_t) unit_below(200);
	random_hash(true, m->verified.expected);
	random_hash(true, m->verified.found);
}

static void
random_why(Message *m)
{
	m->why.known = random_bool();
	m->why.tracked = random_bool();
	m->why.source = random_str(0, 20, false);
	m->why.rule = random_str(0, 50, false);
	m->why.rule_file = random_str(0, 50, false);
	m->why.decided = random_str(0, 50, false);
	m->why.detail = random_str(0, 50, false);
}

typedef struct Kind
{
	const char *name;
	ProtoType	type;
	void		(*make) (Message *m);
	void		(*put) (ProtoBuf *buf, const Message *m);
	bool		(*get) (ProtoReader *r, Message *m);
	bool		whole;			/* bytes after it are an error */
} Kind;

#define WRAP(kind, field) \
	static void put_##kind(ProtoBuf *buf, const Message *m) { proto_put_##kind(buf, &m->field); } \
	static bool get_##kind(ProtoReader *r, Message *m) { return proto_get_##kind(r, &m->field); }

WRAP(config, config)
WRAP(init, init)
WRAP(scan, scan)
WRAP(beliefs_header, header)
WRAP(belief, belief)
WRAP(beliefs_request, request)
WRAP(observation, observation)
WRAP(state, state)
WRAP(progress, progress)
WRAP(statistics, statistics)
WRAP(scan_done, done)
WRAP(verify, verify)
WRAP(verified_header, verified_header)
WRAP(verified, verified)
WRAP(why, why)

static const Kind kinds[] = {
	{"config", PROTO_CONFIG, random_config, put_config, get_config, false},
	{"init", PROTO_INIT, random_init, put_init, get_init, true},
	{"scan", PROTO_SCAN, random_scan, put_scan, get_scan, true},
	{"beliefs header", PROTO_BELIEFS, random_header, put_beliefs_header, get_beliefs_header, false},
	{"belief", PROTO_BELIEFS, random_belief, put_belief, get_belief, false},
	{"beliefs request", PROTO_BELIEFS_REQUEST, random_request, put_beliefs_request,
	get_beliefs_request, true},
	{"observation", PROTO_OBSERVATIONS, random_observation, put_observation, get_observation, false},
	{"state", PROTO_STATE, random_state, put_state, get_state, true},
	{"progress", PROTO_PROGRESS, random_progress, put_progress, get_progress, true},
	{"statistics", PROTO_STATISTICS, random_statistics, put_statistics, get_statistics, true},
	{"scan done", PROTO_SCAN_DONE, random_done, put_scan_done, get_scan_done, true},
	{"verify", PROTO_VERIFY, random_verify, put_verify, get_verify, false},
	{"verified header", PROTO_VERIFIED, random_verified_header, put_verified_header,
	get_verified_header, false},
	{"verified", PROTO_VERIFIED, random_verified, put_verified, get_verified, false},
	{"why", PROTO_WHY, random_why, put_why, get_why, true},
};

/*
 * Whether two messages of a kind hold the same: strings by content, all else
 * by value.  Written out field by field, as a second opinion on the encoder.
 */
static bool
same_str(ProtoStr a, ProtoStr b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool
same_config(const ProtoConfig *a, const ProtoConfig *b)
{
	return a->debounce_ms == b->debounce_ms && a->debounce_max_ms == b->debounce_max_ms &&
		a->batch_size == b->batch_size && a->max_concurrency == b->max_concurrency &&
		a->calculate_hashes == b->calculate_hashes && a->scan_cpu_ppm == b->scan_cpu_ppm &&
		a->io_priority == b->io_priority;
}

static bool
same_stat(const ProtoStat *a, const ProtoStat *b)
{
	return a->size == b->size && a->inode == b->inode && a->mtime_sec == b->mtime_sec &&
		a->mtime_nsec == b->mtime_nsec && a->mtime_ns == b->mtime_ns &&
		a->ctime_ns == b->ctime_ns && a->btime_ns == b->btime_ns;
}

static bool
same(const Kind *kind, const Message *a, const Message *b)
{
#define EQ(member) (a->member == b->member)
#define EQ_STR(member) same_str(a->member, b->member)
	if (kind->get == get_verify)
		return EQ(verify.run_id) && EQ(verify.rate) && EQ(verify.count);
	if (kind->get == get_verified_header)
		return EQ(verified_header.run_id) && EQ(verified_header.last) &&
			EQ(verified_header.count);
	if (kind->get == get_verified)
		return EQ(verified.id) && EQ(verified.verdict) && EQ(verified.bytes) &&
			EQ(verified.error) &&
			memcmp(a->verified.expected, b->verified.expected, PROTO_HASH_LEN) == 0 &&
			memcmp(a->verified.found, b->verified.found, PROTO_HASH_LEN) == 0;
	if (kind->get == get_config)
		return same_config(&a->config, &b->config);
	if (kind->get == get_init)
		return EQ(init.version) && same_config(&a->init.config, &b->init.config) &&
			EQ(init.utf8) && EQ_STR(init.root) && EQ_STR(init.given) && EQ_STR(init.identity) &&
			EQ_STR(init.rows_identity) &&
			EQ_STR(init.mounts) && EQ_STR(init.include) && EQ_STR(init.exclude) &&
			EQ(init.ignore_case) && EQ(init.include_hidden) && EQ(init.use_ignore_files) &&
			EQ(init.min_size) && EQ(init.max_size) && EQ(init.watches) && EQ(init.fresh) &&
			EQ_STR(init.server);
	if (kind->get == get_why)
		return EQ(why.known) && EQ(why.tracked) && EQ_STR(why.source) && EQ_STR(why.rule) &&
			EQ_STR(why.rule_file) && EQ_STR(why.decided) && EQ_STR(why.detail);
	if (kind->get == get_scan)
		return EQ(scan.scan_id) && EQ(scan.flags) && EQ(scan.mass_delete_threshold) &&
			EQ_STR(scan.place);
	if (kind->get == get_beliefs_header)
		return EQ(header.request_id) && EQ(header.last) && EQ(header.cpu_us) && EQ(header.count);
	if (kind->get == get_belief)
		return EQ(belief.id) && EQ_STR(belief.path) && EQ(belief.size) && EQ(belief.inode) &&
			EQ(belief.mtime_ns) && EQ(belief.ctime_ns) && EQ(belief.btime_ns) &&
			EQ(belief.scanned_us) && EQ(belief.has_hash) &&
			memcmp(a->belief.hash, b->belief.hash, PROTO_HASH_LEN) == 0;
	if (kind->get == get_beliefs_request)
		return EQ(request.request_id) && EQ(request.kind) && EQ(request.inclusive) &&
			EQ_STR(request.after) && EQ_STR(request.before) && EQ(request.limit) &&
			EQ_STR(request.paths);
	if (kind->get == get_observation)
		return EQ(observation.op) && EQ(observation.scan_id) && EQ(observation.id) &&
			EQ_STR(observation.path) && EQ_STR(observation.old_path) &&
			EQ(observation.renamed) &&
			same_stat(&a->observation.stat, &b->observation.stat) &&
			EQ(observation.has_hash) && EQ(observation.hashed_us) && EQ(observation.bytes_read) &&
			EQ(observation.gone) && EQ(observation.problem) &&
			EQ_STR(observation.message) &&
			memcmp(a->observation.hash, b->observation.hash, PROTO_HASH_LEN) == 0;
	if (kind->get == get_state)
		return EQ(state.state) && EQ_STR(state.reason) && EQ_STR(state.hint) &&
			EQ(state.polled) && EQ(state.directories) && EQ_STR(state.identity) &&
			EQ_STR(state.mounts);
	if (kind->get == get_progress)
		return EQ(progress.scan_id) && EQ(progress.files_done) && EQ(progress.bytes_hashed) &&
			EQ(progress.pending) && EQ(progress.last_event_us) && EQ(progress.directories) &&
			EQ_STR(progress.reading) && EQ(progress.reading_done) && EQ(progress.reading_size) &&
			EQ(progress.unread);
	if (kind->get == get_statistics)
		return EQ(statistics.events) && EQ(statistics.overflows) && EQ(statistics.inspections) &&
			EQ(statistics.files_hashed) && EQ(statistics.bytes_hashed) &&
			memcmp(a->statistics.lag, b->statistics.lag, sizeof(a->statistics.lag)) == 0;
	return EQ(done.scan_id) && EQ(done.result) && EQ(done.files_scanned) &&
		EQ(done.bytes_hashed) && EQ(done.removals) && EQ(done.believed) &&
		EQ_STR(done.message) && EQ_STR(done.hint);
}

static void
test_round_trips(const Kind *kind)
{
	size_t		lost = 0;
	size_t		short_accepted = 0;
	size_t		long_accepted = 0;
	size_t		frame_early = 0;

	for (int round = 0; round < 300; round++)
	{
		Message		in;
		Message		out;
		ProtoBuf	buf;
		ProtoReader body;
		uint8_t		type;
		size_t		len;
		char	   *copy;

		arena_used = 0;
		memset(&in, 0, sizeof(in));
		memset(&out, 0x55, sizeof(out));
		kind->make(&in);
		proto_buf_init(&buf);
		proto_begin(&buf, kind->type);
		kind->put(&buf, &in);
		proto_end(&buf);
		len = proto_buf_pending(&buf);

		/* A frame that has not wholly come is no frame, and no error. */
		for (size_t cut = 0; cut < len; cut++)
		{
			ProtoBuf	part = buf;

			part.len = cut;
			frame_early += proto_next(&part, &type, &body) != 0;
		}

		/* A body that ends too soon, in memory that ends there, too. */
		for (size_t cut = 0; cut < len - 5; cut++)
		{
			copy = malloc(cut);
			if (cut > 0)
				memcpy(copy, buf.data + 5, cut);
			body = proto_reader(copy, cut);
			short_accepted += kind->get(&body, &out);
			free(copy);
		}

		copy = malloc(len - 5 + 1);
		memcpy(copy, buf.data + 5, len - 5);
		copy[len - 5] = 0;
		body = proto_reader(copy, len - 5 + 1);
		long_accepted += kind->get(&body, &out);
		free(copy);

		if (proto_next(&buf, &type, &body) != 1 || type != kind->type ||
			!kind->get(&body, &out) || body.p != body.end ||
			!same(kind, &in, &out) || proto_buf_pending(&buf) != 0)
			lost++;
		proto_buf_free(&buf);
	}
	CHECK(lost == 0, "%s: what was put comes out", kind->name);
	CHECK(frame_early == 0, "%s: no part of a frame is taken for it", kind->name);
	CHECK(short_accepted == 0, "%s: no prefix is accepted", kind->name);
	CHECK(long_accepted == (kind->whole ? 0 : 300), "%s: a byte too many is %s",
		  kind->name, kind->whole ? "refused" : "left for the next element");
}

/* Whether the message, put as it is, is accepted by its decoder. */
static bool
accepted(int kind, const Message *m)
{
	ProtoBuf	buf;
	ProtoReader body;
	Message		out;
	uint8_t		type;
	bool		result;

	proto_buf_init(&buf);
	proto_begin(&buf, kinds[kind].type);
	kinds[kind].put(&buf, m);
	proto_end(&buf);
	result = proto_next(&buf, &type, &body) == 1 && kinds[kind].get(&body, &out);
	proto_buf_free(&buf);
	return result;
}

enum
{
	CONFIG, INIT, SCAN, HEADER, BELIEF, REQUEST, OBSERVATION, STATE, PROGRESS,
	STATISTICS, DONE
};

/* Makes a good message, spoils one field, and expects a refusal. */
#define REFUSES(kind, spoil, name) \
	do { \
		Message m; \
		arena_used = 0; \
		memset(&m, 0, sizeof(m)); \
		kinds[kind].make(&m); \
		spoil; \
		CHECK(!accepted(kind, &m), "refused: %s", name); \
	} while (0)

static ProtoStr
str(const char *data, size_t len)
{
	ProtoStr	s = {data, (uint32_t) len};

	return s;
}

static void
test_ranges(void)
{
	static char path[70000];
	Message		ok;
	ProtoReader r;
	char		bytes[64];

	memset(path, 'x', sizeof(path));
	REFUSES(CONFIG, m.config.debounce_ms = -1, "a negative debounce");
	REFUSES(CONFIG, m.config.batch_size = 0, "a batch of nothing");
	REFUSES(CONFIG, m.config.max_concurrency = 0, "no concurrency at all");
	REFUSES(CONFIG, m.config.scan_cpu_ppm = -1, "less CPU time than none");
	REFUSES(CONFIG, m.config.io_priority = PROTO_IO_IDLE + 1, "an unknown priority");
	REFUSES(INIT, m.init.root = str("", 0), "a root without a name");
	REFUSES(INIT, m.init.root = str("/a\0b", 4), "a root with a zero byte");
	REFUSES(INIT, m.init.min_size = -1, "a negative least size");
	REFUSES(INIT, m.init.max_size = -1, "a negative greatest size");
	REFUSES(INIT, m.init.include = str("\5\0\0\0a", 5), "a list that does not parse");
	REFUSES(SCAN, m.scan.mass_delete_threshold = 1.5, "a threshold above one");
	REFUSES(SCAN, m.scan.mass_delete_threshold = -0.1, "a threshold below zero");
	REFUSES(SCAN, m.scan.mass_delete_threshold = NAN, "a threshold that is no number");
	REFUSES(SCAN, m.scan.flags = 2, "an unknown flag");
	REFUSES(SCAN, m.scan.scan_id = 0, "scan 0, which is real time");
	REFUSES(SCAN, m.scan.place = str("a\0b", 3), "a place with a zero byte");
	REFUSES(HEADER, m.header.count = 1, "a belief count without beliefs");
	REFUSES(BELIEF, m.belief.path = str("", 0), "a belief without a path");
	REFUSES(REQUEST, m.request.kind = 'x', "an unknown kind of request");
	REFUSES(OBSERVATION, m.observation.op = 'Z', "an unknown operation");
	REFUSES(OBSERVATION, (m.observation.op = 'A', m.observation.path = str(path, PROTO_PATH_MAX + 1)),
			"a path too long for a row");
	REFUSES(OBSERVATION, (m.observation.op = 'A', m.observation.path = str("", 0)),
			"a row without a path");
	REFUSES(OBSERVATION, (m.observation.op = 'A', m.observation.path = str("a\0b", 3)),
			"a path with a zero byte");
	REFUSES(OBSERVATION, (m.observation.op = 'A', m.observation.stat.mtime_nsec = 1000000000),
			"a second of more than 999999999 ns");
	REFUSES(OBSERVATION, (m.observation.op = 'A', m.observation.stat.mtime_nsec = -1),
			"negative nanoseconds");
	REFUSES(OBSERVATION, (m.observation.op = 'M', m.observation.old_path = str("", 0)),
			"a move from nowhere");
	REFUSES(OBSERVATION, (m.observation.op = 'R', m.observation.gone = 3),
			"a removal for no known reason");
	REFUSES(OBSERVATION, (m.observation.op = 'P', m.observation.problem = 0), "problem 0");
	REFUSES(OBSERVATION, (m.observation.op = 'P', m.observation.problem = 99), "problem 99");
	REFUSES(OBSERVATION, (m.observation.op = 'P', m.observation.problem = 1,
						  m.observation.path = str(path, 65537)), "a problem's path over 64 KiB");
	REFUSES(STATE, m.state.state = 0, "state 0");
	REFUSES(STATE, m.state.state = 5, "state 5");
	REFUSES(DONE, m.done.result = 4, "scan result 4");

	memset(&ok, 0, sizeof(ok));
	ok.observation.op = 'P';
	ok.observation.problem = PROTO_PROBLEM_TOO_LONG;
	ok.observation.path = str(path, 65536);
	CHECK(accepted(OBSERVATION, &ok), "a problem's path may have 64 KiB");
	ok.observation.op = 'A';
	ok.observation.path = str(path, PROTO_PATH_MAX);
	CHECK(accepted(OBSERVATION, &ok), "a row's path may have PROTO_PATH_MAX bytes");

	memset(bytes, 0, sizeof(bytes));
	bytes[16] = 2;
	r = proto_reader(bytes, 17);
	memset(bytes + 8, 1, 8);
	CHECK(!proto_get_config(&r, &ok.config), "a bool of 2 is refused");
}

static void
test_beliefs_frame(void)
{
	ProtoBuf	buf;
	ProtoReader body;
	ProtoBeliefsHeader header = {7, true, 0, 0};
	ProtoBeliefsHeader got;
	Message		m;
	Message		out;
	uint8_t		type;
	size_t		offset;
	size_t		equal = 0;

	/* Two frames in front, one of them consumed, so that offsets count. */
	proto_buf_init(&buf);
	for (int i = 0; i < 2; i++)
	{
		proto_begin(&buf, PROTO_PING);
		proto_put_i64(&buf, i);
		proto_end(&buf);
	}
	proto_next(&buf, &type, &body);

	unit_random_state = 42;
	arena_used = 0;
	proto_begin(&buf, PROTO_BELIEFS);
	proto_put_beliefs_header(&buf, &header);
	offset = proto_offset(&buf) - sizeof(uint32_t);
	for (int i = 0; i < 100; i++)
	{
		memset(&m, 0, sizeof(m));
		random_belief(&m);
		arena_used = 0;
		proto_put_belief(&buf, &m.belief);
	}
	proto_patch_u32(&buf, offset, 100);
	proto_end(&buf);

	CHECK(proto_next(&buf, &type, &body) == 1 && type == PROTO_PING &&
		  proto_get_i64(&body) == 1, "the frame before is intact");
	CHECK(proto_next(&buf, &type, &body) == 1 && type == PROTO_BELIEFS &&
		  proto_get_beliefs_header(&body, &got) && got.count == 100 && got.last &&
		  got.request_id == 7, "a count can be patched in");
	unit_random_state = 42;
	for (int i = 0; i < 100; i++)
	{
		memset(&m, 0, sizeof(m));
		random_belief(&m);
		arena_used = 0;
		equal += proto_get_belief(&body, &out.belief) && same(&kinds[BELIEF], &m, &out);
	}
	CHECK_EQ_INT((long long) equal, 100, "all beliefs of a page come out in order");
	CHECK(body.p == body.end, "and nothing is left");
	proto_buf_free(&buf);
}

static void
test_bad_streams(void)
{
	static const uint32_t lengths[] = {0, PROTO_MAX_FRAME + 1, UINT32_MAX};
	uint8_t		type;
	ProtoReader body;
	ProtoBuf	buf;
	ProtoStr	list = str("\1\0\0\0a\377\377\377\377", 9);
	ProtoStr	element;
	char	   *large;

	for (size_t i = 0; i < 3; i++)
	{
		proto_buf_init(&buf);
		proto_put_u32(&buf, lengths[i]);
		CHECK(proto_next(&buf, &type, &body) == -1, "a frame of length %u is refused at once",
			  lengths[i]);
		CHECK(proto_next(&buf, &type, &body) == -1, "and for ever");
		proto_buf_free(&buf);
	}

	CHECK(proto_list_next(&list, &element) && element.len == 1 && element.data[0] == 'a',
		  "a list gives its first element");
	CHECK(!proto_list_next(&list, &element) && list.len > 0,
		  "a malformed rest ends the list and is seen to be there");

	large = calloc(1, PROTO_MAX_FRAME);
	proto_buf_init(&buf);
	proto_begin(&buf, PROTO_LOG);
	proto_put_str(&buf, large, PROTO_MAX_FRAME - 5);
	proto_end(&buf);
	CHECK(!buf.failed && proto_next(&buf, &type, &body) == 1, "the largest frame is a frame");
	proto_buf_free(&buf);
	proto_begin(&buf, PROTO_LOG);
	proto_put_str(&buf, large, PROTO_MAX_FRAME - 4);
	proto_end(&buf);
	CHECK(buf.failed, "one byte more fails the buffer");
	CHECK(proto_send(-1, &buf) == -1 && errno == EMSGSIZE, "and it is not sent");
	proto_buf_free(&buf);
	free(large);
}

static void
test_socket(void)
{
	int			fds[2];
	ProtoBuf	out;
	ProtoBuf	in;
	uint8_t		type;
	ProtoReader body;
	size_t		wrong = 0;
	int64_t		received = 0;
	int64_t		sent = 0;
	size_t		most_cap = 0;
	bool		blocked = false;
	static char filling[20000];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
	{
		CHECK(false, "socketpair");
		return;
	}
	proto_buf_init(&out);
	proto_buf_init(&in);
	CHECK(proto_recv(fds[1], &in) == -1 && (errno == EAGAIN || errno == EWOULDBLOCK),
		  "an idle socket does not block");

	/* The sender is ahead, so that frames arrive cut at any byte. */
	while (received < 20000)
	{
		ssize_t		left;

		while (sent < 20000 && proto_buf_pending(&out) < 300000)
		{
			proto_begin(&out, PROTO_LOG);
			proto_put_i64(&out, sent);
			proto_put_str(&out, filling, (size_t) (sent * 7919 % 20000));
			proto_end(&out);
			sent++;
		}
		left = proto_send(fds[0], &out);
		blocked |= left > 0;
		if (left < 0 || proto_recv(fds[1], &in) <= 0)
			break;
		if (in.cap > most_cap)
			most_cap = in.cap;
		while (proto_next(&in, &type, &body) == 1)
		{
			int64_t		n = proto_get_i64(&body);
			ProtoStr	s = proto_get_str(&body);

			wrong += type != PROTO_LOG || n != received || body.failed ||
				s.len != (uint32_t) (n * 7919 % 20000) || body.p != body.end;
			received++;
		}
	}
	CHECK_EQ_INT(received, 20000, "all frames of a long stream arrive");
	CHECK_EQ_INT((long long) wrong, 0, "in order, and whole");
	CHECK(blocked, "the socket was full at times");
	CHECK(most_cap <= 1024 * 1024, "the receiver's buffer does not grow with the stream");

	/* A large frame takes memory, which goes when it has been read. */
	proto_begin(&out, PROTO_LOG);
	for (int i = 0; i < 200; i++)
		proto_put_str(&out, filling, sizeof(filling));
	proto_end(&out);
	while (proto_next(&in, &type, &body) == 0)
	{
		if (proto_send(fds[0], &out) < 0 || proto_recv(fds[1], &in) <= 0)
			break;
	}
	CHECK_EQ_INT(proto_send(fds[0], &out), 0, "nothing is left to send");
	CHECK(out.cap == 0, "the sender gave its memory back");
	CHECK(in.cap > 1024 * 1024, "the receiver needed memory");
	CHECK(proto_recv(fds[1], &in) == -1 && in.cap <= 1024 * 1024, "and gave it back");

	proto_put_u8(&out, 1);
	close(fds[1]);
	CHECK(proto_send(fds[0], &out) == -1 && errno == EPIPE, "a dead peer is an error, not a signal");
	CHECK_EQ_INT(proto_recv(fds[0], &in), 0, "and the end of the file");
	close(fds[0]);
	proto_buf_free(&out);
	proto_buf_free(&in);
}

/* A receiver may take less than the other end could send. */
static void
test_max_frame(void)
{
	ProtoBuf	buf;
	ProtoReader body;
	uint8_t		type;
	static const char text[100];

	proto_buf_init(&buf);
	buf.max_frame = 64;
	proto_begin(&buf, PROTO_LOG);
	proto_put_bytes(&buf, text, 63);
	proto_end(&buf);
	CHECK_EQ_INT(proto_next(&buf, &type, &body), 1, "a frame as long as it may be");
	proto_begin(&buf, PROTO_LOG);
	proto_put_bytes(&buf, text, 64);
	proto_end(&buf);
	CHECK_EQ_INT(proto_next(&buf, &type, &body), -1, "one that is longer");
	proto_buf_free(&buf);
	proto_buf_init(&buf);
	proto_put_u32(&buf, PROTO_MAX_FRAME + 1);
	CHECK_EQ_INT(proto_next(&buf, &type, &body), -1, "longer than any may be");
	proto_buf_free(&buf);
	proto_buf_init(&buf);
	buf.max_frame = PROTO_MAX_TREE_FRAME;
	proto_put_u32(&buf, PROTO_MAX_TREE_FRAME + 1);
	CHECK_EQ_INT(proto_next(&buf, &type, &body), -1, "is refused before it has come");
	proto_buf_free(&buf);
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		test_round_trips(&kinds[i]);
	test_ranges();
	test_beliefs_frame();
	test_bad_streams();
	test_socket();
	test_max_frame();
	for (uint8_t i = PROTO_PROBLEM_PERMISSION; i <= PROTO_PROBLEM_REJECTED; i++)
		CHECK(strcmp(proto_problem_name(i), proto_problem_name(0)) != 0, "problem %d has a name", i);
	return unit_done();
}
