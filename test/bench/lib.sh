#!/bin/bash
#
# lib.sh: the bench's trees, server, clock and table.  Sourced by bench.sh.
#
# A measurement runs in a shell of its own that ends at the first error.  One
# that fails gives a row that says so, and the others go on.

failures=0
misses=0
children=()

user=$(id -un)
as_user=()
if [ "$(id -u)" -eq 0 ]; then
	user=postgres
	as_user=(runuser -u postgres --)
fi

# ---- machine and trees ----

machine()
{
	local flag has=

	for flag in sha_ni avx2 avx512bw; do
		has+=", $(grep -qw "$flag" /proc/cpuinfo && echo with || echo without) $flag"
	done
	echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores$has," \
		"$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)," \
		"$(stat -f -c %T "$trees") below $trees, Linux $(uname -r)," \
		"$("$pg_bin/postgres" --version)"
}

cpu_has()
{
	grep -qw "$1" /proc/cpuinfo
}

# need_space KB: what the trees and the server take at most
need_space()
{
	local dir free

	for dir in "$trees" "$work"; do
		free=$(df --output=avail -k "$dir" | tail -n 1)
		[ "$free" -gt "$1" ] ||
			die "$dir has $((free / 1024)) MB left, and $(($1 / 1024)) are needed; make FILES and PHOTOS smaller, or name another BENCH_DIR"
	done
}

# make_tree DIR FILES MIN MAX [PER_DIRECTORY]
make_tree()
{
	local name=${1#"$trees"/}

	[ ! -e "$trees/.made-${name//\//-}" ] || return 0
	say "making tree $name"
	rm -rf "${1:?}"
	perl "$bench/tree.pl" "$@"
	chmod -R a+rX "$1"
	touch "$trees/.made-${name//\//-}"
}

# ---- server ----

init_server()
{
	mkdir -m 755 "$work/run" "$work/arrivals"
	[ -z "${as_user[*]}" ] || chown "$user" "$work/run" "$work/arrivals"
	cd "$work/run"
	"${as_user[@]}" "$pg_bin/initdb" -D data -U postgres -A trust --no-locale -E UTF8 >/dev/null
	cat >>data/postgresql.conf <<-END
		listen_addresses = ''
		unix_socket_directories = '$work/run'
		shared_preload_libraries = 'fsync'
		max_wal_size = 8GB
	END
}

# start_server [NAME=VALUE…]: with these in its environment
start_server()
{
	"${as_user[@]}" env "$@" "$pg_bin/pg_ctl" -D "$work/run/data" -l "$work/run/log" -w start >/dev/null
	[ -n "${server_made:-}" ] || sql -f - <<-END
		CREATE EXTENSION fsync;
		CREATE TABLE peer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			repository_id uuid, file_path text COLLATE "C", file_size bigint,
			mod_time timestamptz, content_hash bytea,
			created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
		CREATE UNIQUE INDEX ON peer (repository_id, file_path);
		CREATE INDEX ON peer (content_hash);
		CREATE UNLOGGED TABLE peer_stat (file_path text, file_size bigint, mtime double precision);
		CREATE UNLOGGED TABLE peer_hash (file_path text, hash text);
	END
	server_made=yes
}

stop_server()
{
	"${as_user[@]}" "$pg_bin/pg_ctl" -D "$work/run/data" -m fast -w stop >/dev/null 2>&1 || :
}

sql()
{
	"${as_user[@]}" "$pg_bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$work/run" -U postgres -d postgres "$@"
}

set_config()
{
	sql -c "ALTER SYSTEM SET $1 = '$2'" -c 'SELECT pg_reload_conf()' >/dev/null
}

# in_background COMMAND…: a process that ends with the bench
in_background()
{
	"$@" &
	children+=($!)
}

# Ends them, and what they have started.
stop_background()
{
	local pid

	for pid in ${children[@]+"${children[@]}"}; do
		kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || :
		wait "$pid" 2>/dev/null || :
	done
	children=()
}

# ---- what ours is asked to do ----

# add DIR [ARGUMENTS]: until it is in the table
add()
{
	sql -v dir="$1" <<-END >/dev/null
		SELECT fsync_add_repository(:'dir' ${2:+, $2});
		SELECT 1 / fsync_wait(timeout => '1 hour')::integer;
	END
}

remove_all()
{
	sql -c 'SELECT fsync_remove_repository(repository_id) FROM fsync_repositories' \
		-c 'VACUUM ANALYZE file_records' >/dev/null
}

# The worker's and fsync-tree's, with a space between them.
both_pids()
{
	sql -F ' ' -c 'SELECT worker_pid, tree_pid FROM fsync_status()'
}

wait_all()
{
	sql -c "SELECT 1 / fsync_wait(timeout => '1 hour')::integer" >/dev/null
}

# Finds nothing, or fails.
reconcile()
{
	sql -c "SELECT 1 / (status = 'completed' AND files_added + files_updated + files_removed = 0)::integer FROM fsync_reconcile()" >/dev/null
}

# ---- measuring ----

# seconds COMMAND…: its wall time
seconds()
{
	local start=$EPOCHREALTIME

	"$@" >/dev/null
	minus "$EPOCHREALTIME" "$start"
}

minus()
{
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a - b }'
}

ratio()
{
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f\n", (b > 0 ? a / b : 0) }'
}

median()
{
	printf '%s\n' "$@" | sort -g | sed -n "$((($# + 1) / 2))p"
}

# attempt COMMAND…: its output in $result; false if any part of it fails.  Not
# to be called where a failure is looked at: bash would then not end it at one.
attempt()
{
	local status

	set +e
	result=$(set -e; trap stop_background EXIT; "$@" 2>>"$work/errors")
	status=$?
	set -e
	attempted=$status
}

# ---- the table ----

print_row()
{
	printf '| %-54s | %8s | %-36s | %8s | %6s | %7s | %-6s |\n' "$@"
}

head_row()
{
	print_row "work" "ours" "against" "peer" "ratio" "at most" ""
	print_row "---" "---" "---" "---" "---" "---" "---"
}

# verdict NUMBER LIMIT: the word, in $word
verdict()
{
	word=
	[ -n "$2" ] || return 0
	word=$(awk -v a="$1" -v b="$2" 'BEGIN { print a <= b ? "ok" : "MISSED" }')
	[ "$word" = ok ] || misses=$((misses + 1))
}

failed_row()
{
	failures=$((failures + 1))
	print_row "$1" "FAILED" "${2:-}" "" "" "${3:-}" ""
	tail -n 3 "$work/errors" | sed 's/^/# /'
}

# compared_row NAME OURS PEER-NAME PEER LIMIT-OF-RATIO
compared_row()
{
	local r

	r=$(ratio "$2" "$4")
	verdict "$r" "$5"
	print_row "$1" "$2" "$3" "$4" "$r" "$5" "$word"
}

# single_row NAME NUMBER LIMIT [PEER-NAME PEER]
single_row()
{
	verdict "$2" "$3"
	print_row "$1" "$2" "${4:-}" "${5:-}" "" "$3" "$word"
}

# compare NAME OURS PEER-NAME PEER LIMIT: functions that print seconds
compare()
{
	local ours=() peers=() i

	last_ours=
	for ((i = 0; i < RUNS; i++)); do
		attempt "$4"
		[ "$attempted" -eq 0 ] && peers+=("$result")
		attempt "$2"
		[ "$attempted" -eq 0 ] && ours+=("$result")
	done
	if [ ${#ours[@]} -lt "$RUNS" ] || [ ${#peers[@]} -lt "$RUNS" ]; then
		failed_row "$1" "$3" "$5"
		return 0
	fi
	last_ours=$(median "${ours[@]}")
	compared_row "$1" "$last_ours" "$3" "$(median "${peers[@]}")" "$5"
}
