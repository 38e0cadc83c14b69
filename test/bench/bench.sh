#!/bin/bash
#
# bench.sh: what fsync costs beside what a user would otherwise run.
#
# Each line of the table is ours and a peer, run in turn RUNS times on the same
# tree with a warm cache; it shows the medians, their ratio, and the most that
# the ratio (or the number) should be.  test/bench/README.md says how to read
# it.  The server is a private one with default settings but for max_wal_size;
# so its WAL and data are flushed as usual.
#
#	FILES	files of tree S, 1 to 8 KiB each, 50 a directory (200,000)
#	PHOTOS	files of tree P, 2 to 8 MiB each (400)
#	L		1: tree L as well, of 1,000,000 empty files; another number: so many
#	RUNS	repetitions (3)
#	PARTS	only these parts, for instance "photos gentle"; see the end
#	BENCH_DIR	where the trees are made and kept for the next time
#				(build/bench in the checkout)

set -euo pipefail
cd "$(dirname "$0")/../.."
bench=$PWD/test/bench
root=$PWD
. scripts/lib.sh
. test/bench/lib.sh
. test/bench/lines.sh
. test/bench/watching.sh
. test/bench/links.sh
. test/bench/status.sh
. test/bench/past.sh
. test/bench/confined.sh
. test/bench/queries.sh

FILES=${FILES:-200000}
PHOTOS=${PHOTOS:-400}
RUNS=${RUNS:-3}
L=${L:-0}
[ "$L" != 1 ] || L=1000000
trees=${BENCH_DIR:-$PWD/build/bench}

setup bench
build all

work=$(mktemp -d /tmp/fsync-bench.XXXXXX)
chmod 755 "$work"
mkdir -p "$trees"
install_private "$work/pg"

finish()
{
	stop_background
	stop_server
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- trees ----

# A directory that holds 100,000 files (or half of S) is renamed as a whole.
half=$((FILES / 2 < 100000 ? FILES / 2 : 100000))
arrivals=$((FILES < 20000 ? FILES : 20000))
directories=10000

need_space $((FILES * 8 + PHOTOS * 5300 + L / 10 + arrivals * 8 * (RUNS + 1) + 11000000))
S=$trees/S$FILES
P=$trees/P$PHOTOS
A=$trees/A$arrivals
D=$trees/D$directories
make_tree "$S/some" "$half" 1024 8192
make_tree "$S/other" $((FILES - half)) 1024 8192
make_tree "$P" "$PHOTOS" 2097152 8388608
make_tree "$A" "$arrivals" 1024 8192
make_tree "$D" "$directories" 0 0 1
if [ "$L" -gt 0 ]; then
	make_tree "$trees/L$L" "$L" 0 0
fi

# ---- the table ----

init_server
start_server
say "$(machine)"
say "load average before: $(cut -d' ' -f1-3 /proc/loadavg)"
say ""
head_row

for part in ${PARTS:-small photos large arrivals rename links status past latency idle gentle confined queries watchman}; do
	"lines_$part"
done

say ""
say "$RUNS runs, medians; load average after: $(cut -d' ' -f1-3 /proc/loadavg)"
say "ours and peers in seconds unless said otherwise; $failures failed, $misses missed"
[ "$failures" -eq 0 ]
