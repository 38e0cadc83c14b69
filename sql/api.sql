--
-- The tables, functions and triggers, as a user meets them.  Rows appear
-- because the worker does its work: each wait here is fsync's own.
--
CREATE EXTENSION fsync;

-- everything that the extension made says what it is
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
FROM pg_depend d
WHERE d.refclassid = 'pg_extension'::regclass
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'fsync')
	AND d.deptype = 'e'
	AND pg_describe_object(d.classid, d.objid, 0) NOT SIMILAR TO '(sequence|type) %'
	AND obj_description(d.objid, d.classid::regclass::name) IS NULL;

SELECT attrelid::regclass, attname AS without_comment
FROM pg_attribute
WHERE attrelid IN ('fsync_repositories'::regclass, 'file_records'::regclass,
		'sync_operations'::regclass, 'fsync_problems'::regclass, 'fsync_files'::regclass,
		'file_changes'::regclass, 'fsync_consumer_positions'::regclass,
		'fsync_consumer_deliveries'::regclass, 'fsync_consumers'::regclass,
		'fsync_verifications'::regclass, 'fsync_duplicates'::regclass,
		'fsync_feed_history'::regclass)
	AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;

-- what a dump carries
SELECT unnest(extconfig)::regclass AS dumped FROM pg_extension
WHERE extname = 'fsync' ORDER BY 1::text;

-- a tree of its own, made by the server's user
COPY (SELECT 1 WHERE false) TO PROGRAM 'rm -rf /tmp/fsync_regress_api && mkdir -p "/tmp/fsync_regress_api/user/a dir" /tmp/fsync_regress_api/user/.hidden /tmp/fsync_regress_api/other';
COPY (SELECT 1 WHERE false) TO PROGRAM 'cd /tmp/fsync_regress_api/user && printf one > one.txt && printf two > "a dir/two.jpg" && printf x > .hidden/x && printf x > scrap.tmp && ln -s one.txt link';

-- rolled back, it never happened
BEGIN;
SELECT fsync_add_repository('/tmp/fsync_regress_api', '00000000-0000-0000-0000-000000000001');
ROLLBACK;
SELECT count(*) FROM fsync_repositories;

SELECT fsync_add_repository('/tmp/fsync_regress_api/', '00000000-0000-0000-0000-000000000001',
	user_area => 'user');
SELECT fsync_wait(timeout => '60 seconds');

SELECT repository_id, file_path, file_size,
	content_hash = sha256(CASE file_path WHEN 'one.txt' THEN 'one'::bytea ELSE 'two' END) AS same_hash,
	length(content_hash) AS hash_length, scan_generation,
	mod_time BETWEEN now() - interval '1 hour' AND now() AS recent,
	mtime_ns / 1000 = (extract(epoch FROM mod_time) * 1000000)::bigint AS same_mtime
FROM file_records ORDER BY file_path;

SELECT absolute_path, content_hash FROM fsync_files ORDER BY 1;

SELECT repository_id, path, user_area, watch_root, active, scan_generation,
	last_complete_generation, last_complete_scan IS NOT NULL AS complete
FROM fsync_repositories;

SELECT path, state, reason, hint, total_files, total_bytes, is_watching,
	directories_watched, pending_changes, problems, operation_id,
	last_operation_type, last_operation_status, last_files_added, last_error,
	last_complete_scan IS NOT NULL AS complete, worker_pid > 0 AS worker, tree_pid > 0 AS tree
FROM fsync_status();

-- changes
SELECT id AS id_of_one FROM file_records WHERE file_path = 'one.txt' \gset
COPY (SELECT 1 WHERE false) TO PROGRAM 'cd /tmp/fsync_regress_api/user && printf more >> one.txt && mv one.txt "a dir/1.txt" && rm "a dir/two.jpg" && printf new > new.txt';
SELECT fsync_wait('00000000-0000-0000-0000-000000000001');
SELECT file_path, file_size, id = :id_of_one AS is_one FROM file_records ORDER BY file_path;

-- a reconciliation finds nothing then
SELECT operation_type, status, files_scanned, files_added, files_updated, files_moved,
	files_removed, error_message, end_time >= start_time AS ended, duration_ms >= 0 AS took
FROM fsync_reconcile();
CALL fsync_reconcile_all();
SELECT operation_type, status, files_added, files_removed
FROM fsync_sync_history('00000000-0000-0000-0000-000000000001')
WHERE operation_type <> 'realtime';
SELECT count(*) FROM fsync_sync_history('00000000-0000-0000-0000-000000000001', 1);
SELECT count(*) FROM fsync_sync_history('00000000-0000-0000-0000-000000000001', 0);

-- patterns; hashes switched off; several at once
SELECT fsync_add_repository('/tmp/fsync_regress_api', '00000000-0000-0000-0000-000000000002',
	include => '{*.txt}', exclude => '{/user/new.txt}', calculate_hashes => false);
SELECT fsync_wait();
SELECT repository_id, file_path, content_hash FROM file_records
WHERE repository_id <> '00000000-0000-0000-0000-000000000001' ORDER BY file_path;
SELECT status, files_added FROM fsync_reconcile() ORDER BY id;
CALL fsync_reconcile_all();

-- settings: NULL leaves one as it is, and each can be taken back
SELECT fsync_configure_repository('00000000-0000-0000-0000-000000000002',
	include => '{*.jpg,*.txt}', calculate_hashes => true, ignore_case => true,
	include_hidden => true, use_ignore_files => true, min_size => 1, max_size => 1000,
	on_missing => 'mark', missing_retention => '30 days', on_type_change => 'mark',
	change_feed => true);
SELECT include, exclude, calculate_hashes, ignore_case, include_hidden, use_ignore_files,
	min_size, max_size, on_missing, missing_retention, on_type_change, change_feed
FROM fsync_repositories WHERE repository_id = '00000000-0000-0000-0000-000000000002';
SELECT fsync_configure_repository('00000000-0000-0000-0000-000000000002',
	include => '{}', min_size => -1, missing_retention => '0');
SELECT fsync_configure_repository('00000000-0000-0000-0000-000000000002');
SELECT include, exclude, calculate_hashes, ignore_case, include_hidden, use_ignore_files,
	min_size, max_size, on_missing, missing_retention, on_type_change, change_feed
FROM fsync_repositories WHERE repository_id = '00000000-0000-0000-0000-000000000002';

-- the change feed
SELECT fsync_wait();
SELECT fsync_create_consumer('all', from_start => true);
SELECT change_id + file_id AS sum, operation, file_path, old_path, file_size,
	content_hash IS NOT NULL AS hash, old_hash, operation_id
FROM fsync_next_changes('all') ORDER BY repository_id, file_path;
SELECT name, repository_id, pending, in_flight, lost_changes FROM fsync_consumers;
SELECT fsync_ack('all', array_agg(-id)) FROM file_records;
SELECT fsync_ack('all', array_agg(-id)) FROM file_records;
SELECT count(*) FROM fsync_next_changes('all');
SELECT fsync_configure_repository('00000000-0000-0000-0000-000000000001', change_feed => true);
SELECT fsync_create_consumer('one', '00000000-0000-0000-0000-000000000001');
COPY (SELECT 1 WHERE false) TO PROGRAM 'cd /tmp/fsync_regress_api/user && printf three > three.txt && mv new.txt renew.txt';
SELECT fsync_wait('00000000-0000-0000-0000-000000000001');
SELECT operation, file_path, old_path, file_size, content_hash = sha256('three') AS hash,
	old_hash = sha256('new') AS old_hash
FROM fsync_next_changes('one') ORDER BY file_path;
SELECT name, repository_id, pending, in_flight, oldest <= now() AS oldest FROM fsync_consumers
WHERE name = 'one';
SELECT fsync_ack('one', array_agg(change_id)) FROM file_changes;
SELECT fsync_drop_consumer('all');
COPY (SELECT 1 WHERE false) TO PROGRAM 'cd /tmp/fsync_regress_api/user && mv renew.txt new.txt && rm three.txt';
SELECT fsync_wait();
SELECT name, pending, in_flight FROM fsync_consumers;

-- why
SELECT * FROM fsync_why('00000000-0000-0000-0000-000000000002', 'user/new.txt');
SELECT * FROM fsync_why('00000000-0000-0000-0000-000000000002', '/tmp/fsync_regress_api/user/scrap.tmp');

-- removal takes all that belongs to it along
SELECT fsync_remove_repository('00000000-0000-0000-0000-000000000002');
SELECT repository_id, count(*) FROM file_records GROUP BY 1;
SELECT count(*) FROM sync_operations WHERE repository_id <> '00000000-0000-0000-0000-000000000001';

-- but not while somebody needs it
CREATE TABLE album (file_id bigint REFERENCES file_records (id));
INSERT INTO album SELECT id FROM file_records WHERE file_path = 'new.txt';
\set VERBOSITY terse
SELECT fsync_remove_repository('00000000-0000-0000-0000-000000000001');
\set VERBOSITY default
SELECT count(*) FROM file_records;
SELECT count(*) > 0 AS changes, (SELECT count(*) FROM fsync_consumers) AS consumers FROM file_changes;
DROP TABLE album;

-- a row that came some other way is inactive until it is activated
CREATE TEMP TABLE saved AS SELECT * FROM fsync_repositories;
TRUNCATE fsync_repositories;
SELECT (SELECT count(*) FROM file_records) AS files,
	(SELECT count(*) FROM sync_operations) AS operations,
	(SELECT count(*) FROM file_changes) AS changes,
	(SELECT count(*) FROM fsync_consumers) AS consumers;
INSERT INTO fsync_repositories SELECT * FROM saved;
SELECT active, state, state_reason FROM fsync_repositories;
SELECT state FROM fsync_status();
SELECT count(*) FROM fsync_reconcile();
SELECT fsync_activate_repository('00000000-0000-0000-0000-000000000001');
SELECT fsync_wait();
SELECT file_path FROM file_records ORDER BY 1;

-- leave nothing behind
DROP EXTENSION fsync;
COPY (SELECT 1 WHERE false) TO PROGRAM 'rm -rf /tmp/fsync_regress_api';
