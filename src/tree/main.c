/*-------------------------------------------------------------------------
 *
 * main.c
 *		The program fsync-tree.
 *
 *		fsync-tree worker ROOT	serves the PostgreSQL worker on descriptor 3
 *		fsync-tree check DIR	says whether DIR can be registered
 *		fsync-tree foresee DIR	the same of one that may not be there yet
 *		fsync-tree why ROOT PATH
 *								says which rule decides about a path, for the
 *								settings on its standard input
 *		fsync-tree preview ROOT PATHS MS
 *								says what other settings would track, for the
 *								present and the other ones on its standard input
 *		fsync-tree ignored ROOT ROWS MS
 *								says what is not tracked, for the settings on
 *								its standard input
 *		fsync-tree scan DIR		prints the files below DIR, with their hashes
 *		fsync-tree watch DIR [DEBOUNCE_MS]
 *								prints what changes below DIR
 *
 * The last two are for people: they show what the extension would see.  The
 * others end with PROTO_EXIT_UNCONFINED where their last argument is --sandbox
 * and the kernel has no complete sandbox for them.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"
#include "engine.h"
#include "standalone.h"
#include "survey.h"
#include "why.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The worker's: its socket is open, and files to write to where it could make some. */
static int
serve(const char *root, bool must_be_complete)
{
	EngineStart start;
	int			fd = PROTO_SOCKET_FD;

	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
	{
		fprintf(stderr, "fsync-tree: descriptor %d is not a socket of the worker\n", fd);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);

	/* One arena: with several, memory that a scan used stays with threads. */
	mallopt(M_ARENA_MAX, 1);
	sandbox_process();
	engine_prepare(&start, root);
	start.must_be_complete = must_be_complete;
	for (int i = 0; i < PROTO_SPOOLS; i++)
		spools_add(&start.spools, PROTO_SPOOL_FD + i);
	return engine_run(fd, &start);
}

/*
 * A copy of the arguments.  Those that a server gave are written over: its first one
 * is what ps is to show, and the path in the others is as raw as whoever can
 * rename a directory above it wants, on the terminal of whoever calls ps.
 */
static char **
take_arguments(int argc, char **argv)
{
	bool		titled = argc > 0 && strncmp(argv[0], PROTO_TITLE, strlen(PROTO_TITLE)) == 0;
	char	  **copy = calloc((size_t) argc + 1, sizeof(char *));

	for (int i = 0; copy != NULL && i < argc; i++)
	{
		copy[i] = strdup(argv[i]);
		if (copy[i] == NULL)
			return NULL;
		if (i > 0 && titled)
			memset(argv[i], 0, strlen(argv[i]));
	}
	return copy;
}

static int
run(int argc, char **argv, bool strict)
{
	if (argc == 3 && strcmp(argv[1], "worker") == 0)
		return serve(argv[2], strict);
	if (argc == 3 && strcmp(argv[1], "check") == 0)
		return check_answer(argv[2], strict);
	if (argc == 3 && strcmp(argv[1], "foresee") == 0)
		return check_absent(argv[2], strict);
	if (argc == 4 && strcmp(argv[1], "why") == 0)
		return why_answer(argv[2], argv[3], strict);
	if (argc == 5 && strcmp(argv[1], "preview") == 0)
		return survey_preview(argv[2], atoi(argv[3]), atoi(argv[4]), strict);
	if (argc == 5 && strcmp(argv[1], "ignored") == 0)
		return survey_ignored(argv[2], atoi(argv[3]), atoi(argv[4]), strict);
	if (argc == 4 && !strict && strcmp(argv[1], "watch") == 0)
		return standalone_watch(argv[2], atoi(argv[3]));
	if (argc != 3 || strict)
		return usage();
	if (strcmp(argv[1], "scan") == 0)
		return standalone_scan(argv[2]);
	if (strcmp(argv[1], "watch") == 0)
		return standalone_watch(argv[2], 500);
	return usage();
}

int
main(int argc, char **argv)
{
	bool		strict = argc > 2 && strcmp(argv[argc - 1], "--sandbox") == 0;
	char	  **arguments = take_arguments(argc, argv);
	int			status;

	if (arguments == NULL)
	{
		fprintf(stderr, "fsync-tree: out of memory\n");
		return 2;
	}
	status = run(argc - strict, arguments, strict);
	for (int i = 0; i < argc; i++)
		free(arguments[i]);
	free(arguments);
	return status;
}
