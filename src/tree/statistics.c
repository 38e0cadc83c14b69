/*-------------------------------------------------------------------------
 *
 * statistics.c
 *		What fsync-tree counts; see statistics.h.
 *
 *-------------------------------------------------------------------------
 */
#include "statistics.h"

#include "grow.h"

#include <stdlib.h>
#include <string.h>

/* Out of memory loses a time, never the order of the frames' ends. */
static bool
append(Statistics *s, int64_t value)
{
	int64_t    *waiting;

	if (s->start > 0 && s->start + s->n == s->capacity)
	{
		memmove(s->waiting, s->waiting + s->start, s->n * sizeof(int64_t));
		s->start = 0;
	}
	waiting = grow(s->waiting, &s->capacity, s->n + 1, sizeof(int64_t));
	if (waiting == NULL)
		return false;
	s->waiting = waiting;
	s->waiting[s->start + s->n++] = value;
	return true;
}

void
statistics_change(Statistics *s, int64_t since_us)
{
	if (since_us != 0)
		(void) append(s, since_us);
}

void
statistics_frame_sent(Statistics *s)
{
	if (!append(s, 0) && s->n > 0)
		s->waiting[s->start + s->n - 1] = 0;
}

void
statistics_frame_applied(Statistics *s, int64_t now_us)
{
	while (s->n > 0)
	{
		int64_t		since_us = s->waiting[s->start++];

		s->n--;
		if (since_us == 0)
			break;
		s->counted.lag[lag_bucket(now_us - since_us)]++;
		s->changed = true;
	}
	if (s->n > 0)
		return;
	s->start = 0;
	if (s->capacity > 4096)
	{
		free(s->waiting);
		s->waiting = NULL;
		s->capacity = 0;
	}
}
