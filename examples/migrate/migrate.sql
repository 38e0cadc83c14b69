-- From an application's own file_records and sync_operations to fsync, with the
-- ids of the files kept:
--
--	psql -d DATABASE -v ON_ERROR_STOP=1 -f migrate.sql
--
-- as a superuser, with fsync preloaded and the application stopped.  It is one
-- transaction.  doc/migration.md says what it does, and what is different then.

BEGIN;
SET LOCAL search_path = public, pg_catalog, pg_temp;

-- Where the application's repositories are.  The files are below user_area of
-- path; NULL: in path itself.  Change this line if yours are called otherwise.
CREATE TEMPORARY VIEW migrated_repositories AS
SELECT repo_id AS repository_id, path, 'user' AS user_area FROM public.repositories;

-- In a schema of its own, nothing is in the extension's way.
CREATE SCHEMA fsync;
CREATE EXTENSION fsync SCHEMA fsync;

ALTER TABLE public.file_records RENAME TO file_records_before_fsync;
ALTER TABLE public.sync_operations RENAME TO sync_operations_before_fsync;

-- The rows with their ids.  Stamps of zero: the first scan looks at each file,
-- and finds its row by its path.
INSERT INTO fsync.file_records (id, repository_id, file_path, file_size, mod_time, content_hash,
	last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
OVERRIDING SYSTEM VALUE
SELECT o.id, o.repository_id, o.file_path, o.file_size, o.mod_time,
	CASE WHEN o.content_hash ~ '^[0-9a-fA-F]{64}$' THEN decode(o.content_hash, 'hex') END,
	o.last_scanned, 0, coalesce(o.created_at, now()), coalesce(o.updated_at, now()), 0, 0, 0
FROM public.file_records_before_fsync o
JOIN migrated_repositories r USING (repository_id)
WHERE octet_length(o.file_path) BETWEEN 1 AND 2500;

-- What referred to a file refers to it there.
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN
		SELECT conrelid::regclass AS relation, conname, pg_get_constraintdef(oid) AS definition
		FROM pg_constraint
		WHERE contype = 'f' AND conparentid = 0
			AND confrelid = 'public.file_records_before_fsync'::regclass
	LOOP
		EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.relation, c.conname);
		EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.relation, c.conname,
			regexp_replace(c.definition, 'REFERENCES [^(]*file_records_before_fsync', 'REFERENCES fsync.file_records'));
	END LOOP;
END $$;

-- The old names and types, for the application to read.
CREATE VIEW public.file_records AS
SELECT id, repository_id, file_path::text COLLATE "default" AS file_path, file_size, mod_time,
	content_hash, last_scanned, scan_generation, created_at, updated_at
FROM fsync.fsync_files WHERE missing_since IS NULL;

CREATE VIEW public.sync_operations AS
SELECT id, repository_id, operation_type,
	least(files_scanned, 2147483647)::integer AS files_scanned,
	least(files_added, 2147483647)::integer AS files_added,
	least(files_updated + files_moved, 2147483647)::integer AS files_updated,
	least(files_removed, 2147483647)::integer AS files_removed,
	start_time, end_time, duration_ms, status, error_message
FROM fsync.sync_operations WHERE operation_type <> 'verification';

-- Whoever could read the tables can read the views, and wait, and ask.
DO $$
DECLARE
	g record;
BEGIN
	FOR g IN
		SELECT DISTINCT a.grantee::regrole AS role
		FROM pg_class c CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
		WHERE c.oid IN ('public.file_records_before_fsync'::regclass, 'public.sync_operations_before_fsync'::regclass)
			AND a.privilege_type = 'SELECT' AND a.grantee <> 0
	LOOP
		EXECUTE format('GRANT USAGE ON SCHEMA fsync TO %s', g.role);
		EXECUTE format('GRANT SELECT ON public.file_records, public.sync_operations TO %s', g.role);
		EXECUTE format('GRANT SELECT, REFERENCES ON fsync.file_records TO %s', g.role);
		EXECUTE format('GRANT EXECUTE ON FUNCTION fsync.fsync_wait, fsync.fsync_status, fsync.fsync_reconcile, fsync.fsync_sync_history TO %s', g.role);
	END LOOP;
END $$;

-- An application that deletes its row of a repository, and nothing else.
CREATE FUNCTION fsync.follow_application() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM fsync.fsync_remove_repository(repository_id) FROM fsync.fsync_repositories
	WHERE repository_id = OLD.repo_id;
	RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION fsync.follow_application() FROM PUBLIC;
CREATE TRIGGER fsync_follow AFTER DELETE ON public.repositories
	FOR EACH ROW EXECUTE FUNCTION fsync.follow_application();

-- One whose directory cannot be registered now must not fail the others: its rows
-- stay, and fsync_add_repository() with its id takes them over later.
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM migrated_repositories LOOP
		BEGIN
			PERFORM fsync.fsync_add_repository(r.path, r.repository_id, r.user_area, on_missing => 'mark');
		EXCEPTION WHEN OTHERS THEN
			RAISE WARNING 'repository % was not registered: %', r.repository_id, SQLERRM;
		END;
	END LOOP;
END $$;

DROP VIEW migrated_repositories;
COMMIT;
