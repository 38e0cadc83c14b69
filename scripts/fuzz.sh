#!/bin/bash
#
# fuzz.sh: libFuzzer over each target in test/fuzz, FUZZ_SECONDS (60) each.
#
# Starts from test/fuzz/corpus/NAME where there is one; what it finds beyond
# that, and inputs that crash, stay in build/fuzz/.  The last line counts.

set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-}
seconds=${seconds:-60}
passed=0
failed=0

scripts/setup.sh fuzz

mapfile -t sources < <(find src/tree -name '*.c' ! -name main.c | sort)

for target in test/fuzz/fuzz_*.c; do
	name=$(basename "$target" .c)
	mkdir -p "build/fuzz/$name.corpus"
	clang -std=gnu11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Isrc -Isrc/tree -Itest/unit -pthread \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-o "build/fuzz/$name" "$target" "${sources[@]}" -lcrypto
	corpora=("build/fuzz/$name.corpus")
	[ ! -d "test/fuzz/corpus/${name#fuzz_}" ] || corpora+=("test/fuzz/corpus/${name#fuzz_}")
	[ ! -d "test/fuzz/corpus/$name" ] || corpora+=("test/fuzz/corpus/$name")
	if "build/fuzz/$name" -max_total_time="$seconds" -print_final_stats=1 -timeout=10 \
		-rss_limit_mb=2048 -artifact_prefix="build/fuzz/$name-" "${corpora[@]}" \
		>"build/fuzz/$name.log" 2>&1; then
		passed=$((passed + 1))
		echo "ok      $name ($(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$name.log") inputs)"
	else
		failed=$((failed + 1))
		echo "FAILED  $name"
		tail -n 40 "build/fuzz/$name.log"
	fi
done

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
