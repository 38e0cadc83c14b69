/*-------------------------------------------------------------------------
 *
 * worker_trouble.c
 *		What the database could not take, as the state tells it: with the place
 *		that is full, and what helps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "commands/tablespace.h"

#include "session.h"
#include "worker.h"

#define AGAIN	"It is tried again; nothing is lost meanwhile."

typedef struct NameWork
{
	Oid			tablespace;
	char		name[NAMEDATALEN];
} NameWork;

static void
name_work(WorkerRepository *repository, void *arg)
{
	NameWork   *work = arg;
	char	   *name;

	StartTransactionCommand();
	name = get_tablespace_name(work->tablespace);
	if (name != NULL)
		strlcpy(work->name, name, sizeof(work->name));
	CommitTransactionCommand();
}

/* The tablespace, by its name and directory. */
static char *
tablespace_place(Oid tablespace)
{
	NameWork	work = {.tablespace = tablespace};
	char		link[64];
	char		directory[MAXPGPATH];
	ssize_t		len;
	MemoryContext context = CurrentMemoryContext;

	(void) worker_try(NULL, name_work, &work);
	MemoryContextSwitchTo(context);
	if (work.name[0] == '\0')
		snprintf(work.name, sizeof(work.name), "%u", tablespace);
	snprintf(link, sizeof(link), "pg_tblspc/%u", tablespace);
	len = readlink(link, directory, sizeof(directory) - 1);
	if (len < 0)
		return psprintf("tablespace \"%s\"", work.name);
	directory[len] = '\0';
	return psprintf("tablespace \"%s\" (%s)", work.name, directory);
}

/* The place of the file that the message names. */
static const char *
full_place(const char *message)
{
	const char *file = strstr(message, "\"pg_tblspc/");

	if (file != NULL)
		return tablespace_place((Oid) strtoul(file + strlen("\"pg_tblspc/"), NULL, 10));
	if (strstr(message, "\"pg_wal/") != NULL)
		return "directory \"pg_wal\" of the server";
	if (strstr(message, "\"base/pgsql_tmp") != NULL)
		return "directory \"base/pgsql_tmp\" of the server, for temporary files";
	if (strstr(message, "\"base/") != NULL || strstr(message, "\"global/") != NULL)
		return "tablespace \"pg_default\", which is the server's data directory";
	return "server's data directory, or that of temp_tablespaces";
}

void
trouble_note(WorkerRepository *repository, const ErrorData *error)
{
	Condition  *trouble = &repository->database_trouble;
	const char *message = error->message != NULL ? error->message : "unknown error";
	const char *hint = error->hint;

	if (error->detail != NULL)
		message = psprintf("%s: %s", message, error->detail);
	if (session_error_is_of_publication(error->sqlerrcode))
		hint = "Give the table a REPLICA IDENTITY that suits the publication (FULL suits all), or change the publication.";
	else if (error->sqlerrcode == ERRCODE_DISK_FULL)
		hint = psprintf("Free space on the file system of the %s.", full_place(message));
	else if (error->sqlerrcode == ERRCODE_OUT_OF_MEMORY && hint == NULL)
		hint = "The fsync worker gets no more memory: free some, raise the limit of the server's control group or what vm.overcommit_memory allows, or lower fsync.batch_size.";
	hint = hint != NULL ? psprintf("%s " AGAIN, hint) : AGAIN;
	memset(trouble, 0, sizeof(*trouble));
	worker_copy_text(trouble->reason, sizeof(trouble->reason),
					 (ProtoStr) {message, strlen(message)});
	worker_copy_text(trouble->hint, sizeof(trouble->hint), (ProtoStr) {hint, strlen(hint)});
}
