#
# What happens above the root, of which no event tells: a directory on the way
# is renamed, replaced or removed, a symbolic link on the way leads elsewhere.
# Whoever waits is not told that the table equals the disk, the rows stay, the
# state says why, and when the path leads to the directory again all is well.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use File::Path qw(make_path remove_tree);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

# Renames that must not fail.
sub move
{
	my ($from, $to) = @_;

	rename($from, $to) or die "could not rename $from to $to: $!";
}

# fsync_wait() of one repository: its result and what it says.
sub wait_says
{
	my ($id, $timeout) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"SELECT fsync_wait('$id', timeout => '" . ($timeout // '2 min') . "')");

	return ($out, $err);
}

# The barrier is not passed, and says so at once; the rows stay.
sub stands_still
{
	my ($id, $rows, $state, $reason, $name) = @_;
	my ($out, $err) = wait_says($id);

	is($out, 'f', "$name: fsync_wait() is not true");
	like($err, qr/WARNING: .*is \Q$state\E and was not waited for.*DETAIL: .*$reason/s,
		"$name: it says why");
	is_deeply(ids_of($node, $id), $rows, "$name: the rows stay");
	wait_for_state($node, $id, $state, "$name: the state is $state");
	isnt(status_of($node, $id, 'hint'), '', "$name: there is a hint");
}

sub comes_back
{
	my ($id, $root, $name) = @_;

	wait_for_state($node, $id, 'watching', "$name: heals without help");
	wait_equal($node, $id, $root, "$name: afterwards");
}

#-----------------------------------------------------------------------
# Directories above
#-----------------------------------------------------------------------

my $base = new_root('base');

make_path("$base/cur/deep/lib/sub", "$base/next/deep/lib/sub");
write_file("$base/cur/deep/lib/f$_", "one $_") foreach 1 .. 20;
write_file("$base/next/deep/lib/f$_", "two $_") foreach 1 .. 3;
write_file("$base/cur/deep/lib/sub/$_", "sub $_") foreach 1 .. 5;

my $root = "$base/cur/deep/lib";
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
wait_for_state($node, $id, 'watching', 'it is watched');
my $ids = ids_of($node, $id);

# level: which directory; another tree may come in its place
foreach my $step ([ 'cur', 'next', 'an ancestor is replaced' ],
	[ 'cur', undef, 'an ancestor is renamed away' ],
	[ 'cur/deep', 'next/deep', 'the parent is replaced' ],
	[ 'cur/deep', undef, 'the parent is renamed away' ])
{
	my ($what, $instead, $name) = @$step;

	move("$base/$what", "$base/old");
	move("$base/$instead", "$base/$what") if $instead;
	write_file("$root/new", 'x') if $instead;
	stands_still($id, $ids, 'unavailable', $instead ? qr/not the one/ : qr/No such file/, $name);
	like(reconcile($node, $id), qr/^failed/, "$name: a reconciliation fails");
	is_deeply(ids_of($node, $id), $ids, "$name: the rows stay, also then");
	if ($instead)
	{
		unlink("$root/new") or die "unlink: $!";
		move("$base/$what", "$base/$instead");
	}

	# what was changed at the other place is seen, too
	append_file("$base/old/" . ($what eq 'cur' ? 'deep/' : '') . 'lib/f1', $name);
	move("$base/old", "$base/$what");
	comes_back($id, $root, $name);
	is_deeply(ids_of($node, $id), $ids, "$name: with all ids");
}

# a directory of the same name, made by hand, and one that cannot be searched
move("$base/cur", "$base/old");
make_path($root);
write_file("$root/f1", 'x');
stands_still($id, $ids, 'unavailable', qr/not the one/, 'made anew');
remove_tree("$base/cur");
move("$base/old", "$base/cur");
comes_back($id, $root, 'made anew');
chmod(0, "$base/cur") or die "chmod: $!";
stands_still($id, $ids, 'unavailable', qr/Permission denied/, 'closed');
chmod(0755, "$base/cur") or die "chmod: $!";
comes_back($id, $root, 'closed');

# nobody waits: who looks at the state finds it, as a sign of life is asked for
move("$base/cur", "$base/old");
wait_for_state($node, $id, 'unavailable', 'asked for its state: unavailable');
move("$base/old", "$base/cur");
comes_back($id, $root, 'asked for its state');

#-----------------------------------------------------------------------
# Through a symbolic link
#-----------------------------------------------------------------------

make_path("$base/v1/photos", "$base/v2/photos");
write_file("$base/v1/photos/f$_", "v1 $_") foreach 1 .. 5;
write_file("$base/v2/photos/f$_", "v2 $_") foreach 1 .. 9;
symlink("$base/v1", "$base/link") or die "symlink: $!";

# by the link itself, with a user area, with a link on the way and one at the end
symlink("$base/link/photos", "$base/last") or die "symlink: $!";
my $by_area = add_repository($node, "$base/link", args => "user_area => 'photos'");

wait_equal($node, $by_area, "$base/v1/photos", 'through a link: first sync');
wait_for_state($node, $by_area, 'watching', 'through a link: it is watched');
my $v1_ids = ids_of($node, $by_area);

sub point_link
{
	my ($to) = @_;

	unlink("$base/link") or die "unlink: $!";
	return unless defined $to;
	symlink("$base/$to", "$base/link") or die "symlink: $!";
}

foreach my $to ('v2', undef)
{
	my $name = $to ? 'the link leads elsewhere' : 'the link is gone';

	point_link($to);
	stands_still($by_area, $v1_ids, 'degraded',
		qr/path "\S+link\/photos" does not lead to the registered directory/, $name);
	like(status_of($node, $by_area, 'hint'), qr/fsync_add_repository/, "$name: the hint");
	like(reconcile($node, $by_area, args => 'force => true'), qr/^completed\|0\|0\|0\|0$/,
		"$name: force does not follow it");
	is_deeply(ids_of($node, $by_area), $v1_ids, "$name: no row of the other place");

	# over a restart
	$node->restart;
	wait_for_state($node, $by_area, 'degraded', "$name: also after a restart");
	is((wait_says($by_area))[0], 'f', "$name: nor is fsync_wait() true then");
	is_deeply(ids_of($node, $by_area), $v1_ids, "$name: the rows stay, over a restart");
	symlink("$base/v1", "$base/link") or die "symlink: $!" unless $to;
	point_link('v1') if $to;
	wait_equal($node, $by_area, "$base/v1/photos", "$name: and back again");
	wait_for_state($node, $by_area, 'watching', "$name: it is watched again");
}

# the last step is a link, to a link
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$by_area')");
my $by_last = add_repository($node, "$base/last");
wait_equal($node, $by_last, "$base/v1/photos", 'the last step is a link');
point_link('v2');
is((wait_says($by_last))[0], 'f', 'the last step is a link: one behind it leads elsewhere');
wait_for_state($node, $by_last, 'degraded', 'the last step is a link: degraded');

# registering the new place ends it
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$by_last')");
my $new = add_repository($node, "$base/last");
wait_equal($node, $new, "$base/v2/photos", 'registered anew');

# another way of writing the same path is none of these
my $dots = add_repository($node, "$base/./v1//photos/");
wait_equal($node, $dots, "$base/v1/photos", 'a path with dots and slashes');
wait_for_state($node, $dots, 'watching', 'a path with dots and slashes: it is watched');

$node->stop;
done_testing();
