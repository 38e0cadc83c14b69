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

/* By bytes, as file_path is compared. */
static inline int
path_compare(ProtoStr a, ProtoStr b)
{
	int			result = memcmp(a.data, b.data, Min(a.len, b.len));

	return result != 0 ? result : (a.len > b.len) - (a.len < b.len);
}

#endif							/* FSYNC_PATH_KEY_H */
