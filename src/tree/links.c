/*-------------------------------------------------------------------------
 *
 * links.c
 *		Which paths are names of one file.
 *
 * A group is a file, by device and inode number; its names are a list of
 * strings.  Groups are bounded in number: beyond the bound nothing is noted,
 * and a write to such a file makes the engine search the tree.
 *
 *-------------------------------------------------------------------------
 */
#include "links.h"

#include "table.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LINKS_MAX_NAMES	1000000

/*
 * A walk misses names that are renamed while it reads their directory.  So a
 * name is kept, to be looked at, until that many walks in turn have missed it.
 */
#define LINKS_MISSED		4

typedef struct LinkName
{
	struct LinkName *next;
	uint64_t	round;			/* when it was noted last */
	size_t		len;
	char		path[];
} LinkName;

typedef struct LinkGroup
{
	TableLink	link;
	dev_t		dev;
	int64_t		inode;
	uint32_t	names;
	uint32_t	searched_nlink; /* st_nlink at the end of the last search that
								 * left names unknown; 0: none */
	uint32_t	nlink;
	unsigned	told_hints;		/* in this turn */
	uint64_t	told_turn;
	uint64_t	told_epoch;
	LinkName   *first;
} LinkGroup;

struct Links
{
	pthread_mutex_t lock;
	Table		groups;
	size_t		names;
	uint64_t	round;			/* of searches */
	bool		overflowed;		/* some name was one too many */
};

Links *
links_create(void)
{
	Links	   *links = calloc(1, sizeof(Links));

	if (links == NULL)
		return NULL;
	pthread_mutex_init(&links->lock, NULL);
	table_init(&links->groups);
	return links;
}

void
links_free(Links *links)
{
	for (size_t i = 0; i < links->groups.n_buckets; i++)
	{
		TableLink  *link = links->groups.buckets[i];

		while (link != NULL)
		{
			LinkGroup  *group = table_container(link, LinkGroup, link);

			link = link->next;
			while (group->first != NULL)
			{
				LinkName   *name = group->first;

				group->first = name->next;
				free(name);
			}
			free(group);
		}
	}
	table_clear(&links->groups);
	pthread_mutex_destroy(&links->lock);
	free(links);
}

static LinkGroup *
find(const Links *links, const FileInfo *info, uint64_t hash)
{
	for (TableLink *link = table_first(&links->groups, hash); link; link = table_next(link))
	{
		LinkGroup  *group = table_container(link, LinkGroup, link);

		if (group->dev == info->dev && group->inode == info->stat.inode)
			return group;
	}
	return NULL;
}

static void
drop_name(Links *links, LinkGroup *group, LinkName **p)
{
	LinkName   *name = *p;

	*p = name->next;
	free(name);
	group->names--;
	links->names--;
}

void
links_note(Links *links, const FileInfo *info, const char *path, size_t len)
{
	uint64_t	hash = table_hash(&info->stat.inode, sizeof(info->stat.inode), info->dev);
	LinkGroup  *group;
	LinkName   *name;

	pthread_mutex_lock(&links->lock);
	group = find(links, info, hash);
	if (group == NULL)
	{
		group = calloc(1, sizeof(LinkGroup));
		if (group == NULL)
			goto done;
		group->dev = info->dev;
		group->inode = info->stat.inode;
		if (!table_insert(&links->groups, &group->link, hash))
		{
			free(group);
			goto done;
		}
	}
	group->nlink = info->nlink;
	for (name = group->first; name != NULL; name = name->next)
		if (name->len == len && memcmp(name->path, path, len) == 0)
		{
			name->round = links->round;
			goto done;
		}
	if (links->names < LINKS_MAX_NAMES &&
		(name = malloc(sizeof(LinkName) + len + 1)) != NULL)
	{
		name->round = links->round;
		memcpy(name->path, path, len);
		name->path[len] = '\0';
		name->len = len;
		name->next = group->first;
		group->first = name;
		group->names++;
		links->names++;
	}
	else
		links->overflowed = true;
done:
	pthread_mutex_unlock(&links->lock);
}

bool
links_others(Links *links, const FileInfo *info, const char *path, size_t len,
			 bool (*report) (void *arg, const char *path, size_t len), void *arg)
{
	uint64_t	hash = table_hash(&info->stat.inode, sizeof(info->stat.inode), info->dev);
	LinkGroup  *group;
	bool		complete = false;

	pthread_mutex_lock(&links->lock);
	group = find(links, info, hash);
	if (group != NULL)
	{
		LinkName  **p = &group->first;

		while (*p != NULL)
		{
			LinkName   *name = *p;

			if ((name->len == len && memcmp(name->path, path, len) == 0) ||
				report(arg, name->path, name->len))
				p = &name->next;
			else
				drop_name(links, group, p);
		}
		complete = group->names >= info->nlink ||
			group->searched_nlink == info->nlink;
	}
	pthread_mutex_unlock(&links->lock);
	return complete;
}

bool
links_must_tell(Links *links, const FileInfo *info, uint64_t turn, unsigned hints,
				uint64_t epoch)
{
	uint64_t	hash = table_hash(&info->stat.inode, sizeof(info->stat.inode), info->dev);
	LinkGroup  *group;
	bool		must;

	pthread_mutex_lock(&links->lock);
	group = find(links, info, hash);
	must = group == NULL || group->told_turn != turn || (hints & ~group->told_hints) != 0 ||
		epoch < group->told_epoch;
	if (group != NULL && must)
	{
		group->told_hints = hints | (group->told_turn == turn ? group->told_hints : 0);
		group->told_epoch = epoch;
		group->told_turn = turn;
	}
	pthread_mutex_unlock(&links->lock);
	return must;
}

bool
links_any(Links *links)
{
	bool		any;

	pthread_mutex_lock(&links->lock);
	any = links->names > 0;
	pthread_mutex_unlock(&links->lock);
	return any;
}

uint64_t
links_search(Links *links)
{
	uint64_t	round;

	pthread_mutex_lock(&links->lock);
	round = ++links->round;
	pthread_mutex_unlock(&links->lock);
	return round;
}

void
links_searched(Links *links, uint64_t round)
{
	pthread_mutex_lock(&links->lock);
	for (size_t i = 0; i < links->groups.n_buckets; i++)
	{
		TableLink  *link = links->groups.buckets[i];

		while (link != NULL)
		{
			LinkGroup  *group = table_container(link, LinkGroup, link);
			LinkName  **p = &group->first;
			bool		met = false;

			link = link->next;
			while (*p != NULL)
			{
				met |= (*p)->round >= round;
				if ((*p)->round + LINKS_MISSED <= round)
					drop_name(links, group, p);
				else
					p = &(*p)->next;
			}
			group->searched_nlink = links->overflowed || !met ? 0 : group->nlink;
			if (group->first == NULL)
			{
				table_remove(&links->groups, &group->link);
				free(group);
			}
		}
	}
	pthread_mutex_unlock(&links->lock);
}
