/*-------------------------------------------------------------------------
 *
 * halves.c
 *		Ends of renames that wait for the other end.
 *
 * Each is in two tables, by its name and by the identity of its file or files,
 * and in one of two lists: those that wait, in order of their news, so that
 * those that have waited long enough come first; and those that have met.
 *
 *-------------------------------------------------------------------------
 */
#include "halves.h"

#include "pending.h"
#include "protocol.h"

#include <stdlib.h>
#include <string.h>

void
halves_init(Halves *halves)
{
	memset(halves, 0, sizeof(*halves));
	table_init(&halves->names);
	table_init(&halves->groups);
}

/* ---- lists ---- */

static void
list_append(Halves *halves, Half *half)
{
	HalfList   *list = half->met ? &halves->met : &halves->waiting;

	half->next = NULL;
	half->prev = list->last;
	if (list->last != NULL)
		list->last->next = half;
	else
		list->first = half;
	list->last = half;
}

static void
list_remove(Halves *halves, Half *half)
{
	HalfList   *list = half->met ? &halves->met : &halves->waiting;

	if (half->prev != NULL)
		half->prev->next = half->next;
	else
		list->first = half->next;
	if (half->next != NULL)
		half->next->prev = half->prev;
	else
		list->last = half->prev;
}

/* ---- files ---- */

/* Inode numbers are small and dense; the birth time tells which of two uses. */
static uint64_t
hash_file(HalfKind kind, const HalfFile *file)
{
	int64_t		key[2] = {file->inode, file->btime_ns};

	return table_hash(key, sizeof(key), kind);
}

bool
halves_same_file(const HalfFile *a, const HalfFile *b)
{
	/* Without a birth time an inode number says little. */
	return a->inode == b->inode && a->btime_ns == b->btime_ns &&
		(a->btime_ns != PROTO_NO_TIME || (a->size == b->size && a->mtime_ns == b->mtime_ns));
}

static HalfGroup *
find_group(const Halves *halves, HalfKind kind, const HalfFile *file)
{
	for (TableLink *link = table_first(&halves->groups, hash_file(kind, file)); link;
		 link = table_next(link))
	{
		HalfGroup  *group = table_container(link, HalfGroup, link);

		if (group->kind == kind && halves_same_file(&group->file, file))
			return group;
	}
	return NULL;
}

/* NULL when out of memory. */
static HalfGroup *
find_or_make_group(Halves *halves, HalfKind kind, const HalfFile *file)
{
	HalfGroup  *group = find_group(halves, kind, file);

	if (group != NULL || (group = calloc(1, sizeof(HalfGroup))) == NULL)
		return group;
	group->kind = kind;
	group->file = *file;
	if (table_insert(&halves->groups, &group->link, hash_file(kind, file)))
		return group;
	free(group);
	return NULL;
}

static void
unlink_end(HalfEnd *end)
{
	HalfGroup  *group = end->group;

	if (end->prev != NULL)
		end->prev->next = end->next;
	else
		group->first = end->next;
	if (end->next != NULL)
		end->next->prev = end->prev;
	else
		group->last = end->prev;
}

/* Those without a partner come first. */
static void
link_end(HalfEnd *end, bool has_partner)
{
	HalfGroup  *group = end->group;

	end->prev = has_partner ? group->last : NULL;
	end->next = has_partner ? NULL : group->first;
	if (end->prev != NULL)
		end->prev->next = end;
	else
		group->first = end;
	if (end->next != NULL)
		end->next->prev = end;
	else
		group->last = end;
}

static void
clear_ends(Halves *halves, Half *half)
{
	for (int kind = 0; kind < HALF_KINDS; kind++)
	{
		HalfEnd    *end = &half->ends[kind];

		if (end->half == NULL)
			continue;
		unlink_end(end);
		if (end->group->first == NULL)
		{
			table_remove(&halves->groups, &end->group->link);
			free(end->group);
		}
		end->half = NULL;
	}
}

static void
set_partner(Half *half, Half *partner)
{
	half->partner = partner;
	for (int kind = 0; kind < HALF_KINDS; kind++)
	{
		HalfEnd    *end = &half->ends[kind];

		if (end->half == NULL)
			continue;
		unlink_end(end);
		link_end(end, partner != NULL);
	}
}

Half *
halves_find(const Halves *halves, HalfKind kind, const HalfFile *file)
{
	HalfGroup  *group = find_group(halves, kind, file);

	return group != NULL && group->first->half->partner == NULL ? group->first->half : NULL;
}

/* ---- names ---- */

Half *
halves_of_name(const Halves *halves, uint64_t node, const char *name, size_t len)
{
	for (TableLink *link = table_first(&halves->names, table_hash(name, len, node)); link;
		 link = table_next(link))
	{
		Half	   *half = table_container(link, Half, by_name);

		if (half->node == node && half->name_len == len && memcmp(half->name, name, len) == 0)
			return half;
	}
	return NULL;
}

static void
part(Half *half)
{
	if (half->partner == NULL)
		return;
	set_partner(half->partner, NULL);
	set_partner(half, NULL);
}

static Half *
new_half(Halves *halves, uint64_t node, const char *name, size_t len)
{
	Half	   *half = calloc(1, sizeof(Half) + len + 1);

	if (half == NULL ||
		!table_insert(&halves->names, &half->by_name, table_hash(name, len, node)))
	{
		free(half);
		return NULL;
	}
	half->node = node;
	half->name_len = len;
	memcpy(half->name, name, len);
	half->epoch = EPOCH_NONE;
	list_append(halves, half);
	return half;
}

Half *
halves_add(Halves *halves, uint64_t node, const char *name, size_t len,
		   const HalfFile *const ends[HALF_KINDS], uint64_t news)
{
	Half	   *half = halves_of_name(halves, node, name, len);

	if (half == NULL)
		half = new_half(halves, node, name, len);
	if (half == NULL)
		return NULL;
	part(half);
	clear_ends(halves, half);
	for (int kind = 0; kind < HALF_KINDS; kind++)
	{
		HalfEnd    *end = &half->ends[kind];

		if (ends[kind] == NULL)
			continue;
		end->group = find_or_make_group(halves, kind, ends[kind]);
		if (end->group == NULL)
		{
			halves_remove(halves, half);
			return NULL;
		}
		end->half = half;
		end->file = *ends[kind];
		if (news < end->group->renewed)
			end->group->renewed = 0;
		link_end(end, false);
	}
	list_remove(halves, half);
	half->met = false;
	half->news = news;
	list_append(halves, half);
	return half;
}

void
halves_meet(Halves *halves, Half *a, Half *b)
{
	Half	   *both[2] = {a, b};

	for (int i = 0; i < 2; i++)
	{
		part(both[i]);
		list_remove(halves, both[i]);
		both[i]->met = true;
		list_append(halves, both[i]);
	}
	set_partner(a, b);
	set_partner(b, a);
}

void
halves_renew(Halves *halves, HalfKind kind, const HalfFile *file, uint64_t news)
{
	HalfGroup  *group = find_group(halves, kind, file);

	if (group == NULL || group->renewed == news)
		return;
	group->renewed = news;
	for (HalfEnd *end = group->first; end != NULL; end = end->next)
	{
		if (end->half->met)
			continue;
		list_remove(halves, end->half);
		end->half->news = news;
		list_append(halves, end->half);
	}
}

void
halves_remove(Halves *halves, Half *half)
{
	part(half);
	clear_ends(halves, half);
	table_remove(&halves->names, &half->by_name);
	list_remove(halves, half);
	free(half);
}

void
halves_clear(Halves *halves)
{
	HalfList   *lists[2] = {&halves->waiting, &halves->met};

	for (int i = 0; i < 2; i++)
	{
		Half	   *half = lists[i]->first;

		while (half != NULL)
		{
			Half	   *next = half->next;

			clear_ends(halves, half);
			free(half);
			half = next;
		}
	}
	table_clear(&halves->names);
	table_clear(&halves->groups);
	halves_init(halves);
}

/* ---- all of them ---- */

static const Half *
first_of(const Halves *halves)
{
	return halves->met.first ? halves->met.first : halves->waiting.first;
}

static const Half *
after(const Halves *halves, const Half *half)
{
	return half->next == NULL && half->met ? halves->waiting.first : half->next;
}

bool
halves_has_name(const Halves *halves, const char *name, size_t len)
{
	for (const Half *h = first_of(halves); h != NULL; h = after(halves, h))
		if (h->name_len >= len && memcmp(h->name + h->name_len - len, name, len) == 0 &&
			(h->name_len == len || h->name[h->name_len - len - 1] == '/'))
			return true;
	return false;
}

uint64_t
halves_min_epoch(const Halves *halves)
{
	uint64_t	min = EPOCH_NONE;

	for (const Half *h = first_of(halves); h != NULL; h = after(halves, h))
		if (h->epoch < min)
			min = h->epoch;
	return min;
}

bool
halves_has_scan(const Halves *halves, int64_t scan_id)
{
	for (const Half *h = first_of(halves); h != NULL; h = after(halves, h))
		if (h->scan_id == scan_id)
			return true;
	return false;
}

void
halves_drop_scan(Halves *halves, int64_t scan_id)
{
	for (Half *h = (Half *) first_of(halves); h != NULL; h = (Half *) after(halves, h))
		if (h->scan_id == scan_id)
			h->scan_id = 0;
}
