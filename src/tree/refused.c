/*-------------------------------------------------------------------------
 *
 * refused.c
 *		Files whose rows the database refused.
 *
 * Such a file is a row of fsync_problems that the worker made, and there is no
 * belief of it.  When it goes, nothing would be reported but that it has gone.
 *
 * Where another transaction held the row, the database may take tomorrow what
 * it refused today, and no event will say so: then the worker asks.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "beneath.h"

#include <errno.h>

bool
refused_has_gone(const Engine *engine, const char *path, size_t len)
{
	FileInfo	info;

	return !root_guards(&engine->root, path, len) &&
		inspect_stat(engine, path, len, &info) < 0 && errno == ENOENT;
}

bool
refused_take(Engine *engine, ProtoReader body)
{
	uint32_t	n = proto_get_u32(&body);

	for (uint32_t i = 0; i < n && !body.failed; i++)
	{
		ProtoStr	path = proto_get_str(&body);

		if (body.failed || path.len > PROTO_PATH_MAX)
			return false;

		/* what was seen of its going, if it has gone, was seen before this */
		if (engine->running && root_open(&engine->root, false) == ROOT_OK &&
			refused_has_gone(engine, path.data, path.len))
			report_cured(engine, path.data, path.len, 0);
		else
			problems_note(&engine->refused, path.data, path.len);
	}
	if (engine->running)
		spelling_forget(engine->spelling);
	return !body.failed;
}

/*
 * All at once, as half of them may be the old names of renames of which the
 * others are the new ones.  A flush that comes next waits for them.
 */
bool
refused_look(Engine *engine, ProtoReader body)
{
	while (!body.failed && body.p < body.end)
	{
		ProtoStr	path = proto_get_str(&body);

		if (body.failed || path.len > PROTO_PATH_MAX)
			return false;
		if (engine->running)
			(void) pending_retry(&engine->pending, 0, path.data, path.len, HINT_HALF, 1, 0,
								 engine->epoch, 0);
	}
	return !body.failed;
}
