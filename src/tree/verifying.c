/*-------------------------------------------------------------------------
 *
 * verifying.c
 *		A verification, as the worker asks for it: files to be read again, and
 *		what came of it.
 *
 * It has no part in what the engine believes and reports.  A verdict goes to
 * the worker, which alone knows whether the row is still the one that the file
 * was compared with; nothing is said of a file about which more is to be heard.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"
#include "verify.h"

#include <stdlib.h>
#include <string.h>

static void
free_items(VerifyItem *items)
{
	while (items != NULL)
	{
		VerifyItem *next = items->next;

		free(items);
		items = next;
	}
}

/* The files of the message as a list; false: it does not parse. */
static bool
read_items(ProtoReader body, uint32_t count, VerifyItem **items)
{
	VerifyItem **end = items;

	*items = NULL;
	while (count-- > 0)
	{
		ProtoBelief belief;
		VerifyItem *item;

		if (!proto_get_belief(&body, &belief) || !belief.has_hash)
			return false;
		item = calloc(1, sizeof(VerifyItem) + belief.path.len + 1);
		if (item == NULL)
			return false;
		memcpy(item->path, belief.path.data, belief.path.len);
		item->belief = belief;
		item->belief.path.data = item->path;
		*end = item;
		end = &item->next;
	}
	return body.p == body.end;
}

/* Answers that there is nothing to be read now. */
static void
report_none(Engine *engine, int64_t run_id)
{
	ProtoVerifiedHeader header = {.run_id = run_id, .last = true};

	report_end_frame(engine);
	proto_begin(&engine->out, PROTO_VERIFIED);
	proto_put_verified_header(&engine->out, &header);
	proto_end(&engine->out);
}

bool
verifying_start(Engine *engine, ProtoReader body)
{
	ProtoVerify m;
	VerifyItem *items;

	if (!proto_get_verify(&body, &m) || engine->verify_run != 0)
		return false;
	if (!read_items(body, m.count, &items))
	{
		free_items(items);
		return false;
	}
	if (engine->verify == NULL)
		engine->verify = verify_create(engine->wake_fd);
	if (items == NULL || !engine->running || engine->verify == NULL ||
		root_open(&engine->root, false) != ROOT_OK ||
		verify_submit(engine->verify, items, engine->root.fd, m.rate) < 0)
	{
		free_items(items);
		report_none(engine, m.run_id);
		return true;
	}
	engine->verify_run = m.run_id;
	return true;
}

void
verifying_cancel(Engine *engine, int64_t run_id)
{
	if (engine->verify_run != 0 && engine->verify_run == run_id)
		verify_cancel(engine->verify);
}

/* Whether the verdict is not one on the file of the row after all. */
static bool
is_stale(Engine *engine, const VerifyItem *item)
{
	const char *slash = memrchr(item->path, '/', item->belief.path.len);
	const char *name = slash ? slash + 1 : item->path;
	FileInfo	now;

	return root_guards(&engine->root, item->path, item->belief.path.len) ||
		hashing_due(engine, item->path, item->belief.path.len) ||
		pending_has_name(&engine->pending, name, strlen(name)) ||
		halves_has_name(&engine->halves, name, strlen(name)) ||
		beneath_stat(engine->root.fd, item->path, item->belief.path.len, &now) < 0 ||
		!scan_belief_matches(&item->belief, &now.stat);
}

/* Sends verdicts that have come. */
void
verifying_report(Engine *engine)
{
	ProtoVerifiedHeader header = {.run_id = engine->verify_run};
	VerifyItem *items;
	bool		trusted;
	size_t		count_at;

	if (engine->verify_run == 0)
		return;
	items = verify_collect(engine->verify, &header.last);
	if (items == NULL)
		return;
	trusted = root_open(&engine->root, false) == ROOT_OK &&
		root_verify(&engine->root) == ROOT_OK;
	if (engine->reader != NULL)
	{
		events_drain(engine->reader);
		changes_process_events(engine);
	}

	report_end_frame(engine);
	proto_begin(&engine->out, PROTO_VERIFIED);
	count_at = proto_put_verified_header(&engine->out, &header);
	for (VerifyItem *item = items; item != NULL; item = item->next)
	{
		ProtoVerified *result = &item->result;

		if (item->cancelled)
			continue;
		if (result->verdict != PROTO_VERIFIED_RIGHT &&
			result->verdict != PROTO_VERIFIED_CHANGED &&
			(!trusted || is_stale(engine, item)))
			result->verdict = PROTO_VERIFIED_CHANGED;
		result->id = item->belief.id;
		memcpy(result->expected, item->belief.hash, PROTO_HASH_LEN);
		proto_put_verified(&engine->out, result);
		header.count++;
	}
	proto_patch_u32(&engine->out, count_at, header.count);
	proto_end(&engine->out);
	free_items(items);
	if (header.last)
		engine->verify_run = 0;
}
