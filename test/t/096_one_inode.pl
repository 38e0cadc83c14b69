#
# One inode under several names.  Hard links: each file is read once for each of
# its ctimes, whatever the number of its names, in real time, in scans and in
# the first one, and no name has a hash that was not the content.
#
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
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
wait_equal($node, $id, $root, 'many names');
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
$node->stop;
done_testing();
