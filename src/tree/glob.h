/*-------------------------------------------------------------------------
 *
 * glob.h
 *		One pattern with the syntax of gitignore(5), compiled.
 *
 * Unlike a line of a .gitignore file a pattern is a whole string: trailing
 * spaces and a leading '#' mean themselves.  Bytes are compared as bytes, so
 * '?' is one byte, as in git; with ignore_case the letters of ASCII as if all
 * were small ones.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_GLOB_H
#define FSYNC_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GLOB_MAX_LEN	1024

typedef struct Glob Glob;

/*
 * NULL when out of memory or when the pattern is bad or can never match; error
 * then points to a static message.
 */
extern Glob *glob_compile(const char *pattern, size_t len, bool ignore_case,
						  const char **error);
extern void glob_free(Glob *glob);

/* The pattern began with '!'. */
extern bool glob_negated(const Glob *glob);

/*
 * Whether the pattern matches this very path (not one above it), which is
 * relative to the root and has no '/' at its ends.  The time is at most the
 * product of the lengths.
 */
extern bool glob_matches(const Glob *glob, const char *path, size_t len,
						 bool is_directory);

/* The bytes that it takes. */
extern size_t glob_memory(const Glob *glob);

/* The most steps, of about a nanosecond each, that glob_matches() takes. */
extern uint64_t glob_cost(const Glob *glob);

/* Its answer depends on where in the tree a name is, not on the name alone. */
extern bool glob_depends_on_place(const Glob *glob);

/* Whether it may match something below this directory. */
extern bool glob_matches_below(const Glob *glob, const char *path, size_t len);

#endif							/* FSYNC_GLOB_H */
