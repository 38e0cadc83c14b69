/*-------------------------------------------------------------------------
 *
 * tree_ask.c
 *		One question to fsync-tree, for a session.
 *
 * A process that touches a file system that never answers hangs where no
 * signal reaches it.  So fsync-tree looks, in a process of its own, and the
 * session waits for its answer as for a client's: interruptible, and not for
 * ever.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "tree_ask.h"
#include "tree_client.h"

#define MAX_ARGS		6

/*
 * The input as a file in memory, at its beginning: whoever reads it, or does
 * not, nobody waits for a writer.
 */
static int
make_input(const void *input, size_t len)
{
	int			fd = memfd_create("fsync input", MFD_CLOEXEC);
	size_t		written = 0;

	while (fd >= 0 && written < len)
	{
		ssize_t		n = write(fd, (const char *) input + written, len - written);

		if (n < 0 && errno != EINTR)
		{
			int			save_errno = errno;

			close(fd);
			errno = save_errno;
			fd = -1;
		}
		if (n > 0)
			written += n;
	}
	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create temporary file: %m")));
	return fd;
}

/*
 * Starts the program with its output in a pipe, of which *fd is the end to
 * read.  Nothing else of this process reaches it: no descriptors, no
 * environment, no signal settings.
 */
static pid_t
start_program(const char *const *args, const void *input, size_t input_len, int *fd)
{
	const char *program = tree_client_program();
	char	   *argv[MAX_ARGS + 2] = {tree_client_title(args[1] != NULL ? args[1] : "")};
	char	   *envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t	signals;
	int			input_fd = -1;
	int			pipe_fds[2];
	pid_t		pid;
	int			error;
	int			n;

	for (n = 0; args[n] != NULL; n++)
	{
		Assert(n + 1 < MAX_ARGS);
		argv[n + 1] = unconstify(char *, args[n]);
	}
	if (setting_require_sandbox)
		argv[n + 1] = "--sandbox";
	if (input != NULL)
		input_fd = make_input(input, input_len);
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
	{
		if (input_fd >= 0)
			close(input_fd);
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create pipe: %m")));
	}

	posix_spawn_file_actions_init(&actions);
	if (input_fd >= 0)
		posix_spawn_file_actions_adddup2(&actions, input_fd, STDIN_FILENO);
	else
		posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);

	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	sigemptyset(&signals);
	posix_spawnattr_setsigmask(&attributes, &signals);
	sigfillset(&signals);
	posix_spawnattr_setsigdefault(&attributes, &signals);

	error = posix_spawn(&pid, program, &actions, &attributes, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	close(pipe_fds[1]);
	if (input_fd >= 0)
		close(input_fd);
	if (error != 0)
	{
		close(pipe_fds[0]);
		errno = error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not start \"%s\": %m", program),
				 errhint("Check the installation, and fsync.helper_path if it is set.")));
	}
	*fd = pipe_fds[0];
	return pid;
}

/*
 * Reads until the end of file, and keeps the first max bytes or so; false when
 * the time is over.
 */
static bool
read_answer(int fd, int timeout_ms, size_t max, StringInfo answer)
{
	static uint32 wait_event = 0;
	int64		deadline = clock_ms() + timeout_ms;

	for (;;)
	{
		char		chunk[4096];
		int64		left = deadline - clock_ms();
		ssize_t		n;
		int			events;

		if (left <= 0)
			return false;
		events = WaitLatchOrSocket(MyLatch,
								   WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT |
								   WL_EXIT_ON_PM_DEATH,
								   fd, left,
								   wait_event_compat(&wait_event, "FsyncPathCheck"));
		if (events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		if (!(events & WL_SOCKET_READABLE))
			continue;
		n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno != EINTR)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from fsync-tree: %m")));
		if (n == 0)
			return true;
		if (n > 0 && (size_t) answer->len < max)
			appendBinaryStringInfo(answer, chunk, n);
	}
}

/*
 * Ends the process.  One that sits in the kernel does not die of this; it is
 * not waited for, and reaped by whoever inherits it when the session ends.
 */
static int
end_program(pid_t pid, int fd, bool answered)
{
	int			status = 0;

	close(fd);
	if (!answered)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, answered ? 0 : WNOHANG) < 0 && errno == EINTR)
		;
	return status;
}

char *
tree_ask(const char *const *args, const void *input, size_t input_len, int timeout_ms,
		 size_t max, size_t *len)
{
	StringInfoData answer;
	volatile bool answered = false;
	volatile int status = 0;
	int			fd;
	pid_t		pid;

	initStringInfo(&answer);
	pid = start_program(args, input, input_len, &fd);
	PG_TRY();
	{
		answered = read_answer(fd, timeout_ms, max, &answer);
	}
	PG_FINALLY();
	{
		status = end_program(pid, fd, answered);
	}
	PG_END_TRY();
	if (answered && WIFEXITED(status) && WEXITSTATUS(status) == PROTO_EXIT_UNCONFINED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("fsync-tree cannot confine itself"),
				 errhint("fsync.require_sandbox is on. Run a kernel and a build that have a complete sandbox, or turn the setting off.")));

	*len = answer.len;
	return answered ? answer.data : NULL;
}
