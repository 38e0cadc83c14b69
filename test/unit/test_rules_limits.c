/*-------------------------------------------------------------------------
 *
 * test_rules_limits.c
 *		Files of rules that somebody wrote to do harm: they are refused as a
 *		whole before they cost much, and what is not refused costs little.
 *
 *-------------------------------------------------------------------------
 */
#include "clock.h"
#include "filter.h"
#include "files.h"
#include "rules.h"

static Filter *filter;

static void
make_filter(void)
{
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	const char *error;

	settings.use_rules = true;
	filter = filter_create(&settings, &error);
	FILES_MUST(filter != NULL);
}

/* A text of so many lines, each made by the format and its number. */
static char *
lines(size_t n, const char *format, size_t *len)
{
	char	   *text = NULL;
	FILE	   *out = open_memstream(&text, len);

	FILES_MUST(out != NULL);
	for (size_t i = 0; i < n; i++)
	{
		fprintf(out, format, i);
		fputc('\n', out);
	}
	fclose(out);
	return text;
}

static FilterRules *
add(FilterRules *above, const char *directory, const char *text, size_t len)
{
	FilterRules *rules = filter_rules_add(filter, above, directory, strlen(directory),
										  text, len, 0);

	FILES_MUST(rules != NULL);
	filter_rules_release(above);
	return rules;
}

/* Fails if as many lines as are allowed are too many, or one more is not. */
static void
test_count(void)
{
	size_t		len;
	char	   *most = lines(FILTER_RULES_MAX_PATTERNS, "f%zu", &len);
	FilterRules *rules = add(NULL, "", most, len);

	EQUALS(filter_rules_error(rules), 0);
	EQUALS(filter_accepts_file(filter, rules, "f77", 3), FILTER_REFUSED);
	EQUALS(filter_accepts_file(filter, rules, "g77", 3), FILTER_ACCEPTED);

	/* those of all directories count together */
	rules = add(rules, "d", "one\n", 4);
	EQUALS(filter_rules_error(rules), EFBIG);
	HOLDS(filter_rules_unknown(rules) == rules);
	EQUALS(filter_accepts_file(filter, rules, "d/x", 3), FILTER_UNSURE);

	/* the one above still says what it said, and one below is counted from there */
	EQUALS(filter_accepts_file(filter, rules, "x", 1), FILTER_UNSURE);
	rules = add(rules, "d/e", "# only a comment\n\n", 18);
	EQUALS(filter_rules_error(rules), 0);
	filter_rules_release(rules);
	free(most);

	most = lines(FILTER_RULES_MAX_PATTERNS + 1, "f%zu", &len);
	rules = add(NULL, "", most, len);
	EQUALS(filter_rules_error(rules), EFBIG);
	filter_rules_release(rules);
	free(most);
	EQUALS(filter_rules_memory(filter), 0);
}

/* Fails if a line that is repeated costs more than one. */
static void
test_repetition(void)
{
	size_t		len = FILTER_RULES_MAX_TEXT;
	char	   *text = malloc(len);
	FilterRules *rules;

	FILES_MUST(text != NULL);
	for (size_t i = 0; i < len; i++)
		text[i] = i % 2 == 0 ? 'a' : '\n';
	rules = add(NULL, "", text, len);
	EQUALS(filter_rules_error(rules), 0);
	EQUALS(filter_accepts_file(filter, rules, "a", 1), FILTER_REFUSED);
	HOLDS(filter_rules_memory(filter) < 1000);

	/* the bytes of all directories count together */
	EQUALS(filter_rules_room(rules), 0);
	rules = add(rules, "d", "b", 1);
	EQUALS(filter_rules_error(rules), EFBIG);
	filter_rules_release(rules);
	rules = add(NULL, "", text, len / 2);
	EQUALS(filter_rules_room(rules), FILTER_RULES_MAX_TEXT / 2);
	filter_rules_release(rules);
	free(text);
}

/* The longest that one of these decisions takes, in microseconds. */
static int64_t
slowest(const FilterRules *rules)
{
	static char name[256];
	static char path[PROTO_PATH_MAX + 1];
	int64_t		worst = 0;

	memset(name, 'a', 255);
	for (size_t i = 0; i < PROTO_PATH_MAX; i++)
		path[i] = i % 2 == 0 ? 'a' : '/';
	path[PROTO_PATH_MAX - 1] = 'a';
	for (int what = 0; what < 2; what++)
	{
		const char *asked = what == 0 ? name : path;
		int64_t		begin = monotonic_us();

		(void) filter_accepts_file_in(filter, rules, asked, strlen(asked));
		if (monotonic_us() - begin > worst)
			worst = monotonic_us() - begin;
	}
	return worst;
}

/*
 * Fails if lines of a kind, as many as are let through, take more memory or
 * time than they may; tenfold, for slow machines and sanitizers.
 */
static void
test_kind(const char *format)
{
	FilterRules *rules = NULL;
	size_t		low = 0;
	size_t		high = 2 * FILTER_RULES_MAX_PATTERNS;

	while (high - low > 1)
	{
		size_t		n = (low + high) / 2;
		size_t		len;
		char	   *text = lines(n, format, &len);
		FilterRules *tried = add(NULL, "", text, len);

		free(text);
		if (filter_rules_error(tried) != 0)
		{
			high = n;
			filter_rules_release(tried);
			continue;
		}
		low = n;
		filter_rules_release(rules);
		rules = tried;
	}
	HOLDS(low > 0);
	if (rules == NULL)
		return;
	HOLDS(filter_rules_memory(filter) <= FILTER_RULES_MAX_MEMORY + 1000);
	HOLDS(slowest(rules) < 500000);
	printf("# \"%.30s\": %zu lines, %zu bytes, %d us\n", format, low,
		   filter_rules_memory(filter), (int) slowest(rules));
	filter_rules_release(rules);
}

static void
test_kinds(void)
{
	char		stars[400];
	char		classes[1000];
	char		deep[400];

	strcpy(stars, "%zu");
	strcpy(classes, "%zu");
	strcpy(deep, "**/a%zu");
	for (int i = 0; i < 100; i++)
		strcat(stars, "*a");
	for (int i = 0; i < 300; i++)
		strcat(classes, "[a]");
	for (int i = 0; i < 60; i++)
		strcat(deep, "/**/a");
	test_kind("%zu");
	test_kind("*.ext%zu");
	test_kind(stars);
	test_kind(stars + 3);
	test_kind(classes);
	test_kind(deep);
	test_kind("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b%zu");
	test_kind("/**/*a*a*a*a*a*a*a/**/*a*a*a*a*a*b%zu");
	test_kind("a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/%zu");
}

/* Fails if a file is read that is too large, or one is not that may be there. */
static void
test_files(void)
{
	char	   *dir = files_temp_dir();
	int			fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char		path[300];
	FilterRules *rules;
	FILE	   *f;

	snprintf(path, sizeof(path), "%s/%s", dir, FILTER_RULES_NAME);
	f = fopen(path, "w");
	FILES_MUST(f != NULL && fd >= 0);
	fputs("one\ntwo\n", f);
	fflush(f);
	HOLDS(rules_read(filter, NULL, fd, "", 0, &rules));
	EQUALS(filter_rules_error(rules), 0);
	EQUALS(filter_accepts_file(filter, rules, "two", 3), FILTER_REFUSED);
	filter_rules_release(rules);

	/* sparse: nothing of it need be there */
	FILES_MUST(ftruncate(fileno(f), INT64_C(1) << 40) == 0);
	HOLDS(rules_read(filter, NULL, fd, "", 0, &rules));
	EQUALS(filter_rules_error(rules), EFBIG);
	filter_rules_release(rules);
	fclose(f);
	close(fd);
	files_remove_tree(dir);
	free(dir);
}

int
main(void)
{
	make_filter();
	test_count();
	test_repetition();
	test_kinds();
	test_files();
	EQUALS(filter_rules_memory(filter), 0);
	filter_free(filter);
	return unit_done();
}
