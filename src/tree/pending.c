/*-------------------------------------------------------------------------
 *
 * pending.c
 *		Names that changed and are to be looked at, debounced.
 *
 * The interval is the same for all names, so a list in order of the last
 * event is in order of becoming due, and an event moves its name to the end.
 * Names that reach debounce_max_ms first are looked for by going through the
 * list, at most once in a debounce interval.  Names that were moved are in a
 * list of their own, as they may be held.
 *
 *-------------------------------------------------------------------------
 */
#include "pending.h"

#include <stdlib.h>
#include <string.h>

/* Later than any time, also when an interval is added to it. */
#define PENDING_NEVER	(INT64_MAX / 2)

void
pending_init(Pending *pending)
{
	memset(pending, 0, sizeof(*pending));
	table_init(&pending->table);
	pending->names.oldest_us = PENDING_NEVER;
	pending->moves.oldest_us = PENDING_NEVER;
	pending->retries.oldest_us = PENDING_NEVER;
	pending->low.oldest_us = PENDING_NEVER;
	pending->news = 1;
}

static void
free_list(PendingList *list)
{
	PendingName *p = list->first;

	while (p != NULL)
	{
		PendingName *next = p->next;

		free(p);
		p = next;
	}
}

void
pending_clear(Pending *pending)
{
	uint64_t	news = pending->news;

	free_list(&pending->names);
	free_list(&pending->moves);
	free_list(&pending->retries);
	free_list(&pending->low);
	table_clear(&pending->table);
	pending_init(pending);
	pending->news = news;
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

/* The list that a name belongs to, by what is known of it now. */
static PendingList *
list_of(Pending *pending, const PendingName *p)
{
	if (p->low)
		return &pending->low;
	if (p->due_us != 0)
		return &pending->retries;
	return p->hints & HINT_MOVES ? &pending->moves : &pending->names;
}

static void
unlink_name(Pending *pending, PendingName *p)
{
	PendingList *list = list_of(pending, p);

	if (p->prev)
		p->prev->next = p->next;
	else
		list->first = p->next;
	if (p->next)
		p->next->prev = p->prev;
	else
		list->last = p->prev;
	if (list->first == NULL)
		list->oldest_us = PENDING_NEVER;
	pending->n_low -= p->low;
}

static void
link_name(Pending *pending, PendingName *p)
{
	PendingList *list = list_of(pending, p);

	p->next = NULL;
	p->prev = list->last;
	if (p->prev)
		p->prev->next = p;
	else
		list->first = p;
	list->last = p;
	if (p->first_us < list->oldest_us)
		list->oldest_us = p->first_us;
	pending->n_low += p->low;
}

/* The name, new or not, taken out of its list. */
static PendingName *
detached(Pending *pending, uint64_t node, const char *name, size_t len)
{
	uint64_t	hash = table_hash(name, len, node);
	PendingName *p = find(pending, node, name, len, hash);

	if (p != NULL)
	{
		unlink_name(pending, p);
		p->low = false;
		return p;
	}
	p = calloc(1, sizeof(PendingName) + len + 1);
	if (p == NULL || !table_insert(&pending->table, &p->link, hash))
	{
		free(p);
		pending->lost = true;
		return NULL;
	}
	p->node = node;
	p->name_len = len;
	memcpy(p->name, name, len);
	p->epoch = EPOCH_NONE;
	p->news = UINT64_MAX;
	return p;
}

PendingName *
pending_note(Pending *pending, uint64_t node, const char *name, size_t len,
			 unsigned hints, int64_t now_us, uint64_t epoch)
{
	PendingName *p = detached(pending, node, name, len);

	if (p == NULL)
		return NULL;
	if (p->last_us == 0)
		p->first_us = now_us;
	if (p->since_us == 0)
		p->since_us = now_us;

	/* it is news of its own now */
	p->hints = (p->hints & ~HINT_LINK) | hints;
	if (pending->news < p->news)
		p->news = pending->news;
	p->last_us = now_us;
	if (epoch < p->epoch)
		p->epoch = epoch;
	link_name(pending, p);
	return p;
}

PendingName *
pending_wait(Pending *pending, const char *path, size_t len, unsigned hints, int64_t now_us,
			 int64_t since_us, uint64_t epoch)
{
	uint64_t	news = pending->news;
	PendingName *p;

	pending->news = UINT64_MAX; /* it is none */
	p = pending_note(pending, 0, path, len, hints, now_us, epoch);
	pending->news = news;
	if (p != NULL && since_us != 0 && since_us < p->since_us)
		p->since_us = since_us;
	return p;
}

unsigned
pending_hints(const Pending *pending, uint64_t node, const char *name, size_t len)
{
	PendingName *p = find(pending, node, name, len, table_hash(name, len, node));

	return p ? p->hints : 0;
}

static bool
has_name(const PendingList *list, const char *name, size_t len)
{
	for (const PendingName *p = list->first; p != NULL; p = p->next)
		if (p->name_len >= len && memcmp(p->name + p->name_len - len, name, len) == 0 &&
			(p->name_len == len || p->name[p->name_len - len - 1] == '/'))
			return true;
	return false;
}

bool
pending_has_name(const Pending *pending, const char *name, size_t len)
{
	return has_name(&pending->names, name, len) ||
		has_name(&pending->moves, name, len) ||
		has_name(&pending->retries, name, len) ||
		has_name(&pending->low, name, len);
}

PendingName *
pending_retry(Pending *pending, uint64_t node, const char *name, size_t len,
			  unsigned hints, int64_t due_us, int64_t since_us, uint64_t epoch,
			  int64_t scan_id)
{
	PendingName *p = detached(pending, node, name, len);

	if (p == NULL)
		return NULL;
	if ((p->last_us != 0 || p->due_us != 0) && !(p->hints & HINT_LINK))
		hints &= ~HINT_LINK;
	p->hints |= hints;
	p->due_us = due_us > 0 ? due_us : 1;
	if (epoch < p->epoch)
		p->epoch = epoch;
	if (since_us != 0 && (p->since_us == 0 || since_us < p->since_us))
		p->since_us = since_us;
	if (scan_id != 0)
		p->scan_id = scan_id;
	link_name(pending, p);
	return p;
}

PendingName *
pending_starve(Pending *pending, uint64_t node, const char *name, size_t len,
			   unsigned hints, int64_t due_us, int64_t since_us, uint64_t epoch,
			   int64_t scan_id)
{
	PendingName *p = pending_retry(pending, node, name, len, hints, due_us, since_us, epoch,
								   scan_id);

	if (p == NULL)
		return NULL;
	pending->starved += !p->starved;
	p->starved = true;
	return p;
}

PendingName *
pending_low(Pending *pending, uint64_t node, const char *name, size_t len, unsigned hints,
			int64_t since_us, uint64_t epoch, int64_t scan_id)
{
	PendingName *p = pending_retry(pending, node, name, len, hints | HINT_UNREAD, 1, since_us,
								   epoch, scan_id);

	/* what is known of it by an event already, or as an end of a rename, comes first */
	if (p == NULL || p->last_us != 0 || p->starved ||
		(p->hints & (HINT_MOVES | HINT_CONTENT | HINT_CLOSED)))
		return p;
	unlink_name(pending, p);
	p->low = true;
	p->due_us = 0;
	link_name(pending, p);
	return p;
}

static bool
is_due(const PendingName *p, const PendingRule *rule)
{
	bool		moved = (p->hints & HINT_MOVES) != 0;

	if (p->low)
		return true;
	if ((moved && rule->hold_moves) || (p->starved && p->due_us > rule->now_us))
		return false;
	if (p->epoch <= rule->flush_epoch || (moved && rule->moves && p->news != UINT64_MAX))
		return true;
	if (p->due_us != 0)
		return p->due_us <= rule->now_us;
	return p->last_us + rule->debounce_us <= rule->now_us ||
		p->first_us + rule->debounce_max_us <= rule->now_us;
}

/* Whether names behind the first that is not due may be due. */
static bool
must_search(const Pending *pending, const PendingList *list, const PendingRule *rule)
{
	return list == &pending->retries || rule->flush_epoch > 0 ||
		(list == &pending->moves && rule->moves) ||
		list->oldest_us + rule->debounce_max_us <= rule->now_us;
}

static size_t
collect(Pending *pending, PendingList *list, const PendingRule *rule, size_t max,
		bool (*take) (void *arg, const PendingName *name), void *arg)
{
	bool		search = must_search(pending, list, rule);
	int64_t		oldest = PENDING_NEVER;
	size_t		taken = 0;
	PendingName *next;

	for (PendingName *p = list->first; p != NULL; p = next)
	{
		bool		due = is_due(p, rule);

		next = p->next;
		if (taken == max || (!due && !search))
			return taken;
		if (due && take(arg, p))
		{
			unlink_name(pending, p);
			table_remove(&pending->table, &p->link);
			pending->starved -= p->starved;
			free(p);
			taken++;
		}
		else if (p->first_us < oldest)
			oldest = p->first_us;
	}
	list->oldest_us = oldest;
	return taken;
}

void
pending_collect(Pending *pending, const PendingRule *rule, size_t max,
				bool (*take) (void *arg, const PendingName *name), void *arg)
{
	PendingList *lists[3] = {&pending->retries, &pending->names, &pending->moves};

	for (int i = 0; i < 3; i++)
	{
		if (lists[i] != &pending->moves || !rule->hold_moves)
			max -= collect(pending, lists[i], rule, max, take, arg);
	}
	(void) collect(pending, &pending->low, rule, rule->low < max ? rule->low : max, take, arg);
}

int64_t
pending_due(const Pending *pending, const PendingRule *rule)
{
	const PendingList *lists[2] = {&pending->names, &pending->moves};
	int64_t		due = INT64_MAX;

	if (rule->low > 0 && pending->low.first != NULL)
		return rule->now_us;
	for (const PendingName *p = pending->retries.first; p != NULL; p = p->next)
		if (p->due_us < due && !(rule->hold_moves && (p->hints & HINT_MOVES)))
			due = p->due_us;
	for (int i = 0; i < (rule->hold_moves ? 1 : 2); i++)
	{
		if (lists[i]->first == NULL)
			continue;
		if (lists[i]->first->last_us + rule->debounce_us < due)
			due = lists[i]->first->last_us + rule->debounce_us;
		if (lists[i]->oldest_us + rule->debounce_max_us < due)
			due = lists[i]->oldest_us + rule->debounce_max_us;
	}
	return due;
}

uint64_t
pending_min_epoch(const Pending *pending)
{
	const PendingList *lists[4] = {
		&pending->retries, &pending->names, &pending->moves, &pending->low
	};
	uint64_t	min = EPOCH_NONE;

	for (int i = 0; i < 4; i++)
		for (const PendingName *p = lists[i]->first; p != NULL; p = p->next)
			if (p->epoch < min)
				min = p->epoch;
	return min;
}

uint64_t
pending_min_news(const Pending *pending)
{
	const PendingList *lists[2] = {&pending->retries, &pending->moves};
	uint64_t	min = UINT64_MAX;

	for (int i = 0; i < 2; i++)
		for (const PendingName *p = lists[i]->first; p != NULL; p = p->next)
			if ((p->hints & HINT_MOVES) && p->news < min)
				min = p->news;
	return min;
}

bool
pending_has_scan(const Pending *pending, int64_t scan_id)
{
	const PendingList *lists[2] = {&pending->retries, &pending->low};

	for (int i = 0; i < 2; i++)
		for (const PendingName *p = lists[i]->first; p != NULL; p = p->next)
			if (p->scan_id == scan_id)
				return true;
	return false;
}

void
pending_drop_scan(Pending *pending, int64_t scan_id)
{
	const PendingList *lists[2] = {&pending->retries, &pending->low};

	for (int i = 0; i < 2; i++)
		for (PendingName *p = lists[i]->first; p != NULL; p = p->next)
			if (p->scan_id == scan_id)
				p->scan_id = 0;
}

void
pending_renew(Pending *pending, uint64_t epoch)
{
	const PendingList *lists[2] = {&pending->retries, &pending->low};

	for (int i = 0; i < 2; i++)
		for (PendingName *p = lists[i]->first; p != NULL; p = p->next)
		{
			p->retries = 0;
			if (p->epoch == EPOCH_NONE && p->scan_id == 0)
				p->epoch = epoch;
		}
}
