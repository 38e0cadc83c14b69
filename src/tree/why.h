/*-------------------------------------------------------------------------
 *
 * why.h
 *		Which rule decides about a path.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WHY_H
#define FSYNC_WHY_H

#include <stdbool.h>

/*
 * Reads a PROTO_INIT from standard input, looks at path (relative to root,
 * plain names between single slashes, perhaps a slash at its end for a
 * directory), and writes a PROTO_WHY to standard output.  Returns the
 * program's exit status; PROTO_EXIT_UNCONFINED where the sandbox is to be
 * complete and is not.
 */
extern int	why_answer(const char *root, const char *path, bool must_be_complete);

#endif							/* FSYNC_WHY_H */
