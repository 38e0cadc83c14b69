/*-------------------------------------------------------------------------
 *
 * protocol.c
 *		Frames on a socket: growing buffers, bounded readers.
 *
 * Writing never reports an error: a buffer that ran out of memory or whose
 * frame grew too long remembers it in failed, and the writer asks once, at
 * proto_send().  Reading works the same way: a reader that was asked for more
 * than it has gives zeros and remembers, so a decoder is a plain list of
 * fields with one test at its end.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Length and type. */
#define FRAME_HEADER	5

/* The least that proto_recv() asks the kernel for. */
#define RECV_CHUNK		(64 * 1024)

/*
 * An emptied buffer larger than this gives its memory back: one big batch must
 * not be paid for until the process ends.
 */
#define KEEP_CAPACITY	(1024 * 1024)

/* ---------------------------------------------------------------------
 * Buffers
 * ---------------------------------------------------------------------
 */

void
proto_buf_init(ProtoBuf *buf)
{
	memset(buf, 0, sizeof(*buf));
}

void
proto_buf_free(ProtoBuf *buf)
{
	free(buf->data);
	proto_buf_init(buf);
}

size_t
proto_buf_pending(const ProtoBuf *buf)
{
	return (buf->open ? buf->frame : buf->len) - buf->start;
}

/* Begins again at the front of a buffer that has been consumed. */
static void
buf_rewind(ProtoBuf *buf)
{
	buf->start = 0;
	buf->len = 0;
	if (buf->cap > KEEP_CAPACITY)
	{
		free(buf->data);
		buf->data = NULL;
		buf->cap = 0;
	}
}

char *
proto_buf_reserve(ProtoBuf *buf, size_t len)
{
	size_t		cap;
	char	   *data;

	if (buf->failed)
		return NULL;
	if (buf->data != NULL && len <= buf->cap - buf->len)
		return buf->data + buf->len;

	/*
	 * Moving fewer bytes than were consumed costs no more than their arrival
	 * did, so it keeps a long-lived stream linear.
	 */
	if (buf->start > buf->len - buf->start)
	{
		if (buf->len > buf->start)
			memmove(buf->data, buf->data + buf->start, buf->len - buf->start);
		if (buf->frame >= buf->start)
			buf->frame -= buf->start;
		buf->len -= buf->start;
		buf->start = 0;
		if (len <= buf->cap - buf->len)
			return buf->data + buf->len;
	}

	if (len > SIZE_MAX / 4 - buf->len)
	{
		buf->failed = true;
		return NULL;
	}
	cap = buf->cap > 0 ? buf->cap : 256;
	while (cap < buf->len + len)
		cap *= 2;
	data = realloc(buf->data, cap);
	if (data == NULL)
	{
		buf->failed = true;
		return NULL;
	}
	buf->data = data;
	buf->cap = cap;
	return buf->data + buf->len;
}

void
proto_put_bytes(ProtoBuf *buf, const void *data, size_t len)
{
	char	   *to = proto_buf_reserve(buf, len);

	if (to == NULL || len == 0)
		return;
	memcpy(to, data, len);
	buf->len += len;
}

void
proto_begin(ProtoBuf *buf, ProtoType type)
{
	/* Room first: making it may move what is in the buffer. */
	if (proto_buf_reserve(buf, FRAME_HEADER) == NULL)
		return;
	buf->frame = buf->len;
	buf->open = true;
	proto_put_u32(buf, 0);
	proto_put_u8(buf, type);
}

void
proto_end(ProtoBuf *buf)
{
	size_t		len;

	if (buf->failed)
		return;
	len = proto_offset(buf) - sizeof(uint32_t);
	if (len > PROTO_MAX_FRAME)
		buf->failed = true;
	else
		proto_patch_u32(buf, 0, (uint32_t) len);
	buf->open = false;
}

void
proto_put_u8(ProtoBuf *buf, uint8_t v)
{
	proto_put_bytes(buf, &v, sizeof(v));
}

void
proto_put_u32(ProtoBuf *buf, uint32_t v)
{
	proto_put_bytes(buf, &v, sizeof(v));
}

void
proto_put_i64(ProtoBuf *buf, int64_t v)
{
	proto_put_bytes(buf, &v, sizeof(v));
}

void
proto_put_double(ProtoBuf *buf, double v)
{
	proto_put_bytes(buf, &v, sizeof(v));
}

void
proto_put_str(ProtoBuf *buf, const void *data, size_t len)
{
	if (len > PROTO_MAX_FRAME)
	{
		buf->failed = true;
		return;
	}
	proto_put_u32(buf, (uint32_t) len);
	proto_put_bytes(buf, data, len);
}

size_t
proto_offset(const ProtoBuf *buf)
{
	return buf->len - buf->frame;
}

void
proto_patch_u32(ProtoBuf *buf, size_t offset, uint32_t v)
{
	if (buf->failed)
		return;
	memcpy(buf->data + buf->frame + offset, &v, sizeof(v));
}

/* ---------------------------------------------------------------------
 * Readers
 * ---------------------------------------------------------------------
 */

ProtoReader
proto_reader(const void *data, size_t len)
{
	ProtoReader r;

	/* Never a null pointer: adding to one, even zero, is undefined. */
	r.p = len > 0 ? data : "";
	r.end = r.p + len;
	r.failed = false;
	return r;
}

static size_t
reader_left(const ProtoReader *r)
{
	return (size_t) (r->end - r->p);
}

/* Copies the next bytes, or zeros once the reader has failed. */
void
proto_get_bytes(ProtoReader *r, void *to, size_t len)
{
	if (r->failed || reader_left(r) < len)
	{
		r->failed = true;
		memset(to, 0, len);
		return;
	}
	memcpy(to, r->p, len);
	r->p += len;
}

uint8_t
proto_get_u8(ProtoReader *r)
{
	uint8_t		v;

	proto_get_bytes(r, &v, sizeof(v));
	return v;
}

uint32_t
proto_get_u32(ProtoReader *r)
{
	uint32_t	v;

	proto_get_bytes(r, &v, sizeof(v));
	return v;
}

int64_t
proto_get_i64(ProtoReader *r)
{
	int64_t		v;

	proto_get_bytes(r, &v, sizeof(v));
	return v;
}

double
proto_get_double(ProtoReader *r)
{
	double		v;

	proto_get_bytes(r, &v, sizeof(v));
	return v;
}

ProtoStr
proto_get_str(ProtoReader *r)
{
	ProtoStr	s = {"", 0};
	uint32_t	len = proto_get_u32(r);

	if (r->failed || reader_left(r) < len)
	{
		r->failed = true;
		return s;
	}
	s.data = r->p;
	s.len = len;
	r->p += len;
	return s;
}

/*
 * At the end the list is empty; a list that is malformed keeps its remaining
 * bytes, so whoever must know can tell the two apart by list->len.
 */
bool
proto_list_next(ProtoStr *list, ProtoStr *element)
{
	ProtoReader r = proto_reader(list->data, list->len);

	*element = proto_get_str(&r);
	if (r.failed)
		return false;
	list->data = r.p;
	list->len = (uint32_t) reader_left(&r);
	return true;
}

int
proto_next(ProtoBuf *buf, uint8_t *type, ProtoReader *body)
{
	size_t		pending = proto_buf_pending(buf);
	const char *frame;
	uint32_t	len;

	if (buf->failed)
		return -1;
	if (pending < sizeof(len))
		return 0;
	frame = buf->data + buf->start;
	memcpy(&len, frame, sizeof(len));

	/* Refused before its bytes have come, so that nobody waits for them. */
	if (len < 1 || len > (buf->max_frame > 0 ? buf->max_frame : PROTO_MAX_FRAME))
	{
		buf->failed = true;
		return -1;
	}
	if (pending - sizeof(len) < len)
		return 0;

	*type = (uint8_t) frame[sizeof(len)];
	*body = proto_reader(frame + FRAME_HEADER, len - 1);
	buf->start += sizeof(len) + len;
	return 1;
}

/* ---------------------------------------------------------------------
 * The socket
 * ---------------------------------------------------------------------
 */

ssize_t
proto_send(int fd, ProtoBuf *buf)
{
	if (buf->failed)
	{
		errno = EMSGSIZE;
		return -1;
	}
	while (proto_buf_pending(buf) > 0)
	{
		/* MSG_NOSIGNAL: a peer that has died is an error, not our death. */
		ssize_t		n = send(fd, buf->data + buf->start, proto_buf_pending(buf),
							 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			buf->start += (size_t) n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return (ssize_t) proto_buf_pending(buf);
		else if (errno != EINTR)
			return -1;
	}
	if (!buf->open)
		buf_rewind(buf);
	return 0;
}

ssize_t
proto_recv(int fd, ProtoBuf *buf)
{
	char	   *to;
	ssize_t		n;

	if (buf->start == buf->len)
		buf_rewind(buf);
	to = proto_buf_reserve(buf, RECV_CHUNK);
	if (to == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	do
	{
		n = recv(fd, to, buf->cap - buf->len, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n > 0)
		buf->len += (size_t) n;
	return n;
}
