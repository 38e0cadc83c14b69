--
-- Wrong input, and what it is told.
--
CREATE EXTENSION fsync;

-- the SQLSTATE and message of a statement; paths of the server are hidden
CREATE FUNCTION outcome(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE sql;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || regexp_replace(SQLERRM, '"/[^"]*"', '"..."');
END
$$;

COPY (SELECT 1 WHERE false) TO PROGRAM 'rm -rf /tmp/fsync_regress_errors && mkdir -p /tmp/fsync_regress_errors/sub /tmp/fsync_regress_errors/space && mkdir -m 000 /tmp/fsync_regress_errors/closed && touch /tmp/fsync_regress_errors/file && ln -s sub /tmp/fsync_regress_errors/link && ln -s . /tmp/fsync_regress_errors/self';

-- paths
SELECT fsync_add_repository('relative/path');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('');
SELECT fsync_add_repository('/tmp/fsync_regress_errors/missing');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors/file');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors/closed');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors', user_area => 'missing');
SELECT fsync_add_repository('/tmp/fsync_regress_errors', user_area => '../fsync_regress_errors');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors', user_area => '/sub');
SELECT fsync_add_repository('/tmp/fsync_regress_errors', user_area => '');

-- the server's own directories
SELECT outcome(format('SELECT fsync_add_repository(%L)', current_setting('data_directory')));
SELECT outcome(format('SELECT fsync_add_repository(%L)', current_setting('data_directory') || '/base'));
SELECT outcome(format('SELECT fsync_add_repository(%L)', current_setting('data_directory') || '/..'));
SELECT outcome('SELECT fsync_add_repository(''/'')');
CREATE TABLESPACE regress_fsync_space LOCATION '/tmp/fsync_regress_errors/space';
SELECT fsync_add_repository('/tmp/fsync_regress_errors/space');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors');
DROP TABLESPACE regress_fsync_space;

-- NULLs
SELECT fsync_add_repository(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', if_not_exists => NULL);
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', must_exist => NULL);
SELECT fsync_relocate_repository(NULL, '/tmp/fsync_regress_errors/sub');
SELECT fsync_relocate_repository('00000000-0000-0000-0000-00000000000f', NULL);
SELECT * FROM fsync_list(NULL);
SELECT count(*) FROM fsync_find(NULL);
SELECT count(*) FROM fsync_find_content(NULL);
SELECT fsync_remove_repository(NULL);
SELECT fsync_activate_repository(NULL);
SELECT fsync_configure_repository(NULL);
SELECT * FROM fsync_why(NULL, 'a');
SELECT * FROM fsync_why('00000000-0000-0000-0000-00000000000f', NULL);
SELECT fsync_wait(timeout => NULL);
SELECT * FROM fsync_reconcile(wait => NULL);
SELECT * FROM fsync_sync_history(NULL);

-- patterns
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', include => '{"[a"}');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', exclude => '{*.tmp,NULL}');
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', exclude => '{{a,b},{c,d}}');

SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', include => '{preset:music}');

-- other settings
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', min_size => -2);
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', min_size => 2, max_size => 1);
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', on_missing => 'forget');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', on_type_change => '');

-- the same directory again, by whatever name; the same id again
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', '00000000-0000-0000-0000-000000000001');
SELECT fsync_add_repository('/tmp/fsync_regress_errors/sub', '00000000-0000-0000-0000-000000000002');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_add_repository('/tmp/fsync_regress_errors/link', '00000000-0000-0000-0000-000000000002');
SELECT fsync_add_repository('/tmp/../tmp//fsync_regress_errors/self/self', '00000000-0000-0000-0000-000000000002', 'link');
SELECT fsync_add_repository('/tmp/fsync_regress_errors/space', '00000000-0000-0000-0000-000000000001');
\echo :LAST_ERROR_SQLSTATE

-- the change feed
SELECT fsync_create_consumer(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_create_consumer('');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_create_consumer('x', '00000000-0000-0000-0000-00000000000f');
SELECT fsync_create_consumer('x', '00000000-0000-0000-0000-000000000001');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_create_consumer('x');
SELECT fsync_create_consumer('x');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM fsync_next_changes(NULL);
SELECT * FROM fsync_next_changes('y');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM fsync_next_changes('x', 0);
SELECT * FROM fsync_next_changes('x', 10001);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM fsync_next_changes('x', visibility_timeout => '0');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM fsync_next_changes('x', visibility_timeout => NULL);
SELECT fsync_ack('x', NULL);
SELECT fsync_ack('x', '{}');
SELECT fsync_ack('x', '{NULL,1}');
SELECT fsync_ack('y', '{1}');
SELECT fsync_drop_consumer('x');
SELECT fsync_drop_consumer('x');
\echo :LAST_ERROR_SQLSTATE

-- an unknown repository
SELECT fsync_remove_repository('00000000-0000-0000-0000-00000000000f');
\echo :LAST_ERROR_SQLSTATE
SELECT fsync_activate_repository('00000000-0000-0000-0000-00000000000f');
SELECT fsync_configure_repository('00000000-0000-0000-0000-00000000000f');
SELECT * FROM fsync_why('00000000-0000-0000-0000-00000000000f', 'a');
SELECT * FROM fsync_why('00000000-0000-0000-0000-000000000001', '/etc/passwd');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM fsync_why('00000000-0000-0000-0000-000000000001', '../x');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM fsync_why('00000000-0000-0000-0000-000000000001', '');
SELECT * FROM fsync_reconcile('00000000-0000-0000-0000-00000000000f');
SELECT fsync_wait('00000000-0000-0000-0000-00000000000f');
SELECT * FROM fsync_status('00000000-0000-0000-0000-00000000000f');
SELECT * FROM fsync_sync_history('00000000-0000-0000-0000-00000000000f');
SELECT * FROM fsync_sync_history('00000000-0000-0000-0000-000000000001', -1);

-- waiting where it cannot work
SELECT fsync_wait(timeout => '-1 second');
\echo :LAST_ERROR_SQLSTATE
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT fsync_wait();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN;
CALL fsync_reconcile_all();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN;
SELECT fsync_add_repository('/tmp/fsync_regress_errors/space', '00000000-0000-0000-0000-000000000003');
SELECT fsync_wait('00000000-0000-0000-0000-000000000003');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT fsync_add_repository('/tmp/fsync_regress_errors/space');
ROLLBACK;

-- by hand in the table
UPDATE fsync_repositories SET repository_id = gen_random_uuid();
\echo :LAST_ERROR_SQLSTATE
UPDATE fsync_repositories SET exclude = '{"[a"}';
UPDATE fsync_repositories SET min_size = -1;
\echo :LAST_ERROR_SQLSTATE
UPDATE fsync_repositories SET min_size = 10, max_size = 9;
UPDATE fsync_repositories SET on_missing = 'keep';
UPDATE fsync_repositories SET missing_retention = '0';
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
INSERT INTO fsync_repositories (repository_id, path, watch_root)
VALUES ('00000000-0000-0000-0000-000000000004', 'x', 'x');
INSERT INTO fsync_repositories (repository_id, path, watch_root)
VALUES ('00000000-0000-0000-0000-000000000004', '/tmp/fsync_regress_errors/gone', '/tmp/fsync_regress_errors/gone');
SELECT fsync_wait('00000000-0000-0000-0000-000000000004');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM fsync_reconcile('00000000-0000-0000-0000-000000000004');
\set VERBOSITY default
SELECT fsync_activate_repository('00000000-0000-0000-0000-000000000004');

DROP FUNCTION outcome(text);
DROP EXTENSION fsync;
COPY (SELECT 1 WHERE false) TO PROGRAM 'rm -rf /tmp/fsync_regress_errors';
