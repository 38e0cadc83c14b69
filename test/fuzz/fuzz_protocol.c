/*-------------------------------------------------------------------------
 *
 * fuzz_protocol.c
 *		Any bytes as a stream of frames: nothing may crash or be misread.
 *
 * Each frame is decoded as what its type says.  What a decoder accepts is
 * written again and must decode once more: a value that passes the checks but
 * cannot be said is a bug.
 *
 *-------------------------------------------------------------------------
 */
#include "identity.h"
#include "protocol.h"

#include <stdlib.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Decodes the body and, where that went well, what is written of it. */
#define AGAIN(kind, Type) \
	do { \
		Type m; \
		if (proto_get_##kind(body, &m)) \
		{ \
			proto_begin(&again, PROTO_LOG); \
			proto_put_##kind(&again, &m); \
			proto_end(&again); \
			if (proto_next(&again, &type2, &body2) != 1 || \
				!proto_get_##kind(&body2, &m) || body2.p != body2.end) \
				abort(); \
		} \
	} while (0)

static void
one_frame(uint8_t type, ProtoReader *body)
{
	ProtoBuf	again;
	ProtoReader body2;
	uint8_t		type2;

	proto_buf_init(&again);
	switch (type)
	{
		case PROTO_INIT:
			AGAIN(init, ProtoInit);
			break;
		case PROTO_CONFIG:
			AGAIN(config, ProtoConfig);
			break;
		case PROTO_SCAN:
			AGAIN(scan, ProtoScan);
			break;
		case PROTO_BELIEFS:
			{
				ProtoBeliefsHeader header;

				if (!proto_get_beliefs_header(body, &header))
					break;
				for (uint32_t i = 0; i < header.count && !body->failed; i++)
					AGAIN(belief, ProtoBelief);
				break;
			}
		case PROTO_BELIEFS_REQUEST:
			AGAIN(beliefs_request, ProtoBeliefsRequest);
			break;
		case PROTO_OBSERVATIONS:
			{
				uint32_t	count = proto_get_u32(body);

				for (uint32_t i = 0; i < count && !body->failed; i++)
					AGAIN(observation, ProtoObservation);
				break;
			}
		case PROTO_STATE:
			{
				ProtoReader copy = *body;
				ProtoState	state;
				MountSet	set;

				AGAIN(state, ProtoState);
				if (proto_get_state(&copy, &state))
				{
					identity_same(state.identity, state.reason);
					if (mounts_decode(state.mounts, &set) == 0)
						mounts_free(&set);
				}
				break;
			}
		case PROTO_PROGRESS:
			AGAIN(progress, ProtoProgress);
			break;
		case PROTO_STATISTICS:
			AGAIN(statistics, ProtoStatistics);
			break;
		case PROTO_WHY:
			AGAIN(why, ProtoWhy);
			break;
		case PROTO_SCAN_DONE:
			AGAIN(scan_done, ProtoScanDone);
			break;
		case PROTO_VERIFY:
			{
				ProtoVerify verify;

				if (!proto_get_verify(body, &verify))
					break;
				for (uint32_t i = 0; i < verify.count && !body->failed; i++)
					AGAIN(belief, ProtoBelief);
				break;
			}
		case PROTO_VERIFIED:
			{
				ProtoVerifiedHeader header;

				if (!proto_get_verified_header(body, &header))
					break;
				for (uint32_t i = 0; i < header.count && !body->failed; i++)
					AGAIN(verified, ProtoVerified);
				break;
			}
		case PROTO_LOG:
			{
				/* Text as mountinfo: the other reader of foreign bytes. */
				ProtoStr	text = proto_get_str(body);
				MountSet	set;

				if (mounts_parse(text.data, text.len, "/r", &set) == 0)
				{
					MountSet	back;
					ProtoStr	list;

					mounts_encode(&set, &again);
					list.data = again.data;
					list.len = (uint32_t) proto_buf_pending(&again);
					if (mounts_decode(list, &back) != 0 || back.count != set.count)
						abort();
					mounts_free(&back);
					mounts_free(&set);
				}
				break;
			}
		default:
			proto_get_i64(body);
			break;
	}
	proto_buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtoBuf	buf;
	ProtoReader body;
	uint8_t		type;
	char	   *to;

	proto_buf_init(&buf);
	to = proto_buf_reserve(&buf, size);
	for (size_t i = 0; i < size; i++)
		to[i] = (char) data[i];
	buf.len += size;
	while (proto_next(&buf, &type, &body) == 1)
		one_frame(type, &body);
	proto_buf_free(&buf);
	return 0;
}
