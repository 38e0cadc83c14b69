#!/bin/bash
#
# search-documents.sh [CONSUMER]
#		Keeps the table documents (search.sql) the words of the files in
#		file_records.
#
# Run as many as you like, on as many machines as see the files; kill them when
# you like.  EXTRACT is the program that prints a file's text in UTF-8, called with
# its path; LEASE the seconds after which another worker takes over what a dead
# one has left.  psql finds the database by PGHOST, PGDATABASE and so on.

set -euo pipefail
consumer=${1:-search}
extract=${EXTRACT:-cat}
lease=${LEASE:-300}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"

query()
{
	psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 \
		--set=consumer="$consumer" --set=lease="$lease s" --set=ids="{$ids}" "$@"
}

while :; do
	ids=
	started=$SECONDS
	: >"$scratch/words"

	# A zero byte behind each field, as any other may be in a path.
	while IFS= read -r -d '' id && IFS= read -r -d '' file &&
		IFS= read -r -d '' operation && IFS= read -r -d '' path; do
		# What is left when half of the lease is over is left to others.
		[ $((SECONDS - started)) -lt $((lease / 2)) ] || break
		ids+=${ids:+,}$id
		echo "DELETE FROM documents WHERE file_id = $file;" >>"$scratch/words"
		[ "$operation" != removed ] || continue

		# The file may have changed again by now: then a later change tells.
		timeout $((lease / 3)) $extract "$path" >"$scratch/text" 2>/dev/null || continue
		text=$(head -c 200000 "$scratch/text" | tr -d '\0' | iconv -c -f UTF-8 -t UTF-8 | base64 -w 0) || :
		echo "INSERT INTO documents SELECT $file, to_tsvector('simple', convert_from(decode('$text', 'base64'), 'UTF8'));" >>"$scratch/words"
	done < <(query --field-separator-zero --record-separator-zero <<-'SQL'
		SELECT change_id, file_id, operation, watch_root || '/' || file_path
		FROM fsync_next_changes(:'consumer', 10, :'lease') JOIN fsync_repositories USING (repository_id)
		ORDER BY change_id > 0, abs(change_id);
	SQL
	)
	[ -n "$ids" ] || { sleep 1; continue; }

	# Who acknowledges, writes: both in one transaction, and where another worker was
	# faster, neither.
	query >/dev/null <<-SQL || sleep 1
		BEGIN;
		SELECT fsync_ack(:'consumer', :'ids') = cardinality(:'ids'::bigint[]) AS mine \gset
		\if :mine
		\i $scratch/words
		COMMIT;
		\endif
	SQL
done
