/*-------------------------------------------------------------------------
 *
 * apply_changes.h
 *		The change feed: what a message of observations changed, as rows of
 *		file_changes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_APPLY_CHANGES_H
#define FSYNC_APPLY_CHANGES_H

#include "apply_rows.h"

/* The rows that a message may change, as they were before it. */
typedef struct ChangedRows ChangedRows;

/*
 * Reads the rows that the run's plan is about, before any of them is written.
 * NULL: it is about none.  Memory is of the current context and of the
 * session's SPI.
 */
extern ChangedRows *changes_begin(ApplyRun *run);

/*
 * Compares them with what is there now, writes the differences to file_changes
 * and notifies: in the transaction of the change, after all of its rows.
 */
extern void changes_end(ApplyRun *run, const ChangedRows *rows);

#endif							/* FSYNC_APPLY_CHANGES_H */
