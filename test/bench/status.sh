#!/bin/bash
#
# status.sh: what fsync_status() takes beside a count of the rows, which is what
# it would have to make.  Sourced by bench.sh.

# median_ms STATEMENT: of 51 executions in one session, in milliseconds
median_ms()
{
	sql -v statement="$1" <<-'END'
		CREATE FUNCTION pg_temp.took(statement text) RETURNS float LANGUAGE plpgsql AS $$
		DECLARE began timestamptz := clock_timestamp();
		BEGIN EXECUTE statement; RETURN extract(epoch FROM clock_timestamp() - began) * 1000; END $$;
		SELECT to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY pg_temp.took(:'statement')), 'FM9990.000')
		FROM generate_series(1, 51);
	END
}

lines_status()
{
	local tree=$S n=$FILES name count

	[ "$L" -eq 0 ] || { tree=$trees/L$L n=$L; }
	name="fsync_status() of $n files, ms"
	attempt add "$tree"
	attempt median_ms "SELECT count(*), sum(file_size) FROM file_records"
	count=$result
	attempt median_ms "SELECT count(*) FROM fsync_status()"
	if [ "$attempted" -eq 0 ]; then
		single_row "$name" "$result" 2 "count(*), sum(file_size)" "$count"
	else
		failed_row "$name" "" 2
	fi
	attempt remove_all
}
