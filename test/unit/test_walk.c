/*-------------------------------------------------------------------------
 *
 * test_walk.c
 *		The walk gives every tracked file once, in path order, and says where
 *		it could not look.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "walk.h"

#include <ftw.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static Filter *filter;
static WalkOptions options;

/* A list of lines "kind path", each allocated. */
typedef struct Lines
{
	char	  **line;
	size_t		count;
} Lines;

static void
lines_add(Lines *lines, char kind, const char *path)
{
	lines->line = realloc(lines->line, (lines->count + 1) * sizeof(char *));
	FILES_MUST(lines->line != NULL);
	FILES_MUST(asprintf(&lines->line[lines->count++], "%c %s", kind, path) > 0);
}

static void
lines_free(Lines *lines)
{
	while (lines->count > 0)
		free(lines->line[--lines->count]);
	free(lines->line);
	lines->line = NULL;
}

/* Everything that a walk yields: f, u, U, b/B, l/L, G (capital: directory). */
static Lines
walk_all(const char *root, const char *prefix)
{
	int			rootfd = files_open_dir(root);
	Walk	   *walk = walk_open(rootfd, prefix, strlen(prefix), &options);
	Lines		lines = {NULL, 0};
	WalkEntry	entry;
	int			result;

	FILES_MUST(walk != NULL);
	while ((result = walk_next(walk, &entry)) == 1)
	{
		char		kind = '?';

		switch (entry.kind)
		{
			case WALK_FILE:
				kind = 'f';
				break;
			case WALK_UNKNOWN_FILE:
				kind = 'u';
				break;
			case WALK_UNKNOWN_DIRECTORY:
				kind = 'U';
				break;
			case WALK_BAD_NAME:
				kind = entry.directory ? 'B' : 'b';
				break;
			case WALK_TOO_LONG:
				kind = entry.directory ? 'L' : 'l';
				break;
			case WALK_GUARDED:
				kind = 'G';
				break;
			case WALK_REMOTE:
				kind = 'R';
				break;
			case WALK_UNKNOWN_RULES:
				kind = 'r';
				break;
			case WALK_REFUSED:
				kind = 'x';
				break;
		}
		if (entry.len != strlen(entry.path))
			kind = '!';
		lines_add(&lines, kind, entry.path);
	}
	EQUALS(result, 0);
	EQUALS(walk_next(walk, &entry), 0);
	walk_close(walk);
	close(rootfd);
	return lines;
}

static void
check_walk(const char *root, const char *prefix, const char *const *expected)
{
	Lines		lines = walk_all(root, prefix);
	size_t		i;

	for (i = 0; expected[i] != NULL && i < lines.count; i++)
		CHECK_EQ_STR(lines.line[i], expected[i], "the walk gives what is there, in order");
	HOLDS(expected[i] == NULL && i == lines.count);
	lines_free(&lines);
}

#define CHECK_WALK(root, prefix, ...) \
	check_walk(root, prefix, (const char *const[]) {__VA_ARGS__ __VA_OPT__(,) NULL})

/* ---------------------------------------------------------------------
 * Against nftw
 * ---------------------------------------------------------------------
 */

static Lines nftw_lines;
static size_t nftw_root_len;

static int
nftw_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *relative = path + nftw_root_len;
	const char *at = relative;

	(void) type;
	(void) ftw;
	if (!S_ISREG(st->st_mode))
		return 0;
	for (;;)
	{
		size_t		n = strcspn(at, "/");

		if (filter_ignores_name(filter, at, n))
			return 0;
		if (at[n] == '\0')
			break;
		at += n + 1;
	}
	lines_add(&nftw_lines, 'f', relative);
	return 0;
}

static int
compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static int
same_as_nftw(const char *root)
{
	Lines		walked = walk_all(root, "");
	int			same;
	size_t		i;

	nftw_root_len = strlen(root) + 1;
	FILES_MUST(nftw(root, nftw_entry, 32, FTW_PHYS) == 0);
	if (nftw_lines.count > 1)
		qsort(nftw_lines.line, nftw_lines.count, sizeof(char *), compare_lines);
	same = walked.count == nftw_lines.count;
	for (i = 0; same && i < walked.count; i++)
		same = strcmp(walked.line[i], nftw_lines.line[i]) == 0;
	lines_free(&walked);
	lines_free(&nftw_lines);
	return same;
}

static void
random_name(char *name)
{
	static const char *const traps[] = {
		"a", "a.b", "a-", "a0", "a b", "a.", "a!", "aa", "a.b.c", "b", "A", "-", "a~", "~",
		"a,", "a\xc3\xa4", "a\xff", "a\x01", "a\n", ".a", "..a", "a.tmp", "...", "a.tmpx",
	};
	int			len;
	int			i;

	if (rand() % 2)
	{
		strcpy(name, traps[(size_t) rand() % (sizeof(traps) / sizeof(traps[0]))]);
		return;
	}
	len = rand() % 20 == 0 ? 255 : 1 + rand() % 3;
	for (i = 0; i < len; i++)
	{
		do
			name[i] = (char) (1 + rand() % 255);
		while (name[i] == '/');
	}
	name[len] = '\0';
}

static void
random_fill(int dirfd, int depth)
{
	char		name[256];
	int			n = rand() % 10;

	while (n-- > 0)
	{
		int			fd;

		random_name(name);
		switch (rand() % 8)
		{
			case 0:
				(void) symlinkat("/", dirfd, name);
				break;
			case 1:
				(void) mkfifoat(dirfd, name, 0600);
				break;
			case 2:
			case 3:
			case 4:
				if (depth < 4 && mkdirat(dirfd, name, 0755) == 0)
				{
					fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY);
					FILES_MUST(fd >= 0);
					random_fill(fd, depth + 1);
					close(fd);
				}
				break;
			default:
				fd = openat(dirfd, name, O_CREAT | O_WRONLY | O_EXCL, 0644);
				if (fd >= 0)
					close(fd);
		}
	}
}

/* Fails if a file is missing, comes twice, out of order, or is not tracked. */
static void
test_random_trees(void)
{
	int			seed;
	int			wrong = 0;

	options.utf8 = false;
	for (seed = 1; seed <= 40; seed++)
	{
		char	   *root = files_temp_dir();
		int			fd = files_open_dir(root);

		srand((unsigned int) seed);
		random_fill(fd, 0);
		random_fill(fd, 0);
		close(fd);
		if (!same_as_nftw(root))
		{
			wrong++;
			printf("# seed %d differs from nftw\n", seed);
		}
		files_remove_tree(root);
		free(root);
	}
	EQUALS(wrong, 0);
	options.utf8 = true;
}

/* Fails if directories are sorted as if their names did not end in '/'. */
static void
test_order(void)
{
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);

	files_mkdir_at(fd, "a");
	files_write_at(fd, "a/z", "", 0);
	files_write_at(fd, "a.b", "", 0);
	files_write_at(fd, "a-", "", 0);
	files_write_at(fd, "a0", "", 0);
	files_mkdir_at(fd, "a.");
	files_write_at(fd, "a./x", "", 0);
	CHECK_WALK(root, "", "f a-", "f a./x", "f a.b", "f a/z", "f a0");
	CHECK_WALK(root, "a", "f a/z");
	CHECK_WALK(root, "absent");
	CHECK_WALK(root, "a0");
	CHECK_WALK(root, "..");
	CHECK_WALK(root, "a/absent/x");
	FILES_MUST(symlinkat("/etc", fd, "link") == 0);
	CHECK_WALK(root, "link");
	CHECK_WALK(root, "link/apt");
	files_mkdir_at(fd, ".hidden");
	files_write_at(fd, ".hidden/x", "", 0);
	CHECK_WALK(root, ".hidden");
	close(fd);
	files_remove_tree(root);
	free(root);
}

/* Fails if a bad or long name is lost silently or stops the others. */
static void
test_names(void)
{
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);

	files_write_at(fd, "ok", "", 0);
	files_write_at(fd, "bad\xff", "", 0);
	files_write_at(fd, "bad\xff.tmp", "", 0);
	files_mkdir_at(fd, "dir\xc3");
	files_write_at(fd, "dir\xc3/x", "", 0);
	FILES_MUST(mkfifoat(fd, "fifo\xff", 0600) == 0);
	FILES_MUST(symlinkat("ok", fd, "link\xff") == 0);
	CHECK_WALK(root, "", "b bad\xff", "B dir\xc3", "f ok");
	CHECK_WALK(root, "dir\xc3", "B dir\xc3");
	options.utf8 = false;
	CHECK_WALK(root, "", "f bad\xff", "f dir\xc3/x", "f ok");
	options.utf8 = true;
	close(fd);
	files_remove_tree(root);
	free(root);
}

/* Fails if anything but regular files is tracked. */
static void
test_kinds(void)
{
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);
	int			sock = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	FILES_MUST(mkfifoat(fd, "fifo", 0600) == 0);
	FILES_MUST(symlinkat("/etc/passwd", fd, "link") == 0);
	FILES_MUST(symlinkat("/etc", fd, "dirlink") == 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", root);
	FILES_MUST(sock >= 0 && bind(sock, (struct sockaddr *) &address, sizeof(address)) == 0);
	if (mknodat(fd, "null", S_IFCHR | 0600, 0x103) < 0)
		FILES_MUST(errno == EPERM);
	files_write_at(fd, "regular", "x", 1);
	CHECK_WALK(root, "", "f regular");
	close(sock);
	close(fd);
	files_remove_tree(root);
	free(root);
}

/*
 * Fails if names alone are not the names of the files, or if files are examined
 * for them: a size that is not wanted would show.
 */
static void
test_names_only(void)
{
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	Filter	   *any = filter;
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);
	int			rootfd = files_open_dir(root);
	const char *error;
	Walk	   *walk;
	WalkEntry	entry = {.info.nlink = 99};

	files_write_at(fd, "a", "1", 1);
	files_mkdir_at(fd, "d");
	files_write_at(fd, "d/b", "22", 2);
	FILES_MUST(mkfifoat(fd, "fifo", 0600) == 0);
	FILES_MUST(symlinkat("a", fd, "link") == 0);
	settings.min_size = 2;
	filter = filter_create(&settings, &error);
	FILES_MUST(filter != NULL);
	options.filter = filter;
	CHECK_WALK(root, "", "f d/b");
	options.names_only = true;
	CHECK_WALK(root, "", "f a", "f d/b");
	walk = walk_open(rootfd, "", 0, &options);
	while (walk_next(walk, &entry) == 1)
		EQUALS(entry.info.nlink, 99);
	walk_close(walk);
	options.names_only = false;
	filter_free(filter);
	options.filter = filter = any;
	close(rootfd);
	close(fd);
	files_remove_tree(root);
	free(root);
}

/* ---------------------------------------------------------------------
 * Depth and size
 * ---------------------------------------------------------------------
 */

/*
 * Fails if depth costs stack, descriptors or time: more levels than are
 * entered, each with a directory behind the descent so that closed levels are
 * opened again.
 */
static void
test_deep_tree(void)
{
	char	   *root = files_temp_dir();
	int			at = files_open_dir(root);
	Lines		lines;
	size_t		files = 0;
	size_t		too_long = 0;
	size_t		i;
	int			ordered = 1;

	for (i = 0; i < 1300; i++)
	{
		int			fd;

		files_mkdir_at(at, "d");
		files_mkdir_at(at, "e");
		files_write_at(at, "e/x", "", 0);
		files_write_at(at, "f", "", 0);
		fd = openat(at, "d", O_PATH | O_DIRECTORY);
		FILES_MUST(fd >= 0);
		close(at);
		at = fd;
	}
	close(at);
	lines = walk_all(root, "");
	for (i = 0; i < lines.count; i++)
	{
		files += lines.line[i][0] == 'f';
		too_long += lines.line[i][0] == 'L';
		if (i > 0 && lines.line[i][0] == 'f' && lines.line[i - 1][0] == 'f')
			ordered &= strcmp(lines.line[i - 1] + 2, lines.line[i] + 2) < 0;
	}
	HOLDS(ordered);

	/*
	 * A directory of k components has 2k - 1 bytes, the longest that is
	 * entered 2,497 of 1,249 components.  So 1,250 directories (the root
	 * too) give an "f", and those of up to 1,248 components an "e/x"; the
	 * deepest has its "d" and "e" refused.
	 */
	EQUALS(files, 1250 + 1249);
	EQUALS(too_long, 2);
	lines_free(&lines);
	files_remove_tree(root);
	free(root);
}

/* Fails if the walk keeps more descriptors open than it may. */
static void
test_descriptors(void)
{
	char	   *root = files_temp_dir();
	int			at = files_open_dir(root);
	int			rootfd = dup(at);
	Walk	   *walk;
	WalkEntry	entry;
	int			highest = 0;
	int			before;
	int			after;
	int			i;

	for (i = 0; i < 300; i++)
	{
		int			fd;

		files_write_at(at, "a", "", 0);
		files_mkdir_at(at, "d");
		fd = openat(at, "d", O_PATH | O_DIRECTORY);
		FILES_MUST(fd >= 0);
		close(at);
		at = fd;
	}
	close(at);
	before = dup(rootfd);
	close(before);
	walk = walk_open(rootfd, "", 0, &options);
	while (walk_next(walk, &entry) == 1)
	{
		int			fd = dup(rootfd);

		highest = fd > highest ? fd : highest;
		close(fd);
	}
	HOLDS(highest - before >= 32 && highest - before <= 72);
	after = dup(rootfd);
	close(after);
	EQUALS(after, before);
	walk_close(walk);

	/* and none is lost when a walk is given up half way */
	walk = walk_open(rootfd, "", 0, &options);
	for (i = 0; i < 150; i++)
		EQUALS(walk_next(walk, &entry), 1);
	walk_close(walk);
	after = dup(rootfd);
	close(after);
	EQUALS(after, before);
	close(rootfd);
	files_remove_tree(root);
	free(root);
}

/* Fails if a directory of many names is read in part, or slowly. */
static void
test_large_directory(void)
{
	enum { names = 3000 };		/* of 88 bytes: several buffers of getdents64() */
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);
	Lines		lines;
	char		name[96];
	int			ordered = 1;
	size_t		i;

	for (i = 0; i < names; i++)
	{
		int			file;

		snprintf(name, sizeof(name), "%zu%056d.jpg", i * 7919 % names, 0);
		file = openat(fd, name, O_CREAT | O_WRONLY, 0644);
		FILES_MUST(file >= 0);
		close(file);
	}
	close(fd);
	lines = walk_all(root, "");
	EQUALS(lines.count, names);
	for (i = 1; i < lines.count; i++)
		ordered &= strcmp(lines.line[i - 1], lines.line[i]) < 0;
	HOLDS(ordered);
	lines_free(&lines);
	files_remove_tree(root);
	free(root);
}

/*
 * Fails if what other threads have read ahead is taken for another place, is
 * lost or comes twice: directories side by side and in each other, and one with
 * so many names, files and directories in turn, that it is read in pieces.
 */
static void
test_read_ahead(void)
{
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);
	Walk	   *walk;
	WalkEntry	entry;
	char		path[64];
	int			before;
	int			after;

	for (int i = 0; i < 200; i++)
	{
		snprintf(path, sizeof(path), "%d", i);
		files_mkdir_at(fd, path);
		for (int j = 0; j < i % 7; j++)
		{
			snprintf(path, sizeof(path), "%d/%c", i, 'a' + j);
			if (j % 2 != 0)
			{
				files_mkdir_at(fd, path);
				strcat(path, "/x");
			}
			files_write_at(fd, path, "", 0);
		}
	}
	files_mkdir_at(fd, "5/many");
	for (int i = 0; i < 2500; i++)
	{
		snprintf(path, sizeof(path), "5/many/%05d", i * 7919 % 2500);
		if (i % 4 == 0)
		{
			files_mkdir_at(fd, path);
			strcat(path, "/x");
		}
		if (i % 8 != 0)
			files_write_at(fd, path, "", 0);
	}
	for (int round = 0; round < 5; round++)
		HOLDS(same_as_nftw(root));

	/* given up anywhere */
	before = dup(fd);
	close(before);
	for (int entries = 0; entries < 1500; entries += 37)
	{
		walk = walk_open(fd, "", 0, &options);
		for (int i = 0; i < entries; i++)
			if (walk_next(walk, &entry) != 1)
				break;
		walk_close(walk);
	}
	after = dup(fd);
	close(after);
	EQUALS(after, before);
	close(fd);
	files_remove_tree(root);
	free(root);
}

/* ---------------------------------------------------------------------
 * Where it cannot look
 * ---------------------------------------------------------------------
 */

/* Runs a test in a child without root's rights; its checks count as one. */
static void
as_nobody(void (*test) (const char *root), const char *root)
{
	pid_t		pid;
	int			status;

	fflush(stdout);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FILES_MUST(dup2(STDERR_FILENO, STDOUT_FILENO) >= 0);
		if (geteuid() == 0)
			FILES_MUST(setgid(65534) == 0 && setuid(65534) == 0);
		test(root);
		files_end_child(unit_done());
	}
	waitpid(pid, &status, 0);
	EQUALS(status, 0);
}

static void
walk_unreadable(const char *root)
{
	CHECK_WALK(root, "", "f a", "U closed", "u listed/x", "f z");
	CHECK_WALK(root, "closed", "U closed");
	CHECK_WALK(root, "closed/in", "U closed/in");
}

/* Fails if an unreadable directory or file is taken for an empty place. */
static void
test_unreadable(void)
{
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);

	files_write_at(fd, "a", "", 0);
	files_mkdir_at(fd, "closed");
	files_mkdir_at(fd, "closed/in");
	files_write_at(fd, "closed/in/x", "", 0);
	files_mkdir_at(fd, "listed");
	files_write_at(fd, "listed/x", "", 0);
	files_write_at(fd, "z", "", 0);
	FILES_MUST(fchmodat(fd, "closed", 0700, 0) == 0);
	FILES_MUST(fchmodat(fd, "listed", 0744, 0) == 0);
	if (geteuid() != 0)
	{
		FILES_MUST(fchmodat(fd, "closed", 0, 0) == 0);
		FILES_MUST(fchmodat(fd, "listed", 0444, 0) == 0);
	}
	as_nobody(walk_unreadable, root);
	FILES_MUST(fchmodat(fd, "closed", 0755, 0) == 0);
	FILES_MUST(fchmodat(fd, "listed", 0755, 0) == 0);
	close(fd);
	files_remove_tree(root);
	free(root);
}

static void
walk_root_unreadable(const char *root)
{
	CHECK_WALK(root, "", "U ");
}

/* The same of the root itself, and of getdents(2) that fails. */
static void
test_root_unreadable(void)
{
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);
	pid_t		pid;
	int			status;

	files_mkdir_at(fd, "d");
	files_write_at(fd, "d/x", "", 0);
	close(fd);
	fflush(stdout);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FILES_MUST(dup2(STDERR_FILENO, STDOUT_FILENO) >= 0);
		files_forbid_syscall(SYS_getdents64, EIO);
		CHECK_WALK(root, "", "U ");
		CHECK_WALK(root, "d", "U d");
		files_end_child(unit_done());
	}
	waitpid(pid, &status, 0);
	EQUALS(status, 0);

	FILES_MUST(chmod(root, geteuid() == 0 ? 0700 : 0) == 0);
	as_nobody(walk_root_unreadable, root);
	FILES_MUST(chmod(root, 0755) == 0);
	files_remove_tree(root);
	free(root);
}

/* Fails if a guarded mount is entered, or its neighbours are not. */
static void
test_guarded(void)
{
	static Mount mounts[] = {
		{.path = (char *) "a/m", .len = 3},
		{.path = (char *) "b", .len = 1},
	};
	static const MountSet set = {mounts, 2, false};
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);

	files_mkdir_at(fd, "a");
	files_mkdir_at(fd, "a/m");
	files_mkdir_at(fd, "a/m/n");
	files_mkdir_at(fd, "a/m2");
	files_mkdir_at(fd, "b");
	files_write_at(fd, "a/m/n/x", "", 0);
	files_write_at(fd, "a/m.x", "", 0);
	files_write_at(fd, "a/m2/x", "", 0);
	files_write_at(fd, "b/x", "", 0);
	files_write_at(fd, "c", "", 0);
	options.guarded = &set;
	CHECK_WALK(root, "", "f a/m.x", "G a/m", "f a/m2/x", "G b", "f c");
	CHECK_WALK(root, "a/m", "G a/m");
	CHECK_WALK(root, "a/m/n", "G a/m/n");
	CHECK_WALK(root, "a/m2", "f a/m2/x");
	CHECK_WALK(root, "a", "f a/m.x", "G a/m", "f a/m2/x");
	options.guarded = NULL;
	close(fd);
	files_remove_tree(root);
	free(root);
}

/* ---------------------------------------------------------------------
 * Races
 * ---------------------------------------------------------------------
 */

/* A race is run for a second, and until enough was seen of it. */
static bool
goes_on(const struct timespec *start, bool enough)
{
	struct timespec now;
	int64_t		ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
	return ms < 1000 || (!enough && ms < 120000);
}

/* Fails if swapping a directory for a symbolic link leads the walk outside. */
static void
test_symlink_race(void)
{
	char	   *base = files_temp_dir();
	int			fd = files_open_dir(base);
	char	   *root;
	struct timespec start;
	size_t		seen = 0;
	size_t		wrong = 0;
	pid_t		pid;

	FILES_MUST(asprintf(&root, "%s/root", base) > 0);
	files_mkdir_at(fd, "root");
	files_mkdir_at(fd, "root/d");
	files_mkdir_at(fd, "root/d/e");
	files_write_at(fd, "root/d/e/mine", "", 0);
	files_mkdir_at(fd, "outside");
	files_mkdir_at(fd, "outside/e");
	files_write_at(fd, "outside/e/secret", "", 0);
	FILES_MUST(symlinkat("../outside", fd, "root/l") == 0);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		for (;;)
			renameat2(fd, "root/d", fd, "root/l", RENAME_EXCHANGE);
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (goes_on(&start, seen > 100))
	{
		int			rootfd = files_open_dir(root);
		const char *prefix = seen % 2 ? "d/e" : "";
		Walk	   *walk = walk_open(rootfd, prefix, strlen(prefix), &options);
		WalkEntry	entry;

		while (walk_next(walk, &entry) == 1)
		{
			seen++;
			wrong += strstr(entry.path, "secret") != NULL || entry.kind != WALK_FILE;
		}
		walk_close(walk);
		close(rootfd);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EQUALS(wrong, 0);
	HOLDS(seen > 100);
	close(fd);
	files_remove_tree(base);
	free(root);
	free(base);
}

/*
 * Fails if names that come and go make the walk leave path order, stop, or
 * speak of errors.
 */
static void
test_storm(void)
{
	char	   *root = files_temp_dir();
	int			fd = files_open_dir(root);
	struct timespec start;
	size_t		wrong = 0;
	size_t		walks = 0;
	pid_t		pid;
	int			i;

	for (i = 0; i < 20; i++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "d%d", i);
		files_mkdir_at(fd, name);
		snprintf(name, sizeof(name), "d%d/x", i);
		files_write_at(fd, name, "", 0);
	}
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		for (;;)
		{
			char		from[32];
			char		to[32];
			int			file;

			snprintf(from, sizeof(from), "d%d%s", rand() % 20, rand() % 2 ? "/x" : "");
			snprintf(to, sizeof(to), "d%d%s", rand() % 20, rand() % 2 ? "/y" : "");
			renameat2(fd, from, fd, to, rand() % 2 ? RENAME_EXCHANGE : 0);
			unlinkat(fd, to, rand() % 2 ? AT_REMOVEDIR : 0);
			mkdirat(fd, from, 0755);
			file = openat(fd, to, O_CREAT | O_WRONLY, 0644);
			if (file >= 0)
				close(file);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (goes_on(&start, walks > 10))
	{
		Walk	   *walk = walk_open(fd, "", 0, &options);
		WalkEntry	entry;
		char		last[PROTO_PATH_MAX + 1] = "";
		int			result;

		while ((result = walk_next(walk, &entry)) == 1)
		{
			wrong += entry.kind != WALK_FILE || strcmp(last, entry.path) >= 0;
			strcpy(last, entry.path);
		}
		wrong += result != 0;
		walks++;
		walk_close(walk);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EQUALS(wrong, 0);
	HOLDS(walks > 10);
	close(fd);
	files_remove_tree(root);
	free(root);
}

int
main(void)
{
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	const char *error;

	filter = filter_create(&settings, &error);
	FILES_MUST(filter != NULL);
	options.filter = filter;
	options.utf8 = true;

	test_order();
	test_names();
	test_kinds();
	test_names_only();
	test_random_trees();
	options.names_only = true;
	test_random_trees();
	options.names_only = false;
	test_deep_tree();
	test_descriptors();
	test_large_directory();
	test_read_ahead();
	test_unreadable();
	test_root_unreadable();
	test_guarded();
	test_symlink_race();
	test_storm();
	filter_free(filter);
	return unit_done();
}
