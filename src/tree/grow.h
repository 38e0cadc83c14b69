/*-------------------------------------------------------------------------
 *
 * grow.h
 *		Arrays that become larger as they are filled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_GROW_H
#define FSYNC_GROW_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* An array's first elements. */
#define GROW_FIRST		16

/*
 * The array (from malloc, or NULL with a capacity of 0), at a place where it
 * holds `need` elements, at least one, of so many bytes each.  NULL with errno
 * when out of memory; then the array is as it was.
 */
static inline void *
grow(void *array, size_t *capacity, size_t need, size_t bytes)
{
	size_t		larger = *capacity > 0 ? *capacity : GROW_FIRST;

	if (need <= *capacity)
		return array;
	while (larger < need)
		larger *= 2;
	array = realloc(array, larger * bytes);
	if (array == NULL)
		errno = ENOMEM;
	else
		*capacity = larger;
	return array;
}

#endif							/* FSYNC_GROW_H */
