/*-------------------------------------------------------------------------
 *
 * test_root_path.c
 *		Whether the registered path still leads to the registered directory.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "root_path.h"

static char *base;

static ProtoStr
str(const char *s)
{
	return (ProtoStr) {s, strlen(s)};
}

static char *
path_of(const char *name)
{
	char	   *path;

	FILES_MUST(asprintf(&path, "%s/%s", base, name) > 0);
	return path;
}

static void
move(const char *from, const char *to)
{
	char	   *a = path_of(from);
	char	   *b = path_of(to);

	FILES_MUST(rename(a, b) == 0);
	free(a);
	free(b);
}

static void
make(const char *name)
{
	char	   *path = path_of(name);

	FILES_MUST(mkdir(path, 0755) == 0);
	free(path);
}

static void
point(const char *name, const char *to)
{
	char	   *path = path_of(name);

	FILES_MUST(unlink(path) == 0 || errno == ENOENT);
	FILES_MUST(to == NULL || symlink(to, path) == 0);
	free(path);
}

/* Opened as the engine does. */
static void
begin(RootPath *path, const char *root, const char *given)
{
	char	   *root_path = path_of(root);
	char	   *given_path = given != NULL ? path_of(given) : strdup("");
	int			fd = open(root_path, O_PATH | O_DIRECTORY);

	FILES_MUST(fd >= 0 && given_path != NULL);
	FILES_MUST(root_path_init(path, str(root_path), str(given_path)) == 0);
	root_path_note(path, fd);
	(void) root_path_follow(path);
	close(fd);
	free(root_path);
	free(given_path);
}

static void
test_root(void)
{
	RootPath	path;

	begin(&path, "a/b/c", NULL);
	HOLDS(root_path_leads_there(&path));
	HOLDS(!path.astray);

	move("a", "old");
	HOLDS(!root_path_leads_there(&path));
	move("next", "a");			/* with b/c in it */
	HOLDS(!root_path_leads_there(&path));
	move("a", "next");
	move("old", "a");
	HOLDS(root_path_leads_there(&path));

	move("a/b/c", "a/b/d");
	HOLDS(!root_path_leads_there(&path));
	make("a/b/c");
	HOLDS(!root_path_leads_there(&path));

	/* a link to the right one in its place is another thing */
	FILES_MUST(rmdir(path.root) == 0);
	point("a/b/c", "d");
	HOLDS(!root_path_leads_there(&path));
	point("a/b/c", NULL);
	move("a/b/d", "a/b/c");
	HOLDS(root_path_leads_there(&path));
	root_path_free(&path);

	/* nothing was noted: then nothing is vouched for */
	FILES_MUST(root_path_init(&path, str(base), str("")) == 0);
	HOLDS(!root_path_leads_there(&path));
	root_path_free(&path);
}

static void
test_given(void)
{
	RootPath	path;

	point("link", "a");
	begin(&path, "a/b/c", "link/b/c");
	HOLDS(!path.astray);
	HOLDS(!root_path_follow(&path));	/* no change */

	point("link", "next");
	HOLDS(root_path_leads_there(&path));
	HOLDS(root_path_follow(&path));
	HOLDS(path.astray);
	HOLDS(strstr(path.reason, "link/b/c") != NULL && strstr(path.reason, "a/b/c") != NULL);
	HOLDS(strstr(path.reason, "next") == NULL);
	HOLDS(!root_path_follow(&path));

	point("link", NULL);
	HOLDS(!root_path_follow(&path));
	HOLDS(path.astray);
	point("link", "link");		/* to itself */
	(void) root_path_follow(&path);
	HOLDS(path.astray);
	point("link", "./a/../a");
	HOLDS(root_path_follow(&path));
	HOLDS(!path.astray);
	root_path_free(&path);

	/* the same words: one look is enough */
	begin(&path, "a/b/c", "a/b/c");
	HOLDS(path.given == NULL);
	HOLDS(!root_path_follow(&path));
	root_path_free(&path);
}

int
main(void)
{
	base = files_temp_dir();
	make("a");
	make("a/b");
	make("a/b/c");
	make("next");
	make("next/b");
	make("next/b/c");

	test_root();
	test_given();

	files_remove_tree(base);
	free(base);
	return unit_done();
}
