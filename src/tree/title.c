/*-------------------------------------------------------------------------
 *
 * title.c
 *		What ps says of an fsync-tree.
 *
 * Who looks for the process that reads the disk sees in ps for which directory it
 * does.  The arguments say that, too, but raw: who can rename a directory above
 * the root would write on the terminal of whoever calls ps.  So they are
 * written over, in their place: the kernel shows what is there.
 *
 *-------------------------------------------------------------------------
 */
#include "title.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The character that the text begins with, and its length; 0: it is no UTF-8. */
static size_t
decode(const unsigned char *p, uint32_t *c)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t		len = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 :
		p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	if (len == 0)
		return 0;
	*c = len == 1 ? p[0] : p[0] & (0x7f >> len);
	for (size_t i = 1; i < len; i++)
	{
		if ((p[i] & 0xc0) != 0x80)
			return 0;			/* the end of the text, too */
		*c = *c << 6 | (p[i] & 0x3f);
	}
	if (*c < least[len] || *c > 0x10ffff || (*c >= 0xd800 && *c <= 0xdfff))
		return 0;
	return len;
}

/* As in shown.c. */
static bool
acts_on_a_screen(uint32_t c)
{
	return c < ' ' || (c >= 0x7f && c <= 0x9f) || c == 0x061c || c == 0x200e || c == 0x200f ||
		(c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

size_t
title_escape(char *out, size_t size, const char *name)
{
	const unsigned char *p = (const unsigned char *) name;
	size_t		len = 0;
	size_t		fits = 0;		/* with "..." behind it */

	while (*p != '\0')
	{
		char		piece[20];
		uint32_t	c;
		size_t		taken = decode(p, &c);
		size_t		n = 0;

		if (taken > 0 && !acts_on_a_screen(c))
		{
			memcpy(piece, p, taken);
			n = taken;
		}
		else
		{
			if (taken == 0)
				taken = 1;
			for (size_t i = 0; i < taken; i++)
				n += (size_t) snprintf(piece + n, sizeof(piece) - n, "\\%03o", p[i]);
		}
		if (len + n > size - 1)
		{
			memcpy(out + fits, "...", 4);
			return fits + 3;
		}
		memcpy(out + len, piece, n);
		len += n;
		p += taken;
		if (len + 3 <= size - 1)
			fits = len;
	}
	out[len] = '\0';
	return len;
}

void
title_set(int argc, char **argv, const char *prefix, const char *name)
{
	char		title[TITLE_MAX_BYTES];
	char	   *area = argv[0];
	char	   *end = area;
	size_t		room;
	size_t		len = strlen(prefix);

	/* They stand one behind the other, as far as they do. */
	for (int i = 0; i < argc && argv[i] == end; i++)
		end += strlen(argv[i]) + 1;
	room = (size_t) (end - area);
	if (room > sizeof(title))
		room = sizeof(title);
	if (room < len + 5)
		return;
	memcpy(title, prefix, len);
	title[len++] = ' ';
	len += title_escape(title + len, room - len, name);

	/* What is left would be shown as further arguments. */
	memset(area, 0, (size_t) (end - area));
	memcpy(area, title, len);
}
