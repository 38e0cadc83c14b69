/*-------------------------------------------------------------------------
 *
 * problems.c
 *		The paths that were reported as problems and not yet as cured.
 *
 *-------------------------------------------------------------------------
 */
#include "problems.h"

#include <stdlib.h>
#include <string.h>

typedef struct Problem
{
	TableLink	link;
	uint64_t	round;
	size_t		len;
	char		path[];
} Problem;

void
problems_init(Problems *problems)
{
	table_init(&problems->table);
	problems->round = 1;
}

/* Calls each for every member, which may remove the one it is called for. */
static void
for_each(Problems *problems, void (*each) (Problems *, Problem *, void *), void *arg)
{
	for (size_t i = 0; i < problems->table.n_buckets; i++)
	{
		TableLink  *link = problems->table.buckets[i];

		while (link != NULL)
		{
			Problem    *p = table_container(link, Problem, link);

			link = link->next;
			each(problems, p, arg);
		}
	}
}

static void
free_one(Problems *problems, Problem *p, void *arg)
{
	(void) problems;
	(void) arg;
	free(p);
}

void
problems_free(Problems *problems)
{
	for_each(problems, free_one, NULL);
	table_clear(&problems->table);
}

static Problem *
find(const Problems *problems, const char *path, size_t len, uint64_t hash)
{
	for (TableLink *link = table_first(&problems->table, hash); link; link = table_next(link))
	{
		Problem    *p = table_container(link, Problem, link);

		if (p->len == len && memcmp(p->path, path, len) == 0)
			return p;
	}
	return NULL;
}

void
problems_note(Problems *problems, const char *path, size_t len)
{
	uint64_t	hash = table_hash(path, len, 0);
	Problem    *p = find(problems, path, len, hash);

	if (p == NULL)
	{
		p = malloc(sizeof(Problem) + len + 1);
		if (p == NULL)
			return;				/* the next complete scan clears the row */
		p->len = len;
		memcpy(p->path, path, len);
		p->path[len] = '\0';
		if (!table_insert(&problems->table, &p->link, hash))
		{
			free(p);
			return;
		}
	}
	p->round = problems->round;
}

bool
problems_has(const Problems *problems, const char *path, size_t len)
{
	return find(problems, path, len, table_hash(path, len, 0)) != NULL;
}

bool
problems_forget(Problems *problems, const char *path, size_t len)
{
	Problem    *p;

	if (problems->table.count == 0)
		return false;
	p = find(problems, path, len, table_hash(path, len, 0));
	if (p == NULL)
		return false;
	table_remove(&problems->table, &p->link);
	free(p);
	return true;
}

uint64_t
problems_next_round(Problems *problems)
{
	return ++problems->round;
}

typedef struct Expiry
{
	uint64_t	round;
	bool		(*covers) (void *arg, const char *path, size_t len);
	void		(*cured) (void *arg, const char *path, size_t len);
	void	   *arg;
} Expiry;

static void
expire_one(Problems *problems, Problem *p, void *arg)
{
	Expiry	   *e = arg;

	if (p->round >= e->round || !e->covers(e->arg, p->path, p->len))
		return;
	table_remove(&problems->table, &p->link);
	e->cured(e->arg, p->path, p->len);
	free(p);
}

void
problems_expire(Problems *problems, uint64_t round,
				bool (*covers) (void *arg, const char *path, size_t len),
				void (*cured) (void *arg, const char *path, size_t len),
				void *arg)
{
	Expiry		e = {round, covers, cured, arg};

	for_each(problems, expire_one, &e);
}
