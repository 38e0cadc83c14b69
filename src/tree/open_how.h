/*-------------------------------------------------------------------------
 *
 * open_how.h
 *		What fsync-tree ever says to openat2(), where nobody can change it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_OPEN_HOW_H
#define FSYNC_OPEN_HOW_H

#include <linux/openat2.h>

/*
 * There are so many, at addresses that differ in nothing but these bits, so
 * that one comparison tells whether an address is of one of them.
 */
#define OPEN_HOWS		4
#define OPEN_HOW_ALIGN	32
#define OPEN_HOW_BITS	((OPEN_HOWS - 1) * OPEN_HOW_ALIGN)

/*
 * How to open, with these flags of open(2), what is below a directory and reached
 * without a link; NULL with EINVAL if nothing here opens so.  The flags have
 * O_NOFOLLOW and O_CLOEXEC.
 */
extern const struct open_how *open_how(int flags);

/*
 * Moves them to memory that nobody can write, map or protect anew from now on,
 * this process neither: the address of the first, or NULL where the kernel
 * cannot do that (before Linux 6.10).  To be called once, before there are
 * threads.
 */
extern const struct open_how *open_how_seal(void);

#endif							/* FSYNC_OPEN_HOW_H */
