/*-------------------------------------------------------------------------
 *
 * test_filter.c
 *		Patterns and decisions of filter.c; test_filter_git.c compares them with
 *		git's.
 *
 * What goes wrong when this fails: files that a user excluded are tracked, or
 * files that a user wants are not, or watch and walk disagree about a path.
 *
 *-------------------------------------------------------------------------
 */
#include "filter.h"
#include "glob.h"

#include <stdlib.h>
#include <time.h>

#include "unit.h"

static bool
glob_says(const char *pattern, const char *path, bool is_directory)
{
	const char *error;
	Glob	   *glob = glob_compile(pattern, strlen(pattern), false, &error);
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
make_filter_with(FilterSettings settings, const char *const *include,
				 const char *const *exclude)
{
	FilterPattern inc[8];
	FilterPattern exc[8];
	const char *error;
	Filter	   *filter;

	settings.include = inc;
	settings.n_include = list_of(inc, include);
	settings.exclude = exc;
	settings.n_exclude = list_of(exc, exclude);
	filter = filter_create(&settings, &error);
	if (filter == NULL)
	{
		printf("Bail out! a good filter was refused: %s\n", error);
		exit(1);
	}
	return filter;
}

static Filter *
make_filter(const char *const *include, const char *const *exclude)
{
	return make_filter_with((FilterSettings) FILTER_SETTINGS_DEFAULT, include, exclude);
}

#define LIST(...) ((const char *const[]) {__VA_ARGS__, NULL})

static bool
file(const Filter *f, const char *path)
{
	return filter_accepts_file(f, NULL, path, strlen(path)) == FILTER_ACCEPTED;
}

static bool
dir(const Filter *f, const char *path)
{
	return filter_accepts_directory(f, NULL, path, strlen(path)) == FILTER_ACCEPTED;
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
	FilterSettings settings = {.exclude = &pattern, .n_exclude = 1};

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
	CHECK(filter_create(&settings, &error) == NULL && error != NULL,
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
 * Other settings
 * ---------------------------------------------------------------------
 */

static void
test_ignore_case(void)
{
	Filter	   *f = make_filter_with((FilterSettings) {.ignore_case = true, .max_size = INT64_MAX},
									 LIST("*.jpg", "Docs/", "[a-f]1", "[!g]2", "[[:upper:]]3"),
									 LIST("RAW", "\303\204"));

	CHECK(file(f, "a.JPG") && file(f, "A.jpg") && file(f, "a.Jpg"), "letters of any case match");
	CHECK(file(f, "dOCS/x") && !dir(f, "raw") && !file(f, "x/Raw/a.jpg"), "in directories too");
	CHECK(file(f, "F1") && file(f, "f1") && !file(f, "G1"), "in a range");
	CHECK(file(f, "H2") && !file(f, "G2") && !file(f, "g2"), "in a negated class");
	CHECK(file(f, "x3") && file(f, "X3") && !file(f, "13"), "in a named class");
	CHECK(!file(f, "\303\204/a.jpg") && file(f, "\303\244/a.jpg"), "but only letters of ASCII");
	CHECK(file(f, "a.TMP.jpg") && !file(f, "a.jpg.tmp"), "the default rules are not concerned");
	filter_free(f);
	f = make_filter(LIST("*.jpg", "[A-C]1"), NULL);
	CHECK(!file(f, "a.JPG") && !file(f, "a1"), "unless it was asked for they do not");
	filter_free(f);
}

static void
test_presets(void)
{
	Filter	   *f = make_filter(LIST("preset:images", "preset:videos"), NULL);

	CHECK(file(f, "a.jpg") && file(f, "x/y.HEIC") && file(f, "v.Mp4"),
		  "presets include their files, of any case");
	CHECK(!file(f, "a.nef") && !file(f, "a.pdf") && !file(f, "jpg") && !file(f, "a.jpgx") &&
		  !file(f, "a.") && !file(f, "a.jpg.x"), "and no others");
	CHECK(file(f, "a.b.png"), "what follows the last dot counts");
	CHECK(dir(f, "x") && dir(f, "x/y"), "directories are entered");
	CHECK(dir(f, "x.jpg") && !file(f, "x.jpg/notes.txt"), "and not included for their names");
	filter_free(f);

	f = make_filter(NULL, LIST("preset:raw", "preset:documents", "!keep.pdf"));
	CHECK(!file(f, "a.CR2") && !file(f, "a.docx") && file(f, "a.jpg"), "presets exclude");
	CHECK(file(f, "keep.pdf") && !file(f, "other.pdf"), "and a later pattern takes back");
	CHECK(dir(f, "x.raw") && file(f, "x.raw/a.jpg"), "no directory is excluded for its name");
	filter_free(f);

	f = make_filter(NULL, LIST("preset:backups"));
	CHECK(!file(f, "a.jpg_original") && !file(f, "a.jpg.orig") && !file(f, "A.JPG.ORIG") &&
		  !file(f, "d/a.JPG_Original"), "copies that programs leave");
	CHECK(file(f, "_original") && file(f, "a_original.jpg") && file(f, "orig") &&
		  file(f, "a.original") && dir(f, "a_original"), "and no others");
	filter_free(f);

	f = make_filter(NULL, LIST("*.*", "!preset:images"));
	CHECK(file(f, "a.jpg") && !file(f, "a.txt"), "'!' takes back a preset");
	filter_free(f);

	f = make_filter(LIST("\\preset:images"), NULL);
	CHECK(file(f, "preset:images") && !file(f, "a.jpg"), "with a backslash it is a name");
	filter_free(f);
	CHECK(filter_check_pattern("preset:images", 13) == NULL, "a preset is a good pattern");
	CHECK(filter_check_pattern("preset:image", 12) != NULL &&
		  strstr(filter_check_pattern("preset:image", 12), "images, videos, raw, documents, backups") != NULL,
		  "an unknown one is refused, and the known ones named");
	CHECK(filter_check_pattern("!preset:", 8) != NULL, "so is none");
}

static void
test_hidden(void)
{
	Filter	   *f = make_filter_with((FilterSettings) {.include_hidden = true, .max_size = INT64_MAX},
									 NULL, LIST(".git/"));

	CHECK(file(f, ".a") && file(f, ".config/a") && file(f, "..."), "hidden names on request");
	CHECK(!file(f, ".git/config") && file(f, ".git"), "which patterns can exclude again");
	CHECK(!file(f, ".DS_Store") && !file(f, ".a.swp") && !file(f, "a~") && !file(f, "x/.b.tmp/y"),
		  "but nothing else that is ignored by default");
	CHECK(filter_ignores_name(f, ".", 1) && filter_ignores_name(f, "..", 2),
		  "\".\" and \"..\" are no names");
	filter_free(f);
}

static void
test_sizes(void)
{
	Filter	   *f = make_filter_with((FilterSettings) {.min_size = 10, .max_size = 20}, NULL, NULL);

	CHECK(!filter_accepts_size(f, 9) && filter_accepts_size(f, 10) &&
		  filter_accepts_size(f, 20) && !filter_accepts_size(f, 21), "both limits are inclusive");
	filter_free(f);
	f = make_filter(NULL, NULL);
	CHECK(filter_accepts_size(f, 0) && filter_accepts_size(f, INT64_MAX), "there is no limit by default");
	filter_free(f);
}

/* ---------------------------------------------------------------------
 * The rules of .fsyncignore files
 * ---------------------------------------------------------------------
 */

static FilterRules *
add_rules(const Filter *f, FilterRules *above, const char *directory, const char *text, int error)
{
	FilterRules *rules = filter_rules_add(f, above, directory, strlen(directory),
										  text, strlen(text), error);

	filter_rules_release(above);
	return rules;
}

static FilterVerdict
with_rules(const Filter *f, const FilterRules *rules, const char *path)
{
	return filter_accepts_file(f, rules, path, strlen(path));
}

static void
test_rules(void)
{
	Filter	   *f = make_filter(NULL, LIST("never", "!always"));
	FilterRules *top = add_rules(f, NULL, "",
								 "\xef\xbb\xbf*.log\r\n# a comment\n\\#hash\n/anchored\nb/deep\n"
								 "trailing   \nspace\\ \nalways\n!never\n[bad\n\nsub/*.c\n*.x", 0);
	FilterRules *rules = add_rules(f, filter_rules_keep(top), "sub",
								   "!keep.log\n/own\n!*.c\n", 0);
	FilterRules *unknown;

	CHECK(!with_rules(f, top, "a.log") && !with_rules(f, top, "sub2/a.log"), "a rule excludes below");
	CHECK(with_rules(f, top, "# a comment") && !with_rules(f, top, "#hash"),
		  "lines that begin with # are comments, unless escaped");
	CHECK(!with_rules(f, top, "anchored") && with_rules(f, top, "y/anchored"), "a slash anchors");
	CHECK(!with_rules(f, top, "trailing") && with_rules(f, top, "trailing   "),
		  "spaces at the end mean nothing");
	CHECK(!with_rules(f, top, "space ") && with_rules(f, top, "space"), "unless escaped");
	CHECK(!with_rules(f, top, "a.x"), "the last line needs no end");
	CHECK(with_rules(f, top, "[bad"), "a bad line is left out");
	CHECK(with_rules(f, rules, "sub/keep.log") && !with_rules(f, rules, "sub/other.log"),
		  "a deeper file wins");
	CHECK(!with_rules(f, rules, "sub/own") && with_rules(f, rules, "sub/y/own"),
		  "its slashes anchor to its own directory");
	CHECK(with_rules(f, rules, "sub/a.c"), "a deeper file wins over a pattern with a slash");
	CHECK(!with_rules(f, top, "never") && with_rules(f, top, "always"),
		  "the exclude list wins over all of them");

	unknown = add_rules(f, filter_rules_keep(top), "sub", "", 13);
	CHECK(filter_rules_unknown(unknown) == unknown && filter_rules_unknown(top) == NULL, "an unread file is unknown");
	CHECK(with_rules(f, unknown, "sub/a.log") == FILTER_UNSURE &&
		  with_rules(f, unknown, "sub/a.txt") == FILTER_UNSURE,
		  "what it may speak of is unsure, also where an upper file excludes");
	CHECK(with_rules(f, unknown, "sub/never") == FILTER_REFUSED &&
		  with_rules(f, unknown, "sub/.a") == FILTER_REFUSED,
		  "but not what a stronger rule refuses");
	filter_rules_release(unknown);

	unknown = add_rules(f, NULL, "", "", 13);
	unknown = add_rules(f, unknown, "sub", "own\n!other\n", 0);
	CHECK(with_rules(f, unknown, "sub/own") == FILTER_REFUSED, "nor what a deeper file refuses");
	CHECK(with_rules(f, unknown, "sub/other") == FILTER_UNSURE,
		  "what a deeper file takes back may lie in a directory that is excluded");
	CHECK(filter_accepts_file_in(f, unknown, "sub/other", 9) == FILTER_UNSURE &&
		  filter_accepts_directory_in(f, unknown, "sub/other", 9) == FILTER_UNSURE,
		  "also to those who know that the directory was entered");
	filter_rules_release(unknown);
	filter_rules_release(rules);
	filter_rules_release(top);
	filter_free(f);
}

static void
test_reasons(void)
{
	static const struct
	{
		const char *path;
		bool		tracked;
		FilterSource source;
		const char *rule;
		size_t		decided_len;
	}			cases[] = {
		{"a.txt", false, FILTER_BY_INCLUDE, NULL, 5},
		{"a.jpg", true, FILTER_BY_INCLUDE, "preset:images", 5},
		{"b.jpg", false, FILTER_BY_INCLUDE, "!b.jpg", 5},
		{"docs/x/y", true, FILTER_BY_INCLUDE, "docs/", 4},
		{"raw/x/a.jpg", false, FILTER_BY_EXCLUDE, "raw", 3},
		{"x/keep.log", true, FILTER_BY_INCLUDE, "*.log", 10},
		{"x/y.tmp/a.jpg", false, FILTER_BY_DEFAULT, "*.tmp", 7},
		{".x/a.jpg", false, FILTER_BY_HIDDEN, ".*", 2},
		{"sub/one.jpg", false, FILTER_BY_RULES, "one.*", 11},
	};
	Filter	   *f = make_filter(LIST("preset:images", "!b.jpg", "docs/", "*.log"),
								LIST("raw", "*.log", "!keep.log"));
	FilterRules *rules = add_rules(f, NULL, "sub", "one.*\n", 0);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		FilterReason reason;
		bool		below = strncmp(cases[i].path, "sub/", 4) == 0;

		filter_explain(f, below ? rules : NULL, cases[i].path, strlen(cases[i].path),
					   false, &reason);
		CHECK((reason.verdict == FILTER_ACCEPTED) == cases[i].tracked &&
			  reason.source == cases[i].source &&
			  (cases[i].rule == NULL ? reason.rule == NULL :
			   reason.rule != NULL && strcmp(reason.rule, cases[i].rule) == 0) &&
			  reason.decided_len == cases[i].decided_len,
			  "\"%s\" is due to %s", cases[i].path, cases[i].rule ? cases[i].rule : "no pattern");
		if (below)
			CHECK_EQ_STR(reason.directory, "sub", "a rule's file is known");
	}
	filter_rules_release(rules);
	filter_free(f);
	f = make_filter(NULL, NULL);
	{
		FilterReason reason;

		filter_explain(f, NULL, "a", 1, false, &reason);
		CHECK(reason.verdict == FILTER_ACCEPTED && reason.source == FILTER_BY_NOTHING,
			  "without patterns nothing speaks of a file");
	}
	filter_free(f);
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
	glob = glob_compile(stars, sizeof(stars), false, &error);
	CHECK(!glob_matches(glob, name, sizeof(name), false), "a pattern of 512 stars does not match");
	glob_free(glob);

	/* The same with directories: a "**" for each star. */
	for (size_t i = 0; i < 1020; i++)
		stars[i] = "**/a/"[i % 5];
	stars[1018] = 'b';
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = i % 2 ? '/' : 'a';
	glob = glob_compile(stars, 1019, false, &error);
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
	test_ignore_case();
	test_presets();
	test_hidden();
	test_sizes();
	test_rules();
	test_reasons();
	return unit_done();
}
