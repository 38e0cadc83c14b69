#!/bin/bash
#
# watching.sh: changes as they happen, and what it costs to wait for them.
# Sourced by bench.sh.
#
# A lines_x function prints its rows; it finds the server without repositories
# and leaves it so.

# ---- many files arrive ----

copy_tree()
{
	"${as_user[@]}" cp -a "$A" "$work/arrivals/tree"
}

# Seconds of cp alone, and until all of it is in the table.
arrive()
{
	local start=$EPOCHREALTIME cp scans

	scans=$(sql -c "SELECT count(*) FROM sync_operations WHERE operation_type <> 'realtime'")
	copy_tree
	cp=$(minus "$EPOCHREALTIME" "$start")
	wait_all
	echo "$cp $(minus "$EPOCHREALTIME" "$start")" \
		"$(sql -c "SELECT count(*) - $scans FROM sync_operations WHERE operation_type <> 'realtime'")"
	sql -c "SELECT 1 / (count(*) = $arrivals AND count(content_hash) = $arrivals)::integer
			FROM file_records WHERE file_path LIKE 'tree/%'" >&2
	"${as_user[@]}" rm -rf "$work/arrivals/tree"
	wait_all
}

lines_arrivals()
{
	local name="cp -a of $arrivals files into a watched directory" cps=() ours=() overflows=0 cp all scans i

	attempt add "$work/arrivals"
	for ((i = 0; i < RUNS; i++)); do
		attempt arrive
		[ "$attempted" -eq 0 ] || continue
		read -r cp all scans <<<"$result"
		cps+=("$cp")
		ours+=("$all")
		overflows=$((overflows + scans))
	done
	if [ ${#ours[@]} -eq "$RUNS" ]; then
		compared_row "$name" "$(median "${ours[@]}")" "the cp itself" "$(median "${cps[@]}")" 2.0
		single_row "... overflows of the queue of $(cat /proc/sys/fs/inotify/max_queued_events)" "$overflows" 0
	else
		failed_row "$name" "the cp itself" 2.0
	fi
	attempt remove_all
}

# ---- a directory is renamed ----

rename_half()
{
	local start=$EPOCHREALTIME

	mv "$S/$1" "$S/$2"
	wait_all
	minus "$EPOCHREALTIME" "$start"
	sql -c "SELECT 1 / (count(*) = $half)::integer FROM file_records WHERE file_path LIKE '$2/%'" >&2
}

first_half() { first_sync "$S/some"; }

# What PostgreSQL alone takes for as many new paths, if somebody tells it.
fill_peer()
{
	sql -c 'TRUNCATE peer' -c "
		INSERT INTO peer (repository_id, file_path, file_size, mod_time, content_hash)
		SELECT repository_id, file_path, file_size, mod_time, content_hash
		  FROM file_records ORDER BY file_path" -c 'VACUUM ANALYZE peer'
}

update_half()
{
	seconds sql -c "
		UPDATE peer SET file_path = '$2' || substr(file_path, $((${#1} + 1))), updated_at = now()
		 WHERE file_path LIKE '$1/%'"
}

lines_rename()
{
	local name="rename of a directory of $half files" first=() ours=() peers=() i

	for ((i = 0; i < RUNS; i++)); do
		attempt first_half
		[ "$attempted" -eq 0 ] && first+=("$result")
	done
	attempt add "$S"
	attempt fill_peer
	for ((i = 0; i < RUNS; i++)); do
		attempt rename_half some renamed
		[ "$attempted" -eq 0 ] && ours+=("$result")
		[ ! -e "$S/renamed" ] || mv "$S/renamed" "$S/some"
		attempt wait_all
		attempt update_half some renamed
		[ "$attempted" -eq 0 ] && peers+=("$result")
		attempt update_half renamed some

		# as autovacuum does, which has a minute of its own between two looks
		attempt sql -c 'VACUUM file_records' -c 'VACUUM peer'
	done
	if [ ${#ours[@]} -eq "$RUNS" ] && [ ${#first[@]} -eq "$RUNS" ]; then
		compared_row "$name" "$(median "${ours[@]}")" "first sync of the same files" "$(median "${first[@]}")" 0.2
	else
		failed_row "$name" "first sync of the same files" 0.2
	fi
	if [ ${#ours[@]} -eq "$RUNS" ] && [ ${#peers[@]} -eq "$RUNS" ]; then
		compared_row "the same" "$(median "${ours[@]}")" "one UPDATE of as many paths" "$(median "${peers[@]}")" ""
	fi
	attempt remove_all
}

# ---- latency ----

# latency TABLE PATH-PREFIX: p50 and p99 in ms between the close of a file of
# 4 KiB and its row, seen by a session that looks twice a millisecond.
latency()
{
	sql -F ' ' <<-END
		CREATE TEMPORARY TABLE latency (ms double precision);
		DO \$\$
		DECLARE
			closed timestamptz;
		BEGIN
			FOR i IN 1 .. 500 LOOP
				EXECUTE format('COPY (SELECT repeat(%L, 4095)) TO %L', i % 10,
							   '$work/arrivals/$2/f' || i);
				closed := clock_timestamp();
				WHILE NOT EXISTS (SELECT FROM $1
								   WHERE file_path = 'f' || i AND file_size = 4096
									 AND content_hash IS NOT NULL) LOOP
					IF clock_timestamp() > closed + interval '30 seconds' THEN
						RAISE 'f% did not appear', i;
					END IF;
					PERFORM pg_sleep(0.0005);
				END LOOP;
				INSERT INTO latency VALUES (extract(epoch FROM clock_timestamp() - closed) * 1000);
			END LOOP;
		END \$\$;
		SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 1),
			   round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1) FROM latency;
	END
}

latency_ours()
{
	"${as_user[@]}" mkdir "$work/arrivals/ours"
	add "$work/arrivals/ours"
	latency file_records ours
}

# The best that comes to mind: names go to one session, and the server stats
# and hashes, so that nothing is started for a file.
inotify_loop()
{
	inotifywait -q -m -e close_write --format '%f' "$work/arrivals/peer" |
		sed -u -E "s|(.*)|INSERT INTO peer (file_path, file_size, mod_time, content_hash) SELECT '\1', s.size, s.modification, sha256(pg_read_binary_file('$work/arrivals/peer/\1')) FROM pg_stat_file('$work/arrivals/peer/\1') s;|" |
		sql
}

latency_peer()
{
	local i

	"${as_user[@]}" mkdir "$work/arrivals/peer"
	sql -c 'TRUNCATE peer'
	set -m
	in_background inotify_loop >/dev/null
	set +m

	# until it watches
	for ((i = 0; i < 100; i++)); do
		"${as_user[@]}" touch "$work/arrivals/peer/first"
		sleep 0.1
		[ "$(sql -c "SELECT count(*) > 0 FROM peer")" = f ] || break
	done
	latency peer peer
	stop_background
}

lines_latency()
{
	local ours peer p50 p99 peer50 peer99

	set_config fsync.debounce_interval 0
	attempt latency_ours
	ours=$result
	[ "$attempted" -eq 0 ] || ours=
	attempt latency_peer
	peer=$result
	[ "$attempted" -eq 0 ] || peer='? ?'
	read -r peer50 peer99 <<<"$peer"
	if [ -n "$ours" ]; then
		read -r p50 p99 <<<"$ours"
		single_row "close() of 4 KiB to its row, no debounce, ms: p50" "$p50" 10 "inotifywait, sed, psql" "$peer50"
		single_row "... p99" "$p99" 50 "the same" "$peer99"
	else
		failed_row "close() of 4 KiB to its row, no debounce, ms" "inotifywait, sed, psql" 10
	fi
	set_config fsync.debounce_interval 500ms
	attempt remove_all
}

# ---- nothing happens ----

# Context switches so far of all threads of the processes.
switches()
{
	local pid

	for pid in "$@"; do
		cat /proc/"$pid"/task/*/status
	done | awk '/ctxt_switches/ { sum += $2 } END { print sum }'
}

idle_switches()
{
	local pids before

	add "$D"
	sleep 10
	pids=$(both_pids)
	before=$(switches $pids)
	sleep 60
	echo $(($(switches $pids) - before))
}

lines_idle()
{
	local name="wake-ups in 60 s, $directories directories watched"

	attempt idle_switches
	if [ "$attempted" -eq 0 ]; then
		single_row "$name" "$result" 0
	else
		failed_row "$name" "" 0
	fi
	attempt remove_all
}

# ---- watchman ----

watchman_call()
{
	watchman --sockname="$work/watchman/sock" --no-spawn "$@"
}

watchman_start()
{
	mkdir -p "$work/watchman"
	set -m
	in_background watchman --foreground --no-save-state --sockname="$work/watchman/sock" \
		--statefile="$work/watchman/state" --pidfile="$work/watchman/pid" \
		--logfile="$work/watchman/log" >/dev/null 2>&1
	set +m
	local i
	for ((i = 0; i < 100; i++)); do
		watchman_call get-pid >/dev/null 2>&1 && break
		sleep 0.1
	done
	watchman_call get-pid >/dev/null
}

# A query waits for the crawl, and this one names no file.
crawl()
{
	watchman_call watch "$S" >/dev/null
	watchman_call -j <<<"[\"query\", \"$S\", {\"expression\": \"false\", \"fields\": [\"name\"], \"sync_timeout\": 600000}]" >/dev/null
}

# Seconds of a crawl, and the MB that watchman takes afterwards.
watchman_crawl()
{
	local taken

	watchman_start
	taken=$(seconds crawl)
	echo "$taken $(awk '/^RssAnon/ { printf "%.1f", $2 / 1024 }' "/proc/${children[0]}/status")"
	stop_background
}

lines_watchman()
{
	local name="first sync of $FILES files, no hashes" memory="RssAnon of both, MB: then"
	local ours=() peers=() mb=() taken used i

	for ((i = 0; i < RUNS; i++)); do
		attempt watchman_crawl
		read -r taken used <<<"$result"
		[ "$attempted" -eq 0 ] && peers+=("$taken") mb+=("$used")
		attempt first_small_unhashed
		[ "$attempted" -eq 0 ] && ours+=("$result")
	done
	if [ ${#ours[@]} -lt "$RUNS" ] || [ ${#peers[@]} -lt "$RUNS" ]; then
		failed_row "$name" "watchman's crawl"
		return 0
	fi
	compared_row "$name" "$(median "${ours[@]}")" "watchman's crawl" "$(median "${peers[@]}")" ""
	attempt add "$S" 'calculate_hashes => false'
	attempt sampled sleep 1
	if [ "$attempted" -eq 0 ]; then
		compared_row "$memory" "$result" "watchman" "$(median "${mb[@]}")" ""
	else
		failed_row "$memory" "watchman"
	fi
	attempt remove_all
}
