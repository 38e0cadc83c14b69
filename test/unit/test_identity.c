/*-------------------------------------------------------------------------
 *
 * test_identity.c
 *		Identities of directories, and mounts out of mountinfo.
 *
 * What goes wrong when this fails: the files of a disk that is not mounted are
 * taken for deleted, or a disk that came back is taken for another.
 *
 *-------------------------------------------------------------------------
 */
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

static bool
same(const char *a, const char *b)
{
	ProtoStr	x = {a, (uint32_t) strlen(a)};
	ProtoStr	y = {b, (uint32_t) strlen(b)};
	bool		result = identity_same(x, y);

	if (result != identity_same(y, x))
	{
		CHECK(false, "comparing is the same in both directions");
		return !result;
	}
	return result;
}

static void
test_same(void)
{
	CHECK(same("type:1 uuid:a fsid:b inode:2 birth:3", "type:1 uuid:a fsid:b inode:2 birth:3"),
		  "equal identities are the same");
	CHECK(!same("type:1 uuid:a fsid:b inode:2 birth:3", "type:1 uuid:x fsid:b inode:2 birth:3"),
		  "another UUID is another disk");
	CHECK(same("type:1 uuid:a fsid:b inode:2 birth:3", "type:1 uuid:a fsid:x inode:2 birth:3"),
		  "the fsid does not count against the UUID (XFS: a device number)");
	CHECK(same("type:1 uuid:- fsid:b inode:2 birth:3", "type:1 uuid:a fsid:b inode:2 birth:3"),
		  "a kernel that begins to tell the UUID changes nothing");
	CHECK(!same("type:1 uuid:- fsid:b inode:2 birth:3", "type:1 uuid:a fsid:c inode:2 birth:3"),
		  "but then the fsid counts");
	CHECK(!same("type:1 uuid:a fsid:b inode:2 birth:3", "type:1 uuid:a fsid:b inode:4 birth:3"),
		  "another inode is another directory");
	CHECK(!same("type:1 uuid:a fsid:b inode:2 birth:3", "type:1 uuid:a fsid:b inode:2 birth:5"),
		  "so is another birth");
	CHECK(same("type:1 uuid:a fsid:b inode:2 birth:-", "type:1 uuid:a fsid:b inode:2 birth:5"),
		  "an unknown birth is not held against it");
	CHECK(same("type:6969 uuid:- fsid:- inode:2 birth:-", "type:6969 uuid:- fsid:- inode:2 birth:1"),
		  "NFS has type and inode only");
	CHECK(!same("type:6969 uuid:- fsid:- inode:2 birth:-", "type:ef53 uuid:- fsid:b inode:2 birth:-"),
		  "a disk's empty mount point is not the NFS that was on it");
	CHECK(!same("", ""), "nothing is the same as nothing");
	CHECK(!same("uuid:-", "fsid:-"), "the unknown is not the same as the unknown");
	CHECK(!same("garbage", "type:1 inode:2"), "garbage is the same as nothing");
	CHECK(!same("type:ext4 source:/dev/sdb1 root:/", "type:ext4 uuid:a fsid:b root:/"),
		  "a source does not prove a UUID");
	CHECK(!same("type:nfs4 source:h:/a root:/", "type:nfs4 source:h:/b root:/"), "sources differ");
	CHECK(!same("type:ext4 uuid:a fsid:b root:/", "type:ext4 uuid:a fsid:b root:/x"), "roots differ");
}

static void
test_directories(void)
{
	char		top[] = "/tmp/fsync-identity-XXXXXX";
	char		path[128];
	char		first[IDENTITY_MAX];
	char		second[IDENTITY_MAX];
	int			fd;

	if (mkdtemp(top) == NULL)
	{
		CHECK(false, "mkdtemp");
		return;
	}
	snprintf(path, sizeof(path), "%s/a", top);
	mkdir(path, 0700);
	fd = identity_open_root(path, first);
	CHECK(fd >= 0, "a directory has an identity");
	printf("# %s\n", first);
	CHECK(strstr(first, "uuid:00000000000000000000000000000000") == NULL,
		  "a UUID that was never set is not a UUID");
	CHECK(identity_of(fd, second) == 0 && strcmp(first, second) == 0, "which stays");
	CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "its descriptor is not inherited");
	close(fd);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	CHECK(identity_of(fd, second) == 0 && strcmp(first, second) == 0,
		  "it does not depend on how the directory was opened");
	close(fd);

	/* Kept open under another name: the new one cannot get its inode. */
	snprintf(second, sizeof(second), "%s/b", top);
	rename(path, second);
	mkdir(path, 0700);
	fd = identity_open_root(path, second);
	CHECK(fd >= 0 && !same(first, second), "another directory at the path has another");
	close(fd);
	snprintf(path, sizeof(path), "%s/link", top);
	if (symlink("b", path) == 0)
	{
		fd = identity_open_root(path, second);
		CHECK(fd < 0 && (errno == ELOOP || errno == ENOTDIR), "a link is not followed");
	}
	snprintf(path, sizeof(path), "%s/file", top);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	CHECK(identity_open_root(path, second) == -1 && errno == ENOTDIR, "a file is no root");
	snprintf(path, sizeof(path), "%s/none", top);
	CHECK(identity_open_root(path, second) == -1 && errno == ENOENT, "nothing is no root");
	CHECK(identity_of(-1, second) == -1, "a bad descriptor has no identity");
	snprintf(path, sizeof(path), "rm -rf '%s'", top);
	CHECK_EQ_INT(system(path), 0, "cleaned up");
}

static const char mountinfo[] =
"22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"
"30 22 0:25 / /srv rw,relatime shared:5 master:2 - ext4 /dev/mapper/vg-srv rw\n"
"31 30 0:30 / /srv/photos/nas rw - nfs4 host:/export/a\\040b rw,vers=4.2\n"
"32 30 0:31 / /srv/photos/with\\040space\\011tab\\134back rw - tmpfs tmpfs rw\n"
"33 30 0:32 /@home /srv/photos/b rw propagate_from:3 unbindable - btrfs /dev/sdb1 rw\n"
"34 30 0:33 / /srv/photosother rw - tmpfs tmpfs rw\n"
"35 30 0:34 / /srv/photos/a rw - tmpfs none rw\n"
"36 35 0:35 / /srv/photos/a rw - fuse.sshfs me@host: rw\n"
"37 30 0:36 / /srv/photos/a/deep rw - tmpfs  rw\n";

static int
parse(const char *text, const char *root, MountSet *set)
{
	return mounts_parse(text, strlen(text), root, set);
}

/* Parses and tells whether the outcome is one mount of this source. */
static bool
top_is(const char *text, const char *identity)
{
	MountSet	set;
	bool		result = parse(text, "/r", &set) == 0 && set.count == 1 &&
		strcmp(set.mounts[0].identity, identity) == 0;

	mounts_free(&set);
	return result;
}

static void
test_parse(void)
{
	static const char *const expected[] = {
		"a", "a/deep", "b", "nas", "with space\ttab\\back",
	};
	static const char *const bad[] = {
		"garbage\n", "1 2 3 4\n", "1 2 8:1 / /r/a rw\n", "1 2 8:1 / /r/a rw - ext4\n",
		"x 2 8:1 / /r/a rw - ext4 s rw\n", "1 2 8:1 / r/a rw - ext4 s rw\n", "\n",
		"1 2 8:1 / /r/a rw shared:1 ext4 s rw\n", "1 2 8:1 / /r/a\\000b rw - ext4 s rw\n",
	};
	MountSet	set;
	char		line[1000];

	CHECK_EQ_INT(parse(mountinfo, "/srv/photos", &set), 0, "mountinfo parses");
	CHECK_EQ_INT((long long) set.count, 5, "mounts below the root are found, and no others");
	for (size_t i = 0; i < 5 && i < set.count; i++)
		CHECK_EQ_STR(set.mounts[i].path, expected[i], "in order, with escapes decoded");
	CHECK(!set.root_polled, "the root is on ext4");
	CHECK_EQ_STR(set.mounts[0].identity, "type:fuse.sshfs source:me@host: root:/",
				 "of two at one path the topmost counts");
	CHECK(set.mounts[0].polled && !set.mounts[2].polled && set.mounts[3].polled,
		  "FUSE and NFS are polled, btrfs is not");
	CHECK_EQ_STR(set.mounts[2].identity, "type:btrfs source:/dev/sdb1 root:/@home",
				 "optional fields are passed over");
	mounts_free(&set);

	CHECK(parse(mountinfo, "/srv/photos/", &set) == 0 && set.count == 5,
		  "a slash at the root's end does not matter");
	mounts_free(&set);
	CHECK(parse(mountinfo, "/", &set) == 0 && set.count == 7 &&
		  strcmp(set.mounts[0].path, "srv") == 0, "the root can be the root of all");
	mounts_free(&set);
	CHECK(parse(mountinfo, "/srv/photos/nas/x", &set) == 0 && set.count == 0 && set.root_polled,
		  "a root inside NFS is polled");
	mounts_free(&set);
	CHECK(parse(mountinfo, "/srv/photos/nas", &set) == 0 && set.root_polled,
		  "a root that is the mount is, too");
	mounts_free(&set);
	CHECK(parse(mountinfo, "/srv/photos/a", &set) == 0 && set.root_polled && set.count == 1,
		  "so is one whose topmost mount is FUSE");
	mounts_free(&set);
	CHECK(parse("2 1 8:1 / /r rw - nfs s rw\n1 9 8:1 / /r rw - ext4 s rw\n", "/r", &set) == 0 &&
		  set.root_polled, "also where the one below comes later in the file");
	mounts_free(&set);
	CHECK(parse(mountinfo, "/srv/phot", &set) == 0 && set.count == 0,
		  "a name that only begins alike is not below");
	mounts_free(&set);

	CHECK(top_is("2 9 8:1 / /r/a rw - t two rw\n1 2 8:1 / /r/a rw - t one rw\n",
				 "type:t source:one root:/"), "the last of two is on top");
	CHECK(top_is("1 2 8:1 / /r/a rw - t one rw\n2 9 8:1 / /r/a rw - t two rw\n",
				 "type:t source:one root:/"), "unless the other is mounted on it");
	CHECK(top_is("3 2 8:1 / /r/a rw - t three rw\n1 9 8:1 / /r/a rw - t one rw\n"
				 "2 1 8:1 / /r/a rw - t two rw\n", "type:t source:three root:/"),
		  "in a pile of three, too");

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(parse(bad[i], "/r", &set) == -1 && errno == EINVAL && set.count == 0,
			  "bad line %zu fails the reading", i);

	snprintf(line, sizeof(line), "1 2 8:1 /%0300d /r/a rw - fuse.%0100d h%0300d rw\n", 1, 2, 3);
	CHECK(parse(line, "/r", &set) == 0 && set.count == 1, "long fields parse");
	CHECK(strlen(set.mounts[0].identity) < IDENTITY_MAX - 1, "their identity is not cut");
	mounts_free(&set);
}

static void
test_diff(void)
{
	MountSet	before;
	MountSet	after;
	const Mount *out[2];

	parse(mountinfo, "/srv/photos", &before);
	parse(mountinfo, "/srv/photos", &after);
	CHECK_EQ_INT((long long) mounts_diff(&before, &after, out, 2), 0, "nothing differs from itself");
	mounts_free(&after);

	parse("31 30 0:99 / /srv/photos/nas rw - nfs4 host:/export/a\\040b rw\n"
		  "33 30 0:98 /@home /srv/photos/b rw - btrfs /dev/sdc1 rw\n"
		  "35 30 0:34 / /srv/photos/c rw - tmpfs none rw\n", "/srv/photos", &after);
	CHECK_EQ_INT((long long) mounts_diff(&before, &after, out, 2), 5,
				 "vanished, changed and new mounts are counted");
	CHECK_EQ_STR(out[0]->path, "a", "the first is one that vanished");
	CHECK_EQ_STR(out[1]->path, "a/deep", "no more are written than there is room for");
	mounts_free(&before);
	CHECK(mounts_diff(&before, &after, out, 2) == 3 && out[0] == &after.mounts[0],
		  "all that is there is new to an empty set");
	mounts_free(&after);

	/* Two long sources that differ at their ends only. */
	{
		char		x[600];
		char		y[600];

		snprintf(x, sizeof(x), "1 2 8:1 / /r/a rw - nfs %0300dxy rw\n", 1);
		snprintf(y, sizeof(y), "1 2 8:1 / /r/a rw - nfs %0300dyx rw\n", 1);
		parse(x, "/r", &before);
		parse(y, "/r", &after);
		CHECK(mounts_diff(&before, &after, out, 2) == 1, "long sources are compared to their ends");
		mounts_free(&before);
		mounts_free(&after);
	}
}

static void
test_list(void)
{
	MountSet	set;
	MountSet	back;
	ProtoBuf	buf;
	ProtoStr	list;
	const Mount *out[1];
	size_t		short_accepted = 0;
	bool		equal;
	static const char *const bad[] = {
		"no tab", "\tidentity", "path\t", "a\\x\tt", "a\\\tt",
	};

	parse("1 2 8:1 / /r/new\\012line\\134n\\011tab rw - nfs s rw\n"
		  "2 2 8:1 / /r/b rw - ext4 s rw\n", "/r", &set);
	proto_buf_init(&buf);
	mounts_encode(&set, &buf);
	list.data = buf.data + buf.start;
	list.len = (uint32_t) proto_buf_pending(&buf);
	CHECK(memchr(list.data, '\n', list.len) == NULL, "no newline in the list");
	CHECK_EQ_INT(mounts_decode(list, &back), 0, "a list decodes");
	equal = back.count == 2 && mounts_diff(&set, &back, out, 1) == 0;
	for (size_t i = 0; equal && i < 2; i++)
		equal = strcmp(back.mounts[i].identity, set.mounts[i].identity) == 0 &&
			back.mounts[i].polled == set.mounts[i].polled;
	CHECK(equal, "to what was encoded");
	mounts_free(&back);
	for (uint32_t cut = 1; cut < list.len; cut++)
	{
		ProtoStr	part = {list.data, cut};

		if (mounts_decode(part, &back) == 0)
		{
			short_accepted += back.count != 1;
			mounts_free(&back);
		}
	}
	CHECK_EQ_INT((long long) short_accepted, 0, "a cut list is refused or ends between elements");
	proto_buf_free(&buf);
	mounts_free(&set);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		proto_put_str(&buf, bad[i], strlen(bad[i]));
		list.data = buf.data;
		list.len = (uint32_t) buf.len;
		CHECK(mounts_decode(list, &back) == -1 && errno == EINVAL, "bad element %zu is refused", i);
		proto_buf_free(&buf);
	}
	list.len = 0;
	CHECK(mounts_decode(list, &back) == 0 && back.count == 0, "an empty list is an empty set");
	mounts_free(&back);
}

static void
test_polled(void)
{
	CHECK(identity_polled_type(0x6969) && identity_polled_type((long) 0xFF534D42UL) &&
		  identity_polled_type((long) (int) 0xFF534D42U) && identity_polled_type(0x794c7630),
		  "NFS, CIFS (also with a sign) and overlay are polled");
	CHECK(!identity_polled_type(0xEF53) && !identity_polled_type(0x58465342) &&
		  !identity_polled_type(0x01021994), "ext4, XFS and tmpfs are not");
	CHECK(identity_counts_directories(0xEF53) && identity_counts_directories(0x58465342) &&
		  identity_counts_directories(0x01021994), "ext4, XFS and tmpfs count directories");
	CHECK(!identity_counts_directories((long) 0x9123683EUL) &&
		  !identity_counts_directories((long) (int) 0x9123683EU) &&
		  !identity_counts_directories(0x794c7630) && !identity_counts_directories(0x65735546),
		  "btrfs, overlayfs and FUSE do not");
	CHECK(identity_polled_name("fuse.sshfs", 10) && !identity_polled_name("fuseblk", 7) &&
		  !identity_polled_name("fuse.", 5), "FUSE by name, but not its local disks");
}

/* A real mount, where the user may make one. */
static void
test_real(void)
{
	char		top[] = "/tmp/fsync-mounts-XXXXXX";
	char		path[128];
	int			fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	MountSet	set;
	MountSet	none;
	const Mount *out[4];

	CHECK(mounts_read(fd, "/", &set) == 0 && set.count > 0, "this system's mounts can be read");
	for (size_t i = 0; i < set.count; i++)
		printf("# %s: %s%s\n", set.mounts[i].path, set.mounts[i].identity,
			   set.mounts[i].polled ? " (polled)" : "");
	CHECK(mounts_read(fd, "/", &none) == 0 && mounts_diff(&set, &none, out, 4) == 0,
		  "and again, from the beginning");
	mounts_free(&set);
	mounts_free(&none);
	CHECK(mounts_read(-1, "/", &set) == -1 && set.count == 0, "a bad descriptor is an error");

	if (mkdtemp(top) == NULL)
		return;
	snprintf(path, sizeof(path), "%s/a b", top);
	mkdir(path, 0700);
	mounts_read(fd, top, &none);
	if (mount("tmpfs", path, "tmpfs", 0, NULL) == 0)
	{
		CHECK(mounts_read(fd, top, &set) == 0 && set.count == 1 &&
			  strcmp(set.mounts[0].path, "a b") == 0, "a new mount is seen");
		CHECK(mounts_diff(&none, &set, out, 4) == 1, "as a difference");
		umount(path);
		mounts_free(&set);
		CHECK(mounts_read(fd, top, &set) == 0 && set.count == 0, "and its end, too");
		mounts_free(&set);
	}
	else
		SKIP("a new mount is seen", "mounting is not permitted");

	/* On a disk, a mounted directory of the same file system. */
	if (mount(top, path, NULL, MS_BIND, NULL) == 0)
	{
		CHECK(mounts_read(fd, top, &set) == 0 && set.count == 1 &&
			  strstr(set.mounts[0].identity, "source:/") == NULL,
			  "a disk is not known by the name of its device");
		printf("# %s\n", set.mounts[0].identity);
		umount(path);
		mounts_free(&set);
	}
	else
		SKIP("a disk is not known by the name of its device", "mounting is not permitted");
	mounts_free(&none);
	close(fd);
	rmdir(path);
	rmdir(top);
}

int
main(void)
{
	test_same();
	test_directories();
	test_parse();
	test_diff();
	test_list();
	test_polled();
	test_real();
	return unit_done();
}
