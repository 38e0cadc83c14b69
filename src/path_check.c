/*-------------------------------------------------------------------------
 *
 * path_check.c
 *		Whether a directory can be registered; how a path inside one is written.
 *
 * A path that a user names may lie on a file system that never answers, and a
 * process that touches it then hangs where no signal reaches it.  So fsync-tree
 * looks (tree_ask.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "commands/tablespace.h"
#include "mb/pg_wchar.h"

#include "own_directories.h"
#include "path_check.h"
#include "shown.h"
#include "tree_ask.h"
#include "tree_client.h"
#include "tree/checks.h"

/* ---------------------------------------------------------------------
 * Asking fsync-tree
 * ---------------------------------------------------------------------
 */

/* What fsync-tree has to say. */
static char *
ask_fsync_tree(const char *command, const char *path, size_t *len)
{
	const char *args[] = {command, path, NULL};
	char	   *answer = tree_ask(args, NULL, 0, TREE_ASK_TIMEOUT_S * 1000,
									TREE_ASK_ANSWER, len);

	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not check directory \"%s\": no answer within %d seconds",
						shown_path(path), TREE_ASK_TIMEOUT_S),
				 errhint("Its file system may hang.")));
	if (*len > 0 && answer[*len - 1] == '\n')
		answer[--*len] = '\0';
	return answer;
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
				 errmsg("directory \"%s\" does not exist", shown_path(path))));
	if (strcmp(code, "link") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("directory \"%s\" does not exist", shown_path(path)),
				 errdetail("A symbolic link in this path leads nowhere."),
				 errhint("Register the directory that the link is to lead to: links are not followed when it appears.")));
	if (strcmp(code, "not_directory") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a directory", shown_path(path))));
	if (strcmp(code, "not_readable") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("directory \"%s\" cannot be read by the server", shown_path(path)),
				 errhint("Give the operating system user that runs PostgreSQL permission to read and search it and the directories above it.")));
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("could not check directory \"%s\"", shown_path(path)),
			 message[0] != '\0' ? errdetail_internal("%s", message) : 0));
}

/* ---------------------------------------------------------------------
 * The server's own files
 * ---------------------------------------------------------------------
 */

static void
refuse(const char *root, const char *how, const OwnDirectory *own)
{
	const char *what = own->what;
	char	   *name = OidIsValid(own->tablespace) ?
		get_tablespace_name(own->tablespace) : NULL;

	if (name != NULL)
		what = psprintf("the tablespace \"%s\"", name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("directory \"%s\" %s %s", shown_path(root), how, what),
			 errhint("Register a directory that PostgreSQL does not use itself.")));
}

/*
 * places: a line each for the directory and those above it, from the directory
 * on, "device inode".  absent: it is not there, they are those above it.
 */
static void
check_clear_of_server(const char *root, const char *places, bool absent)
{
	List	   *own = own_directories();
	ListCell   *lc;

	for (const char *line = places; line != NULL; line = strchr(line + 1, '\n'))
	{
		unsigned long long device;
		unsigned long long inode;

		if (sscanf(line, " %llu %llu", &device, &inode) != 2)
			break;
		foreach(lc, own)
		{
			OwnDirectory *directory = lfirst(lc);

			if (directory->place.device != device || directory->place.inode != inode)
				continue;
			if (directory->place.whole)
				refuse(root, "lies within", directory);
			if (line == places && !absent)
				refuse(root, "contains", directory);
		}
	}
}

/* The directory itself, the first of these lines; false where there is none. */
static bool
read_place(const char *places, CheckedPath *checked)
{
	unsigned long long device;
	unsigned long long inode;

	if (sscanf(places, " %llu %llu", &device, &inode) != 2)
		return false;
	checked->device = device;
	checked->inode = inode;
	return true;
}

/* The kernel would only say that a name is too long. */
static void
check_components(const char *path)
{
	for (const char *p = path; *p != '\0';)
	{
		size_t		component = strcspn(p, "/");

		if (component > NAME_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_NAME_TOO_LONG),
					 errmsg("path \"%s\" has a component that is too long", shown_path(path)),
					 errdetail("\"%s\" has %zu bytes; the most are %d.",
							   shown_path(pnstrdup(p, component)), component, NAME_MAX)));
		p += component;
		p += strspn(p, "/");
	}
}

static void
check(const char *command, const char *path, CheckedPath *checked)
{
	size_t		len;
	char	   *answer;
	char	   *tab;
	char	   *identity;
	char	   *places = NULL;
	bool		absent;

	check_components(path);
	answer = ask_fsync_tree(command, path, &len);
	if (strncmp(answer, "error\t", 6) == 0)
		report_bad_path(path, answer + 6);
	absent = strncmp(answer, "absent\t/", 8) == 0;
	tab = strchr(answer, '\t');
	checked->root = tab + 1;
	identity = answer + strlen(answer) + 1;
	if (identity < answer + len)
		places = strchr(identity, '\n');
	if (tab == NULL || (!absent && strncmp(answer, "ok\t/", 4) != 0) || places == NULL ||
		(absent && places != identity) || !read_place(places, checked))
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not check directory \"%s\"", shown_path(path)),
				 errdetail("\"%s\" did not answer as expected.", tree_client_program()),
				 errhint("Check the installation, and fsync.helper_path if it is set.")));
	checked->identity = absent ? NULL : pnstrdup(identity, places - identity);
	if (!pg_verify_mbstr(GetDatabaseEncoding(), checked->root, strlen(checked->root), true))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the real path of directory \"%s\" is not valid in the database's encoding",
						shown_path(path))));
	check_clear_of_server(checked->root, places, absent);
}

void
path_check(const char *path, CheckedPath *checked)
{
	check("check", path, checked);
}

void
path_check_ahead(const char *path, CheckedPath *checked)
{
	check("foresee", path, checked);
}

void
path_check_inside(const char *path)
{
	size_t		len = strlen(path);
	const char *why;

	if (len > PROTO_PATH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path is too long"),
				 errdetail("It has %zu bytes; a path in a repository can have at most %d.",
						   len, PROTO_PATH_MAX)));
	if (path[0] == '/')
		why = "an absolute path";
	else if (len > 1 && path[len - 1] == '/')
		why = "a path with a slash at its end";
	else
		why = check_path((ProtoStr) {path, (uint32) len}, PROTO_PATH_MAX);
	if (why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid path \"%s\"", shown_path(path)),
				 errdetail("It is %s.", why),
				 errhint("Name a file or directory relative to the repository's directory, as in file_path.")));
}
