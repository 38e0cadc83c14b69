/*-------------------------------------------------------------------------
 *
 * walk_ahead.h
 *		Directories, read and examined ahead of a walk by other threads.
 *
 * The work is cut into pieces: the names of a directory are one piece with the
 * stat of the first of them; further names, if there are very many, are further
 * pieces.  Pieces are in the order in which the walk comes to need them, and
 * are begun in that order, each by whoever is free; what the walk needs and
 * nobody has begun, it does itself.  So there is no need for any thread, and a
 * small walk starts none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WALK_AHEAD_H
#define FSYNC_WALK_AHEAD_H

#include "walk_read.h"

typedef struct Ahead Ahead;

/*
 * Begins with the directory at path.  NULL when out of memory.
 */
extern Ahead *ahead_open(int rootfd, const WalkOptions *options, const char *path, size_t len);

/* The rules of the directory above that one; before the first ahead_take(). */
extern void ahead_set_rules(Ahead *ahead, FilterRules *rules);

/*
 * Ends its threads, as soon as they are done with what they do now; then the
 * walk leaves the directories that it is in, and closes.
 */
extern void ahead_stop(Ahead *ahead);
extern void ahead_close(Ahead *ahead);

/*
 * The next piece, which the caller frees: the first one of the directory that
 * the walk goes into, in the order of the names, or the next one of the
 * directory that it is in.  NULL when out of memory.
 */
extern Piece *ahead_take(Ahead *ahead);
extern void ahead_free_piece(Piece *piece);

/* The walk has left the directory, and takes nothing of it any more. */
extern void ahead_leave(Ahead *ahead, Directory *dir);

/*
 * Whether the walk goes into the directory at path[0..len), whose last name is
 * the name_len bytes at its end.  If not, kind says why.
 */
extern bool ahead_enters(const WalkOptions *options, const char *path, size_t len,
						 size_t name_len, WalkKind *kind);

#endif							/* FSYNC_WALK_AHEAD_H */
