#
# Files and directories are renamed about while reconciliations run, one after
# the other: what an event knows of one end of a rename and a scan of the other
# belongs together, and every file keeps its id.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);

my $db = 'postgres';
my $directories = 20;
my $files = 6000;
my $node = new_node('main');

# Ids by inode number, of what the table says of a repository.
sub ids_by_inode
{
	my ($id) = @_;

	return { map { split /\|/ } split /\n/,
		$node->safe_psql($db, "SELECT inode, id FROM file_records WHERE repository_id = '$id'") };
}

# Lost are ids of files that are still there.
sub lost
{
	my ($before, $after) = @_;

	return grep { ($after->{$_} // 0) != $before->{$_} } sort keys %$before;
}

# Runs a storm in a process of its own, which ends when it is told to.
sub storm
{
	my ($step) = @_;
	my $pid = fork() // die "fork: $!";

	return $pid if $pid;
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	$step->() until $stop;
	POSIX::_exit(0);
}

sub end_storm
{
	my ($pid) = @_;

	kill 'TERM', $pid;
	waitpid($pid, 0);
}

# ---- single files, and now and then a directory away and back ----

my $root = new_root('files');
my @paths;
mkdir "$root/d$_" or die "$root/d$_: $!" foreach 0 .. $directories - 1;
foreach my $i (0 .. $files - 1)
{
	push @paths, 'd' . $i % $directories . "/f$i";
	write_file("$root/$paths[-1]", "content of $i");
}
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'files: first sync');
my $before = ids_by_inode($id);
is(scalar keys %$before, $files, 'files: each has an id');

srand(17);
my $steps = 0;
my $pid = storm(
	sub {
		my $d = int rand $directories;

		if (++$steps % 50 == 0)
		{
			rename "$root/d$d", "$root/away$d";
			usleep(2000);
			rename "$root/away$d", "$root/d$d";
		}
		else
		{
			my $i = int rand @paths;
			my $to = $paths[$i] =~ s/^d\d+/d$d/r;

			$paths[$i] = $to if rename "$root/$paths[$i]", "$root/$to";
		}
		usleep(1000);
	});
my $until = time + 25;
my $runs = 0;
while ($runs < 40 && time < $until)
{
	$node->safe_psql($db, "SELECT fsync_reconcile('$id')");
	$runs++;
}
end_storm($pid);
wait_equal($node, $id, $root, "files: after $runs reconciliations under a storm of renames");
my @lost = lost($before, ids_by_inode($id));
is(scalar @lost, 0, 'files: no id is lost') or diag("inodes @lost");
reconcile_finds_nothing($node, $id, 'files');

# ---- a directory with more files than are taken up at once ----

my $album = new_root('album');
mkdir "$album/t0" or die "$album/t0: $!";
write_file("$album/t0/f$_", '') foreach 1 .. 20_500;
my $large = add_repository($node, $album);
$node->safe_psql($db, "SELECT fsync_wait('$large', '300 s')");
$before = ids_by_inode($large);
is(scalar keys %$before, 20_500, 'directory: each file has an id');

my $k = 0;
$pid = storm(
	sub {
		rename "$album/t$k", "$album/t" . ($k + 1) and $k++;
		usleep(20_000);
	});
$until = time + 4;
usleep(100_000) until time > $until;
end_storm($pid);
wait_equal($node, $large, $album, 'directory: renamed every 20 ms');
@lost = lost($before, ids_by_inode($large));
is(scalar @lost, 0, 'directory: no id is lost');

# ---- who waits for what was removed does not wait for the storm ----

my ($busy, $left, $gone) = grep { !/^d0\// } sort keys %{ ids_of($node, $id) };
$pid = storm(
	sub {
		rename "$root/d0", "$root/away0";
		rename "$root/away0", "$root/d0";
		rename "$root/$busy", "$root/../outside";
		rename "$root/../outside", "$root/$busy";
		usleep(3000);
	});
rename "$root/$left", "$root/../left" or die $!;
unlink "$root/$gone" or die $!;
ok( $node->safe_psql($db, "SELECT fsync_wait('$id', '60 s')") eq 't',
	'busy: a barrier comes back');
my $ids = ids_of($node, $id);
ok(!exists $ids->{$left}, 'busy: what left the tree has no row');
ok(!exists $ids->{$gone}, 'busy: nor has what was removed');
ok(kill(0, $pid), 'busy: the storm goes on');
end_storm($pid);
wait_equal($node, $id, $root, 'busy: afterwards');

$node->stop;
done_testing();
