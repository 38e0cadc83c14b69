/*-------------------------------------------------------------------------
 *
 * test_put_off.c
 *		A barrier waits for whatever was put off, for want of whatever.
 *
 * The whole of fsync-tree runs in a child, with a worker that keeps its table in
 * memory (standalone.c).  Functions of the C library stand here in the place of
 * the real ones, and fail while they are told to; each is one way in which a path
 * can be put off.  Then the barrier is asked for, and answered only when the
 * function works again; before, the state says what lacks.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "standalone.h"
#include "unit.h"

#include <dirent.h>
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>

/* Longer than each of the cases takes. */
#define PATIENCE_S			300

typedef enum Call
{
	CALL_NONE,
	CALL_PTHREAD_CREATE,
	CALL_OPEN,					/* of the root */
	CALL_OPENAT,
	CALL_OPENAT2,
	CALL_STATX,
	CALL_FDOPENDIR,
	CALL_STRNDUP,
	CALL_ADD_WATCH,
	CALL_INIT,					/* of inotify */
} Call;

/* Shared with the child. */
typedef struct Fault
{
	volatile Call call;
	volatile int error;
	pid_t		test;			/* whose calls do not fail, ... */
	volatile pid_t worker;		/* ... nor this one's */
} Fault;

static Fault *fault;

/* ---- the functions ---- */

static int	(*real_pthread_create) (pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);
static int	(*real_open) (const char *, int,...);
static int	(*real_openat) (int, const char *, int,...);
static long (*real_syscall) (long,...);
static int	(*real_statx) (int, const char *, int, unsigned, struct statx *);
static DIR *(*real_fdopendir) (int);
static char *(*real_strndup) (const char *, size_t);
static int	(*real_inotify_add_watch) (int, const char *, uint32_t);
static int	(*real_inotify_init1) (int);

#define FIND(name) \
	do { \
		*(void **) &real_##name = dlsym(RTLD_NEXT, #name); \
	} while (0)

__attribute__((constructor))
static void
find_functions(void)
{
	FIND(pthread_create);
	FIND(open);
	FIND(openat);
	FIND(syscall);
	FIND(statx);
	FIND(fdopendir);
	FIND(strndup);
	FIND(inotify_add_watch);
	FIND(inotify_init1);
}

static bool
fails(Call call)
{
	if (fault == NULL || fault->call != call || fault->worker == 0 ||
		getpid() == fault->worker || getpid() == fault->test)
		return false;
	errno = fault->error;
	return true;
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start) (void *), void *arg)
{
	return fails(CALL_PTHREAD_CREATE) ? fault->error : real_pthread_create(thread, attr, start, arg);
}

int
open(const char *path, int flags,...)
{
	va_list		args;
	mode_t		mode = 0;

	va_start(args, flags);
	if (flags & (O_CREAT | __O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	return strcmp(path, "/") == 0 && fails(CALL_OPEN) ? -1 :
		real_open(path, flags, mode);
}

int
openat(int fd, const char *path, int flags,...)
{
	va_list		args;
	mode_t		mode = 0;

	va_start(args, flags);
	if (flags & (O_CREAT | __O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	return fails(CALL_OPENAT) ? -1 : real_openat(fd, path, flags, mode);
}

long
syscall(long number,...)
{
	va_list		args;
	long		a[6];

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_openat2 && fails(CALL_OPENAT2))
		return -1;
	return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int
statx(int fd, const char *path, int flags, unsigned mask, struct statx *st)
{
	return fails(CALL_STATX) ? -1 : real_statx(fd, path, flags, mask, st);
}

DIR *
fdopendir(int fd)
{
	return fails(CALL_FDOPENDIR) ? NULL : real_fdopendir(fd);
}

char *
strndup(const char *s, size_t n)
{
	return fails(CALL_STRNDUP) ? NULL : real_strndup(s, n);
}

int
inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	return fails(CALL_ADD_WATCH) ? -1 : real_inotify_add_watch(fd, path, mask);
}

int
inotify_init1(int flags)
{
	return fails(CALL_INIT) ? -1 : real_inotify_init1(flags);
}

/* ---- fsync-tree ---- */

static char *root;
static int	rootfd;
static pid_t child;
static FILE *commands;
static FILE *answers;

static void
start(void)
{
	int			to[2];
	int			from[2];

	alarm(PATIENCE_S);
	root = files_temp_dir();
	rootfd = files_open_dir(root);
	files_mkdir_at(rootfd, "d");
	files_mkdir_at(rootfd, "e");
	files_write_at(rootfd, "d/old", "old", 3);
	files_write_at(rootfd, "d/moves", "moves", 5);
	FILES_MUST(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
	fflush(stdout);
	child = fork();
	FILES_MUST(child >= 0);
	if (child == 0)
	{
		close(to[1]);
		close(from[0]);
		FILES_MUST(dup2(to[0], STDIN_FILENO) >= 0 && dup2(from[1], STDOUT_FILENO) >= 0);
		fault->worker = getpid();
		files_end_child(standalone_watch(root, 20));
	}
	close(to[0]);
	close(from[1]);
	commands = fdopen(to[1], "w");
	answers = fdopen(from[0], "r");
	FILES_MUST(commands != NULL && answers != NULL);
}

static void
command(const char *text)
{
	fprintf(commands, "%s\n", text);
	fflush(commands);
}

/* Reads until a line that begins so; false if one came that begins with unless. */
static bool
read_until(const char *beginning, const char *unless)
{
	char		line[4096];

	while (fgets(line, sizeof(line), answers) != NULL)
	{
		if (strncmp(line, beginning, strlen(beginning)) == 0)
			return true;
		if (unless != NULL && strncmp(line, unless, strlen(unless)) == 0)
			return false;
	}
	return false;
}

/* Whether there is a row of this path, and with a hash; at the end of the dump. */
static bool
has_row(const char *path)
{
	char		line[4096];
	bool		found = false;

	command("dump");
	while (fgets(line, sizeof(line), answers) != NULL && strcmp(line, "end\n") != 0)
	{
		const char *name = strrchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		found |= name != NULL && strcmp(name + 1, path) == 0 && line[0] != '-';
	}
	return found;
}

static void
end(void)
{
	int			status;

	fault->call = CALL_NONE;
	fclose(commands);
	FILES_MUST(waitpid(child, &status, 0) == child);
	CHECK_EQ_INT(status, 0, "it ends as it should");
	fclose(answers);
	close(rootfd);
	files_remove_tree(root);
	free(root);
	fault->worker = 0;
}

static void
break_call(Call call, int error)
{
	fault->error = error;
	fault->call = call;
}

/* ---- what happens in the tree ---- */

static void
write_file(void)
{
	files_write_at(rootfd, "d/new", "new", 3);
}

static void
write_large_file(void)
{
	int			fd = openat(rootfd, "d/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	FILES_MUST(fd >= 0 && ftruncate(fd, 65 * 1024 * 1024) == 0);
	close(fd);
}

static void
make_directories(void)
{
	files_mkdir_at(rootfd, "d/sub");
	files_mkdir_at(rootfd, "d/sub/sub");
	files_write_at(rootfd, "d/sub/sub/new", "new", 3);
}

/* With directories in them that no event tells of. */
static void
move_in_directories(void)
{
	char	   *outside = files_temp_dir();
	int			fd = files_open_dir(outside);

	files_mkdir_at(fd, "sub");
	files_mkdir_at(fd, "sub/sub");
	files_write_at(fd, "sub/sub/new", "new", 3);
	FILES_MUST(renameat(fd, "sub", rootfd, "d/sub") == 0);
	close(fd);
	files_remove_tree(outside);
	free(outside);
}

static void
move_file(void)
{
	FILES_MUST(renameat(rootfd, "d/moves", rootfd, "e/moved") == 0);
}

static void
move_directory(void)
{
	FILES_MUST(renameat(rootfd, "d", rootfd, "e/d") == 0);
}

/*
 * With a call that fails something happens, and a barrier is asked for: it is not
 * answered before the state says what lacks, but when the call works again.
 */
static void
check_waits(const char *name, Call call, int error, const char *reason, void (*happens) (void),
			const char *row)
{
	char		line[128];
	bool		waits;

	start();
	CHECK(read_until("scanned 0", NULL), "%s: first sync", name);
	break_call(call, error);
	happens();
	command("flush");
	snprintf(line, sizeof(line), "# %s", reason);
	waits = CHECK(read_until(line, "flushed"),
				  "%s: the state says \"%s\" before the barrier is answered", name, reason);
	break_call(CALL_NONE, 0);
	if (waits)
	{
		CHECK(read_until("flushed", NULL), "%s: the barrier is answered when there is what lacked", name);
		CHECK(has_row(row), "%s: and the row is there", name);
	}
	end();
}

static void
check_all_waits(void)
{
	static const struct
	{
		const char *name;
		Call		call;
		int			error;
		const char *reason;
	}			lacks[] = {
		{"a directory above cannot be opened", CALL_OPENAT2, EMFILE, "no file descriptor is to be had"},
		{"... in the whole system", CALL_OPENAT2, ENFILE, "no file descriptor is to be had"},
		{"... for want of memory", CALL_OPENAT2, ENOMEM, "no memory is to be had"},
		{"the root cannot be opened", CALL_OPEN, EMFILE, "no file descriptor is to be had"},
		{"stat for want of memory", CALL_STATX, ENOMEM, "no memory is to be had"},
	};
	static const struct
	{
		const char *name;
		void		(*happens) (void);
		const char *row;
	}			changes[] = {
		{"a file", write_file, "d/new"},
		{"directories", make_directories, "d/sub/sub/new"},
		{"a file that moves", move_file, "e/moved"},
		{"a directory that moves", move_directory, "e/d/old"},
	};

	for (size_t i = 0; i < sizeof(lacks) / sizeof(lacks[0]); i++)
		for (size_t j = 0; j < sizeof(changes) / sizeof(changes[0]); j++)
		{
			char		name[128];

			snprintf(name, sizeof(name), "%s, %s", lacks[i].name, changes[j].name);
			check_waits(name, lacks[i].call, lacks[i].error, lacks[i].reason,
						changes[j].happens, changes[j].row);
		}
	check_waits("no thread to hash", CALL_PTHREAD_CREATE, EAGAIN, "no thread is to be had",
				write_large_file, "d/new");
	check_waits("no thread to scan", CALL_PTHREAD_CREATE, EAGAIN, "no thread is to be had",
				make_directories, "d/sub/sub/new");
	check_waits("a file cannot be opened", CALL_OPENAT, EMFILE, "no file descriptor is to be had",
				write_file, "d/new");
	check_waits("a directory cannot be opened", CALL_OPENAT, ENFILE, "no file descriptor is to be had",
				make_directories, "d/sub/sub/new");
	check_waits("a directory cannot be read", CALL_FDOPENDIR, ENOMEM, "no memory is to be had",
				move_in_directories, "d/sub/sub/new");
}

/* A name or a place for which there is no memory is not forgotten. */
static void
check_no_memory(const char *name, void (*happens) (void), const char *row)
{
	start();
	CHECK(read_until("scanned 0", NULL), "%s: first sync", name);
	break_call(CALL_STRNDUP, ENOMEM);
	happens();
	command("flush");
	poll(NULL, 0, 200);			/* more than the debounce */
	break_call(CALL_NONE, 0);
	CHECK(read_until("flushed", NULL), "%s: the barrier is answered when there is memory", name);
	CHECK(has_row(row), "%s: and the row is there", name);
	end();
}

/* Where no watch is to be had, now or from the start, a barrier looks itself. */
static void
check_looks(const char *name, Call call, int error, bool from_start, void (*happens) (void),
			const char *row)
{
	if (from_start)
		break_call(call, error);
	start();
	CHECK(read_until("scanned 0", NULL), "%s: first sync", name);
	break_call(call, error);
	make_directories();
	command("flush");
	CHECK(read_until("flushed", NULL), "%s: a barrier", name);
	happens();
	files_write_at(rootfd, "d/sub/sub/later", "later", 5);
	files_mkdir_at(rootfd, "d/sub/sub/deep");
	files_write_at(rootfd, "d/sub/sub/deep/x", "x", 1);
	command("flush");
	CHECK(read_until("flushed", NULL), "%s: another barrier", name);
	CHECK(has_row(row), "%s: what happened is seen", name);
	CHECK(has_row("d/sub/sub/later"), "%s: and a file", name);
	CHECK(has_row("d/sub/sub/deep/x"), "%s: and one in a new directory", name);
	end();
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	fault = mmap(NULL, sizeof(Fault), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	FILES_MUST(fault != MAP_FAILED);
	fault->test = getpid();
	check_all_waits();
	check_no_memory("no memory for a name", write_file, "d/new");
	check_no_memory("no memory for a place", make_directories, "d/sub/sub/new");
	check_looks("no watch left", CALL_ADD_WATCH, ENOSPC, false, write_file, "d/new");
	check_looks("no memory for a watch", CALL_ADD_WATCH, ENOMEM, false, move_file, "e/moved");
	check_looks("no watch at all", CALL_ADD_WATCH, ENOSPC, true, move_file, "e/moved");
	check_looks("no instance", CALL_INIT, EMFILE, true, write_file, "d/new");
	return unit_done();
}
