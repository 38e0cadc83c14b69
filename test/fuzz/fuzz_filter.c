/*-------------------------------------------------------------------------
 *
 * fuzz_filter.c
 *		Any bytes as patterns and a path: decisions must agree and be quick.
 *
 * The input is lines: an include pattern, two exclude patterns, and the path.
 * It is taken as the text of a .fsyncignore as well.
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

/* All directories above an accepted file are accepted, step by step too. */
static void
check_path(const Filter *filter, const FilterRules *rules, const char *p, size_t len)
{
	FilterVerdict verdict = filter_accepts_file(filter, rules, p, len);
	bool		accepted = true;
	FilterReason reason;

	for (size_t i = 0; i < len; i++)
	{
		if (p[i] == '/')
			accepted = accepted && filter_accepts_directory_in(filter, rules, p, i) != FILTER_REFUSED;
	}
	accepted = accepted && filter_accepts_file_in(filter, rules, p, len) != FILTER_REFUSED;
	filter_explain(filter, rules, p, len, false, &reason);
	if (accepted != (verdict != FILTER_REFUSED) || reason.verdict != verdict ||
		reason.decided_len > len ||
		(verdict == FILTER_REFUSED && reason.source == FILTER_BY_NOTHING) ||
		(verdict == FILTER_UNSURE && filter_rules_unknown(rules) == NULL))
		abort();
}

/* The input as a whole is the rules of the root, or of the path's directory. */
static void
check_rules(const Filter *filter, const char *text, size_t text_len, const char *p, size_t len)
{
	const char *slash = memchr(p, '/', len);
	FilterRules *rules = filter_rules_add(filter, NULL, "", 0, text, text_len, 0);

	check_path(filter, rules, p, len);
	if (slash != NULL)
	{
		FilterRules *below = filter_rules_add(filter, rules, p, (size_t) (slash - p),
											  text, text_len, (int) (text_len % 2));

		check_path(filter, below, p, len);
		filter_rules_release(below);
	}
	filter_rules_release(rules);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *) data;
	const char *end = p + size;
	FilterPattern patterns[3];
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	bool		good = true;
	const char *error;

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
	settings.include = patterns;
	settings.n_include = 1;
	settings.exclude = patterns + 1;
	settings.n_exclude = 2;
	for (int variant = 0; variant < 4; variant++)
	{
		Filter	   *filter;

		settings.ignore_case = variant & 1;
		settings.include_hidden = variant & 2;
		filter = filter_create(&settings, &error);
		if ((filter != NULL) != good || (filter == NULL) != (error != NULL))
			abort();
		if (filter != NULL && is_path(p, (size_t) (end - p)))
		{
			check_path(filter, NULL, p, (size_t) (end - p));
			check_rules(filter, (const char *) data, size, p, (size_t) (end - p));
		}
		filter_free(filter);
	}
	return 0;
}
