/*-------------------------------------------------------------------------
 *
 * path_key.h
 *		Paths of messages as keys of a simplehash table, and in order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PATH_KEY_H
#define FSYNC_PATH_KEY_H

#include "common/hashfn.h"

#include "tree/path_order.h"
#include "tree/protocol.h"

static inline uint32
path_hash(ProtoStr path)
{
	return hash_bytes((const unsigned char *) path.data, (int) path.len);
}

static inline bool
path_equal(ProtoStr a, ProtoStr b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static inline int
path_compare(ProtoStr a, ProtoStr b)
{
	return path_order(a.data, a.len, b.data, b.len);
}

#endif							/* FSYNC_PATH_KEY_H */
