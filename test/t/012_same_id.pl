#
# A repository that is removed and added again with its id, at the same path or
# at another, is a new one: its table is filled anew, and nothing that was found
# out about the old one gets into it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', conf => 'fsync.batch_size = 10');
my $root = new_root('photos');
my $other = new_root('other');
write_file("$root/$_.txt", "content of $_") foreach 'a' .. 'h';
write_file("$other/$_.txt", "other content of $_") foreach 'a' .. 'c';
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

# The statements that remove it and add it again, at a path.
sub again
{
	my ($path) = @_;

	return "SELECT fsync_remove_repository('$id'); SELECT fsync_add_repository("
	  . sql_path($path) . ", '$id');";
}

# ---- the same path ----

my $operation = latest_operation($node, $id);
$node->safe_psql($db, 'BEGIN; ' . again($root) . 'COMMIT');
wait_equal($node, $id, $root, 'in one transaction');
cmp_ok(latest_operation($node, $id), '>', $operation, 'in one transaction: by a scan');
$node->safe_psql($db, again($root));
wait_equal($node, $id, $root, 'in two transactions');
$node->safe_psql($db, 'BEGIN; DROP EXTENSION fsync; CREATE EXTENSION fsync; '
	  . 'SELECT fsync_add_repository(' . sql_path($root) . ", '$id'); COMMIT");
wait_equal($node, $id, $root, 'with the extension');
write_file("$root/i.txt", 'content of i');
wait_equal($node, $id, $root, 'and it is watched');

# ---- what the worker cannot read yet ----

# It does not answer from what it knew before.
my $position = -s $node->logfile;
my $change = $node->background_psql($db);
$change->query_safe('SET client_min_messages = warning; BEGIN; ' . again($root));
my $holder = start_sql($node, $db, 'holder',
	'BEGIN; LOCK TABLE fsync_repositories IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)');
wait_for_backend($node, 'holder', "wait_event_type = 'Lock'");
$change->query_safe('COMMIT');
wait_until(sub { said($node, $position, qr/^LOG:.*could not read the repositories/) },
	'locked: the worker says so');

# It tries again after a while that is longer each time; now it does not.
my $waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = " . worker_pid($node, $db);
foreach (1 .. 3)
{
	$node->poll_query_until($db, $waits) or die 'the worker does not try again';
	$node->poll_query_until($db, $waits, 'f') or die 'the worker does not give up';
}
$node->safe_psql($db,
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
finish_sql($holder);
wait_equal($node, $id, $root, 'locked for a while');
$change->quit;

# ---- another path ----

foreach my $d (1 .. 40)
{
	mkdir("$root/$d") or die "mkdir: $!";
	write_file("$root/$d/$_", '') foreach 1 .. 500;
}
foreach my $try (1 .. 4)
{
	$node->safe_psql($db, again($root));
	$node->poll_query_until($db,
		"SELECT count(*) > 100 FROM file_records WHERE repository_id = '$id'");

	# The worker goes on while this one commits.
	$node->safe_psql($db, 'BEGIN; ' . again($other) . 'SELECT pg_sleep(0.5); COMMIT');
	wait_equal($node, $id, $other, "another path, $try");
	is(status_of($node, $id, 'state'), 'watching', "another path, $try: and all is well");
}
reconcile_finds_nothing($node, $id, 'in the end');
$node->stop;
done_testing();
