/*-------------------------------------------------------------------------
 *
 * burglar.h
 *		A program in the place of fsync-tree that was taken over.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_BURGLAR_H
#define FSYNC_BURGLAR_H

#include <stdbool.h>
#include <stdio.h>

/* Where the attempts are written to. */
extern FILE *result;

/* An attempt that gave this; below zero it failed, with errno. */
extern void attempt(const char *name, long returned);

/* What fsync-tree itself needs: whether it works. */
extern void need(const char *name, bool works);

/* burglar_truncate.c: to be called before the sandbox is entered. */
extern void truncation_prepare(void);

/*
 * All ways to empty a file that may only be read, at an absolute path.  With
 * flags_too also those that are to change the flags of openat2(), if they lie
 * where nobody can.
 */
extern void attack_by_truncation(const char *file, bool flags_too);

#endif							/* FSYNC_BURGLAR_H */
