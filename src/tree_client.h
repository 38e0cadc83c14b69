/*-------------------------------------------------------------------------
 *
 * tree_client.h
 *		The worker's end of one fsync-tree: the process and its socket.
 *
 * Nothing here blocks or raises an error, knows of the database, or decides
 * when a process is to be replaced.  Times are milliseconds of a clock that
 * only goes forward.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TREE_CLIENT_H
#define FSYNC_TREE_CLIENT_H

#include "fsync.h"

#include "tree/talk.h"

typedef struct TreeClient
{
	pid_t		pid;			/* 0: no process, or reaped */
	int			fd;				/* -1: closed */
	ProtoBuf	in;
	ProtoBuf	out;
	Talk		talk;			/* what was said, and what may be */
	int64		last_byte;		/* received, or the start */
	int64		last_taken;		/* byte that it took, or the start */
} TreeClient;

extern int64 clock_ms(void);

/* The path of fsync-tree; in static memory. */
extern const char *tree_client_program(void);

/*
 * What ps is to show of an fsync-tree for this path, which may be long and have
 * bytes in it that would act on a terminal: its first argument.  Palloc'd.
 */
extern char *tree_client_title(const char *path);

extern void tree_client_init(TreeClient *tree);

/*
 * Starts a process for the directory at this path; false with errno.  *errors
 * becomes the end to read of its standard error, which does not block and is
 * an external descriptor of PostgreSQL's count, as the socket is.
 */
extern bool tree_client_start(TreeClient *tree, const char *root, bool must_be_confined,
							  int *errors);

/*
 * Reads what is there.  Returns false at the end of the stream; what was read
 * before is in the buffer.
 */
extern bool tree_client_receive(TreeClient *tree);

/*
 * Takes the next whole frame out of what was received.  1, 0: there is none; or
 * -1, with why it is none that may be said, as a part of a sentence.
 */
extern int	tree_client_next(TreeClient *tree, uint8 *type, ProtoReader *body,
							 const char **why);

/* Sends what it can; false when the other end is gone (read on: its last
 * words may wait), and then forgets what it would not take. */
extern bool tree_client_send(TreeClient *tree);

/* Forgets what was not sent: nobody is there to read it. */
extern void tree_client_forget_unsent(TreeClient *tree);

/* Whether bytes wait that were not read yet: then silence is our own. */
extern bool tree_client_readable(const TreeClient *tree);

/* Closes the socket and forgets what is in the buffers. */
extern void tree_client_close(TreeClient *tree);

/* True when there is no process any more; status is as waitpid() has it, and
 * -1 when somebody else reaped it. */
extern bool tree_client_reap(TreeClient *tree, int *status);

/* "fsync-tree was terminated by signal 9" and the like, into text. */
extern void tree_client_describe_end(int status, char *text, size_t size);

/*
 * For a process that nobody is interested in any more: closes its socket,
 * asks it to end, kills it after five seconds, and reaps it.  orphans_poll()
 * does the waiting, and returns when it wants to be called again (INT64_MAX:
 * there are none).
 */
extern void tree_client_abandon(TreeClient *tree);
extern int64 tree_orphans_poll(int64 now);
extern void tree_orphans_kill(void);

#endif							/* FSYNC_TREE_CLIENT_H */
