/*-------------------------------------------------------------------------
 *
 * open_how.c
 *		What fsync-tree ever says to openat2(), where nobody can change it.
 *
 * openat2() takes its flags from memory, which a filter of system calls does not
 * see.  But it sees the address: what lies there is known where the memory was
 * sealed with mseal(2).  From then on the kernel refuses to protect, unmap, move,
 * discard or replace it, so nothing writes there but what writes to any memory
 * (/proc/PID/mem, ptrace), which the sandbox denies.
 *
 *-------------------------------------------------------------------------
 */
#include "open_how.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some headers; the same on all architectures that have it. */
#define NR_MSEAL	462

typedef struct Slot
{
	struct open_how how __attribute__((aligned(OPEN_HOW_ALIGN)));
} Slot;

_Static_assert(sizeof(Slot) == OPEN_HOW_ALIGN, "the addresses differ in OPEN_HOW_BITS");
_Static_assert((OPEN_HOWS & (OPEN_HOWS - 1)) == 0, "each value of OPEN_HOW_BITS is one");

#define BENEATH(flags_of_open) \
	{{.flags = (flags_of_open) | O_NOFOLLOW | O_CLOEXEC, \
	  .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS}}

static const Slot unsealed[OPEN_HOWS] = {
	BENEATH(O_PATH),
	BENEATH(O_PATH | O_DIRECTORY),
	BENEATH(O_RDONLY | O_DIRECTORY),
	BENEATH(O_RDONLY | O_DIRECTORY | O_NOATIME),
};

static const Slot *slots = unsealed;

const struct open_how *
open_how(int flags)
{
	for (int i = 0; i < OPEN_HOWS; i++)
	{
		if (slots[i].how.flags == (unsigned int) flags)
			return &slots[i].how;
	}
	errno = EINVAL;
	return NULL;
}

/* The kernel is asked to break the seal: what only emulates one may have said yes to it. */
static bool
seal(void *memory)
{
	return mprotect(memory, sizeof(unsealed), PROT_READ) == 0 &&
		syscall(NR_MSEAL, memory, sizeof(unsealed), 0UL) == 0 &&
		mprotect(memory, sizeof(unsealed), PROT_READ | PROT_WRITE) < 0 && errno == EPERM;
}

const struct open_how *
open_how_seal(void)
{
	void	   *memory = mmap(NULL, sizeof(unsealed), PROT_READ | PROT_WRITE,
							  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	memcpy(memory, unsealed, sizeof(unsealed));
	if (!seal(memory))
	{
		munmap(memory, sizeof(unsealed));
		return NULL;
	}
	slots = memory;
	return &slots[0].how;
}
