/*-------------------------------------------------------------------------
 *
 * messages.c
 *		What fsync-tree and the worker say, in bytes.
 *
 * The decoders check every value that a receiver would otherwise trust: an
 * enum that indexes, a count that sizes an array, a path that becomes a C
 * string or a database key.  Whole messages must also end where their frame
 * ends, which finds an encoder and a decoder that have drifted apart.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol.h"

#include <string.h>

/*
 * A path that is not a key of file_records, and so is not bound to
 * PROTO_PATH_MAX: that of a problem (often, that it is too long), or of a row
 * that is there already and only has to go.
 */
#define LONG_PATH_MAX	(64 * 1024)

/* The bytes of a belief with an empty path and no hash. */
#define BELIEF_MIN_SIZE	(8 + 4 + 6 * 8 + 1)

/* The bytes of a place. */
#define PLACE_SIZE		(8 + 8 + 1)

#define VERIFIED_SIZE	(8 + 1 + 8 + 4 + 2 * PROTO_HASH_LEN)

/* ---------------------------------------------------------------------
 * What messages are made of
 * ---------------------------------------------------------------------
 */

static void
put_bool(ProtoBuf *buf, bool v)
{
	proto_put_u8(buf, v ? 1 : 0);
}

static bool
get_bool(ProtoReader *r)
{
	uint8_t		v = proto_get_u8(r);

	if (v > 1)
		r->failed = true;
	return v == 1;
}

static void
put_i32(ProtoBuf *buf, int32_t v)
{
	proto_put_u32(buf, (uint32_t) v);
}

/* An int32 of at least min. */
static int32_t
get_i32(ProtoReader *r, int32_t min)
{
	int32_t		v = (int32_t) proto_get_u32(r);

	if (v < min)
		r->failed = true;
	return v;
}

static void
put_u64(ProtoBuf *buf, uint64_t v)
{
	proto_put_i64(buf, (int64_t) v);
}

static uint64_t
get_u64(ProtoReader *r)
{
	return (uint64_t) proto_get_i64(r);
}

/* An enum's value of min to max. */
static uint8_t
get_enum(ProtoReader *r, uint8_t min, uint8_t max)
{
	uint8_t		v = proto_get_u8(r);

	if (v < min || v > max)
		r->failed = true;
	return v;
}

static void
put_str(ProtoBuf *buf, ProtoStr s)
{
	proto_put_str(buf, s.data, s.len);
}

/* A string that becomes a file name: it cannot hold a zero byte. */
static ProtoStr
get_path(ProtoReader *r, size_t min, size_t max)
{
	ProtoStr	s = proto_get_str(r);

	if (s.len < min || s.len > max || memchr(s.data, '\0', s.len) != NULL)
		r->failed = true;
	return s;
}

/* A list whose elements all parse, so that its readers need not ask. */
static ProtoStr
get_list(ProtoReader *r)
{
	ProtoStr	list = proto_get_str(r);
	ProtoStr	rest = list;
	ProtoStr	element;

	while (proto_list_next(&rest, &element))
		;
	if (rest.len > 0)
		r->failed = true;
	return list;
}

static void
put_hash(ProtoBuf *buf, bool has_hash, const uint8_t *hash)
{
	put_bool(buf, has_hash);
	if (has_hash)
		proto_put_bytes(buf, hash, PROTO_HASH_LEN);
}

static bool
get_hash(ProtoReader *r, uint8_t *hash)
{
	bool		has_hash = get_bool(r);

	if (has_hash)
		proto_get_bytes(r, hash, PROTO_HASH_LEN);
	else
		memset(hash, 0, PROTO_HASH_LEN);
	return has_hash;
}

/* The last test of a message that is the whole body of its frame. */
static bool
reader_done(const ProtoReader *r)
{
	return !r->failed && r->p == r->end;
}

/* ---------------------------------------------------------------------
 * Messages of the worker
 * ---------------------------------------------------------------------
 */

void
proto_put_config(ProtoBuf *buf, const ProtoConfig *m)
{
	put_i32(buf, m->debounce_ms);
	put_i32(buf, m->debounce_max_ms);
	put_i32(buf, m->batch_size);
	put_i32(buf, m->max_concurrency);
	put_bool(buf, m->calculate_hashes);
	put_i32(buf, m->scan_cpu_ppm);
	proto_put_u8(buf, m->io_priority);
}

/* Also a part of ProtoInit, so what follows it is not looked at. */
bool
proto_get_config(ProtoReader *r, ProtoConfig *m)
{
	m->debounce_ms = get_i32(r, 0);
	m->debounce_max_ms = get_i32(r, 0);
	m->batch_size = get_i32(r, 1);
	m->max_concurrency = get_i32(r, 1);
	m->calculate_hashes = get_bool(r);
	m->scan_cpu_ppm = get_i32(r, 0);
	m->io_priority = get_enum(r, PROTO_IO_NONE, PROTO_IO_IDLE);
	return !r->failed;
}

/* The version stays the first field for ever, whatever else changes. */
void
proto_put_init(ProtoBuf *buf, const ProtoInit *m)
{
	proto_put_u32(buf, m->version);
	proto_put_config(buf, &m->config);
	put_bool(buf, m->utf8);
	put_str(buf, m->root);
	put_str(buf, m->given);
	put_str(buf, m->identity);
	put_str(buf, m->rows_identity);
	put_str(buf, m->mounts);
	put_str(buf, m->include);
	put_str(buf, m->exclude);
	put_bool(buf, m->ignore_case);
	put_bool(buf, m->include_hidden);
	put_bool(buf, m->use_ignore_files);
	proto_put_i64(buf, m->min_size);
	proto_put_i64(buf, m->max_size);
	proto_put_i64(buf, m->watches);
	put_bool(buf, m->fresh);
	put_str(buf, m->server);
}

bool
proto_get_init(ProtoReader *r, ProtoInit *m)
{
	m->version = proto_get_u32(r);
	proto_get_config(r, &m->config);
	m->utf8 = get_bool(r);
	m->root = get_path(r, 1, LONG_PATH_MAX);
	m->given = get_path(r, 0, LONG_PATH_MAX);
	m->identity = get_path(r, 0, LONG_PATH_MAX);
	m->rows_identity = get_path(r, 0, LONG_PATH_MAX);
	m->mounts = get_list(r);
	m->include = get_list(r);
	m->exclude = get_list(r);
	m->ignore_case = get_bool(r);
	m->include_hidden = get_bool(r);
	m->use_ignore_files = get_bool(r);
	m->min_size = proto_get_i64(r);
	m->max_size = proto_get_i64(r);
	if (m->min_size < 0 || m->max_size < 0)
		return false;
	m->watches = proto_get_i64(r);
	m->fresh = get_bool(r);
	m->server = get_list(r);
	return reader_done(r);
}

/* An element of a list. */
void
proto_put_place(ProtoBuf *list, const ProtoPlace *place)
{
	proto_put_u32(list, PLACE_SIZE);
	put_u64(list, place->device);
	put_u64(list, place->inode);
	put_bool(list, place->whole);
}

/* Steps through such a list; false at its end, or at what is no place. */
bool
proto_next_place(ProtoStr *list, ProtoPlace *place)
{
	ProtoStr	element;
	ProtoReader r;

	if (!proto_list_next(list, &element))
		return false;
	r = proto_reader(element.data, element.len);
	place->device = get_u64(&r);
	place->inode = get_u64(&r);
	place->whole = get_bool(&r);
	return reader_done(&r);
}

void
proto_put_why(ProtoBuf *buf, const ProtoWhy *m)
{
	put_bool(buf, m->known);
	put_bool(buf, m->tracked);
	put_str(buf, m->source);
	put_str(buf, m->rule);
	put_str(buf, m->rule_file);
	put_str(buf, m->decided);
	put_str(buf, m->detail);
}

bool
proto_get_why(ProtoReader *r, ProtoWhy *m)
{
	m->known = get_bool(r);
	m->tracked = get_bool(r);
	m->source = get_path(r, 0, LONG_PATH_MAX);
	m->rule = get_path(r, 0, LONG_PATH_MAX);
	m->rule_file = get_path(r, 0, LONG_PATH_MAX);
	m->decided = get_path(r, 0, LONG_PATH_MAX);
	m->detail = get_path(r, 0, LONG_PATH_MAX);
	return reader_done(r);
}

void
proto_put_scan(ProtoBuf *buf, const ProtoScan *m)
{
	proto_put_i64(buf, m->scan_id);
	proto_put_u32(buf, m->flags);
	proto_put_double(buf, m->mass_delete_threshold);
	put_str(buf, m->place);
}

bool
proto_get_scan(ProtoReader *r, ProtoScan *m)
{
	m->scan_id = proto_get_i64(r);
	m->flags = proto_get_u32(r);
	m->mass_delete_threshold = proto_get_double(r);
	m->place = get_path(r, 0, PROTO_PATH_MAX);

	/* Said so that a NaN, which would switch the protection off, fails. */
	if (!(m->mass_delete_threshold >= 0.0 && m->mass_delete_threshold <= 1.0))
		return false;
	if ((m->flags & ~(uint32_t) PROTO_SCAN_FORCE) != 0)
		return false;
	return m->scan_id > 0 && reader_done(r);
}

void
proto_put_beliefs_header(ProtoBuf *buf, const ProtoBeliefsHeader *m)
{
	proto_put_i64(buf, m->request_id);
	put_bool(buf, m->last);
	proto_put_i64(buf, m->cpu_us);
	proto_put_u32(buf, m->count);
}

bool
proto_get_beliefs_header(ProtoReader *r, ProtoBeliefsHeader *m)
{
	m->request_id = proto_get_i64(r);
	m->last = get_bool(r);
	m->cpu_us = proto_get_i64(r);
	m->count = proto_get_u32(r);

	/* A receiver may allocate by this count: the bytes must be there. */
	return !r->failed && m->count <= (size_t) (r->end - r->p) / BELIEF_MIN_SIZE;
}

void
proto_put_belief(ProtoBuf *buf, const ProtoBelief *m)
{
	proto_put_i64(buf, m->id);
	put_str(buf, m->path);
	proto_put_i64(buf, m->size);
	proto_put_i64(buf, m->inode);
	proto_put_i64(buf, m->mtime_ns);
	proto_put_i64(buf, m->ctime_ns);
	proto_put_i64(buf, m->btime_ns);
	proto_put_i64(buf, m->scanned_us);
	put_hash(buf, m->has_hash, m->hash);
}

bool
proto_get_belief(ProtoReader *r, ProtoBelief *m)
{
	m->id = proto_get_i64(r);
	m->path = get_path(r, 1, LONG_PATH_MAX);
	m->size = proto_get_i64(r);
	m->inode = proto_get_i64(r);
	m->mtime_ns = proto_get_i64(r);
	m->ctime_ns = proto_get_i64(r);
	m->btime_ns = proto_get_i64(r);
	m->scanned_us = proto_get_i64(r);
	m->has_hash = get_hash(r, m->hash);
	return !r->failed;
}

/* ---------------------------------------------------------------------
 * Messages of fsync-tree
 * ---------------------------------------------------------------------
 */

void
proto_put_beliefs_request(ProtoBuf *buf, const ProtoBeliefsRequest *m)
{
	proto_put_i64(buf, m->request_id);
	proto_put_u8(buf, m->kind);
	put_bool(buf, m->inclusive);
	put_str(buf, m->after);
	put_str(buf, m->before);
	proto_put_u32(buf, m->limit);
	put_str(buf, m->paths);
}

bool
proto_get_beliefs_request(ProtoReader *r, ProtoBeliefsRequest *m)
{
	m->request_id = proto_get_i64(r);
	m->kind = proto_get_u8(r);
	m->inclusive = get_bool(r);
	m->after = get_path(r, 0, LONG_PATH_MAX);
	m->before = get_path(r, 0, LONG_PATH_MAX);
	m->limit = proto_get_u32(r);
	m->paths = get_list(r);
	if (m->kind != PROTO_BELIEFS_RANGE && m->kind != PROTO_BELIEFS_PATHS)
		return false;
	return reader_done(r);
}

static void
put_stat(ProtoBuf *buf, const ProtoStat *m)
{
	proto_put_i64(buf, m->size);
	proto_put_i64(buf, m->inode);
	proto_put_i64(buf, m->mtime_sec);
	put_i32(buf, m->mtime_nsec);
	proto_put_i64(buf, m->mtime_ns);
	proto_put_i64(buf, m->ctime_ns);
	proto_put_i64(buf, m->btime_ns);
}

static void
get_stat(ProtoReader *r, ProtoStat *m)
{
	m->size = proto_get_i64(r);
	m->inode = proto_get_i64(r);
	m->mtime_sec = proto_get_i64(r);
	m->mtime_nsec = get_i32(r, 0);
	m->mtime_ns = proto_get_i64(r);
	m->ctime_ns = proto_get_i64(r);
	m->btime_ns = proto_get_i64(r);
	if (m->mtime_nsec > 999999999)
		r->failed = true;
}

/*
 * Only the fields that the operation uses travel: a first scan sends a million
 * of these.
 */
void
proto_put_observation(ProtoBuf *buf, const ProtoObservation *m)
{
	proto_put_u8(buf, m->op);
	proto_put_i64(buf, m->scan_id);
	put_str(buf, m->path);
	switch (m->op)
	{
		case PROTO_OP_MOVED:
			proto_put_i64(buf, m->id);
			put_str(buf, m->old_path);
			put_bool(buf, m->renamed);
			__attribute__((fallthrough));
		case PROTO_OP_ADDED:
		case PROTO_OP_UPDATED:
		case PROTO_OP_TOUCHED:
			put_stat(buf, &m->stat);
			put_hash(buf, m->has_hash, m->hash);
			if (m->has_hash)
			{
				proto_put_i64(buf, m->hashed_us);
				proto_put_i64(buf, m->bytes_read);
			}
			break;
		case PROTO_OP_REMOVED:
			proto_put_i64(buf, m->id);
			proto_put_u8(buf, m->gone);
			break;
		case PROTO_OP_PROBLEM:
			proto_put_u8(buf, m->problem);
			put_str(buf, m->message);
			break;
		default:
			break;
	}
}

static void
get_file(ProtoReader *r, ProtoObservation *m)
{
	get_stat(r, &m->stat);
	m->has_hash = get_hash(r, m->hash);
	if (m->has_hash)
	{
		m->hashed_us = proto_get_i64(r);
		m->bytes_read = proto_get_i64(r);
	}
}

/* Fields that the operation does not use come out as zeros, or empty. */
bool
proto_get_observation(ProtoReader *r, ProtoObservation *m)
{
	memset(m, 0, sizeof(*m));
	m->old_path.data = "";
	m->message.data = "";
	m->op = proto_get_u8(r);
	m->scan_id = proto_get_i64(r);
	switch (m->op)
	{
		case PROTO_OP_MOVED:
			m->path = get_path(r, 1, PROTO_PATH_MAX);
			m->id = proto_get_i64(r);
			m->old_path = get_path(r, 1, LONG_PATH_MAX);
			m->renamed = get_bool(r);
			get_file(r, m);
			break;
		case PROTO_OP_ADDED:
		case PROTO_OP_UPDATED:
		case PROTO_OP_TOUCHED:
			m->path = get_path(r, 1, PROTO_PATH_MAX);
			get_file(r, m);
			break;
		case PROTO_OP_REMOVED:
			m->path = get_path(r, 1, LONG_PATH_MAX);
			m->id = proto_get_i64(r);
			m->gone = get_enum(r, PROTO_GONE_ABSENT, PROTO_GONE_EXCLUDED);
			break;
		case PROTO_OP_PROBLEM:
			m->path = get_path(r, 0, LONG_PATH_MAX);
			m->problem = get_enum(r, PROTO_PROBLEM_PERMISSION,
								  PROTO_PROBLEM_REJECTED);
			m->message = proto_get_str(r);
			break;
		case PROTO_OP_CLEAR:
			m->path = get_path(r, 0, LONG_PATH_MAX);
			break;
		default:
			r->failed = true;
			break;
	}
	return !r->failed;
}

void
proto_put_state(ProtoBuf *buf, const ProtoState *m)
{
	proto_put_u8(buf, m->state);
	put_str(buf, m->reason);
	put_str(buf, m->hint);
	put_bool(buf, m->polled);
	put_u64(buf, m->directories);
	put_str(buf, m->identity);
	put_str(buf, m->mounts);
}

bool
proto_get_state(ProtoReader *r, ProtoState *m)
{
	m->state = get_enum(r, PROTO_STATE_STARTING, PROTO_STATE_UNAVAILABLE);
	m->reason = proto_get_str(r);
	m->hint = proto_get_str(r);
	m->polled = get_bool(r);
	m->directories = get_u64(r);
	m->identity = get_path(r, 0, LONG_PATH_MAX);
	m->mounts = get_list(r);
	return reader_done(r);
}

void
proto_put_progress(ProtoBuf *buf, const ProtoProgress *m)
{
	proto_put_i64(buf, m->scan_id);
	put_u64(buf, m->files_done);
	put_u64(buf, m->bytes_hashed);
	put_u64(buf, m->pending);
	proto_put_i64(buf, m->last_event_us);
	put_u64(buf, m->directories);
	put_str(buf, m->reading);
	proto_put_i64(buf, m->reading_done);
	proto_put_i64(buf, m->reading_size);
	put_u64(buf, m->unread);
}

bool
proto_get_progress(ProtoReader *r, ProtoProgress *m)
{
	m->scan_id = proto_get_i64(r);
	m->files_done = get_u64(r);
	m->bytes_hashed = get_u64(r);
	m->pending = get_u64(r);
	m->last_event_us = proto_get_i64(r);
	m->directories = get_u64(r);
	m->reading = get_path(r, 0, PROTO_PATH_MAX);
	m->reading_done = proto_get_i64(r);
	m->reading_size = proto_get_i64(r);
	m->unread = get_u64(r);
	return reader_done(r) && m->reading_done >= 0 && m->reading_size >= 0;
}

void
proto_put_statistics(ProtoBuf *buf, const ProtoStatistics *m)
{
	put_u64(buf, m->events);
	put_u64(buf, m->overflows);
	put_u64(buf, m->inspections);
	put_u64(buf, m->files_hashed);
	put_u64(buf, m->bytes_hashed);
	for (int i = 0; i < LAG_BUCKETS; i++)
		put_u64(buf, m->lag[i]);
}

bool
proto_get_statistics(ProtoReader *r, ProtoStatistics *m)
{
	m->events = get_u64(r);
	m->overflows = get_u64(r);
	m->inspections = get_u64(r);
	m->files_hashed = get_u64(r);
	m->bytes_hashed = get_u64(r);
	for (int i = 0; i < LAG_BUCKETS; i++)
		m->lag[i] = get_u64(r);
	return reader_done(r);
}

void
proto_put_scan_done(ProtoBuf *buf, const ProtoScanDone *m)
{
	proto_put_i64(buf, m->scan_id);
	proto_put_u8(buf, m->result);
	put_u64(buf, m->files_scanned);
	put_u64(buf, m->bytes_hashed);
	put_u64(buf, m->removals);
	put_u64(buf, m->believed);
	put_str(buf, m->message);
	put_str(buf, m->hint);
}

bool
proto_get_scan_done(ProtoReader *r, ProtoScanDone *m)
{
	m->scan_id = proto_get_i64(r);
	m->result = get_enum(r, PROTO_SCAN_COMPLETE, PROTO_SCAN_MASS_DELETE);
	m->files_scanned = get_u64(r);
	m->bytes_hashed = get_u64(r);
	m->removals = get_u64(r);
	m->believed = get_u64(r);
	m->message = proto_get_str(r);
	m->hint = proto_get_str(r);
	return reader_done(r);
}

void
proto_put_verify(ProtoBuf *buf, const ProtoVerify *m)
{
	proto_put_i64(buf, m->run_id);
	proto_put_i64(buf, m->rate);
	proto_put_u32(buf, m->count);
}

bool
proto_get_verify(ProtoReader *r, ProtoVerify *m)
{
	m->run_id = proto_get_i64(r);
	m->rate = proto_get_i64(r);
	m->count = proto_get_u32(r);
	return !r->failed && m->run_id > 0 && m->rate >= 0 &&
		m->count <= (size_t) (r->end - r->p) / BELIEF_MIN_SIZE;
}

size_t
proto_put_verified_header(ProtoBuf *buf, const ProtoVerifiedHeader *m)
{
	size_t		at;

	proto_put_i64(buf, m->run_id);
	put_bool(buf, m->last);
	at = proto_offset(buf);
	proto_put_u32(buf, m->count);
	return at;
}

bool
proto_get_verified_header(ProtoReader *r, ProtoVerifiedHeader *m)
{
	m->run_id = proto_get_i64(r);
	m->last = get_bool(r);
	m->count = proto_get_u32(r);
	return !r->failed && m->count <= (size_t) (r->end - r->p) / VERIFIED_SIZE;
}

void
proto_put_verified(ProtoBuf *buf, const ProtoVerified *m)
{
	proto_put_i64(buf, m->id);
	proto_put_u8(buf, m->verdict);
	proto_put_i64(buf, m->bytes);
	put_i32(buf, m->error);
	proto_put_bytes(buf, m->expected, PROTO_HASH_LEN);
	proto_put_bytes(buf, m->found, PROTO_HASH_LEN);
}

bool
proto_get_verified(ProtoReader *r, ProtoVerified *m)
{
	m->id = proto_get_i64(r);
	m->verdict = get_enum(r, PROTO_VERIFIED_RIGHT, PROTO_VERIFIED_CHANGED);
	m->bytes = proto_get_i64(r);
	m->error = get_i32(r, 0);
	proto_get_bytes(r, m->expected, PROTO_HASH_LEN);
	proto_get_bytes(r, m->found, PROTO_HASH_LEN);
	if (m->bytes < 0)
		r->failed = true;
	return !r->failed;
}

const char *
proto_problem_name(uint8_t problem)
{
	switch (problem)
	{
		case PROTO_PROBLEM_PERMISSION:
			return "permission denied";
		case PROTO_PROBLEM_ENCODING:
			return "name invalid in the database's encoding";
		case PROTO_PROBLEM_TOO_LONG:
			return "path too long";
		case PROTO_PROBLEM_CHANGING:
			return "kept changing while read";
		case PROTO_PROBLEM_IO:
			return "I/O error";
		case PROTO_PROBLEM_LEASE:
			return "leased by another process";
		case PROTO_PROBLEM_NOT_WATCHED:
			return "directory not watched";
		case PROTO_PROBLEM_MOUNT:
			return "mount changed";
		case PROTO_PROBLEM_REFERENCED:
			return "still referenced";
		case PROTO_PROBLEM_REJECTED:
			return "rejected by the database";
		case PROTO_PROBLEM_CORRUPT:
			return "content differs from its hash";
		case PROTO_PROBLEM_UNREADABLE:
			return "I/O error in verification";
		case PROTO_PROBLEM_LOCKED:
			return "row is locked";
		default:
			return "unknown problem";
	}
}
