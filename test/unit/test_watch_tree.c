/*-------------------------------------------------------------------------
 *
 * test_watch_tree.c
 *		The watched directories are those on disk, whatever was done to them.
 *
 * Three witnesses that do not ask the tree: nftw() says which directories
 * there are, /proc/self/fdinfo which inodes the kernel watches, and a name
 * made in each directory which path its events are given.
 *
 *-------------------------------------------------------------------------
 */
#include "beneath.h"
#include "files.h"
#include "watch_tree.h"

#include <ftw.h>
#include <sys/inotify.h>

#define LONG_TIME			INT64_C(1000000000)
#define MAX_DIRECTORIES		512

static char *base;
static char *root;
static int	basefd;				/* the root's parent: what is outside */
static int	rootfd;
static int	inotify_fd;
static Filter *filter;
static WatchTree *tree;
static char subtrees[65536];	/* reported, each with a space behind it */
static char names[65536];		/* "path/name ", by the path at the report */
static uint64_t last_node;
static uint32_t last_mask;

static void
on_subtree(void *arg, const char *path, size_t len)
{
	(void) arg;
	FILES_MUST(strlen(subtrees) + len + 2 < sizeof(subtrees));
	strncat(subtrees, len > 0 ? path : ".", len > 0 ? len : 1);
	strcat(subtrees, " ");
}

static void
on_name(void *arg, uint64_t node, const char *name, size_t len, uint32_t mask, uint32_t cookie)
{
	char		path[PROTO_PATH_MAX + 1];
	ssize_t		path_len = watch_tree_path(tree, node, path);

	(void) arg;
	(void) cookie;
	last_node = node;
	last_mask = mask;
	FILES_MUST(strlen(names) + sizeof(path) + len < sizeof(names));
	sprintf(names + strlen(names), "%s%s%s ", path_len < 0 ? "?" : path,
			path_len != 0 ? "/" : "", name);
}

/* The directory whose files are looked at anyway; 0: none. */
static ino_t polled;

static void
on_ignored(void *arg, uint64_t node, const char *name, size_t len, uint32_t mask)
{
	(void) arg, (void) node, (void) name, (void) len, (void) mask;
}

static bool
is_polled(void *arg, dev_t dev, ino_t ino)
{
	(void) arg;
	(void) dev;
	return ino == polled;
}

static void
create(uint64_t max_watches)
{
	const WatchCallbacks callbacks = {
		.subtree = on_subtree, .name = on_name, .ignored = on_ignored,
		.is_polled = is_polled
	};

	inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	FILES_MUST(inotify_fd >= 0);
	tree = watch_tree_create(inotify_fd, filter, true, max_watches, &callbacks);
	FILES_MUST(tree != NULL);
	FILES_MUST(watch_tree_start(tree, rootfd) == 0);
	subtrees[0] = names[0] = '\0';
}

static void
destroy(void)
{
	watch_tree_free(tree);
	close(inotify_fd);
}

/* Hands on what the kernel has queued; false when there was nothing. */
static bool
read_events(void)
{
	static char buffer[65536] __attribute__((aligned(8)));
	EventBatch	batch = {0};
	ssize_t		n = read(inotify_fd, buffer, sizeof(buffer));

	if (n <= 0)
		return false;
	events_decode(&batch, buffer, (size_t) n);
	FILES_MUST(!batch.lost);
	for (size_t i = 0; i < batch.count; i++)
		watch_tree_event(tree, &batch.events[i], batch.names + batch.events[i].name);
	events_batch_free(&batch);
	return true;
}

/* Until the kernel has nothing more to say. */
static void
settle(void)
{
	bool		more = true;

	for (int i = 0; more && i < 1000; i++)
	{
		more = read_events();
		more |= !watch_tree_resolve(tree, rootfd, LONG_TIME);
		if (watch_tree_status(tree)->rebuild)
			break;
	}
}

static void
begin(uint64_t max_watches)
{
	base = files_temp_dir();
	basefd = files_open_dir(base);
	files_mkdir_at(basefd, "root");
	files_mkdir_at(basefd, "out");
	FILES_MUST(asprintf(&root, "%s/root", base) > 0);
	rootfd = files_open_dir(root);
	create(max_watches);
	settle();
}

static void
end(void)
{
	destroy();
	close(rootfd);
	close(basefd);
	files_remove_tree(base);
	free(root);
	free(base);
}

/* As "mkdir -p", below the root. */
static void
mkdirs(const char *path)
{
	char		copy[4096];

	strcpy(copy, path);
	for (char *p = copy;; p++)
	{
		char		c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		FILES_MUST(mkdirat(rootfd, copy, 0755) == 0 || errno == EEXIST);
		*p = c;
		if (c == '\0')
			return;
	}
}

static void
rename_in(const char *from, const char *to)
{
	FILES_MUST(renameat(rootfd, from, rootfd, to) == 0);
}

static void
remove_in(const char *path)
{
	char	   *full;

	FILES_MUST(asprintf(&full, "%s/%s", root, path) > 0);
	files_remove_tree(full);
	free(full);
}

/* ---- the witnesses ---- */

typedef struct Directory
{
	char		path[512];		/* relative to the root */
	ino_t		ino;
} Directory;

static Directory directories[MAX_DIRECTORIES];
static size_t n_directories;

static int
on_directory(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *name = path + ftw->base;
	Directory  *d = &directories[n_directories];

	if (type != FTW_D)
		return FTW_CONTINUE;
	if (ftw->level > 0 && filter_ignores_name(filter, name, strlen(name)))
		return FTW_SKIP_SUBTREE;
	FILES_MUST(n_directories++ < MAX_DIRECTORIES);
	path += ftw->level > 0 ? strlen(root) + 1 : strlen(path);
	FILES_MUST(strlen(path) < sizeof(d->path));
	strcpy(d->path, path);
	d->ino = st->st_ino;
	return FTW_CONTINUE;
}

static int
compare_inodes(const void *a, const void *b)
{
	ino_t		x = *(const ino_t *) a;
	ino_t		y = *(const ino_t *) b;

	return (x > y) - (x < y);
}

/* The inodes that the kernel watches for us, sorted. */
static size_t
watched_inodes(ino_t *inodes)
{
	char		path[64];
	char		line[512];
	size_t		n = 0;
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", inotify_fd);
	file = fopen(path, "r");
	FILES_MUST(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL)
	{
		unsigned long ino;

		if (sscanf(line, "inotify wd:%*x ino:%lx", &ino) == 1)
		{
			FILES_MUST(n < MAX_DIRECTORIES);
			inodes[n++] = ino;
		}
	}
	fclose(file);
	qsort(inodes, n, sizeof(ino_t), compare_inodes);
	return n;
}

/* How many witnesses contradict the tree. */
static int
contradictions(void)
{
	static ino_t watched[MAX_DIRECTORIES];
	static ino_t there[MAX_DIRECTORIES];
	size_t		n_watched = watched_inodes(watched);
	int			wrong = 0;

	n_directories = 0;
	FILES_MUST(nftw(root, on_directory, 32, FTW_PHYS | FTW_ACTIONRETVAL) == 0);
	for (size_t i = 0; i < n_directories; i++)
	{
		Directory  *d = &directories[i];
		char		probe[sizeof(d->path) + 8];
		char		expected[sizeof(probe) + 8];

		there[i] = d->ino;
		if (!watch_tree_knows(tree, d->path, strlen(d->path)))
		{
			printf("# \"%s\" is not known\n", d->path);
			wrong++;
		}
		strcat(strcpy(probe, d->path), d->path[0] ? "/probe" : "probe");
		strcat(strcpy(expected, probe), " ");
		names[0] = '\0';
		FILES_MUST(mkfifoat(rootfd, probe, 0600) == 0);
		while (read_events())
			;
		if (strcmp(names, expected) != 0)
		{
			printf("# an event in \"%s\" is reported as \"%s\"\n", d->path, names);
			wrong++;
		}
		FILES_MUST(unlinkat(rootfd, probe, 0) == 0);
		while (read_events())
			;
	}
	qsort(there, n_directories, sizeof(ino_t), compare_inodes);
	if (n_watched != n_directories || memcmp(there, watched, n_watched * sizeof(ino_t)) != 0)
	{
		printf("# %zu directories, %zu watched\n", n_directories, n_watched);
		wrong++;
	}
	if (watch_tree_status(tree)->watched != n_directories || watch_tree_status(tree)->rebuild)
	{
		printf("# the tree says %d watched\n", (int) watch_tree_status(tree)->watched);
		wrong++;
	}
	names[0] = '\0';
	return wrong;
}

static bool
knows(const char *path)
{
	return watch_tree_knows(tree, path, strlen(path));
}

/* Whether path is among the sub-trees reported. */
static bool
reported(const char *path)
{
	char		word[600];

	snprintf(word, sizeof(word), " %s ", path);
	return strncmp(subtrees, word + 1, strlen(word + 1)) == 0 || strstr(subtrees, word) != NULL;
}

static void
forget_reports(void)
{
	subtrees[0] = names[0] = '\0';
}

/* The node of a directory, by an event in it. */
static uint64_t
node_of(const char *path)
{
	char		probe[600];

	snprintf(probe, sizeof(probe), "%s/probe", path);
	last_node = 0;
	FILES_MUST(mkfifoat(rootfd, probe, 0600) == 0 && unlinkat(rootfd, probe, 0) == 0);
	settle();
	return last_node;
}

static const char *
path_of(uint64_t node)
{
	static char path[PROTO_PATH_MAX + 1];

	return watch_tree_path(tree, node, path) < 0 ? "?" : path;
}

/* ---- tests ---- */

/* Fails if files in a directory that is made in one go are not seen. */
static void
test_new(void)
{
	begin(1000);
	EQUALS(contradictions(), 0);
	mkdirs("a/b/c/d/e/f/g/h");
	mkdirs("a/b2/c");
	settle();
	EQUALS(contradictions(), 0);
	HOLDS(reported("a") && reported("a/b/c/d/e/f/g/h") && reported("a/b2/c"));
	HOLDS(knows("a/b2") && knows("") && !knows("a/b3") && !knows("a/b2/c/d"));

	/* events of a directory whose time is up half way */
	mkdirs("x/1/2/3/4");
	mkdirs("y/1/2/3/4");
	read_events();
	HOLDS(!watch_tree_resolve(tree, rootfd, -1));
	settle();
	EQUALS(contradictions(), 0);

	/* files are told by name */
	forget_reports();
	files_write_at(rootfd, "x/1/file", "x", 1);
	settle();
	CHECK_EQ_STR(names, "x/1/file x/1/file x/1/file ", "made, written, closed");
	EQUALS(last_mask, IN_CLOSE_WRITE);
	CHECK_EQ_STR(subtrees, "", "a file is no reason to compare its directory");
	end();
}

/* Fails if what happens in a renamed directory is taken for its old place. */
static void
test_rename(void)
{
	uint64_t	node;
	FileInfo	info;

	begin(1000);
	mkdirs("a/b/c");
	mkdirs("other");
	settle();
	node = node_of("a/b");
	CHECK_EQ_STR(path_of(node), "a/b", "a node has its directory's path");
	forget_reports();
	rename_in("a/b", "other/new");
	settle();
	EQUALS(contradictions(), 0);
	CHECK_EQ_STR(path_of(node), "other/new", "the path follows the directory");
	EQUALS(node_of("other/new"), node);
	HOLDS(reported("a/b") && reported("other/new") && !reported("a"));
	FILES_MUST(beneath_stat(rootfd, "other/new", 9, &info) == 0);
	HOLDS(watch_tree_is_at(tree, node, info.dev, (ino_t) info.stat.inode));
	HOLDS(!watch_tree_is_at(tree, node, info.dev, (ino_t) info.stat.inode + 1));

	/* several times before anybody looks, and what is above it too */
	rename_in("other/new", "x");
	rename_in("x", "a/y");
	rename_in("a", "z");
	settle();
	EQUALS(contradictions(), 0);
	CHECK_EQ_STR(path_of(node), "z/y", "renamed again and again");

	/* onto an empty directory */
	mkdirs("empty");
	settle();
	rename_in("z/y", "empty");
	settle();
	EQUALS(contradictions(), 0);
	CHECK_EQ_STR(path_of(node), "empty", "in the place of another");
	end();
}

/* Moved, and back before anybody looks: what was said of it may be of there. */
static void
test_back_again(void)
{
	begin(1000);
	mkdirs("a/b/c");
	mkdirs("other");
	settle();
	forget_reports();
	rename_in("a/b", "other/new");
	rename_in("other/new", "a/b");
	settle();
	CHECK_EQ_STR(subtrees, "", "nothing was said meanwhile");
	rename_in("a/b", "other/new");
	watch_tree_examined(tree);
	rename_in("other/new", "a/b");
	while (read_events())
		;
	HOLDS(watch_tree_touched(tree, "a/b/c/file", 10) && watch_tree_touched(tree, "other/new/x", 11));
	HOLDS(!watch_tree_touched(tree, "a/file", 6) && !watch_tree_touched(tree, "a/b", 3));
	settle();
	HOLDS(!watch_tree_touched(tree, "a/b/c/file", 10));
	HOLDS(reported("a/b") && reported("other/new"));
	EQUALS(contradictions(), 0);
	forget_reports();
	mkdirs("other/more");
	settle();
	CHECK(!reported("a/b"), "that is over: %s", subtrees);
	end();
}

/* Fails if a directory that left is still watched, or one that came is not. */
static void
test_out_and_in(void)
{
	uint64_t	node;

	begin(1000);
	mkdirs("a/b/c");
	settle();
	node = node_of("a/b");
	forget_reports();
	FILES_MUST(renameat(rootfd, "a", basefd, "out/a") == 0);
	settle();
	EQUALS(contradictions(), 0);
	HOLDS(reported("a") && !knows("a") && !knows("a/b"));
	CHECK_EQ_STR(path_of(node), "?", "a node that left has no path");
	forget_reports();
	files_write_at(basefd, "out/a/b/file", "x", 1);
	settle();
	CHECK_EQ_STR(names, "", "what happens outside is not told");
	FILES_MUST(renameat(basefd, "out/a", rootfd, "back") == 0);
	settle();
	EQUALS(contradictions(), 0);
	HOLDS(reported("back") && reported("back/b") && knows("back/b/c"));

	/* a file, or a link to a directory, in the place of a directory */
	FILES_MUST(renameat(rootfd, "back", basefd, "out/back") == 0);
	files_write_at(basefd, "out/file", "x", 1);
	FILES_MUST(renameat(basefd, "out/file", rootfd, "back") == 0);
	FILES_MUST(symlinkat("../out", rootfd, "link") == 0);
	settle();
	EQUALS(contradictions(), 0);
	HOLDS(!knows("back") && !knows("link"));
	end();
}

/* Fails if directories that trade places also trade their events. */
static void
test_tangles(void)
{
	uint64_t	a;
	uint64_t	b;

	begin(1000);
	mkdirs("a/x");
	mkdirs("d/b/y");
	settle();
	a = node_of("a");
	b = node_of("d/b");
	for (int i = 0; i < 3; i++)
	{
		FILES_MUST(renameat2(rootfd, "a", rootfd, "d/b", RENAME_EXCHANGE) == 0);
		settle();
		EQUALS(contradictions(), 0);
		CHECK_EQ_STR(path_of(a), i % 2 ? "a" : "d/b", "exchanged");
		CHECK_EQ_STR(path_of(b), i % 2 ? "d/b" : "a", "exchanged");
	}

	/* three in a circle */
	mkdirs("1/x");
	mkdirs("2/y");
	mkdirs("3/z");
	settle();
	rename_in("1", "t");
	rename_in("2", "1");
	rename_in("3", "2");
	rename_in("t", "3");
	settle();
	EQUALS(contradictions(), 0);

	/* a child that becomes the parent of its parent */
	mkdirs("p/q/r");
	settle();
	a = node_of("p");
	b = node_of("p/q");
	rename_in("p/q", "q");
	rename_in("p", "q/p");
	settle();
	EQUALS(contradictions(), 0);
	CHECK_EQ_STR(path_of(b), "q", "the child is above");
	CHECK_EQ_STR(path_of(a), "q/p", "the parent is below");

	/* d/d takes the place of d */
	mkdirs("e/e/x");
	settle();
	rename_in("e/e", "t");
	FILES_MUST(unlinkat(rootfd, "e", AT_REMOVEDIR) == 0);
	rename_in("t", "e");
	settle();
	EQUALS(contradictions(), 0);
	end();
}

static void
set_mode(const char *path, mode_t mode)
{
	FILES_MUST(fchmodat(rootfd, path, mode, 0) == 0);
}

/*
 * Fails if what could not be looked at, because a directory could not be read
 * or searched for a moment, is not looked at when it can be again.
 */
static void
test_closed_for_a_moment(void)
{
	begin(1000);
	if (geteuid() == 0)
	{
		SKIP("directories closed for a moment", "nothing is closed to root");
		end();
		return;
	}

	/* new, and closed before it was read */
	mkdirs("a/new/inner");
	read_events();
	EQUALS(watch_tree_resolve(tree, rootfd, -1), false);
	set_mode("a", 0);
	EQUALS(watch_tree_resolve(tree, rootfd, LONG_TIME), true);
	set_mode("a", 0755);
	settle();
	EQUALS(contradictions(), 0);

	/* the one above it is closed */
	mkdirs("a/next/inner");
	read_events();
	EQUALS(watch_tree_resolve(tree, rootfd, -1), false);
	set_mode("a", 0);
	EQUALS(watch_tree_resolve(tree, rootfd, LONG_TIME), true);
	set_mode("a", 0755);
	settle();
	EQUALS(contradictions(), 0);

	/* one that may be read and not searched; a new name in it, and an old one */
	for (int i = 0; i < 2; i++)
	{
		mkdirs(i == 0 ? "a/third/inner" : "a/new/another");
		if (i == 1)
			set_mode("a/new", 0700);
		read_events();
		set_mode("a", 0400);
		EQUALS(watch_tree_resolve(tree, rootfd, LONG_TIME), true);
		set_mode("a", 0755);
		settle();
		EQUALS(contradictions(), 0);
	}

	/* open whenever the tree looks, but somebody else found it closed */
	set_mode("a/new", 0);
	subtrees[0] = '\0';
	HOLDS(!watch_tree_closed(tree, rootfd, "a/next/inner", strlen("a/next/inner")));
	HOLDS(watch_tree_closed(tree, rootfd, "a/new/inner/file", strlen("a/new/inner/file")));
	set_mode("a/new", 0755);
	settle();
	CHECK_EQ_STR(subtrees, "a/new ", "its opening is reported");
	HOLDS(!watch_tree_closed(tree, rootfd, "a/new/inner/file", strlen("a/new/inner/file")));

	/* closed while it is read, and for good: only what it is itself is known */
	mkdirs("closed/inner");
	settle();
	set_mode("closed", 0);
	settle();
	mkdirs("another");
	settle();
	HOLDS(watch_tree_knows(tree, "another", strlen("another")));
	set_mode("closed", 0755);
	settle();
	EQUALS(contradictions(), 0);
	end();
}

/*
 * Fails if a new directory whose place was lost before it was read stays unread
 * when its place is found by reading another, of which no event tells.
 */
static void
test_unread(void)
{
	begin(1000);
	mkdirs("a");
	settle();
	mkdirs("a/new/inner");
	read_events();
	EQUALS(watch_tree_resolve(tree, rootfd, -1), false);
	mkdirs("other");
	rename_in("a", "other/a");
	read_events();
	EQUALS(watch_tree_resolve(tree, rootfd, LONG_TIME), true);
	HOLDS(watch_tree_knows(tree, "other/a/new/inner", strlen("other/a/new/inner")));
	settle();
	EQUALS(contradictions(), 0);
	end();
}

/*
 * Fails if a directory that took the name (and, as file systems give them out
 * again at once, the inode number) of a removed one is taken for it.
 */
static void
test_again(void)
{
	int			wrong = 0;

	begin(1000);
	for (int i = 0; i < 10; i++)
	{
		mkdirs("a/b/c");
		settle();
		remove_in("a");
		mkdirs("a/b/d");
		if (i % 2)
			watch_tree_resolve(tree, rootfd, LONG_TIME);
		settle();
		wrong += contradictions();
		remove_in("a");
	}
	settle();
	EQUALS(wrong, 0);
	EQUALS(contradictions(), 0);
	HOLDS(!knows("a"));
	end();
}

/* Fails if an ignored directory costs a watch, or one that is not is missed. */
static void
test_ignored(void)
{
	begin(1000);
	mkdirs(".git/objects");
	mkdirs("a/build.tmp/x");
	mkdirs("a/src");
	settle();
	EQUALS(contradictions(), 0);
	HOLDS(!knows(".git") && !knows("a/build.tmp") && knows("a/src"));
	forget_reports();
	files_write_at(rootfd, "a/.file.swp", "x", 1);
	settle();
	CHECK_EQ_STR(names, "", "an ignored file is not told");
	rename_in("a/src", "a/.src");
	rename_in("a/build.tmp", "a/build");
	settle();
	EQUALS(contradictions(), 0);
	HOLDS(reported("a/src") && knows("a/build/x") && !knows("a/src"));
	end();
}

static void
list_unwatched(void *arg, const char *path, size_t len)
{
	(void) len;
	strcat(strcat(arg, path), " ");
}

/* Fails if a directory without a watch is not counted, or never tried again. */
static void
test_limit(void)
{
	const WatchTreeStatus *status;
	char		unwatched[4096] = "";

	begin(3);
	mkdirs("a");
	mkdirs("b");
	mkdirs("c/x");
	mkdirs("d");
	settle();
	status = watch_tree_status(tree);
	EQUALS(status->watched, 3);
	HOLDS(status->unwatched >= 2);
	EQUALS(status->watched + status->unwatched, 5 + knows("c/x"));
	HOLDS(knows("a") && knows("b") && knows("c") && knows("d"));
	watch_tree_retry(tree, 4);
	settle();
	EQUALS(status->watched, 4);
	forget_reports();
	watch_tree_retry(tree, 100);
	settle();
	EQUALS(status->unwatched, 0);
	EQUALS(contradictions(), 0);
	HOLDS(subtrees[0] != '\0');

	/* a directory that goes takes its count along */
	watch_tree_retry(tree, 6);
	mkdirs("e");
	settle();
	EQUALS(status->unwatched, 1);
	watch_tree_unwatched(tree, list_unwatched, unwatched);
	CHECK_EQ_STR(unwatched, "e ", "it is named");
	FILES_MUST(unlinkat(rootfd, "e", AT_REMOVEDIR) == 0);
	settle();
	EQUALS(status->unwatched, 0);

	/* one that is watched needs no further watch to be renamed */
	rename_in("c", "c2");
	settle();
	EQUALS(status->unwatched, 0);
	EQUALS(contradictions(), 0);
	end();
}

/* Fails if a touch from outside is not followed, or the root's end unknown. */
static void
test_touch_and_root(void)
{
	begin(1000);
	mkdirs("a/b");
	watch_tree_touch(tree, "a/b", 3);
	watch_tree_touch(tree, "nowhere/x", 9);
	HOLDS(watch_tree_resolve(tree, rootfd, LONG_TIME));
	HOLDS(knows("a/b") && !knows("nowhere"));
	settle();
	(void) watch_tree_root_changed(tree);
	HOLDS(!watch_tree_root_changed(tree));
	FILES_MUST(fchmodat(basefd, "root", 0750, 0) == 0);
	settle();
	HOLDS(watch_tree_root_changed(tree) && !watch_tree_root_changed(tree));
	HOLDS(watch_tree_root_watched(tree));
	remove_in("a");
	FILES_MUST(unlinkat(basefd, "root", AT_REMOVEDIR) == 0);
	close(rootfd);
	rootfd = dup(basefd);
	while (read_events())
		;
	HOLDS(!watch_tree_root_watched(tree) && watch_tree_root_changed(tree));
	end();
}

/* ---- at random ---- */

static const char *
random_directory(void)
{
	return directories[unit_below(n_directories)].path;
}

static void
storm_step(void)
{
	static const char *const words[] = {"a", "b", "c", "d", "e.tmp"};
	const char *from = random_directory();
	const char *to = random_directory();
	char		path[600];

	snprintf(path, sizeof(path), "%s%s%s", to, to[0] ? "/" : "", words[unit_below(5)]);
	if (strlen(path) > 100)
		return;
	switch (unit_below(8))
	{
		case 0:
		case 1:
		case 2:
			(void) mkdirat(rootfd, path, 0755);
			break;
		case 3:
		case 4:
			(void) renameat(rootfd, from, rootfd, path);
			break;
		case 5:
			(void) renameat2(rootfd, from, rootfd, to, RENAME_EXCHANGE);
			break;
		case 6:
			if (unit_below(2))
				(void) renameat(rootfd, from, basefd, "out/x");
			else
				(void) renameat(basefd, "out/x", rootfd, path);
			break;
		case 7:
			if (from[0] != '\0')
				(void) unlinkat(rootfd, from, AT_REMOVEDIR);
			break;
	}
}

/*
 * Fails if some order of operations leaves a directory unwatched, or watched
 * at a place where it is not, once all is quiet.
 */
static void
test_storm(void)
{
	int			wrong = 0;
	int			rebuilt = 0;
	int			checks = 0;

	begin(1000);
	for (int i = 0; i < 150; i++)
	{
		n_directories = 0;
		FILES_MUST(nftw(root, on_directory, 32, FTW_PHYS | FTW_ACTIONRETVAL) == 0);
		for (size_t k = 1 + unit_below(8); k > 0; k--)
		{
			storm_step();
			if (unit_below(6) == 0)
			{
				read_events();
				if (unit_below(2))
					watch_tree_resolve(tree, rootfd, unit_below(2) ? LONG_TIME : -1);
			}
		}
		forget_reports();
		settle();
		if (watch_tree_status(tree)->rebuild)
		{
			rebuilt++;
			destroy();
			create(1000);
			settle();
		}
		if (contradictions() > 0)
		{
			printf("# after batch %d\n", i);
			wrong++;
			break;
		}
		checks += n_directories > 5;
	}
	EQUALS(wrong, 0);
	HOLDS(checks > 75);
	CHECK(rebuilt < 10, "a tree that cannot follow is an exception");
	printf("# rebuilt %d times\n", rebuilt);
	end();
}

/*
 * Fails if writing to the files of a directory that is polled is reported, or
 * anything else of it is not; or if it is not once it is watched as the others.
 */
static void
test_polled(void)
{
	struct stat st;
	uint64_t	node;
	dev_t		dev;
	ino_t		ino;
	int			fd;

	begin(1000);
	mkdirs("a");
	FILES_MUST(fstatat(rootfd, "a", &st, 0) == 0);
	polled = st.st_ino;
	settle();
	files_write_at(rootfd, "a/file", "x", 1);
	settle();
	node = last_node;
	EQUALS(watch_tree_find(tree, st.st_dev, st.st_ino), node);
	EQUALS(watch_tree_find(tree, st.st_dev, 1), 0);
	HOLDS(watch_tree_is_at(tree, node, st.st_dev, st.st_ino));

	names[0] = '\0';
	fd = openat(rootfd, "a/file", O_WRONLY);
	FILES_MUST(fd >= 0 && write(fd, "more", 4) == 4);
	settle();
	CHECK_EQ_STR(names, "", "writing is not reported");
	polled = 0;
	HOLDS(watch_tree_renew(tree, rootfd, node));
	HOLDS(!watch_tree_renew(tree, rootfd, node + 1000));
	FILES_MUST(write(fd, "again", 5) == 5);
	settle();
	CHECK_EQ_STR(names, "a/file ", "writing is reported again");
	EQUALS(last_mask, IN_MODIFY);
	names[0] = '\0';
	polled = st.st_ino;
	HOLDS(watch_tree_renew(tree, rootfd, node));
	FILES_MUST(write(fd, "again", 5) == 5);
	settle();
	CHECK_EQ_STR(names, "", "and not once more");
	close(fd);
	settle();
	CHECK_EQ_STR(names, "a/file ", "closing is reported");
	EQUALS(last_mask, IN_CLOSE_WRITE);
	HOLDS(!watch_tree_identify(tree, 12345, &dev, &ino));
	HOLDS(watch_tree_identify(tree, 1, &dev, &ino));
	HOLDS(watch_tree_is_at(tree, watch_tree_find(tree, dev, ino), dev, ino));
	FILES_MUST(unlinkat(rootfd, "a/file", 0) == 0 && unlinkat(rootfd, "a", AT_REMOVEDIR) == 0);
	settle();
	EQUALS(watch_tree_find(tree, st.st_dev, st.st_ino), 0);
	HOLDS(!watch_tree_renew(tree, rootfd, node));
	polled = 0;
	end();
}

/* Mounts of our own, also for an ordinary user; false: not to be had. */
static bool
own_mounts(void)
{
	char		map[40];
	int			len = snprintf(map, sizeof(map), "%u %u 1", geteuid(), geteuid());

	if (unshare(CLONE_NEWNS) < 0)
	{
		int			fd;
		bool		mapped;

		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			return false;
		fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
		mapped = fd >= 0 && write(fd, map, (size_t) len) == len;
		if (fd >= 0)
			close(fd);
		if (!mapped)
			return false;
	}
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void
bind(const char *from, const char *to)
{
	char		source[4096];
	char		target[4096];

	snprintf(source, sizeof(source), "%s/%s", root, from);
	snprintf(target, sizeof(target), "%s/%s", root, to);
	FILES_MUST(mount(source, target, NULL, MS_BIND, NULL) == 0);
	watch_tree_touch(tree, to, strlen(to));
	settle();
}

static void
unbind(const char *at)
{
	char		target[4096];

	snprintf(target, sizeof(target), "%s/%s", root, at);
	FILES_MUST(umount(target) == 0);
	watch_tree_touch(tree, at, strlen(at));
	settle();
}

static void
make(const char *path)
{
	names[0] = subtrees[0] = '\0';
	files_write_at(rootfd, path, "x", 1);
	settle();
}

#define REPORTED(what) \
	CHECK(strstr(names, what) != NULL, "%s: %s is reported", __func__, what)
#define SILENT(what) \
	CHECK(strstr(names, what) == NULL, "%s: %s is not reported", __func__, what)

/*
 * Fails if what happens at one place of a directory is not reported of the
 * others, or if it is no longer when the place that had the watch has gone.  In
 * a mount namespace, for the rest of the process.
 */
static void
test_second_places(void)
{
	if (!own_mounts())
	{
		SKIP("second places", "no mount namespace is to be had");
		return;
	}
	begin(1000);
	mkdirs("a/s/deep");
	mkdirs("b");
	mkdirs("c");
	mkdirs("plain/self");
	settle();
	bind("a", "b");
	bind("a/s", "c");
	EQUALS(watch_tree_status(tree)->aliases, 5);	/* b, b/s, b/s/deep, c, c/deep */
	make("a/s/one");
	REPORTED("a/s/one ");
	REPORTED("b/s/one ");
	REPORTED("c/one ");
	make("c/deep/two");
	REPORTED("a/s/deep/two ");
	REPORTED("b/s/deep/two ");
	REPORTED("c/deep/two ");

	/* new directories, and renamed ones, through whichever place */
	mkdirs("b/s/new/in/it");
	settle();
	make("a/s/new/in/it/three");
	REPORTED("b/s/new/in/it/three ");
	REPORTED("c/new/in/it/three ");
	FILES_MUST(renameat(rootfd, "b/s/new", rootfd, "b/moved") == 0);
	settle();
	CHECK(strstr(subtrees, "a/moved ") && strstr(subtrees, "b/moved ") &&
		  strstr(subtrees, "c/new "), "a rename is one in all places: %s", subtrees);
	make("a/moved/in/it/four");
	REPORTED("a/moved/in/it/four ");
	REPORTED("b/moved/in/it/four ");
	SILENT("c/");
	FILES_MUST(renameat(rootfd, "a/moved", rootfd, "a/s/moved") == 0);
	settle();
	make("c/moved/in/five");
	REPORTED("a/s/moved/in/five ");
	REPORTED("b/s/moved/in/five ");
	REPORTED("c/moved/in/five ");
	EQUALS(watch_tree_status(tree)->aliases, 5 + 6);

	/* a directory in itself */
	bind("plain", "plain/self");
	mkdirs("plain/x/y");
	settle();
	make("plain/self/x/y/six");
	REPORTED("plain/x/y/six ");
	REPORTED("plain/self/x/y/six ");
	mkdirs("plain/self/self/z");
	settle();
	make("plain/self/self/z/seven");
	REPORTED("plain/self/self/z/seven ");
	SILENT("plain/self/z/seven ");
	unbind("plain/self");
	make("plain/x/y/eight");
	REPORTED("plain/x/y/eight ");
	SILENT("plain/self/x");

	/* the places go, that with the watches among them */
	unbind("b");
	make("a/s/deep/nine");
	REPORTED("a/s/deep/nine ");
	REPORTED("c/deep/nine ");
	SILENT("b/");
	unbind("c");
	EQUALS(watch_tree_status(tree)->aliases, 0);
	make("b/ten");
	REPORTED("b/ten ");

	/* one of many is the first that is found, and has them */
	for (int i = 0; i < 6; i++)
	{
		char		name[2] = {(char) ('m' + i), '\0'};

		mkdirs(name);
		bind("a", name);
	}
	destroy();
	create(1000);
	settle();
	EQUALS(watch_tree_status(tree)->aliases, 6 * 6);
	for (int i = 0; i < 6; i++)
	{
		char		name[2] = {(char) ('m' + i), '\0'};

		unbind(name);
		make("a/s/deep/eleven");
		REPORTED("a/s/deep/eleven ");
		make("a/s/moved/in/eleven");
		REPORTED("a/s/moved/in/eleven ");
	}
	EQUALS(watch_tree_status(tree)->aliases, 0);
	bind("a", "b");
	make("b/s/deep/twelve");
	REPORTED("a/s/deep/twelve ");
	REPORTED("b/s/deep/twelve ");
	unbind("b");
	HOLDS(!watch_tree_status(tree)->rebuild);
	EQUALS(watch_tree_status(tree)->aliases, 0);
	end();
}

int
main(void)
{
	FilterSettings settings = FILTER_SETTINGS_DEFAULT;
	const char *error;

	filter = filter_create(&settings, &error);
	FILES_MUST(filter != NULL);
	test_new();
	test_rename();
	test_back_again();
	test_out_and_in();
	test_tangles();
	test_unread();
	test_closed_for_a_moment();
	test_again();
	test_ignored();
	test_limit();
	test_touch_and_root();
	test_polled();
	test_storm();
	test_second_places();
	filter_free(filter);
	return unit_done();
}
