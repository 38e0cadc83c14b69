/*-------------------------------------------------------------------------
 *
 * mounts.c
 *		Sets of mounts: as a list of the protocol, and what differs between two.
 *
 *-------------------------------------------------------------------------
 */
#include "identity.h"
#include "path_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
mounts_free(MountSet *set)
{
	for (size_t i = 0; i < set->count; i++)
		free(set->mounts[i].path);
	free(set->mounts);
	memset(set, 0, sizeof(*set));
}

int
mounts_compare(const Mount *a, const Mount *b)
{
	return path_order(a->path, a->len, b->path, b->len);
}

/* ---------------------------------------------------------------------
 * As a list
 * ---------------------------------------------------------------------
 */

void
mounts_encode(const MountSet *set, ProtoBuf *list)
{
	for (size_t i = 0; i < set->count; i++)
	{
		const Mount *m = &set->mounts[i];
		size_t		identity_len = strlen(m->identity);
		char	   *element = malloc(2 * m->len + 1 + identity_len);
		size_t		len = 0;

		if (element == NULL)
		{
			list->failed = true;
			return;
		}
		for (size_t j = 0; j < m->len; j++)
		{
			char		c = m->path[j];

			if (c == '\n' || c == '\\')
				element[len++] = '\\';
			element[len++] = c == '\n' ? 'n' : c;
		}
		element[len++] = '\t';
		memcpy(element + len, m->identity, identity_len);
		proto_put_str(list, element, len + identity_len);
		free(element);
	}
}

/* Undoes the escapes of a path; false for one that encode does not write. */
static bool
unescape(ProtoStr escaped, Mount *mount)
{
	char	   *out = mount->path;

	for (uint32_t i = 0; i < escaped.len; i++)
	{
		char		c = escaped.data[i];

		if (c == '\\')
		{
			if (++i == escaped.len)
				return false;
			c = escaped.data[i];
			if (c == 'n')
				c = '\n';
			else if (c != '\\')
				return false;
		}
		*out++ = c;
	}
	*out = '\0';
	mount->len = (size_t) (out - mount->path);
	return mount->len > 0;
}

/* The element becomes the next mount of the set; false with errno. */
static bool
decode_element(ProtoStr element, MountSet *set)
{
	/* A path may hold tabs, an identity does not. */
	const char *tab = element.len > 0 ?
		memrchr(element.data, '\t', element.len) : NULL;
	ProtoStr	path = element;
	const char *identity;
	size_t		identity_len;
	Mount	   *mount;

	errno = EINVAL;
	if (tab == NULL || memchr(element.data, '\0', element.len) != NULL)
		return false;
	path.len = (uint32_t) (tab - element.data);
	identity = tab + 1;
	identity_len = element.len - path.len - 1;
	if (identity_len == 0 || identity_len >= IDENTITY_MAX)
		return false;

	mount = &set->mounts[set->count];
	memset(mount, 0, sizeof(*mount));
	mount->path = malloc(path.len + 1);
	if (mount->path == NULL)
	{
		errno = ENOMEM;
		return false;
	}
	set->count++;
	memcpy(mount->identity, identity, identity_len);
	if (identity_len > 5 && memcmp(identity, "type:", 5) == 0)
	{
		const char *end = strchrnul(mount->identity, ' ');

		mount->polled = identity_polled_name(mount->identity + 5,
											 (size_t) (end - mount->identity) - 5);
	}
	return unescape(path, mount);
}

static int
compare(const void *a, const void *b)
{
	return mounts_compare(a, b);
}

static bool
decode(ProtoStr list, MountSet *set)
{
	ProtoStr	element;
	ProtoStr	rest = list;
	size_t		n = 0;

	while (proto_list_next(&rest, &element))
		n++;
	errno = EINVAL;
	if (rest.len > 0)
		return false;
	set->mounts = malloc((n + 1) * sizeof(*set->mounts));
	if (set->mounts == NULL)
		return false;
	while (proto_list_next(&list, &element))
	{
		if (!decode_element(element, set))
			return false;
	}
	qsort(set->mounts, set->count, sizeof(*set->mounts), compare);
	errno = EINVAL;
	for (size_t i = 1; i < set->count; i++)
	{
		if (mounts_compare(&set->mounts[i - 1], &set->mounts[i]) == 0)
			return false;
	}
	return true;
}

/* On failure the set is empty and errno is EINVAL or ENOMEM. */
int
mounts_decode(ProtoStr list, MountSet *set)
{
	memset(set, 0, sizeof(*set));
	if (!decode(list, set))
	{
		int			saved = errno;

		mounts_free(set);
		errno = saved;
		return -1;
	}
	return 0;
}

/* ---------------------------------------------------------------------
 * What differs
 * ---------------------------------------------------------------------
 */

size_t
mounts_diff(const MountSet *accepted, const MountSet *now,
			const Mount **out, size_t max)
{
	size_t		a = 0;
	size_t		n = 0;
	size_t		count = 0;

	while (a < accepted->count || n < now->count)
	{
		const Mount *before = a < accepted->count ? &accepted->mounts[a] : NULL;
		const Mount *after = n < now->count ? &now->mounts[n] : NULL;
		const Mount *differs = NULL;
		int			c = before == NULL ? 1 : after == NULL ? -1 :
			mounts_compare(before, after);

		if (c <= 0)
			a++;
		if (c >= 0)
			n++;
		if (c < 0)
			differs = before;
		else if (c > 0)
			differs = after;
		else
		{
			ProtoStr	x = {before->identity, (uint32_t) strlen(before->identity)};
			ProtoStr	y = {after->identity, (uint32_t) strlen(after->identity)};

			if (!identity_same(x, y))
				differs = after;
		}
		if (differs != NULL)
		{
			if (count < max)
				out[count] = differs;
			count++;
		}
	}
	return count;
}
