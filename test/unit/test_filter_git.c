/*-------------------------------------------------------------------------
 *
 * test_filter_git.c
 *		Random patterns, and git as their judge.
 *
 * Two questions are asked of git and of filter.c about the same tree: what one
 * list of patterns excludes (git check-ignore), and what is left when files in
 * the directories have rules of their own and a list stands above them
 * (git ls-files); with and without regard to case.
 *
 * What goes wrong when this fails: what a user knows of .gitignore is not true
 * here.
 *
 *-------------------------------------------------------------------------
 */
#include "filter.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

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
		"a", "b", "c", "ab", "abc", "a.c", "b.c", "a b", "a-b", "[a]", "#a", "!b", "a*", "B1", "Ab", "A.C",
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
		"[a/b]", "!", "[", "\\", "]", "B1", "[A-C1]", "A", "AB", ".C",
	};
	static const char *const names[] = {
		"a", "b", "ab", "**", "**", "*", "?", "a*", "*c", "[abc]*", "a.c", "*b*", "abc", "a*c", "A*", "aB",
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
 * escaped slash.  A capital letter that is escaped, or a member of a class,
 * matches nothing in git when case does not count.
 */
static bool
can_compare(const char *pattern, bool ignore_case)
{
	size_t		len = strlen(pattern);
	bool		in_class = false;

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
	for (size_t i = 0; ignore_case && i < len; i++)
	{
		if (pattern[i] >= 'A' && pattern[i] <= 'Z' &&
			((in_class && pattern[i + 1] != '-' && pattern[i - 1] != '-') ||
			 (i > 0 && pattern[i - 1] == '\\')))
			return false;
		in_class |= pattern[i] == '[';
	}
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
ask_git(char (*patterns)[128], size_t n, bool ignore_case, bool *ignored, bool *any)
{
	char		command[256];
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
	snprintf(command, sizeof(command),
			 "git -c core.ignorecase=%s -c core.excludesFile=\"$PWD/../patterns\" check-ignore"
			 " --no-index --stdin -z -v -n <../paths >../answers || test $? = 1",
			 ignore_case ? "true" : "false");
	run(command);
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

static bool
accepts(const Filter *f, const char *path, bool is_directory)
{
	return (is_directory ? filter_accepts_directory(f, NULL, path, strlen(path)) :
			filter_accepts_file(f, NULL, path, strlen(path))) == FILTER_ACCEPTED;
}

static void
compare_lists(void)
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
		FilterSettings settings = FILTER_SETTINGS_DEFAULT;
		const char *error;
		Filter	   *f;

		settings.ignore_case = set % 3 == 0;

		while (n < want)
		{
			random_pattern(patterns[n], sizeof(patterns[n]));
			if (!can_compare(patterns[n], settings.ignore_case))
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
			if (!ask_git(bad, 1, settings.ignore_case, ignored, &any))
				unread++;
			else if (any)
			{
				refused_match++;
				printf("# refused, but git matches: \"%s\"\n", bad[0]);
			}
		}

		settings.exclude = list;
		settings.n_exclude = n;
		f = filter_create(&settings, &error);
		if (!ask_git(patterns, n, settings.ignore_case, ignored, &any))
		{
			unread++;
			filter_free(f);
			continue;
		}
		for (size_t i = 0; i < n_paths; i++)
		{
			bool		ours = path_is_dir[i] ? !accepts(f, paths[i], true) : !accepts(f, paths[i], false);

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
	CHECK_EQ_INT(wrong, 0, "git decides about lists as we do");
	CHECK_EQ_INT(refused_match, 0, "no refused pattern matches anything in git");
	CHECK(excluded > compared / 20 && excluded < compared / 20 * 19,
		  "the comparison saw both decisions often");
	CHECK(refused > 10, "the comparison saw refused patterns");
}

/* ---------------------------------------------------------------------
 * Rules in the tree
 * ---------------------------------------------------------------------
 */

#define N_TREES		120
#define MAX_DIRECTORIES	80

/* The rules of a directory of the tree and those above; "" is the last. */
static const char *rules_of[MAX_DIRECTORIES];
static FilterRules *rules[MAX_DIRECTORIES];
static size_t n_directories;

/* Text that git and we read in the same way, whatever lines are in it. */
static void
write_rules(const char *directory, bool ignore_case)
{
	char		name[512];
	FILE	   *out;
	size_t		n = 1 + unit_below(6);

	snprintf(name, sizeof(name), "%s%s" FILTER_RULES_NAME, directory, directory[0] ? "/" : "");
	out = fopen(name, "w");
	if (unit_below(10) == 0)
		fprintf(out, "\xef\xbb\xbf");
	while (n > 0)
	{
		static const char *const ends[] = {"\n", "\n", "\n", "  \n", "\r\n", "\\ \n", "\n#x\n"};
		char		pattern[128];

		random_pattern(pattern, sizeof(pattern));
		if (!can_compare(pattern, ignore_case))
			continue;
		fprintf(out, "%s%s", pattern, ends[unit_below(sizeof(ends) / sizeof(ends[0]))]);
		n--;
	}
	fclose(out);
}

static FilterRules *
find_rules(const char *directory, size_t len)
{
	for (size_t i = 0; i < n_directories; i++)
	{
		if (strlen(rules_of[i]) == len && memcmp(rules_of[i], directory, len) == 0)
			return rules[i];
	}
	return NULL;
}

/* Reads what write_rules() wrote; the directories above come first. */
static void
read_rules(const Filter *f, const char *directory)
{
	const char *slash = strrchr(directory, '/');
	FilterRules *above = directory[0] == '\0' ? NULL :
		find_rules(directory, slash != NULL ? (size_t) (slash - directory) : 0);
	char		text[4096];
	FILE	   *in;

	snprintf(text, sizeof(text), "%s%s" FILTER_RULES_NAME, directory, directory[0] ? "/" : "");
	in = fopen(text, "r");
	rules_of[n_directories] = directory;
	if (in == NULL)
		rules[n_directories++] = filter_rules_keep(above);
	else
	{
		size_t		len = fread(text, 1, sizeof(text), in);

		fclose(in);
		rules[n_directories++] = filter_rules_add(f, above, directory, strlen(directory),
												  text, len, 0);
	}
}

/* Which files git lists that stand below the list and the rules of the tree. */
static void
list_with_git(char (*patterns)[128], size_t n, bool ignore_case, bool *listed)
{
	char		command[256];
	char		path[512];
	FILE	   *out = fopen("../patterns", "w");
	FILE	   *in;

	for (size_t i = 0; i < n; i++)
	{
		fputs("-x", out);
		putc('\0', out);
		fputs(patterns[i], out);
		putc('\0', out);
	}
	fclose(out);
	snprintf(command, sizeof(command),
			 "xargs -0 git -c core.ignorecase=%s ls-files -z --others"
			 " --exclude-per-directory=" FILTER_RULES_NAME " <../patterns >../answers",
			 ignore_case ? "true" : "false");
	run(command);
	memset(listed, 0, MAX_PATHS * sizeof(bool));
	in = fopen("../answers", "r");
	while (read_field(in, path, sizeof(path)))
	{
		for (size_t i = 0; i < n_paths; i++)
			listed[i] |= strcmp(path, paths[i]) == 0;
	}
	fclose(in);
}

static void
compare_trees(void)
{
	size_t		compared = 0;
	size_t		kept = 0;
	size_t		wrong = 0;
	size_t		files = 0;

	for (int tree = 0; tree < N_TREES; tree++)
	{
		FilterSettings settings = FILTER_SETTINGS_DEFAULT;
		char		patterns[2][128];
		FilterPattern list[2];
		size_t		n = 0;
		size_t		want = unit_below(3);
		bool		listed[MAX_PATHS];
		const char *error;
		Filter	   *f;

		settings.ignore_case = tree % 3 == 0;
		settings.use_rules = true;
		while (n < want)
		{
			random_pattern(patterns[n], sizeof(patterns[n]));
			if (!can_compare(patterns[n], settings.ignore_case) ||
				filter_check_pattern(patterns[n], strlen(patterns[n])) != NULL)
				continue;
			list[n].data = patterns[n];
			list[n].len = strlen(patterns[n]);
			n++;
		}
		settings.exclude = list;
		settings.n_exclude = n;
		f = filter_create(&settings, &error);

		run("find . -name " FILTER_RULES_NAME " -delete");
		n_directories = 0;
		for (size_t i = 0; i <= n_paths; i++)
		{
			const char *directory = i == 0 ? "" : paths[i - 1];

			if (i > 0 && !path_is_dir[i - 1])
				continue;
			if (unit_below(2) == 0)
			{
				write_rules(directory, settings.ignore_case);
				files++;
			}
			read_rules(f, directory);
		}
		list_with_git(patterns, n, settings.ignore_case, listed);
		for (size_t i = 0; i < n_paths; i++)
		{
			const char *slash = strrchr(paths[i], '/');
			bool		ours;

			if (path_is_dir[i])
				continue;
			ours = filter_accepts_file(f, find_rules(paths[i], slash != NULL ?
													 (size_t) (slash - paths[i]) : 0),
									   paths[i], strlen(paths[i])) == FILTER_ACCEPTED;
			compared++;
			kept += listed[i];
			if (ours != listed[i] && wrong++ < 10)
				printf("# tree %d: \"%s\": git %s, we %s\n", tree, paths[i],
					   listed[i] ? "lists it" : "does not", ours ? "do" : "do not");
		}
		for (size_t i = 0; i < n_directories; i++)
			filter_rules_release(rules[i]);
		filter_free(f);
	}
	printf("# %zu decisions compared in %d trees with %zu files of rules, %zu of them \"kept\"\n",
		   compared, N_TREES, files, kept);
	CHECK_EQ_INT(wrong, 0, "git decides about rules in a tree as we do");
	CHECK(kept > compared / 20 && kept < compared / 20 * 19,
		  "the comparison saw both decisions often");
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
		FilterSettings settings = FILTER_SETTINGS_DEFAULT;
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
		settings.include = list;
		settings.n_include = 1 + unit_below(2);
		settings.exclude = list + 2;
		settings.n_exclude = unit_below(3);
		f = filter_create(&settings, &error);
		for (size_t i = 0; i < n_paths; i++)
		{
			const char *path = paths[i];
			size_t		len = strlen(path);
			const char *slash = strrchr(path, '/');
			size_t		above = slash != NULL ? (size_t) (slash - path) : 0;
			bool		reached = filter_accepts_directory(f, NULL, path, above);

			accepted += filter_accepts_file(f, NULL, path, len);
			unreachable += filter_accepts_file(f, NULL, path, len) && !reached;
			unreachable += filter_accepts_directory(f, NULL, path, len) && !reached;
			if (!reached)
				continue;
			variant_differs += filter_accepts_file(f, NULL, path, len) !=
				filter_accepts_file_in(f, NULL, path, len);
			variant_differs += filter_accepts_directory(f, NULL, path, len) !=
				filter_accepts_directory_in(f, NULL, path, len);
		}
		filter_free(f);
	}
	CHECK(accepted > 10000, "the random include lists accept something");
	CHECK_EQ_INT(variant_differs, 0, "below an accepted directory the _in variants decide as the others");
	CHECK_EQ_INT(unreachable, 0, "all directories above an accepted path are accepted");
}

int
main(void)
{
	char		top[] = "/tmp/fsync-filter-XXXXXX";
	FILE	   *list;
	char		command[128];

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

	/* The user's own settings have no part in this. */
	setenv("HOME", top, 1);
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("GIT_DIR");
	unsetenv("GIT_WORK_TREE");
	unsetenv("GIT_INDEX_FILE");
	run("git init -q . 2>/dev/null && rm -f .git/info/exclude");
	compare_lists();
	compare_trees();
	check_consistency();
	for (size_t i = 0; i < n_paths; i++)
		free(paths[i]);
	if (chdir("/") == 0)
	{
		snprintf(command, sizeof(command), "rm -rf '%s'", top);
		run(command);
	}
	return unit_done();
}
