/*-------------------------------------------------------------------------
 *
 * scan_places.c
 *		Which directories a scan looks at: each once, however often it is named.
 *
 *-------------------------------------------------------------------------
 */
#include "scan.h"

#include "path_order.h"

#include <stdlib.h>

static int
compare_places(const void *a, const void *b)
{
	const ScanPlace *x = a;
	const ScanPlace *y = b;

	return path_order(x->path, x->len, y->path, y->len);
}

/* Of two with one path the one that covers more comes first. */
static int
compare_for_reduction(const void *a, const void *b)
{
	const ScanPlace *x = a;
	const ScanPlace *y = b;
	int			c = compare_places(a, b);

	return c != 0 ? c : x->local - y->local;
}

/*
 * Whether one of the sorted places lies above path; for one that is not local,
 * that must not be so either.
 */
static bool
place_above(const ScanPlace *places, size_t n, const char *path, size_t len, bool local)
{
	for (size_t i = 0; i < len; i++)
	{
		ScanPlace	key = {.path = (char *) path, .len = i};
		const ScanPlace *above;

		if (i != 0 && path[i] != '/')
			continue;
		above = bsearch(&key, places, n, sizeof(ScanPlace), compare_places);
		while (above != NULL && above > places && compare_places(above - 1, &key) == 0)
			above--;			/* the one that covers most */
		if (above != NULL && (local || !above->local))
			return true;
	}
	return false;
}

bool
scan_place_covers(const ScanPlace *places, size_t n, const char *path, size_t len)
{
	ScanPlace	key = {.path = (char *) path, .len = len};

	return n > 0 && (place_above(places, n, path, len, true) ||
					 bsearch(&key, places, n, sizeof(ScanPlace), compare_places) != NULL);
}

size_t
scan_reduce_places(ScanPlace *places, size_t n)
{
	char	  **covered = calloc(n, sizeof(char *));
	size_t		kept = 0;

	qsort(places, n, sizeof(ScanPlace), compare_for_reduction);
	if (covered == NULL)
		return n;				/* then some are compared twice */
	for (size_t i = 0; i < n; i++)
	{
		if (place_above(places, n, places[i].path, places[i].len, places[i].local) ||
			(i > 0 && compare_places(&places[i - 1], &places[i]) == 0))
			covered[i] = places[i].path;
	}
	for (size_t i = 0; i < n; i++)
	{
		if (covered[i])
			free(covered[i]);
		else
			places[kept++] = places[i];
	}
	free(covered);
	return kept;
}
