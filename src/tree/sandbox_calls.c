/*-------------------------------------------------------------------------
 *
 * sandbox_calls.c
 *		The system calls that fsync-tree may make.
 *
 * What is not on the list fails with ENOSYS, as on a kernel that is older than
 * the call: from that error, and no other, C libraries fall back to an older
 * call.  So a new library that tries a new call first goes on working, and
 * nothing is ever killed.
 *
 * Whoever adds code that makes another call adds it here: the tests run under
 * the list, and "strace -f -e trace=all" shows what fails.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#if defined(HAVE_LIBSECCOMP) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "identity.h"
#include "open_how.h"

/* linux/ioprio.h is not everywhere complete. */
#define IOPRIO_OF_PROCESS	1

/*
 * Allowed whatever the arguments.  Not every architecture has each of them, and
 * some names are newer than the library.
 */
static const char *const plain_calls[] = {
	/* files: Landlock says which */
	"close", "close_range", "read", "readv", "pread64", "preadv",
	"preadv2", "lseek", "_llseek", "getdents64", "readlink", "readlinkat", "access", "faccessat",
	"faccessat2", "fadvise64", "fadvise64_64", "arm_fadvise64_64",
	"stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "newfstatat", "fstatat64", "statx",
	"statfs", "statfs64", "fstatfs", "fstatfs64",

	/* temporary files, the socket and the standard error, which are open */
	"write", "writev", "pwrite64", "ftruncate", "ftruncate64", "recvfrom", "recv", "send",

	/* waiting */
	"poll", "ppoll", "ppoll_time64", "eventfd2", "futex", "futex_time64", "nanosleep",
	"clock_nanosleep", "clock_nanosleep_time64", "restart_syscall", "sched_yield",
	"inotify_init1", "inotify_add_watch", "inotify_rm_watch",

	/* memory */
	"brk", "munmap", "mremap", "madvise", "membarrier", "getrandom",

	/* threads, and what they ask */
	"set_robust_list", "rseq", "set_tid_address", "exit", "exit_group",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack",
	"getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid",
	"getuid32", "geteuid32", "getgid32", "getegid32",
	"clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "gettimeofday",
	"time", "uname", "sysinfo", "getrlimit", "ugetrlimit", "sched_getaffinity", "getcpu",
};

/* Arguments that are int: what is in the upper half of a register is nothing. */
#define INT_IS(arg, value) \
	SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, 0xffffffffUL, (scmp_datum_t) (unsigned int) (value))
#define INT_LACKS(arg, bits) \
	SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, (scmp_datum_t) (unsigned int) (bits), 0)
#define ALL_IS(arg, value) SCMP_CMP(arg, SCMP_CMP_EQ, (scmp_datum_t) (value))

/*
 * What nobody opens with who only reads.  O_RDONLY is no bit, and together with
 * O_TRUNC it truncates.
 */
#define OPEN_TO_CHANGE \
	(O_WRONLY | O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY))

/* Allowed where all arguments match. */
typedef struct GuardedCall
{
	const char *name;
	unsigned	count;
	struct scmp_arg_cmp args[2];
} GuardedCall;

#ifdef __s390__
#define CLONE_FLAGS		1
#else
#define CLONE_FLAGS		0
#endif

static int
add(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned count,
	const struct scmp_arg_cmp *args)
{
	int			call = seccomp_syscall_resolve_name(name);
	int			result;

	if (call == __NR_SCMP_ERROR)
		return 0;
	result = seccomp_rule_add_array(filter, action, call, count, args);

	/* a name that this architecture does not have */
	return result == -EDOM || result == -EINVAL ? 0 : result;
}

/* openat2() has its flags in memory: what is there is known only of how. */
static int
add_openat2(scmp_filter_ctx filter, const struct open_how *how, bool any)
{
	const struct scmp_arg_cmp sealed[] = {
		SCMP_CMP(2, SCMP_CMP_MASKED_EQ, ~(scmp_datum_t) OPEN_HOW_BITS, (scmp_datum_t) (uintptr_t) how),
		ALL_IS(3, sizeof(*how)),
	};

	if (how == NULL && !any)
		return 0;
	return add(filter, SCMP_ACT_ALLOW, "openat2", how != NULL ? 2 : 0, sealed);
}

static int
add_guarded(scmp_filter_ctx filter)
{
	const int	own = getpid();
	const GuardedCall guarded[] = {
		{"open", 1, {INT_LACKS(1, OPEN_TO_CHANGE)}},
		{"openat", 1, {INT_LACKS(2, OPEN_TO_CHANGE)}},

		/* The socket, which is connected: to no address. */
		{"sendto", 1, {ALL_IS(4, 0)}},

		{"ioctl", 1, {INT_IS(1, FIONREAD)}},
		{"ioctl", 1, {INT_IS(1, identity_uuid_call)}},

		{"fcntl", 1, {INT_IS(1, F_GETFD)}},
		{"fcntl", 1, {INT_IS(1, F_SETFD)}},
		{"fcntl", 1, {INT_IS(1, F_GETFL)}},
		{"fcntl", 1, {INT_IS(1, F_DUPFD_CLOEXEC)}},
		{"fcntl64", 1, {INT_IS(1, F_GETFD)}},
		{"fcntl64", 1, {INT_IS(1, F_SETFD)}},
		{"fcntl64", 1, {INT_IS(1, F_GETFL)}},
		{"fcntl64", 1, {INT_IS(1, F_DUPFD_CLOEXEC)}},

		/* Threads of this process; clone3 keeps its flags where no filter sees them. */
		{"clone", 1, {SCMP_CMP(CLONE_FLAGS, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)}},
		{"tgkill", 1, {INT_IS(0, own)}},

		/* Its own priority, to be less of a burden, and its own limits, to read them. */
		{"setpriority", 2, {INT_IS(0, PRIO_PROCESS), INT_IS(1, 0)}},
		{"ioprio_set", 2, {INT_IS(0, IOPRIO_OF_PROCESS), INT_IS(1, 0)}},
		{"prlimit64", 2, {INT_IS(0, 0), ALL_IS(2, 0)}},
		{"prctl", 1, {INT_IS(0, PR_SET_NAME)}},

		/* Nothing becomes code that was not code at the start. */
		{"mmap", 1, {SCMP_CMP(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
		{"mmap2", 1, {SCMP_CMP(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
		{"mprotect", 1, {SCMP_CMP(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
	};
	int			result = 0;

	for (size_t i = 0; i < sizeof(guarded) / sizeof(guarded[0]) && result == 0; i++)
		result = add(filter, SCMP_ACT_ALLOW, guarded[i].name, guarded[i].count,
					 guarded[i].args);
	return result;
}

const char *
sandbox_allow_calls(const struct open_how *how, bool any_openat2)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int			result = filter != NULL ? 0 : -ENOMEM;

	/* Another architecture's calls, x32's among them, have other numbers. */
	if (result == 0)
		result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));

	/*
	 * For speed only: a tree instead of a list; and no slower processor, with
	 * which older kernels answer a filter as if foreign code were to be run.
	 */
	if (result == 0)
	{
		(void) seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
		(void) seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
	}
	for (size_t i = 0; i < sizeof(plain_calls) / sizeof(plain_calls[0]) && result == 0; i++)
		result = add(filter, SCMP_ACT_ALLOW, plain_calls[i], 0, NULL);
	if (result == 0)
		result = add_guarded(filter);
	if (result == 0)
		result = add_openat2(filter, how, any_openat2);
	if (result == 0)
		result = seccomp_load(filter);
	if (filter != NULL)
		seccomp_release(filter);
	return result == 0 ? NULL : strerror(-result);
}

#else

const char *
sandbox_allow_calls(const struct open_how *how, bool any_openat2)
{
	(void) how;
	(void) any_openat2;
#if defined(HAVE_LIBSECCOMP)
	return "built with a sanitizer";
#else
	return "built without libseccomp";
#endif
}

#endif
