#
# pg_cron really calls fsync_reconcile_all(), in both of its modes: over a
# connection, and in a background worker.  A job leaves a completed
# reconciliation; where a reconciliation fails, the job has failed.  The jobs
# are made by fsync_schedule(), or as it says.
#
# pg_cron starts jobs at full minutes, so this test takes up to a minute.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($share) = run_command([ 'pg_config', '--sharedir' ]);

plan skip_all => 'pg_cron is not installed (postgresql-15-cron)'
  unless -e "$share/extension/pg_cron.control";

my %mode = (libpq => 'off', worker => 'on');
my %setup;

# Both servers first, so that both wait for the same minute.
foreach my $name (sort keys %mode)
{
	my $node = new_node(
		$name,
		preload => 'fsync, pg_cron',
		conf => qq(
cron.database_name = 'postgres'
cron.use_background_workers = $mode{$name}
max_worker_processes = 20
));
	my $root = new_root("$name good");
	my $bad_root = new_root("$name bad");

	make_tree($root, 100);
	make_tree($bad_root, 50);

	$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
	$node->safe_psql('postgres', 'CREATE DATABASE bad');
	$node->safe_psql('bad', 'CREATE EXTENSION fsync');

	my $id = add_repository($node, $root);
	my $bad = add_repository($node, $bad_root, db => 'bad');

	wait_equal($node, $id, $root, "$name: first sync");
	wait_equal($node, $bad, $bad_root, "$name: first sync of the other", db => 'bad');

	rename($bad_root, "$bad_root.away") or die "rename: $!";

	my $last = latest_operation($node, $id);

	# Where pg_cron is, the function makes the job; elsewhere it says what to do.
	$node->safe_psql('postgres', "SELECT fsync_schedule('0 0 1 1 *', 'good')");
	my ($rc, $out, $err) = $node->psql('bad', "SELECT fsync_schedule('* * * * *', 'bad')");
	isnt($rc, 0, "$name: fsync_schedule() where pg_cron is not: an error");
	ok($err =~ /HINT:\s+Run there: (SELECT .*;)/, "$name: with the statement to run")
	  or diag($err);

	# pg_cron connects to localhost unless told otherwise; the test's server
	# has nothing but its socket.  In one transaction, or a full minute may come
	# before it is told.
	$node->safe_psql('postgres', qq(
BEGIN;
SELECT fsync_schedule('* * * * *', 'good');
$1
UPDATE cron.job SET nodename = '@{[ $node->host ]}', nodeport = @{[ $node->port ]};
COMMIT));
	$setup{$name} = [ $node, $root, $id, $bad, $last ];
}

foreach my $name (sort keys %mode)
{
	my ($node, $root, $id, $bad, $last) = @{ $setup{$name} };
	my $finished = sub {
		my ($job) = @_;

		# A message where it is still under way says why it does not end.
		ok( $node->poll_query_until('postgres', qq(
SELECT count(*) > 0 FROM cron.job_run_details JOIN cron.job USING (jobid)
WHERE jobname = '$job' AND status IN ('succeeded', 'failed'))),
			"$name: the job \"$job\" has run")
		  or diag($node->safe_psql('postgres', 'TABLE cron.job_run_details'));
		return $node->safe_psql('postgres', qq(
SELECT d.status || ': ' || coalesce(return_message, '')
FROM cron.job_run_details d JOIN cron.job USING (jobid)
WHERE jobname = '$job' AND d.status IN ('succeeded', 'failed') ORDER BY runid LIMIT 1));
	};

	like($finished->('good'), qr/^succeeded/, "$name: the job succeeded");
	my ($status, $counts, $error) = wait_for_operation($node, $id, 'reconciliation', $last);
	is("$status $counts", 'completed 0|0|0|0', "$name: it left a completed reconciliation");

	like($finished->('bad'), qr/^failed/, "$name: the job of an unavailable repository failed");
	is($node->safe_psql('bad', 'SELECT count(*) = 50 FROM file_records'),
		't', "$name: and the rows stayed");
	$node->stop;
}

done_testing();
