/*-------------------------------------------------------------------------
 *
 * walk_read.h
 *		Reading directories for a walk, a piece at a time, on any thread.
 *
 * A directory is opened when its first piece is read, in the one above it, which
 * stays open until the walk leaves it: so a directory that is renamed meanwhile
 * is read to its end.  Beyond so many descriptors they are opened by path; if
 * that is another directory by now, that is as well, since the path is what the
 * entries speak of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_WALK_READ_H
#define FSYNC_WALK_READ_H

#include "walk.h"

#include <stdatomic.h>

/*
 * A directory whose path is longer than this holds no file that could be
 * tracked: the shortest name below it takes two bytes more.
 */
#define DIRECTORY_PATH_MAX	(PROTO_PATH_MAX - 2)

/* The kernel gives no longer name than this, terminator included. */
#define READ_NAME_SPACE		4096

/* Directories that are kept open at once, and never more than this part of the
 * descriptors that the process may have. */
#define READ_OPEN			64
#define READ_OPEN_PART		8

/* A name in the arena; a directory's has a '/' at its end, for sorting. */
typedef struct Name
{
	uint32_t	offset;
	uint16_t	len;			/* with the '/' */
	bool		directory:1;
	bool		file:1;			/* a regular file, as the directory says */
	bool		refused:1;		/* not tracked; directory is false */
} Name;

/* Filled in with its first piece, and not changed any more. */
typedef struct Directory
{
	int			error;			/* of opening it: there are no names; or of
								 * reading it: these are not all */
	bool		opened;
	FilterRules *rules;			/* for its names; of the directory above, before
								 * it is read */
	int			rules_error;	/* of reading its own .fsyncignore */
	Name	   *names;			/* sorted, each once */
	size_t		n_names;
	size_t		n_directories;	/* of these */
	size_t		names_cap;
	char	   *arena;
	size_t		arena_used;
	size_t		arena_cap;
	int			fd;				/* -1: closed, or not yet open */
	const struct Directory *parent; /* NULL: the walk begins here */
	struct Piece *rest;			/* stands for the pieces that are not cut yet */
	size_t		path_len;
	char		path[];			/* terminated */
} Directory;

/* What stat says of a name that is not a directory. */
typedef struct Look
{
	FileInfo	info;
	int			error;			/* of stat, or 0 */
} Look;

typedef enum PieceState
{
	PIECE_WAITING,
	PIECE_READING,
	PIECE_READY,
	PIECE_REST,					/* what its directory holds beyond the pieces
								 * before it; no work */
} PieceState;

typedef struct Piece
{
	struct Piece *next;
	struct Piece *prev;
	PieceState	state;
	Directory  *dir;
	size_t		from;			/* its names; rest: the next to go into */
	size_t		to;
	int			error;			/* of opening the directory once more */
	Look	   *looks;			/* of the names from..to */
} Piece;

/* What all readers of a walk share. */
typedef struct ReadContext
{
	int			rootfd;
	WalkOptions options;
	int			keep;			/* directories that may be kept open ... */
	atomic_int	open;			/* ... and are */
} ReadContext;

/* What a thread that reads needs.  NULL when out of memory. */
typedef struct Reader Reader;

extern Reader *reader_create(ReadContext *context);
extern void reader_free(Reader *reader);

/*
 * Reads the piece: the names, if it is the first one of its directory, of which
 * it then holds the first READ_NAMES, and what stat says of those that it holds.
 * 0, or -1 when out of memory; errors of the file system are left in it.
 */
extern int	reader_read(Reader *reader, Piece *piece);

/* Names of one piece. */
#define READ_NAMES			1024

/* All its pieces have been read. */
extern void read_free_directory(ReadContext *context, Directory *dir);

#endif							/* FSYNC_WALK_READ_H */
