/*-------------------------------------------------------------------------
 *
 * patterns.h
 *		Lists of patterns, and what they say of a path.
 *
 * The last pattern of a list that matches decides, as in gitignore(5).
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PATTERNS_H
#define FSYNC_PATTERNS_H

#include "filter.h"
#include "glob.h"
#include "presets.h"

/* A glob, or a preset. */
typedef struct Pattern
{
	char	   *text;			/* as it was written, terminated */
	Glob	   *glob;
	const Preset *preset;
	bool		negated;		/* of a preset */
} Pattern;

typedef struct PatternList
{
	Pattern    *patterns;
	size_t		count;
} PatternList;

/* What patterns take, or may take. */
typedef struct PatternCost
{
	size_t		count;
	size_t		memory;			/* bytes */
	uint64_t	steps;			/* of a decision; see glob_cost() */
} PatternCost;

/*
 * Compiles a pattern, for which pattern_free() is to be called.  False, with an
 * error, for one that is bad, or when out of memory.
 */
extern bool pattern_compile(Pattern *pattern, const char *data, size_t len, bool ignore_case,
							const char **error);
extern void pattern_free(Pattern *pattern);

/* Whether what the pattern matches is taken back. */
extern bool pattern_negated(const Pattern *pattern);

/* Compiles a list into an empty one; false with an error as above. */
extern bool patterns_create(PatternList *list, const FilterPattern *patterns, size_t count,
							bool ignore_case, const char **error);

/*
 * Adds the patterns of a text's lines, as gitignore(5) has them, to an empty
 * list, and to *cost what they take; bad ones are left out, and those that the
 * next line only repeats.  0, or ENOMEM, or EFBIG when they take more than most.
 */
extern int	patterns_add_lines(PatternList *list, const char *text, const char *end,
							   bool ignore_case, PatternCost *cost, const PatternCost *most);
extern void patterns_free(PatternList *list);

/*
 * The pattern that decides about this very path, whatever the list says of
 * those above; NULL: none does.
 */
extern const Pattern *patterns_decide_here(const PatternList *list, const char *path, size_t len,
										   bool is_directory);

/*
 * Whether the list matches the path, or any directory above it.  *by becomes
 * the pattern that decided, of the path's first *by_len bytes.
 */
extern bool patterns_match(const PatternList *list, const char *path, size_t len,
						   bool is_directory, const Pattern **by, size_t *by_len);

/* Whether something below a directory can be matched. */
extern bool patterns_match_below(const PatternList *list, const char *path, size_t len);

#endif							/* FSYNC_PATTERNS_H */
