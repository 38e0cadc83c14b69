#
# Objects of another version than the library's, as after an upgrade of the
# package: every function refuses and says what to do, the worker leaves the
# tables alone, and ALTER EXTENSION fsync UPDATE, by a delta that is made here,
# takes the repository up again with its rows, ids and references.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $db = 'postgres';
my $root = new_root('photos');

write_file("$root/$_.txt", "content of $_") foreach 1 .. 50;
my $id = add_repository($node, $root);
is($node->safe_psql($db, 'SELECT fsync_wait()'), 't', 'the first sync');
$node->safe_psql($db, q(
CREATE TABLE album (file_id bigint REFERENCES file_records);
INSERT INTO album SELECT id FROM file_records;
));
my $kept = q(SELECT md5(string_agg(id || ' ' || file_path, ',' ORDER BY id)) FROM file_records);
my $before = $node->safe_psql($db, $kept);

# ---- objects of an older version ----

my $current = $node->safe_psql($db, "SELECT extversion FROM pg_extension WHERE extname = 'fsync'");
my $worker = worker_pid($node, $db);
$node->safe_psql($db, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'fsync'");
$node->safe_psql($db, "SELECT pg_terminate_backend($worker)");
wait_until(sub { worker_pid($node, $db) eq '' }, 'the worker leaves objects of another version');
write_file("$root/new.txt", 'x');

# Each function that is neither a trigger nor what views call, with a value for
# each argument that has no default.
my @calls = split /\n/, $node->safe_psql($db, q(
SELECT CASE prokind WHEN 'p' THEN 'CALL ' ELSE 'SELECT ' END || proname || '('
	|| array_to_string(array(SELECT CASE format_type(t, NULL) WHEN 'uuid' THEN 'gen_random_uuid()'
			WHEN 'bigint' THEN '1' WHEN 'integer' THEN '1'
			WHEN 'timestamp with time zone' THEN 'now()' WHEN 'bigint[]' THEN '''{1}''' ELSE '''/tmp''' END
		FROM unnest(proargtypes) WITH ORDINALITY AS a (t, n)
		WHERE n <= pronargs - pronargdefaults ORDER BY n), ', ') || ')'
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'fsync'
WHERE prorettype <> 'trigger'::regtype AND NOT proisstrict
ORDER BY 1));
cmp_ok(scalar @calls, '>', 15, 'the extension has functions');
foreach my $call (@calls)
{
	my ($rc, $out, $err) = $node->psql($db, $call);

	isnt($rc, 0, "$call refuses");
	like($err, qr/has version 0\.9.*ALTER EXTENSION fsync UPDATE/s, 'and says what to do');
}
is($node->safe_psql($db, "SELECT count(*) FROM file_records WHERE file_path = 'new.txt'"), '0',
	'nothing is written');

# ---- the update ----

my $directory = $node->config_data('--sharedir') . '/extension';
SKIP:
{
	skip 'the directory of extension scripts is not ours to write', 1 unless -w $directory;
	write_file("$directory/fsync--0.9--$current.sql",
		"COMMENT ON EXTENSION fsync IS 'updated';\n");
	$node->safe_psql($db, 'ALTER EXTENSION fsync UPDATE');
	unlink "$directory/fsync--0.9--$current.sql";
	is($node->safe_psql($db, "SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'fsync'"),
		'updated', 'the delta was run');
}
$node->safe_psql($db, "UPDATE pg_extension SET extversion = '$current' WHERE extname = 'fsync'");
my $position = log_position($node);
all_is_well($node, $id, $root, 'after the update', $position);
is($node->safe_psql($db, "SELECT md5(string_agg(id || ' ' || file_path, ',' ORDER BY id)) FROM file_records WHERE file_path <> 'new.txt'"),
	$before, 'the ids are still the same');
is($node->safe_psql($db, 'SELECT count(*) FROM album JOIN file_records ON id = file_id'), '50',
	'references hold');

$node->stop;
done_testing();
