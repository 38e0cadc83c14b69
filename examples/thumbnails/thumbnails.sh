#!/bin/bash
#
# thumbnails.sh OUTPUT [CONSUMER]
#		Keeps OUTPUT/<id> a thumbnail of the file with that id in file_records.
#
# Run as many as you like, on as many machines as see the files; kill them when
# you like.  THUMBNAIL is the program that makes one, called with source and
# target; LEASE the seconds after which another worker takes over what a dead
# one has left.  psql finds the database by PGHOST, PGDATABASE and so on.

set -euo pipefail
output=$1
consumer=${2:-thumbnails}
thumbnail=${THUMBNAIL:-convert -thumbnail 256x256}
lease=${LEASE:-300}
temporary=$output/.$HOSTNAME.$$

query()
{
	psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 \
		--set=consumer="$consumer" --set=lease="$lease s" --set=ids="${ids:-}" "$@"
}

while :; do
	ids=
	started=$SECONDS

	# A zero byte behind each field, as any other may be in a path.
	while IFS= read -r -d '' id && IFS= read -r -d '' file &&
		IFS= read -r -d '' operation && IFS= read -r -d '' path; do
		# What is left when half of the lease is over is left to others.
		[ $((SECONDS - started)) -lt $((lease / 2)) ] || break
		if [ "$operation" = removed ]; then
			rm -f "$output/$file"
		# The file may have changed again by now: then a later change tells.
		elif timeout $((lease / 3)) $thumbnail "$path" "$temporary" 2>/dev/null; then
			mv -f "$temporary" "$output/$file"
		else
			rm -f "$temporary" "$output/$file"
		fi
		ids+=${ids:+,}$id
	done < <(query --field-separator-zero --record-separator-zero <<-'SQL'
		SELECT change_id, file_id, operation, watch_root || '/' || file_path
		FROM fsync_next_changes(:'consumer', 10, :'lease') JOIN fsync_repositories USING (repository_id)
		ORDER BY change_id > 0, abs(change_id);
	SQL
	)

	if [ -n "$ids" ]; then
		query <<<"SELECT fsync_ack(:'consumer', ('{' || :'ids' || '}')::bigint[])" >/dev/null || sleep 1
	else
		sleep 1
	fi
done
