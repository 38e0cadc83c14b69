/*-------------------------------------------------------------------------
 *
 * links.h
 *		Which paths are names of one file.
 *
 * A write through one name of a hard-linked file is reported under that name
 * only.  So every scan and inspection notes files that have several names;
 * when one of them was written, the others are looked at as well.  A hint: a
 * name that is no longer true costs one look.
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
 * Calls name() for every other known name of the file.  Returns true when
 * all its names are known or are known to be outside (see links_searched).
 */
extern bool links_others(Links *links, const FileInfo *info, const char *path, size_t len,
						 void (*name) (void *arg, const char *path, size_t len),
						 void *arg);

/*
 * The whole tree has been walked since the file's group was last incomplete:
 * what is not known of it lies outside.
 */
extern void links_searched(Links *links);

#endif							/* FSYNC_LINKS_H */
