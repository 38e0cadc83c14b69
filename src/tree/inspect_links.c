/*-------------------------------------------------------------------------
 *
 * inspect_links.c
 *		The other names of files that were inspected.
 *
 * A change through one name is a change of all names, and an event speaks of
 * one.  So when a name was written, the other known names of its file (links.c)
 * are looked at as well.  That name may be gone by then, or another file, or one
 * that is not tracked: what counts is the file that it was.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>

#define HINT_WRITTEN	(HINT_CONTENT | HINT_CLOSED)

typedef struct OtherNames
{
	Engine	   *engine;
	const Point *point;
	const FileInfo *file;
} OtherNames;

static bool
look_at_other_name(void *arg, const char *path, size_t len)
{
	OtherNames *others = arg;
	Engine	   *engine = others->engine;
	FileInfo	info;

	/* where it cannot be looked at for want of anything, that is done later */
	if (inspect_stat(engine, path, len, &info) < 0 ?
		!inspect_starved(engine, path, len, errno) :
		info.dev != others->file->dev ||
		info.stat.inode != others->file->stat.inode)
		return false;
	pending_retry(&engine->pending, 0, path, len,
				  HINT_LINK | (others->point->hints & HINT_WRITTEN),
				  1, others->point->since_us, others->point->epoch, 0);
	return true;
}

/*
 * The file of the point has this state now.  A scan of everything sees all its
 * names anyway.
 */
void
inspect_links(Engine *engine, const Point *p)
{
	OtherNames	others = {engine, p, &p->info};

	if (p->info.nlink < 2)
		return;
	links_note(engine->links, &p->info, p->path, p->len);
	if ((p->hints & HINT_LINK) ||
		((p->hints & HINT_FOUND) && p->scan_id != 0 && p->scan_id == engine->full.id))
		return;
	if (!links_must_tell(engine->links, &p->info, engine->inspections,
						 p->hints & (HINT_WRITTEN | HINT_META | HINT_FOUND), p->epoch))
		return;
	if (!links_others(engine->links, &p->info, p->path, p->len, look_at_other_name,
					  &others) &&
		(p->hints & (HINT_WRITTEN | HINT_META | HINT_FOUND)))
		changes_want_subtree(engine, "", 0, p->epoch);
}

/*
 * The point was written, as far as events tell, and what was written is not its
 * file by now: it is gone, another one has its name, or it is not tracked.
 */
void
inspect_former_links(Engine *engine, const Point *p)
{
	FileInfo	file = p->info;
	OtherNames	others = {engine, p, &file};

	if (!(p->hints & HINT_WRITTEN) || (p->hints & HINT_LINK))
		return;
	if (p->has_belief && (p->error != 0 || p->info.stat.inode != p->belief.inode))
		file.stat.inode = p->belief.inode;
	else if (p->error == 0 || p->info.mode == 0)
		return;
	hash_pool_doubt(engine->pool, &file);
	(void) links_others(engine->links, &file, p->path, p->len, look_at_other_name, &others);
}

/*
 * The point's file may have been written, which need not show in its times.  What
 * other names wait for is read after this.
 */
void
inspect_doubt(Engine *engine, const Point *p)
{
	if (p->error == 0 && (p->hints & HINT_WRITTEN) && !(p->hints & HINT_LINK))
		hash_pool_doubt(engine->pool, &p->info);
}
