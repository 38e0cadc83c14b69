/*-------------------------------------------------------------------------
 *
 * walk_ahead.c
 *		Directories, read and examined ahead of a walk by other threads.
 *
 * The list of pieces is in path order.  Behind the pieces of a directory its
 * "rest" stands for what is not cut yet: the directories among the names, and
 * the next names.  Cutting puts a piece before the rest, so that order is kept
 * whoever cuts; the walk finds what it needs at the head.
 *
 *-------------------------------------------------------------------------
 */
#include "walk_ahead.h"

#include "path_order.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Pieces, and names in them, that may be ready before they are needed. */
#define AHEAD_PIECES		64
#define AHEAD_NAMES			8192
#define AHEAD_RULES			(16 * 1024 * 1024)

/* Pieces that the walk reads before it starts threads. */
#define AHEAD_ALONE			16
#define AHEAD_MAX_THREADS	3

typedef struct AheadThread
{
	Ahead	   *ahead;
	pthread_t	thread;
	Reader	   *reader;
} AheadThread;

struct Ahead
{
	ReadContext context;

	pthread_mutex_t lock;
	pthread_cond_t work;		/* there may be a piece to read */
	pthread_cond_t ready;		/* the piece that the walk waits for is */
	Piece	   *first;
	Piece	   *last;
	size_t		pieces;			/* in the list, without the rests */
	size_t		names;			/* of those read */
	size_t		sleeping;		/* threads that wait for work */
	bool		failed;			/* out of memory */
	atomic_bool stop;

	size_t		read_alone;
	Reader	   *own;			/* the walk's */
	AheadThread threads[AHEAD_MAX_THREADS];
	size_t		n_threads;
};

static Piece *
new_piece(Directory *dir, size_t from, size_t to, PieceState state)
{
	Piece	   *piece = calloc(1, sizeof(Piece));

	if (piece != NULL)
	{
		piece->dir = dir;
		piece->from = from;
		piece->to = to;
		piece->state = state;
	}
	return piece;
}

/* The first piece of a directory that is not known yet. */
static Piece *
new_directory(const char *path, size_t len)
{
	Directory  *dir = calloc(1, sizeof(Directory) + len + 1);
	Piece	   *piece = dir ? new_piece(dir, 0, 0, PIECE_WAITING) : NULL;

	if (piece == NULL)
	{
		free(dir);
		return NULL;
	}
	memcpy(dir->path, path, len);
	dir->path_len = len;
	dir->fd = -1;
	return piece;
}

void
ahead_free_piece(Piece *piece)
{
	free(piece->looks);
	free(piece);
}

/* ---- the list; all with the lock held ---- */

/* Puts a piece behind another one; NULL: at the head. */
static void
insert_after(Ahead *ahead, Piece *piece, Piece *after)
{
	piece->prev = after;
	piece->next = after ? after->next : ahead->first;
	if (piece->prev)
		piece->prev->next = piece;
	else
		ahead->first = piece;
	if (piece->next)
		piece->next->prev = piece;
	else
		ahead->last = piece;
}

static void
take_out(Ahead *ahead, Piece *piece)
{
	if (piece->prev)
		piece->prev->next = piece->next;
	else
		ahead->first = piece->next;
	if (piece->next)
		piece->next->prev = piece->prev;
	else
		ahead->last = piece->prev;
}

static void
drop_rest(Ahead *ahead, Piece *rest)
{
	take_out(ahead, rest);
	rest->dir->rest = NULL;
	free(rest);
}

static int
compare_mount(const void *key, const void *element)
{
	const ProtoStr *path = key;
	const Mount *mount = element;

	return path_order(path->data, path->len, mount->path, mount->len);
}

static bool
has_mount(const MountSet *set, const char *path, size_t len)
{
	ProtoStr	key = {path, (uint32_t) len};

	return set != NULL && set->count > 0 &&
		bsearch(&key, set->mounts, set->count, sizeof(Mount), compare_mount) != NULL;
}

bool
ahead_enters(const WalkOptions *options, const char *path, size_t len, size_t name_len,
			 WalkKind *kind)
{
	if (options->utf8 && !filter_valid_utf8(path + len - name_len, name_len))
		*kind = WALK_BAD_NAME;
	else if (len > DIRECTORY_PATH_MAX)
		*kind = WALK_TOO_LONG;
	else if (has_mount(options->guarded, path, len))
		*kind = WALK_GUARDED;
	else if (has_mount(options->remote, path, len))
		*kind = WALK_REMOTE;
	else
		return true;
	return false;
}

/* The piece of the directory of this name; NULL if the walk does not go there. */
static Piece *
cut_directory(Ahead *ahead, const Directory *dir, const Name *name)
{
	char		path[DIRECTORY_PATH_MAX + 1 + READ_NAME_SPACE];
	size_t		len = dir->path_len;
	size_t		name_len = name->len - 1;
	WalkKind	kind;
	Piece	   *piece;

	memcpy(path, dir->path, len);
	if (len > 0)
		path[len++] = '/';
	memcpy(path + len, dir->arena + name->offset, name_len);
	len += name_len;
	if (!ahead_enters(&ahead->context.options, path, len, name_len, &kind))
		return NULL;
	piece = new_directory(path, len);
	if (piece == NULL)
		ahead->failed = true;
	else
	{
		piece->dir->parent = dir;
		piece->dir->rules = filter_rules_keep(dir->rules);
	}
	return piece;
}

/* Cuts the next piece off a rest; NULL: there was nothing more, and it is gone. */
static Piece *
cut(Ahead *ahead, Piece *rest)
{
	Directory  *dir = rest->dir;
	Piece	   *piece = NULL;

	while (piece == NULL && rest->from < rest->to && !ahead->failed)
	{
		const Name *name = &dir->names[rest->from++];

		if (name->directory)
			piece = cut_directory(ahead, dir, name);
	}
	if (piece == NULL && rest->to < dir->n_names && !ahead->failed)
	{
		size_t		left = dir->n_names - rest->to;

		piece = new_piece(dir, rest->to, rest->to + (left < READ_NAMES ? left : READ_NAMES),
						  PIECE_WAITING);
		if (piece == NULL)
			ahead->failed = true;
		else
			rest->to = piece->to;
	}
	if (piece == NULL)
	{
		drop_rest(ahead, rest);
		return NULL;
	}
	insert_after(ahead, piece, rest->prev);
	ahead->pieces++;
	return piece;
}

/* The next piece to read, cut off if need be; NULL if enough is ready. */
static Piece *
choose(Ahead *ahead)
{
	Piece	   *piece = ahead->first;

	while (piece != NULL && ahead->pieces <= AHEAD_PIECES && ahead->names <= AHEAD_NAMES &&
		   !ahead->failed)
	{
		Piece	   *next = piece->next;

		/* the rules of what is read ahead are kept until it is taken */
		if (piece != ahead->first &&
			filter_rules_memory(ahead->context.options.filter) > AHEAD_RULES)
			return NULL;
		if (piece->state == PIECE_REST)
			piece = cut(ahead, piece);
		if (piece != NULL && piece->state == PIECE_WAITING)
			return piece;
		piece = next;
	}
	return NULL;
}

/* Reads a piece that nobody has begun; the lock is given up meanwhile. */
static void
do_piece(Ahead *ahead, Reader *reader, Piece *piece)
{
	bool		first = piece->from == 0;
	int			result;

	piece->state = PIECE_READING;
	pthread_mutex_unlock(&ahead->lock);
	result = reader_read(reader, piece);
	pthread_mutex_lock(&ahead->lock);
	if (first && result == 0 &&
		(piece->dir->n_directories > 0 || piece->to < piece->dir->n_names))
	{
		piece->dir->rest = new_piece(piece->dir, 0, piece->to, PIECE_REST);
		if (piece->dir->rest == NULL)
			result = -1;
		else
			insert_after(ahead, piece->dir->rest, piece);
	}
	ahead->failed |= result < 0;
	ahead->names += piece->to - piece->from;
	piece->state = PIECE_READY;
	if (piece == ahead->first || ahead->failed)
		pthread_cond_signal(&ahead->ready);
	if (ahead->sleeping > 0)
		pthread_cond_signal(&ahead->work);
}

/* ---- threads ---- */

static void *
thread_main(void *arg)
{
	AheadThread *self = arg;
	Ahead	   *ahead = self->ahead;
	ThrottleMeter meter = {0};

	throttle_begin(&meter, ahead->context.options.throttle);
	pthread_mutex_lock(&ahead->lock);
	while (!ahead->stop)
	{
		Piece	   *piece = choose(ahead);

		if (piece != NULL)
		{
			do_piece(ahead, self->reader, piece);
			pthread_mutex_unlock(&ahead->lock);
			throttle_pass(&meter, &ahead->stop);
			pthread_mutex_lock(&ahead->lock);
			continue;
		}
		ahead->sleeping++;
		pthread_cond_wait(&ahead->work, &ahead->lock);
		ahead->sleeping--;
	}
	pthread_mutex_unlock(&ahead->lock);
	throttle_end(&meter);
	return NULL;
}

/*
 * One thread for each processor but the walk's own; and one in any case, as a
 * disk may be what is waited for.  Without them it only takes longer.
 */
static void
start_threads(Ahead *ahead)
{
	long		wanted = sysconf(_SC_NPROCESSORS_ONLN) - 1;
	pthread_attr_t attr;

	wanted = wanted < 1 ? 1 : wanted > AHEAD_MAX_THREADS ? AHEAD_MAX_THREADS : wanted;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	while (ahead->n_threads < (size_t) wanted)
	{
		AheadThread *thread = &ahead->threads[ahead->n_threads];

		thread->ahead = ahead;
		thread->reader = reader_create(&ahead->context);
		if (thread->reader == NULL ||
			pthread_create(&thread->thread, &attr, thread_main, thread) != 0)
		{
			reader_free(thread->reader);
			break;
		}
		ahead->n_threads++;
	}
	pthread_attr_destroy(&attr);
}

/* ---- the walk's side ---- */

Ahead *
ahead_open(int rootfd, const WalkOptions *options, const char *path, size_t len)
{
	Ahead	   *ahead = calloc(1, sizeof(Ahead));
	Piece	   *piece;
	struct rlimit files;

	if (ahead == NULL)
		return NULL;
	ahead->context.rootfd = rootfd;
	ahead->context.options = *options;
	ahead->context.keep = READ_OPEN;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / READ_OPEN_PART < READ_OPEN)
		ahead->context.keep = (int) (files.rlim_cur / READ_OPEN_PART);
	ahead->own = reader_create(&ahead->context);
	piece = ahead->own ? new_directory(path, len) : NULL;
	if (piece == NULL)
	{
		reader_free(ahead->own);
		free(ahead);
		return NULL;
	}
	pthread_mutex_init(&ahead->lock, NULL);
	pthread_cond_init(&ahead->work, NULL);
	pthread_cond_init(&ahead->ready, NULL);
	insert_after(ahead, piece, NULL);
	ahead->pieces = 1;
	return ahead;
}

void
ahead_set_rules(Ahead *ahead, FilterRules *rules)
{
	ahead->first->dir->rules = filter_rules_keep(rules);
}

void
ahead_stop(Ahead *ahead)
{
	pthread_mutex_lock(&ahead->lock);
	ahead->stop = true;
	pthread_cond_broadcast(&ahead->work);
	pthread_mutex_unlock(&ahead->lock);
	for (size_t i = 0; i < ahead->n_threads; i++)
	{
		pthread_join(ahead->threads[i].thread, NULL);
		reader_free(ahead->threads[i].reader);
	}
	ahead->n_threads = 0;
}

void
ahead_close(Ahead *ahead)
{
	Piece	   *piece;

	reader_free(ahead->own);

	/* A directory goes with its rest, or with its only piece. */
	while ((piece = ahead->first) != NULL)
	{
		take_out(ahead, piece);
		if (piece->from == 0 && piece->state != PIECE_REST)
		{
			if (piece->dir->rest != NULL)
				drop_rest(ahead, piece->dir->rest);
			read_free_directory(&ahead->context, piece->dir);
		}
		ahead_free_piece(piece);
	}
	pthread_mutex_destroy(&ahead->lock);
	pthread_cond_destroy(&ahead->work);
	pthread_cond_destroy(&ahead->ready);
	free(ahead);
}

Piece *
ahead_take(Ahead *ahead)
{
	Piece	   *piece;

	pthread_mutex_lock(&ahead->lock);
	while ((piece = ahead->first) != NULL && piece->state == PIECE_REST)
		cut(ahead, piece);
	if (piece != NULL && piece->state == PIECE_WAITING)
	{
		if (++ahead->read_alone == AHEAD_ALONE)
			start_threads(ahead);
		do_piece(ahead, ahead->own, piece);
	}
	while (piece != NULL && piece->state != PIECE_READY && !ahead->failed)
	{
		/* A thread is about it: there is more that will be needed. */
		Piece	   *later = choose(ahead);

		if (later != NULL)
			do_piece(ahead, ahead->own, later);
		else
			pthread_cond_wait(&ahead->ready, &ahead->lock);
	}
	if (ahead->failed)
		piece = NULL;
	if (piece != NULL)
	{
		take_out(ahead, piece);
		ahead->pieces--;
		ahead->names -= piece->to - piece->from;
		if (ahead->sleeping > 0 && ahead->pieces <= AHEAD_PIECES / 2 &&
			ahead->names <= AHEAD_NAMES / 2)
			pthread_cond_broadcast(&ahead->work);
	}
	pthread_mutex_unlock(&ahead->lock);
	return piece;
}

void
ahead_leave(Ahead *ahead, Directory *dir)
{
	pthread_mutex_lock(&ahead->lock);
	if (dir->rest != NULL)
		drop_rest(ahead, dir->rest);
	pthread_mutex_unlock(&ahead->lock);
	read_free_directory(&ahead->context, dir);
}
