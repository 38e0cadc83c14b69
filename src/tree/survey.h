/*-------------------------------------------------------------------------
 *
 * survey.h
 *		What of a whole tree is tracked, would be, and is not.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SURVEY_H
#define FSYNC_SURVEY_H

#include <stdbool.h>

/*
 * Read PROTO_INITs from standard input, the repository's and, for a preview, one
 * with the other settings, walk the tree for at most so many milliseconds, and
 * write the frames of answers.h to standard output: of a preview with at most so
 * many paths of each kind, of what is ignored with so many entries.  Return
 * the program's exit status; PROTO_EXIT_UNCONFINED where the sandbox is to be
 * complete and is not.
 */
extern int	survey_preview(const char *root, int max_paths, int ms, bool must_be_complete);
extern int	survey_ignored(const char *root, int max_rows, int ms, bool must_be_complete);

#endif							/* FSYNC_SURVEY_H */
