/*-------------------------------------------------------------------------
 *
 * report_walks.h
 *		Figures of fsync_report() that take a look at every row, a little at each
 *		call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_REPORT_WALKS_H
#define FSYNC_REPORT_WALKS_H

#include "session.h"

#include "lib/stringinfo.h"

/*
 * Goes on with both walks, for a few milliseconds each.  To be called in the
 * scope of the owner.
 */
extern void report_walks_advance(const ExtensionObjects *objects);

/* Drops what is known of a database's objects that are there no more. */
extern void report_walks_begin(const ExtensionObjects *objects);

/*
 * Appends what the last whole walk found as an object of JSON: duplicates, with
 * the contents that waste most if the caller may know them.
 */
extern void report_walks_put_duplicates(StringInfo out, bool with_contents);

/*
 * The same of files that were verified: an object of JSON with the number for each
 * repository's id; null before the first walk has ended.
 */
extern void report_walks_put_verified(StringInfo out);

#endif							/* FSYNC_REPORT_WALKS_H */
