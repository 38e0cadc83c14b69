#!/bin/bash
#
# past.sh: the files as they were, from the change feed.  Sourced by bench.sh.
#
# A million files that really change three million times take hours; so rows and
# changes are made here, below an empty directory whose repository is paused: a week
# of changes of random files, and an hour in which each file changes.

past_files=${PAST_FILES:-1000000}
past_changes=$((3 * past_files))

fill_past()
{
	as_owner mkdir "$work/arrivals/past"
	add "$work/arrivals/past" 'change_feed => true'
	sql -c 'SELECT fsync_pause(repository_id) FROM fsync_repositories' >/dev/null
	sql -v n="$past_files" -v changes="$past_changes" -f - <<-'END'
		ALTER TABLE file_records DISABLE TRIGGER fsync_written;
		ALTER TABLE file_changes DISABLE TRIGGER fsync_written;
		INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash,
			last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
		SELECT repository_id, format('directory %s/IMG_%s.jpg', i / 100, i), i, now(),
			sha256(i::text::bytea), now(), 1, now(), now(), i, i, i
		FROM fsync_repositories, generate_series(1, :n) i;
		INSERT INTO file_changes (repository_id, file_id, operation, file_path, old_path, file_size,
			mod_time, content_hash, old_size, old_mod_time, old_hash, changed_at)
		SELECT repository_id, f.id, (ARRAY['added', 'updated', 'moved', 'removed'])[f.id % 4 + 1],
			f.file_path, CASE f.id % 4 WHEN 2 THEN 'old ' || f.file_path END, 1, now(), f.content_hash,
			2, now(), f.content_hash, now() - interval '7 days' + c.i * interval '7 days' / :changes
		FROM (SELECT i, 1 + (random() * (:n - 1))::bigint AS file FROM generate_series(1, :changes) i) c
		JOIN file_records f ON f.inode = c.file ORDER BY c.i;
		UPDATE fsync_feed_history SET since = '-infinity', after_change_id = 0;
		VACUUM ANALYZE file_records, file_changes;
		ALTER TABLE file_records ENABLE ALWAYS TRIGGER fsync_written;
		ALTER TABLE file_changes ENABLE ALWAYS TRIGGER fsync_written;
	END
}

# past_row NAME LIMIT QUERY: of $repository
past_row()
{
	local times=() i

	for ((i = 0; i < RUNS; i++)); do
		attempt seconds sql -c "$3"
		[ "$attempted" -eq 0 ] && times+=("$result")
	done
	if [ ${#times[@]} -lt "$RUNS" ]; then
		failed_row "$1" "" "$2"
	else
		single_row "$1" "$(median "${times[@]}")" "$2"
	fi
}

lines_past()
{
	local from="FROM fsync_repositories CROSS JOIN LATERAL" count="SELECT count(*)"

	attempt fill_past
	past_row "files_at() an hour ago, $past_files files" 2 \
		"$count $from fsync_files_at(repository_id, now() - interval '1 hour') f"
	past_row "diff() since an hour ago" 1 \
		"$count $from fsync_diff(repository_id, now() - interval '1 hour') f"
	past_row "files_at() a week and $past_changes changes ago" "" \
		"$count $from fsync_files_at(repository_id, now() - interval '8 days') f"
	past_row "manifest_hash() of $past_files files" "" \
		"SELECT fsync_manifest_hash(repository_id) FROM fsync_repositories"
	past_row "missing_copies(2) of $past_files files" "" "$count FROM fsync_missing_copies(2)"
	attempt remove_all
	as_owner rm -rf "$work/arrivals/past"
}
