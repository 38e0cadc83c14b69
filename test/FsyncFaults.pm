#
# FsyncFaults.pm
#		What the tests of crashes and faults share: a process that changes files
#		without pause, and what must be true when a fault is over.

package FsyncFaults;

use strict;
use warnings;

use Exporter 'import';
use File::Path qw(remove_tree);
use FsyncTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  start_storm stop_storm storm_goes_on all_is_well log_position wait_for_server
);

my %storms;

# One change of the files below a directory, with names from a small set, so
# that they collide.  What fails because of that is no matter.
sub change_something
{
	my ($root) = @_;
	my $dir = "$root/d" . int(rand(6));
	my $file = "$dir/f" . int(rand(40));
	my $what = int(rand(100));

	mkdir $dir;
	if ($what < 45)
	{
		open my $fh, ($what < 30 ? '>:raw' : '>>:raw'), $file or return;
		print $fh "$what ", 'x' x int(rand(3000));
		close $fh;
	}
	elsif ($what < 60) { unlink $file }
	elsif ($what < 80) { rename $file, "$root/d" . int(rand(6)) . '/f' . int(rand(40)) }
	# not so deep that with one of them most files are gone
	elsif ($what < 90 && glob("$dir/sub*/sub*")) { return }
	elsif ($what < 90) { rename $dir, "$root/d" . int(rand(6)) . '/sub' . int(rand(3)) }
	elsif ($what < 94) { rename "$dir/sub" . int(rand(3)), "$root/d" . int(rand(6)) }
	elsif ($what < 96) { remove_tree("$dir/sub" . int(rand(3)), { error => \my $ignored }) }
	else
	{
		# saved as editors do
		open my $fh, '>:raw', "$file.tmp" or return;
		print $fh "saved $what ", 'y' x int(rand(3000));
		close $fh;
		rename "$file.tmp", $file;
	}
}

# Changes files below the directory in a process of its own until
# stop_storm().
sub start_storm
{
	my ($root, $seed) = @_;
	my $counter = PostgreSQL::Test::Utils::tempdir() . "/storm.$seed";
	my $pid;

	mkdir $root;
	note("storm in $root, seed $seed");
	$pid = fork();
	die "could not fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		my ($parent, $changes) = (getppid(), 0);

		$SIG{TERM} = sub { POSIX::_exit(0) };
		srand($seed);
		while (getppid() == $parent)
		{
			change_something($root);
			usleep(1500);
			next if ++$changes % 20 != 0;
			open my $fh, '>', $counter or POSIX::_exit(1);
			print $fh "$changes\n";
			close $fh;
		}
		POSIX::_exit(0);
	}
	$storms{$pid} = $counter;
	return $pid;
}

# Waits until the storm has made a hundred changes more.
sub storm_goes_on
{
	my ($pid) = @_;
	my $read = sub {
		open my $fh, '<', $storms{$pid} or return 0;
		return <$fh> || 0;
	};
	my $before = $read->();

	wait_until(sub { $read->() >= $before + 100 }) or die "the storm has stopped";
}

# Ends with a signal between two changes or within one: to the disk it is all
# the same.
sub stop_storm
{
	my ($pid) = @_;

	kill 'TERM', $pid;
	waitpid $pid, 0;
	delete $storms{$pid};
}

# Length of the server's log so far.
sub log_position
{
	my ($node) = @_;

	return -s $node->logfile;
}

# Waits until one can connect again after a crash.
sub wait_for_server
{
	my ($node) = @_;

	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
}

# What is to be true after every fault: the table is equal to the disk, and
# nothing was left to a reconciliation; no run is left "running"; there is one
# worker; and its log since the position has not more than so many lines.
# Options: db; lines (20), logged by fsync's processes.
sub all_is_well
{
	my ($node, $id, $root, $name, $position, %opt) = @_;
	my $db = $opt{db} // 'postgres';
	my $limit = $opt{lines} // 20;
	my (@lines, @bad);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_equal($node, $id, $root, $name, db => $db);
	reconcile_finds_nothing($node, $id, $name, db => $db);
	is( $node->safe_psql($db,
			"SELECT count(*) FROM sync_operations WHERE status = 'running'"),
		'0', "$name: no run is left \"running\"");
	like(worker_pid($node, $db), qr/^\d+$/, "$name: there is one worker");

	foreach my $line (split /\n/, slurp_file($node->logfile, $position))
	{
		push @lines, $line if $line =~ /^\S+ \S+ \S+ \[\d+\] fsync (?:worker|launcher) /;
		push @bad, $line if $line =~ /PANIC|TRAP:|was terminated by signal (?!9)/;
	}
	cmp_ok(scalar(@lines), '<=', $limit, "$name: the log is not flooded")
	  or diag(join("\n", @lines[ 0 .. 19 ]));
	is(join("\n", @bad), '', "$name: nothing crashed by itself");
}

1;
