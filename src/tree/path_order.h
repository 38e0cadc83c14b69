/*-------------------------------------------------------------------------
 *
 * path_order.h
 *		The order of paths: by bytes, as file_path COLLATE "C" has it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PATH_ORDER_H
#define FSYNC_PATH_ORDER_H

#include <stddef.h>
#include <string.h>

/* Less than 0, 0 or more, as a comes before, is equal to, or comes after b. */
static inline int
path_order(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t		len = a_len < b_len ? a_len : b_len;
	int			order = len > 0 ? memcmp(a, b, len) : 0;

	return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

#endif							/* FSYNC_PATH_ORDER_H */
