/*-------------------------------------------------------------------------
 *
 * patterns.c
 *		Lists of patterns, and what they say of a path.
 *
 *-------------------------------------------------------------------------
 */
#include "patterns.h"

#include "grow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
pattern_free(Pattern *pattern)
{
	free(pattern->text);
	glob_free(pattern->glob);
}

bool
pattern_compile(Pattern *pattern, const char *data, size_t len, bool ignore_case,
				const char **error)
{
	static const char prefix[] = PRESET_PREFIX;
	size_t		prefix_len = sizeof(prefix) - 1;
	size_t		start = len > 0 && data[0] == '!';

	memset(pattern, 0, sizeof(*pattern));
	*error = NULL;
	if (len - start >= prefix_len && memcmp(data + start, prefix, prefix_len) == 0)
	{
		pattern->negated = start != 0;
		start += prefix_len;
		pattern->preset = preset_find(data + start, len - start);
		if (pattern->preset == NULL)
		{
			*error = "there is no such preset; there are " PRESET_NAMES
				" (a file whose name begins like this is written with a backslash in front)";
			return false;
		}
	}
	else
	{
		pattern->glob = glob_compile(data, len, ignore_case, error);
		if (pattern->glob == NULL)
			return false;
	}
	pattern->text = strndup(data, len);
	if (pattern->text == NULL)
	{
		*error = "out of memory";
		pattern_free(pattern);
		return false;
	}
	return true;
}

bool
patterns_create(PatternList *list, const FilterPattern *patterns, size_t count,
			bool ignore_case, const char **error)
{
	if (count == 0)
		return true;
	list->patterns = calloc(count, sizeof(Pattern));
	if (list->patterns == NULL)
	{
		*error = "out of memory";
		return false;
	}
	for (; list->count < count; list->count++)
	{
		const FilterPattern *pattern = &patterns[list->count];

		if (!pattern_compile(&list->patterns[list->count], pattern->data, pattern->len,
							 ignore_case, error))
			return false;
	}
	return true;
}

void
patterns_free(PatternList *list)
{
	for (size_t i = 0; i < list->count; i++)
		pattern_free(&list->patterns[i]);
	free(list->patterns);
}

/*
 * Spaces at the end mean nothing, unless the last of them is escaped; nor does
 * the carriage return of a line that was written elsewhere.
 */
static size_t
trimmed_len(const char *line, size_t len)
{
	size_t		end = 0;

	if (len > 0 && line[len - 1] == '\r')
		len--;
	for (size_t i = 0; i < len; i++)
	{
		if (line[i] == '\\' && i + 1 < len)
			i++;
		else if (line[i] == ' ')
			continue;
		end = i + 1;
	}
	return end;
}

static void
add_cost(PatternCost *cost, const Pattern *pattern)
{
	cost->count++;
	cost->memory += sizeof(Pattern) + strlen(pattern->text) + 1;
	if (pattern->glob != NULL)
	{
		cost->memory += glob_memory(pattern->glob);
		cost->steps += glob_cost(pattern->glob);
	}
}

int
patterns_add_lines(PatternList *list, const char *p, const char *end, bool ignore_case,
				   PatternCost *cost, const PatternCost *most)
{
	static const char byte_order_mark[] = "\xef\xbb\xbf";
	const char *last = NULL;
	size_t		last_len = 0;
	size_t		capacity = 0;

	if (end - p >= 3 && memcmp(p, byte_order_mark, 3) == 0)
		p += 3;
	while (p < end)
	{
		const char *newline = memchr(p, '\n', (size_t) (end - p));
		const char *line_end = newline != NULL ? newline : end;
		size_t		len = trimmed_len(p, (size_t) (line_end - p));
		bool		repeated = last != NULL && last_len == len && memcmp(last, p, len) == 0;
		const char *error = NULL;

		if (len > 0 && *p != '#' && !repeated)
		{
			Pattern    *more = grow(list->patterns, &capacity, list->count + 1, sizeof(Pattern));

			if (more == NULL)
				return ENOMEM;
			list->patterns = more;
			last = p;
			last_len = len;
			if (pattern_compile(&list->patterns[list->count], p, len, ignore_case, &error))
			{
				add_cost(cost, &list->patterns[list->count++]);
				if (cost->count > most->count || cost->memory > most->memory ||
					cost->steps > most->steps)
					return EFBIG;
			}
		}
		p = line_end + 1;
	}
	return 0;
}

static bool
pattern_matches(const Pattern *pattern, const char *path, size_t len, bool is_directory)
{
	const char *name;

	if (pattern->preset == NULL)
		return glob_matches(pattern->glob, path, len, is_directory);
	name = memrchr(path, '/', len);
	name = name != NULL ? name + 1 : path;
	return !is_directory && preset_matches(pattern->preset, name, (size_t) (path + len - name));
}

bool
pattern_negated(const Pattern *pattern)
{
	return pattern->preset != NULL ? pattern->negated : glob_negated(pattern->glob);
}

const Pattern *
patterns_decide_here(const PatternList *list, const char *path, size_t len,
				  bool is_directory)
{
	for (size_t i = list->count; i > 0; i--)
	{
		if (pattern_matches(&list->patterns[i - 1], path, len, is_directory))
			return &list->patterns[i - 1];
	}
	return NULL;
}

bool
patterns_match(const PatternList *list, const char *path, size_t len,
			 bool is_directory, const Pattern **by, size_t *by_len)
{
	for (size_t i = 0; i <= len; i++)
	{
		const Pattern *pattern;

		if (i < len && path[i] != '/')
			continue;
		pattern = patterns_decide_here(list, path, i, i < len || is_directory);
		if (pattern == NULL)
			continue;
		*by = pattern;
		*by_len = i;
		if (!pattern_negated(pattern))
			return true;
	}
	return false;
}

bool
patterns_match_below(const PatternList *list, const char *path, size_t len)
{
	for (size_t i = 0; i < list->count; i++)
	{
		const Pattern *pattern = &list->patterns[i];

		if (!pattern_negated(pattern) &&
			(pattern->preset != NULL || glob_matches_below(pattern->glob, path, len)))
			return true;
	}
	return false;
}
