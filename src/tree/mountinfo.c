/*-------------------------------------------------------------------------
 *
 * mountinfo.c
 *		The mounts below the root, out of /proc/self/mountinfo.
 *
 * What identifies a mount.  Its id and device number change with every boot.
 * Its source is a good name for a network file system ("host:/export") and for
 * a mapped device, but "/dev/sdb1" is whichever disk was found second: another
 * disk in its place would pass for the accepted one, and the files of the
 * accepted one would be taken for deleted.  So mounts_read() asks the file
 * system of each local disk for its UUID or fsid and puts that in the place of
 * the source.  It never touches a mount of a polled type, nor what is mounted
 * below one: those can hang.
 *
 *-------------------------------------------------------------------------
 */
#include "grow.h"
#include "identity.h"
#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The longest value in a mount's identity; a longer one becomes a digest. */
#define VALUE_MAX		36

/* More than any system has, less than what would hurt. */
#define MOUNTINFO_MAX	(64 * 1024 * 1024)

/* One line of mountinfo that concerns the root. */
typedef struct Entry
{
	uint64_t	id;
	uint64_t	parent;
	Mount		mount;
	char		type[VALUE_MAX + 1];
	char		root[VALUE_MAX + 1];
	bool		disk;			/* of a local device: has a UUID to ask for */
	size_t		line;
} Entry;

typedef struct EntryList
{
	Entry	   *entries;
	size_t		count;
	size_t		cap;
	size_t		cover_len;		/* the mount that holds the root: the length */
	uint64_t	cover_parent;	/* of its path, the id of the one below it */
	bool		cover_polled;	/* and its nature */
} EntryList;

/* ---------------------------------------------------------------------
 * Parsing
 * ---------------------------------------------------------------------
 */

/* The next field; they are separated by one space each and may be empty. */
static bool
next_field(ProtoStr *line, ProtoStr *field)
{
	const char *space;

	if (line->data == NULL)
		return false;
	space = memchr(line->data, ' ', line->len);
	*field = *line;
	if (space == NULL)
	{
		line->data = NULL;
		line->len = 0;
		return true;
	}
	field->len = (uint32_t) (space - line->data);
	line->data = space + 1;
	line->len -= field->len + 1;
	return true;
}

static bool
parse_number(ProtoStr field, uint64_t *number)
{
	*number = 0;
	if (field.len == 0 || field.len > 18)
		return false;
	for (uint32_t i = 0; i < field.len; i++)
	{
		if (field.data[i] < '0' || field.data[i] > '9')
			return false;
		*number = *number * 10 + (uint64_t) (field.data[i] - '0');
	}
	return true;
}

static bool
is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Decodes "\040" and the like into out, which has room for field.len bytes. */
static size_t
decode_octal(ProtoStr field, char *out)
{
	const char *p = field.data;
	const char *end = p + field.len;
	size_t		len = 0;

	while (p < end)
	{
		if (end - p >= 4 && p[0] == '\\' && p[1] >= '0' && p[1] <= '3' &&
			is_octal(p[2]) && is_octal(p[3]))
		{
			out[len++] = (char) ((p[1] - '0') * 64 + (p[2] - '0') * 8 +
								 (p[3] - '0'));
			p += 4;
		}
		else
			out[len++] = *p++;
	}
	return len;
}

/*
 * Copies a value of an identity.  One that is too long keeps its beginning,
 * for people, and gets a 64-bit FNV-1a digest of the whole.
 */
static void
copy_value(char out[VALUE_MAX + 1], ProtoStr value)
{
	uint64_t	digest = UINT64_C(0xcbf29ce484222325);

	if (value.len <= VALUE_MAX)
	{
		memcpy(out, value.data, value.len);
		out[value.len] = '\0';
		return;
	}
	for (uint32_t i = 0; i < value.len; i++)
	{
		digest ^= (unsigned char) value.data[i];
		digest *= UINT64_C(0x100000001b3);
	}
	memcpy(out, value.data, VALUE_MAX - 17);
	sprintf(out + VALUE_MAX - 17, "#%016llx", (unsigned long long) digest);
}

/* A path and what is below it, "/" being above everything. */
static bool
is_at_or_below(const char *path, size_t len, const char *above, size_t above_len)
{
	if (above_len == 1 && above[0] == '/')
		return true;
	return len >= above_len && memcmp(path, above, above_len) == 0 &&
		(len == above_len || path[above_len] == '/');
}

static Entry *
add_entry(EntryList *list)
{
	Entry	   *entries = grow(list->entries, &list->cap, list->count + 1, sizeof(Entry));

	if (entries == NULL)
		return NULL;
	list->entries = entries;
	memset(&list->entries[list->count], 0, sizeof(Entry));
	return &list->entries[list->count++];
}

static void
free_entries(EntryList *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->entries[i].mount.path);
	free(list->entries);
	memset(list, 0, sizeof(*list));
}

/*
 * Reads one line into the list if it concerns the root.  A line that is not
 * understood fails the whole reading: half a list of mounts would show the
 * others as vanished.
 */
static int
parse_line(EntryList *list, ProtoStr line, const char *root, size_t root_len,
		   char *path)
{
	ProtoStr	field[6];		/* id, parent, device, root, path, options */
	ProtoStr	type;
	ProtoStr	source;
	ProtoStr	optional;
	uint64_t	id;
	uint64_t	parent;
	size_t		len;
	char		source_value[VALUE_MAX + 1];
	Entry	   *entry;

	errno = EINVAL;
	for (int i = 0; i < 6; i++)
	{
		if (!next_field(&line, &field[i]))
			return -1;
	}
	do
	{
		if (!next_field(&line, &optional))
			return -1;
	} while (optional.len != 1 || optional.data[0] != '-');
	if (!next_field(&line, &type) || !next_field(&line, &source) ||
		!parse_number(field[0], &id) || !parse_number(field[1], &parent) ||
		field[4].len == 0 || field[4].data[0] != '/')
		return -1;

	len = decode_octal(field[4], path);
	if (memchr(path, '\0', len) != NULL)
		return -1;
	if (is_at_or_below(root, root_len, path, len))
	{
		/* Of two at one path, the one whose parent is the other is on top. */
		if (len > list->cover_len ||
			(len == list->cover_len && list->cover_parent != id))
		{
			list->cover_len = len;
			list->cover_parent = parent;
			list->cover_polled = identity_polled_name(type.data, type.len);
		}
		return 0;
	}
	if (!is_at_or_below(path, len, root, root_len))
		return 0;

	entry = add_entry(list);
	if (entry == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	entry->id = id;
	entry->parent = parent;
	entry->line = list->count;

	/* The root's slash, too, but where the root is only that. */
	if (root_len > 1)
		root_len++;
	entry->mount.len = len - root_len;
	entry->mount.path = malloc(entry->mount.len + 1);
	if (entry->mount.path == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	memcpy(entry->mount.path, path + root_len, entry->mount.len);
	entry->mount.path[entry->mount.len] = '\0';
	entry->mount.polled = identity_polled_name(type.data, type.len);
	entry->disk = !entry->mount.polled && source.len > 0 && source.data[0] == '/';

	copy_value(entry->type, type);
	copy_value(entry->root, field[3]);
	copy_value(source_value, source);
	snprintf(entry->mount.identity, IDENTITY_MAX, "type:%s source:%s root:%s",
			 entry->type, source_value, entry->root);
	return 0;
}

static int
compare_entries(const void *x, const void *y)
{
	const Entry *a = x;
	const Entry *b = y;
	int			c = mounts_compare(&a->mount, &b->mount);

	return c != 0 ? c : (a->line > b->line) - (a->line < b->line);
}

/*
 * Sorts the entries and keeps the topmost of each path: the last one on which
 * no other of them is mounted.  The order of the file alone does not say it,
 * as a mount that was moved keeps its place in the file.
 */
static void
keep_topmost(EntryList *list)
{
	Entry	   *e = list->entries;
	size_t		kept = 0;
	size_t		next;

	if (list->count == 0)
		return;
	qsort(e, list->count, sizeof(*e), compare_entries);
	for (size_t first = 0; first < list->count; first = next)
	{
		size_t		top = SIZE_MAX;

		for (next = first + 1; next < list->count; next++)
		{
			if (mounts_compare(&e[next].mount, &e[first].mount) != 0)
				break;
		}
		for (size_t i = first; i < next; i++)
		{
			bool		covered = false;

			for (size_t j = first; j < next; j++)
				covered |= j != i && e[j].parent == e[i].id;
			if (!covered)
				top = i;
		}
		if (top == SIZE_MAX)
			top = next - 1;
		for (size_t i = first; i < next; i++)
		{
			if (i != top)
				free(e[i].mount.path);
		}
		e[kept++] = e[top];
	}
	list->count = kept;
}

static int
parse_text(EntryList *list, const char *text, size_t len, const char *root,
		   size_t root_len)
{
	const char *end = text + len;
	char	   *path = malloc(len + 1);
	int			result = 0;

	if (path == NULL)
		return -1;
	while (text < end && result == 0)
	{
		const char *newline = memchr(text, '\n', (size_t) (end - text));
		const char *stop = newline != NULL ? newline : end;
		ProtoStr	line = {text, (uint32_t) (stop - text)};

		result = parse_line(list, line, root, root_len, path);
		text = stop + 1;
	}
	free(path);
	if (result < 0)
	{
		int			saved = errno;

		free_entries(list);
		errno = saved;
		return -1;
	}
	keep_topmost(list);
	return 0;
}

/* Moves the entries' mounts into the set. */
static int
take_mounts(EntryList *list, MountSet *set)
{
	if (list->count > 0)
	{
		set->mounts = malloc(list->count * sizeof(*set->mounts));
		if (set->mounts == NULL)
		{
			free_entries(list);
			errno = ENOMEM;
			return -1;
		}
		for (size_t i = 0; i < list->count; i++)
			set->mounts[i] = list->entries[i].mount;
	}
	set->count = list->count;
	set->root_polled = list->cover_polled;
	free(list->entries);
	return 0;
}

/* The length of the root without slashes at its end. */
static size_t
trimmed_length(const char *root)
{
	size_t		len = strlen(root);

	while (len > 1 && root[len - 1] == '/')
		len--;
	return len;
}

int
mounts_parse(const char *text, size_t len, const char *real_root, MountSet *set)
{
	EntryList	list = {0};

	memset(set, 0, sizeof(*set));
	if (len > MOUNTINFO_MAX)
	{
		errno = EFBIG;
		return -1;
	}
	if (parse_text(&list, text, len, real_root, trimmed_length(real_root)) < 0)
		return -1;
	return take_mounts(&list, set);
}

/* ---------------------------------------------------------------------
 * Reading
 * ---------------------------------------------------------------------
 */

/* Reads the whole file; NULL with errno. */
static char *
read_whole(int fd, size_t *len)
{
	size_t		cap = 64 * 1024;
	char	   *text = malloc(cap);

	*len = 0;
	while (text != NULL)
	{
		ssize_t		n = pread(fd, text + *len, cap - *len, (off_t) *len);

		if (n == 0)
			return text;
		if (n > 0)
			*len += (size_t) n;
		else if (errno != EINTR)
			break;
		if (*len == cap)
		{
			char	   *larger;

			if (cap >= MOUNTINFO_MAX)
			{
				errno = EFBIG;
				break;
			}
			cap *= 2;
			larger = realloc(text, cap);
			if (larger == NULL)
				break;
			text = larger;
		}
	}
	free(text);
	return NULL;
}

/*
 * Puts what the file system says of itself in the place of the source.  The
 * mount id tells whether the path still leads to this mount; where it does
 * not, or cannot be opened, the source stays.  0, or the errno where the process
 * lacked something for that.
 */
static int
ask_disk(Entry *entry, int rootfd)
{
	struct statx st;
	unsigned long type;
	char		uuid[33];
	char		fsid[17];
	int			error = 0;
	int			fd = openat(rootfd, entry->mount.path,
							O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return shortage_is(errno) ? errno : 0;
	errno = 0;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 &&
		(st.stx_mask & STATX_MNT_ID) != 0 && st.stx_mnt_id == entry->id &&
		identity_fs(fd, &type, uuid, fsid) == 0 &&
		(strcmp(uuid, "-") != 0 || strcmp(fsid, "-") != 0))
		snprintf(entry->mount.identity, IDENTITY_MAX,
				 "type:%s uuid:%s fsid:%s root:%s",
				 entry->type, uuid, fsid, entry->root);
	else if (shortage_is(errno))
		error = errno;
	close(fd);
	return error;
}

/* Whether the way to an entry leads through a mount of a polled type. */
static bool
below_polled(const EntryList *list, const Entry *entry)
{
	for (size_t i = 0; i < list->count; i++)
	{
		const Mount *m = &list->entries[i].mount;

		if (m->polled && entry->mount.len > m->len &&
			is_at_or_below(entry->mount.path, entry->mount.len, m->path, m->len))
			return true;
	}
	return false;
}

int
mounts_read(int mountinfo_fd, const char *real_root, MountSet *set)
{
	EntryList	list = {0};
	size_t		root_len = trimmed_length(real_root);
	size_t		len;
	char	   *text;
	int			result;
	int			error = 0;
	int			rootfd = -1;

	memset(set, 0, sizeof(*set));
	text = read_whole(mountinfo_fd, &len);
	if (text == NULL)
		return -1;
	result = parse_text(&list, text, len, real_root, root_len);
	free(text);
	if (result < 0)
		return -1;

	for (size_t i = 0; i < list.count && error == 0; i++)
	{
		if (!list.entries[i].disk || below_polled(&list, &list.entries[i]))
			continue;
		if (rootfd < 0)
			rootfd = open(real_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (rootfd < 0)
		{
			error = shortage_is(errno) ? errno : 0;
			break;
		}
		error = ask_disk(&list.entries[i], rootfd);
	}
	if (rootfd >= 0)
		close(rootfd);
	if (error != 0)
	{
		free_entries(&list);
		errno = error;
		return -1;
	}
	return take_mounts(&list, set);
}
