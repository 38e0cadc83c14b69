/*-------------------------------------------------------------------------
 *
 * tree_client.c
 *		The worker's end of one fsync-tree: the process and its socket.
 *
 * The child must be able to hang or crash without PostgreSQL noticing: it
 * holds no descriptor of ours but its end of the socket and what is made for
 * it alone, it is in a process group of its own (the postmaster and pg_cancel_backend() signal whole
 * groups), and it starts with default signals.  It is never waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "shown.h"
#include "spool_files.h"
#include "tree_client.h"

#define KILL_AFTER_MS		5000

/* Of a path that ps shows. */
#define TITLE_MAX_BYTES		480
#define REAP_MIN_MS			10
#define REAP_MAX_MS			30000

/* A process that was abandoned and is not reaped yet. */
typedef struct Orphan
{
	struct Orphan *next;
	pid_t		pid;
	int64		kill_at;		/* INT64_MAX: was killed */
	int64		reap_at;
	int			reap_ms;
} Orphan;

static Orphan *orphans = NULL;

int64
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
tree_client_init(TreeClient *tree)
{
	tree->pid = 0;
	tree->fd = -1;
	proto_buf_init(&tree->in);
	proto_buf_init(&tree->out);
	memset(&tree->talk, 0, sizeof(tree->talk));
	tree->last_byte = 0;
	tree->last_taken = 0;
}

const char *
tree_client_program(void)
{
	static char program[MAXPGPATH];

	if (setting_helper_path != NULL && setting_helper_path[0] != '\0')
		strlcpy(program, setting_helper_path, sizeof(program));
	else
		snprintf(program, sizeof(program), "%s/fsync-tree", pkglib_path);
	return program;
}

/* "name=value" of our own environment, or NULL. */
static char *
environment_entry(const char *name)
{
	size_t		len = strlen(name);

	for (char **entry = environ; *entry != NULL; entry++)
		if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
			return *entry;
	return NULL;
}

/*
 * What the child finds from PROTO_SOCKET_FD on is put there one by one, so none
 * of it may be where another is to go.
 */
static int
out_of_the_way(int fd)
{
	int			copy = fcntl(fd, F_DUPFD_CLOEXEC, PROTO_SPOOL_FD + PROTO_SPOOLS);
	int			save_errno = errno;

	close(fd);
	errno = save_errno;
	return copy;
}

/*
 * posix_spawn of the program, with descriptors of its own for standard error,
 * the socket, and what follows it; an errno, or 0.
 */
static int
spawn_program(char *const argv[], int errors, const int *fds, int n, pid_t *pid)
{
	char	   *env[] = {"LC_ALL=C", NULL, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t	none;
	sigset_t	all;
	int			error;

	sigemptyset(&none);
	sigfillset(&all);

	/* which instructions not to use, for libcrypto as for ourselves */
	env[1] = environment_entry("OPENSSL_ia32cap");

	if ((error = posix_spawn_file_actions_init(&actions)) != 0)
		return error;
	if ((error = posix_spawnattr_init(&attributes)) != 0)
	{
		posix_spawn_file_actions_destroy(&actions);
		return error;
	}

	if ((error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
												  O_RDONLY, 0)) == 0 &&
		(error = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
												  O_WRONLY, 0)) == 0)
		error = posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
	for (int i = 0; i < n && error == 0; i++)
		error = posix_spawn_file_actions_adddup2(&actions, fds[i], PROTO_SOCKET_FD + i);
	if (error == 0 &&
		(error = posix_spawn_file_actions_addclosefrom_np(&actions, PROTO_SOCKET_FD + n)) == 0 &&
		(error = posix_spawnattr_setsigmask(&attributes, &none)) == 0 &&
		(error = posix_spawnattr_setsigdefault(&attributes, &all)) == 0 &&
		(error = posix_spawnattr_setpgroup(&attributes, 0)) == 0 &&
		(error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK |
										  POSIX_SPAWN_SETSIGDEF |
										  POSIX_SPAWN_SETPGROUP)) == 0)
		error = posix_spawn(pid, tree_client_program(), &actions, &attributes, argv, env);

	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* The same, with the descriptors moved to where they can be taken from. */
static int
spawn_with(char *const argv[], int errors, int *fds, int n, pid_t *pid)
{
	int			error = 0;

	errors = out_of_the_way(errors);
	if (errors < 0)
		error = errno;
	for (int i = 0; i < n; i++)
	{
		fds[i] = out_of_the_way(fds[i]);
		if (fds[i] < 0)
			error = errno;
	}
	if (error == 0)
		error = spawn_program(argv, errors, fds, n, pid);
	if (errors >= 0)
		close(errors);
	for (int i = 0; i < n; i++)
	{
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return error;
}

char *
tree_client_title(const char *path)
{
	StringInfoData title;

	initStringInfo(&title);
	appendStringInfoString(&title, PROTO_TITLE);
	shown_append(&title, (ProtoStr) {path, (uint32) strlen(path)}, false, TITLE_MAX_BYTES);
	return title.data;
}

bool
tree_client_start(TreeClient *tree, const char *root, bool must_be_confined, int *errors)
{
	char	   *argv[] = {tree_client_title(root), "worker", unconstify(char *, root),
	must_be_confined ? "--sandbox" : NULL, NULL};
	int			fds[1 + PROTO_SPOOLS];
	int			ends[2];
	int			pipe_ends[2];
	int			error;

	if (!AcquireExternalFD())
		return false;
	if (!AcquireExternalFD())
	{
		error = errno;
		goto no_pipe;
	}

	/* A full pipe keeps nobody waiting. */
	if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) < 0)
	{
		error = errno;
		ReleaseExternalFD();
		goto no_pipe;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
	{
		error = errno;
		close(pipe_ends[1]);
		goto no_socket;
	}
	fds[0] = ends[1];
	error = spawn_with(argv, pipe_ends[1], fds, 1 + spool_files_open(&fds[1]), &tree->pid);
	pfree(argv[0]);
	if (error != 0)
	{
		close(ends[0]);
		tree->pid = 0;
		goto no_socket;
	}
	proto_buf_free(&tree->in);
	proto_buf_free(&tree->out);
	tree->in.max_frame = PROTO_MAX_TREE_FRAME;
	tree->fd = ends[0];
	tree->last_byte = tree->last_taken = clock_ms();
	talk_free(&tree->talk);
	talk_init(&tree->talk, tree->last_byte * 1000);
	*errors = pipe_ends[0];
	return true;

no_socket:
	close(pipe_ends[0]);
	ReleaseExternalFD();
no_pipe:
	ReleaseExternalFD();
	errno = error;
	return false;
}

int
tree_client_next(TreeClient *tree, uint8 *type, ProtoReader *body, const char **why)
{
	int			next = proto_next(&tree->in, type, body);

	*why = NULL;
	if (next < 0)
		*why = "what is no message, or is too long";
	else if (next > 0)
		*why = talk_hear(&tree->talk, *type, *body, clock_ms() * 1000);
	return *why != NULL ? -1 : next;
}

bool
tree_client_receive(TreeClient *tree)
{
	ssize_t		received = proto_recv(tree->fd, &tree->in);

	if (received > 0)
	{
		tree->last_byte = clock_ms();
		return true;
	}
	return received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

bool
tree_client_send(TreeClient *tree)
{
	size_t		waiting;
	bool		taken;

	talk_note(&tree->talk, &tree->out);
	waiting = proto_buf_pending(&tree->out);
	taken = proto_send(tree->fd, &tree->out) >= 0 ||
		errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
	if (proto_buf_pending(&tree->out) < waiting)
		tree->last_taken = clock_ms();
	talk_noted(&tree->talk, &tree->out);
	if (!taken && !tree->out.failed)
		tree_client_forget_unsent(tree);
	return taken;
}

void
tree_client_forget_unsent(TreeClient *tree)
{
	proto_buf_free(&tree->out);
	talk_noted(&tree->talk, &tree->out);
}

bool
tree_client_readable(const TreeClient *tree)
{
	struct pollfd fd = {.fd = tree->fd, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

void
tree_client_close(TreeClient *tree)
{
	if (tree->fd >= 0)
	{
		close(tree->fd);
		ReleaseExternalFD();
	}
	tree->fd = -1;
	proto_buf_free(&tree->in);
	proto_buf_free(&tree->out);
	talk_free(&tree->talk);
}

bool
tree_client_reap(TreeClient *tree, int *status)
{
	pid_t		pid;

	if (tree->pid == 0)
	{
		*status = -1;
		return true;
	}
	pid = waitpid(tree->pid, status, WNOHANG);
	if (pid == 0 || (pid < 0 && errno == EINTR))
		return false;
	if (pid < 0)
		*status = -1;
	tree->pid = 0;
	return true;
}

void
tree_client_describe_end(int status, char *text, size_t size)
{
	if (status != -1 && WIFSIGNALED(status))
		snprintf(text, size, "fsync-tree was terminated by signal %d", WTERMSIG(status));
	else if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) != 0)
		snprintf(text, size, "fsync-tree exited with exit code %d", WEXITSTATUS(status));
	else
		snprintf(text, size, "fsync-tree ended unexpectedly");
}

void
tree_client_abandon(TreeClient *tree)
{
	Orphan	   *orphan;

	tree_client_close(tree);
	if (tree->pid == 0)
		return;
	kill(tree->pid, SIGTERM);
	orphan = malloc(sizeof(Orphan));
	if (orphan == NULL)
	{
		/* It stays a zombie until the worker ends; no reason to fail. */
		kill(tree->pid, SIGKILL);
		tree->pid = 0;
		return;
	}
	orphan->pid = tree->pid;
	orphan->kill_at = clock_ms() + KILL_AFTER_MS;
	orphan->reap_ms = REAP_MIN_MS;
	orphan->reap_at = clock_ms() + orphan->reap_ms;
	orphan->next = orphans;
	orphans = orphan;
	tree->pid = 0;
}

int64
tree_orphans_poll(int64 now)
{
	int64		next = INT64_MAX;
	Orphan	  **link = &orphans;

	while (*link != NULL)
	{
		Orphan	   *orphan = *link;

		if (now >= orphan->reap_at)
		{
			int			status;

			if (waitpid(orphan->pid, &status, WNOHANG) != 0)
			{
				*link = orphan->next;
				free(orphan);
				continue;
			}
			orphan->reap_ms = Min(orphan->reap_ms * 2, REAP_MAX_MS);
			orphan->reap_at = now + orphan->reap_ms;
		}
		if (now >= orphan->kill_at)
		{
			kill(orphan->pid, SIGKILL);
			orphan->kill_at = INT64_MAX;
			orphan->reap_ms = REAP_MIN_MS;
			orphan->reap_at = now + orphan->reap_ms;
		}
		next = Min(next, Min(orphan->reap_at, orphan->kill_at));
		link = &orphan->next;
	}
	return next;
}

void
tree_orphans_kill(void)
{
	for (Orphan *orphan = orphans; orphan != NULL; orphan = orphan->next)
		kill(orphan->pid, SIGKILL);
}
