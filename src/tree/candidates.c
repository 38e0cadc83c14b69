/*-------------------------------------------------------------------------
 *
 * candidates.c
 *		What a scan found to be different, kept until the scan has ended.
 *
 * Records go into one stream: its end is in memory, and what outgrows the
 * memory given is appended to an unnamed temporary file.  In memory stays an
 * index of sixteen bytes a record, a key and the record's place in the
 * stream.  The same index serves twice: sorted by a hash of the file's identity
 * it brings together what may be a rename, then its keys are replaced by the
 * order of output and it is sorted again.
 *
 * The hash only proposes; the values in the records decide.  It is seeded at
 * random, so that nobody who writes to a watched tree can make all hashes equal.
 *
 *-------------------------------------------------------------------------
 */
#include "candidates.h"

#include "clock.h"
#include "grow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* What precedes the path and its terminator in the stream. */
typedef struct RecordHeader
{
	int64_t		inode;
	int64_t		btime_ns;
	int64_t		size;
	int64_t		mtime_ns;
	uint32_t	len;
	uint32_t	kind;
} RecordHeader;

#define RECORD_MAX			(sizeof(RecordHeader) + PROTO_PATH_MAX + 1)

/* Read from the file at once: what is given out is mostly in its order. */
#define WINDOW_BYTES		(64 * 1024)

typedef struct Window
{
	char	   *data;			/* WINDOW_BYTES, or NULL */
	uint64_t	start;
	size_t		len;
} Window;

/*
 * place is the record's offset in the stream in the upper 62 bits, and a
 * KindCode in the lower two.  Comparing places compares the order of adding.
 */
typedef struct IndexEntry
{
	uint64_t	key;
	uint64_t	place;
} IndexEntry;

typedef enum KindCode
{
	CODE_REMOVED = 0,			/* before CODE_ADDED: the order in a pair */
	CODE_ADDED = 1,
	CODE_CHANGED = 2,
} KindCode;

#define ENTRY_CODE(e)		((KindCode) ((e)->place & 3))
#define ENTRY_OFFSET(e)		((e)->place >> 2)

/*
 * Keys after matching: the class of output in the upper bits, and below it
 * the place of the pair's removal or of the record itself.  A pair's two keys
 * are equal.
 */
#define OUTPUT_PAIR			(UINT64_C(0) << 62)
#define OUTPUT_CHANGED		(UINT64_C(1) << 62)
#define OUTPUT_ADDED		(UINT64_C(2) << 62)
#define OUTPUT_REMOVED		(UINT64_C(3) << 62)
#define OUTPUT_CLASS		(UINT64_C(3) << 62)

struct Candidates
{
	Spools	   *spools;
	size_t		memory_limit;
	uint64_t	seed;

	char	   *buffer;			/* the stream from byte spooled on */
	size_t		used;
	size_t		cap;
	int			fd;				/* for the stream's beginning; -1: it is all in
								 * memory */
	uint64_t	spooled;		/* bytes in the file */

	IndexEntry *index;
	size_t		count;
	size_t		index_cap;
	size_t		next;			/* candidates_next() */
	size_t		counts[3];		/* by KindCode */

	Window		windows[2];		/* on what is in the file */
};

Candidates *
candidates_create(Spools *spools, size_t memory_limit)
{
	Candidates *c = calloc(1, sizeof(Candidates));

	if (c == NULL)
		return NULL;
	c->spools = spools;
	c->fd = spools_take(spools);
	c->memory_limit = memory_limit;
	if (getrandom(&c->seed, sizeof(c->seed), GRND_NONBLOCK) != (ssize_t) sizeof(c->seed))
		c->seed = (uint64_t) clock_ns(CLOCK_MONOTONIC) * UINT64_C(0x9E3779B97F4A7C15);
	return c;
}

void
candidates_free(Candidates *c)
{
	if (c == NULL)
		return;
	if (c->fd >= 0)
		spools_give(c->spools, c->fd);
	free(c->buffer);
	free(c->index);
	free(c->windows[0].data);
	free(c->windows[1].data);
	free(c);
}

static KindCode
kind_code(CandidateKind kind)
{
	switch (kind)
	{
		case CANDIDATE_ADDED:
			return CODE_ADDED;
		case CANDIDATE_CHANGED:
			return CODE_CHANGED;
		case CANDIDATE_REMOVED:
			break;
	}
	return CODE_REMOVED;
}

size_t
candidates_count(const Candidates *c, CandidateKind kind)
{
	return c->counts[kind_code(kind)];
}

/* ---------------------------------------------------------------------
 * The stream
 * ---------------------------------------------------------------------
 */

/* Moves the stream's end from memory to the file. */
static int
spool(Candidates *c)
{
	size_t		written = 0;

	while (written < c->used)
	{
		ssize_t		n = pwrite(c->fd, c->buffer + written, c->used - written,
							   (off_t) (c->spooled + written));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = ENOSPC;
			return -1;
		}
		written += (size_t) n;
	}
	c->spooled += c->used;
	c->used = 0;
	return 0;
}

/* Makes room for need bytes at the end of the stream. */
static int
reserve(Candidates *c, size_t need)
{
	size_t		cap = c->cap ? c->cap : 4096;
	char	   *p;

	if (c->fd >= 0 && c->used > 0 && c->used + need > c->memory_limit &&
		spool(c) < 0)
		return -1;
	if (c->used + need <= c->cap)
		return 0;
	while (cap < c->used + need)
		cap *= 2;
	/* no more than the limit, but a single record always fits */
	if (c->fd >= 0 && cap > c->memory_limit)
		cap = c->memory_limit > RECORD_MAX ? c->memory_limit : RECORD_MAX;
	p = realloc(c->buffer, cap);
	if (p == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	c->buffer = p;
	c->cap = cap;
	return 0;
}

static int
pread_full(int fd, char *buffer, size_t len, uint64_t offset)
{
	while (len > 0)
	{
		ssize_t		n = pread(fd, buffer, len, (off_t) offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = EIO;
			return -1;
		}
		buffer += n;
		len -= (size_t) n;
		offset += (uint64_t) n;
	}
	return 0;
}

/* The header of the record at this offset. */
static int
read_header(const Candidates *c, uint64_t offset, RecordHeader *header)
{
	if (offset >= c->spooled)
	{
		memcpy(header, c->buffer + (offset - c->spooled), sizeof(*header));
		return 0;
	}
	return pread_full(c->fd, (char *) header, sizeof(*header), offset);
}

/*
 * The len bytes at this offset of the file, valid until the window is used
 * again; NULL with errno.
 */
static const char *
look_through(Candidates *c, Window *window, uint64_t offset, size_t len)
{
	if (window->data == NULL)
	{
		window->data = malloc(WINDOW_BYTES);
		if (window->data == NULL)
		{
			errno = ENOMEM;
			return NULL;
		}
	}
	if (offset < window->start || offset + len > window->start + window->len)
	{
		uint64_t	left = c->spooled - offset;

		window->start = offset;
		window->len = 0;
		if (left < len)
		{
			errno = EIO;
			return NULL;
		}
		if (pread_full(c->fd, window->data, left < WINDOW_BYTES ? left : WINDOW_BYTES,
					   offset) < 0)
			return NULL;
		window->len = left < WINDOW_BYTES ? left : WINDOW_BYTES;
	}
	return window->data + (offset - window->start);
}

/* The whole record; its path may be in this window. */
static int
read_record(Candidates *c, uint64_t offset, Window *window, Candidate *out)
{
	RecordHeader header;
	const char *record;

	if (offset >= c->spooled)
	{
		record = c->buffer + (offset - c->spooled);
		memcpy(&header, record, sizeof(header));
	}
	else
	{
		record = look_through(c, window, offset, sizeof(header));
		if (record == NULL)
			return -1;
		memcpy(&header, record, sizeof(header));
		record = look_through(c, window, offset, sizeof(header) + header.len + 1);
		if (record == NULL)
			return -1;
	}
	out->kind = (CandidateKind) header.kind;
	out->path = record + sizeof(header);
	out->len = header.len;
	out->inode = header.inode;
	out->btime_ns = header.btime_ns;
	out->size = header.size;
	out->mtime_ns = header.mtime_ns;
	return 0;
}

/* ---------------------------------------------------------------------
 * Adding
 * ---------------------------------------------------------------------
 */

static uint64_t
mix(uint64_t hash, int64_t value)
{
	hash = (hash ^ (uint64_t) value) * UINT64_C(0xFF51AFD7ED558CCD);
	hash ^= hash >> 32;
	hash *= UINT64_C(0xC4CEB9FE1A85EC53);
	return hash ^ (hash >> 29);
}

static uint64_t
hash_values(const Candidates *c, const Candidate *candidate)
{
	uint64_t	hash = c->seed;

	hash = mix(hash, candidate->inode);
	return mix(hash, candidate->btime_ns);
}

int
candidates_add(Candidates *c, const Candidate *candidate)
{
	RecordHeader header;
	KindCode	code = kind_code(candidate->kind);
	IndexEntry *index;
	IndexEntry *entry;
	char	   *p;

	if (candidate->len > PROTO_PATH_MAX)
	{
		errno = ENAMETOOLONG;
		return -1;
	}
	index = grow(c->index, &c->index_cap, c->count + 1, sizeof(IndexEntry));
	if (index == NULL)
		return -1;
	c->index = index;
	if (reserve(c, sizeof(header) + candidate->len + 1) < 0)
		return -1;

	entry = &c->index[c->count++];
	entry->key = hash_values(c, candidate);
	entry->place = (c->spooled + c->used) << 2 | code;
	c->counts[code]++;

	memset(&header, 0, sizeof(header));
	header.inode = candidate->inode;
	header.btime_ns = candidate->btime_ns;
	header.size = candidate->size;
	header.mtime_ns = candidate->mtime_ns;
	header.len = (uint32_t) candidate->len;
	header.kind = (uint32_t) candidate->kind;
	p = c->buffer + c->used;
	memcpy(p, &header, sizeof(header));
	memcpy(p + sizeof(header), candidate->path, candidate->len);
	p[sizeof(header) + candidate->len] = '\0';
	c->used += sizeof(header) + candidate->len + 1;
	return 0;
}

/* ---------------------------------------------------------------------
 * Matching
 * ---------------------------------------------------------------------
 */

static int
compare_entries(const void *a, const void *b)
{
	const IndexEntry *ea = a;
	const IndexEntry *eb = b;

	if (ea->key != eb->key)
		return ea->key < eb->key ? -1 : 1;
	if (ea->place != eb->place)
		return ea->place < eb->place ? -1 : 1;
	return 0;
}

/*
 * Output order.  In a pair the keys are equal, but the places are as they
 * come: there the code decides.
 */
static int
compare_output(const void *a, const void *b)
{
	const IndexEntry *ea = a;
	const IndexEntry *eb = b;

	if (ea->key != eb->key)
		return ea->key < eb->key ? -1 : 1;
	return (int) ENTRY_CODE(ea) - (int) ENTRY_CODE(eb);
}

/* 1 when the records are of one file, 0 when not, -1 with errno. */
static int
same_file(const Candidates *c, const RecordHeader *removed, const IndexEntry *added)
{
	RecordHeader header;

	if (read_header(c, ENTRY_OFFSET(added), &header) < 0)
		return -1;
	return header.inode == removed->inode && header.btime_ns == removed->btime_ns;
}

/* The key of a record that has no partner (so far). */
static uint64_t
lone_key(const IndexEntry *entry)
{
	switch (ENTRY_CODE(entry))
	{
		case CODE_CHANGED:
			return OUTPUT_CHANGED | ENTRY_OFFSET(entry);
		case CODE_ADDED:
			return OUTPUT_ADDED | ENTRY_OFFSET(entry);
		case CODE_REMOVED:
			break;
	}
	return OUTPUT_REMOVED | ENTRY_OFFSET(entry);
}

/*
 * Matches the records first..end of the index, whose hashes are equal, and
 * gives them their keys of output.  Returns the pairs or -1 with errno.
 *
 * Hard links to one file have one identity, and there may be very many;
 * so additions that are taken are not looked at again as long as they come
 * first.
 */
static int64_t
match_group(Candidates *c, size_t first, size_t end)
{
	int64_t		pairs = 0;
	size_t		first_free = first;
	size_t		i;

	for (i = first; i < end; i++)
		c->index[i].key = lone_key(&c->index[i]);
	if (end - first < 2)
		return 0;

	for (i = first; i < end; i++)
	{
		IndexEntry *removed = &c->index[i];
		RecordHeader header;
		size_t		j;

		if (ENTRY_CODE(removed) != CODE_REMOVED)
			continue;
		while (first_free < end &&
			   (c->index[first_free].key & OUTPUT_CLASS) != OUTPUT_ADDED)
			first_free++;
		if (first_free == end)
			break;
		if (read_header(c, ENTRY_OFFSET(removed), &header) < 0)
			return -1;
		if (header.btime_ns == PROTO_NO_TIME)
			continue;
		for (j = first_free; j < end; j++)
		{
			IndexEntry *added = &c->index[j];
			int			same;

			if ((added->key & OUTPUT_CLASS) != OUTPUT_ADDED)
				continue;
			same = same_file(c, &header, added);
			if (same < 0)
				return -1;
			if (same)
			{
				removed->key = OUTPUT_PAIR | ENTRY_OFFSET(removed);
				added->key = removed->key;
				pairs++;
				break;
			}
		}
	}
	return pairs;
}

int64_t
candidates_match(Candidates *c)
{
	int64_t		pairs = 0;
	size_t		first;
	size_t		end;

	if (c->count > 1)
		qsort(c->index, c->count, sizeof(IndexEntry), compare_entries);
	for (first = 0; first < c->count; first = end)
	{
		uint64_t	key = c->index[first].key;
		int64_t		n;

		for (end = first + 1; end < c->count && c->index[end].key == key;)
			end++;
		n = match_group(c, first, end);
		if (n < 0)
			return -1;
		pairs += n;
	}
	if (c->count > 1)
		qsort(c->index, c->count, sizeof(IndexEntry), compare_output);
	return pairs;
}

int
candidates_next(Candidates *c, Candidate *removed, Candidate *added)
{
	const IndexEntry *entry;
	bool		pair;

	memset(removed, 0, sizeof(*removed));
	memset(added, 0, sizeof(*added));
	if (c->next == c->count)
		return 0;
	entry = &c->index[c->next++];
	pair = (entry->key & OUTPUT_CLASS) == OUTPUT_PAIR;
	if (read_record(c, ENTRY_OFFSET(entry), &c->windows[0],
					ENTRY_CODE(entry) == CODE_REMOVED ? removed : added) < 0)
		return -1;
	if (pair)
	{
		entry = &c->index[c->next++];
		if (read_record(c, ENTRY_OFFSET(entry), &c->windows[1], added) < 0)
			return -1;
	}
	return 1;
}
