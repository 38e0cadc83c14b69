#!/bin/bash
#
# lines.sh: scans and first syncs.  Sourced by bench.sh.
#
# A lines_x function prints its rows; it finds the server without repositories
# and leaves it so.

# ---- peers ----

find_printf()
{
	find "$1" -type f -printf '%s %T@ %p\n'
}

# What a user would write: list, hash on both cores, load, join.
pipeline()
{
	(cd "$S" && find . -type f -printf '%P\t%s\t%T@\n') >"$work/stat"
	(cd "$S" && find . -type f -print0 | xargs -0 -P2 -n 500 sha256sum) |
		sed -E 's/^([0-9a-f]{64})  \.\/(.*)$/\2\t\1/' >"$work/hash"
	chmod a+r "$work/stat" "$work/hash"
	sql <<-END
		TRUNCATE peer, peer_stat, peer_hash;
		COPY peer_stat FROM '$work/stat';
		COPY peer_hash FROM '$work/hash';
		INSERT INTO peer (repository_id, file_path, file_size, mod_time, content_hash)
		SELECT '00000000-0000-0000-0000-000000000000', file_path, file_size,
			to_timestamp(mtime), decode(hash, 'hex') FROM peer_stat JOIN peer_hash USING (file_path);
	END
}

# openssl_photos [NAME=VALUE]
openssl_photos()
{
	find "$P" -type f -print0 | env "$@" xargs -0 -P2 -n 8 openssl dgst -sha256 -r
}

# ---- tree S ----

# first_sync DIR [ARGUMENTS]
first_sync()
{
	local taken

	taken=$(seconds add "$@")
	remove_all
	echo "$taken"
}

first_small() { first_sync "$S"; }
first_small_unhashed() { first_sync "$S" 'calculate_hashes => false'; }
pipeline_small() { seconds pipeline; }
find_small() { seconds find_printf "$S"; }
reconcile_once() { seconds reconcile; }

# sampled COMMAND…: the largest RssAnon of worker and fsync-tree together, in
# MB, while it runs
sampled()
{
	local pids sampler

	pids=$(both_pids)
	perl "$bench/memory.pl" $pids >"$work/memory" &
	sampler=$!
	"$@" >&2
	kill -TERM "$sampler"
	wait "$sampler"
	cat "$work/memory"
}

lines_small()
{
	find_printf "$S" >/dev/null
	compare "first sync of $FILES files of 1-8 KiB" first_small \
		"find, sha256sum -P2, COPY, join" pipeline_small 0.35
	attempt add "$S"
	if [ "$attempted" -ne 0 ]; then
		failed_row "no-change reconciliation of them" "find -printf" 0.8
		return 0
	fi
	attempt reconcile
	compare "no-change reconciliation of them" reconcile_once "find -printf" find_small 0.8
	small_reconciliation=${last_ours:-}
	memory_rows "$FILES files"
	attempt remove_all
}

# memory_rows NAME: of the repository that there is
memory_rows()
{
	attempt sampled sleep 2
	if [ "$attempted" -eq 0 ]; then
		single_row "RssAnon of both, MB: $1 watched" "$result" 50
	else
		failed_row "RssAnon of both, MB: $1 watched" "" 50
	fi
	attempt sampled reconcile
	if [ "$attempted" -eq 0 ]; then
		single_row "RssAnon of both, MB: $1, reconciling" "$result" 50
	else
		failed_row "RssAnon of both, MB: $1, reconciling" "" 50
	fi
}

# ---- tree L ----

lines_large()
{
	local name="no-change reconciliation of $L files, us a file" times=() i

	if [ "$L" -eq 0 ]; then
		print_row "no-change reconciliation of 1,000,000 files" "-" "(only with L=1)" "" "" 1.2 ""
		return 0
	fi
	find_printf "$trees/L$L" >/dev/null
	attempt seconds add "$trees/L$L"
	if [ "$attempted" -ne 0 ]; then
		failed_row "$name"
		return 0
	fi
	single_row "first sync of $L empty files" "$result" ""
	for ((i = 0; i < RUNS; i++)); do
		attempt seconds reconcile
		[ "$attempted" -eq 0 ] && times+=("$result")
	done
	if [ ${#times[@]} -eq "$RUNS" ] && [ -n "${small_reconciliation:-}" ]; then
		compared_row "$name" "$(awk -v t="$(median "${times[@]}")" -v n="$L" 'BEGIN { printf "%.2f", t * 1e6 / n }')" \
			"the same of $FILES" \
			"$(awk -v t="$small_reconciliation" -v n="$FILES" 'BEGIN { printf "%.2f", t * 1e6 / n }')" 1.2
	else
		failed_row "$name" "the same of $FILES" 1.2
	fi
	memory_rows "$L files"
	attempt remove_all
}

# ---- tree P, and hashing without this or that instruction ----

first_photos() { first_sync "$P"; }
openssl_plain() { seconds openssl_photos; }
openssl_masked() { seconds openssl_photos "OPENSSL_ia32cap=$mask"; }

# The bits of cpuid's leaf 7: SHA, and all of AVX-512.
no_sha=:~0x20000000
no_sha_no_avx512=:~0xf0230000

photos_limit()
{
	cpu_has sha_ni && echo 1.0 && return 0
	cpu_has avx512bw && echo 0.35 && return 0
	cpu_has avx2 && echo 0.6
	return 0
}

# photos_masked NAME MASK FLAG LIMIT
photos_masked()
{
	local name="the same, as on a CPU without SHA, with $1"

	if ! cpu_has sha_ni || ! cpu_has "$3"; then
		print_row "$name" "-" "(not to be had on this CPU)" "" "" "$4" ""
		return 0
	fi
	mask=$2
	stop_server
	start_server "OPENSSL_ia32cap=$mask"
	compare "$name" first_photos "xargs -P2 openssl dgst" openssl_masked "$4"
}

lines_photos()
{
	openssl_photos >/dev/null
	compare "first sync of $PHOTOS files of 2-8 MiB" first_photos \
		"xargs -P2 openssl dgst" openssl_plain "$(photos_limit)"
	photos_masked AVX-512 "$no_sha" avx512bw 0.35
	photos_masked AVX2 "$no_sha_no_avx512" avx2 0.6
	stop_server
	start_server
}

# ---- a good neighbour ----

# Hashes every file anew, which the missing hashes make it do, and prints the
# CPU time that worker and fsync-tree took, in per cent of a core.
gentle()
{
	local pids before after start

	add "$A"
	sql -c 'UPDATE file_records SET content_hash = NULL'
	pids=$(both_pids)
	sleep 2
	before=$(cpu_seconds $pids)
	start=$EPOCHREALTIME
	sql -c "SELECT 1 / (status = 'completed' AND files_updated = $arrivals)::integer FROM fsync_reconcile()" >&2
	after=$(cpu_seconds $pids)
	awk -v cpu="$(minus "$after" "$before")" -v wall="$(minus "$EPOCHREALTIME" "$start")" \
		'BEGIN { printf "%.1f %.1f\n", 100 * cpu / wall, wall }'
}

# cpu_seconds PID…: what they have used so far
cpu_seconds()
{
	local pid

	for pid in "$@"; do
		sed 's/.*) //' "/proc/$pid/stat"
	done | awk -v hz="$(getconf CLK_TCK)" '{ sum += $12 + $13 } END { printf "%.2f\n", sum / hz }'
}

lines_gentle()
{
	local limit percent wall

	for limit in 0 10; do
		set_config fsync.reconcile_cpu_limit "$limit"
		attempt gentle
		read -r percent wall <<<"$result"
		if [ "$attempted" -ne 0 ]; then
			failed_row "CPU of both, %: hashing reconciliation, limit $limit"
		elif [ "$limit" -eq 0 ]; then
			single_row "CPU of both, %: hashing reconciliation, no limit" "$percent" "" "it takes" "$wall"
		else
			single_row "the same, fsync.reconcile_cpu_limit = $limit" "$percent" 12 "it takes" "$wall"
		fi
		attempt remove_all
	done
	set_config fsync.reconcile_cpu_limit 0
}
