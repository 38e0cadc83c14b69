/*
 * Histograms of delays against delays that are known one by one, and the times
 * of changes that wait for their frames to be committed.
 */
#include <stdlib.h>

#include "lag.h"
#include "statistics.h"
#include "unit.h"

static int
compare(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

static void
test_buckets(void)
{
	int			wrong = 0;
	int64_t		longest = lag_bound(LAG_BUCKETS - 2);

	for (int64_t us = 0; us < longest; us += 1 + us / 1000)
	{
		int			bucket = lag_bucket(us);

		if (us >= lag_bound(bucket) || (bucket > 0 && us < lag_bound(bucket - 1)))
			wrong++;
	}
	CHECK(wrong == 0, "every delay is between the bounds of its bucket");
	CHECK(lag_bucket(-1) == 0 && lag_bucket(INT64_MIN) == 0, "a negative delay is none");
	CHECK(lag_bucket(INT64_MAX) == LAG_BUCKETS - 1 && lag_bucket(longest) == LAG_BUCKETS - 1,
	   "the last bucket has no end");
	CHECK(longest >= 25 * INT64_C(1000000), "and begins beyond 25 s");
}

static void
test_percentiles(void)
{
	uint64_t	histogram[LAG_BUCKETS] = {0};
	int64_t		delays[5000];
	int			wrong = 0;

	CHECK(lag_percentile(histogram, 0.5) == -1, "no delays have no percentile");
	for (int i = 0; i < 5000; i++)
	{
		delays[i] = unit_random() % (UINT64_C(1) << (8 + unit_random() % 16));
		histogram[lag_bucket(delays[i])]++;
	}
	qsort(delays, 5000, sizeof(int64_t), compare);
	for (int percent = 1; percent <= 100; percent++)
	{
		int64_t		exact = delays[percent * 50 - 1];
		int64_t		found = lag_percentile(histogram, percent / 100.0);

		if (found <= exact || (exact >= 1000 && found > exact + exact / 4 + 1) ||
			(exact < 1000 && found > exact + 250))
			wrong++;
	}
	CHECK(wrong == 0, "percentiles are right to a quarter, and never too small");
}

/* Frames of changes, committed in order, against a plain list of them. */
static void
test_frames(void)
{
	Statistics	s = {0};
	static int64_t since[100000];
	static int	frame_of[100000];
	uint64_t	expected[LAG_BUCKETS] = {0};
	int			n = 0;
	int			sent = 0;
	int			applied = 0;
	int64_t		now = 1000;
	bool		equal = true;

	for (int round = 0; round < 20000; round++)
	{
		now += unit_random() % 5000;
		switch (unit_random() % 4)
		{
			case 0:
				statistics_frame_sent(&s);
				sent++;
				break;
			case 1:
				if (applied == sent)
					break;
				statistics_frame_applied(&s, now);
				for (int i = 0; i < n; i++)
					if (frame_of[i] == applied)
						expected[lag_bucket(now - since[i])]++;
				applied++;
				break;
			default:
				since[n] = unit_random() % 5 == 0 ? 0 : now - (int64_t) (unit_random() % 900);
				statistics_change(&s, since[n]);
				frame_of[n] = sent;
				if (since[n] != 0)
					n++;
		}
	}
	for (int i = 0; i < LAG_BUCKETS; i++)
		equal &= s.counted.lag[i] == expected[i];
	CHECK(equal, "the lag of each change is that of its frame");
	while (applied++ < sent)
		statistics_frame_applied(&s, now);
	statistics_frame_applied(&s, now);
	CHECK(s.start == 0, "what is committed is forgotten");
	free(s.waiting);
}

int
main(void)
{
	test_buckets();
	test_percentiles();
	test_frames();
	return unit_done();
}
