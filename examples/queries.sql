-- What applications ask most often, one statement each.  Every one of them is
-- served by an index, which the extension has made where nothing else is said.
-- Where a line begins with "index:", it is yours to make: it costs each new and
-- each changed file something (see doc/queries.md), so only who needs it has it.
--
-- For psql: psql -v repository=… -v path=… -v prefix=… -v directory=… -v after=…
--     -v hash=… -v since=… -v extension=… -v absolute=… -v hash_after=… -f queries.sql

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

-- name: a page of a folder: sub-folders first, then files (after: path of the last row)
SELECT name, is_directory, path, id, file_size, mod_time
FROM fsync_list(:'repository', :'directory', max_rows => 100);

-- name: the sub-folders of a folder, with the number and size of all files below each
SELECT l.path, s.files, s.bytes
FROM fsync_list(:'repository', :'directory') l
CROSS JOIN LATERAL (SELECT count(*) AS files, sum(file_size) AS bytes FROM file_records
	WHERE repository_id = :'repository' AND missing_since IS NULL
		AND file_path >= l.path AND file_path < left(l.path, -1) || '0') s
WHERE l.is_directory;

-- name: a sub-tree: number and size of all files below a directory
SELECT count(*), sum(file_size) FROM file_records
WHERE repository_id = :'repository' AND file_path ^@ :'prefix' AND missing_since IS NULL;

-- name: all records, a page at a time (begin with after = '')
SELECT id, file_path, content_hash FROM file_records
WHERE repository_id = :'repository' AND file_path > :'after' ORDER BY file_path LIMIT 1000;

-- name: the same for people
SELECT absolute_path, extension, content_hash, last_verified FROM fsync_files
WHERE repository_id = :'repository' AND file_path > :'after' ORDER BY file_path LIMIT 1000;

-- name: a record by its absolute path
SELECT id, repository_id, file_path FROM fsync_find(:'absolute');

-- name: by what sha256sum prints: records with a content
SELECT absolute_path FROM fsync_find_content(:'hash');

-- name: added last (ids grow)
SELECT id, file_path, created_at FROM file_records
WHERE repository_id = :'repository' ORDER BY id DESC LIMIT 50;

-- index: CREATE INDEX ON file_records (repository_id, mod_time)
-- name: newest by modification time
SELECT id, file_path, mod_time FROM file_records
WHERE repository_id = :'repository' ORDER BY mod_time DESC LIMIT 50;

-- index: CREATE INDEX ON file_records (repository_id, lower(substring(file_path, '[^/][.]([^./]+)$')), file_path)
-- name: by extension, a page at a time
SELECT id, file_path FROM fsync_files
WHERE repository_id = :'repository' AND extension = :'extension' AND file_path > :'after'
ORDER BY file_path LIMIT 100;

-- name: duplicates, a page at a time (hash_after: of the last row; without copies: hard links)
SELECT encode(p.content_hash, 'hex') AS content_hash, d.copies, d.wasted_bytes, d.absolute_paths
FROM (SELECT content_hash FROM file_records
	WHERE content_hash > decode(:'hash_after', 'hex') AND missing_since IS NULL AND file_size > 0
	GROUP BY content_hash HAVING count(*) > 1 ORDER BY content_hash LIMIT 20) p
LEFT JOIN LATERAL (SELECT * FROM fsync_duplicates d WHERE d.content_hash = p.content_hash OFFSET 0) d ON true
ORDER BY p.content_hash;

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
