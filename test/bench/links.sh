#!/bin/bash
#
# links.sh: files that have several names, as snapshots by cp -al have.  Sourced
# by bench.sh.
#
# What counts is how much is read: a file once, whatever the number of its names.
# So these rows are in MB, and their limits are what the files hold.

names=3000

# As the user, who may link his own files only where hard links are protected.
as_owner()
{
	"${as_user[@]}" "$@"
}

fill_snapshots()
{
	as_owner mkdir "$work/arrivals/daily.0"
	for i in $(seq 100); do
		head -c 1000000 /dev/urandom | as_owner tee "$work/arrivals/daily.0/$i.jpg" >/dev/null
	done
}

# mb_read COMMAND…: until it is in the table
mb_read()
{
	local before

	before=$(hashed_bytes)
	"$@" >&2
	wait_all
	awk -v a="$(hashed_bytes)" -v b="$before" 'BEGIN { printf "%.1f\n", (a - b) / 1e6 }'
}

hashed_bytes()
{
	sql -c 'SELECT coalesce(sum(bytes_hashed), 0) FROM sync_operations'
}

snapshot() { as_owner cp -al "$work/arrivals/daily.0" "$work/arrivals/daily.$1"; }

rotate()
{
	as_owner rm -rf "$work/arrivals/daily.6"
	as_owner mv "$work/arrivals/daily.5" "$work/arrivals/daily.6"
}

append_byte() { echo | as_owner tee -a "$work/arrivals/names/7" >/dev/null; }

fill_names()
{
	as_owner mkdir "$work/arrivals/names"
	as_owner cp "$work/arrivals/daily.0/1.jpg" "$work/arrivals/names/0"
	as_owner perl -e 'my ($dir, $n) = @ARGV; link("$dir/0", "$dir/$_") or die "link: $!" for 1 .. $n - 1' \
		"$work/arrivals/names" "$names"
	wait_all
}

# mb_row NAME LIMIT COMMAND…
mb_row()
{
	local name=$1 limit=$2

	shift 2
	attempt mb_read "$@"
	if [ "$attempted" -eq 0 ]; then
		single_row "$name" "$result" "$limit"
	else
		failed_row "$name" "" "$limit"
	fi
}

lines_links()
{
	attempt fill_snapshots
	attempt add "$work/arrivals"
	for k in 1 2 3 4 5; do
		attempt snapshot "$k"
		attempt wait_all
	done
	mb_row "MB read: sixth cp -al of 100 files of 1 MB" 100 snapshot 6
	mb_row "MB read: rm -rf daily.6; mv daily.5 daily.6" 100 rotate
	attempt fill_names
	mb_row "MB read: a byte more in 1 MB with $names names" 1.1 append_byte
	attempt remove_all
	as_owner rm -rf "$work"/arrivals/*
}
