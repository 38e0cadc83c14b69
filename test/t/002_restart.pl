#
# What happens while the server is down is found when it starts again, renames
# with their ids; and a crash of the server leaves nothing half-done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');

make_tree($root, 300);
make_path("$root/holiday/day 1");
write_file("$root/holiday/day 1/$_.jpg", "photo $_" x 100) foreach 1 .. 20;
write_file("$root/holiday/index.txt", 'index');

my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

# ---- a clean stop ----

my $before = ids_of($node, $id);
my $last = latest_operation($node, $id);
$node->stop;

write_file("$root/added $_.txt", "added $_") foreach 1 .. 3;
append_file("$root/it's.txt", 'changed');
rename("$root/say \"hello\".txt", "$root/said.txt") or die "rename: $!";
rename("$root/holiday", "$root/vacation") or die "rename: $!";
unlink("$root/percent%s%n.txt", "$root/#hash") == 2 or die "unlink: $!";

$node->start;
my ($status, $counts, $error) = wait_for_operation($node, $id, 'startup', $last);
is($status, 'completed', 'the startup sync after a restart is completed');
is($error, '', 'without an error');
is($counts, '3|1|22|2', 'and counts what happened while the server was down');
wait_equal($node, $id, $root, 'after a restart');

my $after = ids_of($node, $id);
is($after->{'said.txt'}, $before->{'say "hello".txt'},
	'a file renamed while the server was down keeps its id');
is( join(',', map { $after->{"vacation/day 1/$_.jpg"} // 'none' } 1 .. 20),
	join(',', map { $before->{"holiday/day 1/$_.jpg"} } 1 .. 20),
	'so do the files of a renamed directory');
is($after->{"it's.txt"}, $before->{"it's.txt"}, 'and a file that was changed');
reconcile_finds_nothing($node, $id, 'after a restart');

# ---- same inode, size and time, but not the same file ----

# A file removed and another one made: ext4 gives out the inode again.
my $old = $after->{'added 1.txt'};
my @stat = stat("$root/added 1.txt");
$last = latest_operation($node, $id);
$node->stop;
unlink("$root/added 1.txt") or die "unlink: $!";
write_file("$root/other 1.txt", 'ADDED 1');
utime($stat[8], $stat[9], "$root/other 1.txt") or die "utime: $!";
$node->start;
($status, $counts, $error) = wait_for_operation($node, $id, 'startup', $last);
is($status, 'completed', 'startup sync after a file was replaced');
wait_equal($node, $id, $root, 'a file removed and another made');
isnt(ids_of($node, $id)->{'other 1.txt'}, $old,
	'another file with the same size and time is not taken for a rename');

# ---- a crash, in the middle of work ----

$before = ids_of($node, $id);
$last = latest_operation($node, $id);
make_tree("$root/just before the crash", 500);
$node->stop('immediate');

rename("$root/vacation", "$root/holiday") or die "rename: $!";
remove_tree("$root/just before the crash/dir 0");
append_file("$root/said.txt", 'more');
make_path("$root/x/y/z");
write_file("$root/x/y/z/after the crash.txt", 'x');

$node->start;
($status, $counts, $error) = wait_for_operation($node, $id, 'startup', $last);
is("$status $error", 'completed ', 'the startup sync after a crash is completed');
wait_equal($node, $id, $root, 'after a crash');
$after = ids_of($node, $id);
is($after->{'holiday/day 1/7.jpg'}, $before->{'vacation/day 1/7.jpg'},
	'a rename while the server was down after a crash keeps ids');
reconcile_finds_nothing($node, $id, 'after a crash');

# ---- a crash during a scan ----

$last = latest_operation($node, $id);
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id', wait => false)");
$node->stop('immediate');
$node->start;
wait_for_operation($node, $id, 'startup', $last);
wait_equal($node, $id, $root, 'after a crash during a reconciliation');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM sync_operations WHERE status = 'running'"),
	'0', 'no operation is left running by a worker that is gone');

# ---- and without a change ----

$last = latest_operation($node, $id);
my $written = $node->safe_psql('postgres',
	"SELECT md5(string_agg(f::text, ',' ORDER BY id)) FROM file_records f");
$node->restart;
($status, $counts, $error) = wait_for_operation($node, $id, 'startup', $last);
is("$status $counts", 'completed 0|0|0|0', 'nothing changed, nothing found');
is( $node->safe_psql('postgres',
		"SELECT md5(string_agg(f::text, ',' ORDER BY id)) FROM file_records f"),
	$written, 'a scan that finds a file unchanged does not rewrite its row');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM fsync_files WHERE scan_generation <> (SELECT max(scan_generation) FROM fsync_files)"),
	'0', 'but fsync_files shows its generation');

$node->stop;
done_testing();
