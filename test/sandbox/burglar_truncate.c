/*-------------------------------------------------------------------------
 *
 * burglar_truncate.c
 *		All ways to empty a file that may only be read.
 *
 * O_TRUNC goes with O_RDONLY.  Where the kernel looks at it for Landlock, all that
 * is here fails of itself.  Where it is the list of system calls that denies it,
 * openat2() is allowed with flags that lie in sealed memory: then these are to
 * become others, or other memory is to be where they lie.  After each try to bring
 * that about, the burglar writes there, and opens if something is different.
 *
 *-------------------------------------------------------------------------
 */
#include "burglar.h"

#include "open_how.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Newer than some headers; the same on all architectures. */
#define NR_PROCESS_MADVISE	440
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

/* What lies where the attempts with memory go to. */
#define FLAGS_THERE			(O_PATH | O_NOFOLLOW | O_CLOEXEC)

static const char *victim;
static const struct open_how *before;	/* fsync-tree's flags before the sandbox */
static struct open_how *there;	/* and in it */
static size_t page_size;
static char *page;				/* of these */
static char *lower;				/* memory of the burglar's, directly below it if all went well */
static struct open_how wanted = {.flags = O_RDONLY | O_TRUNC};

static sigjmp_buf after_fault;

static void
on_fault(int signal)
{
	(void) signal;
	siglongjmp(after_fault, 1);
}

/* Writes there, or reads what is there: whether it can be done. */
static bool
access_there(bool write, uint64_t *flags)
{
	struct sigaction catch = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
	struct sigaction old[2];
	volatile bool done = false;

	sigaction(SIGSEGV, &catch, &old[0]);
	sigaction(SIGBUS, &catch, &old[1]);
	if (sigsetjmp(after_fault, 1) == 0)
	{
		if (write)
			*(volatile struct open_how *) there = wanted;
		else
			*flags = ((volatile struct open_how *) there)->flags;
		done = true;
	}
	sigaction(SIGSEGV, &old[0], NULL);
	sigaction(SIGBUS, &old[1], NULL);
	return done;
}

static long
open_with(const void *how, size_t size)
{
	return syscall(SYS_openat2, AT_FDCWD, victim, how, size);
}

/* After a try.  What it returned says nothing, only what is there now. */
static void
forge(const char *what, long returned)
{
	char		name[200];
	uint64_t	flags = 0;
	bool		written = access_there(true, NULL);

	(void) returned;
	snprintf(name, sizeof(name), "truncate by flags after %s", what);
	if (written || !access_there(false, &flags) || flags != FLAGS_THERE)
		attempt(name, open_with(there, sizeof(*there)));
	else
	{
		errno = EFAULT;
		attempt(name, -1);
	}
}

static void
attack_calls(void)
{
	const int	truncating = O_RDONLY | O_TRUNC;
	struct open_how *mine = malloc(4096);
	char		path[64];

#ifdef SYS_open
	attempt("truncate by open", syscall(SYS_open, victim, truncating));
	attempt("truncate by open, O_ACCMODE", syscall(SYS_open, victim, O_ACCMODE | O_TRUNC));
#endif
#ifdef SYS_creat
	attempt("truncate by creat", syscall(SYS_creat, victim, 0600));
#endif
	attempt("truncate by openat", syscall(SYS_openat, AT_FDCWD, victim, truncating));
	attempt("truncate by openat with much in the register",
			syscall(SYS_openat, AT_FDCWD, victim, 0xffffffff00000000UL | (unsigned) truncating));
	attempt("truncate by openat and more flags",
			syscall(SYS_openat, AT_FDCWD, victim, truncating | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
	attempt("truncate by openat, O_CREAT",
			syscall(SYS_openat, AT_FDCWD, victim, truncating | O_CREAT, 0600));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", open(victim, O_PATH));
	attempt("truncate through O_PATH", syscall(SYS_openat, AT_FDCWD, path, truncating));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", open(victim, O_RDONLY));
	attempt("truncate through an open file", syscall(SYS_openat, AT_FDCWD, path, truncating));
	attempt("truncate by its name", syscall(SYS_truncate, victim, 0));
	attempt("truncate what is open", ftruncate(open(victim, O_RDONLY), 0));

	attempt("open to write by openat", syscall(SYS_openat, AT_FDCWD, victim, O_RDWR));
	*mine = (struct open_how) {.flags = O_RDWR};
	attempt("open to write by openat2", open_with(mine, sizeof(*mine)));
	*mine = wanted;
	attempt("truncate by openat2", open_with(mine, sizeof(*mine)));
	attempt("truncate by openat2 with flags of the program's", open_with(&wanted, sizeof(wanted)));
}

/* Parts of several flags, and other sizes. */
static void
attack_pieces(void)
{
	for (uintptr_t address = (uintptr_t) page; address < (uintptr_t) page + page_size; address++)
	{
		long		fd;

		if ((address - (uintptr_t) there) % OPEN_HOW_ALIGN == 0 &&
			address < (uintptr_t) page + OPEN_HOWS * OPEN_HOW_ALIGN)
			continue;
		fd = open_with((void *) address, sizeof(*there));
		if (fd >= 0)
		{
			attempt("truncate by a piece of the flags", fd);
			return;
		}
	}
	attempt("truncate by a piece of the flags", -1);
	attempt("truncate by flags of another size", open_with(there, sizeof(*there) + 8));
	attempt("truncate by the same address, but for its top",
			open_with((void *) ((uintptr_t) there | (uintptr_t) 1 << 63), sizeof(*there)));
}

static void
write_there_by_kernel(void)
{
	struct iovec from = {&wanted, sizeof(wanted)};
	struct iovec to = {there, sizeof(wanted)};
	int			fd = open(victim, O_RDONLY);
	long		memory;

	forge("read", read(fd, there, 8));
	forge("pread", pread(fd, there, 8, 0));
	forge("readv", readv(fd, &to, 1));
	forge("a link that is read", readlink("/proc/self/cwd", (char *) there, 8));
	forge("getrandom", syscall(SYS_getrandom, there, sizeof(*there), 0));
	forge("clock_gettime", syscall(SYS_clock_gettime, CLOCK_REALTIME, there));
	forge("futex", syscall(SYS_futex, &wanted, FUTEX_WAKE_OP, 1, 1, there,
						   FUTEX_OP(FUTEX_OP_OR, O_TRUNC, FUTEX_OP_CMP_EQ, 0)));
	forge("process_vm_writev", syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0));
	forge("ptrace", ptrace(PTRACE_POKEDATA, getpid(), there, (void *) (uintptr_t) wanted.flags));
	memory = syscall(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR);
	forge("/proc/self/mem", pwrite((int) memory, &wanted, sizeof(wanted), (off_t) (uintptr_t) there));
}

static void *
map(void *address, int flags)
{
	return mmap(address, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void
change_memory(void)
{
	static const struct
	{
		const char *name;
		int			advice;
	}			advices[] = {
		{"MADV_DONTNEED", 4}, {"MADV_FREE", 8}, {"MADV_REMOVE", 9}, {"MADV_DONTFORK", 10},
		{"MADV_WIPEONFORK", 18}, {"MADV_PAGEOUT", 21},
		{"MADV_POPULATE_WRITE", 23}, {"MADV_DONTNEED_LOCKED", 24}, {"MADV_GUARD_INSTALL", 102},
		{"MADV_GUARD_REMOVE", 103},
	};
	struct iovec range = {page, page_size};
	char	   *spare;

	forge("nothing", 0);
	forge("mprotect", mprotect(page, page_size, PROT_READ | PROT_WRITE));
	forge("mprotect, PROT_GROWSDOWN",
		  mprotect(page, page_size, PROT_READ | PROT_WRITE | PROT_GROWSDOWN));
	forge("pkey_mprotect", syscall(SYS_pkey_mprotect, page, page_size, PROT_READ | PROT_WRITE, -1));
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
	{
		forge(advices[i].name, madvise(page, page_size, advices[i].advice));
		forge("process_madvise", syscall(NR_PROCESS_MADVISE, -1, &range, 1, advices[i].advice, 0));
	}
	forge("brk", syscall(SYS_brk, page + page_size));
	forge("mmap that grows down", (long) map(page + page_size, MAP_GROWSDOWN));
	forge("remap_file_pages", syscall(SYS_remap_file_pages, page, page_size, 0, 0, 0));
	forge("shmat", (long) shmat(0, page, SHM_REMAP));

	/* From below, and over both. */
	if (lower == page - page_size)
	{
		forge("mprotect from below", mprotect(lower, 2 * page_size, PROT_READ | PROT_WRITE));
		forge("madvise from below", madvise(lower, 2 * page_size, MADV_DONTNEED));
		forge("mremap to grow into it", (long) mremap(lower, page_size, 2 * page_size, 0));
		forge("mmap over both", (long) mmap(lower, 2 * page_size, PROT_READ | PROT_WRITE,
											MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		munmap(lower, 2 * page_size);
		forge("munmap of both", (long) map(page, 0));
	}

	/* Other memory there; then away with it first. */
	forge("mmap", (long) map(page, MAP_FIXED));
	spare = map(NULL, 0);
	forge("mremap onto it",
		  (long) mremap(spare, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, page));
	spare = map(NULL, 0);
	forge("mremap onto it, MREMAP_DONTUNMAP",
		  (long) mremap(spare, page_size, page_size,
						MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, page));
	spare = map(NULL, 0);
	(void) mremap(page, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, spare);
	forge("mremap of it", (long) map(page, 0));
	(void) mremap(page, page_size, page_size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	forge("mremap of it, MREMAP_DONTUNMAP", (long) map(page, 0));
	(void) mremap(page, page_size, 1024 * page_size, MREMAP_MAYMOVE);
	forge("mremap of it to grow", (long) map(page, 0));
	(void) munmap(page, page_size);
	forge("munmap", (long) map(page, 0));
}

/*
 * The kernel takes the highest gap that is large enough.  So gaps of a page are
 * filled, until there is one for the flags with a page below it.
 */
void
truncation_prepare(void)
{
	char	   *hole;

	before = open_how(FLAGS_THERE);
	page_size = (size_t) sysconf(_SC_PAGESIZE);
	for (int i = 0; i < 1000; i++)
	{
		hole = map(NULL, 0);
		lower = map(hole - page_size, MAP_FIXED_NOREPLACE);
		if (lower == hole - page_size)
		{
			munmap(hole, page_size);
			return;
		}
	}
}

void
attack_by_truncation(const char *file, bool flags_too)
{
	victim = file;
	attack_calls();
	there = (struct open_how *) (uintptr_t) open_how(FLAGS_THERE);
	if (!flags_too || there == before)
		return;
	need("openat2 with the flags of fsync-tree",
		 syscall(SYS_openat2, open("/", O_PATH), victim + 1, there, sizeof(*there)) >= 0);
	page = (char *) ((uintptr_t) there & ~(page_size - 1));
	attack_pieces();
	write_there_by_kernel();
	change_memory();
}
