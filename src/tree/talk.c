/*-------------------------------------------------------------------------
 *
 * talk.c
 *		What fsync-tree may say next; see talk.h.
 *
 * Mounts are the one thing that fsync-tree decides without being told: a mount
 * that comes or goes where there is no row is accepted at once, and it asks
 * for the rows below it first.  So a list of mounts is taken over only where
 * the worker was asked, and answered that there is none: mounts outlive the
 * process, and the next one would take those that were made up for a disk that
 * has gone.  Other lists are not held against it, but forgotten.
 *
 *-------------------------------------------------------------------------
 */
#include "talk.h"

#include "sandbox.h"
#include "grow.h"
#include "path_order.h"

#include <stdlib.h>
#include <string.h>

#define NOT_A_MESSAGE	"a message that cannot be understood"

void
talk_init(Talk *talk, int64_t now_us)
{
	memset(talk, 0, sizeof(*talk));
	talk->began_us = now_us;
	talk->last_request = INT64_MIN;
	proto_buf_init(&talk->mounts);
}

void
talk_free(Talk *talk)
{
	for (int i = 0; i < TALK_EMPTY_RANGES; i++)
		free(talk->ranges[i].directory);
	free(talk->flushes);
	proto_buf_free(&talk->mounts);
	memset(talk, 0, sizeof(*talk));
}

/* ---------------------------------------------------------------------
 * The worker
 * ---------------------------------------------------------------------
 */

static void
keep_mounts(Talk *talk, ProtoStr mounts)
{
	proto_buf_free(&talk->mounts);
	proto_put_bytes(&talk->mounts, mounts.data, mounts.len);
	talk->mounts_given = true;
}

static void
keep_config(Talk *talk, const ProtoConfig *config)
{
	if (config->batch_size > 0 && (uint32_t) config->batch_size > talk->batch_size)
		talk->batch_size = (uint32_t) config->batch_size;
}

static void
note_init(Talk *talk, ProtoReader body)
{
	ProtoInit	m;

	if (!proto_get_init(&body, &m))
		return;
	keep_config(talk, &m.config);
	if (m.identity.len == 0 || m.identity.len >= sizeof(talk->identity))
		return;
	memcpy(talk->identity, m.identity.data, m.identity.len);
	talk->identity_len = m.identity.len;
	keep_mounts(talk, m.mounts);

	/* known by its identity, but nobody has said yet what is mounted in it */
	if (m.fresh)
		talk->any_mounts = true;
}

static void
note_scan(Talk *talk, ProtoReader body)
{
	ProtoScan	m;
	TalkScan   *scan;

	if (!proto_get_scan(&body, &m))
		return;

	/* while one of everything goes on there may be many of a part */
	for (int i = 0; i < TALK_SCANS; i++)
	{
		scan = &talk->scans[talk->next_scan++ % TALK_SCANS];
		if (scan->id == 0 || scan->done)
			break;
	}
	scan->id = m.scan_id;
	scan->done = false;
	if (m.flags & PROTO_SCAN_FORCE)
		talk->may_replace = talk->any_mounts = true;
}

static void
note_flush(Talk *talk, int64_t token)
{
	int64_t    *flushes = grow(talk->flushes, &talk->flushes_capacity,
							   talk->n_flushes + 1, sizeof(int64_t));

	if (flushes == NULL)
	{
		talk->flushes_lost = true;
		return;
	}
	talk->flushes = flushes;
	talk->flushes[talk->n_flushes++] = token;
}

static void
note_verify(Talk *talk, ProtoReader body)
{
	ProtoVerify m;

	if (!proto_get_verify(&body, &m))
		return;
	talk->verify_run = m.run_id;
	talk->verify_left = m.count;
	talk->verifying = true;
}

static void
note_beliefs(Talk *talk, ProtoReader body)
{
	ProtoBeliefsHeader m;

	if (!proto_get_beliefs_header(&body, &m) || m.count > 0 || !m.last)
		return;
	for (int i = 0; i < TALK_EMPTY_RANGES; i++)
	{
		TalkRange  *range = &talk->ranges[i];

		if (range->directory != NULL && range->request_id == m.request_id)
			range->empty = true;
	}
}

static void
note_frame(Talk *talk, uint8_t type, ProtoReader body)
{
	ProtoConfig config;

	switch (type)
	{
		case PROTO_INIT:
			note_init(talk, body);
			break;
		case PROTO_CONFIG:
			if (proto_get_config(&body, &config))
				keep_config(talk, &config);
			break;
		case PROTO_SCAN:
			note_scan(talk, body);
			break;
		case PROTO_FLUSH:
			note_flush(talk, proto_get_i64(&body));
			break;
		case PROTO_PING:
			talk->ping = proto_get_i64(&body);
			talk->pinged = true;
			break;
		case PROTO_VERIFY:
			note_verify(talk, body);
			break;
		case PROTO_BELIEFS:
			note_beliefs(talk, body);
			break;
		default:
			break;
	}
}

void
talk_note(Talk *talk, const ProtoBuf *out)
{
	ProtoBuf	frames = *out;
	ProtoReader body;
	uint8_t		type;

	/* A view of what is new: proto_next() only moves its start. */
	frames.len = out->start + proto_buf_pending(out);
	frames.open = false;
	frames.start += talk->noted;
	frames.max_frame = 0;
	while (proto_next(&frames, &type, &body) == 1)
		note_frame(talk, type, body);
	talk_noted(talk, out);
}

void
talk_noted(Talk *talk, const ProtoBuf *out)
{
	talk->noted = proto_buf_pending(out);
}

/* ---------------------------------------------------------------------
 * The root
 * ---------------------------------------------------------------------
 */

/* Whether the worker has answered that there is no row below it. */
static bool
is_empty_below(const Talk *talk, ProtoStr escaped)
{
	for (int i = 0; i < TALK_EMPTY_RANGES; i++)
	{
		const TalkRange *range = &talk->ranges[i];
		ProtoStr	directory = {range->directory, range->len};

		if (range->empty && check_mount_order(escaped, directory) == 0)
			return true;
	}
	return false;
}

/*
 * Whether there was no row below any mount in which the two lists differ.
 * Both are in order.
 */
static bool
may_take_over(const Talk *talk, ProtoStr now)
{
	ProtoStr	before = {talk->mounts.data, (uint32_t) talk->mounts.len};
	ProtoStr	old = {"", 0};
	ProtoStr	new = {"", 0};
	ProtoStr	old_identity = {"", 0};
	ProtoStr	new_identity = {"", 0};
	bool		has_old = check_next_mount(&before, &old, &old_identity);
	bool		has_new = check_next_mount(&now, &new, &new_identity);

	while (has_old || has_new)
	{
		int			order = !has_old ? 1 : !has_new ? -1 : check_mount_order(old, new);
		bool		same = order == 0 &&
			path_order(old_identity.data, old_identity.len, new_identity.data,
					   new_identity.len) == 0;

		if (!same && !is_empty_below(talk, order <= 0 ? old : new))
			return false;
		if (order <= 0)
			has_old = check_next_mount(&before, &old, &old_identity);
		if (order >= 0)
			has_new = check_next_mount(&now, &new, &new_identity);
	}
	return true;
}

static const char *
hear_identity(Talk *talk, ProtoStr identity)
{
	const char *why;

	if (identity.len == talk->identity_len &&
		memcmp(identity.data, talk->identity, identity.len) == 0)
		return NULL;
	if (talk->identity_len > 0 && !talk->may_replace)
		return "another identity of the root than it was given";
	why = check_identity(identity);
	if (why != NULL)
		return why;
	memcpy(talk->identity, identity.data, identity.len);
	talk->identity_len = identity.len;
	talk->may_replace = false;
	return NULL;
}

static const char *
hear_state(Talk *talk, ProtoReader body)
{
	ProtoState	m;
	const char *why;

	if (!proto_get_state(&body, &m))
		return NOT_A_MESSAGE;
	why = check_state(&m);
	if (why == NULL)
		why = hear_identity(talk, m.identity);
	if (why == NULL && m.identity.len > 0 &&
		(!talk->mounts_given || talk->any_mounts || may_take_over(talk, m.mounts)))
		keep_mounts(talk, m.mounts);
	return why;
}

/* ---------------------------------------------------------------------
 * Rows
 * ---------------------------------------------------------------------
 */

static TalkScan *
find_scan(Talk *talk, int64_t id)
{
	for (int i = 0; i < TALK_SCANS; i++)
	{
		if (talk->scans[i].id == id && id != 0)
			return &talk->scans[i];
	}
	return NULL;
}

static const char *
hear_observations(Talk *talk, ProtoReader body)
{
	uint32_t	count = proto_get_u32(&body);
	uint32_t	most = PROTO_SCAN_BATCHES * talk->batch_size;
	int64_t		scan_id = 0;

	if (most < PROTO_MAX_MOVES)
		most = PROTO_MAX_MOVES;
	if (count > most)
		return "too many observations at once";
	for (uint32_t i = 0; i < count; i++)
	{
		ProtoObservation m;
		const char *why;

		if (!proto_get_observation(&body, &m))
			return NOT_A_MESSAGE;
		why = check_observation(&m);
		if (why != NULL)
			return why;
		if (m.scan_id != 0 && m.scan_id != scan_id && find_scan(talk, m.scan_id) == NULL)
			return "an observation of a scan that nobody asked for";
		scan_id = m.scan_id;
	}
	if (body.failed || body.p != body.end)
		return NOT_A_MESSAGE;
	talk->observations += count;
	return NULL;
}

/* A range of all that is below a directory: from "d/" to before "d0". */
static void
keep_range(Talk *talk, const ProtoBeliefsRequest *m)
{
	TalkRange  *range;
	char	   *directory;

	if (m->kind != PROTO_BELIEFS_RANGE || !m->inclusive || m->after.len < 2 ||
		m->before.len != m->after.len || m->after.data[m->after.len - 1] != '/' ||
		m->before.data[m->after.len - 1] != '/' + 1 ||
		memcmp(m->after.data, m->before.data, m->after.len - 1) != 0 ||
		m->after.len > PROTO_PATH_MAX)
		return;
	directory = malloc(2 * m->after.len);
	if (directory == NULL)
		return;
	range = &talk->ranges[talk->next_range++ % TALK_EMPTY_RANGES];
	free(range->directory);
	memset(range, 0, sizeof(*range));
	range->request_id = m->request_id;
	range->directory = directory;

	/* as the path of a mount is escaped */
	for (uint32_t i = 0; i < m->after.len - 1; i++)
	{
		char		c = m->after.data[i];

		if (c == '\n' || c == '\\')
			directory[range->len++] = '\\';
		directory[range->len++] = c == '\n' ? 'n' : c;
	}
}

static const char *
hear_request(Talk *talk, ProtoReader body)
{
	ProtoBeliefsRequest m;
	const char *why;

	if (!proto_get_beliefs_request(&body, &m))
		return NOT_A_MESSAGE;
	if (m.request_id <= talk->last_request)
		return "a request for rows that it made before";
	why = check_beliefs_request(&m);
	if (why != NULL)
		return why;
	talk->last_request = m.request_id;
	keep_range(talk, &m);
	return NULL;
}

/* ---------------------------------------------------------------------
 * Answers
 * ---------------------------------------------------------------------
 */

static const char *
hear_scan_done(Talk *talk, ProtoReader body, int64_t elapsed_us)
{
	ProtoScanDone m;
	TalkScan   *scan;

	if (!proto_get_scan_done(&body, &m))
		return NOT_A_MESSAGE;
	scan = find_scan(talk, m.scan_id);
	if (scan == NULL || scan->done)
		return "the end of a scan that does not go on";
	scan->done = true;
	return check_scan_done(&m, elapsed_us);
}

static const char *
hear_flushed(Talk *talk, ProtoReader body)
{
	int64_t		token = proto_get_i64(&body);

	if (body.failed)
		return NOT_A_MESSAGE;
	for (size_t i = 0; i < talk->n_flushes; i++)
	{
		if (talk->flushes[i] != token)
			continue;
		talk->flushes[i] = talk->flushes[--talk->n_flushes];
		return NULL;
	}
	return talk->flushes_lost ? NULL : "an answer to a flush that nobody asked for";
}

static const char *
hear_pong(Talk *talk, ProtoReader body)
{
	int64_t		token = proto_get_i64(&body);

	if (body.failed || body.p != body.end)
		return NOT_A_MESSAGE;
	if (!talk->pinged || token != talk->ping)
		return "an answer to a ping that nobody sent";
	talk->pinged = false;
	return NULL;
}

static const char *
hear_verified(Talk *talk, ProtoReader body)
{
	ProtoVerifiedHeader m;

	if (!proto_get_verified_header(&body, &m))
		return NOT_A_MESSAGE;
	if (!talk->verifying || m.run_id != talk->verify_run || m.count > talk->verify_left)
		return "verdicts that nobody asked for";
	for (uint32_t i = 0; i < m.count; i++)
	{
		ProtoVerified verdict;
		const char *why;

		if (!proto_get_verified(&body, &verdict))
			return NOT_A_MESSAGE;
		why = check_verified(&verdict);
		if (why != NULL)
			return why;
	}
	if (body.p != body.end)
		return NOT_A_MESSAGE;
	talk->verify_left -= m.count;
	talk->verifying = !m.last;
	return NULL;
}

/* ---------------------------------------------------------------------
 * The rest
 * ---------------------------------------------------------------------
 */

static const char *
hear_progress(Talk *talk, ProtoReader body, int64_t elapsed_us)
{
	ProtoProgress m;

	if (!proto_get_progress(&body, &m))
		return NOT_A_MESSAGE;
	if (m.scan_id != 0 && find_scan(talk, m.scan_id) == NULL)
		return "progress of a scan that nobody asked for";
	return check_progress(&m, elapsed_us);
}

static const char *
hear_statistics(Talk *talk, ProtoReader body, int64_t elapsed_us)
{
	ProtoStatistics m;
	const char *why;

	if (!proto_get_statistics(&body, &m))
		return NOT_A_MESSAGE;
	why = check_statistics(&m, &talk->statistics, talk->observations, elapsed_us);
	if (why == NULL)
		talk->statistics = m;
	return why;
}

static const char *
hear_sentence(ProtoReader body, bool has_level)
{
	uint8_t		level = has_level ? proto_get_u8(&body) : 'L';
	ProtoStr	text = proto_get_str(&body);

	if (body.failed || body.p != body.end ||
		(level != 'W' && level != 'L' && level != 'D'))
		return NOT_A_MESSAGE;
	return text.len > CHECK_TEXT_MAX ? "a text that is too long" : NULL;
}

/* The version stands first for ever: the worker says what is wrong with it. */
static const char *
hear_hello(Talk *talk, ProtoReader body)
{
	if (proto_get_u32(&body) == PROTO_VERSION && proto_get_str(&body).len >= SANDBOX_TEXT)
		return "a greeting that is too long";
	if (body.failed)
		return NOT_A_MESSAGE;
	if (talk->greeted)
		return "its greeting once more";
	talk->greeted = true;
	return NULL;
}

/* What is asked for is a number; whatever it is, no more is granted than there is. */
static const char *
hear_watches_wanted(ProtoReader body)
{
	return proto_get_i64(&body) >= 0 && !body.failed && body.p == body.end ? NULL : NOT_A_MESSAGE;
}

const char *
talk_hear(Talk *talk, uint8_t type, ProtoReader body, int64_t now_us)
{
	int64_t		elapsed_us = now_us - talk->began_us;

	if (type != PROTO_HELLO && !talk->greeted)
		return "something before its greeting";
	switch (type)
	{
		case PROTO_HELLO:
			return hear_hello(talk, body);
		case PROTO_STATE:
			return hear_state(talk, body);
		case PROTO_BELIEFS_REQUEST:
			return hear_request(talk, body);
		case PROTO_OBSERVATIONS:
			return hear_observations(talk, body);
		case PROTO_PROGRESS:
			return hear_progress(talk, body, elapsed_us);
		case PROTO_STATISTICS:
			return hear_statistics(talk, body, elapsed_us);
		case PROTO_SCAN_WANTED:
			return hear_sentence(body, false);
		case PROTO_WATCHES_WANTED:
			return hear_watches_wanted(body);
		case PROTO_SCAN_DONE:
			return hear_scan_done(talk, body, elapsed_us);
		case PROTO_VERIFIED:
			return hear_verified(talk, body);
		case PROTO_FLUSHED:
			return hear_flushed(talk, body);
		case PROTO_PONG:
			return hear_pong(talk, body);
		case PROTO_LOG:
			return hear_sentence(body, true);
		default:
			return NOT_A_MESSAGE;
	}
}
