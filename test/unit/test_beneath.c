/*-------------------------------------------------------------------------
 *
 * test_beneath.c
 *		No path leads outside the root, and no look disturbs what it sees.
 *
 * Everything that concerns resolving paths runs three times: with openat2(),
 * and in a child where it fails with ENOSYS or EPERM as on old kernels and in
 * containers.
 *
 *-------------------------------------------------------------------------
 */
#include "beneath.h"
#include "files.h"

#include <signal.h>
#include <sys/resource.h>
#include <time.h>

static char *base;				/* holds root/ and outside/ */
static int	rootfd;

/* By each of the two ways, which must agree: the second time, by the directory
 * of the first. */
static int
stat_path(const char *path, FileInfo *info)
{
	size_t		len = strlen(path);
	int			result = beneath_stat(rootfd, path, len, info);
	int			error = errno;
	LastDirectory last;

	beneath_begin(&last);
	for (int i = 0; len > 0 && i < 2; i++)
	{
		FileInfo	near;
		bool		same = beneath_stat_near(rootfd, path, len, &last, &near) == result;

		CHECK(same && (result == 0 ? beneath_same_state(&near, info) : errno == error),
			  "\"%s\" is the same from near by", path);
	}
	beneath_end(&last);
	errno = error;
	return result;
}

static int
open_dir(const char *path)
{
	return beneath_open_directory(rootfd, path, strlen(path), O_PATH);
}

static int
open_file(const char *path, FileInfo *info)
{
	return beneath_open_file(rootfd, path, strlen(path), info);
}

static void
make_tree(void)
{
	int			basefd;

	base = files_temp_dir();
	basefd = files_open_dir(base);
	files_mkdir_at(basefd, "outside");
	files_write_at(basefd, "outside/secret", "secret", 6);
	files_mkdir_at(basefd, "root");
	files_mkdir_at(basefd, "root/d");
	files_mkdir_at(basefd, "root/d/e");
	files_write_at(basefd, "root/d/e/file", "content", 7);
	files_write_at(basefd, "root/top", "t", 1);
	FILES_MUST(symlinkat("/", basefd, "root/slash") == 0);
	FILES_MUST(symlinkat("../outside", basefd, "root/out") == 0);
	FILES_MUST(symlinkat("d", basefd, "root/in") == 0);
	FILES_MUST(symlinkat("top", basefd, "root/filelink") == 0);
	FILES_MUST(mkfifoat(basefd, "root/fifo", 0644) == 0);
	close(basefd);
	FILES_MUST(chdir(base) == 0);
	rootfd = files_open_dir("root");
}

/* Fails if a path is resolved to something else than what it names. */
static void
test_reaches_inside(void)
{
	FileInfo	info;
	struct stat st;
	char		data[16];
	int			fd;

	HOLDS(stat_path("d/e/file", &info) == 0);
	HOLDS(stat("root/d/e/file", &st) == 0);
	HOLDS(info.stat.inode == (int64_t) st.st_ino && info.dev == st.st_dev);
	HOLDS(info.stat.size == 7 && S_ISREG(info.mode) && info.nlink == 1);
	HOLDS(info.stat.mtime_sec == st.st_mtim.tv_sec);
	HOLDS(info.stat.mtime_nsec == st.st_mtim.tv_nsec);
	HOLDS(info.stat.mtime_ns == beneath_ns(st.st_mtim.tv_sec, st.st_mtim.tv_nsec));
	HOLDS(info.stat.ctime_ns == beneath_ns(st.st_ctim.tv_sec, st.st_ctim.tv_nsec));

	HOLDS(stat_path("", &info) == 0 && S_ISDIR(info.mode));
	HOLDS(stat("root", &st) == 0 && info.stat.inode == (int64_t) st.st_ino);

	fd = open_dir("d/e");
	HOLDS(fd >= 0);
	HOLDS(beneath_stat_at(fd, "file", &info) == 0 && info.stat.size == 7);
	close(fd);
	fd = open_dir("");
	HOLDS(fd >= 0);
	HOLDS(beneath_stat_at(fd, "top", &info) == 0 && info.stat.size == 1);
	close(fd);

	fd = open_file("d/e/file", &info);
	HOLDS(fd >= 0);
	HOLDS(read(fd, data, sizeof(data)) == 7 && memcmp(data, "content", 7) == 0);
	close(fd);
}

/* Fails if a symbolic link is followed, or "..", "/" or "//" lead anywhere. */
static void
test_never_outside(void)
{
	static const char *const paths[] = {
		"slash/etc", "slash/etc/passwd", "out/secret", "in/e", "in/e/file",
		"..", "../outside", "../outside/secret", "d/../../outside/secret", "d/..",
		"/etc/passwd", "/", "d//e/file", "d/e/", "./top", "d/./e/file", ".", "d/e/file/",
		"top/x", "fifo/x", "absent", "absent/x",
	};
	FileInfo	info;
	size_t		i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
	{
		HOLDS(stat_path(paths[i], &info) == -1 && errno == ENOENT);
		HOLDS(open_dir(paths[i]) == -1);
		HOLDS(errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
		HOLDS(open_file(paths[i], &info) == -1);
		HOLDS(errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
	}
	HOLDS(beneath_stat(rootfd, "top\0x", 5, &info) == -1 && errno == ENOENT);

	/* a link itself is seen as what it is, and neither entered nor read */
	HOLDS(stat_path("slash", &info) == 0 && S_ISLNK(info.mode));
	HOLDS(open_dir("slash") == -1 && (errno == ENOTDIR || errno == ELOOP));
	HOLDS(open_dir("in") == -1 && (errno == ENOTDIR || errno == ELOOP));
	HOLDS(open_file("filelink", &info) == -1 && (errno == EINVAL || errno == ELOOP));
}

/* Fails if what is not a regular file is opened, or called one. */
static void
test_only_regular_files(void)
{
	FileInfo	info;
	int			writer;

	HOLDS(open_file("d", &info) == -1 && errno == EINVAL);
	HOLDS(open_file("", &info) == -1 && errno == EINVAL);
	HOLDS(open_file("fifo", &info) == -1 && errno == EINVAL);

	/* a reader, even for an instant, would have let this writer in */
	writer = open("root/fifo", O_WRONLY | O_NONBLOCK);
	HOLDS(writer == -1 && errno == ENXIO);
}

/* Fails if a FIFO is opened for reading: its blocked writer would go on. */
static void
test_fifo_writer_stays_blocked(void)
{
	FileInfo	info;
	pid_t		pid = fork();
	int			status;
	int			i;

	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		int			fd = open("root/fifo", O_WRONLY);

		_exit(fd >= 0 ? 1 : 2);
	}
	for (i = 0; i < 100; i++)
	{
		HOLDS(open_file("fifo", &info) == -1 && errno == EINVAL);
		usleep(1000);
	}
	HOLDS(waitpid(pid, &status, WNOHANG) == 0);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

/* Fails if paths longer than the kernel takes at once are not resolved. */
static void
test_long_paths(void)
{
	enum { levels = 60, name_len = 200 };
	char		name[name_len + 1];
	char	   *path = malloc(levels * (name_len + 1) + 8);
	size_t		len = 0;
	FileInfo	info;
	int			at = dup(rootfd);
	int			fd;
	int			i;

	FILES_MUST(path != NULL && at >= 0);
	memset(name, 'n', name_len);
	name[name_len] = '\0';
	for (i = 0; i < levels; i++)
	{
		FILES_MUST(mkdirat(at, name, 0755) == 0 || errno == EEXIST);
		fd = openat(at, name, O_PATH | O_DIRECTORY);
		FILES_MUST(fd >= 0);
		close(at);
		at = fd;
		memcpy(path + len, name, name_len);
		len += name_len;
		path[len++] = '/';
	}
	files_write_at(at, "file", "deep", 4);
	HOLDS(beneath_stat_at(at, "file", &info) == 0);
	close(at);
	memcpy(path + len, "file", 5);
	len += 4;
	HOLDS(beneath_stat(rootfd, path, len, &info) == 0 && info.stat.size == 4);
	fd = beneath_open_file(rootfd, path, len, &info);
	HOLDS(fd >= 0);
	close(fd);
	fd = beneath_open_directory(rootfd, path, len - 5, O_RDONLY);
	HOLDS(fd >= 0);
	close(fd);

	/* a name that no file system has is not absence */
	memset(path, 'x', 5000);
	HOLDS(beneath_stat(rootfd, path, 5000, &info) == -1 && errno == ENAMETOOLONG);
	HOLDS(beneath_open_directory(rootfd, path, 5000, O_PATH) == -1 && errno == ENAMETOOLONG);
	free(path);
}

/*
 * Fails if a directory that is swapped for a symbolic link in the moment of
 * the look leads to the file behind the link.
 */
static void
test_symlink_race(void)
{
	FileInfo	info;
	FileInfo	secret;
	struct timespec start;
	struct timespec now;
	int			inside = 0;
	int			absent = 0;
	int			wrong = 0;
	pid_t		pid;
	int			basefd = files_open_dir(".");

	FILES_MUST(fstatat(basefd, "outside/secret", &(struct stat) {0}, 0) == 0);
	HOLDS(beneath_stat_at(basefd, "outside/secret", &secret) == 0);
	files_mkdir_at(basefd, "root/swap");
	files_write_at(basefd, "root/swap/secret", "mine", 4);
	FILES_MUST(symlinkat("../outside", basefd, "root/swap2") == 0);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		for (;;)
			renameat2(basefd, "root/swap", basefd, "root/swap2", RENAME_EXCHANGE);
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	do
	{
		int			fd;

		if (beneath_stat(rootfd, "swap/secret", 11, &info) == 0)
		{
			inside++;
			wrong += info.stat.inode == secret.stat.inode;
		}
		else
		{
			absent++;
			wrong += errno != ENOENT;
		}
		fd = open_file("swap/secret", &info);
		if (fd >= 0)
		{
			wrong += info.stat.inode == secret.stat.inode || info.stat.size != 4;
			close(fd);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < 2 ||
			 ((inside == 0 || absent == 0) && now.tv_sec - start.tv_sec < 120));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EQUALS(wrong, 0);
	HOLDS(inside > 0 && absent > 0);

	/* either may be the link by now; rm removes it and not what it names */
	files_remove_tree("root/swap");
	files_remove_tree("root/swap2");
	close(basefd);
}

/* Fails if reading leaves a trace in the watched tree. */
static void
test_atime_untouched(void)
{
	struct timespec old[2] = {{1000000000, 0}, {1000000000, 5}};
	struct stat st;
	FileInfo	info;
	char		data[8];
	int			fd;

	FILES_MUST(utimensat(AT_FDCWD, "root/top", old, 0) == 0);
	fd = open_file("top", &info);
	HOLDS(fd >= 0);
	HOLDS(read(fd, data, sizeof(data)) == 1);
	close(fd);
	HOLDS(stat("root/top", &st) == 0);
	EQUALS(st.st_atim.tv_sec, 1000000000);
}

/*
 * Fails if somebody else's files cannot be read because O_NOATIME is refused,
 * or if that refusal is taken for one of openat2() or of the file.
 */
static void
test_as_other_user(void)
{
	pid_t		pid;
	int			status;

	if (geteuid() != 0)
		return;
	FILES_MUST(chmod("root/d/e", 0755) == 0);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FileInfo	info;
		int			fd;
		int			ok = 1;

		FILES_MUST(setgid(65534) == 0 && setuid(65534) == 0);
		fd = open_file("d/e/file", &info);
		ok &= fd >= 0;
		ok &= (fcntl(fd, F_GETFL) & O_NOATIME) == 0;
		fd = beneath_open_directory(rootfd, "d/e", 3, O_RDONLY | O_NOATIME);
		ok &= fd >= 0;
		_exit(ok ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	EQUALS(status, 0);

	/* what cannot be looked at is not absent */
	FILES_MUST(chmod("root/d", 0700) == 0);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FileInfo	info;
		int			ok = 1;

		FILES_MUST(setgid(65534) == 0 && setuid(65534) == 0);
		ok &= stat_path("d/e/file", &info) == -1 && errno == EACCES;
		ok &= stat_path("d/absent", &info) == -1 && errno == EACCES;
		ok &= open_dir("d/e") == -1 && errno == EACCES;
		_exit(ok ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	EQUALS(status, 0);
	FILES_MUST(chmod("root/d", 0755) == 0);
}

/* Fails if a shortage of descriptors at the beginning is felt for ever. */
static void
test_shortage(void)
{
	struct rlimit before;
	struct rlimit none;
	pid_t		pid;
	int			status;

	FILES_MUST(getrlimit(RLIMIT_NOFILE, &before) == 0);
	none = before;
	none.rlim_cur = 0;
	FILES_MUST(setrlimit(RLIMIT_NOFILE, &none) == 0);
	pid = fork();				/* its own descriptors cannot be opened */
	FILES_MUST(setrlimit(RLIMIT_NOFILE, &before) == 0);
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		FileInfo	info;

		_exit(open_file("d/e/file", &info) >= 0 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	EQUALS(status, 0);
}

/* Fails if a lease is waited for, or broken without the caller's knowledge. */
static void
test_lease(void)
{
	FileInfo	info;
	int			fd = open("root/top", O_WRONLY);

	FILES_MUST(fd >= 0);
	signal(SIGIO, SIG_IGN);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0)
	{
		HOLDS(open_file("top", &info) == -1 && errno == EAGAIN);
		HOLDS(stat_path("top", &info) == 0);
	}
	close(fd);
}

/* Fails if odd times overflow, round towards zero or look like "no time". */
static void
test_ns(void)
{
	HOLDS(beneath_ns(0, 0) == 0);
	HOLDS(beneath_ns(1, 5) == INT64_C(1000000005));
	HOLDS(beneath_ns(-1, 999999999) == -1);
	HOLDS(beneath_ns(-1, 0) == INT64_C(-1000000000));
	HOLDS(beneath_ns(-2, 1) == INT64_C(-1999999999));
	HOLDS(beneath_ns(INT64_MAX, 0) == INT64_MAX);
	HOLDS(beneath_ns(INT64_MAX, 999999999) == INT64_MAX);
	HOLDS(beneath_ns(INT64_MIN, 0) == PROTO_NO_TIME + 1);
	HOLDS(beneath_ns(INT64_C(9223372036), 854775807) == INT64_MAX);
	HOLDS(beneath_ns(INT64_C(9223372036), 854775808) == INT64_MAX);
	HOLDS(beneath_ns(INT64_C(9223372036), 854775806) == INT64_MAX - 1);
	HOLDS(beneath_ns(INT64_C(-9223372037), 145224192) == PROTO_NO_TIME + 1);
	HOLDS(beneath_ns(INT64_C(-9223372037), 145224194) == PROTO_NO_TIME + 2);
}

/* Fails if a path is looked for in another's directory. */
static void
test_near(void)
{
	static const struct
	{
		const char *path;
		int			size;		/* -1: there is nothing */
	}			looks[] = {
		{"d/e/file", 7}, {"d/e/absent", -1}, {"top", 1}, {"d/file", -1}, {"d/e/file", 7},
		{"d/f/file", -1}, {"d/f/file", -1}, {"out/secret", -1}, {"d/e/file", 7}, {"e/file", -1},
	};
	LastDirectory last;
	FileInfo	info;
	FileInfo	directory;

	beneath_begin(&last);
	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
	{
		int			result = beneath_stat_near(rootfd, looks[i].path, strlen(looks[i].path),
											   &last, &info);

		CHECK(looks[i].size < 0 ? result == -1 && errno == ENOENT :
			  result == 0 && info.stat.size == looks[i].size,
			  "\"%s\" is found where it is, or nowhere", looks[i].path);
	}
	HOLDS(beneath_stat_near(rootfd, "d/e/file", 8, &last, &info) == 0);
	HOLDS(stat_path("d/e", &directory) == 0 && last.info.stat.inode == directory.stat.inode);
	beneath_end(&last);
}

/* Fails if a descriptor is lost on some way. */
static void
test_no_descriptor_leak(void)
{
	int			before = dup(rootfd);
	int			after;

	close(before);
	test_reaches_inside();
	test_never_outside();
	test_near();
	after = dup(rootfd);
	close(after);
	EQUALS(after, before);
}

static void
resolving_tests(void)
{
	test_reaches_inside();
	test_never_outside();
	test_only_regular_files();
	test_fifo_writer_stays_blocked();
	test_long_paths();
	test_symlink_race();
	test_near();
	test_as_other_user();
	test_no_descriptor_leak();
}

int
main(void)
{
	static const int errors[] = {ENOSYS, EPERM};
	size_t		i;

	make_tree();

	/* the children first: they inherit no knowledge of what works */
	for (i = 0; i < 2; i++)
	{
		pid_t		pid;
		int			status;

		fflush(stdout);
		pid = fork();
		FILES_MUST(pid >= 0);
		if (pid == 0)
		{
			/* its checks are one check of ours, so they are no TAP of ours */
			FILES_MUST(dup2(STDERR_FILENO, STDOUT_FILENO) >= 0);
			files_forbid_syscall(SYS_openat2, errors[i]);
			HOLDS(syscall(SYS_openat2, -1, "", NULL, 0) == -1 && errno == errors[i]);
			resolving_tests();
			files_end_child(unit_done());
		}
		waitpid(pid, &status, 0);
		EQUALS(status, 0);
	}
	resolving_tests();
	test_atime_untouched();
	test_shortage();
	test_lease();
	test_ns();

	FILES_MUST(chdir("/") == 0);
	close(rootfd);
	files_remove_tree(base);
	free(base);
	return unit_done();
}
