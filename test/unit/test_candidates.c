/*-------------------------------------------------------------------------
 *
 * test_candidates.c
 *		Renames are matched by all four values and by nothing else, in memory
 *		and through the temporary file alike.
 *
 *-------------------------------------------------------------------------
 */
#include "candidates.h"
#include "files.h"

#include <sys/stat.h>

static Spools spools;

static void
add(Candidates *c, CandidateKind kind, const char *path, int64_t inode, int64_t btime_ns,
	int64_t size, int64_t mtime_ns)
{
	Candidate	candidate = {kind, path, strlen(path), inode, btime_ns, size, mtime_ns};

	FILES_MUST(candidates_add(c, &candidate) == 0);
}

/* All that is left to step through, as "old>new", "+added", "~changed", "-removed". */
static char *
output(Candidates *c)
{
	char	   *text = NULL;
	size_t		len = 0;
	FILE	   *out = open_memstream(&text, &len);
	Candidate	removed;
	Candidate	added;
	int			result;

	FILES_MUST(out != NULL);
	while ((result = candidates_next(c, &removed, &added)) == 1)
	{
		if (removed.path != NULL && added.path != NULL)
			fprintf(out, "%s>%s ", removed.path, added.path);
		else if (removed.path != NULL)
			fprintf(out, "-%s ", removed.path);
		else
			fprintf(out, "%c%s ", added.kind == CANDIDATE_ADDED ? '+' : '~', added.path);
	}
	EQUALS(result, 0);
	fclose(out);
	return text;
}

/* Each test runs with everything in memory, with a little, and with none. */
static Candidates *
make(int variant)
{
	static const size_t limits[] = {0, 0, 100, 5000};
	Candidates *c = candidates_create(variant == 0 ? NULL : &spools, limits[variant]);

	FILES_MUST(c != NULL);
	return c;
}

#define VARIANTS			4

/* Fails if the order of output is another one than promised. */
static void
test_order(int variant)
{
	Candidates *c = make(variant);
	char	   *text;

	add(c, CANDIDATE_REMOVED, "r1", 1, 1, 1, 1);
	add(c, CANDIDATE_ADDED, "a1", 2, 2, 2, 2);
	add(c, CANDIDATE_CHANGED, "c1", 3, 3, 3, 3);
	add(c, CANDIDATE_REMOVED, "old2", 5, 5, 5, 5);
	add(c, CANDIDATE_ADDED, "new1", 4, 4, 4, 4);
	add(c, CANDIDATE_REMOVED, "old1", 4, 4, 4, 4);
	add(c, CANDIDATE_ADDED, "new2", 5, 5, 5, 5);
	add(c, CANDIDATE_REMOVED, "r2", 6, 6, 6, 6);
	add(c, CANDIDATE_CHANGED, "c2", 1, 1, 1, 1);
	add(c, CANDIDATE_ADDED, "a2", 7, 7, 7, 7);
	EQUALS(candidates_count(c, CANDIDATE_ADDED), 4);
	EQUALS(candidates_count(c, CANDIDATE_REMOVED), 4);
	EQUALS(candidates_count(c, CANDIDATE_CHANGED), 2);
	EQUALS(candidates_match(c), 2);
	text = output(c);
	CHECK_EQ_STR(text, "old2>new2 old1>new1 ~c1 ~c2 +a1 +a2 -r1 -r2 ",
				 "pairs, changed, added, removed, each in order of adding");
	free(text);
	candidates_free(c);
}

/* Fails if less than inode and birth time makes a rename, or more is asked for. */
static void
test_identity(int variant)
{
	Candidates *c = make(variant);
	char	   *text;

	add(c, CANDIDATE_REMOVED, "old", 1, 2, 3, 4);
	add(c, CANDIDATE_ADDED, "inode", 9, 2, 3, 4);
	add(c, CANDIDATE_ADDED, "btime", 1, 9, 3, 4);
	add(c, CANDIDATE_CHANGED, "changed", 1, 2, 3, 4);
	add(c, CANDIDATE_REMOVED, "nobtime", 1, PROTO_NO_TIME, 3, 4);
	add(c, CANDIDATE_ADDED, "nobtime2", 1, PROTO_NO_TIME, 3, 4);
	add(c, CANDIDATE_REMOVED, "before", 3, 2, 3, 4);
	add(c, CANDIDATE_ADDED, "written", 3, 2, 9, 9);
	EQUALS(candidates_match(c), 1);
	text = output(c);
	CHECK_EQ_STR(text, "before>written ~changed +inode +btime +nobtime2 -old -nobtime ",
				 "only what has one identity is a rename");
	free(text);
	candidates_free(c);
}

/* Fails if hard links share a partner. */
static void
test_one_to_one(int variant)
{
	Candidates *c = make(variant);
	char	   *text;

	add(c, CANDIDATE_ADDED, "n1", 1, 2, 3, 4);
	add(c, CANDIDATE_REMOVED, "o1", 1, 2, 3, 4);
	add(c, CANDIDATE_REMOVED, "o2", 1, 2, 3, 4);
	add(c, CANDIDATE_ADDED, "n2", 1, 2, 3, 4);
	add(c, CANDIDATE_REMOVED, "o3", 1, 2, 3, 4);
	EQUALS(candidates_match(c), 2);
	text = output(c);
	CHECK_EQ_STR(text, "o1>n1 o2>n2 -o3 ", "first with first, and one is left");
	free(text);
	candidates_free(c);
}

/* Fails if nothing, or the longest path, or a longer one, is not coped with. */
static void
test_edges(int variant)
{
	Candidates *c = make(variant);
	Candidate	removed;
	Candidate	added;
	Candidate	candidate = {CANDIDATE_ADDED, NULL, PROTO_PATH_MAX + 1, 1, 1, 1, 1};
	char		path[PROTO_PATH_MAX + 2];

	EQUALS(candidates_match(c), 0);
	EQUALS(candidates_next(c, &removed, &added), 0);
	candidates_free(c);

	c = make(variant);
	memset(path, 'p', sizeof(path));
	candidate.path = path;
	HOLDS(candidates_add(c, &candidate) == -1 && errno == ENAMETOOLONG);
	candidate.len = PROTO_PATH_MAX;
	EQUALS(candidates_add(c, &candidate), 0);
	candidate.kind = CANDIDATE_REMOVED;
	candidate.len = 0;
	EQUALS(candidates_add(c, &candidate), 0);
	EQUALS(candidates_match(c), 1);
	EQUALS(candidates_next(c, &removed, &added), 1);
	HOLDS(removed.len == 0 && removed.path[0] == '\0');
	HOLDS(added.len == PROTO_PATH_MAX && memcmp(added.path, path, PROTO_PATH_MAX) == 0);
	HOLDS(added.inode == 1 && added.btime_ns == 1 && added.size == 1 && added.mtime_ns == 1);
	EQUALS(candidates_next(c, &removed, &added), 0);
	candidates_free(c);
}

/* Fails if among very many records one is lost, or matching is quadratic. */
static void
test_many(int variant)
{
	enum { files = 50000 };
	Candidates *c = make(variant);
	Candidate	removed;
	Candidate	added;
	int			pairs = 0;
	int			additions = 0;
	int			wrong = 0;
	int			i;

	for (i = 0; i < files; i++)
	{
		char		name[32];

		/* a third moved, a third hard links to one file, a third only new */
		snprintf(name, sizeof(name), "%d", i);
		if (i % 3 != 2)
			add(c, CANDIDATE_REMOVED, name, i % 3 ? 1 : i, 0, 0, i % 3 ? -1 : i);
	}
	for (i = files - 1; i >= 0; i--)
	{
		char		name[32];

		snprintf(name, sizeof(name), "new/%d", i);
		add(c, CANDIDATE_ADDED, name, i % 3 == 1 ? 1 : i, 0, 0, i % 3 == 1 ? -1 : i);
	}
	EQUALS(candidates_match(c), (files + 2) / 3 + (files + 1) / 3);
	while (candidates_next(c, &removed, &added) == 1)
	{
		if (removed.path == NULL)
		{
			additions++;
			wrong += atoi(added.path + 4) % 3 != 2;
			continue;
		}
		pairs++;
		if (added.path == NULL || strncmp(added.path, "new/", 4) != 0)
			wrong++;
		else if (removed.inode != 1 || removed.mtime_ns != -1)
			wrong += strcmp(removed.path, added.path + 4) != 0;
	}
	EQUALS(pairs, (files + 2) / 3 + (files + 1) / 3);
	EQUALS(additions, files / 3);
	EQUALS(wrong, 0);
	candidates_free(c);
}

/* Bytes in the files that are not taken. */
static off_t
spooled(void)
{
	off_t		bytes = 0;

	for (int i = 0; i < PROTO_SPOOLS; i++)
	{
		struct stat st;

		if (spools.fds[i] < 0)
			continue;
		FILES_MUST(fstat(spools.fds[i], &st) == 0);
		bytes += st.st_size;
	}
	return bytes;
}

/*
 * Fails if a file is given to two at once, is not emptied for the next, or its
 * absence is not noticed, or ends anything.
 */
static void
test_spool(void)
{
	Candidate	candidate = {CANDIDATE_ADDED, "x", 1, 1, 1, 1, 1};
	Candidates *c[PROTO_SPOOLS + 1];
	FILE	   *read_only;

	for (int i = 0; i <= PROTO_SPOOLS; i++)
	{
		c[i] = make(1);
		add(c[i], CANDIDATE_ADDED, i == 0 ? "first" : "later", i, 1, 1, 1);
		add(c[i], CANDIDATE_ADDED, "b", 1, 1, 1, 1);
	}
	EQUALS(spools_take(&spools), -1);
	for (int i = 0; i <= PROTO_SPOOLS; i++)
	{
		char	   *text;

		EQUALS(candidates_match(c[i]), 0);
		text = output(c[i]);
		HOLDS(strcmp(text, i == 0 ? "+first +b " : "+later +b ") == 0);
		free(text);
		candidates_free(c[i]);
	}
	EQUALS(spooled(), 0);

	/* what cannot be written to is told */
	read_only = fopen("/dev/null", "r");
	FILES_MUST(read_only != NULL);
	while (spools_take(&spools) >= 0)
		;
	spools_give(&spools, fileno(read_only));
	c[0] = candidates_create(&spools, 10);
	FILES_MUST(c[0] != NULL);
	EQUALS(candidates_add(c[0], &candidate), 0);
	HOLDS(candidates_add(c[0], &candidate) == -1 && errno == EBADF);
	candidates_free(c[0]);
	fclose(read_only);
}

int
main(void)
{
	FILE	   *files[PROTO_SPOOLS];
	int			variant;

	spools_init(&spools);
	for (int i = 0; i < PROTO_SPOOLS; i++)
	{
		files[i] = tmpfile();
		FILES_MUST(files[i] != NULL);
		spools_add(&spools, fileno(files[i]));
	}
	for (variant = 0; variant < VARIANTS; variant++)
	{
		test_order(variant);
		test_identity(variant);
		test_one_to_one(variant);
		test_edges(variant);
		test_many(variant);
	}
	test_spool();
	for (int i = 0; i < PROTO_SPOOLS; i++)
		fclose(files[i]);
	return unit_done();
}
