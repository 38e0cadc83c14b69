#
# Statements that change or take away what the worker stands on, while files
# change: each succeeds as it would without fsync, the worker goes where it is
# not wanted any more and comes back where it is, and nothing is left behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0);
my $root = new_root('photos');
my $db = 'one';
my $id;

# more than a storm makes and removes, so that no scan finds most of them gone
make_tree("$root/steady", 600);
$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql($db, 'CREATE EXTENSION fsync');
$id = add_repository($node, $root, db => $db);
wait_equal($node, $id, $root, 'first sync', db => $db);

# One statement, without which a test would hang if it hung.
sub statement_ok
{
	my ($in, $sql, $name) = @_;
	my ($rc, $out, $err) =
	  $node->psql($in, $sql, extra_params => [ '-v', 'ON_ERROR_STOP=1' ], timeout => 600,
		timed_out => \my $timed_out);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!$timed_out && $rc == 0, $name) or diag($err);
}

sub worker_is_gone
{
	my ($worker, $tree, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { process_is_gone($worker) }, "$name: the worker ends by itself");
	wait_until(sub { process_is_gone($tree) }, "$name: and its fsync-tree");
}

my $position = log_position($node);
my $storm = start_storm("$root/storm", 1);

# ---- what leaves everything as it is ----

foreach my $sql (
	'VACUUM FULL file_records',
	'REINDEX TABLE file_records',
	'CLUSTER file_records USING file_records_pkey',
	'ALTER TABLE file_records ADD COLUMN rating integer DEFAULT 3',
	'ALTER TABLE file_records DROP COLUMN rating',
	'CREATE INDEX ON file_records (mod_time)',
	'ALTER TABLE file_records SET (fillfactor = 70)',
	'BEGIN; DROP EXTENSION fsync; ROLLBACK')
{
	statement_ok($db, $sql, $sql);
	storm_goes_on($storm);
}
statement_ok('postgres', 'CREATE DATABASE bystander', 'CREATE DATABASE');
statement_ok('postgres', 'DROP DATABASE bystander', 'DROP DATABASE of another database');
stop_storm($storm);
all_is_well($node, $id, $root, 'statements that leave all as it is', $position, db => $db);

# The worker waits for the table before it has locked an index, which REINDEX wants
# while it keeps the table.
my $reindex = start_sql($node, $db, 'reindex', q(
BEGIN;
LOCK TABLE file_records IN SHARE MODE;
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_locks
		WHERE relation = 'file_records'::regclass AND NOT granted) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
REINDEX INDEX file_records_repository_id_file_path_key;
REINDEX INDEX file_records_missing_idx;
COMMIT));
wait_for_backend($node, 'reindex', "wait_event = 'PgSleep'");
write_file("$root/reindexed.txt", 'x');
wait_equal($node, $id, $root, 'REINDEX and a worker that begins to write', db => $db);
my ($status, $output, $errors) = finish_sql($reindex);
is("$status $errors", '0 ', 'REINDEX and a worker that begins to write: both get on');

# ---- the database: renamed, copied, moved ----

$storm = start_storm("$root/storm", 2);
storm_goes_on($storm);
statement_ok('postgres', 'ALTER DATABASE one RENAME TO eins', 'ALTER DATABASE … RENAME');
storm_goes_on($storm);
$position = log_position($node);
statement_ok('postgres', 'CREATE DATABASE copy TEMPLATE eins', 'CREATE DATABASE … TEMPLATE');
storm_goes_on($storm);
my $space = PostgreSQL::Test::Utils::tempdir() . '/space';
mkdir $space or die "mkdir: $!";
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
statement_ok('postgres', 'ALTER DATABASE eins SET TABLESPACE space', 'ALTER DATABASE … SET TABLESPACE');
storm_goes_on($storm);
stop_storm($storm);
$db = 'eins';
all_is_well($node, $id, $root, 'a database renamed, copied, moved', $position, db => $db);

# The copy keeps the rows of the moment, and nobody writes to it.
is( $node->safe_psql('copy', 'SELECT state, worker_pid FROM fsync_status()'),
	'inactive|', 'the repository of the copy is inactive');
my $copied = $node->safe_psql('copy', 'SELECT count(*), max(updated_at) FROM file_records');
write_file("$root/after the copy.txt", 'x');
wait_equal($node, $id, $root, 'the original goes on', db => $db);
my ($rc, $out, $err) = $node->psql('copy', "SELECT fsync_wait('$id')");
isnt($rc, 0, 'nobody can wait for an inactive repository');
like($err, qr/not active/, 'and the error says so');
is( $node->safe_psql('copy', 'SELECT count(*), max(updated_at) FROM file_records'),
	$copied, 'nothing is written to the copy');
wait_until(sub { worker_pid($node, 'copy') eq '' }, 'which has no worker');
$node->safe_psql('copy', "SELECT fsync_activate_repository('$id')");
wait_equal($node, $id, $root, 'the copy, activated', db => 'copy');

# ---- dropped ----

my ($worker, $tree) = (worker_pid($node, 'copy'), tree_pid($node, $id, db => 'copy'));
$storm = start_storm("$root/storm", 3);
storm_goes_on($storm);
statement_ok('postgres', 'DROP DATABASE copy', 'DROP DATABASE in a storm');
worker_is_gone($worker, $tree, 'DROP DATABASE');

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE eins');
$node->safe_psql('copy', "SELECT fsync_activate_repository('$id')");
wait_ok($node, $id, 'another copy', db => 'copy');
($worker, $tree) = (worker_pid($node, 'copy'), tree_pid($node, $id, db => 'copy'));
storm_goes_on($storm);
statement_ok('postgres', 'DROP DATABASE copy WITH (FORCE)', 'DROP DATABASE … WITH (FORCE) in a storm');
worker_is_gone($worker, $tree, 'DROP DATABASE … WITH (FORCE)');
stop_storm($storm);
all_is_well($node, $id, $root, 'another database dropped', $position, db => $db);

# ---- the extension of another version ----

# What a package upgrade does, the other way round.
$position = log_position($node);
$worker = worker_pid($node, $db);
$node->safe_psql($db, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'fsync'");
$node->safe_psql($db, "SELECT pg_terminate_backend($worker)");
$node->wait_for_log(qr/has version 0\.9.*\n.*HINT: .*ALTER EXTENSION fsync UPDATE/, $position);
pass('objects of another version: the log says what to do');
write_file("$root/another version.txt", 'x');
($rc, $out, $err) = $node->psql($db, "SELECT fsync_wait('$id')");
like($err, qr/has version 0\.9.*HINT: .*ALTER EXTENSION fsync UPDATE/s,
	"objects of another version: who waits gets an error that says what to do");
is( $node->safe_psql($db, "SELECT count(*) FROM file_records WHERE file_path ~ 'another version'"),
	'0', 'objects of another version: nothing is written');
wait_until(sub { worker_pid($node, $db) eq '' }, 'objects of another version: there is no worker');
$node->safe_psql($db, "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'fsync'");
all_is_well($node, $id, $root, 'objects updated', $position, db => $db);

# ---- schemas ----

($rc, $out, $err) = $node->psql($db, 'CREATE SCHEMA s; ALTER EXTENSION fsync SET SCHEMA s');
like($err, qr/does not support SET SCHEMA/, 'ALTER EXTENSION … SET SCHEMA is refused');

$storm = start_storm("$root/storm", 4);
storm_goes_on($storm);
($worker, $tree) = (worker_pid($node, $db), tree_pid($node, $id, db => $db));
statement_ok($db, 'DROP EXTENSION fsync', 'DROP EXTENSION in a storm');
worker_is_gone($worker, $tree, 'DROP EXTENSION');

statement_ok($db, 'CREATE SCHEMA "A b C"; CREATE EXTENSION fsync SCHEMA "A b C"',
	'CREATE EXTENSION in another schema');
{
	local $ENV{PGOPTIONS} = "-c search_path=\"A\\ b\\ C\"";

	$position = log_position($node);
	$id = add_repository($node, $root, db => $db);
	wait_ok($node, $id, 'in another schema', db => $db);
	storm_goes_on($storm);
	stop_storm($storm);
	all_is_well($node, $id, $root, 'in another schema', $position, db => $db);
	$storm = start_storm("$root/storm", 5);
	storm_goes_on($storm);
	statement_ok($db, 'ALTER SCHEMA "A b C" RENAME TO plain', 'ALTER SCHEMA … RENAME in a storm');
	storm_goes_on($storm);
	stop_storm($storm);
}
{
	local $ENV{PGOPTIONS} = '-c search_path=plain';

	all_is_well($node, $id, $root, 'after ALTER SCHEMA … RENAME', $position, db => $db);
}
statement_ok($db, 'DROP SCHEMA plain CASCADE', 'DROP SCHEMA … CASCADE');
wait_until(sub { worker_pid($node, $db) eq '' }, 'DROP SCHEMA … CASCADE: the worker ends by itself');

# ---- pg_restore over it ----

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';

$node->safe_psql($db, 'CREATE EXTENSION fsync');
$id = add_repository($node, $root, db => $db);
wait_equal($node, $id, $root, 'before the dump', db => $db);
$storm = start_storm("$root/storm", 6);
storm_goes_on($storm);
command_ok([ 'pg_dump', '--format=custom', "--file=$dump", '-d', $node->connstr($db) ],
	'pg_dump in a storm');
foreach my $option ('--exit-on-error', '--single-transaction')
{
	storm_goes_on($storm);
	command_ok(
		[
			'pg_restore', '--clean', '--if-exists', $option, '-d', $node->connstr($db), $dump
		],
		"pg_restore --clean $option while the worker works");
	is( $node->safe_psql($db, "SELECT state FROM fsync_status('$id')"),
		'inactive', "pg_restore $option: the repository is inactive");
	wait_until(sub { worker_pid($node, $db) eq '' }, "pg_restore $option: there is no worker");
	$node->safe_psql($db, "SELECT fsync_activate_repository('$id')");
	wait_ok($node, $id, "pg_restore $option", db => $db);
}
stop_storm($storm);
$position = log_position($node);
all_is_well($node, $id, $root, 'restored and activated', $position, db => $db);

# ---- rows of fsync_repositories that go ----

statement_ok($db, 'TRUNCATE fsync_repositories', 'TRUNCATE fsync_repositories');
is($node->safe_psql($db, 'SELECT count(*) FROM file_records'), '0',
	'TRUNCATE fsync_repositories: no row is left');
wait_until(sub { worker_pid($node, $db) eq '' },
	'TRUNCATE fsync_repositories: the worker ends by itself');
$id = add_repository($node, $root, db => $db);
wait_equal($node, $id, $root, 'added again', db => $db);

$node->stop;
log_is_quiet($node, 0, 'of all that, the log has nothing above LOG that we did not ask for',
	qr/is not active/, qr/SET SCHEMA/, qr/has version 0\.9/, qr/WARNING:  a column was added to table/);
done_testing();
