/* fsync--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION fsync" to load this file. \quit

--
-- The work is done by background workers, which exist only where the library
-- was preloaded.  Refusing here beats an extension that silently does nothing.
--
CREATE FUNCTION fsync_check_preloaded()
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_check_preloaded'
LANGUAGE C VOLATILE;

SELECT @extschema@.fsync_check_preloaded();

DROP FUNCTION fsync_check_preloaded();

--
-- Tables
--

CREATE TABLE fsync_repositories (
	repository_id uuid PRIMARY KEY,
	path text NOT NULL,
	user_area text,
	watch_root text NOT NULL UNIQUE CHECK (watch_root LIKE '/%'),
	include text[],
	exclude text[],
	calculate_hashes boolean,
	active boolean NOT NULL DEFAULT false,
	database_oid oid,
	state text NOT NULL DEFAULT 'inactive',
	state_reason text,
	state_hint text,
	root_identity text,
	mounts bytea,
	scan_generation bigint NOT NULL DEFAULT 0,
	last_complete_generation bigint NOT NULL DEFAULT 0,
	last_complete_scan timestamptz,
	created_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE fsync_repositories IS
'Registered directories. Rows are made by fsync_add_repository() and go with fsync_remove_repository(); include, exclude and calculate_hashes may be updated directly.';
COMMENT ON COLUMN fsync_repositories.repository_id IS 'Identifies the repository';
COMMENT ON COLUMN fsync_repositories.path IS 'The directory, as it was given to fsync_add_repository()';
COMMENT ON COLUMN fsync_repositories.user_area IS 'Sub-directory of path that is watched; NULL: path itself';
COMMENT ON COLUMN fsync_repositories.watch_root IS 'The directory that is watched: path and user_area, absolute, symbolic links resolved when it was added';
COMMENT ON COLUMN fsync_repositories.include IS 'Patterns as in .gitignore; where there are any, only files that match are tracked';
COMMENT ON COLUMN fsync_repositories.exclude IS 'Patterns as in .gitignore of files that are not tracked; stronger than include';
COMMENT ON COLUMN fsync_repositories.calculate_hashes IS 'Whether content_hash is kept; NULL: as the setting fsync.calculate_hashes says';
COMMENT ON COLUMN fsync_repositories.active IS 'False for a row that came by restoring a dump, until fsync_activate_repository() is called';
COMMENT ON COLUMN fsync_repositories.database_oid IS 'The database in which the repository was made active; in a copy of that database it is inactive';
COMMENT ON COLUMN fsync_repositories.state IS 'State as the worker last wrote it; fsync_status() knows the present one';
COMMENT ON COLUMN fsync_repositories.state_reason IS 'Why it is in this state, where that needs saying';
COMMENT ON COLUMN fsync_repositories.state_hint IS 'What can be done about it';
COMMENT ON COLUMN fsync_repositories.root_identity IS 'Identity of the root and its file system at the last complete scan: rows are removed only under this root';
COMMENT ON COLUMN fsync_repositories.mounts IS 'File systems mounted inside the tree at the last complete scan, in a form of the worker''s own';
COMMENT ON COLUMN fsync_repositories.scan_generation IS 'Generation of the latest scan that was begun';
COMMENT ON COLUMN fsync_repositories.last_complete_generation IS 'Generation of the last scan that ran to its end; 0: none yet';
COMMENT ON COLUMN fsync_repositories.last_complete_scan IS 'When the last scan that ran to its end began: what was on disk then is in file_records';
COMMENT ON COLUMN fsync_repositories.created_at IS 'When the repository was added';

--
-- No foreign key to fsync_repositories: it doubles the cost of loading.  A
-- trigger there clears the rows instead.  The fillfactor leaves room for HOT
-- updates.  file_path is compared by bytes, which is the order in which a
-- directory tree is walked.
--
CREATE TABLE file_records (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	repository_id uuid NOT NULL,
	file_path text COLLATE "C" NOT NULL,
	file_size bigint NOT NULL,
	mod_time timestamptz NOT NULL,
	content_hash bytea,
	last_scanned timestamptz NOT NULL,
	scan_generation bigint NOT NULL,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	inode bigint NOT NULL,
	mtime_ns bigint NOT NULL,
	ctime_ns bigint NOT NULL,
	btime_ns bigint,
	CONSTRAINT file_records_repository_id_file_path_key UNIQUE (repository_id, file_path)
) WITH (fillfactor = 95);

CREATE INDEX file_records_content_hash_idx ON file_records (content_hash);

COMMENT ON TABLE file_records IS
'One row for each tracked file. The disk is the truth and fsync''s worker the only writer; applications read, and may reference id.';
COMMENT ON COLUMN file_records.id IS 'Identifies the file; stays the same when its content changes and when it is renamed inside its repository';
COMMENT ON COLUMN file_records.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN file_records.file_path IS 'Path relative to the watched root, components separated by /. While overlapping renames are written, a trigger can see a row at "/" and its id for a moment';
COMMENT ON COLUMN file_records.file_size IS 'Size in bytes';
COMMENT ON COLUMN file_records.mod_time IS 'Modification time, to the microsecond; infinite where outside the range of the type';
COMMENT ON COLUMN file_records.content_hash IS 'SHA-256 of the content, 32 bytes; NULL where hashes are not calculated or not known yet';
COMMENT ON COLUMN file_records.last_scanned IS 'When this row was last written after an inspection of the file; fsync_files has the effective time';
COMMENT ON COLUMN file_records.scan_generation IS 'Generation of the scan that last wrote this row; fsync_files has the effective one';
COMMENT ON COLUMN file_records.created_at IS 'When the row was made';
COMMENT ON COLUMN file_records.updated_at IS 'When path, size, modification time or content last changed';
COMMENT ON COLUMN file_records.inode IS 'Inode number, for detecting changes and renames';
COMMENT ON COLUMN file_records.mtime_ns IS 'Modification time in nanoseconds since 1970, saturating';
COMMENT ON COLUMN file_records.ctime_ns IS 'Time of the inode''s last change in nanoseconds since 1970, saturating';
COMMENT ON COLUMN file_records.btime_ns IS 'Time of birth in nanoseconds since 1970, saturating; NULL where the file system does not know it';

CREATE TABLE sync_operations (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	repository_id uuid NOT NULL,
	operation_type text NOT NULL
		CHECK (operation_type IN ('startup', 'reconciliation', 'realtime')),
	reason text,
	files_scanned bigint NOT NULL DEFAULT 0,
	files_added bigint NOT NULL DEFAULT 0,
	files_updated bigint NOT NULL DEFAULT 0,
	files_moved bigint NOT NULL DEFAULT 0,
	files_removed bigint NOT NULL DEFAULT 0,
	bytes_hashed bigint NOT NULL DEFAULT 0,
	start_time timestamptz NOT NULL,
	end_time timestamptz,
	duration_ms bigint GENERATED ALWAYS AS
		((extract(epoch FROM end_time - start_time) * 1000)::bigint) STORED,
	status text NOT NULL DEFAULT 'running'
		CHECK (status IN ('running', 'completed', 'failed')),
	error_message text,
	CHECK ((status = 'running') = (end_time IS NULL))
);

CREATE INDEX sync_operations_repository_id_idx
	ON sync_operations (repository_id, id DESC);

COMMENT ON TABLE sync_operations IS
'One row for each run: a startup sync, a reconciliation, or a burst of real-time changes. Pruned by age and by number.';
COMMENT ON COLUMN sync_operations.id IS 'Identifies the run';
COMMENT ON COLUMN sync_operations.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN sync_operations.operation_type IS 'startup, reconciliation or realtime';
COMMENT ON COLUMN sync_operations.reason IS 'What caused the run';
COMMENT ON COLUMN sync_operations.files_scanned IS 'Files that were looked at';
COMMENT ON COLUMN sync_operations.files_added IS 'Rows added to file_records';
COMMENT ON COLUMN sync_operations.files_updated IS 'Rows whose size, modification time or content changed';
COMMENT ON COLUMN sync_operations.files_moved IS 'Rows that kept their id under a new path';
COMMENT ON COLUMN sync_operations.files_removed IS 'Rows removed from file_records';
COMMENT ON COLUMN sync_operations.bytes_hashed IS 'Bytes read for hashing';
COMMENT ON COLUMN sync_operations.start_time IS 'When the run began';
COMMENT ON COLUMN sync_operations.end_time IS 'When it ended; NULL while it runs';
COMMENT ON COLUMN sync_operations.duration_ms IS 'Milliseconds from start to end';
COMMENT ON COLUMN sync_operations.status IS 'running, completed or failed';
COMMENT ON COLUMN sync_operations.error_message IS 'Why it failed';

CREATE TABLE fsync_problems (
	repository_id uuid NOT NULL,
	path bytea NOT NULL,
	file_path text COLLATE "C" NOT NULL,
	problem text NOT NULL,
	message text,
	first_seen timestamptz NOT NULL,
	last_seen timestamptz NOT NULL,
	occurrences bigint NOT NULL DEFAULT 1
);

-- A path can be longer than an index entry, so the index is on its hash.
CREATE UNIQUE INDEX fsync_problems_repository_id_path_idx
	ON fsync_problems (repository_id, sha256(path));

COMMENT ON TABLE fsync_problems IS
'One row for each path that cannot be tracked as it should, and why. A row goes when its cause goes.';
COMMENT ON COLUMN fsync_problems.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN fsync_problems.path IS 'Path relative to the watched root, as the bytes that the file system has; empty: the root';
COMMENT ON COLUMN fsync_problems.file_path IS 'The same to read: bytes that are not text, control characters and backslashes as in bytea''s escape format; long ones cut off';
COMMENT ON COLUMN fsync_problems.problem IS 'What is wrong, in a few fixed words';
COMMENT ON COLUMN fsync_problems.message IS 'The error''s own message';
COMMENT ON COLUMN fsync_problems.first_seen IS 'When it was first met';
COMMENT ON COLUMN fsync_problems.last_seen IS 'When it was last met';
COMMENT ON COLUMN fsync_problems.occurrences IS 'How often it was met';

CREATE VIEW fsync_files AS
SELECT f.id,
	   f.repository_id,
	   r.watch_root || '/' || f.file_path AS absolute_path,
	   f.file_path,
	   f.file_size,
	   f.mod_time,
	   encode(f.content_hash, 'hex') AS content_hash,
	   greatest(f.last_scanned, r.last_complete_scan) AS last_scanned,
	   greatest(f.scan_generation, r.last_complete_generation) AS scan_generation,
	   f.created_at,
	   f.updated_at
FROM file_records f
JOIN fsync_repositories r USING (repository_id);

COMMENT ON VIEW fsync_files IS 'file_records for people to read';
COMMENT ON COLUMN fsync_files.id IS 'As in file_records';
COMMENT ON COLUMN fsync_files.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN fsync_files.absolute_path IS 'Absolute path of the file';
COMMENT ON COLUMN fsync_files.file_path IS 'Path relative to the watched root';
COMMENT ON COLUMN fsync_files.file_size IS 'Size in bytes';
COMMENT ON COLUMN fsync_files.mod_time IS 'Modification time';
COMMENT ON COLUMN fsync_files.content_hash IS 'SHA-256 of the content in hexadecimal, as sha256sum prints it';
COMMENT ON COLUMN fsync_files.last_scanned IS 'When the file was last known to be as the row says: by its own inspection or by the last complete scan, which rewrites no row of an unchanged file';
COMMENT ON COLUMN fsync_files.scan_generation IS 'Generation of the latest scan that found the file as the row says';
COMMENT ON COLUMN fsync_files.created_at IS 'When the row was made';
COMMENT ON COLUMN fsync_files.updated_at IS 'When path, size, modification time or content last changed';

--
-- An application's rows may reference file_records, so a dump has to carry it,
-- its sequence (lest an id be given out twice) and the repositories.
-- sync_operations and fsync_problems stay behind: they tell what this server
-- saw of its disks, which says nothing about another one, and the first scan
-- finds again whatever is still true.
--
SELECT pg_catalog.pg_extension_config_dump('fsync_repositories', '');
SELECT pg_catalog.pg_extension_config_dump('file_records', '');
SELECT pg_catalog.pg_extension_config_dump('file_records_id_seq', '');

--
-- Triggers.  Enabled always: rows of a removed repository would otherwise be
-- left for ever by a session in the replica role.
--

CREATE FUNCTION fsync_repositories_guard()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_repositories_guard'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION fsync_repositories_guard() IS
'Trigger: makes rows that fsync_add_repository() did not insert inactive, checks patterns, refuses a change of repository_id';

CREATE FUNCTION fsync_repositories_cleared()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_repositories_cleared'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION fsync_repositories_cleared() IS
'Trigger: deletes what other tables hold of a removed repository';

CREATE FUNCTION fsync_repositories_changed()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_repositories_changed'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION fsync_repositories_changed() IS
'Trigger: makes the worker look at fsync_repositories after the commit';

CREATE TRIGGER fsync_guard
	BEFORE INSERT OR UPDATE OF repository_id, include, exclude ON fsync_repositories
	FOR EACH ROW EXECUTE FUNCTION fsync_repositories_guard();

CREATE TRIGGER fsync_cleared
	AFTER DELETE ON fsync_repositories
	FOR EACH ROW EXECUTE FUNCTION fsync_repositories_cleared();

CREATE TRIGGER fsync_truncated
	AFTER TRUNCATE ON fsync_repositories
	FOR EACH STATEMENT EXECUTE FUNCTION fsync_repositories_cleared();

-- The columns that the worker itself writes are not among these.
CREATE TRIGGER fsync_changed
	AFTER INSERT OR DELETE OR TRUNCATE
		OR UPDATE OF path, user_area, watch_root, include, exclude,
			calculate_hashes, active, database_oid ON fsync_repositories
	FOR EACH STATEMENT EXECUTE FUNCTION fsync_repositories_changed();

ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER fsync_guard;
ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER fsync_cleared;
ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER fsync_truncated;
ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER fsync_changed;

--
-- Functions
--

CREATE FUNCTION fsync_add_repository(
	path text,
	repository_id uuid DEFAULT gen_random_uuid(),
	user_area text DEFAULT NULL,
	include text[] DEFAULT NULL,
	exclude text[] DEFAULT NULL,
	calculate_hashes boolean DEFAULT NULL)
RETURNS uuid
AS 'MODULE_PATHNAME', 'fsync_add_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_add_repository(text, uuid, text, text[], text[], boolean) IS
'Registers a directory: absolute path, id, sub-directory of path to watch instead of path, patterns as in .gitignore, whether to calculate hashes. Returns the id. Takes effect when the transaction commits. Only for superusers and members of pg_read_server_files.';

CREATE FUNCTION fsync_remove_repository(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_remove_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_remove_repository(uuid) IS
'Ends the tracking of a repository and deletes its rows, never its files. Fails while other tables reference rows of its files.';

CREATE FUNCTION fsync_activate_repository(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_activate_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_activate_repository(uuid) IS
'Begins to track a repository whose row came by restoring a dump or by copying a database. Checks its directory as fsync_add_repository() does, for the same roles.';

CREATE FUNCTION fsync_reconcile(
	repository_id uuid DEFAULT NULL,
	wait boolean DEFAULT true,
	force boolean DEFAULT false)
RETURNS SETOF sync_operations
AS 'MODULE_PATHNAME', 'fsync_reconcile'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_reconcile(uuid, boolean, boolean) IS
'Compares file_records with the disk and mends it: one repository, or NULL for all active ones; with wait, returns when the runs have ended; with force, accepts a replaced root, new mounts and the removal of more than fsync.mass_delete_threshold. Returns the rows of the runs, one a repository.';

CREATE PROCEDURE fsync_reconcile_all()
AS 'MODULE_PATHNAME', 'fsync_reconcile_all'
LANGUAGE C;

COMMENT ON PROCEDURE fsync_reconcile_all() IS
'Reconciles all active repositories at the same time and waits for them without holding a snapshot, so that vacuum is not held up: for pg_cron. Commits the transaction. Raises an error when a run failed.';

CREATE FUNCTION fsync_wait(
	repository_id uuid DEFAULT NULL,
	timeout interval DEFAULT '30 seconds')
RETURNS boolean
AS 'MODULE_PATHNAME', 'fsync_wait'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_wait(uuid, interval) IS
'Waits until every change that the kernel had reported when it was called is committed in file_records: of one repository, or NULL for all active ones. True when that is so, false when the time was over. The next statement sees the rows.';

CREATE FUNCTION fsync_status(repository_id uuid DEFAULT NULL)
RETURNS TABLE (
	repository_id uuid,
	path text,
	state text,
	reason text,
	hint text,
	total_files bigint,
	total_bytes numeric,
	is_watching boolean,
	directories_watched bigint,
	pending_changes bigint,
	problems bigint,
	operation_id bigint,
	operation_type text,
	operation_start timestamptz,
	files_done bigint,
	bytes_done bigint,
	last_operation_id bigint,
	last_operation_type text,
	last_operation_start timestamptz,
	last_operation_end timestamptz,
	last_operation_status text,
	last_files_scanned bigint,
	last_files_added bigint,
	last_files_updated bigint,
	last_files_moved bigint,
	last_files_removed bigint,
	last_error text,
	last_event timestamptz,
	last_complete_scan timestamptz,
	worker_pid integer,
	tree_pid integer)
AS 'MODULE_PATHNAME', 'fsync_status'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_status(uuid) IS
'What each repository is doing now (one, or NULL for all): its state with reason and hint, totals, the running operation and its progress, the last one that ended, the time of the last event and of the last complete scan, and the processes at work.';

CREATE FUNCTION fsync_sync_history(
	repository_id uuid,
	max_rows integer DEFAULT 10)
RETURNS SETOF sync_operations
AS 'MODULE_PATHNAME', 'fsync_sync_history'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION fsync_sync_history(uuid, integer) IS
'The latest runs of a repository, newest first.';

--
-- An ordinary role may do nothing until it is granted something: GRANT SELECT
-- for readers, GRANT EXECUTE for those who wait, reconcile or register.
--

REVOKE ALL ON fsync_repositories, file_records, sync_operations, fsync_problems,
	fsync_files FROM PUBLIC;

REVOKE ALL ON FUNCTION
	fsync_repositories_guard(),
	fsync_repositories_cleared(),
	fsync_repositories_changed(),
	fsync_add_repository(text, uuid, text, text[], text[], boolean),
	fsync_remove_repository(uuid),
	fsync_activate_repository(uuid),
	fsync_reconcile(uuid, boolean, boolean),
	fsync_wait(uuid, interval),
	fsync_status(uuid),
	fsync_sync_history(uuid, integer)
FROM PUBLIC;

REVOKE ALL ON PROCEDURE fsync_reconcile_all() FROM PUBLIC;
