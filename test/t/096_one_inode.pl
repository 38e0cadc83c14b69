#
# One inode under several names.  Hard links: each file is read once for each of
# its ctimes, whatever the number of its names, in real time, in scans and in
# the first one, and no name has a hash that was not the content.  Directories
# and files that are mounted at second places in the tree: what happens at one
# place is seen at all of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use File::Path qw(make_path remove_tree);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('snapshots');
my ($id, $seen) = (undef, 0);

sub run
{
	system(@_) == 0 or die "@_: $?";
}

# Bytes that were read for rows since this was last asked.
sub bytes_read
{
	my $sum = $node->safe_psql('postgres',
		"SELECT coalesce(sum(bytes_hashed), 0) FROM sync_operations WHERE repository_id = '$id'");
	my $bytes = $sum - $seen;

	$seen = $sum;
	return $bytes;
}

# The table is equal, and no more than this was read for it.
sub reads_at_most
{
	my ($most, $name) = @_;

	wait_equal($node, $id, $root, $name);
	cmp_ok(bytes_read(), '<=', $most, "$name: bytes read");
}

# ---- snapshots ----

my ($files, $size) = (20, 100_000);
my $all = $files * $size;

mkdir("$root/daily.0") or die "mkdir: $!";
write_file("$root/daily.0/$_", chr(64 + $_ % 26) x $size) foreach 1 .. $files;
run('cp', '-al', "$root/daily.0", "$root/daily.$_") foreach 1 .. 2;
$id = add_repository($node, $root);
reads_at_most($all, 'three snapshots, first sync');

foreach my $k (3 .. 6)
{
	run('cp', '-al', "$root/daily.0", "$root/daily.$k");
	reads_at_most($all, "cp -al daily.$k");
}
like(reconcile($node, $id), qr/^completed\|0\|0\|0\|0$/, 'a reconciliation finds nothing');
is(bytes_read(), 0, 'and reads nothing');

# A rotation: their ctimes move once, with the first unlink.
my $ids = ids_of($node, $id);
run('rm', '-rf', "$root/daily.6");
wait_equal($node, $id, $root, 'rotation: the oldest goes');
foreach my $k (reverse 3 .. 5)
{
	my $next = $k + 1;

	rename("$root/daily.$k", "$root/daily.$next") or die "rename: $!";
	wait_equal($node, $id, $root, "rotation: daily.$k becomes daily.$next");
	is(ids_of($node, $id)->{"daily.$next/1"}, $ids->{"daily.$k/1"}, 'rotation: with its ids');
}
cmp_ok(bytes_read(), '<=', $all, 'rotation: bytes read');
rename("$root/daily.2", "$root/daily.3") or die "rename: $!";
reads_at_most(0, 'another step of the rotation');
run('cp', '-al', "$root/daily.0", "$root/daily.2");
reads_at_most($all, 'another snapshot');

# While nobody watched.
$node->safe_psql('postgres', "SELECT fsync_pause('$id')");
run('chmod', '640', glob("$root/daily.0/*"));
$node->safe_psql('postgres', "SELECT fsync_resume('$id')");
reads_at_most($all, 'a chmod while paused');

# ---- many names of one file ----

my $names = 3000;
mkdir("$root/names") or die "mkdir: $!";
write_file("$root/names/0", 'n' x 20_000);
link("$root/names/0", "$root/names/$_") or die "link: $!" foreach 1 .. $names - 1;
wait_ok($node, $id, 'many names');
is(rows_of($node, $id), 7 * $files + $names, 'many names, made under watch');
bytes_read();
append_file("$root/names/17", '+');
reads_at_most(20_001, 'one byte appended');
run('touch', '-d', '2020-02-02', "$root/names/99");
reads_at_most(20_001, 'another mtime');

run('rm', '-rf', "$root/names");

# ---- what the times do not say ----

# Each name is written as it was read, so that size and mtime are as before.
foreach my $round (1 .. 10)
{
	my $name = "$root/daily." . $round % 7;
	my @s = stat("$name/1");
	open(my $f, '+<', "$name/1") or die "open: $!";
	syswrite($f, chr(96 + $round) x $size) == $size or die "write: $!";
	close($f);
	utime($s[8], $s[9], "$name/1") or die "utime: $!";
	wait_equal($node, $id, $root, "same size and mtime, round $round");
}

# A store to a page that is dirty already moves no time; the end of the mapping
# is an event of one name.
foreach my $round (1 .. 5)
{
	my $map = map_file("$root/daily.1/2");

	store_mapped($map, "first $round");
	wait_ok($node, $id, 'the first store');
	append_file("$root/daily.3/3", 'x');
	store_mapped($map, "other $round");
	run('cp', '-l', "$root/daily.0/2", "$root/daily.0/another $round");
	wait_ok($node, $id, 'the second store');
	store_mapped($map, "third $round");
	unmap_file($map);
	wait_equal($node, $id, $root, "stores through a mapping, round $round");
}
bytes_read();

# ---- a name that is gone before it is looked at ----

write_file("$root/kept", 'k' x 1000);
link("$root/kept", "$root/passing") or die "link: $!";
wait_equal($node, $id, $root, 'two names');
append_file("$root/passing", 'written');
unlink("$root/passing") or die "unlink: $!";
wait_equal($node, $id, $root, 'written through a name that is gone');
link("$root/kept", "$root/passing") or die "link: $!";
wait_equal($node, $id, $root, 'two names again');
append_file("$root/passing", 'again');
write_file("$root/new", 'n');
rename("$root/new", "$root/passing") or die "rename: $!";
wait_equal($node, $id, $root, 'written through a name that is another file');
link("$root/kept", "$root/ignored.tmp") or die "link: $!";
wait_ok($node, $id, 'an ignored name');
append_file("$root/ignored.tmp", 'not tracked');
wait_equal($node, $id, $root, 'written through a name that is not tracked');

reconcile_finds_nothing($node, $id, 'hard links');

# ---- directories and files that are mounted at a second place ----

my $tree = new_root('tree');

make_path("$tree/a/s/deep", "$tree/b", "$tree/c", "$tree/plain");
write_file("$tree/a/s/f$_", "first $_") foreach 0 .. 5;
write_file("$tree/a/s/deep/f$_", "deep $_") foreach 0 .. 2;
write_file("$tree/file", 'a file');
write_file("$tree/other", '');
my $outside = new_root('outside');
write_file("$outside/file", 'from outside');
write_file("$tree/from outside", '');
write_file("$tree/big", 'b' x 1_000_000);
write_file("$tree/big again", '');
mount_at('', "$tree/b", bind => "$tree/a");
mount_at('', "$tree/other", bind => "$tree/file");
mount_at('', "$tree/from outside", bind => "$outside/file");
mount_at('', "$tree/big again", bind => "$tree/big");
($root, $id, $seen) = ($tree, undef, 0);
$id = add_repository($node, $root);
reads_at_most(1_000_500, 'mounted before the first sync');
wait_for_state($node, $id, 'watching', 'mounted before: watching');
is(status_of($node, $id, 'reason'), '', 'nothing is wrong with that');

# Everything that can happen below one place is seen at all of them.
sub change_everything
{
	my ($name, $one, @others) = @_;
	my $tag = $name =~ tr/a-z//cdr;

	append_file("$one/s/f0", "through $one");
	append_file("$_/s/f5", "through $_") foreach @others;
	wait_equal($node, $id, $root, "$name: written");
	truncate("$one/s/f1", 3) or die "truncate: $!";
	utime(1, 1_000_000_000, "$one/s/f2") or die "utime: $!";
	write_file("$one/s/new $tag", "new $tag");
	wait_equal($node, $id, $root, "$name: truncated, touched, new");
	my $before = ids_of($node, $id);
	rename("$one/s/new $tag", "$one/s/deep/renamed $tag") or die "rename: $!";
	wait_equal($node, $id, $root, "$name: renamed");
	my $after = ids_of($node, $id);
	my ($place) = $one =~ m{^\Q$root/\E(.*)};
	is($after->{"$place/s/deep/renamed $tag"}, $before->{"$place/s/new $tag"}, "$name: with its id");
	make_path("$one/s/made $tag/in/it");
	write_file("$one/s/made $tag/in/it/$_", "made $tag") foreach 1 .. 3;
	wait_equal($node, $id, $root, "$name: new directories");
	append_file("$one/s/made $tag/in/it/1", "more");
	append_file("$_/s/made $tag/in/it/2", "more") foreach @others;
	write_file("$one/s/made $tag/in/new", "more");
	wait_equal($node, $id, $root, "$name: written in new directories");
	rename("$one/s/made $tag", "$one/moved $tag") or die "rename: $!";
	wait_equal($node, $id, $root, "$name: a directory renamed");
	append_file("$_/moved $tag/in/it/3", "moved") foreach @others;
	append_file("$one/moved $tag/in/it/2", "moved");
	wait_equal($node, $id, $root, "$name: written in a renamed directory");
	unlink("$one/moved $tag/in/it/1") or die "unlink: $!";
	chmod(0600, "$one/moved $tag/in/it/2") or die "chmod: $!";
	remove_tree("$one/moved $tag/in/it/");
	wait_equal($node, $id, $root, "$name: removed");
	write_file("$one/s/save.new", "saved $tag");
	rename("$one/s/save.new", "$one/s/f3") or die "rename: $!";
	remove_tree("$one/moved $tag");
	wait_equal($node, $id, $root, "$name: saved through a temporary file");
}

change_everything('the first place', "$tree/a", "$tree/b");
change_everything('the second place', "$tree/b", "$tree/a");

mount_at('', "$tree/c", bind => "$tree/a/s");
make_path("$tree/d");
mount_at('', "$tree/d", bind => "$tree/a");
wait_for_state($node, $id, 'watching', 'two more places: watching');
wait_ok($node, $id, 'two more places');
ok(wait_until(sub { ids_of($node, $id)->{'d/s/f1'} && ids_of($node, $id)->{'c/f1'} }), 'two more places are taken in');
wait_equal($node, $id, $root, 'two more places');
append_file("$tree/c/f1", 'through a third place');
append_file("$tree/c/deep/f1", 'through a third place');
wait_equal($node, $id, $root, 'through a part of it');
change_everything('the last place', "$tree/d", "$tree/a", "$tree/b");

# Files.
append_file("$tree/file", ' by its name');
wait_equal($node, $id, $root, 'a mounted file, by its name');
append_file("$tree/other", ' where it is mounted');
wait_equal($node, $id, $root, 'a mounted file, where it is mounted');
append_file("$outside/file", ' from outside');
wait_equal($node, $id, $root, 'a mounted file from outside, there');
append_file("$tree/from outside", ' from inside');
utime(1, 1_000_000_001, "$outside/file") or die "utime: $!";
wait_equal($node, $id, $root, 'a mounted file from outside, where it is mounted');
write_file("$outside/another", 'another');
unlink("$outside/file") or die "unlink: $!";
append_file("$tree/from outside", ' without a name');
wait_equal($node, $id, $root, 'a mounted file that has no other name');
write_file("$tree/late", 'covered soon');
wait_equal($node, $id, $root, 'a file that will be covered');
my $late = ids_of($node, $id)->{late};
mount_at('', "$tree/late", bind => "$tree/file");
ok(wait_until(sub { (table_files($node, $id)->{late}[0] // 0) == -s "$tree/file" }), 'a file mounted over a row');
append_file("$tree/late", ' late');
wait_equal($node, $id, $root, 'a file mounted over a row: written');
ok(unmount("$tree/late"), 'it can be unmounted');
ok(wait_until(sub { (table_files($node, $id)->{late}[0] // 0) == 12 }), 'and what was below is back');
append_file("$tree/late", ' again');
wait_equal($node, $id, $root, 'a file that was covered: written');
make_path("$tree/holds/it");
write_file("$tree/holds/it/mounted", '');
wait_equal($node, $id, $root, 'a directory for a mounted file');
mount_at('', "$tree/holds/it/mounted", bind => "$outside/another");
ok(wait_until(sub { (table_files($node, $id)->{'holds/it/mounted'}[0] // 0) == 7 }), 'a file mounted in a directory');
rename("$tree/holds", "$tree/held") or die "rename: $!";
wait_equal($node, $id, $root, 'the directory renamed');
append_file("$outside/another", ' written');
wait_equal($node, $id, $root, 'a mounted file in a renamed directory: written');
reconcile_finds_nothing($node, $id, 'second places');

# The first place, which has the watches, goes; and comes back.
$node->restart;
wait_for_state($node, $id, 'watching', 'after a restart');
wait_equal($node, $id, $root, 'after a restart');
foreach my $place ('b', 'd')
{
	ok(unmount("$tree/$place"), "$place can be unmounted");
	wait_ok($node, $id, "$place unmounted");
	like(reconcile($node, $id, args => 'force => true'), qr/^completed/, "$place: accepted by force");
	wait_equal($node, $id, $root, "$place unmounted");
	change_everything("without $place", "$tree/a");
}
mount_at('', "$tree/b", bind => "$tree/a");
like(reconcile($node, $id, args => 'force => true'), qr/^completed/, 'mounted again');
wait_equal($node, $id, $root, 'mounted again');
change_everything('again', "$tree/b", "$tree/a");
reconcile_finds_nothing($node, $id, 'mounts that come and go');

# ---- a directory mounted in itself, which find(1) does not list ----

$tree = new_root('self');
make_path("$tree/plain/self", "$tree/plain/x/y");
write_file("$tree/plain/x/y/$_", "x $_") foreach 1 .. 3;
$id = add_repository($node, $tree);
mount_at('', "$tree/plain/self", bind => "$tree/plain");
ok(wait_until(sub { ids_of($node, $id)->{'plain/self/x/y/1'} }), 'a directory mounted in itself is taken in');

sub sizes
{
	my ($name, %sizes) = @_;
	my $table = table_files($node, $id) if wait_ok($node, $id, $name);

	is($table->{$_}[0], $sizes{$_}, "$name: $_") foreach sort keys %sizes;
}

append_file("$tree/plain/x/y/1", 'outside');
append_file("$tree/plain/self/x/y/2", 'inside');
write_file("$tree/plain/self/x/new", 'inside');
sizes('mounted in itself', 'plain/x/y/1' => 10, 'plain/self/x/y/1' => 10, 'plain/x/y/2' => 9,
	'plain/self/x/y/2' => 9, 'plain/x/new' => 6, 'plain/self/x/new' => 6);
make_path("$tree/plain/self/self/z");
write_file("$tree/plain/self/self/z/1", 'hidden from one side');
write_file("$tree/plain/self/z", 'not hidden');
sizes('below the mount point', 'plain/self/self/z/1' => 20, 'plain/self/z' => 10, 'plain/z' => 10);
rename("$tree/plain/x", "$tree/plain/w") or die "rename: $!";
append_file("$tree/plain/self/w/y/3", 'moved');
sizes('a directory renamed', 'plain/w/y/3' => 8, 'plain/self/w/y/3' => 8, 'plain/self/w/new' => 6);
is(rows_of($node, $id), 11, 'and nothing else is there');
reconcile_finds_nothing($node, $id, 'mounted in itself');

$node->stop;
done_testing();
