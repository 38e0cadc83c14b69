#!/bin/bash
#
# try.sh start|stop
#		A private throw-away server that watches a directory: "make try".
#
#	DIR=/path		the directory; without it a small sample tree is made
#	TRY_ONCE=1		shows what it has to show and goes away again
#
# The server is a copy of the installed PostgreSQL in a directory of its own
# under /tmp.  It listens on a Unix socket in there and nowhere else, so it
# meets no other server.  It runs as the user who calls; for root, which
# PostgreSQL refuses, as "postgres", or as DIR's owner where that one cannot
# read DIR.  Nothing is ever written to DIR.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# One line for each server that runs: its directory.
registry=build/try

# Removes one server, if it is one of ours.
remove()
{
	local dir=$1
	local runner=() owner

	[ -e "$dir/.fsync-try" ] || return 0
	owner=$(cat "$dir/.fsync-try")
	# First of all, for a try.sh that still uses it: see finish().
	rm "$dir/.fsync-try"
	[ "$(id -u)" -ne 0 ] || runner=(runuser -u "$owner" --)
	"${runner[@]}" "$(cat "$dir/.pg_bin" 2>/dev/null)/pg_ctl" \
		-D "$dir/run/data" -m fast -w stop >/dev/null 2>&1 || :
	rm -rf "$dir"
}

stop_all()
{
	local dir found=

	if [ -e "$registry" ]; then
		while read -r dir; do
			[ -e "$dir/.fsync-try" ] || continue
			remove "$dir"
			say "removed $dir"
			found=yes
		done <"$registry"
		rm -f "$registry"
	fi
	[ -n "$found" ] || say "nothing to stop"
}

case "${1:-start}" in
	start) ;;
	stop) stop_all; exit ;;
	*) die "usage: $0 start|stop" ;;
esac

setup build

# ---- for whom ----

can_read()
{
	if [ "$(id -u)" -eq 0 ]; then
		runuser -u "$1" -- test -r "$2" -a -x "$2" -a -d "$2"
	else
		test -r "$2" -a -x "$2" -a -d "$2"
	fi
}

user=$(id -un)
[ "$(id -u)" -ne 0 ] || user=postgres

dir=${DIR:-}
if [ -n "$dir" ]; then
	[ -d "$dir" ] || die "\"$dir\" is not a directory"
	dir=$(cd "$dir" && pwd)
	if ! can_read "$user" "$dir"; then
		owner=$(stat -c %U "$dir")
		if [ "$(id -u)" -eq 0 ] && [ "$owner" != root ] && can_read "$owner" "$dir"; then
			user=$owner
		else
			die "user \"$user\" cannot read \"$dir\": allow it (chmod o+rx), or run make try as its owner"
		fi
	fi
fi

# ---- the server ----

work=$(mktemp -d /tmp/fsync-try.XXXXXX)
chmod 755 "$work"
echo "$user" >"$work/.fsync-try"
mkdir -p build
echo "$work" >>"$registry"

finish()
{
	local status=$?

	trap - EXIT INT TERM HUP
	if [ ! -e "$work/.fsync-try" ]; then
		say "stopped"
		exit 0
	fi
	if [ "$status" -ne 0 ] && [ "$status" -ne 130 ] && [ -e "$work/run/log" ]; then
		say "--- the server's log ends with:"
		tail -n 15 "$work/run/log"
	fi
	say ""
	say "removing $work"
	remove "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

say "building"
build all
install_private "$work/pg"
echo "$pg_bin" >"$work/.pg_bin"

mkdir -m 700 "$work/run"
as_user=()
if [ "$(id -u)" -eq 0 ]; then
	as_user=(runuser -u "$user" --)
	chown "$user" "$work/run"
fi

run_as()
{
	(cd "$work/run" && exec "${as_user[@]}" "$@")
}

make_sample()
{
	run_as bash -e <<-'END'
		umask 022
		mkdir -p sample/2024/summer sample/2024/winter sample/2025 "sample/with space"
		for i in 1 2 3 4 5 6 7 8 9; do
			head -c $((i * 10000)) /dev/urandom >"sample/2024/summer/IMG_000$i.jpg"
			head -c $((i * 7000)) /dev/urandom >"sample/2024/winter/IMG_100$i.jpg"
		done
		echo "notes" >sample/2025/notes.txt
		echo "hello" >"sample/with space/it's a file.txt"
		echo "not tracked" >sample/draft.tmp
	END
	# Where the caller can change it, also if that is root.
	dir=$work/run/sample
}

[ -n "$dir" ] || make_sample

say "starting a private server in $work"
run_as "$pg_bin/initdb" -D data -U postgres -A trust -N --no-locale -E UTF8 >log 2>&1 ||
	die "initdb failed"
cat >>"$work/run/data/postgresql.conf" <<-END
	listen_addresses = ''
	unix_socket_directories = '$work/run'
	unix_socket_permissions = 0700
	shared_preload_libraries = 'fsync'
	max_connections = 20
	logging_collector = off
END
run_as "$pg_bin/pg_ctl" -D data -l log -w start >/dev/null ||
	die "the server did not start"

# sql [OPTION…]: psql on the private server; statements come from stdin.
sql()
{
	run_as "$pg_bin/psql" -X -q -v ON_ERROR_STOP=1 -P pager=off \
		-h "$work/run" -U postgres -d try "$@"
}

run_as "$pg_bin/createdb" -h "$work/run" -U postgres try
sql <<<"CREATE EXTENSION fsync"

# ---- the directory ----

say "adding $dir"
say ""
sql -At -v dir="$dir" <<<"SELECT fsync_add_repository(:'dir')" >/dev/null

# Progress until the first sync is over, or has failed.
last=
while :; do
	line=$(sql -At <<-'END'
		SELECT state, format('%s: %s files%s%s', state,
							 greatest(files_done, total_files),
							 ', ' || pg_size_pretty(bytes_done) || ' hashed',
							 ' (' || nullif(reason, '') || ')')
		FROM fsync_status();
	END
	)
	state=${line%%|*}
	if [ "$line" != "$last" ]; then
		say "  ${line#*|}"
		last=$line
	fi
	case "$state" in
		starting | syncing) sleep 0.3 ;;
		*) break ;;
	esac
done

sql -At <<<"SELECT fsync_wait(timeout => '10 minutes')" >/dev/null

say ""
sql -x <<<"SELECT * FROM fsync_status()"
sql <<-'END'
	SELECT id, file_path, file_size, mod_time, left(content_hash, 12) || '…' AS content_hash
	FROM fsync_files ORDER BY file_path LIMIT 10
END

cat <<END
Connect from another terminal, as this user:

    $pg_bin/psql -h $work/run -U postgres try

and watch changes arrive, while you add, change, rename and delete files in
$dir:

    SELECT file_path, file_size, updated_at FROM fsync_files
     ORDER BY updated_at DESC LIMIT 10 \\watch 1

More to look at: fsync_status(), fsync_problems, sync_operations; README.md.
END

if [ "$state" = unavailable ]; then
	exit 1
fi
if [ -n "${TRY_ONCE:-}" ]; then
	exit 0
fi

say ""
say "Ctrl-C here, or make try-stop, removes everything (but not your files)."
while [ -e "$work/.fsync-try" ]; do
	sleep 1 &
	wait $!
done
