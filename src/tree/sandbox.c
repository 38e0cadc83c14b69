/*-------------------------------------------------------------------------
 *
 * sandbox.c
 *		What fsync-tree takes from itself before it looks at a user's files.
 *
 * Landlock (landlock(7), Linux 5.13) has no wrapper in the C library; the
 * system calls are made directly.  It is a second line: paths are confined by
 * openat2 already (beneath.c), and nothing here opens a watched file to write.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All rights of the first version of Landlock. */
#define SANDBOX_ALL \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	 LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | \
	 LANDLOCK_ACCESS_FS_MAKE_SYM)

#define SANDBOX_READ \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

#define SANDBOX_SPOOL \
	(SANDBOX_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE)

void
sandbox_process(void)
{
	int			fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		exit(0);				/* it was too late for the signal */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0);

	/* rather this process than the server */
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
	{
		if (write(fd, "500", 3) < 0)
		{
			/* then the kernel chooses by size, and this process is small */
		}
		close(fd);
	}
}

static int
allow(int ruleset, int dirfd, unsigned long long access)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = access, .parent_fd = dirfd
	};

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

int
sandbox_confine(int rootfd, const char *spool_dir)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = SANDBOX_ALL};
	int			ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	int			result;
	int			error;

	if (ruleset < 0)
		return -1;
	result = allow(ruleset, rootfd, SANDBOX_READ);

	/* The limits of inotify are read again whenever watches are wanted. */
	if (result == 0)
	{
		int			fd = open("/proc/sys/fs/inotify", O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0)
		{
			result = allow(ruleset, fd, SANDBOX_READ);
			close(fd);
		}
	}
	if (result == 0 && spool_dir != NULL)
	{
		int			fd = open(spool_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0)
		{
			result = allow(ruleset, fd, SANDBOX_SPOOL);
			close(fd);
		}
	}
	if (result == 0)
		result = syscall(SYS_landlock_restrict_self, ruleset, 0);
	error = errno;
	close(ruleset);
	errno = error;
	return result;
}
