/*-------------------------------------------------------------------------
 *
 * filter.h
 *		Which names are tracked.  One decision for watch and walk alike.
 *
 * Without patterns: a path is ignored when any of its components starts with
 * '.', ends in '~', ".tmp", ".bak" or ".swp", or is ".DS_Store" or
 * "Thumbs.db".  The include and exclude lists hold patterns with the syntax
 * and meaning of gitignore(5): a '/' inside anchors to the root, a trailing
 * '/' means directories only, '**' spans directories, '!' takes back, the
 * last match of a list decides, and what is decided for a directory holds for
 * everything below it.  A non-empty include list makes a file tracked only
 * where it (or a directory above it) matches; exclude wins over include; the
 * default rules win over both.
 *
 * A Filter is immutable after filter_create() and may be used by any thread.
 * Also compiled into the extension, which checks patterns with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_FILTER_H
#define FSYNC_FILTER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Filter Filter;

/* One pattern of len bytes, as in protocol lists; not terminated. */
typedef struct FilterPattern
{
	const char *data;
	size_t		len;
} FilterPattern;

/*
 * NULL when out of memory or when a pattern is bad; error (never NULL) then
 * points to a static message.
 */
extern Filter *filter_create(const FilterPattern *include, size_t n_include,
							 const FilterPattern *exclude, size_t n_exclude,
							 const char **error);
extern void filter_free(Filter *filter);

/* NULL if the pattern is good, else a static message that says what is not. */
extern const char *filter_check_pattern(const char *pattern, size_t len);

/* The default rule for one component of a path. */
extern bool filter_ignores_name(const char *name, size_t len);

/*
 * path is relative to the root, without leading or trailing '/'.  A directory
 * is accepted when something below it can be tracked; "" (the root) always
 * is.  These look at the whole path; callers that come from an accepted
 * directory may use the _in variants, which look only at what the last
 * component adds (the directory above is known to be accepted).
 */
extern bool filter_accepts_file(const Filter *filter, const char *path, size_t len);
extern bool filter_accepts_directory(const Filter *filter, const char *path, size_t len);
extern bool filter_accepts_file_in(const Filter *filter, const char *path, size_t len);
extern bool filter_accepts_directory_in(const Filter *filter, const char *path, size_t len);

/* Whether the bytes are valid UTF-8 as PostgreSQL's pg_utf8_islegal has it. */
extern bool filter_valid_utf8(const char *name, size_t len);

#endif							/* FSYNC_FILTER_H */
