/*-------------------------------------------------------------------------
 *
 * rules.h
 *		Reading the .fsyncignore files of a tree.
 *
 * A file that is no regular one is no such file.  What cannot be read, or is
 * too much (see filter.h), is unknown: see FILTER_UNSURE.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_RULES_H
#define FSYNC_RULES_H

#include "beneath.h"
#include "filter.h"

/*
 * The rules of the directory whose descriptor (O_PATH will do) and path these
 * are: above, those of the directory above it, and its own file's.  The caller
 * releases *rules.  False when out of memory; then *rules is NULL.
 */
extern bool rules_read(const Filter *filter, FilterRules *above, int dirfd,
					   const char *path, size_t len, FilterRules **rules);

/*
 * The rules of one directory after the other, in any order; of neighbours
 * what they have in common is read once.  Used by one thread.
 */
typedef struct Rules Rules;

/* NULL when out of memory. */
extern Rules *rules_create(const Filter *filter);
extern void rules_free(Rules *rules);

/*
 * Those of the directory at path, until the next call.  A directory that is
 * not there has those of the one above it; one that cannot be opened has
 * unknown ones.  *failed is set when out of memory or descriptors, and errno.
 */
extern FilterRules *rules_of(Rules *rules, int rootfd, const char *path, size_t len,
								   bool *failed);

/* ... of the directory that the file at path is in. */
extern FilterRules *rules_for(Rules *rules, int rootfd, const char *path, size_t len,
									bool *failed);

/* Whatever was read may have changed; or that of one directory and below. */
extern void rules_forget(Rules *rules);
extern void rules_forget_below(Rules *rules, const char *path, size_t len);

#endif							/* FSYNC_RULES_H */
