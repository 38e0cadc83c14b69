/*-------------------------------------------------------------------------
 *
 * apply_direct.h
 *		Sets of observations written to file_records without a statement.
 *
 * Both are for a transaction that is rolled back when they throw, and are then
 * not called again for the same observations.  They return false, with nothing
 * written, where a statement has to do it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_DIRECT_H
#define FSYNC_APPLY_DIRECT_H

#include "apply_rows.h"

/*
 * Inserts a row for each item, and puts the items in the order of their paths;
 * throws if a row is there already.
 */
extern bool direct_insert(const ApplyRun *run, ApplyItem **items, int n);

/*
 * Moves the rows, and sets done for those that were where the items say.
 * False also if there is a row at one of the new paths.
 */
extern bool direct_move(const ApplyRun *run, ApplyItem **items, int n, bool *done);

#endif							/* FSYNC_APPLY_DIRECT_H */
