/*-------------------------------------------------------------------------
 *
 * identity.h
 *		Whether the root is still the root: its identity and its mounts.
 *
 * An empty or missing directory says nothing about the files that were in it:
 * the disk may be unmounted, another may be mounted in its place, or a mount
 * may hide a part of the tree.  So rows are removed only under a root whose
 * identity is the one that was accepted, and never below a mount that
 * appeared or vanished.
 *
 * Identities are opaque words, compared by identity_same() only: a new kernel
 * may know more (the UUID, a birth time) of the same disk.  They hold the file
 * system's UUID (FS_IOC_GETFSUUID, Linux 6.9) and f_fsid, with the directory's
 * inode number and birth time.  st_dev is not part of it, as it does not
 * survive a restart on several file systems.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_IDENTITY_H
#define FSYNC_IDENTITY_H

#include "protocol.h"

#define IDENTITY_MAX	160

/* Writes the identity of an open directory (O_PATH is enough); 0 or -1. */
extern int	identity_of(int dirfd, char out[IDENTITY_MAX]);

/*
 * Opens the root, as beneath_open_root() does, and writes its identity.
 * Returns the descriptor, which the caller closes soon (an open one keeps the
 * file system from being unmounted), or -1 with errno.
 */
extern int	identity_open_root(const char *root, char out[IDENTITY_MAX]);

/*
 * Whether two identities, of directories or of mounts, are of the same one.
 * What only one of them knows is not held against it.  An empty one is the
 * same as nothing.
 */
extern bool identity_same(ProtoStr a, ProtoStr b);

/* The ioctl(2) that is made for it. */
extern const unsigned long identity_uuid_call;

/* A mount below the root. */
typedef struct Mount
{
	char	   *path;			/* relative to the root, no slashes at its ends */
	size_t		len;
	char		identity[IDENTITY_MAX]; /* file system type, UUID or fsid of a
										 * local disk, else the source, and the
										 * device's root */
	bool		polled;			/* its type does not report others' changes */
} Mount;

typedef struct MountSet
{
	Mount	   *mounts;			/* sorted by path, bytewise; of several mounts
								 * on one path only the topmost */
	size_t		count;
	bool		root_polled;	/* the file system of the root itself is so */
} MountSet;

/*
 * Reads the mounts below the root from an open /proc/self/mountinfo (see
 * proc(5); octal escapes are decoded), by pread from its beginning.
 * real_root is the root's path with symbolic links resolved.  0, or -1 with
 * errno and an empty set.  poll(2) on the same descriptor with POLLPRI tells
 * when to read it again.
 */
extern int	mounts_read(int mountinfo_fd, const char *real_root, MountSet *set);
extern void mounts_free(MountSet *set);

/* By path, bytewise. */
extern int	mounts_compare(const Mount *a, const Mount *b);

/* For tests: the same from text, without looking at any disk. */
extern int	mounts_parse(const char *text, size_t len, const char *real_root, MountSet *set);

/*
 * The list of ProtoInit.mounts and ProtoState.mounts: each element is the
 * relative path, a newline escaped as "\n" and a backslash as "\\", a tab,
 * and the identity.
 */
extern void mounts_encode(const MountSet *set, ProtoBuf *list);
extern int	mounts_decode(ProtoStr list, MountSet *set);

/*
 * Paths whose mount differs between the two sets (appeared, vanished, or is
 * another file system): fills out with pointers into the sets, at most max,
 * and returns how many there are.
 */
extern size_t mounts_diff(const MountSet *accepted, const MountSet *now,
						  const Mount **out, size_t max);

/*
 * A file system that does not report others' changes, by f_type of statfs(2)
 * and by its name in mountinfo (which knows more: see there).
 */
extern bool identity_polled_type(long f_type);
extern bool identity_polled_name(const char *name, size_t len);

/*
 * A file system on which a directory has two links and one more for each
 * directory in it, by f_type; others count differently, or not at all.
 */
extern bool identity_counts_directories(long f_type);

/*
 * What the file system of an open file says of itself: f_type, and as hex
 * digits or "-" its UUID and f_fsid.  0, or -1 with errno.
 */
extern int	identity_fs(int fd, unsigned long *type, char uuid[33], char fsid[17]);

#endif							/* FSYNC_IDENTITY_H */
