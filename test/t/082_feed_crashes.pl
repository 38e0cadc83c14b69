#
# kill -9 of each kind of process, and immediate shutdowns, in a storm with the
# change feed on: replayed, it is still the table, so no change is lost and none
# is told twice; and no id turns up behind one that was seen.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncFeed;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => q(
restart_after_crash = on
fsync.mass_delete_threshold = 1
));
my $root = new_root('photos');
my $seed = 820;

make_tree("$root/steady", 100);
my $id = add_repository($node, $root, args => 'change_feed => true');
wait_equal($node, $id, $root, 'first sync');

sub in_a_storm
{
	my ($name, $fault) = @_;
	my $storm = start_storm("$root/storm", $seed++);

	storm_goes_on($storm);
	$node->safe_psql('postgres',
		'DROP TABLE IF EXISTS seen; CREATE TABLE seen AS SELECT change_id FROM file_changes');
	$fault->();
	wait_for_server($node);
	storm_goes_on($storm);
	stop_storm($storm);
	wait_equal($node, $id, $root, $name);
	replay_equals($node, $id, $name);
	is($node->safe_psql('postgres', q(
SELECT count(*) FROM file_changes FULL JOIN seen s USING (change_id)
WHERE s.change_id IS NULL AND change_id < (SELECT max(change_id) FROM seen)
	OR s.change_id IS NOT NULL AND NOT EXISTS (SELECT FROM file_changes c WHERE c.change_id = s.change_id))),
		'0', "$name: what was seen is there, and nothing came in between");
	reconcile_finds_nothing($node, $id, $name);
}

sub kill_backend
{
	my ($type) = @_;

	my $pid = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'");

	kill 'KILL', $pid or die "kill: $!";
	wait_until(sub { process_is_gone($pid) });
}

in_a_storm('kill -9 of fsync-tree', sub { kill 'KILL', tree_pid($node, $id) or die "kill: $!" });
in_a_storm('kill -9 of the worker', sub { kill_backend('fsync worker') });
in_a_storm('kill -9 of the checkpointer', sub { kill_backend('checkpointer') });
in_a_storm('end of the worker', sub {
	$node->safe_psql('postgres',
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'fsync worker'");
});
in_a_storm(
	'immediate shutdown',
	sub {
		$node->stop('immediate');
		$node->start;
	});

$node->stop;
done_testing();
