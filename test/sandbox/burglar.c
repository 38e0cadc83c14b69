/*-------------------------------------------------------------------------
 *
 * burglar.c
 *		A program in the place of fsync-tree that was taken over.
 *
 * It enters the sandbox by the same functions as fsync-tree, in the mode that it
 * is started in, and then tries what somebody would who can run any code in that
 * process.  Each attempt becomes a line of a file that was opened before:
 *
 *		denied NAME ERROR		as it should be
 *		DONE NAME				the sandbox has a hole
 *		works NAME, FAILS NAME	what fsync-tree itself needs
 *
 * and "end" when it is through.  The root has a file "burglar" with what there is
 * to be attacked, a "key value" a line; without it the program only answers.
 *
 *-------------------------------------------------------------------------
 */
#include "burglar.h"

#include "beneath.h"
#include "engine.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Newer than some headers; the same on all architectures. */
#define NR_PIDFD_SEND_SIGNAL	424
#define NR_IO_URING_SETUP		425
#define NR_OPEN_TREE			428
#define NR_FSOPEN				430
#define NR_CLONE3				435
#define NR_PIDFD_OPEN			434
#define NR_PIDFD_GETFD			438
#define NR_MOUNT_SETATTR		442

FILE	   *result;
static const char *root;
static const char identity[] = "type:1";	/* says the check, and the worker it is told */
static char data[1024];			/* the server's data directory; has a file "decoy" */
static char server_socket[100];
static char result_path[1024];
static int	port;				/* of the server, on 127.0.0.1 */
static pid_t postmaster;
static int	shared_memory;		/* id of a System V segment of the server's */

static void
read_config(void)
{
	char		path[2048];
	char		key[64];
	char		value[1000];
	FILE	   *f;

	snprintf(path, sizeof(path), "%s/burglar", root);
	f = fopen(path, "r");
	while (f != NULL && fscanf(f, "%63s %999[^\n]", key, value) == 2)
	{
		if (strcmp(key, "data") == 0)
			snprintf(data, sizeof(data), "%s", value);
		else if (strcmp(key, "socket") == 0)
			snprintf(server_socket, sizeof(server_socket), "%.99s", value);
		else if (strcmp(key, "result") == 0)
			snprintf(result_path, sizeof(result_path), "%s", value);
		else if (strcmp(key, "port") == 0)
			port = atoi(value);
		else if (strcmp(key, "postmaster") == 0)
			postmaster = atoi(value);
		else if (strcmp(key, "shared_memory") == 0)
			shared_memory = atoi(value);
	}
	if (f != NULL)
		fclose(f);
}

static void
open_result(const char *mode)
{
	char		path[1100];

	snprintf(path, sizeof(path), "%s.%s", result_path, mode);
	result = result_path[0] != '\0' ? fopen(path, "we") : NULL;
}

/* ---- reporting ---- */

/* An attempt that gave this; below zero it failed, with errno. */
void
attempt(const char *name, long returned)
{
	if (returned >= 0)
		fprintf(result, "DONE %s\n", name);
	else
		fprintf(result, "denied %s %s\n", name, strerror(errno));
	fflush(result);
}

void
need(const char *name, bool works)
{
	fprintf(result, "%s %s%s%s\n", works ? "works" : "FAILS", name, works ? "" : " ",
			works ? "" : strerror(errno));
	fflush(result);
}

/* Of a call that is not to be made in earnest: only that it fails for this reason. */
static void
refused(const char *name, long returned)
{
	if (returned < 0 && errno != ENOSYS && errno != EPERM && errno != EACCES)
	{
		fprintf(result, "DONE %s: %s\n", name, strerror(errno));
		fflush(result);
		return;
	}
	attempt(name, returned);
}

static const char *
in(const char *directory, const char *name)
{
	static char paths[4][2200];
	static int	next;
	char	   *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

/* ---- attempts ---- */

static void
attack_files(const char *where, const char *directory)
{
	const char *names[] = {
		"open to write", "open to truncate", "truncate", "chmod", "utimes", "chown",
		"setxattr", "removexattr", "link", "rename", "unlink", "create", "create without a name",
		"make a directory", "make a symbolic link", "make a FIFO", "make a socket",
		"remove a directory", "rename a directory",
	};
	char		name[100];
	const char *file = strdup(in(directory, "decoy"));
	const char *other = strdup(in(directory, "other"));
	struct timespec times[2] = {{1, 0}, {1, 0}};
	int			i = 0;

#define TRY(call) \
	(snprintf(name, sizeof(name), "%s in the %s", names[i++], where), attempt(name, call))

	TRY(open(file, O_WRONLY));
	TRY(open(file, O_RDONLY | O_TRUNC));
	TRY(truncate(file, 0));
	TRY(chmod(file, 0600));
	TRY(utimensat(AT_FDCWD, file, times, 0));
	TRY(chown(file, getuid(), getgid()));
	TRY(setxattr(file, "user.burglar", "x", 1, 0));
	TRY(removexattr(file, "user.burglar"));
	TRY(link(file, other));
	TRY(rename(file, other));
	TRY(unlink(file));
	TRY(open(other, O_WRONLY | O_CREAT, 0600));
	TRY(open(directory, O_TMPFILE | O_RDWR, 0600));
	TRY(mkdir(other, 0700));
	TRY(symlink("decoy", other));
	TRY(mknod(other, S_IFIFO | 0600, 0));
	TRY(mknod(other, S_IFSOCK | 0600, 0));
	TRY(rmdir(in(directory, "empty")));
	TRY(rename(in(directory, "empty"), other));
#undef TRY
}

static void
attack_server_files(void)
{
	char		path[100];

	attempt("read pg_control", open(in(data, "global/pg_control"), O_RDONLY));
	attempt("list the data directory", open(data, O_RDONLY | O_DIRECTORY));
	attempt("read a temporary file of a session", open(in(data, "base/pgsql_tmp/decoy"), O_RDONLY));
	attempt("write a temporary file of a session", open(in(data, "base/pgsql_tmp/decoy"), O_RDWR));
	attempt("make a temporary file", open(in(data, "base/pgsql_tmp/mine"), O_RDWR | O_CREAT, 0600));
	attempt("read postgresql.conf", open(in(data, "postgresql.conf"), O_RDONLY));
	attempt("read /etc/passwd", open("/etc/passwd", O_RDONLY));
	attempt("list /", open("/", O_RDONLY | O_DIRECTORY));
	attempt("write to /tmp", open("/tmp", O_TMPFILE | O_RDWR, 0600));
	attempt("open a device", open("/dev/null", O_RDWR));
	snprintf(path, sizeof(path), "/proc/%d/mem", postmaster);
	attempt("open the postmaster's memory", open(path, O_RDWR));
	snprintf(path, sizeof(path), "/proc/%d/environ", postmaster);
	attempt("read the postmaster's environment", open(path, O_RDONLY));
	snprintf(path, sizeof(path), "/proc/%d/cwd/global/pg_control", postmaster);
	attempt("read pg_control through /proc", open(path, O_RDONLY));
	attempt("read through ..", open(in(root, "../outside"), O_RDONLY));
	attempt("read through a link in the tree", open(in(root, "link"), O_RDONLY));
	attempt("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0));
	attempt("set the own oom_score_adj", open("/proc/self/oom_score_adj", O_WRONLY));
	attempt("chdir", chdir("/"));
	attempt("chroot", chroot("/"));
}

static void
attack_network(void)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
	int			pair[2];
	int			fd;

	snprintf(local.sun_path, sizeof(local.sun_path), "%s", server_socket);
	inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	attempt("make a unix socket", fd);
	attempt("connect to the server's socket",
			connect(fd, (struct sockaddr *) &local, sizeof(local)));
	attempt("make a unix datagram socket", socket(AF_UNIX, SOCK_DGRAM, 0));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	attempt("make a TCP socket", fd);
	attempt("connect by TCP", connect(fd, (struct sockaddr *) &inet, sizeof(inet)));
	inet.sin_port = 0;
	attempt("bind to a TCP port", bind(fd, (struct sockaddr *) &inet, sizeof(inet)));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	attempt("make a UDP socket", fd);
	inet.sin_port = htons(9);
	attempt("send by UDP", sendto(fd, "x", 1, 0, (struct sockaddr *) &inet, sizeof(inet)));
	attempt("make a netlink socket", socket(AF_NETLINK, SOCK_RAW, 0));
	attempt("make a pair of sockets", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));

	/* The one that there is. */
	attempt("connect the worker's socket elsewhere",
			connect(PROTO_SOCKET_FD, (struct sockaddr *) &local, sizeof(local)));
	attempt("send a descriptor to the worker", sendmsg(PROTO_SOCKET_FD, &(struct msghdr) {0}, 0));
	attempt("listen", listen(PROTO_SOCKET_FD, 1));
}

static void
attack_processes(void)
{
	struct rlimit limits = {0};
	struct iovec iov = {&limits, sizeof(limits)};
	siginfo_t	info = {.si_code = SI_QUEUE};
	cpu_set_t	cpus;
	struct sched_param param = {0};
	pid_t		parent = getppid();
	int			fd;

	CPU_ZERO(&cpus);
	for (int i = 0; i < 64; i++)
		CPU_SET(i, &cpus);
	attempt("signal the postmaster", kill(postmaster, 0));
	attempt("signal the worker", kill(parent, SIGCONT));
	attempt("signal all processes of the user", kill(-1, 0));
	attempt("tgkill", syscall(SYS_tgkill, postmaster, postmaster, 0));
	attempt("tkill", syscall(SYS_tkill, postmaster, 0));
	attempt("rt_sigqueueinfo", syscall(SYS_rt_sigqueueinfo, postmaster, SIGCONT, &info));
	attempt("rt_tgsigqueueinfo",
			syscall(SYS_rt_tgsigqueueinfo, postmaster, postmaster, SIGCONT, &info));
	fd = (int) syscall(NR_PIDFD_OPEN, postmaster, 0);
	attempt("pidfd_open", fd);
	refused("pidfd_send_signal", syscall(NR_PIDFD_SEND_SIGNAL, fd, 0, NULL, 0));
	refused("pidfd_getfd", syscall(NR_PIDFD_GETFD, fd, 0, 0));
	attempt("have the kernel signal the postmaster (F_SETOWN)",
			fcntl(PROTO_SOCKET_FD, F_SETOWN, postmaster));
	refused("choose that signal (F_SETSIG)", fcntl(PROTO_SOCKET_FD, F_SETSIG, SIGKILL));
	attempt("ask for the postmaster's limits", prlimit(postmaster, RLIMIT_CORE, NULL, &limits));
	attempt("set the postmaster's limits", prlimit(postmaster, RLIMIT_CORE, &limits, NULL));
	attempt("set the own limits", setrlimit(RLIMIT_CORE, &limits));
	attempt("trace the postmaster", ptrace(PTRACE_SEIZE, postmaster, NULL, NULL));
	attempt("trace the worker", ptrace(PTRACE_SEIZE, parent, NULL, NULL));
	attempt("be traced", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
	refused("process_vm_readv",
			syscall(SYS_process_vm_readv, postmaster, &iov, 1, &iov, 1, 0));
	refused("process_vm_writev",
			syscall(SYS_process_vm_writev, postmaster, &iov, 1, &iov, 1, 0));
	attempt("kcmp", syscall(SYS_kcmp, postmaster, parent, 0, 0, 0));
	attempt("the postmaster's priority", setpriority(PRIO_PROCESS, (id_t) postmaster, 0));
	attempt("the user's priority", setpriority(PRIO_USER, 0, 0));
	attempt("the postmaster's I/O priority", syscall(SYS_ioprio_set, 1, postmaster, 0x4004));
	attempt("the postmaster's processors", sched_setaffinity(postmaster, sizeof(cpus), &cpus));
	attempt("the postmaster's scheduler", sched_setscheduler(postmaster, SCHED_OTHER, &param));
	attempt("change the process group", setpgid(0, 0));
	attempt("make a session", setsid());
	attempt("live longer than the worker", syscall(SYS_prctl, 1, 0, 0, 0, 0));
	attempt("be dumped", syscall(SYS_prctl, 4, 1, 0, 0, 0));
}

static void
attack_kernel(void)
{
	char	   *argv[] = {"/bin/true", NULL};
	void	   *page;
	char		buffer[64];
	int			pipes[2];

	attempt("attach shared memory of the server", (long) shmat(shared_memory, NULL, SHM_RDONLY));
	attempt("stat shared memory of the server", shmctl(shared_memory, IPC_STAT, (void *) buffer));
	attempt("make shared memory", shmget(IPC_PRIVATE, 4096, 0600));
	attempt("make semaphores", semget(IPC_PRIVATE, 1, 0600));
	attempt("make a message queue", msgget(IPC_PRIVATE, 0600));
	attempt("mq_open", syscall(SYS_mq_open, "burglar", O_RDWR | O_CREAT, 0600, NULL));
	attempt("execute a program", execv(argv[0], argv));
	attempt("execveat", syscall(SYS_execveat, AT_FDCWD, argv[0], argv, NULL, 0));
	attempt("fork", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
#ifdef SYS_fork
	attempt("fork, as it was", syscall(SYS_fork));
#endif
	refused("clone3", syscall(NR_CLONE3, buffer, 0));
	refused("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
	refused("umount", umount2("/tmp", 0));
	refused("fsopen", syscall(NR_FSOPEN, "tmpfs", 0));
	refused("open_tree", syscall(NR_OPEN_TREE, AT_FDCWD, "/", 1));
	refused("mount_setattr", syscall(NR_MOUNT_SETATTR, AT_FDCWD, "/", 0, buffer, 0));
	refused("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp"));
	attempt("make a user namespace", unshare(CLONE_NEWUSER));
	refused("enter a namespace", setns(PROTO_SOCKET_FD, 0));
	refused("io_uring_setup", syscall(NR_IO_URING_SETUP, 4, buffer));
	refused("io_setup", syscall(SYS_io_setup, 1, buffer));
	refused("bpf", syscall(SYS_bpf, 0, buffer, sizeof(buffer)));
	refused("perf_event_open", syscall(SYS_perf_event_open, buffer, 0, -1, -1, 0));
	refused("keyctl", syscall(SYS_keyctl, 0, -3, 1));
	refused("add_key", syscall(SYS_add_key, "user", "burglar", "x", 1, -3));
	refused("request_key", syscall(SYS_request_key, "user", "burglar", NULL, 0));
	refused("userfaultfd", syscall(SYS_userfaultfd, 1));
	refused("fanotify_init", fanotify_init(0, 0));
	refused("syslog", syscall(SYS_syslog, 10, NULL, 0));
	refused("personality", syscall(SYS_personality, 0x0400000));
	refused("seccomp", syscall(SYS_seccomp, 0, 1, NULL));
	refused("memfd_create", syscall(SYS_memfd_create, "burglar", 0));
	refused("splice", syscall(SYS_splice, 0, NULL, 1, NULL, 1, 0));
	refused("vmsplice", syscall(SYS_vmsplice, 1, NULL, 0, 0));
	refused("copy_file_range", syscall(SYS_copy_file_range, 0, NULL, 1, NULL, 1, 0));
	refused("timer_create", syscall(SYS_timer_create, 0, NULL, buffer));
	refused("pipe", pipe(pipes));
	refused("setuid", setuid(getuid()));
	refused("capset", syscall(SYS_capset, buffer, buffer));
	attempt("type into a terminal (TIOCSTI)", ioctl(0, TIOCSTI, "x"));
	refused("other ioctl", ioctl(PROTO_SOCKET_FD, FIOASYNC, &(int) {1}));
	refused("lock a file", fcntl(PROTO_SPOOL_FD, F_SETLEASE, F_RDLCK));
	refused("lock memory", mlockall(MCL_CURRENT));
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	attempt("map code", page == MAP_FAILED ? -1 : 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	attempt("make code of data", mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

#ifdef __x86_64__
static sigjmp_buf no_such_gate;

static void
on_fault(int signal)
{
	(void) signal;
	siglongjmp(no_such_gate, 1);
}

static long
call_i386(long call, long first, long second)
{
	long		returned;

	__asm__ volatile("int $0x80" : "=a"(returned) : "a"(call), "b"(first), "c"(second) :
					 "memory", "r8", "r9", "r10", "r11");
	return returned;
}

/* The ways into the kernel that have other numbers for the calls. */
static void
attack_other_architectures(void)
{
	volatile long returned = -EPERM;

	attempt("a call of x32", syscall(0x40000000 | SYS_getpid));

	/* kill(), by the gate of 32-bit programs, which not every kernel has */
	signal(SIGSEGV, on_fault);
	if (sigsetjmp(no_such_gate, 1) == 0)
		returned = call_i386(37, postmaster, 0);
	signal(SIGSEGV, SIG_DFL);
	errno = (int) -returned;
	attempt("a call of i386", returned < 0 ? -1 : 0);
}
#else
static void
attack_other_architectures(void)
{
}
#endif

/* ---- what must work all the same ---- */

static void *
thread_main(void *arg)
{
	*(bool *) arg = setpriority(PRIO_PROCESS, 0, 5) == 0;
	return NULL;
}

static void
check_needs(bool with_spools)
{
	pthread_t	thread;
	bool		polite = false;
	struct rlimit limits;
	int			fd = open(in(root, "decoy"), O_RDONLY);
	int			watch;
	char		byte;

	need("reading a file of the tree", fd >= 0 && read(fd, &byte, 1) == 1);
	need("listing a directory of the tree", opendir(root) != NULL);
	need("a thread", pthread_create(&thread, NULL, thread_main, &polite) == 0 &&
		 pthread_join(thread, NULL) == 0);
	need("a polite one", polite);
	watch = inotify_init1(IN_CLOEXEC);
	need("a watch", watch >= 0 && inotify_add_watch(watch, root, IN_CREATE) >= 0);
	need("no core file", getrlimit(RLIMIT_CORE, &limits) == 0 && limits.rlim_max == 0);
	for (int i = 0; with_spools && i < PROTO_SPOOLS; i++)
		need("a temporary file", pwrite(PROTO_SPOOL_FD + i, "x", 1, 0) == 1 &&
			 ftruncate(PROTO_SPOOL_FD + i, 0) == 0);
}

/* Lines as they would look well in a log, and no end to them. */
static void
flood(void)
{
	static const char line[] =
		"\n2026-01-01 00:00:00.000 UTC [1] PANIC:  forged by the burglar \033[31m\r";

	for (int i = 0; i < 100000; i++)
	{
		if (write(STDERR_FILENO, line, sizeof(line) - 1) < 0 && errno != EAGAIN)
			return;
	}
}

static void
rob(const Sandbox *sandbox, bool worker)
{
	if (result == NULL)
		return;
	if (!sandbox->complete)
		fprintf(result, "missing %s\n", sandbox->missing);
	attack_by_truncation(in(root, "decoy"), true);
	check_needs(worker);
	attack_files("data directory", data);
	attack_files("tree", root);
	attack_server_files();
	attack_network();
	attack_processes();
	attack_kernel();
	attack_other_architectures();
	if (worker)
		flood();
	fprintf(result, "end\n");
	fflush(result);
}

/* ---- fsync-tree's modes ---- */

/* Says that all is well, and ends with the worker. */
static int
serve(void)
{
	EngineStart start;
	ProtoBuf	out;
	ProtoState	state = {.state = PROTO_STATE_DEGRADED};
	char		buffer[4096];

	signal(SIGPIPE, SIG_IGN);
	open_result("worker");
	sandbox_process();
	engine_prepare(&start, root);
	rob(&start.sandbox, true);

	proto_buf_init(&out);
	proto_begin(&out, PROTO_HELLO);
	proto_put_u32(&out, PROTO_VERSION);
	proto_put_str(&out, start.sandbox.missing, strlen(start.sandbox.missing));
	proto_end(&out);
	state.reason.data = "robbed";
	state.reason.len = 6;
	state.identity.data = identity;
	state.identity.len = strlen(identity);
	proto_begin(&out, PROTO_STATE);
	proto_put_state(&out, &state);
	proto_end(&out);
	(void) proto_send(PROTO_SOCKET_FD, &out);
	for (;;)
	{
		struct pollfd pfd = {.fd = PROTO_SOCKET_FD, .events = POLLIN};

		if (poll(&pfd, 1, -1) < 0 || recv(PROTO_SOCKET_FD, buffer, sizeof(buffer), 0) == 0)
			return 0;
	}
}

int
main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";
	Sandbox		sandbox;
	int			rootfd;

	root = argv[argc > 2 ? 2 : 0];
	read_config();
	truncation_prepare();
	if (strcmp(mode, "worker") == 0)
		return serve();

	/* as check.c, why.c and survey.c do; "truncate" is for systems that lack the rest */
	open_result(mode);
	rootfd = beneath_open_root(root);
	sandbox_process();
	sandbox_enter(rootfd, &sandbox);
	if (strcmp(mode, "truncate") == 0 && result != NULL)
	{
		if (!sandbox.complete)
			fprintf(result, "missing %s\n", sandbox.missing);
		attack_by_truncation(in(root, "decoy"), false);
		fprintf(result, "end\n");
		return fclose(result) == 0 ? 0 : 1;
	}
	rob(&sandbox, false);
	if (strcmp(mode, "check") == 0)
		return printf("ok\t%s%c%s\n0 0\n", root, '\0', identity) < 0;
	return 1;
}
