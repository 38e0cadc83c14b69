/*-------------------------------------------------------------------------
 *
 * identity.c
 *		Words that tell one file system, directory or mount from another.
 *
 * An identity is a row of "key:value" words, "-" for a value that the kernel
 * does not know.  Identities are kept in the database for years and compared
 * across reboots, so what is not stable stays out of them: device numbers,
 * mount ids, and the names of disks where anything better is known.
 *
 *		type	of the file system
 *		uuid	of the file system, from Linux 6.9
 *		fsid	f_fsid: on ext4 and btrfs made of the UUID, on XFS and FAT of
 *				the device number, nothing on NFS and FUSE
 *		inode, birth	of the directory
 *		source, root	of a mount, as mountinfo has them
 *
 * Comparing takes the best witness that both sides have (see identity_same):
 * a new kernel that begins to tell the UUID does not make a disk another one.
 * On btrfs the fsid says more than the UUID, which all subvolumes and
 * snapshots share, so the UUID is left out there.
 *
 *-------------------------------------------------------------------------
 */
#include "identity.h"

#include "beneath.h"
#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BTRFS_MAGIC		0x9123683EUL

/* Headers older than Linux 6.9 lack this ioctl. */
#ifdef FS_IOC_GETFSUUID
typedef struct fsuuid2 FsUuid;
#else
typedef struct FsUuid
{
	uint8_t		len;
	uint8_t		uuid[16];
} FsUuid;

#define FS_IOC_GETFSUUID	_IOR(0x15, 0, FsUuid)
#endif

const unsigned long identity_uuid_call = FS_IOC_GETFSUUID;

/*
 * Writes the file system's UUID as hex digits, or "-"; one of zeros only was
 * never set and says nothing.  An O_PATH descriptor takes no ioctl, so the directory is opened again, through /proc because its
 * name may belong to another one by now.  0, or -1 with errno where it might be
 * known if the process did not lack anything.
 */
static int
read_uuid(int fd, char out[33])
{
	char		path[40];
	FsUuid		id;
	uint8_t		any = 0;
	int			readable;

	strcpy(out, "-");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

	/* O_DIRECTORY: opening a device or a FIFO would do something to it. */
	readable = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	if (readable < 0)
		return shortage_is(errno) ? -1 : 0;
	memset(&id, 0, sizeof(id));
	if (ioctl(readable, FS_IOC_GETFSUUID, &id) == 0 &&
		id.len > 0 && id.len <= sizeof(id.uuid))
	{
		for (int i = 0; i < id.len; i++)
		{
			sprintf(out + 2 * i, "%02x", id.uuid[i]);
			any |= id.uuid[i];
		}
		if (any == 0)
			strcpy(out, "-");
	}
	close(readable);
	return 0;
}

int
identity_fs(int fd, unsigned long *type, char uuid[33], char fsid[17])
{
	struct statfs fs;
	uint32_t	word[2];

	if (fstatfs(fd, &fs) < 0)
		return -1;
	*type = (unsigned long) fs.f_type & 0xFFFFFFFFUL;

	/* Its members have different names in different C libraries. */
	memcpy(word, &fs.f_fsid, sizeof(word));
	if (word[0] == 0 && word[1] == 0)
		strcpy(fsid, "-");
	else
		sprintf(fsid, "%08x%08x", word[0], word[1]);

	if (*type == BTRFS_MAGIC)
	{
		strcpy(uuid, "-");
		return 0;
	}
	return read_uuid(fd, uuid);
}

int
identity_of(int dirfd, char out[IDENTITY_MAX])
{
	struct statx st;
	unsigned long type;
	char		uuid[33];
	char		fsid[17];
	char		birth[40] = "-";

	if (statx(dirfd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0 ||
		identity_fs(dirfd, &type, uuid, fsid) < 0)
		return -1;
	if (st.stx_mask & STATX_BTIME)
		snprintf(birth, sizeof(birth), "%lld.%09u",
				 (long long) st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
	snprintf(out, IDENTITY_MAX, "type:%lx uuid:%s fsid:%s inode:%llu birth:%s",
			 type, uuid, fsid, (unsigned long long) st.stx_ino, birth);
	return 0;
}

int
identity_open_root(const char *root, char out[IDENTITY_MAX])
{
	int			fd = beneath_open_root(root);

	if (fd >= 0 && identity_of(fd, out) < 0)
	{
		int			saved = errno;

		close(fd);
		errno = saved;
		fd = -1;
	}
	return fd;
}

/* ---------------------------------------------------------------------
 * Comparing
 * ---------------------------------------------------------------------
 */

/* The value of a key; false where it is missing or not known. */
static bool
find_value(ProtoStr identity, const char *key, ProtoStr *value)
{
	const char *p = identity.data;
	const char *end = p + identity.len;
	size_t		key_len = strlen(key);

	while (p < end)
	{
		const char *space = memchr(p, ' ', (size_t) (end - p));
		const char *stop = space != NULL ? space : end;
		size_t		len = (size_t) (stop - p);

		if (len > key_len && memcmp(p, key, key_len) == 0 && p[key_len] == ':')
		{
			value->data = p + key_len + 1;
			value->len = (uint32_t) (len - key_len - 1);
			return !(value->len == 1 && value->data[0] == '-');
		}
		p = space != NULL ? space + 1 : end;
	}
	return false;
}

/* -1: one of the two does not know; 0: different; 1: equal. */
static int
compare_value(ProtoStr a, ProtoStr b, const char *key)
{
	ProtoStr	x;
	ProtoStr	y;

	if (!find_value(a, key, &x) || !find_value(b, key, &y))
		return -1;
	return x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
}

bool
identity_same(ProtoStr a, ProtoStr b)
{
	/* From the best witness of a file system to the worst. */
	static const char *const witnesses[] = {"uuid", "fsid", "source"};

	/* What must not contradict, once that has been heard. */
	static const char *const others[] = {"type", "inode", "birth", "root"};
	int			heard = -1;

	if (a.len == 0 || b.len == 0)
		return false;
	if (a.len == b.len && memcmp(a.data, b.data, a.len) == 0)
		return true;
	for (size_t i = 0; i < 3 && heard < 0; i++)
		heard = compare_value(a, b, witnesses[i]);

	/*
	 * Where one side has a witness and the other none at all, something else
	 * is mounted.  So it is where neither has and nothing else agrees.
	 */
	if (heard < 0)
	{
		ProtoStr	ignored;

		for (size_t i = 0; i < 3; i++)
		{
			if (find_value(a, witnesses[i], &ignored) ||
				find_value(b, witnesses[i], &ignored))
				return false;
		}
		heard = compare_value(a, b, "type") == 1 &&
			compare_value(a, b, "inode") == 1;
	}
	if (heard == 0)
		return false;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		if (compare_value(a, b, others[i]) == 0)
			return false;
	}
	return true;
}

/* ---------------------------------------------------------------------
 * Types that do not report what others change
 * ---------------------------------------------------------------------
 */

bool
identity_polled_type(long f_type)
{
	switch ((unsigned long) f_type & 0xFFFFFFFFUL)
	{
		case 0x00006969UL:		/* NFS */
		case 0x0000517BUL:		/* smbfs */
		case 0xFF534D42UL:		/* CIFS */
		case 0xFE534D42UL:		/* SMB 2 and later */
		case 0x65735546UL:		/* FUSE, virtiofs */
		case 0x01021997UL:		/* 9p */
		case 0x00C36400UL:		/* Ceph */
		case 0x794C7630UL:		/* overlayfs: its layers can be written */
		case 0x61756673UL:		/* aufs: the same */
		case 0x0000F15FUL:		/* eCryptfs: the same */
		case 0x5346414FUL:		/* AFS, the kernel's */
		case 0x6B414653UL:		/* the same, older */
		case 0x73757245UL:		/* Coda */
		case 0x0000564CUL:		/* NCP */
		case 0x01161970UL:		/* GFS2 */
		case 0x7461636FUL:		/* OCFS2 */
		case 0x0BD00BD0UL:		/* Lustre */
		case 0x47504653UL:		/* GPFS */
		case 0x19830326UL:		/* BeeGFS */
		case 0x20030528UL:		/* OrangeFS */
		case 0x786F4256UL:		/* VirtualBox shared folders */
			return true;
		default:
			return false;
	}
}

/*
 * By the name in mountinfo.  "fuseblk" is not among them, though statfs cannot
 * tell it from FUSE: it is a local disk (ntfs-3g) and all its changes come
 * through this kernel, which reports them.
 */
bool
identity_polled_name(const char *name, size_t len)
{
	static const char *const names[] = {
		"nfs", "nfs4", "smbfs", "cifs", "smb3", "fuse", "virtiofs", "9p",
		"ceph", "overlay", "overlayfs", "aufs", "ecryptfs", "afs", "coda",
		"ncpfs", "gfs2", "ocfs2", "lustre", "gpfs", "beegfs", "pvfs2",
		"vboxsf",
	};

	if (len > 5 && memcmp(name, "fuse.", 5) == 0)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strlen(names[i]) == len && memcmp(name, names[i], len) == 0)
			return true;
	}
	return false;
}

bool
identity_counts_directories(long f_type)
{
	switch ((unsigned long) f_type & 0xFFFFFFFFUL)
	{
		case 0x0000EF53UL:		/* ext2, ext3, ext4; one link: too many for it */
		case 0x58465342UL:		/* XFS */
		case 0x01021994UL:		/* tmpfs */
			return true;
		default:
			return false;
	}
}
