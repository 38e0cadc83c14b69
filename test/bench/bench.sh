#!/bin/bash
#
# bench.sh: what fsync costs beside what a user would otherwise run.
#
# Each line of the table is ours and a peer, run in turn RUNS times on the same
# tree with a warm cache; it shows the medians and their ratio, which a busy
# machine disturbs less than the times.  The server is a private one with
# default settings but for max_wal_size; so its WAL and data are flushed as
# usual.
#
#	FILES	files of tree S, 1 to 8 KiB each, 50 a directory (20,000)
#	PHOTOS	files of tree P, 2 to 8 MiB each (40)
#	RUNS	repetitions (3)
#	BENCH_DIR	where the trees are made and kept for the next time
#				(build/bench in the checkout)

set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh

FILES=${FILES:-20000}
PHOTOS=${PHOTOS:-40}
RUNS=${RUNS:-3}
trees=${BENCH_DIR:-$PWD/build/bench}

scripts/setup.sh build
build all

user=$(id -un)
as_user=()
if [ "$(id -u)" -eq 0 ]; then
	user=postgres
	as_user=(runuser -u postgres --)
fi
work=$(mktemp -d /tmp/fsync-bench.XXXXXX)
chmod 755 "$work"
mkdir -p "$trees"
install_private "$work/pg"

finish()
{
	"${as_user[@]}" "$pg_bin/pg_ctl" -D "$work/run/data" -m fast -w stop >/dev/null 2>&1 || :
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- trees and server ----

make_tree()
{
	[ -e "$trees/$1/.made" ] && return
	say "making tree $1"
	rm -rf "${trees:?}/$1"
	perl test/bench/tree.pl "$trees/$1" "${@:2}"
	touch "$trees/$1/.made"
}
make_tree "S$FILES" "$FILES" 1024 8192
make_tree "P$PHOTOS" "$PHOTOS" 2097152 8388608
chmod -R a+rX "$trees"
S=$trees/S$FILES
P=$trees/P$PHOTOS

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
"${as_user[@]}" "$pg_bin/pg_ctl" -D data -l log -w start >/dev/null

sql()
{
	"${as_user[@]}" "$pg_bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$work/run" -U postgres "$@"
}
sql -d postgres <<-END
	CREATE EXTENSION fsync;
	CREATE TABLE peer (repository_id uuid, file_path text COLLATE "C", file_size bigint,
		mod_time timestamptz, content_hash bytea);
	CREATE UNIQUE INDEX ON peer (repository_id, file_path);
	CREATE INDEX ON peer (content_hash);
	CREATE UNLOGGED TABLE peer_stat (file_path text, file_size bigint, mtime double precision);
	CREATE UNLOGGED TABLE peer_hash (file_path text, hash text);
END

# ---- measuring ----

# seconds COMMAND…: its wall time
seconds()
{
	local start=$EPOCHREALTIME

	"$@" >/dev/null
	perl -e "printf '%.3f', $EPOCHREALTIME - $start"
}

median()
{
	printf '%s\n' "$@" | sort -g | sed -n "$((($# + 1) / 2))p"
}

row()
{
	printf '| %-44s | %8s | %-30s | %8s | %6s |\n' "$@"
}

# compare NAME OURS PEER-NAME PEER: functions, each prints seconds
compare()
{
	local ours=() peers=() i

	for ((i = 0; i < RUNS; i++)); do
		peers+=("$($4)")
		ours+=("$($2)")
	done
	row "$1" "$(median "${ours[@]}")" "$3" "$(median "${peers[@]}")" \
		"$(perl -e "printf '%.2f', $(median "${ours[@]}") / $(median "${peers[@]}")")"
}

add()
{
	sql -d postgres -v dir="$1" <<-'END'
		SELECT fsync_add_repository(:'dir') AS id \gset
		SELECT 1 / fsync_wait(timeout => '30 minutes')::integer;
		SELECT :'id';
	END
}

remove_all()
{
	sql -d postgres <<<"SELECT fsync_remove_repository(repository_id) FROM fsync_repositories; VACUUM file_records"
}

first_sync()
{
	local taken

	taken=$(seconds add "$1")
	remove_all >/dev/null
	echo "$taken"
}

reconcile()
{
	sql -d postgres <<<"SELECT 1 / (status = 'completed' AND files_added + files_updated + files_removed = 0)::integer FROM fsync_reconcile()"
}

find_printf()
{
	find "$S" -type f -printf '%s %T@ %p\n'
}

# What a user would write: list, hash on both cores, load, join.
pipeline()
{
	(cd "$S" && find . -type f -printf '%P\t%s\t%T@\n') >"$work/stat"
	(cd "$S" && find . -type f -print0 | xargs -0 -P2 -n 500 sha256sum) |
		sed -E 's/^([0-9a-f]{64})  \.\/(.*)$/\2\t\1/' >"$work/hash"
	chmod a+r "$work/stat" "$work/hash"
	sql -d postgres <<-END
		TRUNCATE peer, peer_stat, peer_hash;
		COPY peer_stat FROM '$work/stat';
		COPY peer_hash FROM '$work/hash';
		INSERT INTO peer SELECT '00000000-0000-0000-0000-000000000000', file_path, file_size,
			to_timestamp(mtime), decode(hash, 'hex') FROM peer_stat JOIN peer_hash USING (file_path);
	END
}

openssl_hash()
{
	find "$P" -type f -print0 | xargs -0 -P2 -n 8 openssl dgst -sha256 -r
}

row "work" "ours, s" "peer" "peer, s" "ratio"
row "---" "---" "---" "---" "---"

reconcile_s() { seconds reconcile; }
find_s() { seconds find_printf; }
pipeline_s() { seconds pipeline; }
first_s() { first_sync "$S"; }
openssl_p() { seconds openssl_hash; }
first_p() { first_sync "$P"; }

find_printf >/dev/null
compare "first sync of $FILES files of 1-8 KiB" first_s "find, sha256sum -P2, COPY, join" pipeline_s
add "$S" >/dev/null
reconcile >/dev/null
compare "no-change reconciliation of them" reconcile_s "find -printf" find_s
remove_all >/dev/null
openssl_hash >/dev/null
compare "first sync of $PHOTOS files of 2-8 MiB" first_p "xargs -P2 openssl dgst" openssl_p

# ---- arrivals: cp -a into a watched directory until fsync_wait returns ----

id=$(add "$work/arrivals")
copy_s()
{
	"${as_user[@]}" cp -a "$S" "$work/arrivals/tree"
}
wait_s()
{
	sql -d postgres <<<"SELECT 1 / fsync_wait(timeout => '10 minutes')::integer"
}
cps=()
ours=()
for ((i = 0; i < RUNS; i++)); do
	start=$EPOCHREALTIME
	copy_s
	cps+=("$(perl -e "printf '%.3f', $EPOCHREALTIME - $start")")
	wait_s >/dev/null
	ours+=("$(perl -e "printf '%.3f', $EPOCHREALTIME - $start")")
	[ "$i" -eq $((RUNS - 1)) ] || { "${as_user[@]}" rm -rf "$work/arrivals/tree"; wait_s >/dev/null; }
done
row "cp -a of them into a watched directory" "$(median "${ours[@]}")" "the cp itself" \
	"$(median "${cps[@]}")" "$(perl -e "printf '%.2f', $(median "${ours[@]}") / $(median "${cps[@]}")")"

# ---- rename of a directory that holds them all ----

first=$(first_sync "$S" 2>/dev/null || echo 0)
id=$(add "$work/arrivals")
ours=()
for ((i = 0; i < RUNS; i++)); do
	"${as_user[@]}" mv "$work/arrivals/tree" "$work/arrivals/tree$i"
	ours+=("$(seconds wait_s)")
	"${as_user[@]}" mv "$work/arrivals/tree$i" "$work/arrivals/tree"
	wait_s >/dev/null
done
row "rename of a directory with all of them" "$(median "${ours[@]}")" "their first sync" "$first" \
	"$(perl -e "printf '%.2f', $(median "${ours[@]}") / $first")"

# ---- memory, and latency without debounce ----

memory()
{
	local pid sum=0

	for pid in $(sql -d postgres <<<"SELECT worker_pid || ' ' || tree_pid FROM fsync_status()"); do
		sum=$((sum + $(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status")))
	done
	echo "$sum"
}
reconcile >/dev/null
row "RssAnon of worker and fsync-tree, kB" "$(memory)" "" "" ""
remove_all >/dev/null

sql -d postgres <<-END
	ALTER SYSTEM SET fsync.debounce_interval = 0;
	SELECT pg_reload_conf();
END
"${as_user[@]}" mkdir "$work/arrivals/latency"
add "$work/arrivals/latency" >/dev/null
read -r p50 p99 < <(sql -d postgres -F ' ' <<-END
	CREATE TABLE latency (ms double precision);
	DO \$\$
	DECLARE
		closed timestamptz;
	BEGIN
		FOR i IN 1 .. 200 LOOP
			EXECUTE format('COPY (SELECT repeat(%L, 4095)) TO %L', 'x',
						   '$work/arrivals/latency/f' || i);
			closed := clock_timestamp();
			WHILE NOT EXISTS (SELECT FROM file_records
							   WHERE file_path = 'f' || i AND file_size = 4096
								 AND content_hash IS NOT NULL) LOOP
				PERFORM pg_sleep(0.0005);
			END LOOP;
			INSERT INTO latency VALUES (extract(epoch FROM clock_timestamp() - closed) * 1000);
		END LOOP;
	END \$\$;
	SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 1),
		   round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1) FROM latency;
END
)
row "close() to row, no debounce, ms: p50" "$p50" "" "" ""
row "close() to row, no debounce, ms: p99" "$p99" "" "" ""

say ""
say "$(nproc) CPUs, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
	"$(grep -qw sha_ni /proc/cpuinfo && echo with || echo without) SHA instructions," \
	"Linux $(uname -r), $("$pg_bin/postgres" --version); $RUNS runs, medians"
