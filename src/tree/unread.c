/*-------------------------------------------------------------------------
 *
 * unread.c
 *		Files of which nothing but the ctime has moved.
 *
 * chmod -R, chown -R, setfacl -R and cp -al do that to a whole tree.  Most likely
 * its files are as they were; but a program can set back the times of what it has
 * written, so each is read again, and its row stays as it was until then.  Nobody
 * is in a hurry for that, and so they are read when nothing else is, one at a
 * time: their names wait in a list of their own, and a few at a time are with the
 * hash pool, in its low lane.  Barriers and scans wait for them as for any.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <string.h>

/* So many are with the pool, if no more than so many others are. */
#define UNREAD_HASHING		64
#define UNREAD_BESIDE		256

uint64_t
unread_count(const Engine *engine)
{
	return engine->pending.n_low + engine->low_items;
}

size_t
unread_room(const Engine *engine)
{
	/* not for one or two, each time */
	return engine->low_items > UNREAD_HASHING / 2 ||
		engine->items.count - engine->low_items > UNREAD_BESIDE ? 0 :
		UNREAD_HASHING - engine->low_items;
}

/*
 * Whether nothing but the ctime has moved since the row's hash was taken, and no
 * event tells of a write.
 */
static bool
only_ctime_moved(const Point *p)
{
	const ProtoBelief *b = &p->belief;
	const ProtoStat *s = &p->info.stat;

	return p->has_belief && !p->moved_away && b->has_hash && b->size == s->size &&
		b->mtime_ns == s->mtime_ns && b->inode == s->inode &&
		(b->btime_ns == s->btime_ns || b->btime_ns == PROTO_NO_TIME) &&
		b->ctime_ns != s->ctime_ns &&
		(p->hints & (HINT_CONTENT | HINT_CLOSED | HINT_MOVES)) == 0;
}

/* It is known by its directory, so that who renames it, or that, hears of it. */
static void
wait(Engine *engine, const Point *p)
{
	const char *slash = memrchr(p->path, '/', p->len);
	size_t		directory = slash ? (size_t) (slash - p->path) : 0;
	uint64_t	node = p->node;
	const char *name;

	if (node == 0 && engine->watches != NULL)
		node = watch_tree_node(engine->watches, p->path, directory);
	name = node != 0 && slash ? slash + 1 : p->path;
	(void) pending_low(&engine->pending, node, name, p->len - (name - p->path), p->hints,
					   p->since_us, p->epoch, p->scan_id);
}

bool
unread_put_off(Engine *engine, Point *p)
{
	bool		waited = p->low;

	p->low = only_ctime_moved(p);
	if (!p->low || waited || (engine->pending.n_low == 0 && unread_room(engine) > 0))
		return false;
	wait(engine, p);
	return true;
}
