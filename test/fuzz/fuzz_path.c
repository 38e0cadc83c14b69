/*-------------------------------------------------------------------------
 *
 * fuzz_path.c
 *		Whatever bytes a path has, it leads to something inside the root or to
 *		nothing.
 *
 * The root lies between siblings and holds symbolic links to "/", to a
 * sibling and to itself.  What is inside is known by device and inode number;
 * anything else that is reached is an escape.  With FSYNC_FUZZ_STEPWISE in
 * the environment openat2() is forbidden, so that paths are taken in steps.
 *
 *-------------------------------------------------------------------------
 */
#include "beneath.h"
#include "files.h"

#define MAX_INSIDE			32

static int	rootfd = -1;
static FileInfo inside[MAX_INSIDE];
static size_t n_inside;

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
remember(int dirfd, const char *name)
{
	FILES_MUST(n_inside < MAX_INSIDE);
	FILES_MUST(beneath_stat_at(dirfd, name, &inside[n_inside++]) == 0);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const directories[] = {
		"root/a", "root/a/b", "root/a/b/c", "root/...", "root/a/ ", "root/\xff",
	};
	static const char *const files[] = {
		"root/f", "root/a/f", "root/a/b/c/f", "root/.../f", "root/\xff/f",
	};
	static const char *const links[][2] = {
		{"/", "root/s"}, {"../out", "root/o"}, {"..", "root/a/u"}, {".", "root/a/b/d"},
		{"../../../out/f", "root/a/b/g"}, {"a", "root/l"},
	};
	char	   *base = files_temp_dir();
	int			basefd = files_open_dir(base);
	size_t		i;

	(void) argc;
	(void) argv;
	files_mkdir_at(basefd, "out");
	files_write_at(basefd, "out/f", "secret", 6);
	files_mkdir_at(basefd, "root");
	remember(basefd, "root");
	for (i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
	{
		files_mkdir_at(basefd, directories[i]);
		remember(basefd, directories[i]);
	}
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		files_write_at(basefd, files[i], "inside", 6);
		remember(basefd, files[i]);
	}
	for (i = 0; i < sizeof(links) / sizeof(links[0]); i++)
	{
		FILES_MUST(symlinkat(links[i][0], basefd, links[i][1]) == 0);
		remember(basefd, links[i][1]);
	}
	FILES_MUST(mkfifoat(basefd, "root/p", 0600) == 0);
	remember(basefd, "root/p");
	rootfd = openat(basefd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	FILES_MUST(rootfd >= 0);
	close(basefd);
	free(base);
	if (getenv("FSYNC_FUZZ_STEPWISE") != NULL)
		files_forbid_syscall(SYS_openat2, ENOSYS);
	return 0;
}

static void
must_be_inside(const FileInfo *info)
{
	size_t		i;

	for (i = 0; i < n_inside; i++)
	{
		if (inside[i].dev == info->dev && inside[i].stat.inode == info->stat.inode)
			return;
	}
	abort();
}

/* Closes a descriptor that was opened, after looking where it is. */
static void
check_descriptor(int fd, mode_t type)
{
	FileInfo	info;

	if (fd < 0)
		return;
	if (beneath_stat_fd(fd, &info) < 0 || (info.mode & S_IFMT) != type)
		abort();
	must_be_inside(&info);
	close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FileInfo	info;
	char	   *path = malloc(size ? size : 1);

	/* exactly size bytes: there is no terminator to lean on */
	FILES_MUST(path != NULL);
	memcpy(path, data, size);
	if (beneath_stat(rootfd, path, size, &info) == 0)
		must_be_inside(&info);
	check_descriptor(beneath_open_directory(rootfd, path, size, O_PATH), S_IFDIR);
	check_descriptor(beneath_open_directory(rootfd, path, size, O_RDONLY | O_NOATIME), S_IFDIR);
	check_descriptor(beneath_open_file(rootfd, path, size, &info), S_IFREG);
	free(path);
	return 0;
}
