/*-------------------------------------------------------------------------
 *
 * standalone.h
 *		fsync-tree without PostgreSQL, for people and for tests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_STANDALONE_H
#define FSYNC_STANDALONE_H

/*
 * Prints "hash  size  mtime  path" of each file below the directory, in path
 * order.  Returns an exit status.
 */
extern int	standalone_scan(const char *directory);

/*
 * Runs the engine as the worker would, with a table in memory instead of
 * file_records, and prints each observation as a line.  Commands on standard
 * input: "flush" prints "flushed" when everything has been seen, "scan"
 * compares everything and prints what the scan found, "dump" prints the table,
 * "ids" prints "id  inode  path" of its rows, "quiet" stops the printing of
 * observations, "configure THREADS PPM MS" changes how many threads hash, what
 * scans may take of a core, and the debounce.  Ends at end of input, or when
 * interrupted.
 */
extern int	standalone_watch(const char *directory, int debounce_ms);

#endif							/* FSYNC_STANDALONE_H */
