/*-------------------------------------------------------------------------
 *
 * path_check.c
 *		Whether a directory can be registered.
 *
 * A path that a user names may lie on a file system that never answers, and a
 * process that touches it then hangs where no signal reaches it.  So fsync-tree
 * looks, in a process of its own, and the session waits for its answer as for
 * a client's: interruptible, and not for ever.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_tablespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "path_check.h"
#include "tree_client.h"

#define CHECK_TIMEOUT_MS	10000

/* More than a path and a message can take; the rest is not read. */
#define MAX_ANSWER			(128 * 1024)

/* ---------------------------------------------------------------------
 * Asking fsync-tree
 * ---------------------------------------------------------------------
 */

/*
 * Runs "fsync-tree check PATH" with its output in a pipe, of which *fd is the
 * end to read.  Nothing else of this process reaches it: no descriptors, no
 * environment, no signal settings.
 */
static pid_t
start_check(const char *path, int *fd)
{
	const char *program = tree_client_program();
	char	   *argv[] = {"fsync-tree", "check", unconstify(char *, path), NULL};
	char	   *envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t	signals;
	int			pipe_fds[2];
	pid_t		pid;
	int			error;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create pipe: %m")));

	posix_spawn_file_actions_init(&actions);
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

/* Reads until the end of file; false when the time is over. */
static bool
read_answer(int fd, StringInfo answer)
{
	static uint32 wait_event = 0;
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   CHECK_TIMEOUT_MS);

	for (;;)
	{
		char		chunk[4096];
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   deadline);
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
		if (n > 0 && answer->len < MAX_ANSWER)
			appendBinaryStringInfo(answer, chunk, n);
	}
}

/*
 * Ends the process.  One that sits in the kernel does not die of this; it is
 * not waited for, and reaped by whoever inherits it when the session ends.
 */
static void
end_check(pid_t pid, int fd, bool answered)
{
	close(fd);
	if (!answered)
		kill(pid, SIGKILL);
	while (waitpid(pid, NULL, answered ? 0 : WNOHANG) < 0 && errno == EINTR)
		;
}

/* The one line that fsync-tree has to say, without its end. */
static char *
ask_fsync_tree(const char *path)
{
	StringInfoData answer;
	volatile bool answered = false;
	int			fd;
	pid_t		pid;

	initStringInfo(&answer);
	pid = start_check(path, &fd);
	PG_TRY();
	{
		answered = read_answer(fd, &answer);
	}
	PG_FINALLY();
	{
		end_check(pid, fd, answered);
	}
	PG_END_TRY();

	if (!answered)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not check directory \"%s\": no answer within %d seconds",
						path, CHECK_TIMEOUT_MS / 1000),
				 errhint("Its file system may hang.")));
	if (answer.len > 0 && answer.data[answer.len - 1] == '\n')
		answer.data[--answer.len] = '\0';
	return answer.data;
}

/* Throws what "error", a code and a message mean. */
static void
report_bad_path(const char *path, char *answer)
{
	char	   *code = answer;
	char	   *message = strchr(answer, '\t');

	if (message != NULL)
		*message++ = '\0';
	else
		message = "";

	if (strcmp(code, "missing") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("directory \"%s\" does not exist", path)));
	if (strcmp(code, "not_directory") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a directory", path)));
	if (strcmp(code, "not_readable") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("directory \"%s\" cannot be read by the server", path),
				 errhint("Give the operating system user that runs PostgreSQL permission to read and search it and the directories above it.")));
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("could not check directory \"%s\"", path),
			 message[0] != '\0' ? errdetail_internal("%s", message) : 0));
}

/* ---------------------------------------------------------------------
 * The server's own files
 * ---------------------------------------------------------------------
 */

/* path is directory, or below it; both real paths. */
static bool
lies_within(const char *path, const char *directory)
{
	size_t		len = strlen(directory);

	if (strcmp(directory, "/") == 0)
		return true;
	return strncmp(path, directory, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* own is one of the server's directories, which exist; what names it. */
static void
check_clear_of(const char *root, const char *own, const char *what)
{
	char		real[PATH_MAX];

	if (realpath(own, real) == NULL)
	{
		if (errno == ENOENT)
			return;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not resolve path \"%s\": %m", own)));
	}
	if (lies_within(root, real))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("directory \"%s\" lies within %s", root, what),
				 errhint("Register a directory that PostgreSQL does not use itself.")));
	if (lies_within(real, root))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("directory \"%s\" contains %s", root, what),
				 errhint("Register a directory that PostgreSQL does not use itself.")));
}

static void
check_clear_of_tablespaces(const char *root)
{
	Relation	rel = table_open(TableSpaceRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(rel, 0, NULL);
	HeapTuple	tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_tablespace form = (Form_pg_tablespace) GETSTRUCT(tuple);
		char	   *link;

		/* Those in the data directory itself. */
		if (form->oid == DEFAULTTABLESPACE_OID || form->oid == GLOBALTABLESPACE_OID)
			continue;
		link = psprintf("pg_tblspc/%u", form->oid);
		check_clear_of(root, link,
					   psprintf("the tablespace \"%s\"", NameStr(form->spcname)));
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}

char *
path_check(const char *path)
{
	char	   *answer = ask_fsync_tree(path);
	char	   *root;

	if (strncmp(answer, "error\t", 6) == 0)
		report_bad_path(path, answer + 6);
	if (strncmp(answer, "ok\t/", 4) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not check directory \"%s\"", path),
				 errdetail("\"%s\" did not answer as expected.", tree_client_program()),
				 errhint("Check the installation, and fsync.helper_path if it is set.")));
	root = answer + 3;
	if (!pg_verify_mbstr(GetDatabaseEncoding(), root, strlen(root), true))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the real path of directory \"%s\" is not valid in the database's encoding",
						path)));

	check_clear_of(root, DataDir, "the data directory");
	check_clear_of(root, "pg_wal", "the directory of the write-ahead log");
	check_clear_of_tablespaces(root);
	return root;
}
