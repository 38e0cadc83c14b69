#
# Programs that write two files by turns make the kernel's queue overflow, again
# and again.  A directory that did so twice is watched without IN_MODIFY: it
# makes nothing overflow any more, its rows follow all the same, and what
# fsync_wait() promises holds.  When its files are quiet it is watched as before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
use IO::Handle;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

# fsync-tree is stopped for a while, which is not to be taken for a hang.
my $node = new_node('main', conf => 'fsync.helper_timeout = 600s');
my $root = new_root('photos');

mkdir("$root/$_") or die "mkdir: $!" foreach 'busy', 'calm';
write_file("$root/calm/$_.txt", $_) foreach 1 .. 20;
write_file("$root/busy/$_", $_) foreach 'a', 'b', 'c';
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
wait_for_state($node, $id, 'watching', 'the state becomes watching');
my $tree = tree_pid($node, $id);
my $offset = -s $node->logfile;
my $queue = read_queue_size();
my %file = map { $_ => open_file("$root/busy/$_") } 'a', 'b';
my $written = 0;

sub read_queue_size
{
	open my $fh, '<', '/proc/sys/fs/inotify/max_queued_events' or die "open: $!";
	return <$fh> + 0;
}

sub open_file
{
	my ($path) = @_;

	open my $fh, '+<', $path or die "open: $!";
	return $fh;
}

# Writes without closing.
sub store
{
	my ($name) = @_;

	sysseek($file{$name}, $written++ % 1000, 0) or die "seek: $!";
	syswrite($file{$name}, chr(33 + $written % 90)) or die "write: $!";
}

# More writes than the queue has room for, while nobody reads it; then this.
sub flood
{
	my ($then) = @_;

	kill('STOP', $tree) or die "kill: $!";
	foreach (1 .. $queue / 2 + 1000)
	{
		store('a');
		store('b');
	}
	$then->() if $then;
	kill('CONT', $tree) or die "kill: $!";
}

sub overflows
{
	return $node->safe_psql('postgres', "SELECT overflows FROM fsync_stat WHERE repository_id = '$id'");
}

# How often the log said that.
sub times_said
{
	my ($what) = @_;

	return scalar said($node, $offset, qr/^LOG:.*directory ".*$what/);
}

# ---- twice ----

# The end of a mapping is lost with the rest, and what was stored in it last has
# left no trace in the times.
write_file("$root/calm/mapped.txt", 'x' x 100);
wait_equal($node, $id, $root, 'a file to be mapped');
my $map = map_file("$root/calm/mapped.txt");
store_mapped($map, 'one');
like(reconcile($node, $id), qr/^completed/, 'a mapped file is hashed');
is_equal($node, $id, $root, 'a mapped file');
store_mapped($map, 'two');
flood(sub { unmap_file($map); });
wait_equal($node, $id, $root, 'one overflow');
ok(wait_until(sub { overflows() == 1 }), 'one overflow: it was one');
wait_for_state($node, $id, 'watching', 'one overflow: watching again');
is(times_said('every second'), 0, 'one overflow: nothing is said of the directory');

flood();
wait_equal($node, $id, $root, 'two overflows');
ok(wait_until(sub { overflows() == 2 }), 'two overflows: there were two');
wait_for_state($node, $id, 'watching', 'two overflows: watching again');
is(times_said('busy": .*every second'), 1, 'two overflows: the log says what follows');

flood();
wait_equal($node, $id, $root, 'a third time');
is(overflows(), 2, 'a third time: nothing overflows');

# ---- nothing is missed ----

foreach my $i (1 .. 5)
{
	store('a');
	wait_equal($node, $id, $root, "a write without an event is seen by fsync_wait, $i");
}
syswrite($file{b}, 'x' x 5000) or die "write: $!";
my $size = -s "$root/busy/b";
ok( wait_until(sub {
		$node->safe_psql('postgres', qq(
SELECT file_size FROM file_records WHERE repository_id = '$id' AND file_path = 'busy/b')) == $size }),
	'and in time without it');
my $was = ids_of($node, $id)->{'busy/a'};
write_file("$root/busy/new.txt", 'new');
unlink("$root/busy/c") or die "unlink: $!";
rename("$root/busy/a", "$root/busy/renamed") or die "rename: $!";
wait_equal($node, $id, $root, 'names that come and go');
is(ids_of($node, $id)->{'busy/renamed'}, $was, 'a renamed file keeps its id');

# Renames while the directory is looked at all the time.
write_file("$root/busy/to and fro $_", $_) foreach 1 .. 200;
wait_equal($node, $id, $root, 'more files');
my $ids = ids_of($node, $id);
my $child = fork() // die "fork: $!";
if ($child == 0)
{
	my $over = 0;

	$SIG{TERM} = sub { $over = 1 };
	for (my $n = 0; !$over; $n = ($n + 1) % 200)
	{
		my ($to, $fro) = map { "$root/busy/$_ " . ($n + 1) } 'to and fro', 'fro and to';
		($to, $fro) = ($fro, $to) if !-e $to;
		rename($to, $fro) or POSIX::_exit(1);
	}
	POSIX::_exit(0);
}
# A write now and then, as half a minute without one makes the directory quiet.
foreach (1 .. 20)
{
	store('b');
	$node->safe_psql('postgres', 'SELECT fsync_wait();' x 10);
}
kill('TERM', $child);
waitpid($child, 0);
is($?, 0, 'renames to and fro: all went well');
wait_equal($node, $id, $root, 'renames to and fro');
my $now = ids_of($node, $id);
is( scalar(grep { ($now->{"busy/to and fro $_"} // $now->{"busy/fro and to $_"}) != $ids->{"busy/to and fro $_"} } 1 .. 200),
	0, 'renames to and fro: ids stay');

rename("$root/busy", "$root/calm/busy") or die "rename: $!";
store('a');
wait_equal($node, $id, $root, 'the directory was renamed');
store('b');
wait_equal($node, $id, $root, 'the directory was renamed, and written to');
is(ids_of($node, $id)->{'calm/busy/renamed'}, $was, 'the directory was renamed: ids stay');
flood();
wait_equal($node, $id, $root, 'the directory was renamed: many writes');
is(overflows(), 2, 'the directory was renamed: nothing overflows');

# ---- quiet again ----

ok(wait_until(sub { times_said('calm/busy": .*an event again') == 1 }),
	'when all is quiet it is watched as the others');
store('a');
wait_equal($node, $id, $root, 'quiet: a write is seen');
is(overflows(), 2, 'quiet: there were two overflows');
reconcile_finds_nothing($node, $id, 'in the end');

# one that goes while it is polled
flood();
wait_equal($node, $id, $root, 'a relapse');
ok(wait_until(sub { overflows() == 3 }), 'a relapse: one overflow');
is(times_said('every second'), 2, 'a relapse: is enough');
rename("$root/calm/busy", "$root.elsewhere") or die "rename: $!";
store('a');
wait_equal($node, $id, $root, 'it went away');
rename("$root.elsewhere", "$root/back") or die "rename: $!";
store('b');
wait_equal($node, $id, $root, 'it came back');
store('a');
wait_equal($node, $id, $root, 'it came back, and was written to');
reconcile_finds_nothing($node, $id, 'after it came back');
flood();
wait_equal($node, $id, $root, 'it came back: many writes');

is(tree_pid($node, $id), $tree, 'all by one fsync-tree');
log_is_quiet($node, 0, 'nothing else in the log');
$node->stop;
done_testing();
