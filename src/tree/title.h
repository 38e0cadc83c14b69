/*-------------------------------------------------------------------------
 *
 * title.h
 *		What ps says of an fsync-tree.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TREE_TITLE_H
#define FSYNC_TREE_TITLE_H

#include <stddef.h>

/* Longer ones are cut, with "..." at their end. */
#define TITLE_MAX_BYTES		512

/*
 * Writes name to out, as text that does nothing where it is printed: bytes that
 * are no UTF-8, control characters, and what turns the direction of writing or
 * ends a line, as a backslash and three octal digits each.  A name that is longer
 * than size - 1 bytes ends with "...", and never within a character.  Returns the
 * length.  size: at least 4.
 */
extern size_t title_escape(char *out, size_t size, const char *name);

/*
 * Has ps, and whoever else reads /proc/PID/cmdline, see "prefix name" in the
 * place of the arguments, which are of no use any more then: to be called
 * before there are threads, by who has copied what it still needs of them.  It
 * has no more room than they had.
 */
extern void title_set(int argc, char **argv, const char *prefix, const char *name);

#endif							/* FSYNC_TREE_TITLE_H */
