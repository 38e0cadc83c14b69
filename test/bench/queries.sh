#!/bin/bash
#
# queries.sh: the queries of examples/queries.sql at a million rows, and what the
# indexes that some of them want cost a first sync.  Sourced by bench.sh.
#
# The rows are made up: what counts is their number and their shape.  Each query
# runs once to warm up, and once in its session, which reads catalogs; then the
# median of RUNS is taken, in milliseconds.

query_rows=${QUERY_ROWS:-1000000}
query_id=00000000-0000-0000-0000-0000000000aa

query_indexes()
{
	sed -n 's/^-- index: \(CREATE INDEX .*\)$/\1;/p' "$root/examples/queries.sql"
}

make_query_rows()
{
	"${as_user[@]}" mkdir -p "$work/arrivals/queries"
	add "$work/arrivals/queries" "repository_id => '$query_id'"
	sql <<-END >/dev/null
		SELECT fsync_pause('$query_id');
		INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash,
			last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
		SELECT '$query_id', CASE WHEN n <= $query_rows / 8 THEN 'big/' || n / 1000 || '/' || n || '.jpg'
			WHEN n <= $query_rows / 4 THEN 'flat/' || n || '.png'
			ELSE 'albums/' || n / 5000 || '/' || n / 50 || '/IMG ' || n || '.JPG' END,
			n % ($query_rows / 2), timestamptz '2020-01-01' + n * interval '1 minute',
			sha256((n % ($query_rows / 2))::text::bytea), now(), 1, now(),
			timestamptz '2020-01-01' + n * interval '1 minute', n, n, n
		FROM generate_series(1, $query_rows) n;
	END
	query_indexes | sql -f -
	sql -c 'CREATE INDEX ON file_records USING brin (updated_at)' -c 'VACUUM ANALYZE file_records' >/dev/null
}

# query_values: what the variables of the file stand for
query_values()
{
	local n=$((query_rows - 1000))

	sed -e "s/:'repository'/'$query_id'/g" -e "s/:'directory'/''/g" -e "s/:'prefix'/'big\\/7\\/'/g" \
		-e "s/:'path'/'flat\\/$((query_rows / 4)).png'/g" -e "s/:'after'/'albums\\/$((n / 5000))'/g" \
		-e "s/:'hash'/'$(printf 700 | sha256sum | cut -c 1-64)'/g" -e "s/:'hash_after'/'80'/g" \
		-e "s/:'since'/'2021-11-20'/g" -e "s/:'extension'/'png'/g" \
		-e "s,:'absolute','$work/arrivals/queries/big/1/1000.jpg',g"
}

# milliseconds SQL: as psql's \timing has them, the median of RUNS
milliseconds()
{
	local times i

	sql -c "$1" >/dev/null
	for ((i = 0; i < RUNS; i++)); do
		times+=" $(sql <<<"\\o /dev/null
$1
\\timing on
$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p')"
	done
	# shellcheck disable=SC2086
	median $times
}

# The same without steps: what fsync_list() is instead of.
grouped="SELECT DISTINCT split_part(file_path, '/', 1) FROM file_records WHERE repository_id = '$query_id' AND file_path LIKE '%/%'"

lines_queries()
{
	local name statement

	remove_all
	make_query_rows
	while IFS=$'\t' read -r name statement; do
		attempt milliseconds "$statement"
		[ "$attempted" -eq 0 ] && single_row "ms: ${name:0:50}" "$result" "" || failed_row "ms: ${name:0:50}"
	done < <(query_values <"$root/examples/queries.sql" |
		awk '/^-- name: / { name = substr($0, 10); text = ""; next } name == "" || /^--/ { next } { text = text " " $0 } /;$/ { print name "\t" text; name = "" }')
	attempt milliseconds "SELECT * FROM fsync_list('$query_id')"
	last_ours=$result
	attempt milliseconds "$grouped"
	compared_row "ms: sub-folders of a folder with $query_rows below" "$last_ours" "SELECT DISTINCT split_part(…)" "$result" 0.05
	sql -c "DELETE FROM file_records WHERE repository_id = '$query_id'" >/dev/null
	remove_all
	index_cost
}

drop_query_indexes()
{
	sql -c "SELECT format('DROP INDEX %s;', indexrelid::regclass) FROM pg_index
		WHERE indrelid = 'file_records'::regclass AND indexrelid::regclass::text !~ '(_pkey|_key|content_hash_idx|missing_idx)\$'" | sql -f -
}

# worker_cpu DIR: CPU seconds of the worker for a first sync
worker_cpu()
{
	local pid before

	add "$A" >&2
	pid=$(both_pids | cut -d ' ' -f 1)
	before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
	add "$S/some" >&2
	awk -v a="$before" '{ printf "%.2f\n", ($14 + $15 - a) / 100 }' "/proc/$pid/stat"
	remove_all >&2
}

index_cost()
{
	local index name without

	drop_query_indexes
	attempt worker_cpu
	without=$result
	single_row "worker's CPU, first sync of $half files" "$without" ""
	while read -r index; do
		sql -c "$index"
		name=${index#*file_records }
		attempt worker_cpu
		compared_row "the same with an index on ${name:0:40}" "$result" "without" "$without" ""
		drop_query_indexes
	done < <(query_indexes)
}
