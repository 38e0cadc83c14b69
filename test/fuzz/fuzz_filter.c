/*-------------------------------------------------------------------------
 *
 * fuzz_filter.c
 *		Any bytes as patterns and a path: decisions must agree and be quick.
 *
 * The input is lines: an include pattern, two exclude patterns, and the path.
 *
 *-------------------------------------------------------------------------
 */
#include "filter.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Slashes at the ends, or two in a row: not a path as callers have it. */
static bool
is_path(const char *path, size_t len)
{
	if (len == 0 || path[0] == '/' || path[len - 1] == '/')
		return false;
	for (size_t i = 1; i < len; i++)
	{
		if (path[i] == '/' && path[i - 1] == '/')
			return false;
	}
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *) data;
	const char *end = p + size;
	FilterPattern patterns[3];
	bool		good = true;
	const char *error;
	Filter	   *filter;
	bool		accepted;

	for (int i = 0; i < 3; i++)
	{
		const char *newline = size > 0 ? memchr(p, '\n', (size_t) (end - p)) : NULL;

		if (newline == NULL)
			return 0;
		patterns[i].data = p;
		patterns[i].len = (size_t) (newline - p);
		p = newline + 1;
		good = good && filter_check_pattern(patterns[i].data, patterns[i].len) == NULL;
	}
	filter_valid_utf8(p, (size_t) (end - p));
	filter = filter_create(patterns, 1, patterns + 1, 2, &error);
	if ((filter != NULL) != good || (filter == NULL) != (error != NULL))
		abort();
	if (filter == NULL || !is_path(p, (size_t) (end - p)))
	{
		filter_free(filter);
		return 0;
	}

	/* All directories above an accepted file are accepted, step by step too. */
	accepted = true;
	for (const char *c = p; c < end; c++)
	{
		if (*c == '/')
			accepted = accepted && filter_accepts_directory_in(filter, p, (size_t) (c - p));
	}
	accepted = accepted && filter_accepts_file_in(filter, p, (size_t) (end - p));
	if (accepted != filter_accepts_file(filter, p, (size_t) (end - p)))
		abort();
	filter_free(filter);
	return 0;
}
