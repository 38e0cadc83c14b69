/*-------------------------------------------------------------------------
 *
 * fsync.h
 *		Settings and names that all of the extension shares.
 *
 * PostgreSQL exports fsync_fname, pg_fsync and others, and libc has fsync: in
 * this library only SQL-callable functions are called fsync_..., and the
 * linker's version script exports nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_H
#define FSYNC_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

#define EXTENSION_NAME		"fsync"
#define EXTENSION_VERSION	"1.0"

/* fsync.c: settings, in the units of their names */
extern int	setting_debounce_interval_ms;
extern int	setting_debounce_max_delay_ms;
extern int	setting_reconciliation_interval_s;
extern int	setting_poll_interval_s;
extern int	setting_batch_size;
extern int	setting_max_concurrency;
extern int	setting_reconcile_cpu_limit;	/* per cent; 0: none */
extern int	setting_scheduled_cpu_limit;	/* the same */
extern int	setting_io_priority;	/* ProtoIoPriority */
extern bool setting_calculate_hashes;
extern double setting_mass_delete_threshold;
extern int	setting_history_retention_min;
extern int	setting_history_max_rows;
extern int	setting_change_retention_min;
extern int	setting_change_max_rows;
extern int	setting_max_repositories;	/* postmaster: slots in shared memory */
extern int	setting_helper_timeout_s;	/* silence after which fsync-tree is
										 * given up */
extern int	setting_log_min_duration_ms;	/* -1: never */
extern bool setting_require_sandbox;
extern char *setting_helper_path;	/* postmaster; empty: fsync-tree beside the
									 * library's other programs */

/* launcher.c, worker.c: entry points of the background workers */
extern PGDLLEXPORT void fsync_launcher_main(Datum arg);
extern PGDLLEXPORT void fsync_worker_main(Datum arg);

#endif							/* FSYNC_H */
