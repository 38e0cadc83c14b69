-- What fsync is doing now, for a terminal:
--
--	psql -f examples/top.sql
--
-- One line a repository, those that need somebody first; the last line is of all
-- together.  Ctrl-C ends it.  To be run by members of pg_monitor, and whoever may call fsync_report().

WITH report AS MATERIALIZED (SELECT fsync_report() AS r),
repositories AS (
	SELECT e.value AS r, e.value->'running' AS running FROM report, jsonb_array_elements(report.r->'repositories') e
)
SELECT directory, state, files, size, pending, problems, lag_p99, last_event, running, says FROM (
SELECT r->>'state' IN ('watching', 'paused') AS rank, coalesce(r->>'watch_root', r->>'path') AS directory,
	r->>'state' AS state,
	(r->>'total_files')::bigint AS files,
	pg_size_pretty((r->>'total_bytes')::numeric) AS size,
	(r->>'pending_changes')::bigint AS pending,
	(r->>'problems')::bigint AS problems,
	round((r->'lag'->>'p99_ms')::numeric) || ' ms' AS lag_p99,
	date_trunc('second', now() - (r->>'last_event')::timestamptz) AS last_event,
	CASE WHEN running <> 'null' THEN
		concat_ws(', ', running->>'operation_type',
			(running->>'files_done') || coalesce(' of ' || (running->>'files_total'), '') || ' files',
			pg_size_pretty((running->>'bytes_per_second')::numeric) || '/s',
			make_interval(secs => round((running->>'seconds_left')::numeric)::float8) || ' left')
	END AS running,
	concat_ws(' ', r->>'reason', r->>'hint') AS says
FROM repositories
UNION ALL
SELECT NULL, format('%s of %s up to date', report.r->'summary'->'watching', report.r->'summary'->'repositories'),
	CASE WHEN (report.r->'summary'->>'need_attention')::bigint > 0
		THEN format('%s need you', report.r->'summary'->'need_attention') END,
	sum((e.value->>'total_files')::bigint)::bigint, pg_size_pretty(sum((e.value->>'total_bytes')::numeric)),
	sum((e.value->>'pending_changes')::bigint)::bigint, sum((e.value->>'problems')::bigint)::bigint,
	NULL, NULL, NULL, NULL
FROM report LEFT JOIN jsonb_array_elements(report.r->'repositories') e ON true
GROUP BY report.r) lines
ORDER BY rank NULLS LAST, directory
\watch 2
