/*-------------------------------------------------------------------------
 *
 * filter.h
 *		Which names are tracked.  One decision for watch and walk alike.
 *
 * A path is ignored by default when any of its components starts with '.',
 * ends in '~', ".tmp", ".bak" or ".swp", or is ".DS_Store" or "Thumbs.db".
 * The include and exclude lists hold patterns with the syntax and meaning of
 * gitignore(5): a '/' inside anchors to the root, a trailing '/' means
 * directories only, '**' spans directories, '!' takes back, the last match of
 * a list decides, and what is decided for a directory holds for everything
 * below it; or presets (presets.h).  A non-empty include list makes a file
 * tracked only where it (or a directory above it) matches; exclude wins over
 * include; the default rules win over both.
 *
 * Files named .fsyncignore in the tree hold rules of the same kind, for what
 * lies below their directory (rules.c reads them).  As with git's, deeper ones
 * win over upper ones, and the exclude list wins over them all.
 *
 * A Filter is immutable after filter_create(), as are FilterRules, and may be
 * used by any thread.  Also compiled into the extension, which checks patterns
 * with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_FILTER_H
#define FSYNC_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILTER_RULES_NAME	".fsyncignore"

/*
 * Who can write to the tree writes these files, so they are bounded: all those
 * that hold for a directory together.  What is beyond is not known, as a file
 * that cannot be read is not.  Steps are of about a nanosecond, in the worst
 * case, for one name.
 */
#define FILTER_RULES_MAX_TEXT		(1024 * 1024)
#define FILTER_RULES_MAX_PATTERNS	10000
#define FILTER_RULES_MAX_MEMORY		(4 * 1024 * 1024)
#define FILTER_RULES_MAX_STEPS		(8 * 1000 * 1000)

typedef struct Filter Filter;
typedef struct FilterRules FilterRules;

/* One pattern of len bytes, as in protocol lists; not terminated. */
typedef struct FilterPattern
{
	const char *data;
	size_t		len;
} FilterPattern;

typedef struct FilterSettings
{
	const FilterPattern *include;
	size_t		n_include;
	const FilterPattern *exclude;
	size_t		n_exclude;
	bool		ignore_case;	/* of ASCII letters, in all patterns */
	bool		include_hidden; /* names that start with '.', but .DS_Store */
	bool		use_rules;		/* the tree's .fsyncignore files are obeyed */
	int64_t		min_size;		/* bytes */
	int64_t		max_size;		/* bytes; INT64_MAX: no limit */
} FilterSettings;

/* Everything but what the default rules ignore. */
#define FILTER_SETTINGS_DEFAULT {.max_size = INT64_MAX}

/*
 * NULL when out of memory or when a pattern is bad; error (never NULL) then
 * points to a static message.
 */
extern Filter *filter_create(const FilterSettings *settings, const char **error);
extern void filter_free(Filter *filter);

/* NULL if the pattern is good, else a static message that says what is not. */
extern const char *filter_check_pattern(const char *pattern, size_t len);

/* The default rule for one component of a path. */
extern bool filter_ignores_name(const Filter *filter, const char *name, size_t len);

/* Whether a file of so many bytes is tracked. */
extern bool filter_accepts_size(const Filter *filter, int64_t size);

extern bool filter_uses_rules(const Filter *filter);

/*
 * A directory that is renamed, with all below it, may hold what was tracked
 * before and is not now, or the other way round.
 */
extern bool filter_depends_on_place(const Filter *filter);

/* ---------------------------------------------------------------------
 * The rules of .fsyncignore files: those of a directory and all above it, as
 * a chain from the deepest file to the uppermost.  NULL: there is none.
 * ---------------------------------------------------------------------
 */

/*
 * The text of the file in directory, below which above holds; bad lines are
 * left out, as git does.  With an error (an errno) instead of a text nobody
 * knows what it says; so it is with EFBIG where it is too much.  NULL when out
 * of memory.  The result keeps above.
 */
extern FilterRules *filter_rules_add(const Filter *filter, FilterRules *above,
									 const char *directory, size_t directory_len,
									 const char *text, size_t len, int error);

/* The bytes that a file may have below these (NULL: in the uppermost). */
extern size_t filter_rules_room(const FilterRules *rules);

/* The bytes that all rules take which somebody keeps. */
extern size_t filter_rules_memory(const Filter *filter);

/* One more user, and one less (NULL is nothing). */
extern FilterRules *filter_rules_keep(FilterRules *rules);
extern void filter_rules_release(FilterRules *rules);

/* The rules down to the deepest file that could not be read; NULL: all could. */
extern const FilterRules *filter_rules_unknown(const FilterRules *rules);

/* What filter_rules_add() was given, of the deepest file; terminated. */
extern const char *filter_rules_directory(const FilterRules *rules);
extern int	filter_rules_error(const FilterRules *rules);

/* ---------------------------------------------------------------------
 * Decisions
 * ---------------------------------------------------------------------
 */

typedef enum FilterVerdict
{
	FILTER_REFUSED = 0,
	FILTER_ACCEPTED,
	FILTER_UNSURE,				/* a .fsyncignore that could not be read may
								 * refuse it: no row is made of it or removed */
} FilterVerdict;

/*
 * path is relative to the root, without leading or trailing '/'; rules are
 * those of the directory that it is in.  A directory is accepted when
 * something below it can be tracked; "" (the root) always is.  These look at
 * the whole path; callers that come from an accepted directory may use the _in
 * variants, which look only at what the last component adds (the directory
 * above is known to be accepted).
 */
extern FilterVerdict filter_accepts_file(const Filter *filter, const FilterRules *rules,
										 const char *path, size_t len);
extern FilterVerdict filter_accepts_directory(const Filter *filter, const FilterRules *rules,
											  const char *path, size_t len);
extern FilterVerdict filter_accepts_file_in(const Filter *filter, const FilterRules *rules,
											const char *path, size_t len);
extern FilterVerdict filter_accepts_directory_in(const Filter *filter,
												 const FilterRules *rules,
												 const char *path, size_t len);

typedef enum FilterSource
{
	FILTER_BY_NOTHING = 0,		/* nothing speaks of it: it is tracked */
	FILTER_BY_DEFAULT,			/* a default rule, but that of hidden names */
	FILTER_BY_HIDDEN,			/* the name starts with '.' */
	FILTER_BY_EXCLUDE,
	FILTER_BY_RULES,			/* a .fsyncignore; rule NULL: it cannot be read */
	FILTER_BY_INCLUDE,
} FilterSource;

/* Why a verdict is what it is; strings belong to filter and rules. */
typedef struct FilterReason
{
	FilterVerdict verdict;
	FilterSource source;
	const char *rule;			/* the pattern as it was written; NULL: none
								 * matched */
	size_t		decided_len;	/* ... which speaks of so much of the path */
	const char *directory;		/* of the .fsyncignore */
} FilterReason;

/* The same decision about a file or directory, and what it is due to. */
extern void filter_explain(const Filter *filter, const FilterRules *rules,
						   const char *path, size_t len, bool is_directory,
						   FilterReason *reason);

/* Whether the bytes are valid UTF-8 as PostgreSQL's pg_utf8_islegal has it. */
extern bool filter_valid_utf8(const char *name, size_t len);

#endif							/* FSYNC_FILTER_H */
