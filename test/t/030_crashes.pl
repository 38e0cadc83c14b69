#
# kill -9 of each kind of process, and immediate shutdowns, while files change:
# whatever dies, the table ends up equal to the disk, and the rows of files that
# nobody touched stay the same rows.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "restart_after_crash = on\n");
my $root = new_root('photos');
my $seed = 1;

# more than a storm makes and removes, so that no scan finds most of them gone
make_tree("$root/steady", 600);
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

my %steady = steady_ids();

# path => id of the files that no storm touches.
sub steady_ids
{
	my $ids = ids_of($node, $id);

	return map { $_ => $ids->{$_} } grep { m{^steady/} } keys %$ids;
}

# Runs the fault in a storm, lets the storm go on after it, and looks.
sub in_a_storm
{
	my ($name, $fault, %opt) = @_;
	my $position = log_position($node);
	my $storm = start_storm("$root/storm", $seed++);

	storm_goes_on($storm);
	$fault->();
	wait_for_server($node);
	storm_goes_on($storm);
	stop_storm($storm);
	all_is_well($node, $id, $root, $name, $position, %opt);

	my %now = steady_ids();
	is_deeply(\%now, \%steady, "$name: files that were not touched keep their rows");
}

sub pid_where
{
	my ($condition) = @_;

	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $condition");
}

sub postmaster_start
{
	return $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
}

# A process of fsync's own, killed: nothing else is disturbed.
my $worker = worker_pid($node, 'postgres');
my $waited;

in_a_storm(
	'kill -9 of fsync-tree',
	sub {
		my $tree = tree_pid($node, $id);
		my $waiter = start_sql($node, 'postgres', 'waiter',
			"SELECT fsync_wait('$id', timeout => '10 minutes');");

		kill 'KILL', $tree or die "kill: $!";
		my ($rc, $out, $err) = finish_sql($waiter);
		$waited = $out . $err;
	});
is($waited, 't', 'a session that waits meanwhile waits for its successor');
is(worker_pid($node, 'postgres'), $worker, 'and the worker is the same');

# A process of PostgreSQL's: all sessions are ended, and the server recovers.
foreach my $who ('fsync worker', 'fsync launcher', 'client backend')
{
	my $tree;

	in_a_storm(
		"kill -9 of a $who",
		sub {
			my $session = start_sql($node, 'postgres', 'victim', 'SELECT pg_sleep(600);');
			my $pid;

			wait_for_backend($node, 'victim', "wait_event = 'PgSleep'");
			$pid = pid_where("backend_type = '$who'"
				  . ($who eq 'client backend' ? " AND application_name = 'victim'" : ''));
			$tree = tree_pid($node, $id);
			kill 'KILL', $pid or die "kill: $!";
			finish_sql($session);
			wait_until(sub { process_is_gone($tree) },
				"kill -9 of a $who: the fsync-tree goes");
		},
		lines => 40);
}

in_a_storm(
	'kill -9 of the postmaster',
	sub {
		my $tree = tree_pid($node, $id);
		my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
		my @others = split /\n/, pid_where('pid <> pg_backend_pid()');

		$node->kill9;
		wait_until(sub { process_is_gone($tree) }, 'fsync-tree ends with the postmaster');
		wait_until(sub { !grep { !process_is_gone($_) } @others },
			'so do the worker and all the others');
		# a zombie still owns postmaster.pid
		wait_until(sub { !kill(0, $postmaster) });
		$node->start;
	});

foreach my $round (1 .. 2)
{
	in_a_storm(
		"immediate shutdown, round $round",
		sub {
			my $storm = start_storm("$root/storm", 100 + $round);

			# again in the recovery from the first, in the midst of the scan
			$node->stop('immediate');
			storm_goes_on($storm);
			$node->start;
			storm_goes_on($storm);
			$node->stop('immediate');
			$node->start;
			stop_storm($storm);
		});
}

# Files that the storm does not touch are hashed once, whatever happens.
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE content_hash IS NULL"),
	'0', 'each row has a hash');

$node->stop;
done_testing();
