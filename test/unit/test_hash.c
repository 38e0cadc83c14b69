/*-------------------------------------------------------------------------
 *
 * test_hash.c
 *		A hash is SHA-256 of what the file once was, or there is none.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "hash_file.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

/* Longer than anything here takes. */
#define PATIENCE_MS			180000

static char *root;
static int	rootfd;

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
one_shot(const void *data, size_t len, uint8_t hash[PROTO_HASH_LEN])
{
	FILES_MUST(EVP_Digest(data, len, hash, NULL, EVP_sha256(), NULL) == 1);
}

static HashResult
hash_path(const char *path, FileInfo *info, uint8_t hash[PROTO_HASH_LEN], int *error)
{
	HashJob		job = {.path = (char *) path, .len = strlen(path)};

	hash_file(rootfd, &job);
	*info = job.info;
	memcpy(hash, job.hash, PROTO_HASH_LEN);
	*error = job.error;
	return job.result;
}

/* ---------------------------------------------------------------------
 * One file
 * ---------------------------------------------------------------------
 */

/* Fails if a size at the edge of a buffer or block is hashed wrongly. */
static void
test_sizes(void)
{
	static const size_t sizes[] = {
		0, 1, 55, 56, 63, 64, 65, 4095, 4096, 4097,
		256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 1000003,
	};
	static unsigned char data[1000003];
	size_t		i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char) (i * 7 + i / 251);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		uint8_t		expected[PROTO_HASH_LEN];
		uint8_t		hash[PROTO_HASH_LEN];
		FileInfo	info;
		int			error;

		files_write_at(rootfd, "sized", data, sizes[i]);
		one_shot(data, sizes[i], expected);
		EQUALS(hash_path("sized", &info, hash, &error), HASH_DONE);
		HOLDS(memcmp(hash, expected, PROTO_HASH_LEN) == 0);
		EQUALS(info.stat.size, (int64_t) sizes[i]);
	}
}

/*
 * Fails if what a short read leaves over, less than a block, gets lost: pieces
 * that are no whole blocks leave it over each time.
 */
static void
test_odd_pieces(void)
{
	static unsigned char data[5000];
	int			wrong = 0;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char) (i * 13 + i / 200);
	for (size_t piece = 64; piece < 200; piece++)
	{
		size_t		size = sizeof(data) - piece;
		HashJob		job = {.path = "odd", .len = 3, .rootfd = rootfd};
		HashFile	file;
		HashStep	step;
		uint8_t    *buffer = malloc(HASH_FILE_BUFFER(piece));
		uint8_t		expected[PROTO_HASH_LEN];
		bool		uncached = true;

		FILES_MUST(buffer != NULL);
		files_write_at(rootfd, "odd", data, size);
		one_shot(data, size, expected);
		step = hash_file_open(&file, &job, INT64_MAX);
		while (step == HASH_STEP_WAIT)
		{
			hash_sleep_until(file.due_us);
			step = hash_file_look(&file);
		}
		hash_file_start(&file, buffer, piece);
		while (step == HASH_STEP_GO_ON)
		{
			step = hash_file_fill(&file, piece, &uncached);
			if (step == HASH_STEP_GO_ON)
			{
				uint32_t   *state = file.state;

				sha256_single.blocks(1, &state, &file.next, file.blocks);
				step = hash_file_took(&file, file.blocks);
			}
		}
		wrong += job.result != HASH_DONE || memcmp(job.hash, expected, PROTO_HASH_LEN) != 0;
		free(buffer);
	}
	EQUALS(wrong, 0);
}

/* Fails if the hash is another function than everybody's sha256sum. */
static void
test_known_hash(void)
{
	static const uint8_t abc[PROTO_HASH_LEN] = {
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
		0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
	};
	uint8_t		hash[PROTO_HASH_LEN];
	FileInfo	info;
	int			error;

	files_write_at(rootfd, "abc", "abc", 3);
	EQUALS(hash_path("abc", &info, hash, &error), HASH_DONE);
	HOLDS(memcmp(hash, abc, PROTO_HASH_LEN) == 0);
}

/* Fails if what cannot be hashed is opened, or gives the wrong reason. */
static void
test_reasons(void)
{
	uint8_t		hash[PROTO_HASH_LEN];
	FileInfo	info;
	int			error;
	HashJob		job = {.path = "abc", .len = 3, .cancelled = 1};
	int			fd;

	FILES_MUST(mkfifoat(rootfd, "fifo", 0600) == 0);
	FILES_MUST(symlinkat("abc", rootfd, "link") == 0);
	EQUALS(hash_path("fifo", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("link", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("absent", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("abc/x", &info, hash, &error), HASH_GONE);
	EQUALS(hash_path("", &info, hash, &error), HASH_GONE);
	hash_file(rootfd, &job);
	EQUALS(job.result, HASH_CANCELLED);
	job.cancelled = 0;
	hash_file(-1, &job);
	EQUALS(job.result, HASH_ERROR);
	EQUALS(job.error, EBADF);

	signal(SIGIO, SIG_IGN);
	fd = openat(rootfd, "abc", O_WRONLY);
	FILES_MUST(fd >= 0);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0)
		EQUALS(hash_path("abc", &info, hash, &error), HASH_LEASED);
	close(fd);
}

/*
 * Fails if a change in the clock tick of the hash goes unnoticed: when a file
 * is written at once after it was hashed, its ctime must be another one.
 */
static void
test_clock_tick(void)
{
	int			i;
	int			invisible = 0;

	for (i = 0; i < 200; i++)
	{
		char		content = (char) ('a' + i % 26);
		uint8_t		hash[PROTO_HASH_LEN];
		FileInfo	before;
		FileInfo	after;
		int			error;

		files_write_at(rootfd, "tick", &content, 1);
		EQUALS(hash_path("tick", &before, hash, &error), HASH_DONE);
		content ^= 1;
		files_write_at(rootfd, "tick", &content, 1);
		FILES_MUST(beneath_stat(rootfd, "tick", 4, &after) == 0);
		invisible += before.stat.ctime_ns == after.stat.ctime_ns;
	}
	EQUALS(invisible, 0);
}

/*
 * The same on ramfs, whose stamps move in ticks on every kernel; recent ones
 * give other file systems finer stamps, where nothing can go wrong.
 */
static void
test_clock_tick_ramfs(void)
{
	pid_t		pid;
	int			status;
	char	   *path;

	FILES_MUST(asprintf(&path, "%s/ramfs", root) > 0);
	files_mkdir_at(rootfd, "ramfs");
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FILES_MUST(dup2(STDERR_FILENO, STDOUT_FILENO) >= 0);
		if (!files_mount_ramfs(path))
			files_end_child(77);
		rootfd = files_open_dir(path);
		test_clock_tick();
		files_end_child(unit_done());
	}
	waitpid(pid, &status, 0);
	free(path);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("no change within a clock tick goes unnoticed", "cannot mount a ramfs");
	else
		EQUALS(status, 0);
}

/*
 * A file of so many parts, each of one letter; it is overwritten part by part,
 * since within one write(2) no time stamp moves.
 */
#define PART				4096
#define PARTS				128
#define LETTERS				4

static int	stop_rewriting;

static void *
rewrite(void *arg)
{
	int			fd = openat(rootfd, "busy", O_WRONLY);
	char		data[PART];

	FILES_MUST(fd >= 0);
	for (int letter = 1; __atomic_load_n(&stop_rewriting, __ATOMIC_RELAXED) == 0;
		 letter = (letter + 1) % LETTERS)
	{
		memset(data, 'a' + letter, PART);
		for (int i = 0; i < PARTS; i++)
			FILES_MUST(pwrite(fd, data, PART, i * PART) == PART);
		usleep(*(const useconds_t *) arg);
	}
	close(fd);
	return NULL;
}

/* Fails if a hash is of a mixture that the file never was. */
static void
test_rewritten(useconds_t pause)
{
	uint8_t		states[LETTERS * PARTS][PROTO_HASH_LEN];
	char	   *data = malloc(PARTS * PART);
	pthread_t	writer;
	int64_t		end = now_ms() + 1000;
	int			done = 0;
	int			changed = 0;
	int			wrong = 0;

	/* all of one letter, and then one part after the other of the next one */
	FILES_MUST(data != NULL);
	memset(data, 'a', PARTS * PART);
	files_write_at(rootfd, "busy", data, PARTS * PART);
	for (int i = 0; i < LETTERS * PARTS; i++)
	{
		memset(data + i % PARTS * PART, 'a' + (i / PARTS + 1) % LETTERS, PART);
		one_shot(data, PARTS * PART, states[i]);
	}
	free(data);
	__atomic_store_n(&stop_rewriting, 0, __ATOMIC_RELAXED);
	FILES_MUST(pthread_create(&writer, NULL, rewrite, &pause) == 0);
	do
	{
		uint8_t		hash[PROTO_HASH_LEN];
		FileInfo	info;
		int			error;
		HashResult	result = hash_path("busy", &info, hash, &error);

		if (result == HASH_DONE)
		{
			int			known = 0;

			for (int i = 0; i < LETTERS * PARTS; i++)
				known |= memcmp(hash, states[i], PROTO_HASH_LEN) == 0;
			wrong += !known;
			done++;
		}
		else if (result == HASH_CHANGED)
			changed++;
		else
			wrong++;
	} while (now_ms() < end ||
			 (pause == 0 && changed == 0 && now_ms() < end + PATIENCE_MS));
	__atomic_store_n(&stop_rewriting, 1, __ATOMIC_RELAXED);
	pthread_join(writer, NULL);
	printf("# pause %u us: %d hashes, %d times changed\n", (unsigned int) pause, done, changed);
	EQUALS(wrong, 0);
	if (pause == 0)
		HOLDS(changed > 0);
}

/* Large enough that to write it takes several ticks of the clock. */
#define WHOLE_SIZE			(64 * 1024 * 1024)

/* This thread runs on one processor, the first that it may run on. */
static void
stay_on_one(cpu_set_t *before)
{
	cpu_set_t	one;
	int			i = 0;

	FILES_MUST(sched_getaffinity(0, sizeof(*before), before) == 0);
	while (!CPU_ISSET(i, before))
		i++;
	CPU_ZERO(&one);
	CPU_SET(i, &one);
	FILES_MUST(sched_setaffinity(0, sizeof(one), &one) == 0);
}

/*
 * Overwrites the whole file with one write(2) after the other, slowly: it
 * stands back, in the middle of it, for who wants the same processor.
 */
static void *
rewrite_whole(void *arg)
{
	int			fd = openat(rootfd, "whole", O_WRONLY);
	char	   *data[2] = {malloc(WHOLE_SIZE), malloc(WHOLE_SIZE)};

	(void) arg;
	FILES_MUST(fd >= 0 && data[0] != NULL && data[1] != NULL);
	for (int i = 0; i < 2; i++)
		memset(data[i], 'a' + i, WHOLE_SIZE);
	FILES_MUST(setpriority(PRIO_PROCESS, (id_t) gettid(), 12) == 0);
	for (int i = 1; __atomic_load_n(&stop_rewriting, __ATOMIC_RELAXED) == 0; i = 1 - i)
	{
		FILES_MUST(pwrite(fd, data[i], WHOLE_SIZE, 0) == WHOLE_SIZE);
		usleep(30000);
	}
	free(data[0]);
	free(data[1]);
	close(fd);
	return NULL;
}

/*
 * Fails if a hash is taken within a write(2), whose times are older than what
 * it has yet to write.
 */
static void
test_within_a_write(void)
{
	uint8_t		states[2][PROTO_HASH_LEN];
	char	   *data = malloc(WHOLE_SIZE);
	pthread_t	writer;
	int64_t		end;
	int			done = 0;
	int			wrong = 0;
	cpu_set_t	processors;

	FILES_MUST(data != NULL);
	for (int i = 1; i >= 0; i--)
	{
		memset(data, 'a' + i, WHOLE_SIZE);
		one_shot(data, WHOLE_SIZE, states[i]);
	}
	files_write_at(rootfd, "whole", data, WHOLE_SIZE);
	free(data);
	__atomic_store_n(&stop_rewriting, 0, __ATOMIC_RELAXED);
	stay_on_one(&processors);
	FILES_MUST(pthread_create(&writer, NULL, rewrite_whole, NULL) == 0);
	end = now_ms() + 3000;
	do
	{
		uint8_t		hash[PROTO_HASH_LEN];
		FileInfo	info;
		int			error;

		if (hash_path("whole", &info, hash, &error) != HASH_DONE)
			continue;
		done++;
		wrong += memcmp(hash, states[0], PROTO_HASH_LEN) != 0 &&
			memcmp(hash, states[1], PROTO_HASH_LEN) != 0;
	} while (now_ms() < end);
	__atomic_store_n(&stop_rewriting, 1, __ATOMIC_RELAXED);
	pthread_join(writer, NULL);
	FILES_MUST(sched_setaffinity(0, sizeof(processors), &processors) == 0);
	printf("# within one write: %d hashes, %d of no content\n", done, wrong);
	EQUALS(wrong, 0);
	unlinkat(rootfd, "whole", 0);
}

/* Fails if a file that grows faster than it is read keeps its reader. */
static void
test_growing(void)
{
	uint8_t		hash[PROTO_HASH_LEN];
	FileInfo	info;
	int			error;
	HashResult	result = HASH_DONE;
	int64_t		end = now_ms() + PATIENCE_MS;
	pid_t		pid;

	files_write_at(rootfd, "growing", "", 0);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		static char block[65536];
		int			fd = openat(rootfd, "growing", O_WRONLY | O_APPEND);

		for (int i = 0;; i = (i + 1) % 5000)
		{
			if ((i == 0 && ftruncate(fd, 0) < 0) || write(fd, block, sizeof(block)) < 0)
				_exit(1);
			usleep(200);
		}
	}
	/* The writer may be kept off the CPU for as long as many hashes take. */
	while (result != HASH_CHANGED && now_ms() < end)
	{
		result = hash_path("growing", &info, hash, &error);
		HOLDS(result == HASH_CHANGED || result == HASH_DONE);
	}
	EQUALS(result, HASH_CHANGED);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlinkat(rootfd, "growing", 0);
}

int
main(void)
{
	root = files_temp_dir();
	rootfd = files_open_dir(root);

	test_sizes();
	test_odd_pieces();
	test_known_hash();
	test_reasons();
	test_clock_tick();
	test_clock_tick_ramfs();
	test_rewritten(0);
	test_rewritten(15000);
	test_within_a_write();
	test_growing();

	close(rootfd);
	files_remove_tree(root);
	free(root);
	return unit_done();
}
