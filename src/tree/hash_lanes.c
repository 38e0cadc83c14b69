/*-------------------------------------------------------------------------
 *
 * hash_lanes.c
 *		The files that one thread has in work.
 *
 * Each file has a buffer.  A step refills the empty ones and then hashes as
 * many blocks as all of a group have; so a small file, or the rest of one,
 * leaves its lane to the next as soon as it has ended, and large files keep
 * theirs.
 *
 * Lanes help where hashing takes the time.  A disk that seeks would be slowed
 * down by reading many files by turns, so from a slow one they are read one by
 * one.
 *
 *-------------------------------------------------------------------------
 */
#include "hash_lanes.h"

#include "clock.h"
#include "hash_file.h"

#include <errno.h>
#include <stdlib.h>

/* Of each file at once: what all lanes have together should stay in the cache. */
#define PIECE_OF_MANY		(32 * 1024)
#define PIECE_OF_ONE		(128 * 1024)

/* So that the buffers do not all begin in the same set of the first cache. */
#define STAGGER				64

/* Beyond the lanes: an urgent one, and files that are not settled. */
#define MORE_FILES			9
#define MAX_FILES			(SHA256_MAX_LANES + MORE_FILES)

/* A disk is slow that gives less than 200 MB a second; seen over so much. */
#define SLOW_NS_PER_BYTE	5
#define SLOW_WINDOW			(4 * 1024 * 1024)

/* A smaller read takes as long. */
#define SMALL_READ			4096

typedef enum FileStage
{
	FILE_NONE = 0,				/* the place is free */
	FILE_WAITS,					/* for its stamps */
	FILE_READ,
} FileStage;

typedef struct Place
{
	FileStage	stage;
	HashFile	file;
	uint8_t    *buffer;
	int64_t		start_us;
} Place;

struct HashLanes
{
	const Sha256Kernel *kernel;
	int64_t		limit;
	size_t		piece;
	int			n_places;
	int			n_waiting;
	int			n_reading;
	int			n_urgent;		/* of both */
	Place		places[MAX_FILES];
	HashJob    *done;
	HashJob   **done_tail;
	int			n_done;
	int64_t		read_us;		/* how fast the disk was lately */
	int64_t		read_bytes;
	bool		uncached;
	uint8_t		buffers[];
};

HashLanes *
hash_lanes_create(const Sha256Kernel *kernel, int64_t limit)
{
	size_t		piece = kernel->lanes > 1 ? PIECE_OF_MANY : PIECE_OF_ONE;
	size_t		stride = (HASH_FILE_BUFFER(piece) + 2 * STAGGER - 1) / STAGGER * STAGGER;
	int			n_places = kernel->lanes + MORE_FILES;
	HashLanes  *lanes = malloc(sizeof(HashLanes) + (size_t) n_places * stride);

	if (lanes == NULL)
		return NULL;
	*lanes = (HashLanes) {
		.kernel = kernel, .limit = limit, .piece = piece, .n_places = n_places,
		.uncached = true
	};
	lanes->done_tail = &lanes->done;
	for (int i = 0; i < n_places; i++)
		lanes->places[i].buffer = lanes->buffers + (size_t) i * stride;
	return lanes;
}

void
hash_lanes_free(HashLanes *lanes)
{
	free(lanes);
}

int
hash_lanes_count(const HashLanes *lanes)
{
	return lanes->n_waiting + lanes->n_reading;
}

int
hash_lanes_urgent(const HashLanes *lanes)
{
	return lanes->n_urgent;
}

static bool
disk_is_slow(const HashLanes *lanes)
{
	return lanes->read_us * 1000 > lanes->read_bytes * SLOW_NS_PER_BYTE;
}

bool
hash_lanes_room(const HashLanes *lanes, int more, bool urgent)
{
	int			most = disk_is_slow(lanes) ? 1 : lanes->kernel->lanes;

	return lanes->n_reading + more < most + (urgent ? 1 : 0) &&
		hash_lanes_count(lanes) + more < lanes->n_places;
}

bool
hash_lanes_should_go_on(const HashLanes *lanes)
{
	return lanes->n_reading > 0 && lanes->n_done < lanes->kernel->lanes / 4;
}

/* What comes next for a file after a step of it. */
static void
advance(HashLanes *lanes, Place *place, HashStep step)
{
	HashJob    *job = place->file.job;
	FileStage	stage = step == HASH_STEP_END ? FILE_NONE :
		step == HASH_STEP_WAIT ? FILE_WAITS : FILE_READ;

	if (stage == FILE_READ && place->stage != FILE_READ)
		hash_file_start(&place->file, place->buffer, lanes->piece);
	lanes->n_waiting += (stage == FILE_WAITS) - (place->stage == FILE_WAITS);
	lanes->n_reading += (stage == FILE_READ) - (place->stage == FILE_READ);
	place->stage = stage;
	if (stage != FILE_NONE)
		return;
	lanes->n_urgent -= job->urgent;
	job->duration_us = monotonic_us() - place->start_us;
	job->next = NULL;
	*lanes->done_tail = job;
	lanes->done_tail = &job->next;
	lanes->n_done++;
}

void
hash_lanes_add(HashLanes *lanes, HashJob *job)
{
	Place	   *place = lanes->places;

	while (place->stage != FILE_NONE)
		place++;
	place->start_us = monotonic_us();
	lanes->n_urgent += job->urgent;
	advance(lanes, place, hash_file_open(&place->file, job, lanes->limit));
}

static bool
is_cancelled(const Place *place)
{
	return __atomic_load_n(&place->file.job->cancelled, __ATOMIC_RELAXED) != 0;
}

int64_t
hash_lanes_due(const HashLanes *lanes, bool urgent_only)
{
	int64_t		due = INT64_MAX;

	if (lanes->n_reading > 0 && !urgent_only)
		return 0;
	for (int i = 0; i < lanes->n_places; i++)
	{
		const Place *place = &lanes->places[i];

		if (place->stage == FILE_NONE)
			continue;
		if (is_cancelled(place))
			return 0;
		if (urgent_only && !place->file.job->urgent)
			continue;
		if (place->stage == FILE_READ)
			return 0;
		if (place->file.due_us < due)
			due = place->file.due_us;
	}
	return due;
}

void
hash_lanes_rested(HashLanes *lanes, int64_t us)
{
	for (int i = 0; i < lanes->n_places; i++)
	{
		Place	   *place = &lanes->places[i];

		if (place->stage != FILE_NONE && !place->file.job->urgent)
			place->start_us += us;
	}
}

HashJob *
hash_lanes_take_done(HashLanes *lanes)
{
	HashJob    *job = lanes->done;

	if (job == NULL)
		return NULL;
	lanes->done = job->next;
	if (lanes->done == NULL)
		lanes->done_tail = &lanes->done;
	job->next = NULL;
	lanes->n_done--;
	return job;
}

void
hash_lanes_cancel(HashLanes *lanes)
{
	for (int i = 0; i < lanes->n_places; i++)
	{
		Place	   *place = &lanes->places[i];

		if (place->stage != FILE_NONE)
			advance(lanes, place, hash_file_cancel(&place->file));
	}
}

/* ---------------------------------------------------------------------
 * A step
 * ---------------------------------------------------------------------
 */

static void
fill(HashLanes *lanes, Place *place)
{
	int64_t		before = place->file.job->bytes;
	int64_t		bytes;
	int64_t		start = monotonic_us();
	HashStep	step = hash_file_fill(&place->file, lanes->piece, &lanes->uncached);

	lanes->read_us += monotonic_us() - start;
	bytes = place->file.job->bytes - before;
	lanes->read_bytes += bytes > SMALL_READ ? bytes : SMALL_READ;
	if (lanes->read_bytes > SLOW_WINDOW)
	{
		lanes->read_us /= 2;
		lanes->read_bytes /= 2;
	}
	advance(lanes, place, step);
}

/* Hashes what n files have in their buffers, or as much as all of them have. */
static void
hash_group(HashLanes *lanes, Place *const group[], int n)
{
	uint32_t   *states[SHA256_MAX_LANES];
	const uint8_t *data[SHA256_MAX_LANES];
	size_t		blocks = SIZE_MAX;

	for (int i = 0; i < n; i++)
	{
		HashFile   *file = &group[i]->file;

		states[i] = file->state;
		data[i] = file->next;
		if (file->blocks < blocks)
			blocks = file->blocks;
	}
	if (n < lanes->kernel->worthwhile)
	{
		for (int i = 0; i < n; i++)
		{
			blocks = group[i]->file.blocks;
			sha256_single.blocks(1, &states[i], &data[i], blocks);
			advance(lanes, group[i], hash_file_took(&group[i]->file, blocks));
		}
		return;
	}
	lanes->kernel->blocks(n, states, data, blocks);
	for (int i = 0; i < n; i++)
		advance(lanes, group[i], hash_file_took(&group[i]->file, blocks));
}

void
hash_lanes_step(HashLanes *lanes, bool urgent_only)
{
	Place	   *ready[MAX_FILES];
	int			n_ready = 0;
	int64_t		now = lanes->n_waiting > 0 ? monotonic_us() : 0;

	for (int i = 0; i < lanes->n_places; i++)
	{
		Place	   *place = &lanes->places[i];

		if (place->stage == FILE_NONE)
			continue;
		if (is_cancelled(place))
			advance(lanes, place, hash_file_cancel(&place->file));
		else if (urgent_only && !place->file.job->urgent)
			continue;
		else if (place->stage == FILE_WAITS && place->file.due_us <= now)
			advance(lanes, place, hash_file_look(&place->file));
		if (place->stage == FILE_READ && place->file.blocks == 0)
			fill(lanes, place);
		if (place->stage == FILE_READ && place->file.blocks > 0)
			ready[n_ready++] = place;
	}
	for (int i = 0; i < n_ready; i += lanes->kernel->lanes)
	{
		int			n = n_ready - i;

		hash_group(lanes, ready + i, n < lanes->kernel->lanes ? n : lanes->kernel->lanes);
	}
}
