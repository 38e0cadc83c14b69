#
# ALTER EXTENSION fsync UPDATE: a database that has 1.0, with rows in it, comes
# to the same objects as a fresh CREATE EXTENSION; its rows, ids and references
# survive, and the worker, which leaves objects of 1.0 alone, takes them up.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $db = 'old';
my $id = '00000000-0000-0000-0000-000000000001';
my $root = new_root('photos');

# Everything that makes up the extension, in words.
my $objects = q(
WITH member AS (
	SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
	FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
	WHERE e.extname = 'fsync' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
SELECT name || ': ' || coalesce(obj_description(objid, classid::regclass::name), '-') FROM member
UNION ALL
SELECT name || '.' || a.attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull::text::text
	|| ' ' || attidentity::text || attgenerated::text || ' ' || coalesce(pg_get_expr(adbin, adrelid), '-')
	|| ': ' || coalesce(col_description(a.attrelid, a.attnum), '-')
FROM member JOIN pg_attribute a ON a.attrelid = objid AND classid = 'pg_class'::regclass
LEFT JOIN pg_attrdef ON adrelid = a.attrelid AND adnum = a.attnum
WHERE a.attnum > 0 AND NOT attisdropped
UNION ALL
SELECT name || ' ' || conname || ' ' || pg_get_constraintdef(c.oid)
FROM member JOIN pg_constraint c ON c.conrelid = objid AND classid = 'pg_class'::regclass
UNION ALL
SELECT pg_get_indexdef(indexrelid)
FROM member JOIN pg_index ON indrelid = objid AND classid = 'pg_class'::regclass
UNION ALL
SELECT pg_get_triggerdef(t.oid) || tgenabled::text
FROM member JOIN pg_trigger t ON tgrelid = objid AND classid = 'pg_class'::regclass
WHERE NOT tgisinternal
UNION ALL
SELECT pg_get_functiondef(p.oid) || coalesce(proacl::text, 'public')
FROM member JOIN pg_proc p ON p.oid = objid AND classid = 'pg_proc'::regclass
UNION ALL
SELECT name || ' ' || relkind::text || ' ' || coalesce(reloptions::text, '-') || ' ' || coalesce(relacl::text, '-')
	|| CASE relkind WHEN 'v' THEN pg_get_viewdef(c.oid) ELSE '' END
FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
UNION ALL
SELECT 'dumped ' || unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'fsync'
ORDER BY 1
);

# ---- 1.0, filled ----

write_file("$root/$_.txt", "content of $_") foreach 1 .. 50;
$node->safe_psql('postgres', "CREATE DATABASE $db");
$node->safe_psql($db, "CREATE EXTENSION fsync VERSION '1.0'");
isnt($node->safe_psql($db, $objects), $node->safe_psql('postgres', $objects),
	'1.0 differs from what is current');
my $rows = '';
foreach my $n (1 .. 50)
{
	my @stat = stat("$root/$n.txt");

	$rows .= sprintf("('%s', '%s.txt', %d, to_timestamp(%d), sha256('content of %s'), now(), 1, now(), now(), %d, 0, 0),\n",
		$id, $n, $stat[7], $stat[9], $n, $stat[1]);
}
$rows =~ s/,\n\z//;
$node->safe_psql($db, qq(
INSERT INTO fsync_repositories (repository_id, path, watch_root, include)
	VALUES ('$id', '$root', '$root', '{*.txt}');
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash,
	last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
	VALUES $rows;
INSERT INTO sync_operations (repository_id, operation_type, start_time, end_time, status)
	VALUES ('$id', 'startup', now(), now(), 'completed');
INSERT INTO fsync_problems VALUES ('$id', 'x', 'x', 'I/O error', NULL, now(), now());
CREATE TABLE album (file_id bigint REFERENCES file_records);
INSERT INTO album SELECT id FROM file_records;
));
my $kept = q(SELECT md5(string_agg(id || ' ' || file_path, ',' ORDER BY id)) FROM file_records);
my $before = $node->safe_psql($db, $kept);

# Its library is a newer one: they refuse, and the server stays up.
foreach my $call ("fsync_add_repository('$root')", "fsync_remove_repository('$id')",
	"fsync_activate_repository('$id')", "fsync_reconcile('$id')", "fsync_wait('$id')",
	'fsync_status()', "fsync_sync_history('$id')")
{
	my ($rc, $out, $err) = $node->psql($db, "SELECT $call");

	isnt($rc, 0, "1.0's $call refuses");
	like($err, qr/has version 1\.0.*ALTER EXTENSION fsync UPDATE/s, 'and says what to do');
}
my ($rc, $out, $err) = $node->psql($db, 'CALL fsync_reconcile_all()');
like($err, qr/ALTER EXTENSION fsync UPDATE/, "1.0's procedure says so, too");

# ---- the update ----

my $position = log_position($node);
$node->safe_psql($db, 'ALTER EXTENSION fsync UPDATE');
is($node->safe_psql($db, $objects), $node->safe_psql('postgres', $objects),
	'updated objects are those of a fresh CREATE EXTENSION');
is($node->safe_psql($db, $kept), $before, 'the rows are the same');
$node->safe_psql($db, "SELECT fsync_activate_repository('$id')");
all_is_well($node, $id, $root, 'after the update', $position, db => $db);
is($node->safe_psql($db, $kept), $before, 'the ids are still the same');
is($node->safe_psql($db, 'SELECT count(*) FROM album JOIN file_records ON id = file_id'), '50',
	'references hold');
is($node->safe_psql($db, "SELECT count(*) FROM sync_operations WHERE operation_type = 'startup' AND repository_id = '$id'"),
	'2', 'the history is kept and goes on');

$node->stop;
done_testing();
