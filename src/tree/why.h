/*-------------------------------------------------------------------------
 *
 * why.h
 *		Which rule decides about a path.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WHY_H
#define FSYNC_WHY_H

/*
 * Reads a PROTO_INIT from standard input, looks at path (relative to its root,
 * plain names between single slashes, perhaps a slash at its end for a
 * directory), and writes a PROTO_WHY to standard output.  Returns the
 * program's exit status.
 */
extern int	why_answer(const char *path);

#endif							/* FSYNC_WHY_H */
