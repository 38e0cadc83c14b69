-- What applications ask most often, one statement each.  Every one of them is
-- served by an index, which the extension has made where nothing else is said.
--
-- For psql: psql -v repository=… -v path=… -v prefix=… -v hash=… -v since=… -f queries.sql

-- name: one record
SELECT * FROM file_records
WHERE repository_id = :'repository' AND file_path = :'path';

-- name: records below a directory, a page at a time (begin with after = the prefix)
SELECT id, file_path, file_size, mod_time FROM file_records
WHERE repository_id = :'repository' AND file_path ^@ :'prefix' AND file_path > :'after'
ORDER BY file_path LIMIT 100;

-- name: records with a content, wherever they are
SELECT repository_id, id, file_path FROM file_records
WHERE content_hash = decode(:'hash', 'hex');

-- For who asks this often: CREATE INDEX ON file_records USING brin (updated_at)
-- name: records that were added or changed since
SELECT id, file_path, updated_at FROM file_records
WHERE repository_id = :'repository' AND updated_at >= :'since'
ORDER BY updated_at;

-- name: number of records
SELECT count(*) FROM file_records WHERE repository_id = :'repository';

-- name: history
SELECT * FROM sync_operations
WHERE repository_id = :'repository' ORDER BY id DESC LIMIT 10;

-- name: latest operation
SELECT * FROM sync_operations
WHERE repository_id = :'repository' ORDER BY id DESC LIMIT 1;

-- name: latest operation that completed
SELECT * FROM sync_operations
WHERE repository_id = :'repository' AND status = 'completed' ORDER BY id DESC LIMIT 1;

-- name: failed operations
SELECT id, operation_type, start_time, error_message FROM sync_operations
WHERE repository_id = :'repository' AND status = 'failed' ORDER BY id DESC;

-- name: running operations
SELECT id, operation_type, start_time FROM sync_operations
WHERE repository_id = :'repository' AND status = 'running' ORDER BY id DESC;

-- name: what the operations came to, by type
SELECT operation_type, count(*) AS operations,
	count(*) FILTER (WHERE status = 'failed') AS failed,
	avg(duration_ms) AS mean_ms, max(duration_ms) AS longest_ms,
	sum(files_added) AS added, sum(files_updated) AS updated,
	sum(files_moved) AS moved, sum(files_removed) AS removed,
	sum(bytes_hashed) AS bytes_hashed
FROM sync_operations WHERE repository_id = :'repository' GROUP BY operation_type;

-- name: problems
SELECT file_path, problem, message, last_seen FROM fsync_problems
WHERE repository_id = :'repository' ORDER BY last_seen DESC;
