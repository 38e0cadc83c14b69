/*-------------------------------------------------------------------------
 *
 * checks.c
 *		What a message of fsync-tree can mean; see checks.h.
 *
 * A row that a user wrote into file_records by hand may have any path, id and
 * time, and fsync-tree says them back when the row goes or moves.  So what
 * names a row that is there already is not held to what a file can be.
 *
 *-------------------------------------------------------------------------
 */
#include "checks.h"
#include "path_order.h"

#include <string.h>

/*
 * More than any disk or processor does in a second: of files, directories and
 * events, and of bytes that are hashed.
 */
#define COUNT_A_SECOND		UINT64_C(10000000)
#define BYTES_A_SECOND		UINT64_C(1000000000000)

/* More than a file system holds. */
#define COUNT_MAX			(UINT64_C(1) << 40)
#define BYTES_MAX			(UINT64_C(1) << 62)

/* Bytes that a verification reads of one file: it reads it twice. */
#define VERIFIED_BYTES_MAX	(INT64_C(1) << 60)

#define ERRNO_MAX			4095

/* ---------------------------------------------------------------------
 * What messages are made of
 * ---------------------------------------------------------------------
 */

const char *
check_path(ProtoStr path, size_t max)
{
	const char *p = path.data;
	const char *end = p + path.len;

	if (path.len == 0)
		return "an empty path";
	if (path.len > max)
		return "a path that is too long";
	if (memchr(p, '\0', path.len) != NULL)
		return "a path with a zero byte";
	for (;;)
	{
		const char *slash = memchr(p, '/', (size_t) (end - p));
		size_t		len = (size_t) ((slash != NULL ? slash : end) - p);

		if (len == 0)
			return "a path with an empty component";
		if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return "a path with \".\" or \"..\"";
		if (slash == NULL)
			return NULL;
		p = slash + 1;
	}
}

static const char *
check_text(ProtoStr text)
{
	return text.len > CHECK_TEXT_MAX ? "a text that is too long" : NULL;
}

/* What can have been counted since the process began. */
static bool
is_possible(uint64_t n, uint64_t a_second, uint64_t max, int64_t elapsed_us)
{
	uint64_t	seconds = (uint64_t) (elapsed_us > 0 ? elapsed_us : 0) / 1000000 + 1;

	return n <= max && n / a_second <= seconds;
}

static bool
is_possible_count(uint64_t n, int64_t elapsed_us)
{
	return is_possible(n, COUNT_A_SECOND, COUNT_MAX, elapsed_us);
}

static bool
is_possible_bytes(uint64_t n, int64_t elapsed_us)
{
	return is_possible(n, BYTES_A_SECOND, BYTES_MAX, elapsed_us);
}

/* ---------------------------------------------------------------------
 * Observations
 * ---------------------------------------------------------------------
 */

/*
 * Whether nanoseconds since 1970 are those of the exact time, saturating.  The
 * least value stands for no time, and is said as the one after it.
 */
static bool
is_same_time(int64_t ns, int64_t sec, int64_t nsec)
{
	int64_t		exact;

	/* towards zero, as the earliest second that can be held is held in part */
	if (sec < 0)
	{
		sec++;
		nsec -= INT64_C(1000000000);
	}
	if (__builtin_mul_overflow(sec, INT64_C(1000000000), &exact) ||
		__builtin_add_overflow(exact, nsec, &exact))
		exact = sec <= 0 ? INT64_MIN : INT64_MAX;
	return ns == exact || (exact == INT64_MIN && ns == INT64_MIN + 1);
}

static const char *
check_stat(const ProtoStat *m)
{
	if (m->size < 0)
		return "a negative size";
	if (m->mtime_nsec < 0 || m->mtime_nsec > 999999999 ||
		!is_same_time(m->mtime_ns, m->mtime_sec, m->mtime_nsec))
		return "a modification time that contradicts itself";
	return NULL;
}

/* The words that only the worker has: of what the database did with a row. */
static bool
is_problem_of_worker(uint8_t problem)
{
	switch (problem)
	{
		case PROTO_PROBLEM_REFERENCED:
		case PROTO_PROBLEM_REJECTED:
		case PROTO_PROBLEM_CORRUPT:
		case PROTO_PROBLEM_UNREADABLE:
		case PROTO_PROBLEM_LOCKED:
			return true;
		default:
			return false;
	}
}

const char *
check_observation(const ProtoObservation *m)
{
	const char *why;

	switch (m->op)
	{
		case PROTO_OP_ADDED:
		case PROTO_OP_UPDATED:
		case PROTO_OP_TOUCHED:
		case PROTO_OP_MOVED:
			why = check_path(m->path, PROTO_PATH_MAX);
			if (why == NULL && m->has_hash && m->bytes_read < 0)
				why = "a number that cannot be";
			return why != NULL ? why : check_stat(&m->stat);
		case PROTO_OP_PROBLEM:
			if (is_problem_of_worker(m->problem))
				return "a problem that only the database can have";
			if (m->message.len > CHECK_TEXT_MAX)
				return "a text that is too long";
			__attribute__((fallthrough));
		case PROTO_OP_CLEAR:

			/* of a directory, perhaps the root, or because it is too long */
			return m->path.len > 0 ? check_path(m->path, SIZE_MAX) : NULL;
		default:
			return NULL;
	}
}

/* ---------------------------------------------------------------------
 * Beliefs
 * ---------------------------------------------------------------------
 */

/*
 * In byte order, each once: else one row would be told many times.  They may
 * be those of rows that were written by hand.
 */
static const char *
check_paths(ProtoStr list)
{
	ProtoStr	before = {"", 0};
	ProtoStr	path;
	uint32_t	n = 0;

	while (proto_list_next(&list, &path))
	{
		if (path.len > PROTO_PATH_MAX)
			return "a path that is too long";
		if (++n > PROTO_MAX_PATHS)
			return "a request for too many rows";
		if (n > 1 && path_order(before.data, before.len, path.data, path.len) >= 0)
			return "a request for rows in no order";
		before = path;
	}
	return NULL;
}

const char *
check_beliefs_request(const ProtoBeliefsRequest *m)
{
	if (m->kind == PROTO_BELIEFS_PATHS)
		return check_paths(m->paths);

	/* The bounds need not be paths: they say where a range begins and ends. */
	if (m->limit < 1 || m->limit > PROTO_MAX_RANGE)
		return "a request for too many rows";
	return NULL;
}

/* ---------------------------------------------------------------------
 * State and progress
 * ---------------------------------------------------------------------
 */

static bool
is_printable(ProtoStr s)
{
	for (uint32_t i = 0; i < s.len; i++)
	{
		if (s.data[i] < ' ' || s.data[i] > '~')
			return false;
	}
	return true;
}

const char *
check_identity(ProtoStr identity)
{
	if (identity.len >= CHECK_IDENTITY_MAX || identity.len <= 5 ||
		memcmp(identity.data, "type:", 5) != 0 || !is_printable(identity))
		return "an identity of the root that is none";
	return NULL;
}

/* The next byte of an escaped path; -1 at its end, -2: it is malformed. */
static int
next_unescaped(ProtoStr *escaped)
{
	int			c;

	if (escaped->len == 0)
		return -1;
	c = (unsigned char) *escaped->data++;
	escaped->len--;
	if (c != '\\')
		return c == '\n' ? -2 : c;
	if (escaped->len == 0)
		return -2;
	c = (unsigned char) *escaped->data++;
	escaped->len--;
	return c == 'n' ? '\n' : c == '\\' ? c : -2;
}

int
check_mount_order(ProtoStr a, ProtoStr b)
{
	for (;;)
	{
		int			x = next_unescaped(&a);
		int			y = next_unescaped(&b);

		if (x != y || x < 0)
			return x - y;
	}
}

static bool
is_escaped(ProtoStr path)
{
	int			c;

	while ((c = next_unescaped(&path)) >= 0)
		;
	return c == -1;
}

bool
check_next_mount(ProtoStr *mounts, ProtoStr *path, ProtoStr *identity)
{
	ProtoStr	element;
	const char *tab;

	if (!proto_list_next(mounts, &element))
		return false;

	/* A path may hold tabs, an identity does not. */
	tab = element.len > 0 ? memrchr(element.data, '\t', element.len) : NULL;
	path->data = element.data;
	path->len = tab != NULL ? (uint32_t) (tab - element.data) : 0;
	identity->data = tab != NULL ? tab + 1 : "";
	identity->len = tab != NULL ? element.len - path->len - 1 : 0;
	return true;
}

const char *
check_mounts(ProtoStr mounts)
{
	ProtoStr	before = {"", 0};
	ProtoStr	path;
	ProtoStr	identity;

	if (mounts.len > CHECK_MOUNTS_MAX)
		return "too many mounts";
	while (check_next_mount(&mounts, &path, &identity))
	{
		if (identity.len == 0 || identity.len >= CHECK_IDENTITY_MAX ||
			memchr(identity.data, '\0', identity.len) != NULL)
			return "a mount without an identity";


		/* the kernel adds "//deleted" to that of a directory that is gone */
		if (path.len == 0 || path.data[0] == '/' ||
			memchr(path.data, '\0', path.len) != NULL || !is_escaped(path))
			return "a mount at what is no path";
		if (before.len > 0 && check_mount_order(before, path) >= 0)
			return "mounts in no order";
		before = path;
	}
	return mounts.len > 0 ? "mounts that are no list" : NULL;
}

const char *
check_state(const ProtoState *m)
{
	const char *why = check_text(m->reason);

	if (why == NULL)
		why = check_text(m->hint);
	if (why == NULL && m->directories > COUNT_MAX)
		why = "a number of directories that cannot be";
	return why != NULL ? why : check_mounts(m->mounts);
}

const char *
check_progress(const ProtoProgress *m, int64_t elapsed_us)
{
	if (!is_possible_count(m->files_done, elapsed_us) ||
		!is_possible_bytes(m->bytes_hashed, elapsed_us) ||
		m->pending > COUNT_MAX || m->directories > COUNT_MAX || m->unread > COUNT_MAX ||
		m->reading_done < 0 || m->reading_size < 0)
		return "a number that cannot be";
	if (m->last_event_us < 0)
		return "a time of an event that cannot be";
	return NULL;
}

const char *
check_scan_done(const ProtoScanDone *m, int64_t elapsed_us)
{
	const char *why = check_text(m->message);

	if (!is_possible_count(m->files_scanned, elapsed_us) ||
		!is_possible_bytes(m->bytes_hashed, elapsed_us) ||
		m->removals > COUNT_MAX || m->believed > COUNT_MAX)
		return "a number that cannot be";
	return why != NULL ? why : check_text(m->hint);
}

const char *
check_statistics(const ProtoStatistics *m, const ProtoStatistics *before,
				 uint64_t observations, int64_t elapsed_us)
{
	uint64_t	committed = 0;

	if (m->events < before->events || m->overflows < before->overflows ||
		m->inspections < before->inspections ||
		m->files_hashed < before->files_hashed ||
		m->bytes_hashed < before->bytes_hashed)
		return "a count that went back";
	if (!is_possible_count(m->events, elapsed_us) ||
		!is_possible_count(m->overflows, elapsed_us) ||
		!is_possible_count(m->inspections, elapsed_us) ||
		!is_possible_count(m->files_hashed, elapsed_us) ||
		!is_possible_bytes(m->bytes_hashed, elapsed_us))
		return "a number that cannot be";
	for (int i = 0; i < LAG_BUCKETS; i++)
	{
		if (m->lag[i] < before->lag[i])
			return "a count that went back";
		if (m->lag[i] > observations - committed)
			return "delays of changes that were not sent";
		committed += m->lag[i];
	}
	return NULL;
}

const char *
check_verified(const ProtoVerified *m)
{
	if (m->bytes < 0 || m->bytes > VERIFIED_BYTES_MAX)
		return "a size that cannot be";
	if (m->error < 0 || m->error > ERRNO_MAX ||
		(m->verdict == PROTO_VERIFIED_UNREADABLE && m->error == 0))
		return "an error that is none";
	return NULL;
}
