/*-------------------------------------------------------------------------
 *
 * walk.c
 *		The files below a directory, in byte order of their full paths.
 *
 * A stack of levels, one for each directory on the way down, instead of
 * recursion: how deep a tree is belongs to its owner, not to our stack.  What
 * is in the directories comes from walk_ahead.c, in the order in which the
 * levels need it.
 *
 * The type in a directory entry decides how a name is sorted and is otherwise
 * a hint: stat and open have the last word.
 *
 *-------------------------------------------------------------------------
 */
#include "rules.h"
#include "walk_ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Each level below the prefix's adds two bytes, but the first one. */
#define MAX_LEVELS			(DIRECTORY_PATH_MAX / 2 + 3)

typedef struct Level
{
	Directory  *dir;
	Piece	   *piece;			/* the names that are visited now */
	size_t		next;			/* of the directory's names */
} Level;

typedef enum WalkPhase
{
	PHASE_START,				/* the prefix was not yet looked at */
	PHASE_RUNNING,
	PHASE_END,
} WalkPhase;

struct Walk
{
	WalkOptions options;
	int			rootfd;
	WalkPhase	phase;
	size_t		prefix_len;
	Ahead	   *ahead;
	char	   *path;			/* of the current entry; the paths of all
								 * levels are its beginnings */
	Level	   *levels;
	size_t		depth;
};

Walk *
walk_open(int rootfd, const char *prefix, size_t prefix_len, const WalkOptions *options)
{
	Walk	   *walk = calloc(1, sizeof(Walk));
	size_t		path_max = prefix_len > PROTO_PATH_MAX ? prefix_len : PROTO_PATH_MAX;

	if (walk == NULL)
		return NULL;
	walk->options = *options;
	walk->rootfd = rootfd;
	walk->phase = PHASE_START;
	walk->prefix_len = prefix_len;
	walk->ahead = ahead_open(rootfd, options, prefix, prefix_len);
	walk->path = malloc(path_max + 1 + READ_NAME_SPACE);
	walk->levels = malloc(MAX_LEVELS * sizeof(Level));
	if (walk->ahead == NULL || walk->path == NULL || walk->levels == NULL)
	{
		walk_close(walk);
		return NULL;
	}
	memcpy(walk->path, prefix, prefix_len);
	walk->path[prefix_len] = '\0';
	return walk;
}

static void
pop_level(Walk *walk)
{
	Level	   *level = &walk->levels[--walk->depth];

	ahead_free_piece(level->piece);
	ahead_leave(walk->ahead, level->dir);
}

void
walk_close(Walk *walk)
{
	if (walk == NULL)
		return;
	if (walk->ahead != NULL)
	{
		ahead_stop(walk->ahead);
		while (walk->depth > 0)
			pop_level(walk);
		ahead_close(walk->ahead);
	}
	free(walk->path);
	free(walk->levels);
	free(walk);
}

/* ---- steps: 1 with an entry, 0 to go on, -1 when out of memory ---- */

static int
yield(Walk *walk, WalkEntry *entry, WalkKind kind, bool directory, size_t path_len, int error)
{
	walk->path[path_len] = '\0';
	entry->kind = kind;
	entry->directory = directory;
	entry->path = walk->path;
	entry->len = path_len;
	entry->error = error;
	entry->rules = walk->depth > 0 ? walk->levels[walk->depth - 1].dir->rules : NULL;
	entry->unsure = filter_rules_unknown(entry->rules) != NULL;
	return 1;
}

/* Errors which mean that there is no such directory (any more). */
static bool
means_absent(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

/* Makes the directory of the next piece the deepest level, if it is one. */
static int
enter(Walk *walk, WalkEntry *entry, size_t path_len)
{
	Piece	   *piece = ahead_take(walk->ahead);
	Level	   *level;
	int			error;

	if (piece == NULL)
		return -1;
	error = piece->dir->error;
	level = &walk->levels[walk->depth++];
	level->dir = piece->dir;
	level->piece = piece;
	level->next = 0;
	if (!level->dir->opened && means_absent(error))
		error = 0;
	if (error == 0 && level->dir->rules_error != 0)
	{
		error = level->dir->rules_error;
		if (path_len > 0)
			walk->path[path_len++] = '/';
		strcpy(walk->path + path_len, FILTER_RULES_NAME);
		return yield(walk, entry, WALK_UNKNOWN_RULES, false,
					 path_len + strlen(FILTER_RULES_NAME), error);
	}
	if (!level->dir->opened)
		pop_level(walk);
	return error == 0 ? 0 :
		yield(walk, entry, WALK_UNKNOWN_DIRECTORY, true, path_len, error);
}

/* Whether path[0..len) is a directory that is guarded, or remote. */
static bool
is_closed_off(const Walk *walk, size_t len, WalkKind *kind)
{
	return !ahead_enters(&walk->options, walk->path, len, 0, kind) &&
		(*kind == WALK_GUARDED || *kind == WALK_REMOTE);
}

/*
 * Reads the rules of the directories above the prefix: 1 where they accept it,
 * 0 where they do not, -1 when out of memory.
 */
static int
judge_prefix(Walk *walk)
{
	Rules	   *rules = rules_create(walk->options.filter);
	FilterRules *above = NULL;
	bool		failed = rules == NULL;
	int			result = -1;

	if (!failed)
		above = rules_for(rules, walk->rootfd, walk->path, walk->prefix_len, &failed);
	if (!failed)
	{
		ahead_set_rules(walk->ahead, above);
		result = filter_accepts_directory(walk->options.filter, above, walk->path,
										  walk->prefix_len) != FILTER_REFUSED;
	}
	rules_free(rules);
	return result;
}

/* The prefix, of which nothing was checked yet. */
static int
enter_prefix(Walk *walk, WalkEntry *entry)
{
	const char *prefix = walk->path;
	size_t		len = walk->prefix_len;
	WalkKind	kind;

	if (len > 0 && filter_uses_rules(walk->options.filter))
	{
		int			result = judge_prefix(walk);

		if (result <= 0)
			return result;
	}
	else if (!filter_accepts_directory(walk->options.filter, NULL, prefix, len))
		return 0;
	if (walk->options.utf8 && !filter_valid_utf8(prefix, len))
		return yield(walk, entry, WALK_BAD_NAME, true, len, 0);
	for (size_t i = 0; i < len; i++)
	{
		if ((i == 0 || prefix[i] == '/') && is_closed_off(walk, i, &kind))
			return yield(walk, entry, kind, true, len, 0);
	}
	if (!ahead_enters(&walk->options, prefix, len, 0, &kind))
		return yield(walk, entry, kind, true, len, 0);
	return enter(walk, entry, len);
}

/* A file, as far as we know; look is NULL where it was not examined. */
static int
visit_file(Walk *walk, WalkEntry *entry, const Look *look, bool refused, size_t name_len,
		   size_t path_len)
{
	const char *name = walk->path + path_len - name_len;
	int			error = look ? look->error : 0;

	if (error == ENOENT)
		return 0;
	if (refused)
	{
		entry->info = look->info;
		return yield(walk, entry, WALK_REFUSED, false, path_len, error);
	}
	if (look && error == 0 &&
		(!S_ISREG(look->info.mode) ||
		 !filter_accepts_size(walk->options.filter, look->info.stat.size)))
	{
		if (!walk->options.refused)
			return 0;
		entry->info = look->info;
		return yield(walk, entry, WALK_REFUSED, false, path_len, 0);
	}
	if (walk->options.utf8 && !filter_valid_utf8(name, name_len))
		return yield(walk, entry, WALK_BAD_NAME, false, path_len, 0);
	if (path_len > PROTO_PATH_MAX)
		return yield(walk, entry, WALK_TOO_LONG, false, path_len, 0);
	if (look && error == 0)
		entry->info = look->info;
	return yield(walk, entry, error ? WALK_UNKNOWN_FILE : WALK_FILE, false, path_len, error);
}

/* Goes on to the next names of the level. */
static int
next_piece(Walk *walk, Level *level)
{
	Piece	   *piece = ahead_take(walk->ahead);

	if (piece == NULL)
		return -1;
	ahead_free_piece(level->piece);
	level->piece = piece;
	return 0;
}

/* Visits the next name of the deepest level. */
static int
visit_next(Walk *walk, WalkEntry *entry)
{
	Level	   *level = &walk->levels[walk->depth - 1];
	const Directory *dir = level->dir;
	const Piece *piece = level->piece;
	const Name *name = &dir->names[level->next];
	size_t		len = name->len - name->directory;
	size_t		at = dir->path_len;
	WalkKind	kind;

	if (level->next == piece->to)
		return next_piece(walk, level);
	if (at > 0)
		walk->path[at++] = '/';
	memcpy(walk->path + at, dir->arena + name->offset, len);
	walk->path[at + len] = '\0';
	level->next++;
	if (name->directory)
	{
		if (!ahead_enters(&walk->options, walk->path, at + len, len, &kind))
			return yield(walk, entry, kind, true, at + len, 0);
		return enter(walk, entry, at + len);
	}
	if (piece->error == 0)
		return visit_file(walk, entry, name->file && walk->options.names_only ? NULL :
						  &piece->looks[level->next - 1 - piece->from], name->refused, len,
						  at + len);
	return means_absent(piece->error) ? 0 :
		yield(walk, entry, WALK_UNKNOWN_FILE, false, at + len, piece->error);
}

int
walk_next(Walk *walk, WalkEntry *entry)
{
	int			result = 0;

	if (walk->phase == PHASE_START)
	{
		walk->phase = PHASE_RUNNING;
		result = enter_prefix(walk, entry);
	}
	while (result == 0 && walk->phase == PHASE_RUNNING)
	{
		Level	   *level;

		if (walk->depth == 0)
		{
			walk->phase = PHASE_END;
			break;
		}
		level = &walk->levels[walk->depth - 1];
		if (level->next == level->dir->n_names)
			pop_level(walk);
		else
			result = visit_next(walk, entry);
	}
	if (result < 0)
	{
		/* what was read is incomplete: no further step would mean anything */
		walk->phase = PHASE_END;
		errno = ENOMEM;
	}
	return result;
}
