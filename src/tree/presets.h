/*-------------------------------------------------------------------------
 *
 * presets.h
 *		Kinds of files that a pattern can name: "preset:images".
 *
 * A preset stands for files (not directories) by the part of their name after
 * the last '.', or by its end, without regard to the case of letters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_PRESETS_H
#define FSYNC_PRESETS_H

#include <stdbool.h>
#include <stddef.h>

#define PRESET_PREFIX	"preset:"

/* What there is to choose from, for messages. */
#define PRESET_NAMES	"images, videos, raw, documents, backups"

typedef struct Preset Preset;

/* The preset of this name (what follows PRESET_PREFIX), or NULL. */
extern const Preset *preset_find(const char *name, size_t len);

/* Whether it stands for a file of this name (the last part of its path). */
extern bool preset_matches(const Preset *preset, const char *name, size_t len);

#endif							/* FSYNC_PRESETS_H */
