#
# Events that were lost are made good without help: the kernel's queue
# overflows, the root goes away in every way that a root can.  Meanwhile no row
# is removed that should not be, the state says what is wrong and what to do,
# and the log says so once when it begins and once when it ends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncLinux;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

# fsync-tree is stopped for a while, which is not to be taken for a hang.
my $node = new_node('main', conf => 'fsync.helper_timeout = 600s');
my $root = new_root('photos');

# ---- the queue overflows ----

write_file("$root/top.txt", 'top');
foreach my $d (1 .. 8)
{
	make_path("$root/dir$d/sub");
	write_file("$root/dir$d/$_.txt", "$d/$_") foreach 1 .. 20;
	write_file("$root/dir$d/sub/deep.txt", "$d deep");
}
mkdir("$root/flood") or die "mkdir: $!";
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
wait_for_state($node, $id, 'watching', 'the state becomes watching');
my $ids = ids_of($node, $id);
my $tree = tree_pid($node, $id);
my $worker = worker_pid($node, 'postgres');
my $offset = -s $node->logfile;
my $last = latest_operation($node, $id);

kill('STOP', $tree) or die "kill: $!";

# some before the kernel's queue of 16,384 events is full, the rest after it
write_file("$root/flood/$_", $_) foreach 1 .. 9000;
rename("$root/dir1", "$root/dir2/was dir1") or die "rename: $!";
exchange("$root/dir3", "$root/dir4");
rename("$root/dir5/1.txt", "$root/dir6/renamed.txt") or die "rename: $!";
rename("$root/dir5/2.txt", "$root/dir5/3.txt") or die "rename: $!";
write_file("$root/dir6/2.txt", 'changed unseen');
remove_tree("$root/dir7");
mkdir("$root/dir7") or die "mkdir: $!";
write_file("$root/dir7/another dir7.txt", 'x');
make_path("$root/unseen/deeper");
write_file("$root/unseen/deeper/file.txt", 'unseen');
rename("$root/flood", "$root/flood2") or die "rename: $!";
write_file("$root/flood2/$_", $_) foreach 9001 .. 20_000;
kill('CONT', $tree) or die "kill: $!";

wait_equal($node, $id, $root, 'overflow');
wait_for_state($node, $id, 'watching', 'overflow: watching again without help');
is(tree_pid($node, $id), $tree, 'overflow: by the same fsync-tree');
is(worker_pid($node, 'postgres'), $worker, 'overflow: and the same worker');

my $now = ids_of($node, $id);
my %expected = (
	'dir2/was dir1/7.txt' => 'dir1/7.txt',
	'dir2/was dir1/sub/deep.txt' => 'dir1/sub/deep.txt',
	'dir3/5.txt' => 'dir4/5.txt',
	'dir4/5.txt' => 'dir3/5.txt',
	'dir6/renamed.txt' => 'dir5/1.txt',
	'dir5/3.txt' => 'dir5/3.txt',	# was overwritten
	'dir6/2.txt' => 'dir6/2.txt');
is( join(' ', map { $now->{$_} // 'none' } sort keys %expected),
	join(' ', map { $ids->{ $expected{$_} } } sort keys %expected),
	'overflow: lost renames kept the ids');

my @said = said($node, $offset, qr/^(?:LOG|WARNING):\s+repository "/);
is(scalar(grep { /were lost.*overflow/ } @said), 1, 'overflow: the log says once that it begins')
  or diag(join("\n", @said));
is(scalar(grep { /has been compared/ } @said), 1, 'overflow: and once that it is over')
  or diag(join("\n", @said));
is(scalar(@said), 2, 'overflow: and no more') or diag(join("\n", @said));
like(
	$node->safe_psql('postgres', qq(
SELECT string_agg(reason, ',') FROM sync_operations
WHERE repository_id = '$id' AND id > $last AND operation_type = 'reconciliation')),
	qr/lost|overflow/, 'overflow: the reconciliation says why it ran');

# and is as watchful as before
write_file("$root/unseen/deeper/file.txt", 'seen');
write_file("$root/dir2/was dir1/new.txt", 'new');
rename("$root/flood2", "$root/flood3") or die "rename: $!";
wait_equal($node, $id, $root, 'overflow: afterwards');
reconcile_finds_nothing($node, $id, 'overflow');
remove_tree("$root/flood3");
wait_equal($node, $id, $root, 'overflow: its files removed');

# ---- ways to lose a root ----

my $n = rows_of($node, $id);
$ids = ids_of($node, $id);

# Takes the root away and gives it back by the functions; meanwhile the rows
# stay and the state has a reason that matches and a hint.
sub lose_root
{
	my ($name, $reason, $lose, $find) = @_;
	my $from = -s $node->logfile;

	$lose->();
	wait_for_state($node, $id, 'unavailable', "$name: unavailable");
	# that it was away, before another took its place, may have been seen too
	wait_for_status($node, $id, 'reason', $reason, "$name: the reason");
	isnt(status_of($node, $id, 'hint'), '', "$name: there is a hint");
	like(reconcile($node, $id), qr/^failed/, "$name: a reconciliation fails");
	is(rows_of($node, $id), $n, "$name: the rows stay");
	$find->();
	wait_for_state($node, $id, 'watching', "$name: heals without help");
	wait_equal($node, $id, $root, "$name: afterwards");

	my @lines = said($node, $from, qr/^WARNING:.*repository/);
	is(scalar(@lines), 1, "$name: the log says once what is wrong")
	  or diag(join("\n", @lines));
	@lines = said($node, $from, qr/^LOG:.*repository.*watched again/);
	is(scalar(@lines), 1, "$name: and once that it is over")
	  or diag(join("\n", @lines));
}

sub away { rename($root, "$root.away") or die "rename: $!"; }
sub back { rename("$root.away", $root) or die "rename: $!"; }

lose_root('renamed away', qr/No such file/, \&away, sub {
	write_file("$root.away/top.txt", 'changed while away');
	rename("$root.away/dir8", "$root.away/dir9") or die "rename: $!";
	rename("$root.away/dir9/1.txt", "$root.away/one.txt") or die "rename: $!";
	back();
});
$now = ids_of($node, $id);
is( join(' ', map { $now->{$_} // 'none' } 'top.txt', 'dir9/2.txt', 'one.txt'),
	join(' ', map { $ids->{$_} } 'top.txt', 'dir8/2.txt', 'dir8/1.txt'),
	'renamed away: ids of what was renamed meanwhile');

lose_root('another directory', qr/not the one/, sub {
	away();
	mkdir($root) or die "mkdir: $!";
	write_file("$root/top.txt", 'another');
}, sub {
	# a moment without any, as a user would do it
	remove_tree($root);
	back();
});

lose_root('exchanged', qr/not the one/, sub {
	mkdir("$root.away") or die "mkdir: $!";
	exchange($root, "$root.away");
}, sub {
	exchange($root, "$root.away");
	rmdir("$root.away") or die "rmdir: $!";
});

lose_root('a file', qr/Not a directory|not the one/, sub {
	away();
	write_file($root, 'a file');
}, sub {
	unlink($root) or die "unlink: $!";
	back();
});

lose_root('a dangling link', qr/symbolic link/, sub {
	away();
	symlink("$root.nowhere", $root) or die "symlink: $!";
}, sub {
	unlink($root) or die "unlink: $!";
	back();
});

lose_root('unreadable', qr/Permission denied/, sub {
	chmod(0, $root) or die "chmod: $!";
}, sub {
	chmod(0755, $root) or die "chmod: $!";
});

lose_root('lost while the server is down', qr/No such file/, sub {
	$node->stop;
	away();
	$node->start;
}, sub {
	unlink("$root.away/top.txt") or die "unlink: $!";
	write_file("$root.away/top2.txt", 'x');
	back();
});

lose_root('replaced while the server is down', qr/not the one/, sub {
	$node->stop;
	away();
	mkdir($root) or die "mkdir: $!";
	$node->start;
}, sub {
	rmdir($root) or die "rmdir: $!";
	back();
});

# a parent that may not be entered
my $outer = new_root('outer');
mkdir("$outer/root") or die "mkdir: $!";
write_file("$outer/root/$_", $_) foreach 1 .. 30;
my $outer_id = add_repository($node, "$outer/root");
wait_equal($node, $outer_id, "$outer/root", 'below a parent');
chmod(0, $outer) or die "chmod: $!";
like(reconcile($node, $outer_id), qr/^failed/, 'a closed parent: a reconciliation fails');
is(rows_of($node, $outer_id), 30, 'a closed parent: the rows stay');
wait_for_state($node, $outer_id, 'unavailable', 'a closed parent: unavailable');
chmod(0755, $outer) or die "chmod: $!";
wait_for_state($node, $outer_id, 'watching', 'a closed parent: heals without help');
wait_equal($node, $outer_id, "$outer/root", 'a closed parent: afterwards');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$outer_id')");

# ---- removed, with all that is in it, and made anew ----

remove_tree($root);
wait_for_state($node, $id, 'unavailable', 'removed: unavailable');
mkdir($root) or die "mkdir: $!";
write_file("$root/new life.txt", 'x');
$node->poll_query_until('postgres',
	"SELECT hint ~ 'force' FROM fsync_status('$id')");
like(status_of($node, $id, 'hint'), qr/force => true/, 'made anew: the hint says what to do');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE repository_id = '$id' AND file_path = 'new life.txt'"),
	'0', 'made anew: it is not taken for the old one');
like(reconcile($node, $id, args => 'force => true'), qr/^completed\|1\|0\|0\|/,
	'made anew: accepted by force');
wait_equal($node, $id, $root, 'made anew');
wait_for_state($node, $id, 'watching', 'made anew: watching');
write_file("$root/more.txt", 'x');
wait_equal($node, $id, $root, 'made anew: and watched');

# Nothing is left running, nothing was loud but what was asked for.
is($node->safe_psql('postgres', "SELECT count(*) FROM sync_operations WHERE status = 'running'"),
	'0', 'no operation is left running');
log_is_quiet($node, 0, 'nothing else in the log',
	qr/WARNING:.*repository ".*" is (?:unavailable|degraded)/,
	qr/ERROR:.*(?:reconcil|scan|could not open directory|not the one that was registered)/);

$node->stop;
done_testing();
