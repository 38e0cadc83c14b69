/*-------------------------------------------------------------------------
 *
 * files.h
 *		Directories and files for the unit tests.
 *
 * A helper that cannot do its work ends the test at once: nothing that came
 * after it would mean anything.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TEST_FILES_H
#define FSYNC_TEST_FILES_H

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_MUST(cond) \
	do { \
		if (!(cond)) \
		{ \
			printf("Bail out! %s:%d: %s: %s\n", __FILE__, __LINE__, #cond, strerror(errno)); \
			exit(99); \
		} \
	} while (0)

/* Checks whose sentence is the expression, in the test that says why. */
#define HOLDS(cond) \
	CHECK((cond), "%s: %s", __func__, #cond)
#define EQUALS(got, expected) \
	CHECK_EQ_INT((got), (expected), #got " is " #expected)

/* A new empty directory that all may enter; the caller frees the path. */
static inline char *
files_temp_dir(void)
{
	const char *tmp = getenv("TMPDIR");
	char	   *path;

	FILES_MUST(asprintf(&path, "%s/fsync-unit-XXXXXX", tmp ? tmp : "/tmp") > 0);
	FILES_MUST(mkdtemp(path) != NULL);
	FILES_MUST(chmod(path, 0755) == 0);
	return path;
}

/* Of any depth, which nftw() is not up to. */
static inline void
files_remove_tree(const char *path)
{
	pid_t		pid = fork();
	int			status;

	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		execlp("rm", "rm", "-rf", "--", path, (char *) NULL);
		_exit(127);
	}
	FILES_MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Ends a forked child without what its parent registered for its own end. */
static inline void
files_end_child(int status)
{
	fflush(stdout);
	_exit(status);
}

static inline int
files_open_dir(const char *path)
{
	int			fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	FILES_MUST(fd >= 0);
	return fd;
}

static inline void
files_mkdir_at(int dirfd, const char *path)
{
	FILES_MUST(mkdirat(dirfd, path, 0755) == 0);
}

static inline void
files_write_at(int dirfd, const char *path, const void *data, size_t len)
{
	int			fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	FILES_MUST(fd >= 0);
	FILES_MUST(write(fd, data, len) == (ssize_t) len);
	FILES_MUST(close(fd) == 0);
}

/*
 * Mounts a ramfs, whose stamps move in ticks of the coarse clock on every
 * kernel, on the directory, in a mount namespace for the calling process
 * alone.  False where that is forbidden.  Meant for a forked child.
 */
static inline bool
files_mount_ramfs(const char *path)
{
	return unshare(CLONE_NEWNS) == 0 &&
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		mount("none", path, "ramfs", 0, NULL) == 0;
}

/*
 * From now on the system call fails with this error in the calling process,
 * as in a container that filters it.  Meant for a forked child.
 */
static inline void
files_forbid_syscall(int number, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((uint32_t) error & SECCOMP_RET_DATA)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	FILES_MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	FILES_MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

#endif							/* FSYNC_TEST_FILES_H */
