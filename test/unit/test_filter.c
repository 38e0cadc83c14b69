/*-------------------------------------------------------------------------
 *
 * test_filter.c
 *		Patterns and decisions of filter.c, and git as their judge.
 *
 * What goes wrong when this fails: files that a user excluded are tracked, or
 * files that a user wants are not, or watch and walk disagree about a path.
 *
 *-------------------------------------------------------------------------
 */
#include "filter.h"
#include "glob.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

static bool
glob_says(const char *pattern, const char *path, bool is_directory)
{
	const char *error;
	Glob	   *glob = glob_compile(pattern, strlen(pattern), &error);
	bool		result;

	if (glob == NULL)
	{
		printf("# \"%s\": %s\n", pattern, error);
		return false;
	}
	result = glob_matches(glob, path, strlen(path), is_directory);
	glob_free(glob);
	return result;
}

/* Patterns from strings that end with a NULL; at most 8. */
static size_t
list_of(FilterPattern *list, const char *const *patterns)
{
	size_t		n = 0;

	while (patterns != NULL && patterns[n] != NULL)
	{
		list[n].data = patterns[n];
		list[n].len = strlen(patterns[n]);
		n++;
	}
	return n;
}

static Filter *
make_filter(const char *const *include, const char *const *exclude)
{
	FilterPattern inc[8];
	FilterPattern exc[8];
	const char *error;
	Filter	   *filter = filter_create(inc, list_of(inc, include),
									   exc, list_of(exc, exclude), &error);

	if (filter == NULL)
	{
		printf("Bail out! a good filter was refused: %s\n", error);
		exit(1);
	}
	return filter;
}

#define LIST(...) ((const char *const[]) {__VA_ARGS__, NULL})

static bool
file(const Filter *f, const char *path)
{
	return filter_accepts_file(f, path, strlen(path));
}

static bool
dir(const Filter *f, const char *path)
{
	return filter_accepts_directory(f, path, strlen(path));
}

static void
test_globs(void)
{
	static const struct
	{
		const char *pattern;
		const char *path;
		bool		matches;
	}			cases[] = {
		{"foo", "foo", true}, {"foo", "a/foo", true}, {"foo", "foo/a", false},
		{"/foo", "foo", true}, {"/foo", "a/foo", false},
		{"a/foo", "a/foo", true}, {"a/foo", "b/a/foo", false},
		{"*.c", "x/y.c", true}, {"/*.c", "x/y.c", false}, {"a/*", "a/b", true},
		{"a/*", "a/b/c", false}, {"a*c", "abbc", true}, {"a*c", "ab", false},
		{"**/foo", "foo", true}, {"**/foo", "a/b/foo", true},
		{"**/foo/bar", "a/foo/bar", true}, {"**/foo/bar", "foo/a/bar", false},
		{"a/**", "a", false}, {"a/**", "a/b", true}, {"a/**", "a/b/c", true},
		{"a/**/b", "a/b", true}, {"a/**/b", "a/x/b", true},
		{"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x", false},
		{"a/**/b/**/c", "a/b/b/x/c", true}, {"a/**/b/c", "a/b/x/b/c", true},
		{"a/**/b/c", "a/b/x/b/d", false}, {"/**", "a/b", true},
		{"**/**", "a", true}, {"a/***/b", "a/x/y/b", true},
		{"a**/b", "ax/y/b", false}, {"a**/b", "axy/b", true},
		{"a**", "abc", true}, {"x/a**", "x/ab/c", false},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"a/?", "a//", false},
		{"[a-c]x", "bx", true}, {"[a-c]x", "dx", false}, {"[!a-c]x", "dx", true},
		{"[^a-c]x", "bx", false}, {"[]]x", "]x", true}, {"[!]]x", "]x", false},
		{"[]-_]", "^", true}, {"[a-]", "-", true}, {"[-a]", "-", true},
		{"[\\]]", "]", true}, {"[\\a-c]", "b", true}, {"[a-\\c]", "b", true},
		{"[a-c-e]", "-", true}, {"[a-c-e]", "d", false}, {"[--0]", ".", true},
		{"[[:digit:]]x", "7x", true}, {"[[:digit:]]x", "ax", false},
		{"[[:upper:][:digit:]]", "Q", true}, {"[[:alnum:]-z]", "-", true},
		{"[[:a]", ":", true}, {"[[a]", "[", true}, {"[z-a]", "m", false},
		{"[a/b]", "a", true}, {"x/[a/b]", "x/b", true}, {"a[/]b", "a/b", false},
		{"\\*", "*", true}, {"\\*", "a", false}, {"\\!a", "!a", true},
		{"a\\b", "ab", true}, {"#a", "#a", true}, {"a ", "a ", true},
		{"a ", "a", false}, {"*", "x", true}, {"**", "a/b", true},
		{"a\\/b", "a/b", true}, {"\xc3\xa9", "\xc3\xa9", true},
		{"??", "\xc3\xa9", true}, {"[\xa9]", "\xa9", true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(glob_says(cases[i].pattern, cases[i].path, false) == cases[i].matches,
			  "\"%s\" %s \"%s\"", cases[i].pattern,
			  cases[i].matches ? "matches" : "does not match", cases[i].path);
	CHECK(glob_says("a/", "a", true), "a pattern with a slash at its end matches a directory");
	CHECK(!glob_says("a/", "a", false), "a pattern with a slash at its end matches no file");
	CHECK(glob_says("a/", "x/a", true), "a slash at the end does not anchor");
}

static void
test_bad_patterns(void)
{
	static const char *const bad[] = {
		"", "/", "!", "!/", "//", "a\\", "a\\/", "[", "a[b", "[]", "[!]", "[a\\]",
		"[[:nope:]]", "[[::]]", "[[:alpha:]", "a//b", "a//", "/a//b", "./a", "a/../b", "..",
		".", "a/.", "[a-", "[a-\\",
	};
	char		longest[1026];
	const char *error;
	FilterPattern pattern = {"[", 1};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(filter_check_pattern(bad[i], strlen(bad[i])) != NULL,
			  "\"%s\" is refused", bad[i]);
	CHECK(filter_check_pattern("a\0b", 3) != NULL, "a zero byte is refused");
	memset(longest, 'a', sizeof(longest));
	CHECK(filter_check_pattern(longest, 1024) == NULL, "1024 bytes are accepted");
	CHECK(filter_check_pattern(longest, 1025) != NULL, "1025 bytes are refused");
	memset(longest, '[', sizeof(longest));
	CHECK(filter_check_pattern(longest, 1024) != NULL, "1024 open brackets are refused");
	CHECK(filter_check_pattern("...", 3) == NULL, "three dots are a name");
	CHECK(filter_create(NULL, 0, &pattern, 1, &error) == NULL && error != NULL,
		  "a filter with a bad pattern is refused with a reason");
}

static void
test_default_rules(void)
{
	static const char *const ignored[] = {
		".a", "a~", "~", "a.tmp", ".tmp", "a.bak", "a.swp", ".DS_Store", "Thumbs.db",
	};
	static const char *const tracked[] = {
		"a", "a.tmp2", "tmp", "a~b", "Thumbs.dbx", "xThumbs.db", "swp", "a.TMP",
	};
	Filter	   *f = make_filter(NULL, NULL);
	char		path[64];

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
	{
		CHECK(!file(f, ignored[i]), "\"%s\" is ignored by default", ignored[i]);
		snprintf(path, sizeof(path), "x/%s/y/z", ignored[i]);
		CHECK(!file(f, path) && !dir(f, path), "so is all below a directory of this name");
	}
	for (size_t i = 0; i < sizeof(tracked) / sizeof(tracked[0]); i++)
		CHECK(file(f, tracked[i]) && dir(f, tracked[i]), "\"%s\" is tracked", tracked[i]);
	CHECK(dir(f, ""), "the root is accepted");
	CHECK(!file(f, ""), "the root is not a file");
	filter_free(f);

	f = make_filter(LIST(".hidden", "*"), LIST("!.hidden"));
	CHECK(!file(f, ".hidden"), "no pattern brings back what the default rules ignore");
	filter_free(f);
}

static void
test_lists(void)
{
	Filter	   *f = make_filter(NULL, LIST("*.log", "!keep.log", "build/", "!build/keep"));

	CHECK(!file(f, "a.log"), "exclude excludes");
	CHECK(file(f, "a/keep.log"), "a later '!' takes back");
	CHECK(!dir(f, "x/build"), "a directory pattern excludes a directory");
	CHECK(file(f, "x/build"), "but not a file of that name");
	CHECK(!file(f, "build/keep"), "'!' takes nothing back below an excluded directory");
	filter_free(f);

	f = make_filter(NULL, LIST("!keep.log", "*.log"));
	CHECK(!file(f, "keep.log"), "the last match decides");
	filter_free(f);

	f = make_filter(LIST("photos/2024/*.jpg"), NULL);
	CHECK(file(f, "photos/2024/a.jpg"), "include includes");
	CHECK(!file(f, "photos/2024/a.txt") && !file(f, "a.jpg"), "and nothing else");
	CHECK(dir(f, "photos") && dir(f, "photos/2024"), "directories above are entered");
	CHECK(!dir(f, "music") && !dir(f, "photos/2023"), "others are not");
	CHECK(!dir(f, "photos/2024/sub"), "nor those too deep");
	filter_free(f);

	f = make_filter(LIST("a/**/z.txt"), NULL);
	CHECK(dir(f, "a/b/c/d") && !dir(f, "b"), "\"**\" keeps all below open");
	filter_free(f);

	f = make_filter(LIST("docs/"), LIST("*.tex"));
	CHECK(file(f, "x/docs/a/b"), "an included directory includes all below");
	CHECK(!file(f, "x/docs/a.tex"), "exclude wins over include");
	CHECK(dir(f, "y"), "a pattern without a slash may match anywhere");
	CHECK(!file(f, "docs"), "a directory pattern includes no file");
	filter_free(f);

	f = make_filter(LIST("*.jpg", "!b*.jpg"), NULL);
	CHECK(file(f, "a.jpg") && !file(f, "b.jpg"), "'!' takes back in include, too");
	filter_free(f);

	f = make_filter(LIST("!a"), NULL);
	CHECK(!file(f, "b") && !dir(f, "b"), "an include list of '!' only includes nothing");
	filter_free(f);
}

/* ---------------------------------------------------------------------
 * Random patterns, a fixed tree, and git
 * ---------------------------------------------------------------------
 */

#define N_SETS		250
#define MAX_SET		8
#define MAX_PATHS	400

static char *paths[MAX_PATHS];
static bool path_is_dir[MAX_PATHS];
static size_t n_paths = 0;

static void
run(const char *command)
{
	if (system(command) != 0)
	{
		printf("Bail out! failed: %s\n", command);
		exit(1);
	}
}

/* Makes a tree in the current directory, and the list of its paths. */
static void
make_tree(const char *above, int depth)
{
	static const char *const names[] = {
		"a", "b", "c", "ab", "abc", "a.c", "b.c", "a b", "a-b", "[a]", "#a", "!b", "a*", "B1",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		char		path[256];
		bool		is_dir = depth > 0 && unit_below(3) == 0;

		if (n_paths == MAX_PATHS || (above[0] != '\0' && unit_below(2) == 0))
			continue;
		snprintf(path, sizeof(path), "%s%s%s", above, above[0] ? "/" : "", names[i]);
		paths[n_paths] = strdup(path);
		path_is_dir[n_paths++] = is_dir;
		if (is_dir)
		{
			if (mkdir(path, 0700) == 0)
				make_tree(path, depth - 1);
		}
		else
			fclose(fopen(path, "w"));
	}
}

static void
random_pattern(char *out, size_t size)
{
	static const char *const pieces[] = {
		"a", "b", "c", "a", "b", "ab", ".c", "/", "/", "*", "*", "?", "[ab]", "[!a]",
		"[a-c]", "[^b-]", "[]a]", "[[:alpha:]]", "[[:digit:]]", "[\\]a]", "\\*", "\\a", " ", "-", "#",
		"[a/b]", "!", "[", "\\", "]", "B1", "[A-C1]",
	};
	static const char *const names[] = {
		"a", "b", "ab", "**", "**", "*", "?", "a*", "*c", "[abc]*", "a.c", "*b*", "abc", "a*c",
	};
	size_t		n = 1 + unit_below(4);

	out[0] = '\0';
	if (unit_below(4) == 0)
		strcat(out, "!");
	if (unit_below(5) == 0)
		strcat(out, "/");
	for (size_t i = 0; i < n && strlen(out) + 20 < size; i++)
	{
		/* Half of them name by name, half letter by letter. */
		if (unit_random_state & 1)
		{
			strcat(out, names[unit_below(sizeof(names) / sizeof(names[0]))]);
			if (i + 1 < n)
				strcat(out, "/");
		}
		else
			strcat(out, pieces[unit_below(sizeof(pieces) / sizeof(pieces[0]))]);
	}
	if (unit_below(5) == 0)
		strcat(out, "/");
}

/*
 * Left out are patterns that a file cannot say, and the few where git's code
 * does not do what its manual says: "**" that is only part of a name (git cuts
 * off the literal text before it, and then takes it for a whole one), and an
 * escaped slash.
 */
static bool
can_compare(const char *pattern)
{
	size_t		len = strlen(pattern);

	if (len == 0 || pattern[len - 1] == ' ' || strstr(pattern, "\\/") != NULL)
		return false;
	for (size_t i = 2; i + 1 < len; i++)
	{
		if (pattern[i] == '*' && pattern[i + 1] == '*' &&
			pattern[i - 1] != '/' && pattern[i - 1] != '*')
			return false;
	}
	if (len > 2 && pattern[1] == '*' && pattern[2] == '*' &&
		pattern[0] != '/' && pattern[0] != '!' && pattern[0] != '*')
		return false;
	return true;
}

/* Reads one field that ends in a zero byte. */
static bool
read_field(FILE *in, char *out, size_t size)
{
	size_t		len = 0;
	int			c;

	while ((c = getc(in)) > 0 && len + 1 < size)
		out[len++] = (char) c;
	out[len] = '\0';
	return c == 0;
}

/*
 * Asks git of all paths.  matched gets the pattern's number in the file, 0 for
 * none; the return value is git's pattern being no "!" pattern.
 */
static bool
ask_git(char (*patterns)[128], size_t n, bool *ignored, bool *any)
{
	FILE	   *out = fopen("../patterns", "w");
	FILE	   *in;
	char		source[512];
	char		line[64];
	char		pattern[512];
	char		path[512];

	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s%s\n", patterns[i][0] == '#' ? "\\" : "", patterns[i]);
	fclose(out);

	/* Exit status 1 is git's way to say that nothing is ignored. */
	run("git -c core.excludesFile=\"$PWD/../patterns\" check-ignore --no-index"
		" --stdin -z -v -n <../paths >../answers || test $? = 1");
	in = fopen("../answers", "r");
	*any = false;
	for (size_t i = 0; i < n_paths; i++)
	{
		if (!read_field(in, source, sizeof(source)) ||
			!read_field(in, line, sizeof(line)) ||
			!read_field(in, pattern, sizeof(pattern)) ||
			!read_field(in, path, sizeof(path)) || strcmp(path, paths[i]) != 0)
		{
			fclose(in);
			return false;
		}
		ignored[i] = pattern[0] != '\0' && pattern[0] != '!';
		*any |= pattern[0] != '\0';
	}
	fclose(in);
	return true;
}

static void
compare_with_git(void)
{
	size_t		compared = 0;
	size_t		excluded = 0;
	size_t		wrong = 0;
	size_t		unread = 0;
	size_t		refused = 0;
	size_t		refused_match = 0;

	for (int set = 0; set < N_SETS; set++)
	{
		char		patterns[MAX_SET][128];
		char		bad[1][128];
		FilterPattern list[MAX_SET];
		bool		ignored[MAX_PATHS];
		bool		any;
		size_t		n = 0;
		size_t		want = 1 + unit_below(MAX_SET);
		bool		have_bad = false;
		const char *error;
		Filter	   *f;

		while (n < want)
		{
			random_pattern(patterns[n], sizeof(patterns[n]));
			if (!can_compare(patterns[n]))
				continue;
			if (filter_check_pattern(patterns[n], strlen(patterns[n])) != NULL)
			{
				strcpy(bad[0], patterns[n]);
				have_bad = true;
				continue;
			}
			list[n].data = patterns[n];
			list[n].len = strlen(patterns[n]);
			n++;
		}

		/* What is refused must be of no use, or users would miss it. */
		if (have_bad && bad[0][0] != '\0')
		{
			refused++;
			if (!ask_git(bad, 1, ignored, &any))
				unread++;
			else if (any)
			{
				refused_match++;
				printf("# refused, but git matches: \"%s\"\n", bad[0]);
			}
		}

		f = filter_create(NULL, 0, list, n, &error);
		if (!ask_git(patterns, n, ignored, &any))
		{
			unread++;
			filter_free(f);
			continue;
		}
		for (size_t i = 0; i < n_paths; i++)
		{
			bool		ours = path_is_dir[i] ? !dir(f, paths[i]) : !file(f, paths[i]);

			compared++;
			excluded += ignored[i];
			if (ours == ignored[i])
				continue;
			if (wrong++ < 10)
			{
				printf("# \"%s\": git %s, we %s; patterns:", paths[i],
					   ignored[i] ? "ignores" : "does not", ours ? "ignore" : "do not");
				for (size_t j = 0; j < n; j++)
					printf(" <%s>", patterns[j]);
				printf("\n");
			}
		}
		filter_free(f);
	}
	printf("# %zu decisions compared, %zu of them \"ignored\"; %zu refused patterns\n",
		   compared, excluded, refused);
	CHECK_EQ_INT(unread, 0, "git answered for every path");
	CHECK_EQ_INT(wrong, 0, "git decides as we do");
	CHECK_EQ_INT(refused_match, 0, "no refused pattern matches anything in git");
	CHECK(excluded > compared / 20 && excluded < compared / 20 * 19,
		  "the comparison saw both decisions often");
	CHECK(refused > 10, "the comparison saw refused patterns");
}

/* The two variants, and files and the directories above them, must agree. */
static void
check_consistency(void)
{
	size_t		variant_differs = 0;
	size_t		unreachable = 0;
	size_t		accepted = 0;

	for (int set = 0; set < 2000; set++)
	{
		char		patterns[4][128];
		FilterPattern list[4];
		const char *error;
		Filter	   *f;

		for (size_t i = 0; i < 4; i++)
		{
			do
				random_pattern(patterns[i], sizeof(patterns[i]));
			while (filter_check_pattern(patterns[i], strlen(patterns[i])) != NULL);
			list[i].data = patterns[i];
			list[i].len = strlen(patterns[i]);
		}
		f = filter_create(list, 1 + unit_below(2), list + 2, unit_below(3), &error);
		for (size_t i = 0; i < n_paths; i++)
		{
			const char *path = paths[i];
			size_t		len = strlen(path);
			const char *slash = strrchr(path, '/');
			size_t		above = slash != NULL ? (size_t) (slash - path) : 0;
			bool		reached = filter_accepts_directory(f, path, above);

			accepted += filter_accepts_file(f, path, len);
			unreachable += filter_accepts_file(f, path, len) && !reached;
			unreachable += filter_accepts_directory(f, path, len) && !reached;
			if (!reached)
				continue;
			variant_differs += filter_accepts_file(f, path, len) !=
				filter_accepts_file_in(f, path, len);
			variant_differs += filter_accepts_directory(f, path, len) !=
				filter_accepts_directory_in(f, path, len);
		}
		filter_free(f);
	}
	CHECK(accepted > 10000, "the random include lists accept something");
	CHECK_EQ_INT(variant_differs, 0, "below an accepted directory the _in variants decide as the others");
	CHECK_EQ_INT(unreachable, 0, "all directories above an accepted path are accepted");
}

static void
test_with_tree(void)
{
	char		top[] = "/tmp/fsync-filter-XXXXXX";
	FILE	   *list;
	char		command[128];
	bool		have_git = system("git --version >/dev/null 2>&1") == 0;

	if (mkdtemp(top) == NULL || chdir(top) != 0 || mkdir("tree", 0700) != 0 ||
		chdir("tree") != 0)
	{
		printf("Bail out! no temporary directory\n");
		exit(1);
	}
	make_tree("", 3);
	list = fopen("../paths", "w");
	for (size_t i = 0; i < n_paths; i++)
		fwrite(paths[i], 1, strlen(paths[i]) + 1, list);
	fclose(list);

	if (have_git)
	{
		/* The user's own settings have no part in this. */
		setenv("HOME", top, 1);
		setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
		unsetenv("XDG_CONFIG_HOME");
		unsetenv("GIT_DIR");
		unsetenv("GIT_WORK_TREE");
		unsetenv("GIT_INDEX_FILE");
		run("git init -q . 2>/dev/null && rm -f .git/info/exclude");
		compare_with_git();
	}
	else
		SKIP("git decides as we do", "git is not installed");
	check_consistency();
	for (size_t i = 0; i < n_paths; i++)
		free(paths[i]);
	if (chdir("/") == 0)
	{
		snprintf(command, sizeof(command), "rm -rf '%s'", top);
		run(command);
	}
}

/* A pattern of a user's must not stop the server's file events. */
static void
test_time(void)
{
	char		stars[1024];
	char		name[4000];
	char		deep[4000];
	struct timespec before;
	struct timespec after;
	const char *error;
	Glob	   *glob;

	for (size_t i = 0; i < sizeof(stars); i++)
		stars[i] = i % 2 ? 'a' : '*';
	stars[sizeof(stars) - 1] = 'b';
	memset(name, 'a', sizeof(name));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	glob = glob_compile(stars, sizeof(stars), &error);
	CHECK(!glob_matches(glob, name, sizeof(name), false), "a pattern of 512 stars does not match");
	glob_free(glob);

	/* The same with directories: a "**" for each star. */
	for (size_t i = 0; i < 1020; i++)
		stars[i] = "**/a/"[i % 5];
	stars[1018] = 'b';
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = i % 2 ? '/' : 'a';
	glob = glob_compile(stars, 1019, &error);
	CHECK(!glob_matches(glob, deep, sizeof(deep) - 1, false), "nor one of 204 double stars");
	glob_free(glob);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	CHECK(after.tv_sec - before.tv_sec < 60, "and both say so without much ado");
}

static void
test_utf8(void)
{
	static const struct
	{
		const char *bytes;
		bool		valid;
	}			cases[] = {
		{"", true}, {"abc", true}, {"\x7f", true}, {"\xc2\x80", true}, {"\xdf\xbf", true},
		{"\xe0\xa0\x80", true}, {"\xed\x9f\xbf", true}, {"\xee\x80\x80", true},
		{"\xef\xbf\xbf", true}, {"\xf0\x90\x80\x80", true}, {"\xf4\x8f\xbf\xbf", true},
		{"\x80", false}, {"\xc0\x80", false}, {"\xc1\xbf", false}, {"\xc2", false},
		{"\xc2\x41", false}, {"\xc2\xc0", false}, {"\xe0\x9f\xbf", false},
		{"\xed\xa0\x80", false}, {"\xe1\x80", false}, {"\xe1\x80\xc0", false},
		{"\xf0\x8f\xbf\xbf", false}, {"\xf4\x90\x80\x80", false},
		{"\xf5\x80\x80\x80", false}, {"\xf1\x80\x80", false}, {"\xff", false},
		{"a\xe9", false}, {"\xc3\xa9\xc3", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(filter_valid_utf8(cases[i].bytes, strlen(cases[i].bytes)) == cases[i].valid,
			  "UTF-8 case %zu is %s", i, cases[i].valid ? "valid" : "invalid");
	CHECK(!filter_valid_utf8("a\0b", 3), "a zero byte is no text");
}

int
main(void)
{
	test_globs();
	test_bad_patterns();
	test_default_rules();
	test_lists();
	test_utf8();
	test_time();
	test_with_tree();
	return unit_done();
}
