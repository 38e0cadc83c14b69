/*-------------------------------------------------------------------------
 *
 * rules.c
 *		Reading the .fsyncignore files of a tree.
 *
 * Nothing is kept from one look at the disk to the next: a file that changed
 * is told by an event, and what an event did not tell a reconciliation sees.
 *
 *-------------------------------------------------------------------------
 */
#include "rules.h"

#include "grow.h"
#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The rules of one of the directories above, and how long its path is. */
typedef struct RulesLevel
{
	size_t		len;
	FilterRules *rules;
} RulesLevel;

struct Rules
{
	const Filter *filter;
	char	   *path;			/* of the directory asked for last */
	size_t		path_cap;
	RulesLevel *levels;			/* from the root to it */
	size_t		depth;
	size_t		levels_cap;
};

/* Reads it whole, if it has at most so many bytes; 0, or an errno.  *text is to be freed. */
static int
read_text(int dirfd, size_t most, char **text, size_t *len)
{
	FileInfo	info;
	int			fd = beneath_open_file(dirfd, FILTER_RULES_NAME, strlen(FILTER_RULES_NAME), &info);
	int			error = 0;
	size_t		room = 0;

	*text = NULL;
	*len = 0;
	if (fd < 0)
		return errno;
	if (info.stat.size > (int64_t) most)
		error = EFBIG;
	else
	{
		room = (size_t) info.stat.size + 1;
		*text = malloc(room);
		if (*text == NULL)
			error = ENOMEM;
	}
	while (error == 0)
	{
		ssize_t		n = read(fd, *text + *len, room - *len);

		if (n == 0)
			break;
		if (n > 0)
			*len += (size_t) n;
		else if (errno != EINTR)
			error = errno;
		if (*len > most)
			error = EFBIG;
		else if (*len == room)
		{
			/* it grows */
			char	   *more = realloc(*text, room = 2 * room < most ? 2 * room : most + 1);

			if (more == NULL)
				error = ENOMEM;
			else
				*text = more;
		}
	}
	close(fd);
	return error;
}

bool
rules_read(const Filter *filter, FilterRules *above, int dirfd,
		   const char *path, size_t len, FilterRules **rules)
{
	char	   *text = NULL;
	size_t		text_len = 0;
	int			error = read_text(dirfd, filter_rules_room(above), &text, &text_len);
	bool		good = true;

	*rules = NULL;

	/* EINVAL: something else than a file; ELOOP: a symbolic link */
	if (error == ENOENT || error == ENOTDIR || error == ELOOP || error == EINVAL)
		*rules = filter_rules_keep(above);
	else
	{
		if (error != ENOMEM)
			*rules = filter_rules_add(filter, above, path, len, text, text_len, error);
		good = *rules != NULL;
	}
	free(text);
	return good;
}

Rules *
rules_create(const Filter *filter)
{
	Rules	   *rules = calloc(1, sizeof(*rules));

	if (rules != NULL)
		rules->filter = filter;
	return rules;
}

void
rules_forget(Rules *rules)
{
	while (rules->depth > 0)
		filter_rules_release(rules->levels[--rules->depth].rules);
}

void
rules_forget_below(Rules *rules, const char *path, size_t len)
{
	while (rules->depth > 0)
	{
		size_t		known = rules->levels[rules->depth - 1].len;

		if (known < len || memcmp(rules->path, path, len) != 0 ||
			(known > len && len > 0 && rules->path[len] != '/'))
			return;
		filter_rules_release(rules->levels[--rules->depth].rules);
	}
}

void
rules_free(Rules *rules)
{
	if (rules == NULL)
		return;
	rules_forget(rules);
	free(rules->levels);
	free(rules->path);
	free(rules);
}

/* Drops the levels that are not above the path, or its directory itself. */
static void
drop_others(Rules *rules, const char *path, size_t len)
{
	while (rules->depth > 0)
	{
		size_t		known = rules->levels[rules->depth - 1].len;

		if (known == 0 ||
			(known <= len && memcmp(rules->path, path, known) == 0 &&
			 (known == len || path[known] == '/')))
			return;
		filter_rules_release(rules->levels[--rules->depth].rules);
	}
}

static bool
make_room(Rules *rules, size_t len)
{
	RulesLevel *levels;

	if (len >= rules->path_cap)
	{
		char	   *path = realloc(rules->path, len + 1);

		if (path == NULL)
			return false;
		rules->path = path;
		rules->path_cap = len + 1;
	}
	levels = grow(rules->levels, &rules->levels_cap, rules->depth + 1, sizeof(RulesLevel));
	if (levels == NULL)
		return false;
	rules->levels = levels;
	return true;
}

/*
 * One directory more, path[0..len); false with errno when out of memory or
 * descriptors, which says nothing of its rules.
 */
static bool
add_level(Rules *rules, int rootfd, const char *path, size_t len)
{
	FilterRules *above = rules->depth > 0 ? rules->levels[rules->depth - 1].rules : NULL;
	FilterRules *here = NULL;
	bool		good;
	int			error = 0;
	int			fd;

	if (!make_room(rules, len))
	{
		errno = ENOMEM;
		return false;
	}
	fd = beneath_open_directory(rootfd, path, len, O_PATH);
	if (fd >= 0)
	{
		good = rules_read(rules->filter, above, fd, path, len, &here);
		error = good ? 0 : ENOMEM;
		if (good && here != above && shortage_is(filter_rules_error(here)))
			error = filter_rules_error(here);
		close(fd);
	}
	else if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
		here = filter_rules_keep(above);
	else if (shortage_is(errno))
		error = errno;
	else
	{
		here = filter_rules_add(rules->filter, above, path, len, NULL, 0, errno);
		error = here != NULL ? 0 : ENOMEM;
	}
	if (error != 0)
	{
		filter_rules_release(here);
		errno = error;
		return false;
	}
	memcpy(rules->path, path, len);
	rules->levels[rules->depth].len = len;
	rules->levels[rules->depth++].rules = here;
	return true;
}

FilterRules *
rules_of(Rules *rules, int rootfd, const char *path, size_t len, bool *failed)
{
	size_t		at;

	drop_others(rules, path, len);
	if (rules->depth == 0 && !add_level(rules, rootfd, path, 0))
		goto fail;
	at = rules->levels[rules->depth - 1].len;
	while (at < len)
	{
		const char *slash;

		at += at > 0;			/* the slash */
		slash = memchr(path + at, '/', len - at);
		at = slash != NULL ? (size_t) (slash - path) : len;
		if (!add_level(rules, rootfd, path, at))
			goto fail;
	}
	return rules->levels[rules->depth - 1].rules;

fail:
	*failed = true;
	return NULL;
}

FilterRules *
rules_for(Rules *rules, int rootfd, const char *path, size_t len, bool *failed)
{
	const char *slash = memrchr(path, '/', len);

	return rules_of(rules, rootfd, path, slash != NULL ? (size_t) (slash - path) : 0, failed);
}
