/*-------------------------------------------------------------------------
 *
 * spelling.h
 *		Whether a name is the one that its directory lists.
 *
 * Where a file system folds names (exFAT, NTFS, vfat, directories of ext4 with
 * casefold, normalizing ones), stat(2) succeeds for spellings that are not
 * there: after "mv Foo foo" the old name seems to remain, and opening FOO makes
 * an event of a third.  Only the listing knows.  So there a name is there if a
 * complete listing of its directory has it, byte for byte.
 *
 * Which directories fold is found out, not configured: a name that was seen to
 * be there is asked for with its letters' cases swapped.  Nearly everywhere that
 * is one failing stat for a directory and round of looks.  Where it succeeds, a
 * listing without it is the proof, and the directory's device is remembered.
 *
 * An object is used by one thread, for one round of looks at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SPELLING_H
#define FSYNC_SPELLING_H

#include "beneath.h"

/* Devices that were seen to fold; of more the oldest is forgotten. */
#define SPELLING_DEVICES	16

typedef struct SpellingDevices
{
	dev_t		devices[SPELLING_DEVICES];
	size_t		count;			/* ever added */
} SpellingDevices;

typedef enum SpellingVerdict
{
	SPELLING_RIGHT = 0,			/* listed so, or nothing is folded there */
	SPELLING_OTHER,				/* its directory does not list it so */
	SPELLING_UNSURE,			/* the directory could not be listed */
} SpellingVerdict;

typedef struct Spelling Spelling;

/* known: devices that fold, which are copied; or NULL.  NULL: no memory. */
extern Spelling *spelling_create(const SpellingDevices *known);
extern void spelling_free(Spelling *spelling);

/* For an object of another thread. */
extern const SpellingDevices *spelling_devices(const Spelling *spelling);

/* The round is over: what was listed is forgotten. */
extern void spelling_forget(Spelling *spelling);

/*
 * Of a path (not the root's) for which stat has just succeeded.  The first
 * `known` bytes, up to a '/', or 0, are known to be right and not looked at.
 */
extern SpellingVerdict spelling_of(Spelling *spelling, int rootfd, const char *path,
								   size_t len, size_t known);

/*
 * The same of a path that a complete walk of its directory has not shown,
 * though stat says that it is there: this.  Finds out more, at the price of a
 * listing: which file systems fold other letters than those of ASCII.
 */
extern SpellingVerdict spelling_of_missed(Spelling *spelling, int rootfd, const char *path,
										  size_t len, const FileInfo *info);

/*
 * For a path that is SPELLING_OTHER in its last name only, and of which stat
 * says this: calls found() for each listed name that it may lead to.
 */
extern void spelling_listed(Spelling *spelling, int rootfd, const char *path, size_t len,
							const FileInfo *info,
							void (*found) (void *arg, const char *name, size_t len),
							void *arg);

/*
 * Whether a directory folds names, as far as some name in it, or what is known
 * of its device, tells.
 */
extern bool spelling_folds(Spelling *spelling, int rootfd, const char *directory, size_t len);

/* The directory part of a path, its '/' included; 0 in the root. */
extern size_t spelling_directory(const char *path, size_t len);

/* For tests: looks through this instead of beneath_stat_at(). */
typedef int (*SpellingStat) (int dirfd, const char *name, FileInfo *info);
extern void spelling_set_stat(Spelling *spelling, SpellingStat stat_at);

#endif							/* FSYNC_SPELLING_H */
