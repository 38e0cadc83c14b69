/*-------------------------------------------------------------------------
 *
 * test_spelling.c
 *		Where names fold, a name is there if its directory lists it.
 *
 * The disk is a real one that does not fold; stat is asked through functions
 * that do, in the ways in which file systems do: by ASCII case, by the form of
 * an accented letter, not at all; and one that makes a race.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "spelling.h"

#include <dirent.h>
#include <strings.h>

#define E_ONE		"caf\xC3\xA9"	/* one character */
#define E_TWO		"cafe\xCC\x81"	/* a letter and an accent */

static char *root;
static int	rootfd;
static int	asked;				/* how often stat was called */

/* Whether the two are one name, by the folding under test. */
static bool (*same_name) (const char *one, const char *other);

static bool
same_by_case(const char *one, const char *other)
{
	return strcasecmp(one, other) == 0;
}

static bool
is_accented(const char *name)
{
	return strcmp(name, E_ONE) == 0 || strcmp(name, E_TWO) == 0;
}

static bool
same_by_form(const char *one, const char *other)
{
	return strcmp(one, other) == 0 || (is_accented(one) && is_accented(other));
}

static int
stat_folding(int dirfd, const char *name, FileInfo *info)
{
	int			fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY);
	DIR		   *dir = fdopendir(fd);
	struct dirent *entry;
	int			result = -1;

	asked++;
	FILES_MUST(dir != NULL);
	errno = ENOENT;
	while (result < 0 && (entry = readdir(dir)) != NULL)
		if (same_name(entry->d_name, name))
			result = beneath_stat_at(dirfd, entry->d_name, info);
	closedir(dir);
	if (result < 0)
		errno = ENOENT;
	return result;
}

static int
stat_exact(int dirfd, const char *name, FileInfo *info)
{
	asked++;
	return beneath_stat_at(dirfd, name, info);
}

static Spelling *
new_spelling(SpellingStat stat_at, const SpellingDevices *known)
{
	Spelling   *spelling = spelling_create(known);

	FILES_MUST(spelling != NULL);
	spelling_set_stat(spelling, stat_at);
	return spelling;
}

static SpellingVerdict
of(Spelling *spelling, const char *path)
{
	return spelling_of(spelling, rootfd, path, strlen(path), 0);
}

static void
make_file(const char *path)
{
	char	   *full;
	int			fd;

	FILES_MUST(asprintf(&full, "%s/%s", root, path) > 0);
	fd = open(full, O_WRONLY | O_CREAT, 0644);
	FILES_MUST(fd >= 0);
	close(fd);
	free(full);
}

static void
make_directory(const char *path)
{
	FILES_MUST(mkdirat(rootfd, path, 0755) == 0);
}

/* ---- nothing folds ---- */

static void
test_exact(void)
{
	Spelling   *spelling = new_spelling(stat_exact, NULL);
	int			before;

	HOLDS(of(spelling, "Foo.jpg") == SPELLING_RIGHT);
	HOLDS(of(spelling, "Dir/Sub/x") == SPELLING_RIGHT);
	spelling_forget(spelling);

	/* one probe for a directory, whatever is asked of it */
	asked = 0;
	HOLDS(of(spelling, "Foo.jpg") == SPELLING_RIGHT);
	before = asked;
	HOLDS(of(spelling, "other.txt") == SPELLING_RIGHT);
	HOLDS(asked == before);
	HOLDS(before <= 2);

	/* and of those above it, however often they are passed */
	HOLDS(of(spelling, "Dir/Sub/x") == SPELLING_RIGHT);
	before = asked;
	HOLDS(of(spelling, "Dir/Sub/y") == SPELLING_RIGHT);
	HOLDS(of(spelling, "Dir/Sub/x") == SPELLING_RIGHT);
	HOLDS(of(spelling, "Dir/z") == SPELLING_RIGHT);
	HOLDS(of(spelling, "other.txt") == SPELLING_RIGHT);
	HOLDS(asked == before);
	HOLDS(spelling_devices(spelling)->count == 0);

	/* two files whose names differ by case only */
	make_file("both");
	make_file("BOTH");
	spelling_forget(spelling);
	HOLDS(of(spelling, "both") == SPELLING_RIGHT);
	HOLDS(of(spelling, "BOTH") == SPELLING_RIGHT);
	HOLDS(of(spelling, "Foo.jpg") == SPELLING_RIGHT);
	HOLDS(spelling_devices(spelling)->count == 0);
	FILES_MUST(unlinkat(rootfd, "BOTH", 0) == 0 && unlinkat(rootfd, "both", 0) == 0);
	spelling_free(spelling);
}

/* ---- by case ---- */

static char found_names[256];

static void
on_found(void *arg, const char *name, size_t len)
{
	(void) arg;
	strncat(found_names, name, len);
	strcat(found_names, " ");
}

static void
test_case(void)
{
	Spelling   *spelling = new_spelling(stat_folding, NULL);
	Spelling   *other;
	FileInfo	info;

	same_name = same_by_case;
	HOLDS(of(spelling, "Foo.jpg") == SPELLING_RIGHT);
	HOLDS(of(spelling, "FOO.JPG") == SPELLING_OTHER);
	HOLDS(of(spelling, "foo.jpg") == SPELLING_OTHER);
	HOLDS(spelling_devices(spelling)->count == 1);

	/* whichever is asked for first: the listed one, its opposite, neither */
	spelling_free(spelling);
	spelling = new_spelling(stat_folding, NULL);
	HOLDS(of(spelling, "fOO.JPG") == SPELLING_OTHER);
	HOLDS(of(spelling, "Foo.jpg") == SPELLING_RIGHT);
	spelling_free(spelling);
	spelling = new_spelling(stat_folding, NULL);
	HOLDS(of(spelling, "fOo.jpg") == SPELLING_OTHER);

	/* every part of a path, but for those that are known */
	HOLDS(of(spelling, "Dir/Sub/x") == SPELLING_RIGHT);
	HOLDS(of(spelling, "dir/Sub/x") == SPELLING_OTHER);
	HOLDS(of(spelling, "Dir/sub/x") == SPELLING_OTHER);
	HOLDS(of(spelling, "Dir/Sub/X") == SPELLING_OTHER);
	HOLDS(spelling_of(spelling, rootfd, "Dir/Sub/x", 9, 8) == SPELLING_RIGHT);
	HOLDS(spelling_of(spelling, rootfd, "Dir/Sub/X", 9, 8) == SPELLING_OTHER);

	/* once it is known to fold, names without a letter are asked about, too */
	make_file("123");
	spelling_forget(spelling);
	HOLDS(of(spelling, "123") == SPELLING_RIGHT);
	HOLDS(of(spelling, "1234") == SPELLING_OTHER);
	FILES_MUST(unlinkat(rootfd, "123", 0) == 0);

	/* which another object may be told */
	other = new_spelling(stat_folding, spelling_devices(spelling));
	HOLDS(of(other, "1234") == SPELLING_OTHER);
	spelling_free(other);

	/* renamed to another case, it is there by the new name only */
	FILES_MUST(renameat(rootfd, "Foo.jpg", rootfd, "foo.JPG") == 0);
	spelling_forget(spelling);
	HOLDS(of(spelling, "Foo.jpg") == SPELLING_OTHER);
	HOLDS(of(spelling, "foo.JPG") == SPELLING_RIGHT);

	/* what a spelling leads to */
	FILES_MUST(stat_folding(rootfd, "FOO.JPG", &info) == 0);
	found_names[0] = '\0';
	spelling_listed(spelling, rootfd, "FOO.JPG", 7, &info, on_found, NULL);
	CHECK_EQ_STR(found_names, "foo.JPG ", "it leads to the name that is listed");
	FILES_MUST(renameat(rootfd, "foo.JPG", rootfd, "Foo.jpg") == 0);

	/* a directory that is not there says nothing */
	HOLDS(of(spelling, "absent/x") != SPELLING_RIGHT);
	HOLDS(of(spelling, "absent/x") == of(spelling, "absent/x"));
	spelling_free(spelling);
}

static void
test_unlisted(void)
{
	Spelling   *spelling = new_spelling(stat_folding, NULL);

	same_name = same_by_case;
	if (geteuid() == 0)
	{
		SKIP("a directory that can be searched and not listed", "root lists it");
		spelling_free(spelling);
		return;
	}
	HOLDS(of(spelling, "Dir/Sub/x") == SPELLING_RIGHT);
	spelling_forget(spelling);
	FILES_MUST(fchmodat(rootfd, "Dir/Sub", 0111, 0) == 0);
	HOLDS(of(spelling, "Dir/Sub/X") == SPELLING_UNSURE);
	FILES_MUST(fchmodat(rootfd, "Dir/Sub", 0755, 0) == 0);
	spelling_free(spelling);
}

/* ---- in another way ---- */

static void
test_form(void)
{
	Spelling   *spelling = new_spelling(stat_folding, NULL);
	FileInfo	info;

	same_name = same_by_form;
	make_file(E_TWO);
	FILES_MUST(stat_folding(rootfd, E_ONE, &info) == 0);

	/* swapped cases do not tell; that a walk has not shown the name does */
	HOLDS(of(spelling, E_ONE) == SPELLING_RIGHT);
	HOLDS(spelling_of_missed(spelling, rootfd, E_TWO, strlen(E_TWO), &info) == SPELLING_RIGHT);
	HOLDS(spelling_of_missed(spelling, rootfd, E_ONE, strlen(E_ONE), &info) == SPELLING_OTHER);
	HOLDS(of(spelling, E_ONE) == SPELLING_OTHER);
	HOLDS(of(spelling, E_TWO) == SPELLING_RIGHT);
	HOLDS(spelling_devices(spelling)->count == 1);

	/* what it leads to is found by what stat says */
	found_names[0] = '\0';
	spelling_listed(spelling, rootfd, E_ONE, strlen(E_ONE), &info, on_found, NULL);
	HOLDS(strstr(found_names, E_TWO) != NULL);
	FILES_MUST(unlinkat(rootfd, E_TWO, 0) == 0);
	spelling_free(spelling);
}

/* ---- a race ---- */

static int	renames;

/* The file has the other name each time that it is looked for. */
static int
stat_in_race(int dirfd, const char *name, FileInfo *info)
{
	int			result = beneath_stat_at(dirfd, name, info);

	if (renameat(dirfd, "race", dirfd, "RACE") < 0)
		FILES_MUST(renameat(dirfd, "RACE", dirfd, "race") == 0);
	renames++;
	return result;
}

/* As long as the other name is asked for first, as seldom as can be. */
static int
stat_in_lucky_race(int dirfd, const char *name, FileInfo *info)
{
	if (renames++ < 4)
	{
		if (faccessat(dirfd, name, F_OK, 0) < 0)
			FILES_MUST(renameat(dirfd, strcmp(name, "race") == 0 ? "RACE" : "race",
								dirfd, name) == 0);
	}
	return beneath_stat_at(dirfd, name, info);
}

static void
test_race(void)
{
	Spelling   *spelling = new_spelling(stat_in_race, NULL);

	make_file("race");
	for (int i = 0; i < 20; i++)
	{
		(void) of(spelling, "race");
		spelling_forget(spelling);
	}
	HOLDS(renames > 0);
	CHECK(spelling_devices(spelling)->count == 0,
		  "a file that is renamed to and fro does not make names fold");
	spelling_free(spelling);

	FILES_MUST(faccessat(rootfd, "race", F_OK, 0) == 0 ||
			   renameat(rootfd, "RACE", rootfd, "race") == 0);
	renames = 0;
	spelling = new_spelling(stat_in_lucky_race, NULL);
	(void) of(spelling, "race");
	CHECK(spelling_devices(spelling)->count == 0,
		  "nor if it is seen by both names a few times");
	spelling_free(spelling);
}

/* ---- many ---- */

/* Against a search by hand, in any order of asking. */
static void
test_many(void)
{
	Spelling   *spelling = new_spelling(stat_folding, NULL);
	int			wrong = 0;

	same_name = same_by_case;
	make_directory("many");
	for (int i = 0; i < 300; i++)
	{
		char		path[64];

		snprintf(path, sizeof(path), "many/%s%d", i % 2 ? "Name" : "name", i);
		make_file(path);
	}
	for (int i = 0; i < 600; i++)
	{
		char		path[64];
		int			n = (i * 7) % 300;
		bool		upper = i >= 300;

		snprintf(path, sizeof(path), "many/%s%d", upper ? "Name" : "name", n);
		wrong += of(spelling, path) != ((n % 2 != 0) == upper ? SPELLING_RIGHT : SPELLING_OTHER);
		if (i % 50 == 0)
			wrong += of(spelling, "Dir/Sub/x") != SPELLING_RIGHT;
	}
	EQUALS(wrong, 0);
	spelling_free(spelling);
}

int
main(void)
{
	root = files_temp_dir();
	rootfd = open(root, O_PATH | O_DIRECTORY);
	FILES_MUST(rootfd >= 0);
	make_file("Foo.jpg");
	make_file("other.txt");
	make_directory("Dir");
	make_directory("Dir/Sub");
	make_file("Dir/Sub/x");

	test_exact();
	test_case();
	test_unlisted();
	test_form();
	test_race();
	test_many();

	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}
