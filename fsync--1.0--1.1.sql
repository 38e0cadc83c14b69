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
	ADD COLUMN missing_retention interval,
	ADD COLUMN on_type_change text NOT NULL DEFAULT 'delete'
		CHECK (on_type_change IN ('delete', 'mark')),
	ADD COLUMN change_feed boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN fsync_repositories.paused IS 'True while nothing is watched, scanned or written, until fsync_resume() is called';
COMMENT ON COLUMN fsync_repositories.ignore_case IS 'Whether patterns match without regard to the case of ASCII letters';
COMMENT ON COLUMN fsync_repositories.include_hidden IS 'Whether names that begin with . are tracked';
COMMENT ON COLUMN fsync_repositories.use_ignore_files IS 'Whether files named .fsyncignore in the tree exclude what they name';
COMMENT ON COLUMN fsync_repositories.min_size IS 'Smaller files are not tracked, in bytes; NULL: no limit';
COMMENT ON COLUMN fsync_repositories.max_size IS 'Larger files are not tracked, in bytes; NULL: no limit';
COMMENT ON COLUMN fsync_repositories.on_missing IS 'What becomes of the row of a file that is gone: delete, or mark (it stays, with missing_since)';
COMMENT ON COLUMN fsync_repositories.missing_retention IS 'How long marked rows are kept; NULL: for ever';
COMMENT ON COLUMN fsync_repositories.on_type_change IS 'What becomes of the row of a file whose name is now that of something else than a file: delete, or mark';
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

--
-- Change feed
--

--
-- Verification
--

--
-- Missing files and duplicates
--

--
-- Operation and monitoring
--

--
-- Convenience
--
