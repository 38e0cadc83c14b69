/*-------------------------------------------------------------------------
 *
 * fuzz_talk.c
 *		Any bytes as what fsync-tree says to the worker, between any bytes as
 *		what the worker said to it.
 *
 * What passes is looked at once more, in words of its own, for what the worker
 * relies on: paths that name something below the root, sizes that are none
 * below zero, answers to what was asked, counts that memory is allocated by.
 * No input takes memory beyond what the conversation may keep.
 *
 *-------------------------------------------------------------------------
 */
#include "talk.h"

#include <stdlib.h>
#include <string.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
	if (!holds)
		abort();
}

static bool
names_something_below(ProtoStr path)
{
	char		text[PROTO_PATH_MAX + 3];

	if (path.len == 0 || path.len > PROTO_PATH_MAX || memchr(path.data, 0, path.len) != NULL)
		return false;
	text[0] = '/';
	memcpy(text + 1, path.data, path.len);
	text[path.len + 1] = '/';
	text[path.len + 2] = '\0';
	return strstr(text, "//") == NULL && strstr(text, "/./") == NULL &&
		strstr(text, "/../") == NULL;
}

static void
look_at_observations(const Talk *talk, ProtoReader body)
{
	uint32_t	n = proto_get_u32(&body);

	must(n <= PROTO_MAX_MOVES || n <= PROTO_SCAN_BATCHES * talk->batch_size);
	for (uint32_t i = 0; i < n; i++)
	{
		ProtoObservation o;

		must(proto_get_observation(&body, &o));
		switch (o.op)
		{
			case PROTO_OP_MOVED:
			case PROTO_OP_ADDED:
			case PROTO_OP_UPDATED:
			case PROTO_OP_TOUCHED:
				must(names_something_below(o.path));
				must(o.stat.size >= 0 && o.stat.mtime_nsec >= 0 &&
					 o.stat.mtime_nsec < 1000000000);
				break;
			case PROTO_OP_PROBLEM:
				must(o.problem >= PROTO_PROBLEM_PERMISSION &&
					 o.problem <= PROTO_PROBLEM_MOUNT);
				break;
			case PROTO_OP_REMOVED:
			case PROTO_OP_CLEAR:
				break;
			default:
				abort();
		}
	}
	must(body.p == body.end);
}

static void
look_at(const Talk *talk, uint8_t type, ProtoReader body)
{
	ProtoBeliefsRequest request;
	ProtoState	state;

	must(talk->greeted);
	switch (type)
	{
		case PROTO_OBSERVATIONS:
			look_at_observations(talk, body);
			break;
		case PROTO_BELIEFS_REQUEST:
			must(proto_get_beliefs_request(&body, &request));
			must(request.kind == PROTO_BELIEFS_PATHS ?
				 request.paths.len <= PROTO_MAX_PATHS * (4 + PROTO_PATH_MAX) :
				 request.limit <= PROTO_MAX_RANGE);
			break;
		case PROTO_STATE:
			must(proto_get_state(&body, &state));
			must(state.identity.len < CHECK_IDENTITY_MAX &&
				 state.reason.len <= CHECK_TEXT_MAX && state.hint.len <= CHECK_TEXT_MAX);
			break;
		default:
			break;
	}
}

/*
 * The first byte of each piece says who speaks, the next two how much; frames
 * may be cut in two by it.
 */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Talk		talk;
	ProtoBuf	in;
	ProtoBuf	out;
	int64_t		now_us = 0;
	bool		lied = false;

	talk_init(&talk, now_us);
	proto_buf_init(&in);
	proto_buf_init(&out);
	in.max_frame = PROTO_MAX_TREE_FRAME;
	while (size >= 3 && !lied)
	{
		bool		of_worker = (data[0] & 1) != 0;
		size_t		len = (size_t) data[1] | (size_t) data[2] << 8;
		ProtoBuf   *to = of_worker ? &out : &in;

		now_us += data[0] >> 1;
		data += 3;
		size -= 3;
		if (len > size)
			len = size;
		proto_put_bytes(to, data, len);
		data += len;
		size -= len;
		if (of_worker)
		{
			talk_note(&talk, &out);
			continue;
		}
		for (;;)
		{
			ProtoReader body;
			uint8_t		type;
			int			next = proto_next(&in, &type, &body);

			lied |= next < 0;
			if (next <= 0)
				break;
			if (talk_hear(&talk, type, body, now_us) != NULL)
			{
				lied = true;
				break;
			}
			look_at(&talk, type, body);
		}
	}
	talk_free(&talk);
	proto_buf_free(&in);
	proto_buf_free(&out);
	return 0;
}
