#
# fsync_reconcile() with a path where there are too few inotify watches, or no
# instance: what is not watched is looked at as a whole, since a rename from one
# such directory to another is told by nothing else, and ids stay.  Not so where
# the path is watched.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use PostgreSQL::Test::Utils;
use Test::More;

sub limit
{
	my ($what, $value) = @_;

	open my $fh, '>', "/proc/sys/user/max_inotify_$what"
	  or return 0;
	print $fh $value;
	return close $fh;
}

plan skip_all => 'the limits of a namespace cannot be set'
  unless limit('watches', 40) && limit('instances', 128);

my $node = new_node('main', conf => "fsync.reconciliation_interval = 0\n");
my $root = new_root();

foreach my $d (1 .. 100)
{
	my $dir = sprintf("$root/%03d", $d);

	mkdir($dir) or die "mkdir: $!";
	write_file("$dir/$_.txt", "$d/$_") foreach 1 .. 3;
}
my $id = add_repository($node, $root);
wait_for_state($node, $id, 'degraded', 'too few watches');
wait_equal($node, $id, $root, 'first sync');

sub here
{
	my ($path) = @_;

	return $node->safe_psql('postgres', "
SELECT status, files_added, files_moved, files_removed FROM fsync_reconcile('$id', path => '$path')");
}

# The directories that are not watched are named.
sub unwatched
{
	return sort split /\n/, $node->safe_psql('postgres',
		"SELECT file_path FROM fsync_problems WHERE problem = 'directory not watched' AND file_path <> ''");
}

my ($from, $to, $third) = unwatched();
ok(defined $third, 'some directories are not watched');
my $ids = ids_of($node, $id);
rename("$root/$from/1.txt", "$root/$to/renamed.txt") or die "rename: $!";
write_file("$root/$third/new.txt", 'new');
is(here($from), 'completed|1|1|0', 'a rename between two of them, by the old directory');
is(ids_of($node, $id)->{"$to/renamed.txt"}, $ids->{"$from/1.txt"}, '... keeps the id');
rename("$root/$to/renamed.txt", "$root/$third/once more.txt") or die "rename: $!";
is(here($third), 'completed|0|1|0', '... and by the new one');
is(ids_of($node, $id)->{"$third/once more.txt"}, $ids->{"$from/1.txt"}, '... keeps the id');
unlink("$root/$from/2.txt") or die "unlink: $!";
is(here("$from/2.txt"), 'completed|0|0|1', 'a file in one that is gone');
mkdir("$root/$from/deep") or die "mkdir: $!";
write_file("$root/$from/deep/x.txt", 'x');
is(here("$from/deep/x.txt"), 'completed|1|0|0', 'a file below one');

# what is watched is looked at alone
my ($watched) = grep { my $dir = $_; !grep { $_ eq $dir } unwatched() } map { sprintf('%03d', $_) } 1 .. 100;
write_file("$root/$third/not asked for.txt", 'x');
is(here($watched), 'completed|0|0|0', 'a directory that is watched');
is(ids_of($node, $id)->{"$third/not asked for.txt"}, undef, '... does not have the others looked at');
wait_equal($node, $id, $root, 'then');

# ---- no instance ----

limit('instances', 0) or die "could not set the limit: $!";
$node->restart;
wait_for_state($node, $id, 'degraded', 'no inotify instance');
wait_equal($node, $id, $root, 'no instance');
$ids = ids_of($node, $id);
rename("$root/$watched/1.txt", "$root/in the root.txt") or die "rename: $!";
is(here($watched), 'completed|0|1|0', 'a rename where nothing is watched');
is(ids_of($node, $id)->{'in the root.txt'}, $ids->{"$watched/1.txt"}, '... keeps the id');
wait_equal($node, $id, $root, 'in the end');
reconcile_finds_nothing($node, $id, 'in the end');
$node->stop;
done_testing();
