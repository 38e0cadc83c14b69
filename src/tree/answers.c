/*-------------------------------------------------------------------------
 *
 * answers.c
 *		What fsync-tree says to a session that asks about a whole tree.
 *
 * As in messages.c, a reader takes nothing that a writer would not write: what
 * fsync-tree says may be anything.
 *
 *-------------------------------------------------------------------------
 */
#include "answers.h"

#include <string.h>

#define MAX_TEXT		(8 * 1024)

static ProtoStr
get_text(ProtoReader *r)
{
	ProtoStr	s = proto_get_str(r);

	if (s.len > MAX_TEXT || (s.len > 0 && memchr(s.data, '\0', s.len) != NULL))
		r->failed = true;
	return s;
}

static void
put_text(ProtoBuf *buf, ProtoStr s)
{
	proto_put_str(buf, s.data, s.len);
}

static bool
is_done(const ProtoReader *r)
{
	return !r->failed && r->p == r->end;
}

static void
put_end(ProtoBuf *buf, const AnswerEnd *m)
{
	proto_put_u8(buf, m->result);
	proto_put_u32(buf, (uint32_t) m->error);
	proto_put_i64(buf, m->unreadable);
}

static void
get_end(ProtoReader *r, AnswerEnd *m)
{
	m->result = proto_get_u8(r);
	m->error = (int32_t) proto_get_u32(r);
	m->unreadable = proto_get_i64(r);
	if (m->result > ANSWER_OTHER_ROOT || m->error < 0 || m->unreadable < 0)
		r->failed = true;
}

void
answer_put_end(ProtoBuf *buf, const AnswerEnd *m)
{
	put_end(buf, m);
}

bool
answer_get_end(ProtoReader *r, AnswerEnd *m)
{
	get_end(r, m);
	return is_done(r);
}

/* A list of paths, as many as there can be. */
static ProtoStr
get_paths(ProtoReader *r)
{
	ProtoStr	list = proto_get_str(r);
	ProtoReader elements = proto_reader(list.data, list.len);
	int			n = 0;

	while (!elements.failed && elements.p < elements.end)
	{
		ProtoStr	path = get_text(&elements);

		if (elements.failed || path.len == 0 || path.len > PROTO_PATH_MAX ||
			++n > ANSWER_MAX_PATHS)
			r->failed = true;
	}
	if (elements.failed)
		r->failed = true;
	return list;
}

void
answer_put_preview(ProtoBuf *buf, const AnswerPreview *m)
{
	put_end(buf, &m->end);
	proto_put_i64(buf, m->added);
	proto_put_i64(buf, m->removed);
	put_text(buf, m->first_added);
	put_text(buf, m->first_removed);
}

bool
answer_get_preview(ProtoReader *r, AnswerPreview *m)
{
	get_end(r, &m->end);
	m->added = proto_get_i64(r);
	m->removed = proto_get_i64(r);
	if (m->added < 0 || m->removed < 0)
		r->failed = true;
	m->first_added = get_paths(r);
	m->first_removed = get_paths(r);
	return is_done(r);
}

void
answer_put_ignored(ProtoBuf *buf, const AnswerIgnored *m)
{
	proto_put_u8(buf, m->directory ? 1 : 0);
	put_text(buf, m->path);
	put_text(buf, m->source);
	put_text(buf, m->rule);
	put_text(buf, m->rule_file);
	put_text(buf, m->detail);
}

bool
answer_get_ignored(ProtoReader *r, AnswerIgnored *m)
{
	uint8_t		directory = proto_get_u8(r);

	m->directory = directory == 1;
	m->path = get_text(r);
	m->source = get_text(r);
	m->rule = get_text(r);
	m->rule_file = get_text(r);
	m->detail = get_text(r);
	if (directory > 1 || m->path.len == 0 || m->source.len == 0)
		r->failed = true;
	return is_done(r);
}
