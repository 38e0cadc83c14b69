/*-------------------------------------------------------------------------
 *
 * test_links_problems.c
 *		What is remembered beside the rows: names of one file, and problems
 *		that were reported.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "links.h"
#include "problems.h"

/* What was reported, each with a space behind it. */
static char seen[4096];

/* The path that is no longer a name of the file, or NULL. */
static const char *stale;

static bool
report(void *arg, const char *path, size_t len)
{
	(void) arg;
	strncat(seen, path, len);
	strcat(seen, " ");
	return stale == NULL || strlen(stale) != len || memcmp(stale, path, len) != 0;
}

static FileInfo
file(dev_t dev, int64_t inode, uint32_t nlink)
{
	FileInfo	info;

	memset(&info, 0, sizeof(info));
	info.dev = dev;
	info.stat.inode = inode;
	info.nlink = nlink;
	return info;
}

static void
link_note(Links *links, FileInfo info, const char *path)
{
	links_note(links, &info, path, strlen(path));
}

static bool
others(Links *links, FileInfo info, const char *path)
{
	seen[0] = '\0';
	return links_others(links, &info, path, strlen(path), report, NULL);
}

/* Fails if a write to one name leaves the rows of the others as they were. */
static void
test_links(void)
{
	Links	   *links = links_create();
	FileInfo	three = file(1, 10, 3);

	FILES_MUST(links != NULL);
	CHECK(!others(links, three, "a"), "of an unknown file not all names are known");
	CHECK_EQ_STR(seen, "", "and none is reported");
	link_note(links, three, "a");
	link_note(links, three, "b");
	link_note(links, three, "b");
	link_note(links, file(2, 10, 2), "other-disk");
	link_note(links, file(1, 11, 2), "other-file");
	CHECK(!others(links, three, "a"), "a name noted twice does not count twice");
	CHECK_EQ_STR(seen, "b ", "the other name is reported, and no other file's");
	link_note(links, three, "dir/c");
	CHECK(others(links, three, "a"), "as many names as links are all of them");
	CHECK_EQ_STR(seen, "dir/c b ", "each but the one that was asked for");
	CHECK(others(links, three, "dir/c"), "also for another of them");
	CHECK_EQ_STR(seen, "b a ", "the others of that one");
	CHECK(others(links, three, "dir/"), "a path is compared whole");
	CHECK_EQ_STR(seen, "dir/c b a ", "a beginning of a name is not the name");

	/* a name that is no more */
	stale = "b";
	CHECK(!others(links, three, "a"), "a name that is none any more is not counted");
	stale = NULL;
	others(links, three, "a");
	CHECK_EQ_STR(seen, "dir/c ", "and is forgotten");
	links_free(links);
}

/*
 * Fails if each write to a file that has a name outside the tree searches the
 * whole tree, or if none does although a name is missing.
 */
static void
test_link_search(void)
{
	Links	   *links = links_create();
	FileInfo	info = file(1, 10, 3);
	uint64_t	round;

	FILES_MUST(links != NULL);
	link_note(links, info, "a");
	link_note(links, info, "gone");
	link_note(links, file(1, 20, 2), "vanished");
	for (int i = 0; i < 4; i++)
	{
		round = links_search(links);
		link_note(links, info, "a");
		link_note(links, info, "new");
		link_note(links, file(1, 30, 2), "one-inside");
		links_searched(links, round);
		if (i == 0)
		{
			others(links, info, "a");
			CHECK_EQ_STR(seen, "new gone ", "a name that one search missed may be there");
			CHECK(!others(links, file(1, 20, 2), "x"), "so may a file");
			CHECK_EQ_STR(seen, "vanished ", "with its names");
		}
	}
	CHECK(others(links, info, "a"), "what no search found lies outside");
	CHECK_EQ_STR(seen, "new ", "names that several searches did not meet are forgotten");
	CHECK(!others(links, file(1, 20, 2), "x"), "a file that they did not meet is forgotten");
	CHECK_EQ_STR(seen, "", "with its names");
	CHECK(others(links, file(1, 30, 2), "one-inside"), "its only name inside is known");
	info.nlink = 4;
	CHECK(!others(links, info, "a"), "one more link than at the search may be anywhere");
	info.nlink = 2;
	CHECK(others(links, info, "a"), "as many links as known names");
	info.nlink = 3;

	/* A search that began earlier must not end what a later one noted. */
	round = links_search(links);
	links_search(links);
	link_note(links, info, "a");
	link_note(links, info, "later");
	links_searched(links, round);
	others(links, info, "a");
	CHECK_EQ_STR(seen, "later new ", "what was noted after the search began stays");
	links_free(links);
}

/* Fails if each of many new names tells all others, or one is not told enough. */
static void
test_must_tell(void)
{
	Links	   *links = links_create();
	FileInfo	info = file(1, 10, 3);

	FILES_MUST(links != NULL);
	CHECK(!links_any(links), "no name is known");
	CHECK(links_must_tell(links, &info, 1, 0, 5), "of an unknown file");
	CHECK(links_must_tell(links, &info, 1, 0, 5), "... nothing is remembered");
	link_note(links, info, "a");
	CHECK(links_any(links), "a name is known");
	CHECK(links_must_tell(links, &info, 1, 0, 5), "the first in a turn tells");
	CHECK(!links_must_tell(links, &info, 1, 0, 5), "the second does not");
	CHECK(!links_must_tell(links, &info, 1, 0, 6), "nor one that nobody waits for as much");
	CHECK(links_must_tell(links, &info, 1, 0, 4), "but one of an older barrier");
	CHECK(links_must_tell(links, &info, 1, 2, 4), "and one that was written");
	CHECK(!links_must_tell(links, &info, 1, 2, 4), "once");
	CHECK(links_must_tell(links, &info, 2, 0, 4), "and the first in the next turn");
	CHECK(links_must_tell(links, &info, 2, 2, 4), "of which nothing was told before");
	links_free(links);
}

/* Fails if many files get into each other's way. */
static void
test_many_links(void)
{
	Links	   *links = links_create();
	uint64_t	round;
	int			wrong = 0;

	FILES_MUST(links != NULL);
	for (int turn = 0; turn < 5; turn++)
	{
		round = links_search(links);
		for (int i = 0; i < 3000; i++)
		{
			char		path[64];

			for (int k = 0; k < 2; k++)
			{
				snprintf(path, sizeof(path), "%d.%d.%d", i, k, turn > 0);
				link_note(links, file(1, i, 2), path);
			}
		}
		links_searched(links, round);
	}
	for (int i = 0; i < 3000; i++)
	{
		char		path[64];
		char		expected[64];

		snprintf(path, sizeof(path), "%d.0.1", i);
		snprintf(expected, sizeof(expected), "%d.1.1 ", i);
		wrong += !others(links, file(1, i, 2), path) || strcmp(seen, expected) != 0;
	}
	EQUALS(wrong, 0);
	links_free(links);
}

/* ---- problems ---- */

static bool
covers(void *arg, const char *path, size_t len)
{
	const char *prefix = arg;

	return len >= strlen(prefix) && memcmp(path, prefix, strlen(prefix)) == 0;
}

static void
cured(void *arg, const char *path, size_t len)
{
	(void) arg;
	strncat(seen, path, len);
	strcat(seen, " ");
}

static void
problem(Problems *problems, const char *path)
{
	problems_note(problems, path, strlen(path));
}

static bool
forget(Problems *problems, const char *path)
{
	return problems_forget(problems, path, strlen(path));
}

static void
expire(Problems *problems, uint64_t round, const char *prefix)
{
	seen[0] = '\0';
	problems_expire(problems, round, covers, cured, (void *) prefix);
}

/* Fails if a cure is reported of what was no problem, or twice, or not. */
static void
test_problems(void)
{
	Problems	problems;

	problems_init(&problems);
	CHECK(!forget(&problems, "a"), "nothing is known at first");
	problem(&problems, "a");
	problem(&problems, "a");
	problem(&problems, "ab");
	problem(&problems, "");
	CHECK(!forget(&problems, "b"), "another path has no problem");
	CHECK(forget(&problems, "a"), "a problem is known until it is cured");
	CHECK(!forget(&problems, "a"), "and cured once, however often it was noted");
	CHECK(forget(&problems, "ab"), "a path is compared whole");
	CHECK(forget(&problems, ""), "the root can have one");
	problem(&problems, "left");
	problems_free(&problems);
}

/*
 * Fails if a problem whose cause has gone stays in the table for ever, or if
 * one that is still there, or that the scan did not look for, is cleared.
 */
static void
test_problem_rounds(void)
{
	Problems	problems;
	uint64_t	first;
	uint64_t	second;

	problems_init(&problems);
	problem(&problems, "in/gone");
	problem(&problems, "in/still");
	problem(&problems, "out/old");
	first = problems_next_round(&problems);
	problem(&problems, "in/still");
	problem(&problems, "in/new");
	expire(&problems, first, "in/");
	CHECK_EQ_STR(seen, "in/gone ", "only what the scan looked for and did not meet is cured");
	CHECK(!forget(&problems, "in/gone"), "what expired is forgotten");
	expire(&problems, first, "in/");
	CHECK_EQ_STR(seen, "", "a cure is reported once");

	/* a scan that ends after another has begun */
	first = problems_next_round(&problems);
	second = problems_next_round(&problems);
	problem(&problems, "in/new");
	expire(&problems, first, "");
	CHECK(strcmp(seen, "in/still out/old ") == 0 || strcmp(seen, "out/old in/still ") == 0,
		  "a problem that was met in a later round stays");
	expire(&problems, second, "");
	CHECK_EQ_STR(seen, "", "it was met in the later one");
	CHECK(forget(&problems, "in/new"), "and is still known");

	/* very many, all at once */
	for (int i = 0; i < 1000; i++)
	{
		char		path[16];

		snprintf(path, sizeof(path), "%d", i);
		problem(&problems, path);
	}
	first = problems_next_round(&problems);
	problem(&problems, "500");
	expire(&problems, first, "5");
	EQUALS(problems.table.count, 1000 - 111 + 1);
	problems_free(&problems);
}

int
main(void)
{
	test_links();
	test_link_search();
	test_must_tell();
	test_many_links();
	test_problems();
	test_problem_rounds();
	return unit_done();
}
