#!/bin/bash
#
# check.sh [all|scripts|unit|unit-asan|unit-tsan|regress|tap|torture]
#		Builds and runs the tests, and counts them.
#
# Runs from any user: initdb and several tests (files that one may not read)
# refuse root, so as root they run as user postgres, in a copy that this user
# can write.  The last line is "N passed, N failed"; the exit status is zero
# only if nothing failed.
#
#	TESTS="test/t/001_basic.pl …"	only these TAP tests
#	CHECK_JOBS=N					TAP tests at once (4)
#	KEEP=1							leave the working directory
#
# Logs of a failed run are in build/check/.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

what=${1:-all}
passed=0
failed=0
skipped=0
failures=()
summarized=

setup check

work=$(mktemp -d "${TMPDIR:-/tmp}/fsync-check.XXXXXX")
chmod 755 "$work"

finish()
{
	local status=$?

	trap - EXIT INT TERM
	if [ "$status" -ne 0 ] && [ -z "$summarized" ]; then
		say "check: ended early (status $status)"
		say "$passed passed, $((failed + 1)) failed"
	fi
	if [ -n "${KEEP:-}" ]; then
		echo "check: left in $work" >&2
	else
		# A test may have left directories that its user cannot enter.
		chmod -R u+rwX "$work" 2>/dev/null || :
		rm -rf "$work"
	fi
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# As whom the tests run.
as_user=()
if [ "$(id -u)" -eq 0 ]; then
	as_user=(runuser -u postgres -- env HOME="$work/run")
fi

mkdir "$work/run"

# run_as NAME COMMAND…: runs it as the tests' user, output to NAME.log.
run_as()
{
	local name=$1
	shift

	(cd "$work/run" && exec "${as_user[@]}" "$@") >"$work/run/$name.log" 2>&1 </dev/null
}

failure()
{
	failed=$((failed + ${2:-1}))
	failures+=("$1")
}

give_to_user()
{
	[ "$(id -u)" -ne 0 ] || chown -R postgres "$work/run"
}

# ThreadSanitizer wants its addresses where it expects them; with many bits of
# randomisation they are not.
no_randomisation=()
if setarch -R true 2>/dev/null; then
	no_randomisation=(setarch -R)
fi

# unit VARIANT PROGRAM…: a test prints TAP or just exits with zero.
unit()
{
	local variant=$1 test name ok
	local prefix=()
	shift

	[ "$variant" != tsan ] || prefix=("${no_randomisation[@]}")
	mkdir -p "$work/run/$variant"
	[ $# -eq 0 ] || cp "$@" "$work/run/$variant/"
	give_to_user
	for test in "$@"; do
		name=${test##*/}
		ok=yes
		run_as "$variant-$name" env TMPDIR="$work/run" \
			ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 \
			UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1 \
			timeout 1200 "${prefix[@]}" "./$variant/$name" || ok=no
		count_unit "$variant/$name" "$work/run/$variant-$name.log" "$ok"
	done
}

count_unit()
{
	local name=$1 log=$2 ok=$3 good bad skip

	skip=$(grep -c '^ok .* # SKIP' "$log" || :)
	good=$(($(grep -c '^ok ' "$log" || :) - skip))
	bad=$(grep -c '^not ok ' "$log" || :)
	if [ "$ok" = yes ] && [ "$bad" -eq 0 ]; then
		[ $((good + skip)) -gt 0 ] || good=1
		say "ok      $name ($good)"
	else
		[ "$bad" -gt 0 ] || bad=1
		failure "$name" "$bad"
		say "FAILED  $name"
		grep -v '^ok ' "$log" | tail -n 60 || :
	fi
	passed=$((passed + good))
	skipped=$((skipped + skip))
}

unit_programs()
{
	local source

	for source in test/unit/test_*.c; do
		[ ! -e "$source" ] || echo "build/$1/$(basename "$source" .c)"
	done
}

# All under ASan and UBSan; TSan for those that have threads.
threaded_programs()
{
	local source

	for source in test/unit/test_*.c; do
		! grep -qsE 'pthread|hash_pool|_thread|scan_start|walk_open|verify_create' "$source" ||
			echo "build/tsan/$(basename "$source" .c)"
	done
}

run_unit()
{
	build "unit-programs-$1"
	mapfile -t programs < <(unit_programs "$1")
	unit "$1" ${programs[@]+"${programs[@]}"}
}

run_unit_tsan()
{
	local programs

	mapfile -t programs < <(threaded_programs)
	[ ${#programs[@]} -gt 0 ] || return 0
	build "${programs[@]}"
	unit tsan "${programs[@]}"
}

# What the scripts decide, without any server.
run_scripts()
{
	local test name ok

	for test in test/scripts/test_*.sh; do
		name=scripts/$(basename "$test" .sh)
		ok=yes
		TMPDIR=$work/run "$test" >"$work/run/${name/\//-}.log" 2>&1 || ok=no
		count_unit "$name" "$work/run/${name/\//-}.log" "$ok"
	done
}

# The server's tests: a private PostgreSQL, and a copy of the tests.
prepare_server()
{
	[ -z "${pg_bin:-}" ] || return 0
	build all
	install_private "$work/pg"
	# For the test that updates the extension.
	[ "$(id -u)" -ne 0 ] || chown postgres "$("$pg_bin/pg_config" --sharedir)/extension"
	cp -R sql expected test examples doc "$work/run/"
	[ ! -e build/prometheus/usr/bin ] || cp -R build/prometheus/usr/bin "$work/run/prometheus"
	pgxs_test=$(dirname "$("$PG_CONFIG" --pgxs)")/../test
	give_to_user
}

run_regress()
{
	local log=$work/run/regress.log ok=yes good bad
	local tests

	prepare_server
	read -r -a tests < <(sed -n 's/^REGRESS = //p' Makefile)
	printf '%s\n' "shared_preload_libraries = 'fsync'" \
		"fsync.debounce_interval = 50ms" >"$work/run/regress.conf"
	mkdir -p "$work/run/regress"
	give_to_user
	run_as regress timeout 3600 "$pgxs_test/regress/pg_regress" \
		--bindir="$pg_bin" --temp-instance="$work/run/regress/instance" \
		--temp-config="$work/run/regress.conf" --no-locale --encoding=UTF8 \
		--inputdir=. --outputdir=regress --dbname=contrib_regression \
		"${tests[@]}" || ok=no
	good=$(grep -cE '^(test .* ok|ok .*) +[0-9]+ ms' "$log" || :)
	bad=$(grep -cE '^(test .* FAILED|not ok)' "$log" || :)
	if [ "$ok" = yes ]; then
		say "ok      regress ($good)"
	else
		[ "$bad" -gt 0 ] || bad=1
		failure regress "$bad"
		say "FAILED  regress"
		tail -n 20 "$log"
		head -n 200 "$work/run/regress/regression.diffs" 2>/dev/null || :
	fi
	passed=$((passed + good))
}

# Storms on fsync-tree alone, under the sanitizers: ASan with UBSan, and TSan,
# which also has its settings changed meanwhile.
run_torture()
{
	local variant more rounds=${TORTURE_ROUNDS:-2}

	build build/torture/storm build/asan/fsync-tree build/tsan/fsync-tree
	mkdir -p "$work/run/torture"
	cp build/torture/storm test/torture/torture.pl "$work/run/torture/"
	for variant in asan tsan; do
		cp "build/$variant/fsync-tree" "$work/run/torture/$variant"
	done
	give_to_user
	for variant in asan tsan; do
		more=()
		[ "$variant" = asan ] || more=(--settings)
		if (
			cd "$work/run/torture"
			"${as_user[@]}" env TMPDIR="$work/run/torture" TSAN_OPTIONS=halt_on_error=1 \
				"${no_randomisation[@]}" perl torture.pl --program "./$variant" --storm ./storm \
				--seed "${TORTURE_SEED:-20}" --ops "${TORTURE_OPS:-1000}" --rounds "$rounds" \
				--processes "${TORTURE_PROCESSES:-2}" "${more[@]}" >"../torture-$variant.log" 2>&1
		); then
			passed=$((passed + rounds))
			say "ok      $variant/torture ($rounds)"
		else
			failure "$variant/torture"
			tail -n 40 "$work/run/torture-$variant.log"
		fi
	done
}

run_tap()
{
	local tests=() with_disks=() test ok=yes p f s

	prepare_server
	for test in ${TESTS:-test/t/*.pl}; do
		tests+=("t/${test##*/}")
	done
	mkdir -p "$work/run/tmp_check/log"
	build build/torture/storm build/torture/oracle build/torture/liar build/sandbox/burglar \
		build/sandbox/lacking
	cp build/torture/storm build/torture/oracle build/torture/liar build/sandbox/burglar \
		build/sandbox/lacking "$work/run/"

	# For the test that serves a file system; /dev/fuse itself may be root's.
	[ "$(id -u)" -ne 0 ] || mknod -m 600 "$work/run/fuse" c 10 229 2>/dev/null || :
	give_to_user
	[ "$(id -u)" -ne 0 ] || with_disks=(./disks.sh "$work/run/disks" postgres)
	(
		cd "$work/run/test"
		exec "${with_disks[@]}" "${as_user[@]}" env \
			TESTDIR="$work/run" \
			TESTDATADIR="$work/run/tmp_check" TESTLOGDIR="$work/run/tmp_check/log" \
			PATH="$pg_bin:$PATH:$work/run/prometheus" \
			PG_REGRESS="$pgxs_test/regress/pg_regress" \
			PG_TEST_PORT_DIR="$work/run/tmp_check" \
			PERL5LIB="$work/run/test:$pgxs_test/perl" \
			LC_MESSAGES=C \
			PGCTLTIMEOUT=600 \
			PG_TEST_TIMEOUT_DEFAULT="${PG_TEST_TIMEOUT_DEFAULT:-400}" \
			TORTURE_STORM="$work/run/storm" \
			APPLY_ORACLE="$work/run/oracle" TREE_LIAR="$work/run/liar" \
			SANDBOX_BURGLAR="$work/run/burglar" SANDBOX_LACKING="$work/run/lacking" \
			perl run-tap.pl "$work/run/tap.counts" "${CHECK_JOBS:-4}" "${tests[@]}"
	) </dev/null 2>&1 | tee "$work/run/tap.log" || ok=no
	if [ ! -s "$work/run/tap.counts" ]; then
		failure tap
		return
	fi
	read -r p f s <"$work/run/tap.counts"
	passed=$((passed + p))
	skipped=$((skipped + s))
	[ "$f" -eq 0 ] || failure tap "$f"
	[ "$ok" = yes ] || [ "$f" -gt 0 ] || failure tap
}

case "$what" in
	torture)
		TESTS=test/t/040_torture.pl run_tap
		run_torture ;;
	scripts) run_scripts ;;
	unit) run_unit unit ;;
	unit-asan) run_unit asan ;;
	unit-tsan) run_unit_tsan ;;
	regress) run_regress ;;
	tap) run_tap ;;
	all)
		run_scripts
		run_unit asan
		run_unit_tsan
		run_torture
		run_regress
		run_tap
		;;
	*) die "unknown: $what" ;;
esac

if [ ${#failures[@]} -gt 0 ]; then
	rm -rf build/check
	mkdir -p build/check
	cp -R "$work"/run/*.log "$work"/run/regress/regression.diffs \
		"$work"/run/regress/log "$work"/run/tmp_check/log build/check/ 2>/dev/null || :
	echo
	say "failed: ${failures[*]}; logs are in build/check/"
fi

echo
summarized=yes
if [ "$skipped" -gt 0 ]; then
	say "$passed passed, $failed failed, $skipped skipped"
else
	say "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
