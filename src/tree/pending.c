/*-------------------------------------------------------------------------
 *
 * pending.c
 *		Names that changed and are to be looked at, debounced.
 *
 * The interval is the same for all names, so a list in order of the last
 * event is in order of becoming due, and an event moves its name to the end.
 * Names that reach debounce_max_ms first are looked for by going through the
 * list, at most once in a debounce interval.
 *
 *-------------------------------------------------------------------------
 */
#include "pending.h"

#include <stdlib.h>
#include <string.h>

void
pending_init(Pending *pending)
{
	memset(pending, 0, sizeof(*pending));
	table_init(&pending->table);
	pending->oldest_us = INT64_MAX;
}

void
pending_clear(Pending *pending)
{
	PendingName *lists[2] = {pending->first, pending->retries};

	for (int i = 0; i < 2; i++)
	{
		while (lists[i] != NULL)
		{
			PendingName *next = lists[i]->next;

			free(lists[i]);
			lists[i] = next;
		}
	}
	table_clear(&pending->table);
	pending_init(pending);
}

static PendingName *
find(const Pending *pending, uint64_t node, const char *name, size_t len, uint64_t hash)
{
	for (TableLink *link = table_first(&pending->table, hash); link; link = table_next(link))
	{
		PendingName *p = table_container(link, PendingName, link);

		if (p->node == node && p->name_len == len && memcmp(p->name, name, len) == 0)
			return p;
	}
	return NULL;
}

static void
unlink_name(Pending *pending, PendingName *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else if (p->due_us != 0)
		pending->retries = p->next;
	else
		pending->first = p->next;
	if (p->next)
		p->next->prev = p->prev;
	else if (p->due_us == 0)
		pending->last = p->prev;
}

static void
link_name(Pending *pending, PendingName *p)
{
	p->next = p->prev = NULL;
	if (p->due_us != 0)
	{
		p->next = pending->retries;
		if (p->next)
			p->next->prev = p;
		pending->retries = p;
		return;
	}
	p->prev = pending->last;
	if (p->prev)
		p->prev->next = p;
	else
		pending->first = p;
	pending->last = p;
	if (p->first_us < pending->oldest_us)
		pending->oldest_us = p->first_us;
}

static PendingName *
add(Pending *pending, uint64_t node, const char *name, size_t len, uint64_t hash)
{
	PendingName *p = calloc(1, sizeof(PendingName) + len + 1);

	if (p == NULL || !table_insert(&pending->table, &p->link, hash))
	{
		free(p);
		return NULL;
	}
	p->node = node;
	p->name_len = len;
	memcpy(p->name, name, len);
	p->epoch = EPOCH_NONE;
	return p;
}

bool
pending_note(Pending *pending, uint64_t node, const char *name, size_t len,
			 unsigned hints, int64_t now_us, uint64_t epoch)
{
	uint64_t	hash = table_hash(name, len, node);
	PendingName *p = find(pending, node, name, len, hash);

	if (p == NULL)
	{
		p = add(pending, node, name, len, hash);
		if (p == NULL)
			return false;
		p->first_us = now_us;
	}
	else
		unlink_name(pending, p);
	p->hints |= hints;
	p->last_us = now_us;
	if (epoch < p->epoch)
		p->epoch = epoch;
	link_name(pending, p);
	return true;
}

unsigned
pending_hints(const Pending *pending, uint64_t node, const char *name, size_t len)
{
	PendingName *p = find(pending, node, name, len, table_hash(name, len, node));

	return p ? p->hints : 0;
}

bool
pending_retry(Pending *pending, const char *path, size_t len, unsigned hints,
			  int64_t due_us, uint64_t epoch, int64_t scan_id, unsigned retries)
{
	uint64_t	hash = table_hash(path, len, 0);
	PendingName *p = find(pending, 0, path, len, hash);

	if (p == NULL)
	{
		p = add(pending, 0, path, len, hash);
		if (p == NULL)
			return false;
	}
	else
		unlink_name(pending, p);
	p->hints |= hints;
	p->due_us = due_us > 0 ? due_us : 1;
	if (epoch < p->epoch)
		p->epoch = epoch;
	if (scan_id != 0)
		p->scan_id = scan_id;
	p->retries = retries;
	link_name(pending, p);
	return true;
}

static bool
is_due(const PendingName *p, const PendingRule *rule)
{
	bool		moved = (p->hints & (HINT_GONE | HINT_ARRIVED)) != 0;

	if (moved && rule->hold_moves)
		return false;
	if (p->epoch <= rule->flush_epoch || (moved && rule->moves))
		return true;
	if (p->due_us != 0)
		return p->due_us <= rule->now_us;
	return p->last_us + rule->debounce_us <= rule->now_us ||
		p->first_us + rule->debounce_max_us <= rule->now_us;
}

static PendingName *
take(Pending *pending, PendingName *p)
{
	unlink_name(pending, p);
	table_remove(&pending->table, &p->link);
	if (pending->first == NULL)
		pending->oldest_us = INT64_MAX;
	return p;
}

PendingName *
pending_take(Pending *pending, const PendingRule *rule)
{
	PendingName *p;
	bool		search;

	for (p = pending->retries; p != NULL; p = p->next)
		if (is_due(p, rule))
			return take(pending, p);
	p = pending->first;
	if (p == NULL)
		return NULL;
	if (is_due(p, rule))
		return take(pending, p);

	/* The head is the first by debounce; other reasons need a search. */
	search = rule->moves || rule->hold_moves || rule->flush_epoch > 0 ||
		pending->oldest_us + rule->debounce_max_us <= rule->now_us;
	if (!search)
		return NULL;
	pending->oldest_us = INT64_MAX;
	for (p = pending->first; p != NULL; p = p->next)
	{
		if (is_due(p, rule))
		{
			pending->oldest_us = 0;	/* not known: search again */
			return take(pending, p);
		}
		if (p->first_us < pending->oldest_us)
			pending->oldest_us = p->first_us;
	}
	return NULL;
}

int64_t
pending_due(const Pending *pending, const PendingRule *rule)
{
	int64_t		due = INT64_MAX;

	for (const PendingName *p = pending->retries; p != NULL; p = p->next)
		if (p->due_us < due)
			due = p->due_us;
	if (pending->first != NULL)
	{
		int64_t		by_last = pending->first->last_us + rule->debounce_us;
		int64_t		by_first = pending->oldest_us + rule->debounce_max_us;

		if (by_last < due)
			due = by_last;
		if (by_first < due)
			due = by_first;
	}
	return due;
}

uint64_t
pending_min_epoch(const Pending *pending)
{
	uint64_t	min = EPOCH_NONE;

	for (const PendingName *p = pending->retries; p != NULL; p = p->next)
		if (p->epoch < min)
			min = p->epoch;
	for (const PendingName *p = pending->first; p != NULL; p = p->next)
		if (p->epoch < min)
			min = p->epoch;
	return min;
}

bool
pending_has_scan(const Pending *pending, int64_t scan_id)
{
	for (const PendingName *p = pending->retries; p != NULL; p = p->next)
		if (p->scan_id == scan_id)
			return true;
	return false;
}
