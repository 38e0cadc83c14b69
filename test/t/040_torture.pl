# Random storms of file operations on a repository of a real server: after each
# of them the table equals the disk, and a reconciliation finds nothing.
#
#	TORTURE_SEED, TORTURE_OPS, TORTURE_ROUNDS, TORTURE_PROCESSES
#
# "make torture SEED=… OPS=…" runs this, and the same storms on fsync-tree alone.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{TORTURE_SEED} || 20;
my $ops = $ENV{TORTURE_OPS} || 1500;
my $rounds = $ENV{TORTURE_ROUNDS} || 3;
my $processes = $ENV{TORTURE_PROCESSES} || 2;
my $storm = $ENV{TORTURE_STORM} or die 'TORTURE_STORM does not name the program storm';

my $node = new_node('main');

my $root = new_root('storm');
make_tree($root, 200);
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'before the first storm');

foreach my $round (1 .. $rounds)
{
	my $name = sprintf 'seed %d, %d operations of %d processes', $seed, $ops, $processes;

	# Half of them at the speed that shells have, without a debounce.
	$node->safe_psql('postgres',
		'ALTER SYSTEM SET fsync.debounce_interval = ' . ($round % 2 ? 500 : 0));
	$node->reload;

	# In every third, rows of missing files stay, and come back to life.
	$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', on_missing => '"
		  . ($round % 3 == 2 ? 'mark' : 'delete') . "')");
	my ($stdout, $stderr);
	ok(IPC::Run::run([ $storm, $root, $seed, $ops, $processes ], '>', \$stdout, '2>', \$stderr),
		"$name: the storm is over")
	  or diag($stderr);
	wait_equal($node, $id, $root, $name)
	  and reconcile_finds_nothing($node, $id, $name)
	  and is_equal($node, $id, $root, "$name, after the reconciliation");
	$seed++;
}
is($node->safe_psql('postgres', "SELECT status, error_message, files_scanned = (SELECT count(*) FROM file_records WHERE missing_since IS NULL) FROM fsync_verify('$id')"),
	'completed||t', 'a verification reads every file, and finds it right');
is( $node->safe_psql('postgres', "SELECT count(*) FROM sync_operations WHERE status <> 'completed'"),
	'0', 'no operation failed or is left running');
is($node->safe_psql('postgres', 'SELECT count(*) FROM fsync_problems'),
	'0', 'no problem is left, as each of them was mended');

$node->stop;
done_testing();
