/*-------------------------------------------------------------------------
 *
 * lacking.c
 *		fsync-tree on a system that lacks something.
 *
 * Started in its place, it makes some system calls fail, as an older kernel does
 * or a container, and becomes fsync-tree.  A file "lacking.conf" beside it says
 * which, by number, "call error" a line; the first line is fsync-tree's path.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_CALLS	20

int
main(int argc, char **argv)
{
	struct sock_filter code[2 * MAX_CALLS + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog program = {.len = 1, .filter = code};
	char		path[4096];
	char		helper[4096];
	ssize_t		len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	unsigned	call;
	unsigned	error;
	FILE	   *f;

	(void) argc;
	if (len < 0)
		return 1;
	path[len] = '\0';
	strcpy(strrchr(path, '/') + 1, "lacking.conf");
	f = fopen(path, "r");
	if (f == NULL || fscanf(f, "%4095[^\n]", helper) != 1)
		return 1;
	while (fscanf(f, "%u %u", &call, &error) == 2 && program.len < 2 * MAX_CALLS)
	{
		code[program.len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
		code[program.len++] = (struct sock_filter)
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
	}
	fclose(f);
	code[program.len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 1;
	execv(helper, argv);
	return 1;
}
