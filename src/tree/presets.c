/*-------------------------------------------------------------------------
 *
 * presets.c
 *		Kinds of files that a pattern can name.
 *
 * The lists are what doc/reference.md says.  Extensions that mean something
 * else as often are left out (".ts" is a video, or TypeScript): who wants one
 * writes a pattern for it.
 *
 *-------------------------------------------------------------------------
 */
#include "presets.h"

#include <string.h>
#include <strings.h>

/* The longest extension below. */
#define EXTENSION_MAX	8

struct Preset
{
	const char *name;
	const char *const *extensions;	/* lower case, ends with NULL */
	const char *const *endings;	/* of the name, lower case, ends with NULL */
};

static const char *const none[] = {NULL};

static const char *const images[] = {
	"apng", "avif", "bmp", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe",
	"jpeg", "jpg", "jxl", "png", "psd", "svg", "tif", "tiff", "webp", NULL
};

static const char *const videos[] = {
	"3g2", "3gp", "asf", "avi", "dv", "f4v", "flv", "m2ts", "m2v", "m4v", "mkv", "mov",
	"mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "ogv", "vob", "webm", "wmv", NULL
};

static const char *const raw[] = {
	"3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "k25",
	"kdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl",
	"sr2", "srf", "srw", "x3f", NULL
};

static const char *const documents[] = {
	"csv", "doc", "docm", "docx", "dot", "dotx", "epub", "key", "md", "numbers", "odp",
	"ods", "odt", "pages", "pdf", "ppt", "pptm", "pptx", "rtf", "tex", "txt", "xls",
	"xlsm", "xlsx", NULL
};

/*
 * What programs leave of a file that they save: exiftool ("_original"), emacs,
 * cp -b and rsync -b ("~", ".~1~"), sed -i.orig, patch and others.
 */
static const char *const backups[] = {"bak", "orig", NULL};
static const char *const backup_endings[] = {"~", "_original", NULL};

static const Preset presets[] = {
	{"images", images, none},
	{"videos", videos, none},
	{"raw", raw, none},
	{"documents", documents, none},
	{"backups", backups, backup_endings},
};

const Preset *
preset_find(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
	{
		if (strlen(presets[i].name) == len && memcmp(presets[i].name, name, len) == 0)
			return &presets[i];
	}
	return NULL;
}

/* Whether the name ends so, and is more than that; letters of any case. */
static bool
ends_with(const char *name, size_t len, const char *ending)
{
	size_t		n = strlen(ending);

	return len > n && strncasecmp(name + len - n, ending, n) == 0;
}

static bool
has_extension(const Preset *preset, const char *name, size_t len)
{
	const char *dot = memrchr(name, '.', len);
	char		extension[EXTENSION_MAX + 1];
	size_t		n = 0;

	if (dot == NULL || (size_t) (name + len - dot) - 1 > EXTENSION_MAX)
		return false;
	for (const char *p = dot + 1; p < name + len; p++)
		extension[n++] = *p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p;
	extension[n] = '\0';
	for (const char *const *known = preset->extensions; *known != NULL; known++)
	{
		if (strcmp(*known, extension) == 0)
			return true;
	}
	return false;
}

bool
preset_matches(const Preset *preset, const char *name, size_t len)
{
	for (const char *const *ending = preset->endings; *ending != NULL; ending++)
	{
		if (ends_with(name, len, *ending))
			return true;
	}
	return has_extension(preset, name, len);
}
