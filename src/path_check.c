/*-------------------------------------------------------------------------
 *
 * path_check.c
 *		Whether a directory can be registered.
 *
 * A path that a user names may lie on a file system that never answers, and a
 * process that touches it then hangs where no signal reaches it.  So fsync-tree
 * looks (tree_ask.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_tablespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "compat.h"
#include "path_check.h"
#include "tree_ask.h"
#include "tree_client.h"

/* ---------------------------------------------------------------------
 * Asking fsync-tree
 * ---------------------------------------------------------------------
 */

/* The one line that fsync-tree has to say, without its end. */
static char *
ask_fsync_tree(const char *path)
{
	const char *args[] = {"check", path, NULL};
	size_t		len;
	char	   *answer = tree_ask(args, NULL, 0, &len);

	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not check directory \"%s\": no answer within %d seconds",
						path, TREE_ASK_TIMEOUT_S),
				 errhint("Its file system may hang.")));
	if (len > 0 && answer[len - 1] == '\n')
		answer[len - 1] = '\0';
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
				 errmsg("directory \"%s\" does not exist", path)));
	if (strcmp(code, "not_directory") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a directory", path)));
	if (strcmp(code, "not_readable") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("directory \"%s\" cannot be read by the server", path),
				 errhint("Give the operating system user that runs PostgreSQL permission to read and search it and the directories above it.")));
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("could not check directory \"%s\"", path),
			 message[0] != '\0' ? errdetail_internal("%s", message) : 0));
}

/* ---------------------------------------------------------------------
 * The server's own files
 * ---------------------------------------------------------------------
 */

/* path is directory, or below it; both real paths. */
static bool
lies_within(const char *path, const char *directory)
{
	size_t		len = strlen(directory);

	if (strcmp(directory, "/") == 0)
		return true;
	return strncmp(path, directory, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* own is one of the server's directories, which exist; what names it. */
static void
check_clear_of(const char *root, const char *own, const char *what)
{
	char		real[PATH_MAX];

	if (realpath(own, real) == NULL)
	{
		if (errno == ENOENT)
			return;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not resolve path \"%s\": %m", own)));
	}
	if (lies_within(root, real))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("directory \"%s\" lies within %s", root, what),
				 errhint("Register a directory that PostgreSQL does not use itself.")));
	if (lies_within(real, root))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("directory \"%s\" contains %s", root, what),
				 errhint("Register a directory that PostgreSQL does not use itself.")));
}

static void
check_clear_of_tablespaces(const char *root)
{
	Relation	rel = table_open(TableSpaceRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(rel, 0, NULL);
	HeapTuple	tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_tablespace form = (Form_pg_tablespace) GETSTRUCT(tuple);
		char	   *link;

		/* Those in the data directory itself. */
		if (form->oid == DEFAULTTABLESPACE_OID || form->oid == GLOBALTABLESPACE_OID)
			continue;
		link = psprintf("pg_tblspc/%u", form->oid);
		check_clear_of(root, link,
					   psprintf("the tablespace \"%s\"", NameStr(form->spcname)));
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
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
					 errmsg("path \"%s\" has a component that is too long", path),
					 errdetail("\"%s\" has %zu bytes; the most are %d.",
							   pnstrdup(p, component), component, NAME_MAX)));
		p += component;
		p += strspn(p, "/");
	}
}

char *
path_check(const char *path)
{
	char	   *answer;
	char	   *root;

	check_components(path);
	answer = ask_fsync_tree(path);
	if (strncmp(answer, "error\t", 6) == 0)
		report_bad_path(path, answer + 6);
	if (strncmp(answer, "ok\t/", 4) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not check directory \"%s\"", path),
				 errdetail("\"%s\" did not answer as expected.", tree_client_program()),
				 errhint("Check the installation, and fsync.helper_path if it is set.")));
	root = answer + 3;
	if (!pg_verify_mbstr(GetDatabaseEncoding(), root, strlen(root), true))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the real path of directory \"%s\" is not valid in the database's encoding",
						path)));

	check_clear_of(root, DataDir, "the data directory");
	check_clear_of(root, "pg_wal", "the directory of the write-ahead log");
	check_clear_of_tablespaces(root);
	return root;
}
