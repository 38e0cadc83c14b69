/* fsync--1.0--1.1.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION fsync UPDATE TO '1.1'" to load this file. \quit

--
-- Settings of a repository
--

ALTER TABLE fsync_repositories
	ADD COLUMN paused boolean NOT NULL DEFAULT false,
	ADD COLUMN ignore_case boolean NOT NULL DEFAULT false,
	ADD COLUMN include_hidden boolean NOT NULL DEFAULT false,
	ADD COLUMN use_ignore_files boolean NOT NULL DEFAULT false,
	ADD COLUMN min_size bigint CHECK (min_size >= 0),
	ADD COLUMN max_size bigint CHECK (max_size >= 0),
	ADD COLUMN on_missing text NOT NULL DEFAULT 'delete'
		CHECK (on_missing IN ('delete', 'mark')),
	ADD COLUMN missing_retention interval
		CHECK (missing_retention <= '1000 years'),
	ADD COLUMN on_type_change text NOT NULL DEFAULT 'missing'
		CHECK (on_type_change IN ('missing', 'delete', 'mark')),
	ADD COLUMN change_feed boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN fsync_repositories.paused IS 'True while nothing is watched, scanned or written, until fsync_resume() is called';
COMMENT ON COLUMN fsync_repositories.ignore_case IS 'Whether patterns match without regard to the case of ASCII letters';
COMMENT ON COLUMN fsync_repositories.include_hidden IS 'Whether names that begin with . are tracked';
COMMENT ON COLUMN fsync_repositories.use_ignore_files IS 'Whether files named .fsyncignore in the tree exclude what they name';
COMMENT ON COLUMN fsync_repositories.min_size IS 'Smaller files are not tracked, in bytes; NULL: no limit';
COMMENT ON COLUMN fsync_repositories.max_size IS 'Larger files are not tracked, in bytes; NULL: no limit';
COMMENT ON COLUMN fsync_repositories.on_missing IS 'What becomes of the row of a file that is gone: delete, or mark (it stays, with missing_since)';
COMMENT ON COLUMN fsync_repositories.missing_retention IS 'How long marked rows are kept; NULL: for ever';
COMMENT ON COLUMN fsync_repositories.on_type_change IS 'What becomes of the row of a file whose name is now that of a directory, a symbolic link or the like: missing (as on_missing says), delete, or mark';
COMMENT ON COLUMN fsync_repositories.change_feed IS 'Whether changes are written to file_changes';

-- The columns that the worker itself writes are not among these.
CREATE OR REPLACE TRIGGER fsync_changed
	AFTER INSERT OR DELETE OR TRUNCATE
		OR UPDATE OF path, user_area, watch_root, include, exclude,
			calculate_hashes, active, database_oid, paused, ignore_case,
			include_hidden, use_ignore_files, min_size, max_size, on_missing,
			missing_retention, on_type_change, change_feed ON fsync_repositories
	FOR EACH STATEMENT EXECUTE FUNCTION fsync_repositories_changed();

ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER fsync_changed;

--
-- Filters
--

-- Rows are checked whoever writes them.
CREATE OR REPLACE TRIGGER fsync_guard
	BEFORE INSERT OR UPDATE OF repository_id, include, exclude, min_size, max_size,
		on_missing, missing_retention, on_type_change ON fsync_repositories
	FOR EACH ROW EXECUTE FUNCTION fsync_repositories_guard();

ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER fsync_guard;

COMMENT ON FUNCTION fsync_repositories_guard() IS
'Trigger: makes rows that fsync_add_repository() did not insert inactive, checks settings, refuses a change of repository_id';

COMMENT ON TABLE fsync_repositories IS
'Registered directories. Rows are made by fsync_add_repository() and go with fsync_remove_repository(); the settings, from include to change_feed, are changed by fsync_configure_repository() or directly.';

-- A grant made here would be missing from dumps: what was granted on the
-- function of 1.0 has to be granted anew.
DROP FUNCTION fsync_add_repository(text, uuid, text, text[], text[], boolean);

CREATE FUNCTION fsync_add_repository(
	path text,
	repository_id uuid DEFAULT gen_random_uuid(),
	user_area text DEFAULT NULL,
	include text[] DEFAULT NULL,
	exclude text[] DEFAULT NULL,
	calculate_hashes boolean DEFAULT NULL,
	ignore_case boolean DEFAULT NULL,
	include_hidden boolean DEFAULT NULL,
	use_ignore_files boolean DEFAULT NULL,
	min_size bigint DEFAULT NULL,
	max_size bigint DEFAULT NULL,
	on_missing text DEFAULT NULL,
	missing_retention interval DEFAULT NULL,
	on_type_change text DEFAULT NULL,
	change_feed boolean DEFAULT NULL)
RETURNS uuid
AS 'MODULE_PATHNAME', 'fsync_add_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_add_repository(text, uuid, text, text[], text[], boolean, boolean,
	boolean, boolean, bigint, bigint, text, interval, text, boolean) IS
'Registers a directory: absolute path, id, sub-directory of path to watch instead of path, and the settings, as in fsync_configure_repository(). Returns the id. Takes effect when the transaction commits. Only for superusers and members of pg_read_server_files.';

REVOKE ALL ON FUNCTION fsync_add_repository(text, uuid, text, text[], text[], boolean, boolean,
	boolean, boolean, bigint, bigint, text, interval, text, boolean) FROM PUBLIC;

CREATE FUNCTION fsync_configure_repository(
	repository_id uuid,
	include text[] DEFAULT NULL,
	exclude text[] DEFAULT NULL,
	calculate_hashes boolean DEFAULT NULL,
	ignore_case boolean DEFAULT NULL,
	include_hidden boolean DEFAULT NULL,
	use_ignore_files boolean DEFAULT NULL,
	min_size bigint DEFAULT NULL,
	max_size bigint DEFAULT NULL,
	on_missing text DEFAULT NULL,
	missing_retention interval DEFAULT NULL,
	on_type_change text DEFAULT NULL,
	change_feed boolean DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_configure_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_configure_repository(uuid, text[], text[], boolean, boolean, boolean,
	boolean, bigint, bigint, text, interval, text, boolean) IS
'Changes settings of a repository; NULL leaves one as it is. Patterns to include and to exclude as in .gitignore ({}: none), whether to calculate hashes, to ignore the case of letters in patterns, to track names that begin with a dot, to obey .fsyncignore files; least and greatest size in bytes (-1: no limit); what becomes of the row of a missing file (delete, mark), how long marked rows are kept (0 or less: for ever), what becomes of the row of a name that is no file any more (delete, mark), whether to write file_changes. When the transaction commits, one reconciliation removes what is now excluded and adds what is now included.';

REVOKE ALL ON FUNCTION fsync_configure_repository(uuid, text[], text[], boolean, boolean, boolean,
	boolean, bigint, bigint, text, interval, text, boolean) FROM PUBLIC;

--
-- Change feed
--

--
-- Verification
--

--
-- Missing files and duplicates
--

ALTER TABLE file_records ADD COLUMN missing_since timestamptz;

COMMENT ON COLUMN file_records.missing_since IS 'When the file was found to be gone; NULL while it is there. Only where on_missing or on_type_change of the repository is mark';
COMMENT ON TABLE file_records IS
'One row for each tracked file and, where the repository marks missing files, for those that are gone. The disk is the truth and fsync''s worker the only writer; applications read, and may reference id.';

-- Nearly always empty: whether there is any, and which are to be purged.
CREATE INDEX file_records_missing_idx
	ON file_records (repository_id, missing_since, id) WHERE missing_since IS NOT NULL;

CREATE OR REPLACE VIEW fsync_files AS
SELECT f.id,
	   f.repository_id,
	   r.watch_root || '/' || f.file_path AS absolute_path,
	   f.file_path,
	   f.file_size,
	   f.mod_time,
	   encode(f.content_hash, 'hex') AS content_hash,
	   CASE WHEN f.missing_since IS NULL
		   THEN greatest(f.last_scanned, r.last_complete_scan)
		   ELSE f.last_scanned END AS last_scanned,
	   CASE WHEN f.missing_since IS NULL
		   THEN greatest(f.scan_generation, r.last_complete_generation)
		   ELSE f.scan_generation END AS scan_generation,
	   f.created_at,
	   f.updated_at,
	   f.missing_since
FROM file_records f
JOIN fsync_repositories r USING (repository_id);

COMMENT ON COLUMN fsync_files.missing_since IS 'When the file was found to be gone; NULL while it is there';

--
-- Operation and monitoring
--

ALTER TABLE sync_operations
	DROP CONSTRAINT sync_operations_status_check,
	ADD CONSTRAINT sync_operations_status_check
		CHECK (status IN ('running', 'completed', 'failed', 'cancelled'));

COMMENT ON COLUMN sync_operations.status IS 'running, completed, failed or cancelled';
COMMENT ON COLUMN sync_operations.error_message IS 'Why it failed or was cancelled';

CREATE FUNCTION fsync_pause(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_pause'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_pause(uuid) IS
'Stops to watch, scan and write a repository, until fsync_resume() is called; its rows stay as they are. Takes effect when the transaction commits.';

CREATE FUNCTION fsync_resume(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_resume(uuid) IS
'Tracks a paused repository again, beginning with a startup sync. Takes effect when the transaction commits.';

CREATE FUNCTION fsync_cancel(operation_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'fsync_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_cancel(bigint) IS
'Cancels an operation of sync_operations and returns when it has ended; what it has written stays. False when it was not running any more.';

CREATE FUNCTION fsync_schedule(
	schedule text,
	job_name text DEFAULT 'fsync reconcile')
RETURNS bigint
AS 'MODULE_PATHNAME', 'fsync_schedule'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_schedule(text, text) IS
'Makes a job of pg_cron, or changes the one of this name, that reconciles all repositories of this database: schedule as in crontab. Returns its id. Where pg_cron is in another database or missing, the error says what to do.';

REVOKE ALL ON FUNCTION
	fsync_pause(uuid),
	fsync_resume(uuid),
	fsync_cancel(bigint),
	fsync_schedule(text, text)
FROM PUBLIC;

--
-- Convenience
--
