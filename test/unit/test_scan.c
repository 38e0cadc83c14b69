/*-------------------------------------------------------------------------
 *
 * test_scan.c
 *		A scan finds every difference between disk and rows, and no other,
 *		however the rows are divided into pages.
 *
 * The worker is a sorted array here, which answers as the database does.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "findings.h"
#include "scan.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#define MAX_ROWS			400

typedef struct Row
{
	char		path[128];
	ProtoBelief belief;
} Row;

static Row	rows[MAX_ROWS];
static size_t n_rows;
static size_t page_size;
static ScanOptions options;
static char *root;
static int	rootfd;

/* ---- the table ---- */

static int
compare_rows(const void *a, const void *b)
{
	return strcmp(((const Row *) a)->path, ((const Row *) b)->path);
}

static Row *
find_row(const char *path)
{
	for (size_t i = 0; i < n_rows; i++)
		if (strcmp(rows[i].path, path) == 0)
			return &rows[i];
	return NULL;
}

/* A row that is as the file is. */
static Row *
row_of(const char *path)
{
	Row		   *row = &rows[n_rows++];
	FileInfo	info;

	FILES_MUST(n_rows <= MAX_ROWS && strlen(path) < sizeof(row->path));
	FILES_MUST(beneath_stat(rootfd, path, strlen(path), &info) == 0);
	memset(row, 0, sizeof(*row));
	strcpy(row->path, path);
	row->belief.id = (int64_t) n_rows;
	row->belief.size = info.stat.size;
	row->belief.inode = info.stat.inode;
	row->belief.mtime_ns = info.stat.mtime_ns;
	row->belief.ctime_ns = info.stat.ctime_ns;
	row->belief.btime_ns = info.stat.btime_ns;
	row->belief.has_hash = true;
	return row;
}

/* A row whose file is not there. */
static Row *
row_without_file(const char *path)
{
	Row		   *row = &rows[n_rows++];

	FILES_MUST(n_rows <= MAX_ROWS);
	memset(row, 0, sizeof(*row));
	strcpy(row->path, path);
	row->belief.inode = INT64_C(1000000000000) + (int64_t) n_rows;
	row->belief.btime_ns = 1;
	row->belief.has_hash = true;
	return row;
}

static int
compare_str(const char *path, ProtoStr s)
{
	size_t		len = strlen(path);
	int			c = memcmp(path, s.data, len < s.len ? len : s.len);

	return c != 0 ? c : (len > s.len) - (len < s.len);
}

static void
answer(Scan *scan, const ProtoBeliefsRequest *request)
{
	ProtoBeliefsHeader header = {.request_id = request->request_id, .last = true};
	size_t		limit = page_size < request->limit ? page_size : request->limit;
	size_t		first = n_rows;
	ProtoBuf	buf;
	ProtoReader body;
	uint8_t		type;

	FILES_MUST(request->kind == PROTO_BELIEFS_RANGE);
	for (size_t i = 0; i < n_rows; i++)
	{
		int			c = compare_str(rows[i].path, request->after);

		if (c < 0 || (c == 0 && !request->inclusive))
			continue;
		if (request->before.len > 0 && compare_str(rows[i].path, request->before) >= 0)
			break;
		if (header.count == limit)
		{
			header.last = false;
			break;
		}
		if (header.count++ == 0)
			first = i;
	}
	proto_buf_init(&buf);
	proto_begin(&buf, PROTO_BELIEFS);
	proto_put_beliefs_header(&buf, &header);
	for (size_t i = first; i < first + header.count; i++)
	{
		ProtoBelief belief = rows[i].belief;

		belief.path.data = rows[i].path;
		belief.path.len = (uint32_t) strlen(rows[i].path);
		proto_put_belief(&buf, &belief);
	}
	proto_end(&buf);
	FILES_MUST(proto_next(&buf, &type, &body) == 1);
	FILES_MUST(proto_get_beliefs_header(&body, &header));
	FILES_MUST(scan_give_beliefs(scan, &header, body));
	proto_buf_free(&buf);
}

/* ---- the engine's side ---- */

/* One place a word; "." is the root, "!" before it means a local one. */
static Scan *
start(const char *words)
{
	ScanPlace  *places = calloc(32, sizeof(ScanPlace));
	size_t		n = 0;
	char	   *copy = strdup(words);
	Scan	   *scan;

	FILES_MUST(places != NULL && copy != NULL);
	for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
	{
		places[n].local = word[0] == '!';
		word += places[n].local;
		places[n].path = strdup(strcmp(word, ".") == 0 ? "" : word);
		places[n].len = strlen(places[n].path);
		n++;
	}
	free(copy);
	qsort(rows, n_rows, sizeof(Row), compare_rows);
	scan = scan_start(places, &n, &options);
	FILES_MUST(scan != NULL);
	return scan;
}

/* Sleeps until the scan has something for its engine. */
static void
wait_for(void)
{
	struct pollfd waiting = {.fd = options.notify_fd, .events = POLLIN};
	uint64_t	n;

	FILES_MUST(poll(&waiting, 1, 60000) == 1);
	FILES_MUST(read(options.notify_fd, &n, sizeof(n)) == sizeof(n));
}

/*
 * Runs a scan to its end and gives what it found, in its order: "*path" for a
 * file that goes out at once, "!path:problem", then the candidates: "old>new",
 * "~changed", "+added", "-removed", each with a space behind it.
 */
static const char *
scan_places(const char *places, ScanStatus *status)
{
	static char *text;
	size_t		len;
	FILE	   *out;
	Scan	   *scan = start(places);
	Candidate	removed;
	Candidate	added;

	free(text);
	out = open_memstream(&text, &len);
	FILES_MUST(out != NULL);
	for (;;)
	{
		ProtoBeliefsRequest request;
		Finding    *finding;

		if (scan_wants_beliefs(scan, &request))
			answer(scan, &request);
		while ((finding = scan_take_finding(scan)) != NULL)
		{
			if (finding->kind == FINDING_ADDED)
				fprintf(out, "*%s ", finding->path);
			else
				fprintf(out, "!%s:%d ", finding->path, (int) finding->problem);
			free(finding);
		}
		scan_status(scan, status);
		if (status->finished)
			break;
		wait_for();
	}
	FILES_MUST(!status->failed && !status->cancelled);
	while (candidates_next(scan_candidates(scan), &removed, &added) == 1)
	{
		if (removed.path != NULL && added.path != NULL)
			fprintf(out, "%s>%s ", removed.path, added.path);
		else if (removed.path != NULL)
			fprintf(out, "-%s ", removed.path);
		else
			fprintf(out, "%c%s ", added.kind == CANDIDATE_ADDED ? '+' : '~', added.path);
	}
	scan_free(scan);
	fclose(out);
	return text;
}

/* The same with pages of every size up to all rows. */
static void
check_scan(const char *places, const char *expected, const char *name)
{
	ScanStatus	status;

	for (page_size = 1; page_size <= n_rows + 1; page_size++)
	{
		const char *got = scan_places(places, &status);

		if (strcmp(got, expected) != 0 || page_size > n_rows)
		{
			CHECK_EQ_STR(got, expected, name);
			break;
		}
	}
}

static void
make_file(const char *path)
{
	files_write_at(rootfd, path, path, strlen(path));
}

static void
begin(void)
{
	n_rows = 0;
	root = files_temp_dir();
	rootfd = files_open_dir(root);
	options.rootfd = rootfd;
	options.calculate_hashes = true;
	page_size = 1000;
}

static void
end(void)
{
	close(rootfd);
	files_remove_tree(root);
	free(root);
}

/* ---- tests ---- */

/* Fails if a difference is missed, or called something else, or made up. */
static void
test_kinds(void)
{
	ScanStatus	status;
	Row		   *row;

	begin();
	files_mkdir_at(rootfd, "d");
	make_file("changed");
	make_file("d/same");
	make_file("d/resized");
	make_file("moved-here");
	make_file("new");
	make_file("replaced");
	make_file("z");
	row_of("changed")->belief.mtime_ns--;
	row_of("d/same");
	row_of("d/resized")->belief.size++;
	row_without_file("d/gone");
	row_without_file("zz");
	row_of("z");
	row = row_of("replaced");
	row->belief.inode += 1000000;
	if (row->belief.btime_ns == PROTO_NO_TIME)
	{
		SKIP("renames and replaced files", "no birth times here");
		n_rows--;
		row_of("replaced");
		row_of("moved-here");
		check_scan(".", "~changed ~d/resized +new -d/gone -zz ", "each difference is found");
	}
	else
	{
		strcpy(row_of("moved-here")->path, "d/was-there");
		check_scan(".", "d/was-there>moved-here ~changed ~d/resized +new +replaced "
				   "-d/gone -replaced -zz ", "each difference is found, as what it is");
	}
	scan_places(".", &status);
	EQUALS(status.files, 7);
	EQUALS(status.believed, n_rows);

	/* nothing differs */
	n_rows = 0;
	row_of("changed");
	row_of("d/same");
	row_of("d/resized");
	row_of("moved-here");
	row_of("new");
	row_of("replaced");
	row_of("z");
	check_scan(".", "", "where nothing differs nothing is found");

	/* without hashes, where they are wanted or not */
	find_row("new")->belief.has_hash = false;
	check_scan(".", "~new ", "a row without its hash differs");
	options.calculate_hashes = false;
	check_scan(".", "", "but not where no hashes are wanted");
	end();
}

/* Fails if a change of size, of a time or of the file itself is overlooked. */
static void
test_matches(void)
{
	ProtoStat	stat = {.size = 1, .inode = 2, .mtime_ns = 3, .ctime_ns = 4, .btime_ns = 5};
	ProtoBelief good = {.size = 1, .inode = 2, .mtime_ns = 3, .ctime_ns = 4, .btime_ns = 5};
	ProtoBelief b;

	HOLDS(scan_belief_matches(&good, &stat));
	HOLDS((b = good, b.size++, !scan_belief_matches(&b, &stat)));
	HOLDS((b = good, b.inode++, !scan_belief_matches(&b, &stat)));
	HOLDS((b = good, b.mtime_ns++, !scan_belief_matches(&b, &stat)));
	HOLDS((b = good, b.ctime_ns++, !scan_belief_matches(&b, &stat)));
	HOLDS((b = good, b.btime_ns++, !scan_belief_matches(&b, &stat)));
	HOLDS((b = good, b.btime_ns = PROTO_NO_TIME, scan_belief_matches(&b, &stat)));
}

/* The places that are left, with a space behind each; "!" is for local ones. */
static const char *
reduced(const char *words)
{
	static char text[256];
	ScanPlace	places[16] = {0};
	size_t		n = 0;
	char	   *copy = strdup(words);

	FILES_MUST(copy != NULL);
	for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
	{
		places[n].local = word[0] == '!';
		word += places[n].local;
		places[n].path = strdup(strcmp(word, ".") == 0 ? "" : word);
		places[n].len = strlen(places[n].path);
		n++;
	}
	free(copy);
	n = scan_reduce_places(places, n);
	text[0] = '\0';
	for (size_t i = 0; i < n; i++)
	{
		if (places[i].local)
			strcat(text, "!");
		strcat(text, places[i].len > 0 ? places[i].path : ".");
		strcat(text, " ");
		free(places[i].path);
	}
	return text;
}

/* Fails if a place is dropped that no other covers, or compared twice. */
static void
test_places(void)
{
	static const ScanPlace places[] = {
		{(char *) "a", 1, false}, {(char *) "a-b", 3, false}, {(char *) "c/d", 3, false},
	};
	static const ScanPlace everything[] = {{.path = (char *) ""}};

	CHECK_EQ_STR(reduced("a0 a/c/d a a-b a/b a a-b/x a0/y"), "a a-b a0 ",
				 "what lies below another place goes, and duplicates");
	CHECK_EQ_STR(reduced("b a . a/c ."), ". ", "the root covers everything");
	CHECK_EQ_STR(reduced("a/b/c a/b-c a/bb"), "a/b-c a/b/c a/bb ", "beginnings are not parents");
	CHECK_EQ_STR(reduced("x"), "x ", "one place stays");
	CHECK_EQ_STR(reduced("!a a/b !a/c"), "!a a/b ", "a local place covers local ones only");
	CHECK_EQ_STR(reduced("!a a a/b"), "a ", "of one path the place that covers more stays");
	CHECK_EQ_STR(reduced(". !a !."), ". ", "and covers the local ones");
	HOLDS(scan_place_covers(places, 3, "a", 1));
	HOLDS(scan_place_covers(places, 3, "a/x/y", 5));
	HOLDS(scan_place_covers(places, 3, "a-b/x", 5));
	HOLDS(scan_place_covers(places, 3, "c/d/x", 5));
	HOLDS(!scan_place_covers(places, 3, "a0", 2));
	HOLDS(!scan_place_covers(places, 3, "a-bc", 4));
	HOLDS(!scan_place_covers(places, 3, "c", 1));
	HOLDS(!scan_place_covers(places, 3, "c/dx", 4));
	HOLDS(!scan_place_covers(places, 3, "", 0));
	HOLDS(!scan_place_covers(places, 0, "a", 1));
	HOLDS(scan_place_covers(everything, 1, "a", 1));
	HOLDS(scan_place_covers(everything, 1, "", 0));
}

/* Fails if comparing a directory touches rows beside it, or misses some in it. */
static void
test_prefixes(void)
{
	begin();
	row_without_file("a");
	row_without_file("a-b/x");
	row_without_file("a.x");
	row_without_file("a/c");
	row_without_file("a/~d/e");
	row_without_file("a0");
	row_without_file("a0/c");
	row_without_file("b");
	check_scan("a", "-a/c -a/~d/e ", "only what is below the place is compared");
	check_scan("a-b", "-a-b/x ", "a place with a character before '/'");
	check_scan("a0 a-b a a/c", "-a/c -a/~d/e -a-b/x -a0/c ", "several places");
	check_scan("c", "", "a place without rows and without files");
	check_scan(".", "-a -a-b/x -a.x -a/c -a/~d/e -a0 -a0/c -b ", "everything");
	files_mkdir_at(rootfd, "a");
	files_mkdir_at(rootfd, "a-b");
	make_file("a/c");
	make_file("a/b");
	make_file("a-b/x");
	make_file("a0");
	*find_row("a/c") = *row_of("a/c");
	n_rows--;
	check_scan("a", "+a/b -a/~d/e ", "files beside the place are not looked at");
	end();
}

/* Fails if a directory that cannot be looked into loses its rows. */
static void
test_guarded(void)
{
	static Mount mounts[] = {{.path = (char *) "d/m", .len = 3}};
	static const MountSet set = {mounts, 1, false};

	begin();
	files_mkdir_at(rootfd, "d");
	files_mkdir_at(rootfd, "d/m");
	make_file("d/m/hidden");
	make_file("d/x");
	row_without_file("d/m");
	row_without_file("d/m-x");
	row_without_file("d/m/gone");
	row_without_file("d/m/n/gone");
	row_without_file("d/m0");
	options.guarded = &set;
	check_scan(".", "!d/m:8 +d/x -d/m -d/m-x -d/m0 ",
			   "rows below a guarded mount stay, those beside it do not");
	check_scan("d/m", "!d/m:8 ", "also when it is the place");
	check_scan("d/m/n", "!d/m/n:8 ", "or above the place");
	options.guarded = NULL;
	check_scan("d/m", "+d/m/hidden -d/m/gone -d/m/n/gone ", "and go when it is not guarded");
	EQUALS(PROTO_PROBLEM_MOUNT, 8);
	end();
}

/* Fails if a barrier looks into a file system that may not answer, or rows go. */
static void
test_remote(void)
{
	static Mount mounts[] = {
		{.path = (char *) "d/here", .len = 6},
		{.path = (char *) "d/there", .len = 7, .polled = true}
	};
	static const MountSet set = {mounts, 2, false};

	begin();
	files_mkdir_at(rootfd, "d");
	files_mkdir_at(rootfd, "d/here");
	files_mkdir_at(rootfd, "d/there");
	make_file("d/here/seen");
	make_file("d/there/hidden");
	row_without_file("d/there/gone");
	row_without_file("d/there0");
	options.mounts = &set;
	check_scan("!d", "+d/here/seen -d/there0 ", "a local place ends where a remote mount begins");
	check_scan("!d/there", "", "also when it is the place");
	check_scan("d", "+d/here/seen +d/there/hidden -d/there/gone -d/there0 ",
			   "another place does not");
	options.mounts = NULL;
	end();
}

/* The same of permissions, which do not bind root. */
static void
test_unreadable(void)
{
	pid_t		pid;
	int			status;

	begin();
	files_mkdir_at(rootfd, "d");
	files_mkdir_at(rootfd, "d/shut");
	make_file("d/shut/hidden");
	make_file("d/x");
	row_without_file("d/shut");
	row_without_file("d/shut-x");
	row_without_file("d/shut/gone");
	row_without_file("d/shut/n/gone");
	row_without_file("d/shut0");
	row_without_file("e");
	FILES_MUST(fchmodat(rootfd, "d/shut", geteuid() == 0 ? 0700 : 0, 0) == 0);
	fflush(stdout);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FILES_MUST(dup2(STDERR_FILENO, STDOUT_FILENO) >= 0);
		if (geteuid() == 0)
			FILES_MUST(setgid(65534) == 0 && setuid(65534) == 0);
		check_scan(".", "!d/shut:1 +d/x -d/shut -d/shut-x -d/shut0 -e ",
				   "rows below an unreadable directory stay");
		check_scan("d/shut", "!d/shut:1 ", "also when it is the place");
		files_end_child(unit_done());
	}
	waitpid(pid, &status, 0);
	EQUALS(status, 0);
	FILES_MUST(fchmodat(rootfd, "d/shut", 0755, 0) == 0);
	EQUALS(PROTO_PROBLEM_PERMISSION, 1);
	end();
}

/* Fails if an empty repository waits for the whole walk before it is filled. */
static void
test_direct(void)
{
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	const Filter *any = options.filter;
	const char *error;

	begin();
	files_mkdir_at(rootfd, "d");
	make_file("a");
	make_file("d/b");
	make_file("bad\xff");
	check_scan(".", "*a !bad\xff:2 *d/b ", "without any row files go out at once");
	check_scan("d", "+d/b ", "but not those of a part of the tree");
	row_without_file("zzz");
	check_scan(".", "!bad\xff:2 +a +d/b -zzz ", "nor where there is a row");
	n_rows = 0;

	/* sizes are looked at here, unless the engine looks at all files anyway */
	settings.min_size = 1000;
	options.filter = filter_create(&settings, &error);
	FILES_MUST(options.filter != NULL);
	check_scan(".", "", "files that are too small are no news");
	options.calculate_hashes = false;
	check_scan(".", "*a !bad\xff:2 *d/b ", "without hashes that is found out later");
	options.calculate_hashes = true;
	filter_free((Filter *) options.filter);
	options.filter = any;
	end();
}

/* Fails if other names of a file are unknown when it is written later. */
static bool
is_second(void *arg, const char *path, size_t len)
{
	*(bool *) arg = len == 6 && memcmp(path, "second", 6) == 0;
	return true;
}

static void
test_links(void)
{
	ScanStatus	status;
	FileInfo	info;
	bool		second = false;

	begin();
	make_file("first");
	FILES_MUST(linkat(rootfd, "first", rootfd, "second", 0) == 0);
	row_of("first");
	row_of("second");
	scan_places(".", &status);
	FILES_MUST(beneath_stat(rootfd, "first", 5, &info) == 0);
	HOLDS(links_others(options.links, &info, "first", 5, is_second, &second));
	HOLDS(second);
	end();
}

/* Fails if an answer that does not parse is compared with, or read beyond. */
static void
test_bad_answers(void)
{
	ProtoBeliefsRequest request;
	ProtoBeliefsHeader header = {.count = 1};
	ProtoBuf	buf;
	ProtoReader body;
	ScanStatus	status;
	uint8_t		type;
	size_t		len;
	int			accepted = 0;
	Scan	   *scan;

	begin();
	make_file("a");
	row_of("a");
	rows[0].belief.path = (ProtoStr) {rows[0].path, 1};
	proto_buf_init(&buf);
	proto_begin(&buf, PROTO_BELIEFS);
	proto_put_belief(&buf, &rows[0].belief);
	proto_end(&buf);
	FILES_MUST(proto_next(&buf, &type, &body) == 1);
	len = (size_t) (body.end - body.p);
	scan = start(".");
	while (!scan_wants_beliefs(scan, &request))
		wait_for();
	EQUALS(request.kind, PROTO_BELIEFS_RANGE);
	HOLDS(request.inclusive && request.after.len == 0 && request.before.len == 0);
	HOLDS(!scan_wants_beliefs(scan, &request));
	for (size_t n = 0; n < len; n++)
	{
		char	   *part = malloc(n ? n : 1);

		FILES_MUST(part != NULL);
		memcpy(part, body.p, n);
		accepted += scan_give_beliefs(scan, &header, proto_reader(part, n));
		free(part);
	}
	EQUALS(accepted, 0);
	header.count = UINT32_MAX;
	HOLDS(!scan_give_beliefs(scan, &header, body));
	scan_status(scan, &status);
	HOLDS(!status.finished);
	scan_free(scan);
	proto_buf_free(&buf);
	end();
}

/* Fails if a scan that nobody serves any more can not be ended. */
static void
test_cancel(void)
{
	ProtoBeliefsRequest request;
	ScanStatus	status;
	Scan	   *scan;
	size_t		findings = 0;
	Finding    *finding;

	begin();
	scan = start(".");
	while (!scan_wants_beliefs(scan, &request))
		wait_for();
	scan_cancel(scan);
	for (;;)
	{
		scan_status(scan, &status);
		if (status.finished)
			break;
		wait_for();
	}
	HOLDS(status.cancelled && !status.failed);
	EQUALS(candidates_count(scan_candidates(scan), CANDIDATE_REMOVED), 0);
	scan_free(scan);

	/* at once, before or while it does anything */
	scan = start(". a");
	scan_free(scan);

	/* more findings than are kept: it waits, and goes on when they are taken */
	for (int i = 0; i < 4200; i++)
	{
		char		name[16];

		snprintf(name, sizeof(name), "%04d", i);
		FILES_MUST(mknodat(rootfd, name, S_IFREG | 0644, 0) == 0);
	}
	for (int turn = 0; turn < 2; turn++)
	{
		scan = start(".");
		while (!scan_wants_beliefs(scan, &request))
			wait_for();
		answer(scan, &request);
		do
		{
			sched_yield();
			scan_status(scan, &status);
		}
		while (status.files <= FINDINGS_QUEUE);
		HOLDS(!status.finished);
		while (turn == 1 && !status.finished)
		{
			while ((finding = scan_take_finding(scan)) != NULL)
			{
				findings++;
				free(finding);
			}
			scan_status(scan, &status);
			if (!status.finished)
				wait_for();
		}
		scan_free(scan);
	}
	EQUALS(findings, 4200);
	end();
}

/* ---- at random ---- */

/* Whether a path is strictly below one of the places, written out simply. */
static bool
below(const char *path, const char *places)
{
	char		copy[128];

	strcpy(copy, places);
	for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
	{
		size_t		n = strlen(word);

		if (strcmp(word, ".") == 0 || (strncmp(path, word, n) == 0 && path[n] == '/'))
			return true;
	}
	return false;
}

/* Fails if some tree, table and pages give more or less than the difference. */
static void
test_random(void)
{
	static const char *const traps[] = {"a", "a-", "a0", "a b", "b", "a.b", "\xc3\xa4", "c"};
	static const char *const places[] = {".", "a", "a b", "b a a-", "a/a a/b", "a0 a", "c/x", "a/a/a"};
	static char paths[MAX_ROWS][128];
	int			wrong = 0;
	size_t		differences = 0;

	for (int round = 0; round < 25; round++)
	{
		size_t		n_paths = 0;

		begin();
		for (int i = 0; i < 60; i++)
		{
			char	   *path = paths[n_paths];
			size_t		depth = 1 + unit_below(3);

			path[0] = '\0';
			for (size_t k = 0; k < depth; k++)
			{
				if (k > 0)
				{
					(void) mkdirat(rootfd, path, 0755);
					strcat(path, "/");
				}
				strcat(path, traps[unit_below(8)]);
			}
			if (mknodat(rootfd, path, S_IFREG | 0644, 0) == 0)
				n_paths++;
		}
		for (size_t i = 0; i < n_paths; i++)
		{
			switch (unit_below(4))
			{
				case 0:
					break;		/* to be added */
				case 1:
					row_of(paths[i])->belief.mtime_ns -= 5;
					break;
				default:
					row_of(paths[i]);
			}
		}
		for (int i = 0; i < 25; i++)
		{
			char		path[128];
			FileInfo	info;

			snprintf(path, sizeof(path), "%s%s%s", traps[unit_below(8)],
					 unit_below(3) ? "/" : "", traps[unit_below(8)]);
			if (find_row(path) == NULL &&
				beneath_stat(rootfd, path, strlen(path), &info) < 0)
				row_without_file(path);
		}
		for (size_t turn = 0; n_rows > 0 && turn < 8; turn++)
		{
			ScanStatus	status;
			size_t		expected = 0;
			size_t		got = 0;
			char	   *text;

			page_size = 1 + unit_below(turn % 2 ? 5 : 100);
			text = strdup(scan_places(places[turn], &status));
			FILES_MUST(text != NULL);
			for (char *p = text; *p != '\0'; p++)
				got += *p == '+' || *p == '~' || (*p == '-' && (p == text || p[-1] == ' '));
			for (size_t k = 0; k < n_paths + n_rows; k++)
			{
				const char *path = k < n_paths ? paths[k] : rows[k - n_paths].path;
				const Row  *row = find_row(path);
				char		want[140];
				FileInfo	info;
				bool		there = beneath_stat(rootfd, path, strlen(path), &info) == 0;

				if ((k < n_paths && row != NULL) || !below(path, places[turn]) ||
					(there && row != NULL && row->belief.mtime_ns == info.stat.mtime_ns))
					continue;
				expected++;
				wrong += snprintf(want, sizeof(want), "%c%s ",
								  !there ? '-' : row ? '~' : '+', path) >= (int) sizeof(want) ||
					strstr(text, want) == NULL;
			}
			wrong += got != expected;
			differences += expected;
			free(text);
		}
		end();
	}
	EQUALS(wrong, 0);
	HOLDS(differences > 1000);
}

/*
 * Fails if new files are told of one by one, a problem is kept until more is
 * found, or one comes before what was found earlier.
 */
static void
test_told(void)
{
	int			notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	Findings	findings;
	Finding    *finding;
	uint64_t	n;

	findings_init(&findings, notify_fd);
	HOLDS(findings_add(&findings, FINDING_ADDED, "a", 1, 0, 0));
	HOLDS(read(notify_fd, &n, sizeof(n)) < 0);
	HOLDS(findings_add(&findings, FINDING_PROBLEM, "b", 1, PROTO_PROBLEM_IO, EIO));
	EQUALS(read(notify_fd, &n, sizeof(n)), sizeof(n));
	for (const char *name = "ab"; *name != '\0'; name++)
	{
		finding = findings_take(&findings);
		FILES_MUST(finding != NULL);
		EQUALS(finding->path[0], *name);
		free(finding);
	}
	HOLDS(findings_take(&findings) == NULL);
	findings_free(&findings);
	close(notify_fd);
}

int
main(void)
{
	const char *error;
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	Filter	   *filter = filter_create(&settings, &error);

	FILES_MUST(filter != NULL);
	options.filter = filter;
	options.utf8 = true;
	options.doubt_since_ns = INT64_MAX;
	options.links = links_create();
	options.notify_fd = eventfd(0, EFD_CLOEXEC);
	FILES_MUST(options.links != NULL && options.notify_fd >= 0);
	test_told();
	test_kinds();
	test_matches();
	test_places();
	test_prefixes();
	test_guarded();
	test_remote();
	test_unreadable();
	test_direct();
	test_links();
	test_bad_answers();
	test_cancel();
	test_random();
	links_free(options.links);
	filter_free(filter);
	return unit_done();
}
