/*-------------------------------------------------------------------------
 *
 * test_problems_links.c
 *		A problem is cured once, and a hard-linked file's names are all known.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "links.h"
#include "problems.h"

static char seen[256];

static bool
covers(void *arg, const char *path, size_t len)
{
	(void) len;
	return strncmp(path, arg, strlen(arg)) == 0;
}

static void
cured(void *arg, const char *path, size_t len)
{
	(void) arg;
	strncat(seen, path, len);
	strcat(seen, " ");
}

static void
note_problem(Problems *problems, const char *path)
{
	problems_note(problems, path, strlen(path));
}

/* Fails if a problem outlives its cause, or ends before. */
static void
test_problems(void)
{
	Problems	problems;
	uint64_t	round;

	problems_init(&problems);
	HOLDS(!problems_forget(&problems, "d/a", 3));
	note_problem(&problems, "d/a");
	note_problem(&problems, "d/b");
	note_problem(&problems, "e/c");
	round = problems_next_round(&problems);
	note_problem(&problems, "d/b");
	seen[0] = '\0';
	problems_expire(&problems, round, covers, cured, "d/");
	CHECK_EQ_STR(seen, "d/a ", "a scan cures what it covered and did not meet again");
	HOLDS(!problems_forget(&problems, "d/a", 3));
	HOLDS(problems_forget(&problems, "d/b", 3));
	HOLDS(problems_forget(&problems, "e/c", 3));
	EQUALS(problems.table.count, 0);
	note_problem(&problems, "x");
	problems_free(&problems);
}

static bool
still_a_name(void *arg, const char *path, size_t len)
{
	strncat(seen, path, len);
	strcat(seen, " ");
	return arg == NULL || strncmp(path, arg, len) != 0;
}

static bool
others(Links *links, const FileInfo *info, const char *path, char *dead)
{
	seen[0] = '\0';
	return links_others(links, info, path, strlen(path), still_a_name, dead);
}

/* Fails if a name of a written file would keep its old row. */
static void
test_links(void)
{
	Links	   *links = links_create();
	FileInfo	info = {.stat = {.inode = 7}, .dev = 1, .nlink = 3};
	FileInfo	other = {.stat = {.inode = 7}, .dev = 2, .nlink = 2};
	uint64_t	round;

	HOLDS(!others(links, &info, "a", NULL));
	links_note(links, &info, "a", 1);
	links_note(links, &info, "a", 1);
	links_note(links, &info, "b", 1);
	links_note(links, &other, "z", 1);
	HOLDS(!others(links, &info, "a", NULL));
	CHECK_EQ_STR(seen, "b ", "names of another device's file are not its names");
	links_note(links, &info, "c", 1);
	HOLDS(others(links, &info, "c", NULL));
	CHECK_EQ_STR(seen, "b a ", "all three names are known");

	HOLDS(!others(links, &info, "c", "b"));
	HOLDS(!others(links, &info, "c", NULL));
	CHECK_EQ_STR(seen, "a ", "a name that is one no longer is forgotten, and the file incomplete");

	round = links_search(links);
	links_note(links, &info, "c", 1);
	links_searched(links, round);
	HOLDS(others(links, &info, "c", NULL));
	CHECK_EQ_STR(seen, "", "what a search of everything did not meet is gone, and the rest outside");
	info.nlink = 4;
	HOLDS(!others(links, &info, "c", NULL));

	/* a search that began later must not lose what this one found */
	round = links_search(links);
	links_note(links, &info, "d", 1);
	links_search(links);
	links_searched(links, round);
	others(links, &info, "c", NULL);
	CHECK_EQ_STR(seen, "d ", "two searches at once keep each other's names");
	links_free(links);
}

int
main(void)
{
	test_problems();
	test_links();
	return unit_done();
}
