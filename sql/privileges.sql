--
-- What an ordinary role may do: nothing, until it is granted something, and
-- then just that.
--
CREATE EXTENSION fsync;
CREATE ROLE regress_fsync_user;
CREATE SCHEMA regress_fsync_schema AUTHORIZATION regress_fsync_user;

COPY (SELECT 1 WHERE false) TO PROGRAM 'rm -rf /tmp/fsync_regress_priv && mkdir -p /tmp/fsync_regress_priv && printf x > /tmp/fsync_regress_priv/x';
SELECT fsync_add_repository('/tmp/fsync_regress_priv', '00000000-0000-0000-0000-000000000001');
SELECT fsync_wait();

-- nothing is granted to PUBLIC but what asks for the caller's own rights
SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
WHERE proname LIKE 'fsync\_%' AND a.grantee = 0 ORDER BY proname COLLATE "C";

-- the tables belong to a role that can do nothing
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls
FROM pg_roles WHERE rolname = 'fsync_owner';
SELECT relname, relowner = 'fsync_owner'::regrole AS powerless, array_length(relacl, 1) AS grantees
FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'fsync'
WHERE relkind = 'r' ORDER BY relname COLLATE "C";
INSERT INTO fsync_private.registrations SELECT * FROM fsync_private.registrations;

SET ROLE regress_fsync_user;
SELECT count(*) FROM file_records;
SELECT count(*) FROM fsync_private.registrations;
SELECT count(*) FROM fsync_files;
SELECT count(*) FROM fsync_repositories;
SELECT count(*) FROM sync_operations;
SELECT count(*) FROM fsync_problems;
SELECT count(*) FROM file_changes;
SELECT count(*) FROM fsync_consumers;
SELECT count(*) FROM fsync_consumer_positions;
SELECT count(*) FROM fsync_consumer_deliveries;
SELECT count(*) FROM fsync_verifications;
SELECT count(*) FROM fsync_duplicates;
SELECT fsync_add_repository('/tmp/fsync_regress_priv');
SELECT fsync_remove_repository('00000000-0000-0000-0000-000000000001');
SELECT fsync_activate_repository('00000000-0000-0000-0000-000000000001');
SELECT fsync_configure_repository('00000000-0000-0000-0000-000000000001');
SELECT * FROM fsync_why('00000000-0000-0000-0000-000000000001', 'x');
SELECT * FROM fsync_reconcile();
SELECT * FROM fsync_verify();
CALL fsync_reconcile_all();
SELECT fsync_wait();
SELECT * FROM fsync_status();
SELECT * FROM fsync_sync_history('00000000-0000-0000-0000-000000000001');
SELECT fsync_create_consumer('c');
SELECT * FROM fsync_next_changes('c');
SELECT fsync_ack('c', '{1}');
SELECT fsync_nack('c', '{1}');
SELECT fsync_extend('c', '{1}');
SELECT fsync_drop_consumer('c');
SELECT fsync_relocate_repository('00000000-0000-0000-0000-000000000001', '/tmp');
SELECT * FROM fsync_list('00000000-0000-0000-0000-000000000001');
SELECT * FROM fsync_find('/tmp/x');
SELECT * FROM fsync_find_content('x');
SELECT fsync_feed_since('00000000-0000-0000-0000-000000000001');
SELECT * FROM fsync_files_at('00000000-0000-0000-0000-000000000001', now());
SELECT * FROM fsync_diff('00000000-0000-0000-0000-000000000001', now());
SELECT * FROM fsync_uncopied('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002');
SELECT * FROM fsync_missing_copies(2);
SELECT * FROM fsync_rescue();
SELECT * FROM fsync_manifest('00000000-0000-0000-0000-000000000001');
SELECT fsync_manifest_hash('00000000-0000-0000-0000-000000000001');
SELECT count(*) FROM fsync_feed_history;
RESET ROLE;

-- EXECUTE is not enough to register a path, and tells nothing about paths
GRANT EXECUTE ON FUNCTION fsync_add_repository, fsync_activate_repository,
	fsync_relocate_repository TO regress_fsync_user;
SET ROLE regress_fsync_user;
SELECT fsync_add_repository('/tmp/fsync_regress_priv/missing');
SELECT fsync_add_repository('/tmp');
SELECT fsync_add_repository(NULL);
SELECT fsync_activate_repository('00000000-0000-0000-0000-000000000001');
SELECT fsync_add_repository('/tmp/fsync_regress_priv', if_not_exists => true);
SELECT fsync_add_repository('/tmp/fsync_regress_priv/missing', must_exist => false);
SELECT fsync_relocate_repository('00000000-0000-0000-0000-000000000001', '/tmp/fsync_regress_priv/missing');
RESET ROLE;
GRANT pg_read_server_files TO regress_fsync_user;
SET ROLE regress_fsync_user;
SELECT fsync_add_repository('/tmp/fsync_regress_priv/missing');
RESET ROLE;
REVOKE pg_read_server_files FROM regress_fsync_user;

-- the other functions need nothing but EXECUTE
GRANT EXECUTE ON FUNCTION fsync_wait, fsync_status, fsync_reconcile, fsync_sync_history,
	fsync_remove_repository, fsync_create_consumer, fsync_next_changes, fsync_ack,
	fsync_drop_consumer TO regress_fsync_user;
GRANT EXECUTE ON PROCEDURE fsync_reconcile_all TO regress_fsync_user;
SET ROLE regress_fsync_user;
SELECT fsync_wait();
SELECT state, total_files FROM fsync_status();
SELECT status FROM fsync_reconcile();
CALL fsync_reconcile_all();
SELECT count(*) FROM fsync_sync_history('00000000-0000-0000-0000-000000000001', 2);
SELECT fsync_create_consumer('c', from_start => true);
SELECT fsync_ack('c', array_agg(change_id)) FROM fsync_next_changes('c');

-- and run none of the caller's code as the owner
CREATE FUNCTION regress_fsync_schema.count(text) RETURNS bigint LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE 'running as %', current_user; RETURN 0; END $$;
CREATE FUNCTION regress_fsync_schema.equal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE 'running as %', current_user; RETURN true; END $$;
CREATE OPERATOR regress_fsync_schema.= (LEFTARG = uuid, RIGHTARG = uuid,
	FUNCTION = regress_fsync_schema.equal);
SET search_path = regress_fsync_schema, pg_catalog, public;
SELECT state, total_files FROM fsync_status('00000000-0000-0000-0000-000000000001');
SELECT fsync_wait('00000000-0000-0000-0000-000000000001');
SELECT count(1) FROM fsync_sync_history('00000000-0000-0000-0000-000000000001', 2);
SELECT fsync_create_consumer('d', from_start => true);
SELECT file_path FROM fsync_next_changes('d');
SELECT fsync_ack('d', ARRAY[change_id]) FROM fsync_next_changes('d');
SELECT fsync_drop_consumer('d');
SELECT fsync_remove_repository('00000000-0000-0000-0000-000000000001');
RESET search_path;
RESET ROLE;
SELECT count(*) FROM fsync_repositories;

-- SELECT for those who read
SELECT fsync_add_repository('/tmp/fsync_regress_priv', '00000000-0000-0000-0000-000000000001');
SELECT fsync_wait();
GRANT SELECT ON file_records, fsync_files TO regress_fsync_user;
SET ROLE regress_fsync_user;
SELECT file_path FROM file_records;
SELECT absolute_path FROM fsync_files;
DELETE FROM file_records;
RESET ROLE;

DROP SCHEMA regress_fsync_schema CASCADE;
DROP EXTENSION fsync;
DROP ROLE regress_fsync_user;
COPY (SELECT 1 WHERE false) TO PROGRAM 'rm -rf /tmp/fsync_regress_priv';
