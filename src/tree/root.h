/*-------------------------------------------------------------------------
 *
 * root.h
 *		The root of the repository: open while there is work, verified before
 *		anything is said to be absent.
 *
 * Used by one thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_ROOT_H
#define FSYNC_ROOT_H

#include "identity.h"

typedef struct Root
{
	char	   *path;
	int			fd;				/* O_PATH, -1 when closed */
	int			mountinfo_fd;	/* not its own */
	char	   *server;			/* list of ProtoPlace, server_len bytes */
	size_t		server_len;
	dev_t		clear_device;	/* the directory that was found to be none of */
	ino_t		clear_inode;	/* these; inode 0: none was looked at yet */
	char		identity[IDENTITY_MAX]; /* accepted; "" until the first time */
	bool		replaced;		/* it was accepted in place of another, by a scan
								 * or before this process: the rows are of other
								 * inodes until a scan of everything is complete */
	MountSet	accepted;		/* mounts below the root that were accepted */
	MountSet	now;			/* those that are there */
	MountSet	guarded;		/* places where the two differ: nothing below
								 * is said to have changed */
	bool		mounts_known;	/* they were read */
	bool		polled;			/* something in the tree has no events */
	bool		volatile_times; /* tmpfs and the like: equal times say little */
} Root;

/*
 * Keeps copies of what PROTO_INIT says.  mountinfo_fd is an open
 * /proc/self/mountinfo, or -1.  0, or -1 with errno.
 */
extern int	root_init(Root *root, const ProtoInit *init, int mountinfo_fd);
extern void root_free(Root *root);

typedef enum RootTrouble
{
	ROOT_OK = 0,
	ROOT_MISSING,				/* cannot be opened; errno */
	ROOT_REPLACED,				/* another directory than the accepted one */
	ROOT_STARVED,				/* nothing is known: no descriptor or memory to
								 * look; errno */
	ROOT_OF_SERVER,				/* one that PostgreSQL uses, or above one */
} RootTrouble;

/*
 * Makes root->fd valid, if it is the accepted root; accepts it if none was
 * yet, or if told to.  One of the server's directories is never accepted.
 */
extern RootTrouble root_open(Root *root, bool accept);

/* Whether the path still leads to the accepted root; opens it anew. */
extern RootTrouble root_verify(Root *root);

/* Nothing is kept open in the tree while there is nothing to do. */
extern void root_close(Root *root);

/*
 * Reads the mounts again and works out what is guarded.  0, or the errno where
 * that must be tried again: what is known of them is old.
 */
extern int	root_read_mounts(Root *root);

/*
 * Takes the mounts that are there as they are: all of them, or just at one
 * place where there was nothing to lose.
 */
extern void root_accept_mounts(Root *root);
extern void root_accept_mount(Root *root, const char *path, size_t len);

/* Whether path lies at or below a guarded place. */
extern bool root_guards(const Root *root, const char *path, size_t len);

/* Whether path lies on a file system that does not report others' changes. */
extern bool root_polls(const Root *root, const char *path, size_t len);

#endif							/* FSYNC_ROOT_H */
