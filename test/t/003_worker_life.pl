#
# A worker comes when it is needed, without a restart of the server, and goes
# promptly when it is not, whatever ends it, and nothing of that is more than a
# LOG line.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0);
my $root = new_root('photos');
my $second_root = new_root('second');

make_tree($root, 100);
make_tree($second_root, 60);

# The worker of a database, and its fsync-tree, are gone.
sub worker_ends
{
	my ($db, $worker, $tree, $name) = @_;

	ok( $node->poll_query_until('postgres', qq(
SELECT count(*) = 0 FROM pg_stat_activity
WHERE backend_type = 'fsync worker' AND pid = $worker)),
		"$name ends the worker");
	wait_until(sub { process_is_gone($tree) }, "$name ends its fsync-tree");
}

# ---- it comes ----

ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'fsync launcher'"),
	'there is one launcher');
wait_until(sub { worker_pid($node, 'postgres') eq '' }, 'and no worker where the extension is absent');

$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->safe_psql($_, 'CREATE EXTENSION fsync') foreach ('one', 'two');

my $one = add_repository($node, $root, db => 'one');
wait_equal($node, $one, $root, 'a first repository starts the worker', db => 'one');
my $two = add_repository($node, $second_root, db => 'two');
wait_equal($node, $two, $second_root, 'in a second database too', db => 'two');

write_file("$root/one.txt", 'one');
write_file("$second_root/two.txt", 'two');
wait_equal($node, $one, $root, 'two databases at once: one', db => 'one');
wait_equal($node, $two, $second_root, 'two databases at once: two', db => 'two');

my $worker = worker_pid($node, 'one');
my $tree = tree_pid($node, $one, db => 'one');
my $other = worker_pid($node, 'two');

like($worker, qr/^\d+$/, 'one worker for one database');
isnt($worker, $other, 'each database has its own');

# the same root in two databases
my $shared = add_repository($node, $root, db => 'two');
wait_equal($node, $shared, $root, 'two databases may watch one directory', db => 'two');
write_file("$root/both.txt", 'both');
wait_equal($node, $one, $root, 'a directory of two databases: one', db => 'one');
wait_equal($node, $shared, $root, 'a directory of two databases: two', db => 'two');
$node->safe_psql('two', "SELECT fsync_remove_repository('$shared')");

# ---- removal of the last repository ----

$node->safe_psql('one', "SELECT fsync_remove_repository('$one')");
worker_ends('one', $worker, $tree, 'removal of the last repository');

# ---- and a new one ----

$one = add_repository($node, $root, db => 'one');
wait_equal($node, $one, $root, 'a new first repository starts it again', db => 'one');

# ---- SIGTERM ----

$worker = worker_pid($node, 'one');
$tree = tree_pid($node, $one, db => 'one');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
worker_ends('one', $worker, $tree, 'SIGTERM');

# ---- DROP EXTENSION ----

$worker = worker_pid($node, 'two');
$tree = tree_pid($node, $two, db => 'two');
$node->safe_psql('two', 'DROP EXTENSION fsync');
worker_ends('two', $worker, $tree, 'DROP EXTENSION');

$node->safe_psql('two', 'CREATE EXTENSION fsync');
$two = add_repository($node, $second_root, db => 'two');
wait_equal($node, $two, $second_root, 'after CREATE EXTENSION again', db => 'two');

# ---- a transaction that is rolled back ----

$node->safe_psql('two', 'BEGIN; DROP EXTENSION fsync; ROLLBACK');
write_file("$second_root/still.txt", 'still here');
wait_equal($node, $two, $second_root, 'after DROP EXTENSION was rolled back', db => 'two');

# ---- DROP DATABASE ----

$worker = worker_pid($node, 'two');
$tree = tree_pid($node, $two, db => 'two');
$node->safe_psql('postgres', 'DROP DATABASE two WITH (FORCE)');
worker_ends('two', $worker, $tree, 'DROP DATABASE … WITH (FORCE)');

$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->safe_psql('two', 'CREATE EXTENSION fsync');
$two = add_repository($node, $second_root, db => 'two');
wait_equal($node, $two, $second_root, 'in a new database of the same name', db => 'two');

$worker = worker_pid($node, 'two');
$tree = tree_pid($node, $two, db => 'two');
$node->safe_psql('postgres', 'DROP DATABASE two');
worker_ends('two', $worker, $tree, 'plain DROP DATABASE');

# a database that has nothing to do with it
$node->safe_psql('postgres', 'CREATE DATABASE bystander');
$node->safe_psql('postgres', 'DROP DATABASE bystander');
pass('another database can be dropped while workers run');

# ---- rename of the database, and a copy of it ----

$node->safe_psql('postgres', 'CREATE DATABASE three');
$node->safe_psql('three', 'CREATE EXTENSION fsync');
my $three = add_repository($node, $second_root, db => 'three');
wait_equal($node, $three, $second_root, 'a third database', db => 'three');
$node->safe_psql('postgres', 'ALTER DATABASE three RENAME TO drei');
write_file("$second_root/renamed.txt", 'x');
wait_equal($node, $three, $second_root, 'after ALTER DATABASE … RENAME', db => 'drei');

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE drei');
write_file("$second_root/copied.txt", 'x');
wait_equal($node, $three, $second_root, 'after it was a TEMPLATE', db => 'drei');
is( $node->safe_psql('copy', 'SELECT state FROM fsync_status()'),
	'inactive', 'a repository of a copied database is inactive');
wait_until(sub { worker_pid($node, 'copy') eq '' }, 'and has no worker');

# ---- a failed DROP DATABASE leaves the worker alone, or brings it back ----

$node->psql('drei', 'DROP DATABASE drei');
write_file("$second_root/after failure.txt", 'x');
wait_equal($node, $three, $second_root, 'after a DROP DATABASE that failed', db => 'drei');

# ---- shutdown ----

$worker = worker_pid($node, 'drei');
$tree = tree_pid($node, $three, db => 'drei');
$node->stop;
ok(process_is_gone($worker), 'shutdown ends the worker');
wait_until(sub { process_is_gone($tree) }, 'shutdown ends its fsync-tree');

log_is_quiet($node, 0, 'and of all that the log holds nothing above LOG',
	qr/cannot drop the currently open database/);

# ---- not preloaded ----

my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
my ($rc, $out, $err) = $plain->psql('postgres', 'CREATE EXTENSION fsync');
isnt($rc, 0, 'CREATE EXTENSION fails where fsync is not preloaded');
like($err, qr/shared_preload_libraries/, 'and says which setting is missing');
$plain->stop;

done_testing();
