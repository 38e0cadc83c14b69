/*-------------------------------------------------------------------------
 *
 * own_directories.c
 *		The directories that the server keeps its files in.
 *
 * None of them is ever a repository, nor is what lies below or above it.  They
 * are known by device and inode, which no symbolic link, bind mount or rename
 * can disguise.  Only paths of the server's own are followed here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "own_directories.h"

static List *
add_place(List *list, const struct stat *st, bool whole, const char *what, Oid tablespace)
{
	OwnDirectory *directory = palloc0(sizeof(OwnDirectory));

	directory->place.device = st->st_dev;
	directory->place.inode = st->st_ino;
	directory->place.whole = whole;
	directory->what = what;
	directory->tablespace = tablespace;
	return lappend(list, directory);
}

/* The directory above the open one, which is closed; -1 with errno. */
static int
open_above(int fd)
{
	int			above = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int			save_errno = errno;

	close(fd);
	errno = save_errno;
	return above;
}

/* The directory at path, if there is one, and those above it. */
static List *
add_directory(List *list, const char *path, const char *what, Oid tablespace)
{
	struct stat top;
	struct stat st;
	int			fd;
	bool		whole = true;

	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return list;
	while (fd >= 0)
	{
		if (stat("/", &top) < 0 || fstat(fd, &st) < 0)
		{
			int			save_errno = errno;

			close(fd);
			errno = save_errno;
			break;
		}
		list = add_place(list, &st, whole, what, tablespace);
		whole = false;
		if (st.st_dev == top.st_dev && st.st_ino == top.st_ino)
		{
			close(fd);
			return list;
		}
		fd = open_above(fd);
	}
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not look at directory \"%s\" and those above it: %m", path)));
	return NIL;					/* not reached */
}

List *
own_directories(void)
{
	List	   *list = NIL;
	DIR		   *dir;
	struct dirent *entry;

	list = add_directory(list, DataDir, "the data directory", InvalidOid);
	list = add_directory(list, "pg_wal", "the directory of the write-ahead log", InvalidOid);

	/* A tablespace is one from the moment that its link is there. */
	dir = AllocateDir("pg_tblspc");
	while ((entry = ReadDir(dir, "pg_tblspc")) != NULL)
	{
		if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name))
			continue;
		list = add_directory(list, psprintf("pg_tblspc/%s", entry->d_name), "a tablespace",
							 (Oid) strtoul(entry->d_name, NULL, 10));
	}
	FreeDir(dir);
	return list;
}
