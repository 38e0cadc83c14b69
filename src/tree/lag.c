/*-------------------------------------------------------------------------
 *
 * lag.c
 *		A histogram of delays; see lag.h.
 *
 *-------------------------------------------------------------------------
 */
#include "lag.h"

#define LAG_UNIT_US		250

int
lag_bucket(int64_t us)
{
	uint64_t	units = us > 0 ? (uint64_t) us / LAG_UNIT_US : 0;
	int			power;
	int			bucket;

	if (units < 4)
		return (int) units;
	power = 63 - __builtin_clzll(units);
	bucket = 4 * (power - 1) + (int) ((units >> (power - 2)) & 3);
	return bucket < LAG_BUCKETS ? bucket : LAG_BUCKETS - 1;
}

int64_t
lag_bound(int bucket)
{
	if (bucket < 4)
		return (int64_t) (bucket + 1) * LAG_UNIT_US;
	return (INT64_C(4) + bucket % 4 + 1) * LAG_UNIT_US << (bucket / 4 - 1);
}

int64_t
lag_percentile(const uint64_t histogram[LAG_BUCKETS], double fraction)
{
	uint64_t	total = 0;
	uint64_t	below = 0;

	for (int i = 0; i < LAG_BUCKETS; i++)
		total += histogram[i];
	for (int i = 0; i < LAG_BUCKETS; i++)
	{
		below += histogram[i];
		if (total > 0 && below >= fraction * total)
			return lag_bound(i);
	}
	return -1;
}
