#
# fsync_progress and fsync_stat tell what happens; the queries for applications
# use an index.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

# A change is counted once, however long it takes to be made.
my $node = new_node('main', conf => q(
fsync.debounce_interval = 10min
fsync.debounce_max_delay = 10min
));
my $db = 'postgres';
my $root = new_root('photos');
my $examples = "$FindBin::RealBin/../../examples";

make_tree($root, 100);
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

sub stat_of
{
	my ($columns) = @_;

	return $node->safe_psql($db, "SELECT $columns FROM fsync_stat WHERE repository_id = '$id'");
}

# What is counted arrives a moment after what it counts.
sub stat_becomes
{
	my ($condition, $name) = @_;

	ok($node->poll_query_until($db,
			"SELECT $condition FROM fsync_stat WHERE repository_id = '$id'"), $name)
	  or diag($node->safe_psql($db, '\x \\\\ TABLE fsync_stat'));
}

# ---- counters ----

my $rows = rows_of($node, $id);
stat_becomes("files_added = $rows AND files_hashed >= $rows AND bytes_hashed > 0 AND commits > 0",
	'the first sync is counted');
is(stat_of('lag_count, lag_p50_ms, overflows, errors'), '0||0|0', 'it has no lag, as nothing told of it');

$node->safe_psql($db, 'SELECT fsync_stat_reset()');
is(stat_of('files_added, files_hashed, commits'), '0|0|0', 'reset');
is(stat_of("stats_reset > now() - interval '1 hour'"), 't', 'and when');

write_file("$root/one.txt", 'one');
write_file("$root/two.txt", 'two');
wait_ok($node, $id, 'two files');
append_file("$root/one.txt", 'more');
wait_ok($node, $id, 'one is written');
rename("$root/two.txt", "$root/three.txt") or die "rename: $!";
wait_ok($node, $id, 'one is renamed');
unlink("$root/one.txt");
wait_ok($node, $id, 'one is removed');
stat_becomes('files_added = 2 AND files_updated = 1 AND files_moved = 1 AND files_removed = 1',
	'changes are counted');
stat_becomes('events >= 5 AND inspections >= 5 AND files_hashed >= 3 AND bytes_hashed >= 13',
	'and what they took');
stat_becomes('lag_count BETWEEN 5 AND 8', 'the lag of each');
is(stat_of('lag_p50_ms > 0 AND lag_p99_ms >= lag_p50_ms AND lag_max_ms >= lag_p99_ms'), 't',
	'is a time');
is(stat_of('queue_depth'), '0', 'nothing waits');

# They outlive the worker and what it started, and are the repository's own.
my $before = stat_of('files_added, files_updated, lag_count');
my $worker = worker_pid($node, $db);
$node->safe_psql($db, "SELECT pg_terminate_backend($worker)");
wait_until(sub { worker_pid($node, $db) ne $worker && worker_pid($node, $db) ne '' }, 'another worker');
wait_equal($node, $id, $root, 'another worker');
is(stat_of('files_added, files_updated, lag_count'), $before, 'the counters outlive the worker');

my $other_root = new_root('other');
make_tree($other_root, 20);
my $other = add_repository($node, $other_root);
wait_equal($node, $other, $other_root, 'another repository');
is(stat_of('files_added, files_updated, lag_count'), $before, 'another repository has counters of its own');
$node->safe_psql($db, "SELECT fsync_stat_reset('$other')");
is(stat_of('files_added, files_updated, lag_count'), $before, 'a reset is of one repository');
my ($rc, $out, $err) =
  $node->psql($db, "SELECT fsync_stat_reset('00000000-0000-0000-0000-000000000000')");
like($err, qr/does not exist/, 'a reset of what is not there');

$node->safe_psql($db, "ALTER SYSTEM SET fsync.debounce_interval = '50ms'");
$node->reload;
$node->safe_psql($db, q(
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN RAISE object_in_use; END$$;
CREATE TRIGGER refuse BEFORE INSERT ON file_records FOR EACH ROW EXECUTE FUNCTION refuse()));
write_file("$root/refused.txt", 'x');
stat_becomes('errors > 0', 'errors of the database are counted');
stat_becomes('queue_depth >= 0', 'while changes wait');
$node->safe_psql($db, 'DROP TRIGGER refuse ON file_records');
wait_equal($node, $id, $root, 'taken in the end');

is( $node->safe_psql($db, q(
SELECT string_agg(DISTINCT backend_type || ', ' || application_name, '; ' ORDER BY backend_type || ', ' || application_name)
FROM pg_stat_activity WHERE backend_type LIKE 'fsync%')),
	'fsync launcher, fsync launcher; fsync worker, fsync worker', 'the processes have names');
like($node->safe_psql($db, "SELECT query FROM pg_stat_activity WHERE backend_type = 'fsync worker'"),
	qr/^fsync: \w+/, 'and say what they do');

# ---- progress ----

is($node->safe_psql($db, 'SELECT count(*) FROM fsync_progress'), '0', 'no operation, no progress');
open(my $fh, '>', "$root/endless") or die "open: $!";
truncate($fh, 1 << 40) or die "truncate: $!";
close($fh);
$node->safe_psql($db, "SELECT fsync_reconcile('$id', wait => false)");
ok( $node->poll_query_until($db, qq(
SELECT operation_type = 'reconciliation' AND files_done > 0 AND bytes_done > 0 AND elapsed > '0'
	AND files_per_second > 0 AND bytes_per_second > 0 AND pid > 0 AND watch_root = '$root'
FROM fsync_progress WHERE repository_id = '$id')),
	'the progress of an operation');
is( $node->safe_psql($db, 'SELECT operation_id IN (SELECT id FROM sync_operations) FROM fsync_progress'),
	't', 'its id is that in sync_operations');

# ---- queries for applications ----

my ($operation) = $node->safe_psql($db, "SELECT operation_id FROM fsync_progress");
$node->safe_psql($db, "SELECT fsync_cancel($operation)");
unlink("$root/endless");

# As many rows as it takes for an index to be worth it, of a repository that
# nobody watches.
my $large_root = new_root('large');
my $large = add_repository($node, $large_root);
wait_ok($node, $large, 'a repository to be filled');
$node->safe_psql($db, qq(
SELECT fsync_pause('$large');
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
SELECT '$large', format('album %s/%s.jpg', n / 100, n), n, now(), sha256(n::text::bytea), now(), 1,
	now(), timestamptz '2020-01-01' + n * interval '1 minute', n, 0, 0
FROM generate_series(1, 100000) n;
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
SELECT gen_random_uuid(), format('album %s/%s.jpg', n / 100, n), n, now(), sha256(n::text::bytea), now(), 1,
	now(), timestamptz '2010-01-01', n, 0, 0
FROM generate_series(1, 100000) n;
INSERT INTO sync_operations (repository_id, operation_type, start_time, end_time, status)
SELECT CASE WHEN n % 10 = 0 THEN '$large' ELSE gen_random_uuid() END, 'realtime', now(), now(), 'completed'
FROM generate_series(1, 20000) n;
INSERT INTO fsync_problems
SELECT CASE WHEN n % 10 = 0 THEN '$large' ELSE gen_random_uuid() END, n::text::bytea, n, 'I/O error', NULL, now(), now()
FROM generate_series(1, 20000) n;
));
$node->safe_psql($db, 'CREATE INDEX ON file_records USING brin (updated_at)');
$node->safe_psql($db, "VACUUM ANALYZE $_") foreach qw(file_records sync_operations fsync_problems);

$node->safe_psql($db, $_) foreach slurp_file("$examples/queries.sql") =~ /^-- index: (CREATE INDEX [^\n]*)$/mg;

my %value = (
	directory => '',
	extension => 'jpg',
	absolute => '/srv/photos/album 7/700.jpg',
	hash_after => '80',
	repository => $large,
	path => 'album 7/700.jpg',
	prefix => 'album 7/',
	after => 'album 7/',
	hash => $node->safe_psql($db, "SELECT encode(sha256('700'), 'hex')"),
	since => '2020-03-05');
my %expected = (
	'one record' => 1,
	'records below a directory' => 100,
	'records with a content' => 2,
	'records that were added or changed since' => 7841,
	'number of records' => 1,
	'problems' => 2000);
my $queries = slurp_file("$examples/queries.sql");

while ($queries =~ /^-- name: ([^\n]*)\n(.*?;)\n/msg)
{
	my ($name, $sql) = ($1, $2);

	$sql =~ s/:'(\w+)'/'$value{$1}'/g;
	my $plan = $node->safe_psql($db, "EXPLAIN (COSTS OFF) $sql");
	like($plan, qr/Index|Bitmap|Function Scan/, "query \"$name\" uses an index");
	unlike($plan, qr/Seq Scan on (?!fsync_(?:repositories|verifications) )/, "query \"$name\" reads no whole table") or diag($plan);
	$sql =~ s/;\z//;
	my $count = $node->safe_psql($db, "SELECT count(*) FROM ($sql) q");

	foreach my $key (grep { index($name, $_) == 0 } keys %expected)
	{
		is($count, $expected{$key}, "query \"$name\" finds what there is");
	}
}

$node->safe_psql($db, qq(
DELETE FROM file_records WHERE updated_at < '2010-01-02';
DELETE FROM file_records WHERE repository_id = '$large'));
$node->stop;
done_testing();
