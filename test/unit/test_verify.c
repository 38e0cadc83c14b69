/*-------------------------------------------------------------------------
 *
 * test_verify.c
 *		Files that are read again: what is said of them, at which pace, and how
 *		it ends.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "clock.h"
#include "hash.h"
#include "verify.h"

#include <poll.h>
#include <sys/eventfd.h>

/* Longer than anything here takes. */
#define PATIENCE_MS			180000

static char *root;
static int	rootfd;
static int	wake_fd;

/* The file as a row would have it. */
static VerifyItem *
item_of(const char *path)
{
	VerifyItem *item = calloc(1, sizeof(VerifyItem) + strlen(path) + 1);
	HashJob		job = {.path = (char *) path, .len = strlen(path)};

	FILES_MUST(item != NULL);
	strcpy(item->path, path);
	hash_file(rootfd, &job);
	FILES_MUST(job.result == HASH_DONE);
	item->belief.path.data = item->path;
	item->belief.path.len = strlen(path);
	item->belief.size = job.info.stat.size;
	item->belief.inode = job.info.stat.inode;
	item->belief.mtime_ns = job.info.stat.mtime_ns;
	item->belief.ctime_ns = job.info.stat.ctime_ns;
	item->belief.btime_ns = job.info.stat.btime_ns;
	item->belief.has_hash = true;
	memcpy(item->belief.hash, job.hash, PROTO_HASH_LEN);
	return item;
}

/* All verdicts, as a list; empty: they did not come in time. */
static VerifyItem *
collect_all(Verify *verify)
{
	VerifyItem *all = NULL;
	VerifyItem **end = &all;
	bool		last = false;

	while (!last)
	{
		struct pollfd pfd = {.fd = wake_fd, .events = POLLIN};
		uint64_t	count;

		if (poll(&pfd, 1, PATIENCE_MS) <= 0)
			return NULL;
		FILES_MUST(read(wake_fd, &count, sizeof(count)) == sizeof(count));
		*end = verify_collect(verify, &last);
		while (*end != NULL)
			end = &(*end)->next;
	}
	return all;
}

static void
free_all(VerifyItem *items)
{
	while (items != NULL)
	{
		VerifyItem *next = items->next;

		free(items);
		items = next;
	}
}

/* Fails if a verdict is wrong, or comes in another order. */
static void
test_verdicts(Verify *verify)
{
	static const uint8_t expected[] = {
		PROTO_VERIFIED_RIGHT, PROTO_VERIFIED_CORRUPT, PROTO_VERIFIED_CHANGED,
		PROTO_VERIFIED_CHANGED, PROTO_VERIFIED_CHANGED, PROTO_VERIFIED_RIGHT
	};
	const char *names[] = {"right", "corrupt", "changed", "gone", "fifo", "empty"};
	VerifyItem *items[6];
	VerifyItem *results;
	VerifyItem *item;

	for (int i = 0; i < 6; i++)
	{
		files_write_at(rootfd, names[i], names[i], i == 5 ? 0 : strlen(names[i]));
		items[i] = item_of(names[i]);
		if (i > 0)
			items[i - 1]->next = items[i];
	}
	items[1]->belief.hash[7] ^= 1;
	items[2]->belief.mtime_ns++;
	FILES_MUST(unlinkat(rootfd, "gone", 0) == 0);
	FILES_MUST(unlinkat(rootfd, "fifo", 0) == 0);
	FILES_MUST(mkfifoat(rootfd, "fifo", 0600) == 0);
	EQUALS(verify_submit(verify, items[0], rootfd, 0), 0);
	results = item = collect_all(verify);
	for (int i = 0; i < 6; i++)
	{
		if (!HOLDS(item != NULL))
			break;
		EQUALS(item->result.verdict, expected[i]);
		HOLDS(strcmp(item->path, names[i]) == 0);
		HOLDS(!item->cancelled);
		if (i == 0)
			EQUALS(item->result.bytes, 5);
		if (i == 1)
			EQUALS(item->result.bytes, 14);	/* it was read twice */
		item = item->next;
	}
	HOLDS(item == NULL);
	free_all(results);
}

/* Fails if the rate is exceeded, or if cancelling waits for it. */
static void
test_rate(Verify *verify)
{
	static char content[1000000];
	VerifyItem *items;
	int64_t		start;

	files_write_at(rootfd, "slow", content, sizeof(content));
	items = item_of("slow");
	items->next = item_of("slow");
	start = monotonic_us();
	EQUALS(verify_submit(verify, items, rootfd, 2000000), 0);
	items = collect_all(verify);
	HOLDS(items != NULL && items->next != NULL);
	HOLDS(monotonic_us() - start >= 900000);
	free_all(items);

	items = item_of("slow");
	items->next = item_of("slow");
	EQUALS(verify_submit(verify, items, rootfd, 1), 0);
	verify_cancel(verify);
	items = collect_all(verify);
	if (HOLDS(items != NULL && items->next != NULL))
		HOLDS(items->next->cancelled);
	free_all(items);

	/* and it can be used again */
	EQUALS(verify_submit(verify, item_of("slow"), rootfd, 0), 0);
	items = collect_all(verify);
	if (HOLDS(items != NULL))
		EQUALS(items->result.verdict, PROTO_VERIFIED_RIGHT);
	free_all(items);
}

int
main(void)
{
	Verify	   *verify;

	root = files_temp_dir();
	rootfd = files_open_dir(root);
	wake_fd = eventfd(0, EFD_CLOEXEC);
	FILES_MUST(wake_fd >= 0);
	verify = verify_create(wake_fd);
	FILES_MUST(verify != NULL);

	test_verdicts(verify);
	test_rate(verify);

	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}
