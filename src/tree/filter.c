/*-------------------------------------------------------------------------
 *
 * filter.c
 *		Which names are tracked: default rules, exclude and include lists.
 *
 * Both lists ask the same question, "does this list match the path?", with
 * gitignore's answer: the last pattern that matches decides, and once a
 * directory is matched everything below it is, so a later '!' cannot take
 * back what lies under it.  Excluded is what the exclude list matches;
 * included what the include list matches.
 *
 * The difference is in the directories above.  An excluded directory need not
 * be entered.  A directory that is not included must be, when one of the
 * patterns may match below it.
 *
 *-------------------------------------------------------------------------
 */
#include "filter.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"

typedef struct GlobList
{
	Glob	  **globs;
	size_t		count;
} GlobList;

struct Filter
{
	GlobList	include;
	GlobList	exclude;
};

/* ---------------------------------------------------------------------
 * Making
 * ---------------------------------------------------------------------
 */

static bool
list_create(GlobList *list, const FilterPattern *patterns, size_t count,
			const char **error)
{
	if (count == 0)
		return true;
	list->globs = calloc(count, sizeof(*list->globs));
	if (list->globs == NULL)
	{
		*error = "out of memory";
		return false;
	}
	for (; list->count < count; list->count++)
	{
		const FilterPattern *pattern = &patterns[list->count];
		Glob	   *glob = glob_compile(pattern->data, pattern->len, error);

		if (glob == NULL)
			return false;
		list->globs[list->count] = glob;
	}
	return true;
}

static void
list_free(GlobList *list)
{
	for (size_t i = 0; i < list->count; i++)
		glob_free(list->globs[i]);
	free(list->globs);
}

Filter *
filter_create(const FilterPattern *include, size_t n_include,
			  const FilterPattern *exclude, size_t n_exclude,
			  const char **error)
{
	Filter	   *filter = calloc(1, sizeof(*filter));

	*error = NULL;
	if (filter == NULL)
	{
		*error = "out of memory";
		return NULL;
	}
	if (!list_create(&filter->include, include, n_include, error) ||
		!list_create(&filter->exclude, exclude, n_exclude, error))
	{
		filter_free(filter);
		return NULL;
	}
	return filter;
}

void
filter_free(Filter *filter)
{
	if (filter == NULL)
		return;
	list_free(&filter->include);
	list_free(&filter->exclude);
	free(filter);
}

const char *
filter_check_pattern(const char *pattern, size_t len)
{
	const char *error;

	glob_free(glob_compile(pattern, len, &error));
	return error;
}

/* ---------------------------------------------------------------------
 * Deciding
 * ---------------------------------------------------------------------
 */

static bool
ends_with(const char *name, size_t len, const char *suffix)
{
	size_t		n = strlen(suffix);

	return len >= n && memcmp(name + len - n, suffix, n) == 0;
}

bool
filter_ignores_name(const char *name, size_t len)
{
	static const char thumbs[] = "Thumbs.db";

	if (len == 0)
		return false;

	/* Among the names with a dot is ".DS_Store". */
	if (name[0] == '.' || name[len - 1] == '~')
		return true;
	if (len == sizeof(thumbs) - 1 && memcmp(name, thumbs, len) == 0)
		return true;
	return ends_with(name, len, ".tmp") || ends_with(name, len, ".bak") ||
		ends_with(name, len, ".swp");
}

/* What the list says of this very path, whatever it says of those above. */
static bool
list_matches_here(const GlobList *list, const char *path, size_t len,
				  bool is_directory)
{
	for (size_t i = list->count; i > 0; i--)
	{
		const Glob *glob = list->globs[i - 1];

		if (glob_matches(glob, path, len, is_directory))
			return !glob_negated(glob);
	}
	return false;
}

/* What the list says of the path, or of any directory above it. */
static bool
list_matches(const GlobList *list, const char *path, size_t len,
			 bool is_directory)
{
	for (size_t i = 0; i < len; i++)
	{
		if (path[i] == '/' && list_matches_here(list, path, i, true))
			return true;
	}
	return list_matches_here(list, path, len, is_directory);
}

/* Whether something below a directory can be matched. */
static bool
list_matches_below(const GlobList *list, const char *path, size_t len)
{
	for (size_t i = 0; i < list->count; i++)
	{
		if (!glob_negated(list->globs[i]) &&
			glob_matches_below(list->globs[i], path, len))
			return true;
	}
	return false;
}

/* The default rules and the exclude list, for the last component only. */
static bool
refused_here(const Filter *filter, const char *path, size_t len,
			 bool is_directory)
{
	const char *slash = memrchr(path, '/', len);
	const char *name = slash != NULL ? slash + 1 : path;

	return filter_ignores_name(name, (size_t) (path + len - name)) ||
		list_matches_here(&filter->exclude, path, len, is_directory);
}

/* The same for all directories above. */
static bool
refused_above(const Filter *filter, const char *path, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (path[i] == '/' && refused_here(filter, path, i, true))
			return true;
	}
	return false;
}

bool
filter_accepts_file_in(const Filter *filter, const char *path, size_t len)
{
	if (len == 0 || refused_here(filter, path, len, false))
		return false;

	/*
	 * An accepted directory need not be an included one, so the include list
	 * is asked about the whole path here too.
	 */
	return filter->include.count == 0 ||
		list_matches(&filter->include, path, len, false);
}

bool
filter_accepts_directory_in(const Filter *filter, const char *path, size_t len)
{
	if (len == 0)
		return true;
	if (refused_here(filter, path, len, true))
		return false;
	return filter->include.count == 0 ||
		list_matches(&filter->include, path, len, true) ||
		list_matches_below(&filter->include, path, len);
}

bool
filter_accepts_file(const Filter *filter, const char *path, size_t len)
{
	return !refused_above(filter, path, len) &&
		filter_accepts_file_in(filter, path, len);
}

bool
filter_accepts_directory(const Filter *filter, const char *path, size_t len)
{
	return !refused_above(filter, path, len) &&
		filter_accepts_directory_in(filter, path, len);
}

/* ---------------------------------------------------------------------
 * Encoding
 * ---------------------------------------------------------------------
 */

/*
 * The second byte's range excludes what is longer than it need be (E0, F0),
 * surrogates (ED) and what lies beyond U+10FFFF (F4).
 */
bool
filter_valid_utf8(const char *name, size_t len)
{
	const unsigned char *p = (const unsigned char *) name;
	const unsigned char *end = p + len;

	while (p < end)
	{
		unsigned char c = *p++;
		unsigned char low = 0x80;
		unsigned char high = 0xBF;
		int			more;

		if (c == 0)
			return false;
		if (c < 0x80)
			continue;
		if (c < 0xC2 || c > 0xF4)
			return false;
		more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
		if (c == 0xE0)
			low = 0xA0;
		else if (c == 0xED)
			high = 0x9F;
		else if (c == 0xF0)
			low = 0x90;
		else if (c == 0xF4)
			high = 0x8F;
		for (; more > 0; more--)
		{
			if (p == end || *p < low || *p > high)
				return false;
			p++;
			low = 0x80;
			high = 0xBF;
		}
	}
	return true;
}
