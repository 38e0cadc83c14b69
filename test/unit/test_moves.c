/*-------------------------------------------------------------------------
 *
 * test_moves.c
 *		The two ends of a rename meet, whoever noticed which and when.
 *
 * A whole engine with a worker that holds its answers back, so that the disk
 * changes at a known place of a scan or an inspection.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_worker.h"

/* More than are taken up together (RUNS_CANDIDATES in runs.c). */
#define MANY			20500

/* Names wait until somebody waits for them. */
#define NEVER_MS		3600000

static char *base;
static int	basefd;
static char *root;
static int	rootfd;
static Worker w;
static int64_t ids[MANY];

static void
begin(void)
{
	base = files_temp_dir();
	basefd = files_open_dir(base);
	FILES_MUST(asprintf(&root, "%s/root", base) > 0);
	files_mkdir_at(basefd, "root");
	rootfd = files_open_dir(root);
}

static void
end(void)
{
	CHECK(worker_stop(&w), "the engine ends");
	close(rootfd);
	close(basefd);
	files_remove_tree(base);
	free(root);
	free(base);
}

static void
make(const char *path)
{
	files_write_at(rootfd, path, path, strlen(path));
}

static void
make_many(const char *directory)
{
	char		path[100];

	files_mkdir_at(rootfd, directory);
	for (int i = 0; i < MANY; i++)
	{
		snprintf(path, sizeof(path), "%s/f%d", directory, i);
		files_write_at(rootfd, path, "", 0);
	}
}

static void
note_many(const char *directory)
{
	char		path[100];

	for (int i = 0; i < MANY; i++)
	{
		snprintf(path, sizeof(path), "%s/f%d", directory, i);
		ids[i] = worker_id(&w, path);
	}
}

static int
many_lost(const char *directory)
{
	char		path[100];
	int			lost = 0;

	for (int i = 0; i < MANY; i++)
	{
		snprintf(path, sizeof(path), "%s/f%d", directory, i);
		lost += worker_id(&w, path) != ids[i];
	}
	return lost;
}

static void
move(const char *from, const char *to)
{
	FILES_MUST(renameat(rootfd, from, rootfd, to) == 0);
}

/*
 * A directory moves on while a scan of its first two places is about to walk:
 * that finds one end of each rename only, the next scan the others.
 */
static void
test_more_than_a_batch(void)
{
	begin();
	make_many("t0");
	worker_start(&w, root, NEVER_MS);
	note_many("t0");
	move("t0", "t1");
	worker_hold(&w);
	worker_flush(&w);
	WORKER_UNTIL(&w, w.n_held > 0);
	move("t1", "t2");
	worker_release(&w);
	WORKER_UNTIL(&w, w.flushed == w.last_flush);
	worker_flush_all(&w);
	CHECK_EQ_INT(many_lost("t2"), 0, "ids that were lost of a directory that moved on");
	CHECK_EQ_INT(w.n_rows, MANY, "rows");
	CHECK_EQ_INT(w.removed, 0, "removals");

	/* ... and back to where it was, in the midst of being looked at */
	move("t2", "t3");
	worker_hold(&w);
	worker_flush(&w);
	WORKER_UNTIL(&w, w.n_held > 0);
	worker_release(&w);
	worker_hold(&w);
	WORKER_UNTIL(&w, w.n_held > 0);
	move("t3", "t0");
	worker_release(&w);
	WORKER_UNTIL(&w, w.flushed == w.last_flush);
	worker_flush_all(&w);
	CHECK_EQ_INT(many_lost("t0"), 0, "ids that were lost of one that came back");
	end();
}

/*
 * A new directory with very many files takes one of another: a scan knows what
 * came, and an event what left.
 */
static void
test_came_by_scan_left_by_event(void)
{
	int64_t		id;

	begin();
	files_mkdir_at(rootfd, "old");
	make("old/a");
	make("old/b");
	worker_start(&w, root, NEVER_MS);
	id = worker_id(&w, "old/a");
	files_mkdir_at(basefd, "new");
	for (int i = 0; i < MANY; i++)
	{
		char		path[100];

		snprintf(path, sizeof(path), "new/f%d", i);
		files_write_at(basefd, path, "", 0);
	}
	FILES_MUST(renameat(rootfd, "old/a", basefd, "new/a") == 0);
	FILES_MUST(renameat(basefd, "new", rootfd, "new") == 0);
	worker_flush_all(&w);
	CHECK_EQ_INT(worker_id(&w, "new/a"), id, "what a scan found takes the row that an event freed");
	CHECK_EQ_INT(worker_id(&w, "old/a"), 0, "which is at the old path no more");
	CHECK_EQ_INT(w.n_rows, MANY + 2, "rows");
	end();
}

/* A scan finds both ends far apart, and the file was written after its rename. */
static void
test_renamed_and_written(void)
{
	int64_t		id;

	begin();
	make("z");
	make("y");
	worker_start(&w, root, NEVER_MS);
	id = worker_id(&w, "z");
	make_many("n");
	move("z", "n/z");
	make("n/z");
	worker_scan_all(&w);
	CHECK_EQ_INT(worker_id(&w, "n/z"), id, "a file that was renamed and written keeps its id");
	CHECK_EQ_INT(w.removed, 0, "removals");
	end();
}

/* What left is looked at while what came is not heard of, and the other way. */
static void
test_order(void)
{
	int64_t		a;
	int64_t		b;

	begin();
	files_mkdir_at(rootfd, "d");
	files_mkdir_at(rootfd, "e");
	make("d/a");
	make("e/b");
	worker_start(&w, root, NEVER_MS);
	a = worker_id(&w, "d/a");
	b = worker_id(&w, "e/b");

	/* an inspection of d/a and e/x has begun when the file moves on */
	move("d/a", "e/x");
	worker_hold(&w);
	worker_flush(&w);
	WORKER_UNTIL(&w, w.n_held > 0);
	move("e/x", "d/y");
	worker_release(&w);
	WORKER_UNTIL(&w, w.flushed == w.last_flush);
	worker_flush_all(&w);
	CHECK_EQ_INT(worker_id(&w, "d/y"), a, "a file that moved on while it was looked at");

	/* ... and again, with its directory */
	move("d/y", "e/x");
	worker_hold(&w);
	worker_flush(&w);
	WORKER_UNTIL(&w, w.n_held > 0);
	move("e/x", "d/a");
	move("d", "e/d");
	worker_release(&w);
	WORKER_UNTIL(&w, w.flushed == w.last_flush);
	worker_flush_all(&w);
	CHECK_EQ_INT(worker_id(&w, "e/d/a"), a, "with its directory");

	/* a scan knows the new place, and nobody the old one any more */
	move("e/b", "e/d/b");
	move("e/d", "d");
	worker_hold(&w);
	worker_scan(&w, 0);
	worker_flush(&w);
	WORKER_UNTIL(&w, w.n_held > 0);
	move("e", "f");
	move("d", "f/d");
	worker_release(&w);
	WORKER_UNTIL(&w, w.flushed == w.last_flush && w.scanned == w.last_scan);
	worker_flush_all(&w);
	CHECK_EQ_INT(worker_id(&w, "f/d/a"), a, "a file whose directories moved on under a scan");
	CHECK_EQ_INT(worker_id(&w, "f/d/b"), b, "and one that was renamed in between");
	CHECK_EQ_INT(w.removed, 0, "removals");
	CHECK_EQ_INT(w.n_rows, 2, "rows");
	end();
}

static void
test_links(void)
{
	int64_t		a;
	int64_t		b;

	begin();
	make("a");
	FILES_MUST(linkat(rootfd, "a", rootfd, "b", 0) == 0);
	worker_start(&w, root, NEVER_MS);
	b = worker_id(&w, "b");
	FILES_MUST(unlinkat(rootfd, "a", 0) == 0);
	move("b", "c");
	worker_flush_all(&w);
	CHECK_EQ_INT(worker_id(&w, "c"), b, "the name that was renamed gives its row, not one removed");
	CHECK_EQ_INT(w.n_rows, 1, "rows");

	FILES_MUST(linkat(rootfd, "c", rootfd, "a", 0) == 0);
	worker_flush_all(&w);
	a = worker_id(&w, "a");
	move("a", "x");
	move("c", "y");
	worker_flush_all(&w);
	CHECK(worker_id(&w, "x") != worker_id(&w, "y"), "two names of a file are two rows");
	CHECK_EQ_INT(worker_id(&w, "x") + worker_id(&w, "y"), a + b, "both keep their ids");
	end();
}

/*
 * Names come and go all the time, also out of the tree, and a directory moves
 * to and fro: a flush still ends, and what was removed by then is so.
 */
static void
test_removal_in_a_busy_tree(void)
{
	pid_t		busy;
	int			status;

	begin();
	files_mkdir_at(rootfd, "d");
	files_mkdir_at(rootfd, "gone");
	files_mkdir_at(rootfd, "moving");
	make("moving/x");
	make("there");
	make("removed");
	make("left");
	make("gone/1");
	make("gone/2");
	worker_start(&w, root, 100);
	fflush(NULL);
	busy = fork();
	FILES_MUST(busy >= 0);
	if (busy == 0)
	{
		for (int i = 0;; i = !i)
		{
			(void) renameat(i ? basefd : rootfd, "there", i ? rootfd : basefd, "there");
			(void) renameat(rootfd, i ? "moving" : "moved", rootfd, i ? "moved" : "moving");
			usleep(5000);
		}
	}
	usleep(50000);
	FILES_MUST(unlinkat(rootfd, "removed", 0) == 0);
	FILES_MUST(renameat(rootfd, "left", basefd, "left") == 0);
	FILES_MUST(unlinkat(rootfd, "gone/1", 0) == 0);
	FILES_MUST(unlinkat(rootfd, "gone/2", 0) == 0);
	FILES_MUST(unlinkat(rootfd, "gone", AT_REMOVEDIR) == 0);
	worker_flush_all(&w);
	CHECK_EQ_INT(worker_id(&w, "removed"), 0, "a file that was removed is so for a flush");
	CHECK_EQ_INT(worker_id(&w, "left"), 0, "one that left the tree");
	CHECK_EQ_INT(worker_id(&w, "gone/1") + worker_id(&w, "gone/2"), 0, "a directory");
	CHECK(waitpid(busy, &status, WNOHANG) == 0, "while the tree goes on being busy");
	kill(busy, SIGKILL);
	FILES_MUST(waitpid(busy, &status, 0) == busy);
	end();
}

int
main(void)
{
	test_more_than_a_batch();
	test_came_by_scan_left_by_event();
	test_renamed_and_written();
	test_order();
	test_links();
	test_removal_in_a_busy_tree();
	return unit_done();
}
