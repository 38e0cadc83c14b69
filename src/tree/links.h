/*-------------------------------------------------------------------------
 *
 * links.h
 *		Which paths are names of one file.
 *
 * A write through one name of a hard-linked file is reported under that name
 * only.  So every inspection notes files that have several names, and so does
 * every scan, or the hashing that follows it; when one of them was written, the
 * others are looked at as well.  A hint: a name that is no longer true costs one
 * look.
 *
 * Any thread may call these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_LINKS_H
#define FSYNC_LINKS_H

#include "beneath.h"

typedef struct Links Links;

extern Links *links_create(void);
extern void links_free(Links *links);

/* Notes that path is a name of the file. */
extern void links_note(Links *links, const FileInfo *info, const char *path, size_t len);

/*
 * Calls name() for every other known name of the file; where that returns
 * false, it is a name of the file no longer, and forgotten.  Returns true when
 * all names of the file are known, or are known to be outside.
 */
extern bool links_others(Links *links, const FileInfo *info, const char *path, size_t len,
						 bool (*name) (void *arg, const char *path, size_t len),
						 void *arg);

/*
 * Whether the other names are to be told of a change, which turn, hints and epoch
 * are of: not where they were in this turn, of as much and as early.  Otherwise
 * each name of a file that gets a thousand would tell all others.
 */
extern bool links_must_tell(Links *links, const FileInfo *info, uint64_t turn, unsigned hints,
							uint64_t epoch);

/* Whether any name is known. */
extern bool links_any(Links *links);

/*
 * A walk of the whole tree, which notes all names that it sees, begins; and
 * has ended: names that several walks have not noted are no more, and what is
 * not known of a file lies outside.  links_search() gives the round to end.
 */
extern uint64_t links_search(Links *links);
extern void links_searched(Links *links, uint64_t round);

#endif							/* FSYNC_LINKS_H */
