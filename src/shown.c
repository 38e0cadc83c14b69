/*-------------------------------------------------------------------------
 *
 * shown.c
 *		Names as people are shown them.
 *
 * Whoever can write to a watched tree chooses its names, and they come to the
 * server's log, to messages on a terminal and to tables that are looked at
 * there.  A name must not be able to end a line and forge the next, move a
 * terminal's cursor, or turn around what stands beside it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "compat.h"
#include "shown.h"

/*
 * In UTF-8: the control characters U+0080 to U+009F, marks and overrides of
 * direction (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), and the
 * ends of line and paragraph U+2028 and U+2029.
 */
static bool
acts_on_a_screen(const unsigned char *p, int len)
{
	pg_wchar	c;

	if (*p < ' ' || *p == 0x7f)
		return true;
	if (len < 2 || GetDatabaseEncoding() != PG_UTF8)
		return false;
	c = utf8_to_unicode(p);
	return (c >= 0x80 && c <= 0x9f) || c == 0x061c || c == 0x200e || c == 0x200f ||
		(c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void
shown_append(StringInfo out, ProtoStr bytes, bool backslashes, int max)
{
	const unsigned char *p = (const unsigned char *) bytes.data;
	const unsigned char *end = p + bytes.len;
	int			start = out->len;

	while (p < end && out->len - start < max)
	{
		int			len = encoding_verifymbchar_compat(GetDatabaseEncoding(),
													   (const char *) p, end - p);
		int			bad = len <= 0 ? 1 : acts_on_a_screen(p, len) ? len : 0;

		if (*p == '\\' && backslashes)
			appendStringInfoString(out, "\\\\");
		else if (bad == 0)
			appendBinaryStringInfo(out, (const char *) p, len);
		for (int i = 0; i < bad; i++)
			appendStringInfo(out, "\\%03o", p[i]);
		p += bad > 0 ? bad : len;
	}
	if (p < end)
		appendStringInfoString(out, "...");
}

char *
shown_path(const char *path)
{
	StringInfoData out;

	initStringInfo(&out);
	shown_append(&out, (ProtoStr) {path, (uint32) strlen(path)}, false, INT_MAX);
	return out.data;
}

Datum
shown_datum(ProtoStr string, bool *isnull)
{
	StringInfoData out;

	*isnull = string.len == 0;
	initStringInfo(&out);
	shown_append(&out, string, false, INT_MAX);
	return CStringGetTextDatum(out.data);
}

Datum
name_datum(ProtoStr string, bool *isnull)
{
	char	   *name;
	StringInfoData out;

	*isnull = string.len == 0;
	if (*isnull)
		return (Datum) 0;
	name = pnstrdup(string.data, string.len);
	if (pg_verify_mbstr(GetDatabaseEncoding(), name, strlen(name), true))
		return CStringGetTextDatum(name);
	initStringInfo(&out);
	shown_append(&out, string, true, INT_MAX);
	return CStringGetTextDatum(out.data);
}
