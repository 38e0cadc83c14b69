/*-------------------------------------------------------------------------
 *
 * main.c
 *		The program fsync-tree.
 *
 *		fsync-tree worker		serves the PostgreSQL worker on descriptor 3
 *		fsync-tree check DIR	says whether DIR can be registered
 *		fsync-tree why PATH		says which rule decides about a path, for the
 *								settings on its standard input
 *		fsync-tree scan DIR		prints the files below DIR, with their hashes
 *		fsync-tree watch DIR [DEBOUNCE_MS]
 *								prints what changes below DIR
 *
 * The last two are for people: they show what the extension would see.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"
#include "sandbox.h"
#include "standalone.h"
#include "why.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
usage(void)
{
	fprintf(stderr,
			"usage: fsync-tree scan DIR     print the files below DIR with their hashes\n"
			"       fsync-tree watch DIR [DEBOUNCE_MS]\n"
			"                               print what changes below DIR\n"
			"       fsync-tree check DIR    say whether DIR can be registered\n");
	return 2;
}

static int
serve(void)
{
	int			fd = PROTO_SOCKET_FD;

	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
	{
		fprintf(stderr, "fsync-tree: descriptor %d is not a socket of the worker\n", fd);
		return 2;
	}
	sandbox_process();
	signal(SIGPIPE, SIG_IGN);

	/* One arena: with several, memory that a scan used stays with threads. */
	mallopt(M_ARENA_MAX, 1);

	/* Loads libcrypto's configuration before the file system is closed off. */
	EVP_MD_free(EVP_MD_fetch(NULL, "SHA256", NULL));
	return engine_run(fd);
}

/*
 * One line for the server, which does not touch the directory itself: "ok",
 * a tab and the path without symbolic links; or "error", a tab, a word, a tab
 * and a message.
 */
static int
check(const char *path)
{
	struct stat st;
	char	   *real = realpath(path, NULL);
	const char *word = NULL;
	int			fd;

	if (real == NULL || stat(real, &st) < 0)
	{
		word = errno == ENOENT || errno == ENOTDIR ? "missing" :
			errno == EACCES ? "not_readable" : "other";
	}
	else if (!S_ISDIR(st.st_mode))
	{
		word = "not_directory";
		errno = ENOTDIR;
	}
	else if ((fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
			 faccessat(fd, ".", R_OK | X_OK, AT_EACCESS) < 0)
		word = errno == EACCES || errno == EPERM ? "not_readable" : "other";
	if (word != NULL)
		printf("error\t%s\t%s\n", word, strerror(errno));
	else
		printf("ok\t%s\n", real);
	free(real);
	return word != NULL;
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "worker") == 0)
		return serve();
	if (argc == 4 && strcmp(argv[1], "watch") == 0)
		return standalone_watch(argv[2], atoi(argv[3]));
	if (argc != 3)
		return usage();
	if (strcmp(argv[1], "check") == 0)
		return check(argv[2]);
	if (strcmp(argv[1], "why") == 0)
		return why_answer(argv[2]);
	if (strcmp(argv[1], "scan") == 0)
		return standalone_scan(argv[2]);
	if (strcmp(argv[1], "watch") == 0)
		return standalone_watch(argv[2], 500);
	return usage();
}
