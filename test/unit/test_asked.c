/*-------------------------------------------------------------------------
 *
 * test_asked.c
 *		Scans of a part, in an engine whose worker holds its answers back.
 *
 * Nothing is looked at for events by itself: what is found, the scan has found.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_worker.h"
#include "unit.h"

#define NEVER_MS	600000

static char *base;
static char *root;
static int	rootfd;
static Worker w;

static void
make(const char *path)
{
	files_write_at(rootfd, path, path, strlen(path));
}

static void
begin(void)
{
	int			basefd;

	base = files_temp_dir();
	basefd = files_open_dir(base);
	FILES_MUST(asprintf(&root, "%s/root", base) > 0);
	files_mkdir_at(basefd, "root");
	close(basefd);
	rootfd = files_open_dir(root);
	files_mkdir_at(rootfd, "a");
	files_mkdir_at(rootfd, "b");
	make("a/1");
	make("a/2");
	make("b/1");
	make("b/2");
	worker_start(&w, root, NEVER_MS);
}

static void
end(void)
{
	CHECK(worker_stop(&w), "the engine ends");
	close(rootfd);
	files_remove_tree(base);
	free(root);
	free(base);
}

/* A scan of a part, to its end. */
static void
part(const char *path)
{
	worker_scan_part(&w, path);
	WORKER_UNTIL(&w, w.scanned == w.last_scan);
	EQUALS(w.result, PROTO_SCAN_COMPLETE);
}

/* There and nowhere else; files that came and went, and the path itself. */
static void
test_part(void)
{
	begin();
	make("a/new");
	make("b/new");
	FILES_MUST(unlinkat(rootfd, "a/2", 0) == 0 && unlinkat(rootfd, "b/2", 0) == 0);
	part("a");
	CHECK(worker_id(&w, "a/new") != 0 && worker_id(&w, "a/2") == 0, "what changed there");
	CHECK(worker_id(&w, "b/new") == 0 && worker_id(&w, "b/2") != 0, "and nowhere else");
	part("b/new");
	CHECK(worker_id(&w, "b/new") != 0 && worker_id(&w, "b/2") != 0, "a file");
	part("b/2");
	CHECK(worker_id(&w, "b/2") == 0, "a file that is gone");
	part("c/d");
	part("a/1/x");
	CHECK(worker_id(&w, "a/1") != 0, "what never was");
	worker_flush_all(&w);
	EQUALS(w.n_rows, 4);
	end();
}

/* A rename between the part and elsewhere is one, whichever end the scan sees. */
static void
test_renames(void)
{
	int64_t		out;
	int64_t		in;

	begin();
	out = worker_id(&w, "a/1");
	in = worker_id(&w, "b/1");
	FILES_MUST(renameat(rootfd, "a/1", rootfd, "b/out") == 0);
	part("a");
	FILES_MUST(renameat(rootfd, "b/1", rootfd, "a/in") == 0);
	part("a");
	worker_flush_all(&w);
	EQUALS(worker_id(&w, "b/out"), out);
	EQUALS(worker_id(&w, "a/in"), in);

	/* while the scan asks for the rows */
	worker_hold(&w);
	worker_scan_part(&w, "a");
	WORKER_UNTIL(&w, w.n_held > 0);
	FILES_MUST(renameat(rootfd, "a/in", rootfd, "b/back") == 0);
	FILES_MUST(renameat(rootfd, "b/out", rootfd, "a/back") == 0);
	worker_release(&w);
	WORKER_UNTIL(&w, w.scanned == w.last_scan);
	worker_flush_all(&w);
	EQUALS(worker_id(&w, "a/back"), out);
	EQUALS(worker_id(&w, "b/back"), in);

	/* the directory itself, before and while */
	FILES_MUST(renameat(rootfd, "a", rootfd, "b/a") == 0);
	part("a");
	worker_flush_all(&w);
	EQUALS(worker_id(&w, "b/a/back"), out);
	EQUALS(w.removed, 0);
	end();
}

/* Beside a scan of everything that waits, and a barrier that comes after it. */
static void
test_beside(void)
{
	int64_t		asked;
	unsigned	done;

	begin();
	done = w.scans_done;
	worker_hold(&w);
	worker_scan(&w, 0);
	WORKER_UNTIL(&w, w.n_held == 1);
	make("a/new");
	worker_scan_part(&w, "a");
	WORKER_UNTIL(&w, w.n_held >= 2);
	worker_flush(&w);
	for (int i = 0; i < 5; i++)
		worker_serve(&w, 20);
	CHECK(w.flushed != w.last_flush, "a barrier waits for the scan of a part");
	worker_release(&w);
	WORKER_UNTIL(&w, w.scans_done == done + 2);
	WORKER_UNTIL(&w, w.flushed == w.last_flush);
	CHECK(worker_id(&w, "a/new") != 0, "and what it finds is there");

	/* a second one while the first goes on is refused, and that one not disturbed */
	worker_hold(&w);
	worker_scan_part(&w, "a");
	asked = w.last_scan;
	WORKER_UNTIL(&w, w.n_held > 0);
	worker_scan_part(&w, "b");
	WORKER_UNTIL(&w, w.scanned == w.last_scan);
	EQUALS(w.result, PROTO_SCAN_FAILED);
	worker_release(&w);
	WORKER_UNTIL(&w, w.scanned == asked);
	EQUALS(w.result, PROTO_SCAN_COMPLETE);

	/* cancelled */
	worker_hold(&w);
	worker_scan_part(&w, "a");
	asked = w.last_scan;
	WORKER_UNTIL(&w, w.n_held > 0);
	proto_begin(&w.out, PROTO_SCAN_CANCEL);
	proto_put_i64(&w.out, asked);
	proto_end(&w.out);
	WORKER_UNTIL(&w, w.scanned == asked);
	EQUALS(w.result, PROTO_SCAN_CANCELLED);
	worker_release(&w);
	part("b");
	end();
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_part();
	test_renames();
	test_beside();
	return unit_done();
}
