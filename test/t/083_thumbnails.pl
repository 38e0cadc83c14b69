#
# examples/thumbnails/thumbnails.sh: two workers, killed at random again and
# again while files change; in the end each file has its thumbnail, of its
# present content, and no other is left.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncFeed;
use FsyncTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $script = "$FindBin::RealBin/../../examples/thumbnails/thumbnails.sh";
my $node = new_node('main');
my $root = new_root('photos');
my $output = new_root('thumbnails');
my $said = PostgreSQL::Test::Utils::tempdir() . '/said';
my %workers;

# In a process group of its own, to be killed with whatever it runs.
sub start_worker
{
	my $pid = fork();

	die "could not fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		setpgrp(0, 0);
		$ENV{PGHOST} = $node->host;
		$ENV{PGPORT} = $node->port;
		$ENV{PGDATABASE} = 'postgres';
		$ENV{THUMBNAIL} = 'cp';
		$ENV{LEASE} = 20;
		open STDOUT, '>>', $said;
		open STDERR, '>&', \*STDOUT;
		exec $script, $output or POSIX::_exit(1);
	}
	setpgrp($pid, $pid);
	$workers{$pid} = 1;
}

sub kill_worker
{
	my ($pid) = @_;

	kill 'KILL', -$pid;
	waitpid $pid, 0;
	delete $workers{$pid};
}

END { kill 'KILL', map { -$_ } keys %workers; }

make_tree($root, 150);
my $id = add_repository($node, $root, args => 'change_feed => true');
wait_equal($node, $id, $root, 'first sync');
$node->safe_psql('postgres', "SELECT fsync_create_consumer('thumbnails', from_start => true)");

write_file($said, '');
my $storm = start_storm("$root/storm", 83);
my $taken_over = 0;
start_worker() foreach 1, 2;
# until one has taken over what a dead one had begun
for (my $kill = 1; $kill <= 30 || (!$taken_over && $kill <= 300); $kill++)
{
	storm_goes_on($storm) if $kill % 5 == 0;
	usleep(int(rand(600_000)) + ($kill > 30 ? 20_000 * $kill : 0));
	kill_worker((keys %workers)[ rand(keys %workers) ]);
	start_worker();
	$taken_over ||= $node->safe_psql('postgres',
		'SELECT count(*) FROM fsync_consumer_deliveries WHERE attempts > 1');
}
stop_storm($storm);
wait_equal($node, $id, $root, 'after the storm');
wait_until(
	sub {
		$taken_over ||= $node->safe_psql('postgres',
			'SELECT count(*) FROM fsync_consumer_deliveries WHERE attempts > 1');
		return $node->safe_psql('postgres', 'SELECT pending + in_flight FROM fsync_consumers') eq '0';
	},
	'the survivors handle all that the dead have left');
cmp_ok($taken_over, '>', 0, 'which was something');
kill_worker($_) foreach keys %workers;

my $table = table_files($node, $id);
my %expected = map { $table->{$_}->[4] => $table->{$_}->[3] } keys %$table;
my $thumbnails = disk_files($output);
my %found = map { $_ => $thumbnails->{$_}->[3] } keys %$thumbnails;
cmp_ok(scalar keys %expected, '>', 150, 'many files');
is_deeply(\%found, \%expected, 'each has its thumbnail, none is stale, and there is no other');
is(slurp_file($said), '', 'no worker complains');

$node->stop;
done_testing();
