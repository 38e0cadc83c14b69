/*
 * What ps says of an fsync-tree: names that would act on the terminal do not,
 * long ones are cut between characters, and nothing of the arguments is left.
 */
#include "title.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void
escaped(const char *name, const char *expected)
{
	char		out[TITLE_MAX_BYTES];
	size_t		len = title_escape(out, sizeof(out), name);

	CHECK(len == strlen(out) && strcmp(out, expected) == 0, "escaped: %s", expected);
}

static void
test_escape(void)
{
	escaped("/srv/photos", "/srv/photos");
	escaped("", "");
	escaped("a b\\c", "a b\\c");
	escaped("two\nlines\t\033[31m\177", "two\\012lines\\011\\033[31m\\177");
	escaped("\xc3\xbc\xe5\x86\x99\xf0\x9f\x93\xb7", "\xc3\xbc\xe5\x86\x99\xf0\x9f\x93\xb7");
	escaped("\xc2\x9b" "31m", "\\302\\23331m");
	escaped("x\xe2\x80\xaey", "x\\342\\200\\256y");
	escaped("x\xe2\x80\xa8y\xd8\x9c", "x\\342\\200\\250y\\330\\234");
	escaped("\xff\xc3", "\\377\\303");
	escaped("\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe0\x80\x80",
			"\\300\\257\\355\\240\\200\\364\\220\\200\\200\\340\\200\\200");
}

/* Each size, for a name of characters of each length, and of escapes. */
static void
test_cut(void)
{
	const char *name = "/a\xc3\xbc\xe5\x86\x99\xf0\x9f\x93\xb7\n\xc2\x9bz";
	char		whole[64];
	size_t		len = title_escape(whole, sizeof(whole), name);
	int			bad = 0;

	for (size_t size = 4; size <= len + 8; size++)
	{
		char	   *out = malloc(size); /* for the sanitizer */
		size_t		n = title_escape(out, size, name);

		bad += n != strlen(out) || n > size - 1;
		if (size > len)
			bad += strcmp(out, whole) != 0;
		else
		{
			bad += strcmp(out + n - 3, "...") != 0 || strncmp(out, whole, n - 3) != 0;
			/* what comes next is the begin of a character, or of an escape */
			bad += ((unsigned char) whole[n - 3] & 0xc0) == 0x80;
			bad += whole[n - 3] >= '0' && whole[n - 3] <= '9';
		}
		free(out);
	}
	CHECK(bad == 0, "cut at each size, never within a character");
}

/* Arguments as the kernel lays them out; what ps would show of them. */
static void
set(const char *root, const char *option, const char *expected)
{
	const char *arguments[] = {"fsync-tree", "worker", root, option};
	int			argc = option != NULL ? 4 : 3;
	size_t		size = 0;
	size_t		left = 0;
	char	   *argv[5] = {NULL};
	char	   *area;

	for (int i = 0; i < argc; i++)
		size += strlen(arguments[i]) + 1;
	area = malloc(size);
	size = 0;
	for (int i = 0; i < argc; i++)
	{
		argv[i] = strcpy(area + size, arguments[i]);
		size += strlen(arguments[i]) + 1;
	}
	title_set(argc, argv, "fsync-tree:", root);
	CHECK(strncmp(area, expected, strlen(expected)) == 0, "title: %s", expected);
	for (size_t i = strlen(area); i < size; i++)
		left += area[i] != '\0';
	CHECK(left == 0 && area[size - 1] == '\0', "and nothing behind it");
	free(area);
}

static void
test_set(void)
{
	char		longest[4096];

	set("/srv/photos", NULL, "fsync-tree: /srv/photos");
	set("/srv/photos", "--sandbox", "fsync-tree: /srv/photos");
	set("/", NULL, "fsync-tree: /");
	set("/\n\n\n\n\n\n\n\n\n\n", NULL, "fsync-tree: /\\012\\012\\012...");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	set(longest, NULL, "fsync-tree: /xxxxxx");
}

int
main(void)
{
	test_escape();
	test_cut();
	test_set();
	return unit_done();
}
