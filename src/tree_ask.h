/*-------------------------------------------------------------------------
 *
 * tree_ask.h
 *		One question to fsync-tree, for a session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TREE_ASK_H
#define FSYNC_TREE_ASK_H

#include "fsync.h"

#define TREE_ASK_TIMEOUT_S	10

/*
 * Runs "fsync-tree ARGS…" (args ends with NULL, without the program's name)
 * with the input, if any, to read from.  Returns all that it writes, with a
 * zero byte behind it and *len bytes long; NULL when it has not ended within
 * TREE_ASK_TIMEOUT_S seconds.  Interruptible; errors when it cannot be run.
 */
extern char *tree_ask(const char *const *args, const void *input, size_t input_len,
					  size_t *len);

#endif							/* FSYNC_TREE_ASK_H */
