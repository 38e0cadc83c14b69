#
# File systems that come and go: the disk with the repository is unmounted, or
# another is mounted in its place; one is mounted over a part of the tree, or
# vanishes from it.  The rows stay, the state says why, and when the right
# disks are back the table is equal to them again.  And an idle watch keeps no
# file system busy.
#
# In a namespace of its own, with tmpfs for disks.  A tmpfs is gone when it is
# unmounted, so the disks that come back are kept mounted at another place.

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
my $base = new_root('base');

mkdir("$base/$_") or die "mkdir: $!" foreach ('drawer', 'drawer/disk', 'drawer/usb', 'place');

mount_at('tmpfs', "$base/drawer/disk");
mount_at('tmpfs', "$base/drawer/usb");
my $n = make_tree("$base/drawer/disk/photos", 60);
make_path("$base/drawer/disk/photos/card/deep", "$base/drawer/disk/photos/usb");
write_file("$base/drawer/disk/photos/card/$_.txt", "card $_") foreach 1 .. 10;
write_file("$base/drawer/disk/photos/card/deep/$_.txt", "deep $_") foreach 1 .. 5;
write_file("$base/drawer/usb/$_.txt", "usb $_") foreach 1 .. 10;

my $root = "$base/place/photos";

# Everything as it should be: the disk at its place, the stick in it.
sub plug
{
	mount_at('', "$base/place", bind => "$base/drawer/disk");
	mount_at('', "$root/usb", bind => "$base/drawer/usb");
}

sub unplug
{
	my ($name) = @_;

	ok(unmount("$root/usb"), "$name: an idle watch does not keep the stick busy");
	ok(unmount("$base/place"), "$name: nor the disk");
}

plug();
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
wait_for_state($node, $id, 'watching', 'the state becomes watching');
my $ids = ids_of($node, $id);
$n = rows_of($node, $id);
is($n, scalar(keys %{ disk_files($root) }), 'all files, those of the stick too');

# Meanwhile the rows are what they were.
sub rows_stay
{
	my ($name) = @_;

	is_deeply(ids_of($node, $id), $ids, "$name: the rows stay");
}

sub state_like
{
	my ($states, $reason, $name) = @_;

	wait_for_state($node, $id, $states, "$name: $states");
	wait_for_status($node, $id, 'reason', $reason, "$name: the reason");
	isnt(status_of($node, $id, 'hint'), '', "$name: there is a hint");
}

sub healed
{
	my ($name) = @_;

	wait_for_state($node, $id, 'watching', "$name: heals without help");
	wait_equal($node, $id, $root, "$name: afterwards");
}

# ---- the disk is unmounted ----

unplug('unmounted');
state_like('unavailable', qr/No such file/, 'unmounted');
like(reconcile($node, $id), qr/^failed/, 'unmounted: a reconciliation fails');
rows_stay('unmounted');
$node->restart;
wait_for_state($node, $id, 'unavailable', 'unmounted: also after a restart');
rows_stay('unmounted, after a restart');
append_file("$base/drawer/disk/photos/card/1.txt", 'changed elsewhere');
plug();
healed('unmounted');
is_deeply(ids_of($node, $id), $ids, 'unmounted: with all ids');

# ---- another is in its place: a directory of the same name in it, and empty ----

unplug('another disk');
mount_at('tmpfs', "$base/place");
make_path("$root/usb", "$root/card");
state_like('unavailable', qr/not the one/, 'another disk');
wait_for_status($node, $id, 'hint', qr/force => true/, 'another disk: the hint tells of force');
like(reconcile($node, $id), qr/^failed/, 'another disk: a reconciliation fails');
rows_stay('another disk');
write_file("$root/stranger.txt", 'x');
$node->restart;
wait_for_state($node, $id, 'unavailable', 'another disk: also after a restart');
rows_stay('another disk, after a restart');
ok(unmount("$base/place"), 'another disk: it is not kept busy');
plug();
healed('another disk');

# ---- one is mounted over the root, and over its parent ----

foreach my $over ($root, "$base/place")
{
	my $name = $over eq $root ? 'over the root' : 'over its parent';

	mount_at('tmpfs', $over);
	state_like('unavailable', $over eq $root ? qr/not the one/ : qr/No such file/, $name);
	like(reconcile($node, $id), qr/^failed/, "$name: a reconciliation fails");
	rows_stay($name);
	ok(unmount($over), "$name: it can be unmounted");
	healed($name);
}

# ---- the stick vanishes, and an empty directory remains ----

ok(unmount("$root/usb"), 'the stick can be unmounted');
state_like('degraded', qr/mounted or unmounted at "usb"/, 'the stick vanished');
like(reconcile($node, $id), qr/^completed\|0\|0\|0\|0$/,
	'the stick vanished: a reconciliation removes nothing');
rows_stay('the stick vanished');
write_file("$root/card/while away.txt", 'x');
ok(wait_until(sub { ids_of($node, $id)->{'card/while away.txt'} }),
	'the stick vanished: the rest is watched');
unlink("$root/card/while away.txt") or die "unlink: $!";
ok(wait_until(sub { !ids_of($node, $id)->{'card/while away.txt'} }),
	'the stick vanished: removals in the rest are seen');
$node->restart;
wait_for_state($node, $id, 'degraded', 'the stick vanished: also after a restart');
rows_stay('the stick vanished, after a restart');
append_file("$base/drawer/usb/1.txt", 'changed elsewhere');
mount_at('', "$root/usb", bind => "$base/drawer/usb");
healed('the stick is back');
is_deeply(ids_of($node, $id), $ids, 'the stick is back: with all ids');
append_file("$root/usb/2.txt", 'watched');
wait_equal($node, $id, $root, 'the stick is back, and watched');

# ---- one is mounted over a directory that is watched, and taken away ----

mount_at('tmpfs', "$root/card");
write_file("$root/card/not a photo.txt", 'x');
write_file("$root/card/1.txt", 'not the same file');
state_like('degraded', qr/mounted or unmounted at "card"/, 'a part is hidden');
like(reconcile($node, $id), qr/^completed\|0\|0\|0\|0$/,
	'a part is hidden: a reconciliation finds nothing');
rows_stay('a part is hidden');
append_file("$root/usb/3.txt", 'more');
my $hash = Digest::SHA->new(256)->addfile("$root/usb/3.txt")->hexdigest;
ok(wait_until(sub { (table_files($node, $id)->{'usb/3.txt'}[3] // '') eq $hash }),
	'a part is hidden: the rest is watched');
append_file("$base/drawer/disk/photos/card/2.txt", 'hidden');
ok(unmount("$root/card"), 'a part is hidden: it is not kept busy');
healed('no part is hidden');
is_deeply(ids_of($node, $id), $ids, 'no part is hidden: with all ids');
append_file("$root/card/deep/3.txt", 'watched');
wait_equal($node, $id, $root, 'no part is hidden, and all is watched');

# ---- the same, meant to last ----

mount_at('tmpfs', "$root/card");
write_file("$root/card/new.txt", 'new');
write_file("$root/card/1.txt", 'a new one');
state_like('degraded', qr/mounted or unmounted at "card"/, 'meant to last');
like(reconcile($node, $id, args => 'force => true'), qr/^completed/, 'meant to last: accepted by force');
healed('meant to last');
ok(!ids_of($node, $id)->{'card/deep/1.txt'}, 'meant to last: what it hides is gone');
append_file("$root/card/new.txt", 'watched');
wait_equal($node, $id, $root, 'meant to last, and watched');
ok(unmount("$root/card"), 'meant to last: it is not kept busy');
wait_for_state($node, $id, 'degraded', 'meant to last: now its absence is what is wrong');
like(reconcile($node, $id, args => 'force => true'), qr/^completed/, 'and accepted by force');
healed('as before');

# ---- a new one where no row is: nothing to be asked ----

mkdir("$root/empty") or die "mkdir: $!";
wait_ok($node, $id, 'a new directory');
mount_at('tmpfs', "$root/empty");
write_file("$root/empty/$_.txt", $_) foreach 1 .. 5;
ok(wait_until(sub { scalar(grep { m{^empty/} } keys %{ ids_of($node, $id) }) == 5 }),
	'a file system mounted where no rows are is taken in');
healed('a new file system');

# ---- an ancestor is renamed; the mounts go with it ----

$ids = ids_of($node, $id);
mkdir("$base/above") or die "mkdir: $!";
mkdir("$base/above/between") or die "mkdir: $!";
make_path("$base/above/between/root");
write_file("$base/above/between/root/$_", $_) foreach 1 .. 20;
mkdir("$base/above/between/root/mounted") or die "mkdir: $!";
mount_at('tmpfs', "$base/above/between/root/mounted");
write_file("$base/above/between/root/mounted/$_", "m$_") foreach 1 .. 5;
my $other = add_repository($node, "$base/above/between/root");
wait_equal($node, $other, "$base/above/between/root", 'ancestor: first sync');
rename("$base/above", "$base/renamed") or die "rename: $!";
like(reconcile($node, $other), qr/^failed/, 'ancestor renamed: a reconciliation fails');
is(rows_of($node, $other), 25, 'ancestor renamed: the rows stay');
wait_for_state($node, $other, 'unavailable', 'ancestor renamed: unavailable');
rename("$base/renamed", "$base/above") or die "rename: $!";
wait_for_state($node, $other, 'watching', 'ancestor is back: heals without help');
wait_equal($node, $other, "$base/above/between/root", 'ancestor is back');
rows_stay('ancestor of another repository');

# ---- the last mount of a file system goes: IN_UNMOUNT, and its files are gone ----

ok(unmount("$base/above/between/root/mounted"), 'the last mount can be unmounted');
wait_for_state($node, $other, 'degraded', 'the last mount: degraded');
is(rows_of($node, $other), 25, 'the last mount: the rows stay');
is(reconcile($node, $other, args => 'force => true'), 'completed|0|0|0|5',
	'the last mount: removed by force');
wait_equal($node, $other, "$base/above/between/root", 'the last mount');

mkdir("$base/only") or die "mkdir: $!";
mount_at('tmpfs', "$base/only");
write_file("$base/only/$_", $_) foreach 1 .. 7;
my $only = add_repository($node, "$base/only");
wait_equal($node, $only, "$base/only", 'a root that is a mount');
ok(unmount("$base/only"), 'a root that is a mount can be unmounted');
wait_for_state($node, $only, 'unavailable', 'a root that is a mount: unavailable');
is(rows_of($node, $only), 7, 'a root that is a mount: the rows stay');
like(reconcile($node, $only), qr/^failed/, 'a root that is a mount: a reconciliation fails');
mount_at('tmpfs', "$base/only");
write_file("$base/only/new", 'new');
like(reconcile($node, $only, args => 'force => true'), qr/^completed/,
	'a root that is a mount: another by force');
wait_equal($node, $only, "$base/only", 'a root that is a mount, another one');

reconcile_finds_nothing($node, $_, 'in the end') foreach ($id, $other, $only);
$node->stop;
done_testing();
