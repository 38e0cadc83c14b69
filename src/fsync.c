/*-------------------------------------------------------------------------
 *
 * fsync.c
 *		Loading: settings, shared memory, hooks, and the launcher.
 *
 * Nothing here raises an error.  pg_upgrade loads the library into a server
 * that was not configured for it, and a backend may load it because somebody
 * called a function: without shared_preload_libraries there is no shared
 * memory, requests_available() says so, and the install script turns that
 * into a clear message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/guc.h"

#include "fsync.h"
#include "hooks.h"
#include "requests.h"
#include "shared.h"
#include "totals.h"
#include "tree/protocol.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

int			setting_debounce_interval_ms = 500;
int			setting_debounce_max_delay_ms = 5000;
int			setting_reconciliation_interval_s = 86400;
int			setting_poll_interval_s = 300;
int			setting_batch_size = 1000;
int			setting_max_concurrency = 4;
int			setting_reconcile_cpu_limit = 0;
int			setting_scheduled_cpu_limit = 10;
int			setting_io_priority = PROTO_IO_NONE;
bool		setting_calculate_hashes = true;
double		setting_mass_delete_threshold = 0.5;
int			setting_history_retention_min = 30 * 24 * 60;
int			setting_history_max_rows = 1000;
int			setting_change_retention_min = 7 * 24 * 60;
int			setting_change_max_rows = 1000000;
int			setting_max_repositories = 256;
int			setting_helper_timeout_s = 20;
int			setting_log_min_duration_ms = 10 * 60 * 1000;
bool		setting_require_sandbox = false;
char	   *setting_helper_path = NULL;

static const struct config_enum_entry io_priorities[] = {
	{"none", PROTO_IO_NONE, false},
	{"best-effort", PROTO_IO_BEST_EFFORT, false},
	{"idle", PROTO_IO_IDLE, false},
	{NULL, 0, false}
};

#if PG_VERSION_NUM >= 150000
static shmem_request_hook_type previous_shmem_request_hook = NULL;
#endif
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

static void
define_settings(void)
{
	DefineCustomIntVariable("fsync.debounce_interval",
							"Time without further events of a file after which it is looked at.",
							NULL,
							&setting_debounce_interval_ms,
							500, 0, 600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.debounce_max_delay",
							"Time after which a file is looked at though it goes on changing.",
							NULL,
							&setting_debounce_max_delay_ms,
							5000, 0, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.reconciliation_interval",
							"Time between two reconciliations of a repository.",
							"0 turns scheduled reconciliations off.",
							&setting_reconciliation_interval_s,
							86400, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.poll_interval",
							"Time between two reconciliations of a repository that is not reported all changes.",
							"It holds where it is shorter than fsync.reconciliation_interval, and that is not 0.",
							&setting_poll_interval_s,
							300, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.batch_size",
							"Most changes that are written in one transaction.",
							"Of what a scan finds, ten times as many.",
							&setting_batch_size,
							1000, 1, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.max_concurrency",
							"Threads of a repository that hash files.",
							"Each may hash several files in step.",
							&setting_max_concurrency,
							4, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.reconcile_cpu_limit",
							"CPU time that reconciliations may take, in per cent of one core.",
							"0 means no limit. Counts the worker and fsync-tree together; changes that are reported while a reconciliation runs are not held up.",
							&setting_reconcile_cpu_limit,
							0, 0, 1000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.scheduled_cpu_limit",
							"CPU time that reconciliations may take which are due by fsync.reconciliation_interval, in per cent of one core.",
							"0 means no limit but fsync.reconcile_cpu_limit. Does not hold for those that are called, and not while somebody waits for the next one.",
							&setting_scheduled_cpu_limit,
							10, 0, 1000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomEnumVariable("fsync.io_priority",
							 "Priority of a reconciliation's reads among all input and output.",
							 "\"best-effort\" comes after that of ordinary processes, \"idle\" only while there is no other. Takes an I/O scheduler that heeds priorities.",
							 &setting_io_priority,
							 PROTO_IO_NONE, io_priorities,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("fsync.calculate_hashes",
							 "Calculates the SHA-256 of each file's content.",
							 "A repository's own setting goes before it.",
							 &setting_calculate_hashes,
							 true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomRealVariable("fsync.mass_delete_threshold",
							 "Share of a repository's rows that a reconciliation may remove unasked.",
							 "1 lets it remove all of them.",
							 &setting_mass_delete_threshold,
							 0.5, 0.0, 1.0,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.history_retention",
							"Age at which finished operations are removed from sync_operations.",
							"0 removes none because of its age.",
							&setting_history_retention_min,
							30 * 24 * 60, 0, INT_MAX / 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.history_max_rows",
							"Most operations of a repository that sync_operations keeps.",
							NULL,
							&setting_history_max_rows,
							1000, 1, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.change_retention",
							"Age at which acknowledged changes are removed from file_changes.",
							"0 removes none because of its age.",
							&setting_change_retention_min,
							7 * 24 * 60, 0, INT_MAX / 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.change_max_rows",
							"Most changes that file_changes keeps for consumers that are behind.",
							"0 sets no limit.",
							&setting_change_max_rows,
							1000000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.helper_timeout",
							"Silence after which fsync-tree is taken for hung and replaced.",
							NULL,
							&setting_helper_timeout_s,
							20, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.log_min_duration",
							"Duration from which on a run is logged when it has ended.",
							"0 logs all runs. -1 logs none, and no first sync, which is logged otherwise.",
							&setting_log_min_duration_ms,
							10 * 60 * 1000, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomBoolVariable("fsync.require_sandbox",
							 "Reads no file where fsync-tree cannot give up all rights but to read below the root.",
							 "The column sandbox of fsync_status() says what is missing.",
							 &setting_require_sandbox,
							 false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("fsync.max_repositories",
							"Most repositories that can be kept up to date at the same time in all databases.",
							NULL,
							&setting_max_repositories,
							256, 1, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("fsync.helper_path",
							   "Path of the program fsync-tree.",
							   "Empty means the one in PostgreSQL's library directory.",
							   &setting_helper_path,
							   "",
							   PGC_POSTMASTER, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);

	mark_guc_prefix_reserved_compat("fsync");
}

static void
request_shared_memory(void)
{
#if PG_VERSION_NUM >= 150000
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
#endif
	RequestAddinShmemSpace(requests_shmem_size());
	RequestNamedLWLockTranche(SHARED_TRANCHE, 1);
}

static void
start_shared_memory(void)
{
	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();
	requests_shmem_startup();
}

static void
register_launcher(void)
{
	BackgroundWorker launcher;

	memset(&launcher, 0, sizeof(launcher));
	launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
	launcher.bgw_restart_time = 5;
	strlcpy(launcher.bgw_library_name, EXTENSION_NAME, sizeof(launcher.bgw_library_name));
	strlcpy(launcher.bgw_function_name, "fsync_launcher_main",
			sizeof(launcher.bgw_function_name));
	strlcpy(launcher.bgw_name, "fsync launcher", BGW_MAXLEN);
	strlcpy(launcher.bgw_type, "fsync launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&launcher);
}

void
_PG_init(void)
{
	if (IsBinaryUpgrade || !process_shared_preload_libraries_in_progress)
		return;

	define_settings();

	/* The size depends on the settings, so this comes after them. */
#if PG_VERSION_NUM >= 150000
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
#else
	request_shared_memory();
#endif
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;

	hooks_install();
	totals_install();
	register_launcher();
}
