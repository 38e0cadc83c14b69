/* fsync--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION fsync" to load this file. \quit

--
-- Whoever can create objects in the extension's schema could otherwise put an
-- operator, a function or a type in the way of those that are meant here, and
-- would be called by whoever uses ours.  So nothing of that schema is found
-- unless it is named with it.
--
SET LOCAL search_path = pg_catalog, pg_temp;

--
-- The work is done by background workers, which exist only where the library
-- was preloaded.  Refusing here beats an extension that silently does nothing.
-- Then the role that is to own the tables: it is made, or looked at.
--
CREATE FUNCTION @extschema@.fsync_install_begin()
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_install_begin'
LANGUAGE C VOLATILE;

SELECT @extschema@.fsync_install_begin();

DROP FUNCTION @extschema@.fsync_install_begin();

--
-- What may be watched: written by fsync_add_repository(), fsync_activate_repository()
-- and fsync_relocate_repository() alone, after they have asked for the right to do
-- so, and below SQL.  It belongs to whoever installs the extension, in a schema
-- of its own, so that no GRANT ON ALL TABLES reaches it, and it is not dumped:
-- a repository is tracked in the database where it was registered, and in no
-- other that its row may have come to.
--
CREATE SCHEMA fsync_private;

CREATE TABLE fsync_private.registrations (
	repository_id uuid PRIMARY KEY,
	watch_root text NOT NULL,
	given_path text NOT NULL,
	root_identity text,
	database_oid oid NOT NULL,
	system_identifier bigint NOT NULL,
	registered_at timestamptz NOT NULL
);

COMMENT ON SCHEMA fsync_private IS 'What only the functions of extension fsync may write';
COMMENT ON TABLE fsync_private.registrations IS
'What may be watched: one row for each repository that was registered in this database. Rights to it are granted to nobody.';
COMMENT ON COLUMN fsync_private.registrations.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN fsync_private.registrations.watch_root IS 'The directory that may be watched: absolute, without symbolic links';
COMMENT ON COLUMN fsync_private.registrations.given_path IS 'The same as it was given';
COMMENT ON COLUMN fsync_private.registrations.root_identity IS 'Its file system, inode and time of birth, as last accepted; NULL: not yet';
COMMENT ON COLUMN fsync_private.registrations.database_oid IS 'The database in which it was registered';
COMMENT ON COLUMN fsync_private.registrations.system_identifier IS 'The cluster in which it was registered';
COMMENT ON COLUMN fsync_private.registrations.registered_at IS 'When it was registered';

--
-- Tables
--

CREATE TABLE @extschema@.fsync_repositories (
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
	created_at timestamptz NOT NULL DEFAULT now(),
	paused boolean NOT NULL DEFAULT false,
	ignore_case boolean NOT NULL DEFAULT false,
	include_hidden boolean NOT NULL DEFAULT false,
	use_ignore_files boolean NOT NULL DEFAULT false,
	min_size bigint CHECK (min_size >= 0),
	max_size bigint CHECK (max_size >= 0),
	on_missing text NOT NULL DEFAULT 'delete'
		CHECK (on_missing IN ('delete', 'mark')),
	missing_retention interval
		CHECK (missing_retention <= '1000 years'),
	on_type_change text NOT NULL DEFAULT 'missing'
		CHECK (on_type_change IN ('missing', 'delete', 'mark')),
	on_overwrite text NOT NULL DEFAULT 'target'
		CHECK (on_overwrite IN ('target', 'source')),
	on_excluded text NOT NULL DEFAULT 'remove'
		CHECK (on_excluded IN ('remove', 'mark')),
	change_feed boolean NOT NULL DEFAULT false,
	debounce_interval interval
		CHECK (debounce_interval BETWEEN interval '0' AND interval '1 day'),
	reconciliation_interval interval
		CHECK (reconciliation_interval BETWEEN interval '0' AND interval '1000 years'),
	poll_interval interval
		CHECK (poll_interval BETWEEN interval '0' AND interval '1000 years')
);

COMMENT ON TABLE @extschema@.fsync_repositories IS
'Registered directories. Rows are made by fsync_add_repository() and go with fsync_remove_repository(); the settings, from include on, are changed by fsync_configure_repository() or directly.';
COMMENT ON COLUMN @extschema@.fsync_repositories.repository_id IS 'Identifies the repository';
COMMENT ON COLUMN @extschema@.fsync_repositories.path IS 'The directory, as it was given to fsync_add_repository()';
COMMENT ON COLUMN @extschema@.fsync_repositories.user_area IS 'Sub-directory of path that is watched; NULL: path itself';
COMMENT ON COLUMN @extschema@.fsync_repositories.watch_root IS 'The directory that is watched: path and user_area, absolute, symbolic links resolved when it was added';
COMMENT ON COLUMN @extschema@.fsync_repositories.include IS 'Patterns as in .gitignore; where there are any, only files that match are tracked';
COMMENT ON COLUMN @extschema@.fsync_repositories.exclude IS 'Patterns as in .gitignore of files that are not tracked; stronger than include';
COMMENT ON COLUMN @extschema@.fsync_repositories.calculate_hashes IS 'Whether content_hash is kept; NULL: as the setting fsync.calculate_hashes says';
COMMENT ON COLUMN @extschema@.fsync_repositories.active IS 'False for a row that came by restoring a dump, until fsync_activate_repository() is called';
COMMENT ON COLUMN @extschema@.fsync_repositories.database_oid IS 'The database in which the repository was made active; in a copy of that database it is inactive';
COMMENT ON COLUMN @extschema@.fsync_repositories.state IS 'State as the worker last wrote it; fsync_status() knows the present one';
COMMENT ON COLUMN @extschema@.fsync_repositories.state_reason IS 'Why it is in this state, where that needs saying';
COMMENT ON COLUMN @extschema@.fsync_repositories.state_hint IS 'What can be done about it';
COMMENT ON COLUMN @extschema@.fsync_repositories.root_identity IS 'Identity of the root and its file system when it was registered, or at the last complete scan: rows are written and removed only under this root';
COMMENT ON COLUMN @extschema@.fsync_repositories.mounts IS 'File systems mounted inside the tree at the last complete scan, in a form of the worker''s own';
COMMENT ON COLUMN @extschema@.fsync_repositories.scan_generation IS 'Generation of the latest scan that was begun';
COMMENT ON COLUMN @extschema@.fsync_repositories.last_complete_generation IS 'Generation of the last scan that ran to its end; 0: none yet';
COMMENT ON COLUMN @extschema@.fsync_repositories.last_complete_scan IS 'When the last scan that ran to its end began: what was on disk then is in file_records';
COMMENT ON COLUMN @extschema@.fsync_repositories.created_at IS 'When the repository was added';
COMMENT ON COLUMN @extschema@.fsync_repositories.paused IS 'True while nothing is watched, scanned or written, until fsync_resume() is called';
COMMENT ON COLUMN @extschema@.fsync_repositories.ignore_case IS 'Whether patterns match without regard to the case of ASCII letters';
COMMENT ON COLUMN @extschema@.fsync_repositories.include_hidden IS 'Whether names that begin with . are tracked';
COMMENT ON COLUMN @extschema@.fsync_repositories.use_ignore_files IS 'Whether files named .fsyncignore in the tree exclude what they name';
COMMENT ON COLUMN @extschema@.fsync_repositories.min_size IS 'Smaller files are not tracked, in bytes; NULL: no limit';
COMMENT ON COLUMN @extschema@.fsync_repositories.max_size IS 'Larger files are not tracked, in bytes; NULL: no limit';
COMMENT ON COLUMN @extschema@.fsync_repositories.on_missing IS 'What becomes of the row of a file that is gone: delete, or mark (it stays, with missing_since)';
COMMENT ON COLUMN @extschema@.fsync_repositories.missing_retention IS 'How long marked rows are kept; NULL: for ever';
COMMENT ON COLUMN @extschema@.fsync_repositories.on_type_change IS 'What becomes of the row of a file whose name is now that of a directory, a symbolic link or the like: missing (as on_missing says), delete, or mark';
COMMENT ON COLUMN @extschema@.fsync_repositories.on_overwrite IS 'Which row remains, with its id, when a file is renamed onto another one: target (that of the file that was overwritten, with the new content), or source (that of the file that was renamed)';
COMMENT ON COLUMN @extschema@.fsync_repositories.on_excluded IS 'What becomes of the row of a file that the settings do not track any more: remove, or mark (it stays, with missing_since)';
COMMENT ON COLUMN @extschema@.fsync_repositories.change_feed IS 'Whether changes are written to file_changes';
COMMENT ON COLUMN @extschema@.fsync_repositories.debounce_interval IS 'Quiet after which a changed file is looked at; NULL: as the setting fsync.debounce_interval says';
COMMENT ON COLUMN @extschema@.fsync_repositories.reconciliation_interval IS 'Time between two reconciliations, 0: none by itself; NULL: as the setting fsync.reconciliation_interval says';
COMMENT ON COLUMN @extschema@.fsync_repositories.poll_interval IS 'The same where a part of the directory reports no events; NULL: as the setting fsync.poll_interval says';

--
-- No foreign key to fsync_repositories: it doubles the cost of loading.  A
-- trigger there clears the rows instead.  The fillfactor leaves room for HOT
-- updates.  file_path is compared by bytes, which is the order in which a
-- directory tree is walked.
--
CREATE TABLE @extschema@.file_records (
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
	missing_since timestamptz,
	missing_reason text,
	CONSTRAINT file_records_repository_id_file_path_key UNIQUE (repository_id, file_path)
) WITH (fillfactor = 95);

CREATE INDEX file_records_content_hash_idx ON @extschema@.file_records (content_hash);

-- Nearly always empty: whether there is any, and which are to be purged.
CREATE INDEX file_records_missing_idx
	ON @extschema@.file_records (repository_id, missing_since, id) WHERE missing_since IS NOT NULL;

COMMENT ON TABLE @extschema@.file_records IS
'One row for each tracked file and, where the repository marks missing files, for those that are gone. The disk is the truth and fsync''s worker the only writer; applications read, and may reference id.';
COMMENT ON COLUMN @extschema@.file_records.id IS 'Identifies the file; stays the same when its content changes and when it is renamed inside its repository';
COMMENT ON COLUMN @extschema@.file_records.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.file_records.file_path IS 'Path relative to the watched root, components separated by /. While overlapping renames are written, a trigger can see a row at "/" and its id for a moment';
COMMENT ON COLUMN @extschema@.file_records.file_size IS 'Size in bytes';
COMMENT ON COLUMN @extschema@.file_records.mod_time IS 'Modification time, to the microsecond; infinite where outside the range of the type';
COMMENT ON COLUMN @extschema@.file_records.content_hash IS 'SHA-256 of the content, 32 bytes; NULL where hashes are not calculated or not known yet';
COMMENT ON COLUMN @extschema@.file_records.last_scanned IS 'When this row was last written after an inspection of the file; fsync_files has the effective time';
COMMENT ON COLUMN @extschema@.file_records.scan_generation IS 'Generation of the scan that last wrote this row; fsync_files has the effective one';
COMMENT ON COLUMN @extschema@.file_records.created_at IS 'When the row was made';
COMMENT ON COLUMN @extschema@.file_records.updated_at IS 'When path, size, modification time or content last changed';
COMMENT ON COLUMN @extschema@.file_records.inode IS 'Inode number, for detecting changes and renames';
COMMENT ON COLUMN @extschema@.file_records.mtime_ns IS 'Modification time in nanoseconds since 1970, saturating';
COMMENT ON COLUMN @extschema@.file_records.ctime_ns IS 'Time of the inode''s last change in nanoseconds since 1970, saturating';
COMMENT ON COLUMN @extschema@.file_records.btime_ns IS 'Time of birth in nanoseconds since 1970, saturating; NULL where the file system does not know it';
COMMENT ON COLUMN @extschema@.file_records.missing_since IS 'When the file was found to be gone, or not to be tracked any more; NULL while it is there. Only where on_missing, on_type_change or on_excluded of the repository is mark';
COMMENT ON COLUMN @extschema@.file_records.missing_reason IS 'Why missing_since is set: missing (there is no such file), type change (the name is that of something else), excluded (settings do not track the file)';

CREATE TABLE @extschema@.sync_operations (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	repository_id uuid NOT NULL,
	operation_type text NOT NULL
		CHECK (operation_type IN ('startup', 'reconciliation', 'realtime', 'verification')),
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
		((extract(epoch FROM end_time - start_time)::numeric * 1000::numeric)::bigint) STORED,
	status text NOT NULL DEFAULT 'running'
		CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
	error_message text,
	CHECK ((status = 'running') = (end_time IS NULL))
);

CREATE INDEX sync_operations_repository_id_idx
	ON @extschema@.sync_operations (repository_id, id DESC);

COMMENT ON TABLE @extschema@.sync_operations IS
'One row for each run: a startup sync, a reconciliation, a burst of real-time changes, or a verification. Pruned by age and by number.';
COMMENT ON COLUMN @extschema@.sync_operations.id IS 'Identifies the run';
COMMENT ON COLUMN @extschema@.sync_operations.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.sync_operations.operation_type IS 'startup, reconciliation, realtime or verification';
COMMENT ON COLUMN @extschema@.sync_operations.reason IS 'What caused the run';
COMMENT ON COLUMN @extschema@.sync_operations.files_scanned IS 'Files that were looked at; of a verification, that were read to the end';
COMMENT ON COLUMN @extschema@.sync_operations.files_added IS 'Rows added to file_records';
COMMENT ON COLUMN @extschema@.sync_operations.files_updated IS 'Rows whose size, modification time or content changed';
COMMENT ON COLUMN @extschema@.sync_operations.files_moved IS 'Rows that kept their id under a new path';
COMMENT ON COLUMN @extschema@.sync_operations.files_removed IS 'Rows removed from file_records';
COMMENT ON COLUMN @extschema@.sync_operations.bytes_hashed IS 'Bytes read for hashing';
COMMENT ON COLUMN @extschema@.sync_operations.start_time IS 'When the run began';
COMMENT ON COLUMN @extschema@.sync_operations.end_time IS 'When it ended; NULL while it runs';
COMMENT ON COLUMN @extschema@.sync_operations.duration_ms IS 'Milliseconds from start to end';
COMMENT ON COLUMN @extschema@.sync_operations.status IS 'running, completed, failed or cancelled';
COMMENT ON COLUMN @extschema@.sync_operations.error_message IS 'Why it failed or was cancelled';

CREATE TABLE @extschema@.fsync_problems (
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
	ON @extschema@.fsync_problems (repository_id, sha256(path));

-- In a publication FOR ALL TABLES a table that is updated needs an identity, and
-- an index on an expression is none.
ALTER TABLE @extschema@.fsync_problems REPLICA IDENTITY FULL;

COMMENT ON TABLE @extschema@.fsync_problems IS
'One row for each path that cannot be tracked as it should, and why. A row goes when its cause goes.';
COMMENT ON COLUMN @extschema@.fsync_problems.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_problems.path IS 'Path relative to the watched root, as the bytes that the file system has; empty: the root';
COMMENT ON COLUMN @extschema@.fsync_problems.file_path IS 'The same to read: bytes that are not text, control characters and backslashes as in bytea''s escape format; long ones cut off';
COMMENT ON COLUMN @extschema@.fsync_problems.problem IS 'What is wrong, in a few fixed words';
COMMENT ON COLUMN @extschema@.fsync_problems.message IS 'The error''s own message';
COMMENT ON COLUMN @extschema@.fsync_problems.first_seen IS 'When it was first met';
COMMENT ON COLUMN @extschema@.fsync_problems.last_seen IS 'When it was last met';
COMMENT ON COLUMN @extschema@.fsync_problems.occurrences IS 'How often it was met';

--
-- Verification
--

-- Apart from file_records, of which a verification would otherwise write every
-- row and every index entry anew.  No foreign key, for the same reason as
-- there; what is left of a removed file is forgotten by the next verification.
CREATE TABLE @extschema@.fsync_verifications (
	file_id bigint PRIMARY KEY,
	repository_id uuid NOT NULL,
	last_read timestamptz NOT NULL,
	last_verified timestamptz,
	problem text,
	message text,
	expected_hash bytea,
	found_hash bytea
);

-- A file that is not right has its turn like the others: were it always the
-- first, a large one could use up every budget.
CREATE INDEX fsync_verifications_last_read_idx
	ON @extschema@.fsync_verifications (repository_id, last_read, file_id);

CREATE INDEX fsync_verifications_problem_idx
	ON @extschema@.fsync_verifications (repository_id, file_id) WHERE problem IS NOT NULL;

COMMENT ON TABLE @extschema@.fsync_verifications IS
'Files that fsync_verify() has read again, one row for each; fsync_files has last_verified, too';
COMMENT ON COLUMN @extschema@.fsync_verifications.file_id IS 'The file; see file_records';
COMMENT ON COLUMN @extschema@.fsync_verifications.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_verifications.last_read IS 'When a verification last read it, whatever came of it';
COMMENT ON COLUMN @extschema@.fsync_verifications.last_verified IS 'When its content was last read and found to be as content_hash says; NULL: never';
COMMENT ON COLUMN @extschema@.fsync_verifications.problem IS 'What the last verification found, as in fsync_problems; NULL: nothing. It stands until the file changes or is found right';
COMMENT ON COLUMN @extschema@.fsync_verifications.message IS 'More about the problem';
COMMENT ON COLUMN @extschema@.fsync_verifications.expected_hash IS 'content_hash, when the problem was found';
COMMENT ON COLUMN @extschema@.fsync_verifications.found_hash IS 'SHA-256 of what was found instead; NULL where nothing could be read';

--
-- Views
--

CREATE VIEW @extschema@.fsync_files AS
SELECT f.id,
	   f.repository_id,
	   r.watch_root || '/' || f.file_path AS absolute_path,
	   f.file_path,
	   f.file_size,
	   f.mod_time,
	   encode(f.content_hash, 'hex'::text) AS content_hash,
	   CASE WHEN f.missing_since IS NULL
		   THEN greatest(f.last_scanned, r.last_complete_scan)
		   ELSE f.last_scanned END AS last_scanned,
	   CASE WHEN f.missing_since IS NULL
		   THEN greatest(f.scan_generation, r.last_complete_generation)
		   ELSE f.scan_generation END AS scan_generation,
	   f.created_at,
	   f.updated_at,
	   f.missing_since,
	   f.missing_reason,
	   v.last_verified,
	   substring(f.file_path, '[^/]*$'::text) AS file_name,
	   coalesce(substring(f.file_path, '^(.*)/'::text), ''::text) AS directory,
	   lower(substring(f.file_path, '[^/][.]([^./]+)$'::text)) AS extension
FROM @extschema@.file_records f
JOIN @extschema@.fsync_repositories r USING (repository_id)
LEFT JOIN @extschema@.fsync_verifications v ON v.file_id = f.id;

COMMENT ON VIEW @extschema@.fsync_files IS 'file_records for people to read';
COMMENT ON COLUMN @extschema@.fsync_files.id IS 'As in file_records';
COMMENT ON COLUMN @extschema@.fsync_files.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_files.absolute_path IS 'Absolute path of the file';
COMMENT ON COLUMN @extschema@.fsync_files.file_path IS 'Path relative to the watched root';
COMMENT ON COLUMN @extschema@.fsync_files.file_size IS 'Size in bytes';
COMMENT ON COLUMN @extschema@.fsync_files.mod_time IS 'Modification time';
COMMENT ON COLUMN @extschema@.fsync_files.content_hash IS 'SHA-256 of the content in hexadecimal, as sha256sum prints it';
COMMENT ON COLUMN @extschema@.fsync_files.last_scanned IS 'When the file was last known to be as the row says: by its own inspection or by the last complete scan, which rewrites no row of an unchanged file';
COMMENT ON COLUMN @extschema@.fsync_files.scan_generation IS 'Generation of the latest scan that found the file as the row says';
COMMENT ON COLUMN @extschema@.fsync_files.created_at IS 'When the row was made';
COMMENT ON COLUMN @extschema@.fsync_files.updated_at IS 'When path, size, modification time or content last changed';
COMMENT ON COLUMN @extschema@.fsync_files.missing_since IS 'When the file was found to be gone; NULL while it is there';
COMMENT ON COLUMN @extschema@.fsync_files.missing_reason IS 'Why; as in file_records';
COMMENT ON COLUMN @extschema@.fsync_files.file_name IS 'Last component of file_path';
COMMENT ON COLUMN @extschema@.fsync_files.directory IS 'What is before it, without the / at the end; empty: the watched directory itself';
COMMENT ON COLUMN @extschema@.fsync_files.extension IS 'What follows the last dot of the name, in lower case; NULL: there is none, or only at the beginning or the end';
COMMENT ON COLUMN @extschema@.fsync_files.last_verified IS 'When fsync_verify() last found the content to be as content_hash says; NULL: never';

-- The names of one file, hard links, share inode and times.  Inode numbers
-- alone do not tell: a repository can span file systems.  A file that is
-- corrupt is no copy, lest the good one be removed as superfluous.  Where
-- repositories overlap, the outer one's row stands for a file that has several,
-- and those of one tree count as one repository.
CREATE VIEW @extschema@.fsync_duplicates AS
SELECT f.content_hash,
	   f.file_size,
	   count(DISTINCT (r.tree, f.inode, f.btime_ns, f.mtime_ns)) AS copies,
	   count(*) AS names,
	   (count(DISTINCT (r.tree, f.inode, f.btime_ns, f.mtime_ns)) - 1)
		   * f.file_size AS wasted_bytes,
	   array_agg(f.id ORDER BY f.id) AS file_ids,
	   array_agg(r.watch_root || '/' || f.file_path ORDER BY f.id) AS absolute_paths
FROM @extschema@.file_records f
JOIN (SELECT i.repository_id, i.watch_root,
		  coalesce((SELECT o.repository_id FROM @extschema@.fsync_repositories o
			  WHERE starts_with(i.watch_root, o.watch_root || '/')
			  ORDER BY length(o.watch_root) LIMIT 1), i.repository_id) AS tree
	  FROM @extschema@.fsync_repositories i) r USING (repository_id)
WHERE f.missing_since IS NULL AND f.content_hash IS NOT NULL AND f.file_size > 0
	AND (r.tree = f.repository_id OR NOT EXISTS (SELECT FROM @extschema@.fsync_repositories o
		JOIN @extschema@.file_records g ON g.repository_id = o.repository_id
			AND g.file_path = substr((r.watch_root || '/' || f.file_path) COLLATE "C",
				length(o.watch_root) + 2)
		WHERE starts_with(r.watch_root, o.watch_root || '/')
			AND g.missing_since IS NULL AND g.content_hash IS NOT NULL))
	AND NOT EXISTS (SELECT FROM @extschema@.fsync_verifications v
		WHERE v.file_id = f.id AND v.problem IS NOT NULL)
GROUP BY f.content_hash, f.file_size
HAVING count(DISTINCT (r.tree, f.inode, f.btime_ns, f.mtime_ns)) > 1;

COMMENT ON VIEW @extschema@.fsync_duplicates IS
'Files with the same content, one row for each content that is there more than once. Empty, missing and corrupt files are left out, and so is what is only one file with several names (hard links), or with rows in several repositories.';
COMMENT ON COLUMN @extschema@.fsync_duplicates.content_hash IS 'SHA-256 of the content, as in file_records';
COMMENT ON COLUMN @extschema@.fsync_duplicates.file_size IS 'Size in bytes';
COMMENT ON COLUMN @extschema@.fsync_duplicates.copies IS 'How many files have it; the hard links of a file count once';
COMMENT ON COLUMN @extschema@.fsync_duplicates.names IS 'How many rows of file_records have it';
COMMENT ON COLUMN @extschema@.fsync_duplicates.wasted_bytes IS 'Size of all copies but one';
COMMENT ON COLUMN @extschema@.fsync_duplicates.file_ids IS 'Ids of the rows; the one that is known longest comes first';
COMMENT ON COLUMN @extschema@.fsync_duplicates.absolute_paths IS 'Absolute paths, in the order of file_ids';

--
-- An application's rows may reference file_records, so a dump has to carry it,
-- its sequence (lest an id be given out twice) and the repositories.
-- sync_operations and fsync_problems stay behind: they tell what this server
-- saw of its disks, which says nothing about another one, and the first scan
-- finds again whatever is still true.
--
SELECT pg_catalog.pg_extension_config_dump('@extschema@.fsync_repositories', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.file_records', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.file_records_id_seq', '');

--
-- Triggers.  Enabled always: rows of a removed repository would otherwise be
-- left for ever by a session in the replica role.
--

CREATE FUNCTION @extschema@.fsync_repositories_guard()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_repositories_guard'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION @extschema@.fsync_repositories_guard() IS
'Trigger: makes rows that fsync_add_repository() did not insert inactive, checks settings, refuses a change of repository_id';

CREATE FUNCTION @extschema@.fsync_repositories_cleared()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_repositories_cleared'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION @extschema@.fsync_repositories_cleared() IS
'Trigger: deletes what other tables hold of a removed repository';

CREATE FUNCTION @extschema@.fsync_repositories_changed()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_repositories_changed'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION @extschema@.fsync_repositories_changed() IS
'Trigger: makes the worker look at fsync_repositories after the commit';

CREATE FUNCTION @extschema@.fsync_repositories_notice()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_repositories_notice'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION @extschema@.fsync_repositories_notice() IS
'Trigger: says how many rows a change of settings or a removal takes away, and how many of other tables go with them';

CREATE FUNCTION @extschema@.fsync_registrations_guard()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_registrations_guard'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION @extschema@.fsync_registrations_guard() IS
'Trigger: refuses rows that a statement writes, and leaves out those that logical replication brings';

CREATE TRIGGER fsync_guard
	BEFORE INSERT OR UPDATE ON fsync_private.registrations
	FOR EACH ROW EXECUTE FUNCTION @extschema@.fsync_registrations_guard();

ALTER TABLE fsync_private.registrations ENABLE ALWAYS TRIGGER fsync_guard;

-- Rows are checked whoever writes them.
CREATE TRIGGER fsync_guard
	BEFORE INSERT OR UPDATE OF repository_id, include, exclude, min_size, max_size,
		on_missing, missing_retention, on_type_change, on_overwrite, on_excluded,
		debounce_interval, reconciliation_interval, poll_interval ON @extschema@.fsync_repositories
	FOR EACH ROW EXECUTE FUNCTION @extschema@.fsync_repositories_guard();

-- After the guard, by its name.
CREATE TRIGGER fsync_notice
	BEFORE DELETE OR UPDATE OF include, exclude, ignore_case, include_hidden,
		use_ignore_files, min_size, max_size, on_missing, missing_retention,
		on_type_change, on_excluded, change_feed ON @extschema@.fsync_repositories
	FOR EACH ROW EXECUTE FUNCTION @extschema@.fsync_repositories_notice();

CREATE TRIGGER fsync_notice_all
	BEFORE TRUNCATE ON @extschema@.fsync_repositories
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.fsync_repositories_notice();

CREATE TRIGGER fsync_cleared
	AFTER DELETE ON @extschema@.fsync_repositories
	FOR EACH ROW EXECUTE FUNCTION @extschema@.fsync_repositories_cleared();

CREATE TRIGGER fsync_truncated
	AFTER TRUNCATE ON @extschema@.fsync_repositories
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.fsync_repositories_cleared();

-- The columns that the worker itself writes are not among these.
CREATE TRIGGER fsync_changed
	AFTER INSERT OR DELETE OR TRUNCATE
		OR UPDATE OF path, user_area, watch_root, include, exclude,
			calculate_hashes, active, database_oid, paused, ignore_case,
			include_hidden, use_ignore_files, min_size, max_size, on_missing,
			missing_retention, on_type_change, on_overwrite, on_excluded, change_feed,
			debounce_interval, reconciliation_interval, poll_interval ON @extschema@.fsync_repositories
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.fsync_repositories_changed();

ALTER TABLE @extschema@.fsync_repositories ENABLE ALWAYS TRIGGER fsync_guard;
ALTER TABLE @extschema@.fsync_repositories ENABLE ALWAYS TRIGGER fsync_cleared;
ALTER TABLE @extschema@.fsync_repositories ENABLE ALWAYS TRIGGER fsync_truncated;
ALTER TABLE @extschema@.fsync_repositories ENABLE ALWAYS TRIGGER fsync_changed;

--
-- What functions with many columns return.  A row type is written once, so the
-- function can be read in \df, and a later version adds a column with ALTER TYPE
-- where it would have to drop a function with OUT arguments.
--

CREATE TYPE @extschema@.fsync_repository_status AS (
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
	tree_pid integer,
	sandbox text);

COMMENT ON TYPE @extschema@.fsync_repository_status IS 'A row of fsync_status()';
COMMENT ON COLUMN @extschema@.fsync_repository_status.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_repository_status.path IS 'The directory, as it was given';
COMMENT ON COLUMN @extschema@.fsync_repository_status.state IS 'starting, syncing, watching, degraded, unavailable, paused, inactive or stopped';
COMMENT ON COLUMN @extschema@.fsync_repository_status.reason IS 'Why it is in this state, where that needs saying';
COMMENT ON COLUMN @extschema@.fsync_repository_status.hint IS 'What can be done about it';
COMMENT ON COLUMN @extschema@.fsync_repository_status.total_files IS 'Files in file_records, without missing ones';
COMMENT ON COLUMN @extschema@.fsync_repository_status.total_bytes IS 'Their size';
COMMENT ON COLUMN @extschema@.fsync_repository_status.is_watching IS 'Whether events are listened to';
COMMENT ON COLUMN @extschema@.fsync_repository_status.directories_watched IS 'Directories with a watch';
COMMENT ON COLUMN @extschema@.fsync_repository_status.pending_changes IS 'Changes that wait or are being looked at';
COMMENT ON COLUMN @extschema@.fsync_repository_status.problems IS 'Rows in fsync_problems';
COMMENT ON COLUMN @extschema@.fsync_repository_status.operation_id IS 'The operation that goes on; see sync_operations';
COMMENT ON COLUMN @extschema@.fsync_repository_status.operation_type IS 'Its type';
COMMENT ON COLUMN @extschema@.fsync_repository_status.operation_start IS 'When it began';
COMMENT ON COLUMN @extschema@.fsync_repository_status.files_done IS 'Files that it has looked at';
COMMENT ON COLUMN @extschema@.fsync_repository_status.bytes_done IS 'Bytes that it has read';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_operation_id IS 'The last operation that ended';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_operation_type IS 'Its type';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_operation_start IS 'When it began';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_operation_end IS 'When it ended';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_operation_status IS 'How it ended';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_files_scanned IS 'Files that it looked at';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_files_added IS 'Rows that it added';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_files_updated IS 'Rows that it changed';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_files_moved IS 'Rows that it gave another path';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_files_removed IS 'Rows that it removed';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_error IS 'Why it failed';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_event IS 'When the last event came';
COMMENT ON COLUMN @extschema@.fsync_repository_status.last_complete_scan IS 'When the last scan that ran to its end began';
COMMENT ON COLUMN @extschema@.fsync_repository_status.worker_pid IS 'Process of the worker';
COMMENT ON COLUMN @extschema@.fsync_repository_status.tree_pid IS 'Process of fsync-tree';
COMMENT ON COLUMN @extschema@.fsync_repository_status.sandbox IS 'complete, or what the system lacks for it';

CREATE TYPE @extschema@.fsync_rule AS (
	tracked boolean,
	source text,
	rule text,
	rule_file text,
	decided_path text,
	detail text);

COMMENT ON TYPE @extschema@.fsync_rule IS 'What fsync_why() returns';
COMMENT ON COLUMN @extschema@.fsync_rule.tracked IS 'Whether it is tracked, or would be; NULL: not known';
COMMENT ON COLUMN @extschema@.fsync_rule.source IS 'Kind of the rule';
COMMENT ON COLUMN @extschema@.fsync_rule.rule IS 'The rule as it was written';
COMMENT ON COLUMN @extschema@.fsync_rule.rule_file IS 'The .fsyncignore that it is in';
COMMENT ON COLUMN @extschema@.fsync_rule.decided_path IS 'The part of the path that it speaks of';
COMMENT ON COLUMN @extschema@.fsync_rule.detail IS 'What else there is to say';

CREATE TYPE @extschema@.fsync_folder_entry AS (
	name text COLLATE "C",
	is_directory boolean,
	path text COLLATE "C",
	id bigint,
	file_size bigint,
	mod_time timestamptz,
	content_hash bytea);

COMMENT ON TYPE @extschema@.fsync_folder_entry IS 'A row of fsync_list()';
COMMENT ON COLUMN @extschema@.fsync_folder_entry.name IS 'Last component of the path';
COMMENT ON COLUMN @extschema@.fsync_folder_entry.is_directory IS 'Whether it is a folder';
COMMENT ON COLUMN @extschema@.fsync_folder_entry.path IS 'Relative to the watched directory; a folder''s ends with /';
COMMENT ON COLUMN @extschema@.fsync_folder_entry.id IS 'As in file_records; NULL: a folder';
COMMENT ON COLUMN @extschema@.fsync_folder_entry.file_size IS 'As in file_records';
COMMENT ON COLUMN @extschema@.fsync_folder_entry.mod_time IS 'As in file_records';
COMMENT ON COLUMN @extschema@.fsync_folder_entry.content_hash IS 'As in file_records';

--
-- Functions
--

CREATE FUNCTION @extschema@.fsync_add_repository(
	path text,
	repository_id uuid DEFAULT NULL,
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
	on_overwrite text DEFAULT NULL,
	on_excluded text DEFAULT NULL,
	change_feed boolean DEFAULT NULL,
	debounce_interval interval DEFAULT NULL,
	reconciliation_interval interval DEFAULT NULL,
	poll_interval interval DEFAULT NULL,
	if_not_exists boolean DEFAULT false,
	must_exist boolean DEFAULT true)
RETURNS uuid
AS 'MODULE_PATHNAME', 'fsync_add_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_add_repository(text, uuid, text, text[], text[], boolean, boolean,
	boolean, boolean, bigint, bigint, text, interval, text, text, text, boolean,
	interval, interval, interval, boolean, boolean) IS
'Registers a directory: absolute path, id (NULL: a new one), sub-directory of path to watch instead of path, and the settings, as in fsync_configure_repository(). if_not_exists: where it is registered already, leaves it as it is. must_exist => false: it may come later, and is unavailable until then. Returns the id. Takes effect when the transaction commits. Only for superusers and members of pg_read_server_files.';

CREATE FUNCTION @extschema@.fsync_configure_repository(
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
	on_overwrite text DEFAULT NULL,
	on_excluded text DEFAULT NULL,
	change_feed boolean DEFAULT NULL,
	debounce_interval interval DEFAULT NULL,
	reconciliation_interval interval DEFAULT NULL,
	poll_interval interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_configure_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_configure_repository(uuid, text[], text[], boolean, boolean, boolean,
	boolean, bigint, bigint, text, interval, text, text, text, boolean, interval, interval, interval) IS
'Changes settings of a repository; NULL leaves one as it is. Patterns to include and to exclude as in .gitignore ({}: none), whether to calculate hashes, to ignore the case of letters in patterns, to track names that begin with a dot, to obey .fsyncignore files; least and greatest size in bytes (-1: no limit); what becomes of the row of a missing file (delete, mark), how long marked rows are kept (0 or less: for ever), what becomes of the row of a name that is no file any more (missing: as for a missing file, delete, mark), which row remains when a file is renamed onto another one (target, source), what becomes of the row of a file that the settings do not track any more (remove, mark), whether to write file_changes; quiet after which a changed file is looked at, time between reconciliations and the same where no events are reported (0: none; negative: as the settings of the same names say). When the transaction commits, one reconciliation removes what is now excluded and adds what is now included.';

CREATE FUNCTION @extschema@.fsync_why(
	repository_id uuid,
	path text)
RETURNS @extschema@.fsync_rule
AS 'MODULE_PATHNAME', 'fsync_why'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_why(uuid, text) IS
'Which rule decides whether a path (relative to the repository''s directory, or absolute; a slash at its end: a directory) is tracked, or would be if there were such a file: whether it is (NULL: not known), what kind of rule it is (none, default, hidden, exclude, ignore file, include, type, size, name), the rule as it was written, the .fsyncignore that it is in, the part of the path that it speaks of, and what else there is to say. Tells whether a file exists: not for every role.';

CREATE TYPE @extschema@.fsync_settings_preview AS (
	files_added bigint,
	files_removed bigint,
	first_added text[],
	first_removed text[],
	complete boolean);

COMMENT ON TYPE @extschema@.fsync_settings_preview IS 'What fsync_preview() returns';
COMMENT ON COLUMN @extschema@.fsync_settings_preview.files_added IS 'Files that would get a row';
COMMENT ON COLUMN @extschema@.fsync_settings_preview.files_removed IS 'Files whose row would go';
COMMENT ON COLUMN @extschema@.fsync_settings_preview.first_added IS 'The first paths of these';
COMMENT ON COLUMN @extschema@.fsync_settings_preview.first_removed IS 'The first paths of these';
COMMENT ON COLUMN @extschema@.fsync_settings_preview.complete IS 'false: not everything could be looked at in the time';

CREATE FUNCTION @extschema@.fsync_preview(
	repository_id uuid,
	include text[] DEFAULT NULL,
	exclude text[] DEFAULT NULL,
	ignore_case boolean DEFAULT NULL,
	include_hidden boolean DEFAULT NULL,
	use_ignore_files boolean DEFAULT NULL,
	min_size bigint DEFAULT NULL,
	max_size bigint DEFAULT NULL,
	max_paths integer DEFAULT 10,
	timeout interval DEFAULT '30 seconds')
RETURNS @extschema@.fsync_settings_preview
AS 'MODULE_PATHNAME', 'fsync_preview'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_preview(uuid, text[], text[], boolean, boolean, boolean, bigint, bigint,
	integer, interval) IS
'What these settings would come to, as fsync_configure_repository() takes them (NULL: as it is), with nothing changed: how many files of those on the disk would be tracked and are not now, how many the other way round, the first max_paths paths of each, and whether all of the directory was looked at within timeout. Only for roles that may read file_records.';

CREATE TYPE @extschema@.fsync_ignored_path AS (
	path text,
	is_directory boolean,
	source text,
	rule text,
	rule_file text,
	detail text);

COMMENT ON TYPE @extschema@.fsync_ignored_path IS 'What fsync_ignored() returns';
COMMENT ON COLUMN @extschema@.fsync_ignored_path.path IS 'What is not tracked';
COMMENT ON COLUMN @extschema@.fsync_ignored_path.is_directory IS 'Whether it is a directory, of which nothing is looked at';
COMMENT ON COLUMN @extschema@.fsync_ignored_path.source IS 'What kind of rule it is, as in fsync_why()';
COMMENT ON COLUMN @extschema@.fsync_ignored_path.rule IS 'The rule, as it was written';
COMMENT ON COLUMN @extschema@.fsync_ignored_path.rule_file IS 'The .fsyncignore that it is in';
COMMENT ON COLUMN @extschema@.fsync_ignored_path.detail IS 'A sentence';

CREATE FUNCTION @extschema@.fsync_ignored(
	repository_id uuid,
	max_rows integer DEFAULT 1000,
	timeout interval DEFAULT '30 seconds')
RETURNS SETOF @extschema@.fsync_ignored_path
AS 'MODULE_PATHNAME', 'fsync_ignored'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_ignored(uuid, integer, interval) IS
'What is in the directory of a repository and not tracked, in the order of paths: the path relative to the directory, whether it is a directory (of which nothing is tracked), what kind of rule it is (default, hidden, exclude, ignore file, include, type, size, name, error), the rule as it was written, the .fsyncignore that it is in, and what else there is to say. At most max_rows rows; a warning says if there are more, or if timeout was too short. Only for roles that may read file_records.';

CREATE FUNCTION @extschema@.fsync_remove_repository(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_remove_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_remove_repository(uuid) IS
'Ends the tracking of a repository and deletes its rows, never its files. Fails while other tables reference rows of its files.';

CREATE FUNCTION @extschema@.fsync_activate_repository(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_activate_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_activate_repository(uuid) IS
'Begins to track a repository whose row came by restoring a dump or by copying a database. Checks its directory as fsync_add_repository() does, for the same roles.';

CREATE FUNCTION @extschema@.fsync_relocate_repository(
	repository_id uuid,
	new_path text)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_relocate_repository'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_relocate_repository(uuid, text) IS
'The files of a repository are somewhere else now: watches new_path (and user_area below it) instead of the former path. Checks it as fsync_add_repository() does, for the same roles. When the transaction commits, a reconciliation compares everything; files with the same path keep their ids, and are read again where the directory is another one.';

CREATE FUNCTION @extschema@.fsync_reconcile(
	repository_id uuid DEFAULT NULL,
	wait boolean DEFAULT true,
	force boolean DEFAULT false,
	path text DEFAULT NULL)
RETURNS SETOF @extschema@.sync_operations
AS 'MODULE_PATHNAME', 'fsync_reconcile'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_reconcile(uuid, boolean, boolean, text) IS
'Compares file_records with the disk and mends it: one repository, or NULL for all active ones; with wait, returns when the runs have ended; with force, accepts a replaced root, new mounts and the removal of more than fsync.mass_delete_threshold; with path, a file or directory of that repository as in file_path: only this and what is below it. Returns the rows of the runs, one a repository.';

CREATE PROCEDURE @extschema@.fsync_reconcile_all()
AS 'MODULE_PATHNAME', 'fsync_reconcile_all'
LANGUAGE C;

COMMENT ON PROCEDURE @extschema@.fsync_reconcile_all() IS
'Reconciles all active repositories at the same time and waits for them without holding a snapshot, so that vacuum is not held up: for pg_cron. Commits the transaction. Raises an error when a run failed.';

CREATE FUNCTION @extschema@.fsync_wait(
	repository_id uuid DEFAULT NULL,
	timeout interval DEFAULT '30 seconds')
RETURNS boolean
AS 'MODULE_PATHNAME', 'fsync_wait'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_wait(uuid, interval) IS
'Waits until every change that the kernel had reported when it was called is committed in file_records: of one repository, or NULL for all active ones that are not paused. True when that is so; false, with a warning for each repository that is not so, when the time was over or waiting is of no use. An error where there are rows and no active repository. The next statement sees the rows.';

CREATE FUNCTION @extschema@.fsync_verify(
	repository_id uuid DEFAULT NULL,
	rate text DEFAULT NULL,
	budget text DEFAULT NULL,
	wait boolean DEFAULT true)
RETURNS SETOF @extschema@.sync_operations
AS 'MODULE_PATHNAME', 'fsync_verify'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_verify(uuid, text, text, boolean) IS
'Reads files again that are unchanged, as far as size, times and inode tell, and reports in fsync_problems whose content is not what content_hash says: one repository, or NULL for all active ones; those never read again first, then the longest ago. rate: bytes a second, as for pg_size_bytes(); budget: an interval, or bytes; NULL: no limit. With wait, returns when the runs have ended. Returns the rows of the runs, one a repository.';

CREATE FUNCTION @extschema@.fsync_pause(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_pause'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_pause(uuid) IS
'Stops to watch, scan and write a repository, until fsync_resume() is called; its rows stay as they are. Takes effect when the transaction commits.';

CREATE FUNCTION @extschema@.fsync_resume(repository_id uuid)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_resume(uuid) IS
'Tracks a paused repository again, beginning with a startup sync. Takes effect when the transaction commits.';

CREATE FUNCTION @extschema@.fsync_cancel(operation_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'fsync_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_cancel(bigint) IS
'Cancels an operation of sync_operations and returns when it has ended; what it has written stays. False when it was not running any more.';

CREATE FUNCTION @extschema@.fsync_schedule(
	schedule text,
	job_name text DEFAULT 'fsync reconcile')
RETURNS bigint
AS 'MODULE_PATHNAME', 'fsync_schedule'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_schedule(text, text) IS
'Makes a job of pg_cron, or changes the one of this name, that reconciles all repositories of this database: schedule as in crontab. Returns its id. Where pg_cron is in another database or missing, the error says what to do.';

CREATE FUNCTION @extschema@.fsync_status(repository_id uuid DEFAULT NULL)
RETURNS SETOF @extschema@.fsync_repository_status
AS 'MODULE_PATHNAME', 'fsync_status'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_status(uuid) IS
'What each repository is doing now (one, or NULL for all): its state with reason and hint, totals, the running operation and its progress, the last one that ended, the time of the last event and of the last complete scan, the processes at work, and whether fsync-tree could give up all rights that it does not need, or what of that the system lacks.';

CREATE FUNCTION @extschema@.fsync_sync_history(
	repository_id uuid,
	max_rows integer DEFAULT 10)
RETURNS SETOF @extschema@.sync_operations
AS 'MODULE_PATHNAME', 'fsync_sync_history'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_sync_history(uuid, integer) IS
'The latest runs of a repository, newest first.';

CREATE FUNCTION @extschema@.fsync_list(
	repository_id uuid,
	directory text DEFAULT '',
	after text DEFAULT NULL,
	max_rows integer DEFAULT 1000)
RETURNS SETOF @extschema@.fsync_folder_entry
AS 'MODULE_PATHNAME', 'fsync_list'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_list(uuid, text, text, integer) IS
'What is in a folder of a repository (a path relative to the watched directory, empty: that itself): first the folders that have files, then the files, each in the order of bytes; without missing files. after: path of the last row of the page before. Reads as the caller, who needs SELECT on file_records.';

CREATE FUNCTION @extschema@.fsync_find(absolute_path text)
RETURNS SETOF @extschema@.fsync_files
AS 'MODULE_PATHNAME', 'fsync_find'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_find(text) IS
'The rows of a file by its absolute path, below the directory that is watched or as it was given: one for each repository that has it. Reads as the caller, who needs SELECT on fsync_files.';

CREATE FUNCTION @extschema@.fsync_find_content(content_hash text)
RETURNS SETOF @extschema@.fsync_files
AS 'MODULE_PATHNAME', 'fsync_find_content'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_find_content(text) IS
'The rows of all files with a content, by its SHA-256 in 64 hexadecimal digits, as sha256sum prints it. Reads as the caller, who needs SELECT on fsync_files.';

--
-- Change feed
--

CREATE TABLE @extschema@.file_changes (
	change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	repository_id uuid NOT NULL,
	file_id bigint NOT NULL,
	operation text NOT NULL
		CHECK (operation IN ('added', 'updated', 'moved', 'removed')),
	file_path text COLLATE "C" NOT NULL,
	old_path text COLLATE "C",
	file_size bigint,
	mod_time timestamptz,
	content_hash bytea,
	old_size bigint,
	old_mod_time timestamptz,
	old_hash bytea,
	changed_at timestamptz NOT NULL,
	operation_id bigint
);

-- What came after a moment; and whether the clock was set back.
CREATE INDEX file_changes_changed_at_idx ON @extschema@.file_changes (repository_id, changed_at);

COMMENT ON TABLE @extschema@.file_changes IS
'What happened to the rows of file_records, where the repository''s change_feed is on: written in the transaction of the change, in the order in which changes became visible. Kept for fsync.change_retention, and until the consumers have acknowledged it.';
COMMENT ON COLUMN @extschema@.file_changes.change_id IS 'Grows in the order in which changes become visible; numbers can be missing. What fsync_next_changes() returns of files that were there before its consumer has minus file_id';
COMMENT ON COLUMN @extschema@.file_changes.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.file_changes.file_id IS 'The file: id in file_records';
COMMENT ON COLUMN @extschema@.file_changes.operation IS 'added, updated, moved or removed. A file that was moved and changed at once is moved, and then updated';
COMMENT ON COLUMN @extschema@.file_changes.file_path IS 'Path after the change; of a removed file, the path that it had';
COMMENT ON COLUMN @extschema@.file_changes.old_path IS 'Path before a move';
COMMENT ON COLUMN @extschema@.file_changes.file_size IS 'Size after the change, in bytes; NULL: removed';
COMMENT ON COLUMN @extschema@.file_changes.mod_time IS 'Modification time after the change; NULL: removed';
COMMENT ON COLUMN @extschema@.file_changes.content_hash IS 'SHA-256 of the content after the change; NULL: removed, or not calculated';
COMMENT ON COLUMN @extschema@.file_changes.old_size IS 'Size before the change, in bytes; NULL: added';
COMMENT ON COLUMN @extschema@.file_changes.old_mod_time IS 'Modification time before the change; NULL: added';
COMMENT ON COLUMN @extschema@.file_changes.old_hash IS 'SHA-256 of the content before the change; NULL: added, or not calculated';
COMMENT ON COLUMN @extschema@.file_changes.changed_at IS 'When the change was written, just before it became visible; never before that of an earlier change of the repository, unless the clock was set back';
COMMENT ON COLUMN @extschema@.file_changes.operation_id IS 'The scan that found the change: id in sync_operations; NULL: found in real time, by events';

CREATE TABLE @extschema@.fsync_feed_history (
	repository_id uuid PRIMARY KEY,
	since timestamptz,
	after_change_id bigint NOT NULL DEFAULT 0
);

COMMENT ON TABLE @extschema@.fsync_feed_history IS
'From when on file_changes tells all that happened to the files of a repository, as fsync_feed_since() says it. One row for each repository that was active here.';
COMMENT ON COLUMN @extschema@.fsync_feed_history.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_feed_history.since IS 'From this moment on; NULL: the feed is off, or the worker has not begun yet';
COMMENT ON COLUMN @extschema@.fsync_feed_history.after_change_id IS 'Changes up to this one do not belong to it';

CREATE TABLE @extschema@.fsync_consumer_positions (
	name text PRIMARY KEY,
	repository_id uuid,
	change_id bigint NOT NULL,
	file_id bigint,
	last_file_id bigint,
	lost_changes bigint NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE @extschema@.fsync_consumer_positions IS
'How far each consumer of the change feed is; see the view fsync_consumers. Rows are made by fsync_create_consumer() and go with fsync_drop_consumer().';
COMMENT ON COLUMN @extschema@.fsync_consumer_positions.name IS 'Name of the consumer';
COMMENT ON COLUMN @extschema@.fsync_consumer_positions.repository_id IS 'The repository whose changes it gets; NULL: all';
COMMENT ON COLUMN @extschema@.fsync_consumer_positions.change_id IS 'Changes up to this one were handed out, or are in fsync_consumer_deliveries';
COMMENT ON COLUMN @extschema@.fsync_consumer_positions.file_id IS 'Files that were there before the consumer: those up to this id were handed out';
COMMENT ON COLUMN @extschema@.fsync_consumer_positions.last_file_id IS 'The last of these files; NULL: none are left';
COMMENT ON COLUMN @extschema@.fsync_consumer_positions.lost_changes IS 'Changes that were removed before the consumer acknowledged them, because there were more than fsync.change_max_rows';
COMMENT ON COLUMN @extschema@.fsync_consumer_positions.created_at IS 'When the consumer was made';

CREATE TABLE @extschema@.fsync_consumer_deliveries (
	consumer text NOT NULL,
	change_id bigint NOT NULL,
	repository_id uuid NOT NULL,
	file_id bigint NOT NULL,
	file_path text COLLATE "C" NOT NULL,
	old_path text COLLATE "C",
	visible_at timestamptz NOT NULL,
	attempts integer NOT NULL,
	PRIMARY KEY (consumer, change_id)
) WITH (fillfactor = 80);

COMMENT ON TABLE @extschema@.fsync_consumer_deliveries IS
'Changes that were handed out and are not acknowledged yet, and those that wait for one of these because they are of the same file or path.';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.consumer IS 'Name of the consumer';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.change_id IS 'The change: change_id in file_changes; or minus file_id';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.file_id IS 'The file';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.file_path IS 'Its path in the change';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.old_path IS 'Its path before a move';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.visible_at IS 'When it is handed out again; -infinity: it was not handed out yet';
COMMENT ON COLUMN @extschema@.fsync_consumer_deliveries.attempts IS 'How often it was handed out';

CREATE VIEW @extschema@.fsync_consumers AS
SELECT p.name,
	   p.repository_id,
	   p.change_id,
	   f.files + c.changes + d.waiting AS pending,
	   d.in_flight,
	   least(c.oldest, d.oldest) AS oldest,
	   p.lost_changes,
	   p.created_at
FROM @extschema@.fsync_consumer_positions p
CROSS JOIN LATERAL (
	SELECT count(*) AS files FROM @extschema@.file_records
	WHERE id > p.file_id AND id <= p.last_file_id AND missing_since IS NULL
		AND (p.repository_id IS NULL OR repository_id = p.repository_id)) f
CROSS JOIN LATERAL (
	SELECT count(*) AS changes, min(changed_at) AS oldest FROM @extschema@.file_changes
	WHERE change_id > p.change_id
		AND (p.repository_id IS NULL OR repository_id = p.repository_id)) c
CROSS JOIN LATERAL (
	SELECT count(*) FILTER (WHERE d.visible_at <= now()) AS waiting,
		   count(*) FILTER (WHERE d.visible_at > now()) AS in_flight,
		   min(c.changed_at) AS oldest
	FROM @extschema@.fsync_consumer_deliveries d LEFT JOIN @extschema@.file_changes c USING (change_id)
	WHERE d.consumer = p.name) d;

COMMENT ON VIEW @extschema@.fsync_consumers IS 'The consumers of the change feed, and how far behind they are';
COMMENT ON COLUMN @extschema@.fsync_consumers.name IS 'Name of the consumer';
COMMENT ON COLUMN @extschema@.fsync_consumers.repository_id IS 'The repository whose changes it gets; NULL: all';
COMMENT ON COLUMN @extschema@.fsync_consumers.change_id IS 'Changes up to this one were looked at by fsync_next_changes()';
COMMENT ON COLUMN @extschema@.fsync_consumers.pending IS 'Changes to be handed out, for the first time or again';
COMMENT ON COLUMN @extschema@.fsync_consumers.in_flight IS 'Changes that are handed out, not acknowledged, and not yet to be handed out again';
COMMENT ON COLUMN @extschema@.fsync_consumers.oldest IS 'Time of the oldest change that is not acknowledged';
COMMENT ON COLUMN @extschema@.fsync_consumers.lost_changes IS 'Changes that it has lost; if there are any, fsync_next_changes() fails';
COMMENT ON COLUMN @extschema@.fsync_consumers.created_at IS 'When the consumer was made';

CREATE FUNCTION @extschema@.fsync_create_consumer(
	name text,
	repository_id uuid DEFAULT NULL,
	from_start boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_create_consumer'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_create_consumer(text, uuid, boolean) IS
'Makes a consumer of the change feed: its name, the repository whose changes it gets (NULL: all), and whether it first gets each file that exists now, as added. Without that it gets the changes from now on.';

CREATE FUNCTION @extschema@.fsync_next_changes(
	name text,
	max_rows integer DEFAULT 100,
	visibility_timeout interval DEFAULT '5 minutes')
RETURNS SETOF @extschema@.file_changes
AS 'MODULE_PATHNAME', 'fsync_next_changes'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_next_changes(text, integer, interval) IS
'Hands out changes that the consumer has not acknowledged, the oldest first. What is not acknowledged within visibility_timeout is handed out again. Sessions share the work; a change is not handed out while an earlier one of the same file or path is with another session. Commit before working on them: until then other sessions wait.';

CREATE FUNCTION @extschema@.fsync_ack(name text, change_ids bigint[])
RETURNS bigint
AS 'MODULE_PATHNAME', 'fsync_ack'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_ack(text, bigint[]) IS
'Acknowledges changes that were handed out to the consumer, so that they are not handed out again; NULL: none. Returns how many of them were not acknowledged before.';

CREATE FUNCTION @extschema@.fsync_nack(
	name text,
	change_ids bigint[],
	delay interval DEFAULT '0')
RETURNS bigint
AS 'MODULE_PATHNAME', 'fsync_nack'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_nack(text, bigint[], interval) IS
'Gives changes back that were handed out to the consumer and are not acknowledged; NULL: none. They are handed out again when delay is over, and until then no later change of the same file or path is. Returns how many of them were not acknowledged before.';

CREATE FUNCTION @extschema@.fsync_extend(
	name text,
	change_ids bigint[],
	visibility_timeout interval DEFAULT '5 minutes')
RETURNS bigint
AS 'MODULE_PATHNAME', 'fsync_extend'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_extend(text, bigint[], interval) IS
'Keeps changes that were handed out to the consumer for so long from now on; NULL: none. Never shortens. Returns of how many of them the time was not over: the others may be with another session by now.';

CREATE FUNCTION @extschema@.fsync_drop_consumer(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_drop_consumer'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_drop_consumer(text) IS
'Removes a consumer, which then holds up the removal of old changes no longer.';

-- A consumer goes on in a restored database where it was: so its position, the
-- changes and their sequence belong together.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.file_changes', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.file_changes_change_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.fsync_feed_history', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.fsync_consumer_positions', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.fsync_consumer_deliveries', '');

-- What others write is not in the feed, and so ends what it can tell.
CREATE FUNCTION @extschema@.fsync_rows_written()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_rows_written'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION @extschema@.fsync_rows_written() IS
'Trigger: where it was not the extension that wrote rows, the history of the repositories begins anew';

CREATE FUNCTION @extschema@.fsync_feed_switched()
RETURNS trigger
AS 'MODULE_PATHNAME', 'fsync_feed_switched'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION @extschema@.fsync_feed_switched() IS
'Trigger: begins or ends the history of a repository whose change feed is switched on or off';

CREATE TRIGGER fsync_written
	AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, repository_id, file_path,
		file_size, mod_time, content_hash, missing_since ON @extschema@.file_records
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.fsync_rows_written();

CREATE TRIGGER fsync_written
	AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON @extschema@.file_changes
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.fsync_rows_written();

CREATE TRIGGER fsync_feed_switched
	AFTER UPDATE OF change_feed, active ON @extschema@.fsync_repositories
	FOR EACH ROW EXECUTE FUNCTION @extschema@.fsync_feed_switched();

ALTER TABLE @extschema@.file_records ENABLE ALWAYS TRIGGER fsync_written;
ALTER TABLE @extschema@.file_changes ENABLE ALWAYS TRIGGER fsync_written;
ALTER TABLE @extschema@.fsync_repositories ENABLE ALWAYS TRIGGER fsync_feed_switched;

--
-- What the tables tell of the past, of copies and of contents.  These functions
-- read file_records and file_changes as their caller, with his row-level
-- security; so they are the one thing that PUBLIC may call: who may not SELECT
-- from these tables is told just that.
--

CREATE FUNCTION @extschema@.fsync_feed_since(repository_id uuid)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'fsync_feed_since'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_feed_since(uuid) IS
'From when on fsync_files_at() and fsync_diff() can answer for a repository; NULL: its change feed is off, or its history has not begun. For who may SELECT from file_changes.';

CREATE TYPE @extschema@.fsync_file_entry AS (
	id bigint,
	file_path text,
	file_size bigint,
	mod_time timestamptz,
	content_hash bytea);

COMMENT ON TYPE @extschema@.fsync_file_entry IS 'What fsync_files_at() and fsync_uncopied() return';
COMMENT ON COLUMN @extschema@.fsync_file_entry.id IS 'The row in file_records';
COMMENT ON COLUMN @extschema@.fsync_file_entry.file_path IS 'Relative to the watched directory';
COMMENT ON COLUMN @extschema@.fsync_file_entry.file_size IS 'In bytes';
COMMENT ON COLUMN @extschema@.fsync_file_entry.mod_time IS 'Time of modification of the content';
COMMENT ON COLUMN @extschema@.fsync_file_entry.content_hash IS 'SHA-256 of the content; NULL: not known';

CREATE FUNCTION @extschema@.fsync_files_at(repository_id uuid, at timestamptz)
RETURNS SETOF @extschema@.fsync_file_entry
AS 'MODULE_PATHNAME', 'fsync_files_at'
LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100000;

COMMENT ON FUNCTION @extschema@.fsync_files_at(uuid, timestamptz) IS
'The files of a repository as file_records had them at a moment, after the changes with that time. An error where its change feed does not reach back so far (see fsync_feed_since()), or for a moment that is still to come. For who may SELECT from file_records and file_changes.';

CREATE TYPE @extschema@.fsync_difference AS (
	operation text,
	id bigint,
	file_path text,
	old_path text,
	file_size bigint,
	old_size bigint,
	mod_time timestamptz,
	old_mod_time timestamptz,
	content_hash bytea,
	old_hash bytea);

COMMENT ON TYPE @extschema@.fsync_difference IS 'What fsync_diff() returns';
COMMENT ON COLUMN @extschema@.fsync_difference.operation IS 'added, updated, moved or removed';
COMMENT ON COLUMN @extschema@.fsync_difference.id IS 'The row in file_records';
COMMENT ON COLUMN @extschema@.fsync_difference.file_path IS 'Relative to the watched directory';
COMMENT ON COLUMN @extschema@.fsync_difference.old_path IS 'Where it was at the first moment; NULL: it was not there, or is where it was';
COMMENT ON COLUMN @extschema@.fsync_difference.file_size IS 'In bytes';
COMMENT ON COLUMN @extschema@.fsync_difference.old_size IS 'Its size at the first moment';
COMMENT ON COLUMN @extschema@.fsync_difference.mod_time IS 'Time of modification of the content';
COMMENT ON COLUMN @extschema@.fsync_difference.old_mod_time IS 'Its time of modification at the first moment';
COMMENT ON COLUMN @extschema@.fsync_difference.content_hash IS 'SHA-256 of the content; NULL: not known';
COMMENT ON COLUMN @extschema@.fsync_difference.old_hash IS 'Its SHA-256 at the first moment';

CREATE FUNCTION @extschema@.fsync_diff(
	repository_id uuid,
	"from" timestamptz,
	"to" timestamptz DEFAULT clock_timestamp())
RETURNS SETOF @extschema@.fsync_difference
AS 'MODULE_PATHNAME', 'fsync_diff'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_diff(uuid, timestamptz, timestamptz) IS
'What is different between the files of a repository at two moments, one row a file: added, updated, moved (its content may have changed, too) or removed. Errors and rights as for fsync_files_at().';

CREATE FUNCTION @extschema@.fsync_uncopied(
	repository_id uuid,
	in_repository uuid)
RETURNS SETOF @extschema@.fsync_file_entry
AS 'MODULE_PATHNAME', 'fsync_uncopied'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_uncopied(uuid, uuid) IS
'The files of a repository whose content is nowhere in the other one, whatever its path there. What a verification has found corrupt, and another name of the same file (a hard link), is no copy; a file without a hash has none. For who may SELECT from file_records.';

CREATE TYPE @extschema@.fsync_missing_copy AS (
	repository_id uuid,
	id bigint,
	file_path text,
	file_size bigint,
	mod_time timestamptz,
	content_hash bytea,
	copies bigint);

COMMENT ON TYPE @extschema@.fsync_missing_copy IS 'What fsync_missing_copies() returns';
COMMENT ON COLUMN @extschema@.fsync_missing_copy.repository_id IS 'The repository';
COMMENT ON COLUMN @extschema@.fsync_missing_copy.id IS 'The row in file_records';
COMMENT ON COLUMN @extschema@.fsync_missing_copy.file_path IS 'Relative to the watched directory';
COMMENT ON COLUMN @extschema@.fsync_missing_copy.file_size IS 'In bytes';
COMMENT ON COLUMN @extschema@.fsync_missing_copy.mod_time IS 'Time of modification of the content';
COMMENT ON COLUMN @extschema@.fsync_missing_copy.content_hash IS 'SHA-256 of the content; NULL: not known';
COMMENT ON COLUMN @extschema@.fsync_missing_copy.copies IS 'Files with this content, this one counted; NULL: not known';

CREATE FUNCTION @extschema@.fsync_missing_copies(min_copies integer)
RETURNS SETOF @extschema@.fsync_missing_copy
AS 'MODULE_PATHNAME', 'fsync_missing_copies'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_missing_copies(integer) IS
'The files of all repositories of whose content there are fewer good copies than this, the file itself among them, and how many there are (NULL: not known, for lack of a hash). The names of one file (hard links) are one copy, a corrupt file is none. For who may SELECT from file_records.';

CREATE TYPE @extschema@.fsync_good_copy AS (
	repository_id uuid,
	id bigint,
	file_path text,
	problem text,
	content_hash bytea,
	copy_repository_id uuid,
	copy_id bigint,
	copy_path text,
	copy_verified timestamptz);

COMMENT ON TYPE @extschema@.fsync_good_copy IS 'What fsync_rescue() returns';
COMMENT ON COLUMN @extschema@.fsync_good_copy.repository_id IS 'The repository';
COMMENT ON COLUMN @extschema@.fsync_good_copy.id IS 'The row in file_records';
COMMENT ON COLUMN @extschema@.fsync_good_copy.file_path IS 'Relative to the watched directory';
COMMENT ON COLUMN @extschema@.fsync_good_copy.problem IS 'corrupt, unreadable or missing, in words';
COMMENT ON COLUMN @extschema@.fsync_good_copy.content_hash IS 'SHA-256 of the content; NULL: not known';
COMMENT ON COLUMN @extschema@.fsync_good_copy.copy_repository_id IS 'The repository of a good copy; NULL: there is none';
COMMENT ON COLUMN @extschema@.fsync_good_copy.copy_id IS 'Its row in file_records';
COMMENT ON COLUMN @extschema@.fsync_good_copy.copy_path IS 'Its path there';
COMMENT ON COLUMN @extschema@.fsync_good_copy.copy_verified IS 'When it was last found to be good; NULL: never';

CREATE FUNCTION @extschema@.fsync_rescue(repository_id uuid DEFAULT NULL)
RETURNS SETOF @extschema@.fsync_good_copy
AS 'MODULE_PATHNAME', 'fsync_rescue'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_rescue(uuid) IS
'Where there still is what was lost: for each file of a repository, or NULL: of all, that a verification has found corrupt or that is missing with a known hash, the other files with its content, and when that was last verified. One row a copy; one with NULLs where there is none. For who may SELECT from file_records.';

CREATE FUNCTION @extschema@.fsync_manifest(repository_id uuid)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'fsync_manifest'
LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100000;

COMMENT ON FUNCTION @extschema@.fsync_manifest(uuid) IS
'The hashes of the files of a repository as lines for sha256sum -c, in the order of their paths by bytes. Files without a hash are left out, with a notice. For who may SELECT from file_records.';

CREATE FUNCTION @extschema@.fsync_manifest_hash(repository_id uuid)
RETURNS text
AS 'MODULE_PATHNAME', 'fsync_manifest_hash'
LANGUAGE C STABLE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_manifest_hash(uuid) IS
'SHA-256, in hexadecimal, of the lines of fsync_manifest() with a line feed behind each: what sha256sum says of them. For who may SELECT from file_records.';

--
-- Monitoring
--

CREATE TYPE @extschema@.fsync_running_operation AS (
	operation_id bigint,
	worker_pid integer,
	files_done bigint,
	bytes_done bigint,
	file_path text,
	file_bytes_done bigint,
	file_bytes bigint,
	files_to_reread bigint);

COMMENT ON TYPE @extschema@.fsync_running_operation IS 'What fsync_get_progress() returns';
COMMENT ON COLUMN @extschema@.fsync_running_operation.operation_id IS 'The operation; see sync_operations';
COMMENT ON COLUMN @extschema@.fsync_running_operation.worker_pid IS 'Process of the worker';
COMMENT ON COLUMN @extschema@.fsync_running_operation.files_done IS 'Files that were compared';
COMMENT ON COLUMN @extschema@.fsync_running_operation.bytes_done IS 'Bytes that were read';
COMMENT ON COLUMN @extschema@.fsync_running_operation.file_path IS 'The largest file that is being read, or waits for that';
COMMENT ON COLUMN @extschema@.fsync_running_operation.file_bytes_done IS 'Bytes of it that were read';
COMMENT ON COLUMN @extschema@.fsync_running_operation.file_bytes IS 'Its size';
COMMENT ON COLUMN @extschema@.fsync_running_operation.files_to_reread IS 'Files of which only the ctime moved, which wait to be read again';

CREATE FUNCTION @extschema@.fsync_get_progress(repository_id uuid)
RETURNS @extschema@.fsync_running_operation
AS 'MODULE_PATHNAME', 'fsync_get_progress'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION @extschema@.fsync_get_progress(uuid) IS
'What the view fsync_progress takes from shared memory: the scan of a repository that goes on, and how far it is; and how many files are to be read again as only their ctime moved.';

CREATE VIEW @extschema@.fsync_progress AS
SELECT p.worker_pid AS pid,
	   r.repository_id,
	   r.watch_root,
	   o.id AS operation_id,
	   coalesce(o.operation_type, 'realtime'::text) AS operation_type,
	   o.reason,
	   o.start_time,
	   clock_timestamp() - o.start_time AS elapsed,
	   l.files_scanned AS files_total,
	   p.files_done,
	   p.bytes_done,
	   p.files_done::float8 / e.seconds AS files_per_second,
	   p.bytes_done::float8 / e.seconds AS bytes_per_second,
	   CASE WHEN p.files_done > 0 AND p.files_done < l.files_scanned
			THEN (l.files_scanned - p.files_done)::float8 * e.seconds
			/ p.files_done::float8 * interval '1 second' END AS time_left,
	   p.file_path,
	   p.file_bytes_done,
	   p.file_bytes,
	   p.files_to_reread
FROM @extschema@.fsync_repositories r
CROSS JOIN LATERAL @extschema@.fsync_get_progress(r.repository_id) p
LEFT JOIN @extschema@.sync_operations o ON o.id = p.operation_id
CROSS JOIN LATERAL (SELECT greatest(extract(epoch FROM clock_timestamp() - o.start_time)::float8,
	0.001::float8) AS seconds) e
LEFT JOIN LATERAL (SELECT files_scanned FROM @extschema@.sync_operations
	WHERE repository_id = r.repository_id AND operation_type = o.operation_type
		AND status = 'completed'
	ORDER BY id DESC LIMIT 1) l ON true
WHERE o.id IS NOT NULL OR p.files_to_reread > 0::bigint;

COMMENT ON VIEW @extschema@.fsync_progress IS
'One row for each operation that goes on, and for each repository where files are read again as only their ctime moved, by chmod -R for instance. To read it a role needs EXECUTE on fsync_get_progress() as well.';
COMMENT ON COLUMN @extschema@.fsync_progress.pid IS 'Process of the worker';
COMMENT ON COLUMN @extschema@.fsync_progress.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_progress.watch_root IS 'The directory that is watched';
COMMENT ON COLUMN @extschema@.fsync_progress.operation_id IS 'The operation; see sync_operations, and fsync_cancel()';
COMMENT ON COLUMN @extschema@.fsync_progress.operation_type IS 'As in sync_operations';
COMMENT ON COLUMN @extschema@.fsync_progress.reason IS 'What caused it';
COMMENT ON COLUMN @extschema@.fsync_progress.start_time IS 'When it began';
COMMENT ON COLUMN @extschema@.fsync_progress.elapsed IS 'How long ago that is';
COMMENT ON COLUMN @extschema@.fsync_progress.files_total IS 'Files that the last completed operation of this type looked at; NULL: there was none';
COMMENT ON COLUMN @extschema@.fsync_progress.files_done IS 'Files that were compared';
COMMENT ON COLUMN @extschema@.fsync_progress.bytes_done IS 'Bytes that were read for hashing';
COMMENT ON COLUMN @extschema@.fsync_progress.files_per_second IS 'Mean rate since it began';
COMMENT ON COLUMN @extschema@.fsync_progress.bytes_per_second IS 'Mean rate since it began';
COMMENT ON COLUMN @extschema@.fsync_progress.time_left IS 'Estimate from files_total and the rate; NULL while it cannot be known: in a first scan, when there are more files than the last time, and when only reading is left';
COMMENT ON COLUMN @extschema@.fsync_progress.file_path IS 'The largest file that is being read, or waits for that';
COMMENT ON COLUMN @extschema@.fsync_progress.file_bytes_done IS 'Bytes of it that were read';
COMMENT ON COLUMN @extschema@.fsync_progress.file_bytes IS 'Its size';
COMMENT ON COLUMN @extschema@.fsync_progress.files_to_reread IS 'Files of which only the ctime moved, which wait to be read again, after all others';

CREATE TYPE @extschema@.fsync_counters AS (
	events bigint,
	overflows bigint,
	inspections bigint,
	files_hashed bigint,
	bytes_hashed bigint,
	files_added bigint,
	files_updated bigint,
	files_moved bigint,
	files_removed bigint,
	commits bigint,
	errors bigint,
	queue_depth bigint,
	lag_count bigint,
	lag_p50_ms double precision,
	lag_p99_ms double precision,
	lag_max_ms double precision,
	stats_reset timestamptz);

COMMENT ON TYPE @extschema@.fsync_counters IS 'What fsync_get_stat() returns; the columns are those of the view fsync_stat';

CREATE FUNCTION @extschema@.fsync_get_stat(repository_id uuid)
RETURNS @extschema@.fsync_counters
AS 'MODULE_PATHNAME', 'fsync_get_stat'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION @extschema@.fsync_get_stat(uuid) IS
'What the view fsync_stat takes from shared memory: the counters of a repository.';

CREATE VIEW @extschema@.fsync_stat AS
SELECT r.repository_id, r.watch_root, s.*
FROM @extschema@.fsync_repositories r
CROSS JOIN LATERAL @extschema@.fsync_get_stat(r.repository_id) s;

COMMENT ON VIEW @extschema@.fsync_stat IS
'Counters of each repository since the server was started or fsync_stat_reset() was called. To read it a role needs EXECUTE on fsync_get_stat() as well.';
COMMENT ON COLUMN @extschema@.fsync_stat.repository_id IS 'The repository; see fsync_repositories';
COMMENT ON COLUMN @extschema@.fsync_stat.watch_root IS 'The directory that is watched';
COMMENT ON COLUMN @extschema@.fsync_stat.events IS 'inotify events that were read';
COMMENT ON COLUMN @extschema@.fsync_stat.overflows IS 'Times that events were lost';
COMMENT ON COLUMN @extschema@.fsync_stat.inspections IS 'Paths that were looked at because an event or a scan named them';
COMMENT ON COLUMN @extschema@.fsync_stat.files_hashed IS 'Files that were read';
COMMENT ON COLUMN @extschema@.fsync_stat.bytes_hashed IS 'Bytes that were read for it';
COMMENT ON COLUMN @extschema@.fsync_stat.files_added IS 'Rows added to file_records';
COMMENT ON COLUMN @extschema@.fsync_stat.files_updated IS 'Rows whose size, modification time or content changed';
COMMENT ON COLUMN @extschema@.fsync_stat.files_moved IS 'Rows that kept their id under a new path';
COMMENT ON COLUMN @extschema@.fsync_stat.files_removed IS 'Rows removed from file_records';
COMMENT ON COLUMN @extschema@.fsync_stat.commits IS 'Batches of changes that were committed';
COMMENT ON COLUMN @extschema@.fsync_stat.errors IS 'Times that the database did not take something; it is tried again';
COMMENT ON COLUMN @extschema@.fsync_stat.queue_depth IS 'Changes that wait or are being looked at now; NULL: no worker is running';
COMMENT ON COLUMN @extschema@.fsync_stat.lag_count IS 'Changes that an event told of and that were committed';
COMMENT ON COLUMN @extschema@.fsync_stat.lag_p50_ms IS 'Median of the time from the first event of a change to its commit, the debounce included, in milliseconds, to 25 %';
COMMENT ON COLUMN @extschema@.fsync_stat.lag_p99_ms IS 'The same, 99th percentile';
COMMENT ON COLUMN @extschema@.fsync_stat.lag_max_ms IS 'The same, the longest; half a minute stands for more as well';
COMMENT ON COLUMN @extschema@.fsync_stat.stats_reset IS 'When counting began; NULL: nothing was counted yet';

CREATE FUNCTION @extschema@.fsync_stat_reset(repository_id uuid DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_stat_reset'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_stat_reset(uuid) IS
'Sets the counters of a repository, or NULL: of all, to zero.';

CREATE FUNCTION @extschema@.fsync_report()
RETURNS jsonb
AS 'MODULE_PATHNAME', 'fsync_report'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.fsync_report() IS
'All that an operator looks at, as one document that is cheap enough to be asked for each second: states, progress, problems, runs of the last day, lag, duplicates, verification, consumers, settings that differ from the default, limits, version. Names of files are only in it for who may read file_records.';

--
-- The owner.  PostgreSQL runs the checks of a foreign key as the owner of the
-- table that is referenced, casts of the referencing table's owner among them,
-- and the worker and the functions run triggers as the owner of the table.  So
-- that must be a role that can do nothing.  Not of the views: they cannot be
-- referenced, and code that runs as that role could rewrite them for whoever
-- reads them next.
--
ALTER TABLE @extschema@.fsync_repositories OWNER TO fsync_owner;
ALTER TABLE @extschema@.file_records OWNER TO fsync_owner;
ALTER TABLE @extschema@.sync_operations OWNER TO fsync_owner;
ALTER TABLE @extschema@.fsync_problems OWNER TO fsync_owner;
ALTER TABLE @extschema@.fsync_verifications OWNER TO fsync_owner;
ALTER TABLE @extschema@.file_changes OWNER TO fsync_owner;
ALTER TABLE @extschema@.fsync_feed_history OWNER TO fsync_owner;
ALTER TABLE @extschema@.fsync_consumer_positions OWNER TO fsync_owner;
ALTER TABLE @extschema@.fsync_consumer_deliveries OWNER TO fsync_owner;

--
-- An ordinary role may do nothing until it is granted something: GRANT SELECT
-- for readers, GRANT EXECUTE for those who wait, reconcile or register.
--

REVOKE ALL ON
	@extschema@.fsync_repositories, @extschema@.file_records, @extschema@.sync_operations,
	@extschema@.fsync_problems, @extschema@.fsync_verifications, @extschema@.file_changes,
	@extschema@.fsync_feed_history,
	@extschema@.fsync_consumer_positions, @extschema@.fsync_consumer_deliveries,
	@extschema@.fsync_files, @extschema@.fsync_duplicates, @extschema@.fsync_consumers,
	@extschema@.fsync_progress, @extschema@.fsync_stat
FROM PUBLIC;

REVOKE ALL ON FUNCTION
	@extschema@.fsync_repositories_guard(),
	@extschema@.fsync_repositories_cleared(),
	@extschema@.fsync_repositories_changed(),
	@extschema@.fsync_repositories_notice(),
	@extschema@.fsync_registrations_guard(),
	@extschema@.fsync_rows_written(),
	@extschema@.fsync_feed_switched(),
	@extschema@.fsync_add_repository(text, uuid, text, text[], text[], boolean, boolean,
		boolean, boolean, bigint, bigint, text, interval, text, text, text, boolean,
		interval, interval, interval, boolean, boolean),
	@extschema@.fsync_relocate_repository(uuid, text),
	@extschema@.fsync_configure_repository(uuid, text[], text[], boolean, boolean, boolean,
		boolean, bigint, bigint, text, interval, text, text, text, boolean, interval, interval, interval),
	@extschema@.fsync_why(uuid, text),
	@extschema@.fsync_preview(uuid, text[], text[], boolean, boolean, boolean, bigint, bigint,
		integer, interval),
	@extschema@.fsync_ignored(uuid, integer, interval),
	@extschema@.fsync_remove_repository(uuid),
	@extschema@.fsync_activate_repository(uuid),
	@extschema@.fsync_pause(uuid),
	@extschema@.fsync_resume(uuid),
	@extschema@.fsync_reconcile(uuid, boolean, boolean, text),
	@extschema@.fsync_verify(uuid, text, text, boolean),
	@extschema@.fsync_cancel(bigint),
	@extschema@.fsync_schedule(text, text),
	@extschema@.fsync_wait(uuid, interval),
	@extschema@.fsync_status(uuid),
	@extschema@.fsync_sync_history(uuid, integer),
	@extschema@.fsync_list(uuid, text, text, integer),
	@extschema@.fsync_find(text),
	@extschema@.fsync_find_content(text),
	@extschema@.fsync_create_consumer(text, uuid, boolean),
	@extschema@.fsync_next_changes(text, integer, interval),
	@extschema@.fsync_ack(text, bigint[]),
	@extschema@.fsync_nack(text, bigint[], interval),
	@extschema@.fsync_extend(text, bigint[], interval),
	@extschema@.fsync_drop_consumer(text),
	@extschema@.fsync_get_progress(uuid),
	@extschema@.fsync_get_stat(uuid),
	@extschema@.fsync_stat_reset(uuid),
	@extschema@.fsync_report()
FROM PUBLIC;

REVOKE ALL ON PROCEDURE @extschema@.fsync_reconcile_all() FROM PUBLIC;

--
-- Who monitors the server sees how the repositories are, but not what is in
-- them: no names of files, no hashes.
--
GRANT SELECT ON
	@extschema@.fsync_progress, @extschema@.fsync_stat, @extschema@.fsync_consumers
TO pg_monitor;

GRANT EXECUTE ON FUNCTION
	@extschema@.fsync_report(),
	@extschema@.fsync_status(uuid),
	@extschema@.fsync_sync_history(uuid, integer),
	@extschema@.fsync_get_progress(uuid),
	@extschema@.fsync_get_stat(uuid)
TO pg_monitor;

--
-- Last: USAGE on the schema for the owner, no rights to what is private, and
-- no function of somebody else's beside ours that a call could mean.
--
CREATE FUNCTION @extschema@.fsync_install_end()
RETURNS void
AS 'MODULE_PATHNAME', 'fsync_install_end'
LANGUAGE C VOLATILE;

SELECT @extschema@.fsync_install_end();

DROP FUNCTION @extschema@.fsync_install_end();
