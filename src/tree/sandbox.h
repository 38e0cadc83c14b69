/*-------------------------------------------------------------------------
 *
 * sandbox.h
 *		What fsync-tree takes from itself before it looks at a user's files.
 *
 * In each of its modes, and before the first byte of a message or of the tree
 * is read: then nothing that comes from outside can do more than this allows,
 * whatever it makes of the code that reads it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SANDBOX_H
#define FSYNC_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#define SANDBOX_TEXT	160

typedef struct Sandbox
{
	bool		complete;		/* nothing is missing */
	char		missing[SANDBOX_TEXT];	/* else what is, and why: a list */
} Sandbox;

/*
 * A process of the server's: dies with its parent, and is the kernel's first
 * choice when memory runs out.  Exits if the parent is gone already.  To be
 * called before sandbox_enter().
 */
extern void sandbox_process(void);

/*
 * From now on this process, which has one thread yet, reads files below the
 * open directory rootfd (-1: none), has what is open already, makes threads and
 * watches, and can do nothing else that the kernel keeps it from.  What cannot be
 * had on this kernel is told, and the rest is done all the same.
 */
extern void sandbox_enter(int rootfd, Sandbox *sandbox);

/*
 * sandbox_calls.c: the allow-list of system calls; NULL, or a text that says why
 * not.  Nothing on it opens a file to write, creates or truncates one: openat2(),
 * which could, is allowed with how (open_how_seal()), or, where that is NULL and
 * Landlock keeps it from all of this, with anything; else not at all.
 */
struct open_how;
extern const char *sandbox_allow_calls(const struct open_how *how, bool any_openat2);

#endif							/* FSYNC_SANDBOX_H */
