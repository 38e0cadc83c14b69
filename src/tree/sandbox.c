/*-------------------------------------------------------------------------
 *
 * sandbox.c
 *		What fsync-tree takes from itself before it looks at a user's files.
 *
 * Each measure stands where the others may fail: Landlock (landlock(7)) knows
 * files, and on newer kernels networks and signals; the allow-list of system
 * calls (sandbox_calls.c) closes all that Landlock does not know, on any kernel
 * of ten years; resource limits and flags of the process do the rest.
 *
 * Landlock has no wrapper in the C library, and the headers of a distribution
 * are older than the kernel that runs: so the calls are made directly, and
 * rights that came later are named here by number.
 *
 * Truncation is denied by the list of calls where that can see all flags of all
 * ways to open a file (open_how.c), and only else by Landlock.  For that right,
 * which no rule grants, the kernel walks at each open from the file to the real
 * "/", counting on each directory on the way: 1.0 to 1.7 us where two threads
 * open at once, against 0.4 us for the walk to the rule of the root.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include "open_how.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a temporary file may grow to: ten times the need of a hundred million files. */
#define SANDBOX_FILE_SIZE	(UINT64_C(128) << 30)

#define LANDLOCK_TRUNCATE	(1 << 14)

/*
 * The rules of Landlock by its version, as the kernel's documentation has them.
 * A file system's rights of a version are those of the versions before and
 * these.
 */
static const struct
{
	uint64_t	files;
	uint64_t	networks;
	uint64_t	scopes;
}			landlock_rights[] = {
	[1] = {.files = 0x1fff},	/* read, write, execute, make, remove */
	[2] = {.files = 1 << 13},	/* link or rename to another directory */
	[3] = {.files = LANDLOCK_TRUNCATE},
	[4] = {.networks = 3},		/* bind and connect TCP */
	[5] = {.files = 1 << 15},	/* ioctl of a device */
	[6] = {.scopes = 3},		/* abstract sockets and signals of others */
};

#define LANDLOCK_VERSIONS	(sizeof(landlock_rights) / sizeof(landlock_rights[0]))

/* landlock_ruleset_attr as it is since version 6. */
typedef struct Ruleset
{
	uint64_t	files;
	uint64_t	networks;
	uint64_t	scopes;
} Ruleset;

#define SANDBOX_READ \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

void
sandbox_process(void)
{
	int			fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		exit(0);				/* it was too late for the signal */

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

static void
limit(int resource, uint64_t most)
{
	struct rlimit limits;

	if (getrlimit(resource, &limits) < 0)
		return;
	if (limits.rlim_max > most)
		limits.rlim_max = most;
	if (limits.rlim_cur > limits.rlim_max)
		limits.rlim_cur = limits.rlim_max;
	(void) setrlimit(resource, &limits);
}

/*
 * Leaves truncation alone where that is denied already.  May be called again, to
 * take more; 0, or an errno.
 */
static int
confine_files(int rootfd, bool *no_truncation)
{
	Ruleset		attr = {0};
	long		version = syscall(SYS_landlock_create_ruleset, NULL, 0,
								  LANDLOCK_CREATE_RULESET_VERSION);
	int			ruleset;
	long		result = 0;
	int			error;

	if (version < 0)
		return errno;
	for (size_t v = 1; v < LANDLOCK_VERSIONS && v <= (size_t) version; v++)
	{
		attr.files |= landlock_rights[v].files;
		attr.networks |= landlock_rights[v].networks;
		attr.scopes |= landlock_rights[v].scopes;
	}

	if (*no_truncation)
		attr.files &= ~(uint64_t) LANDLOCK_TRUNCATE;

	/* an older kernel takes what is longer, where the rest is zero */
	ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return errno;
	if (rootfd >= 0)
	{
		struct landlock_path_beneath_attr rule = {
			.allowed_access = SANDBOX_READ, .parent_fd = rootfd
		};

		result = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	}
	if (result == 0)
		result = syscall(SYS_landlock_restrict_self, ruleset, 0);
	error = result == 0 ? 0 : errno;
	if (result == 0 && (attr.files & LANDLOCK_TRUNCATE) != 0)
		*no_truncation = true;
	close(ruleset);
	return error;
}

static void
note_missing(Sandbox *sandbox, const char *what, const char *why)
{
	size_t		len = strlen(sandbox->missing);

	sandbox->complete = false;
	snprintf(sandbox->missing + len, sizeof(sandbox->missing) - len, "%s%s (%s)",
			 len > 0 ? ", " : "", what, why);
}

void
sandbox_enter(int rootfd, Sandbox *sandbox)
{
	const struct open_how *how = open_how_seal();
	const char *refused;
	bool		no_truncation;
	int			error;

	memset(sandbox, 0, sizeof(*sandbox));
	sandbox->complete = true;

	/* libcrypto reads its configuration when it is first used */
	EVP_MD_free(EVP_MD_fetch(NULL, "SHA256", NULL));

	signal(SIGXFSZ, SIG_IGN);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_FSIZE, SANDBOX_FILE_SIZE);
	limit(RLIMIT_MEMLOCK, 0);
	limit(RLIMIT_MSGQUEUE, 0);
	limit(RLIMIT_RTPRIO, 0);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		note_missing(sandbox, "no_new_privs", strerror(errno));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	/* A leak check traces its own process. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		note_missing(sandbox, "undumpable", strerror(errno));
#endif

	/*
	 * The list comes after Landlock's calls, which are not on it.  Where it was
	 * refused they can still be made.
	 */
	no_truncation = how != NULL;
	error = confine_files(rootfd, &no_truncation);
	refused = sandbox_allow_calls(how, no_truncation);
	if (refused != NULL && how != NULL && error == 0)
	{
		no_truncation = false;
		error = confine_files(rootfd, &no_truncation);
	}
	if (error != 0)
		note_missing(sandbox, "Landlock", error == EOPNOTSUPP ? "not enabled in the kernel" :
					 strerror(error));
	if (refused != NULL)
		note_missing(sandbox, "seccomp", refused);
}
