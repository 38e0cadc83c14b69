#
# Renames are renames: files and directories that are moved keep their ids and
# are not read again, under watch and while the server was down; but another
# file is another file, whatever it looks like.  What one name of a file with
# several shows, all of them show.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncLinux;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

# What is done in several steps is looked at when all of them are done, however
# long they take.
my $node = new_node('main', conf => q(
fsync.debounce_interval = 10min
fsync.debounce_max_delay = 10min
));
my $root = new_root('photos');
my $id;

sub settle
{
	my ($name) = @_;

	return wait_equal($node, $id, $root, $name);
}

# What the operations after the given one did: added, updated, moved, removed,
# bytes hashed.
sub done_after
{
	my ($last) = @_;

	return $node->safe_psql(
		'postgres', qq(
SELECT coalesce(sum(files_added), 0), coalesce(sum(files_updated), 0),
	   coalesce(sum(files_moved), 0), coalesce(sum(files_removed), 0),
	   coalesce(sum(bytes_hashed), 0)
FROM sync_operations WHERE repository_id = '$id' AND id > $last));
}

# Renames are done by $do, as a hash of new path => old path says; the rest of
# the rows is to be as before.  Of what was renamed while nobody watched, each
# file has another ctime, and is read again; not those below a directory.
sub renamed
{
	my ($name, $expected, $do, %opt) = @_;
	my $before = ids_of($node, $id);
	my $last = latest_operation($node, $id);

	$node->stop if $opt{down};
	$do->();
	$node->start if $opt{down};
	settle($name);

	my $after = ids_of($node, $id);
	my %wanted = %$before;
	delete $wanted{$_} foreach values %$expected;
	$wanted{$_} = $before->{ $expected->{$_} } foreach keys %$expected;
	delete $wanted{$_} foreach @{ $opt{gone} || [] };
	is_deeply($after, \%wanted, "$name: ids are kept");

	my $moved = scalar(keys %$expected);
	my $gone = scalar(@{ $opt{gone} || [] });
	my @updated = @{ $opt{updated} || [] };
	my $bytes = 0;
	if ($opt{down} && !$opt{directories})
	{
		$bytes += -s "$root/$_" foreach keys %$expected, @updated;
	}
	is(done_after($last), "0|" . @updated . "|$moved|$gone|$bytes",
		"$name: $moved moved, $gone removed, $bytes bytes read");
}

foreach my $d (1 .. 6)
{
	make_path("$root/d$d/sub");
	write_file("$root/d$d/$_.txt", "content $d/$_") foreach 1 .. 8;
	write_file("$root/d$d/sub/$_.txt", "deep $d/$_") foreach 1 .. 4;
}
make_path("$root/d/d/d", "$root/save");
write_file("$root/d/$_.txt", "outer $_") foreach 1 .. 3;
write_file("$root/d/d/$_.txt", "middle $_") foreach 1 .. 3;
write_file("$root/d/d/d/$_.txt", "inner $_") foreach 1 .. 3;
write_file("$root/save/$_.txt", "save $_") foreach 1 .. 9;
write_file("$root/empty $_.txt", '') foreach 1 .. 3;

# the same content many times: only the inode tells them apart
write_file("$root/twin $_.txt", 'twins') foreach 1 .. 5;

$id = add_repository($node, $root);
settle('first sync');
wait_for_state($node, $id, 'watching', 'the state becomes watching');

sub mv
{
	my ($from, $to) = @_;

	rename("$root/$from", "$root/$to") or die "rename $from, $to: $!";
}

# All below one directory under another: for renamed().
sub tree_moves
{
	my ($from, $to) = @_;

	return map { my $new = $_; $new =~ s{^\Q$from\E/}{$to/}; ($new => $_) }
	  grep { m{^\Q$from\E/} } keys %{ ids_of($node, $id) };
}

# ---- under watch, and while the server is down ----

foreach my $down (0, 1)
{
	my $how = $down ? 'while down' : 'under watch';

	renamed("a file, $how", { 'a b.txt' => 'd1/1.txt' },
		sub { mv('d1/1.txt', 'a b.txt') }, down => $down);
	renamed("and back, $how", { 'd1/1.txt' => 'a b.txt' },
		sub { mv('a b.txt', 'd1/1.txt') }, down => $down);
	renamed(
		"many at once, $how",
		{ (map { ("d3/moved $_.txt" => "d2/$_.txt") } 1 .. 8),
			'empty 4.txt' => 'empty 1.txt', 'twin 6.txt' => 'twin 1.txt' },
		sub {
			mv("d2/$_.txt", "d3/moved $_.txt") foreach 1 .. 8;
			mv('empty 1.txt', 'empty 4.txt');
			mv('twin 1.txt', 'twin 6.txt');
		}, down => $down);
	renamed(
		"back again, $how",
		{ (map { ("d2/$_.txt" => "d3/moved $_.txt") } 1 .. 8),
			'empty 1.txt' => 'empty 4.txt', 'twin 1.txt' => 'twin 6.txt' },
		sub {
			mv("d3/moved $_.txt", "d2/$_.txt") foreach 1 .. 8;
			mv('empty 4.txt', 'empty 1.txt');
			mv('twin 6.txt', 'twin 1.txt');
		}, down => $down);
	renamed("a directory, $how", { tree_moves('d1', 'z1') },
		sub { mv('d1', 'z1') }, directories => 1, down => $down);
	renamed("into another, $how", { tree_moves('z1', 'd2/sub/z1') },
		sub { mv('z1', 'd2/sub/z1') }, directories => 1, down => $down);
	renamed("and out again, $how", { tree_moves('d2/sub/z1', 'd1') },
		sub { mv('d2/sub/z1', 'd1') }, directories => 1, down => $down);
	renamed("two exchanged files, $how",
		{ 'd1/2.txt' => 'd2/sub/2.txt', 'd2/sub/2.txt' => 'd1/2.txt' },
		sub { exchange("$root/d1/2.txt", "$root/d2/sub/2.txt") }, down => $down);
	renamed("two exchanged directories, $how",
		{ tree_moves('d3', 'd4/sub'), tree_moves('d4/sub', 'd3') },
		sub { exchange("$root/d3", "$root/d4/sub") }, directories => 1, down => $down);
	renamed("exchanged back, $how",
		{ tree_moves('d3', 'd4/sub'), tree_moves('d4/sub', 'd3') },
		sub { exchange("$root/d3", "$root/d4/sub") }, directories => 1, down => $down);
	renamed(
		"a ring of names, $how",
		{ 'twin 2.txt' => 'twin 1.txt', 'twin 3.txt' => 'twin 2.txt', 'twin 1.txt' => 'twin 3.txt' },
		sub {
			mv('twin 3.txt', 'twin x.txt');
			mv('twin 2.txt', 'twin 3.txt');
			mv('twin 1.txt', 'twin 2.txt');
			mv('twin x.txt', 'twin 1.txt');
		}, down => $down);
	renamed("onto another file, $how", {},
		sub { mv('twin 4.txt', 'twin 5.txt') },
		down => $down, updated => ['twin 5.txt'], gone => ['twin 4.txt']);
	write_file("$root/twin 4.txt", 'twins');
	settle('another twin');
}

# d/d/* becomes d/*: all at once, and under names that were there before
my $before = ids_of($node, $id);
my $last = latest_operation($node, $id);
mv('d', 'old d');
mv('old d/d', 'd');
settle('d/d is d');
my $after = ids_of($node, $id);
is( join(' ', map { $after->{$_} // 'none' } 'd/1.txt', 'd/d/1.txt', 'old d/1.txt'),
	join(' ', map { $before->{$_} } 'd/d/1.txt', 'd/d/d/1.txt', 'd/1.txt'),
	'd/d is d: ids are kept');
is(done_after($last), '0|0|9|0|0', 'd/d is d: nine moved, no byte read');
renamed('and again, file by file',
	{ (map { ("d/$_.txt" => "d/d/$_.txt", "old d/o$_.txt" => "d/$_.txt") } 1 .. 3) },
	sub {
		foreach (1 .. 3)
		{
			mv("d/$_.txt", "old d/o$_.txt");
			mv("d/d/$_.txt", "d/$_.txt");
		}
	}, down => 1);

# ---- renamed and changed ----

$before = ids_of($node, $id);
mv('d5/1.txt', 'd5/renamed and changed.txt');
append_file("$root/d5/renamed and changed.txt", 'more');
mv('d5', 'z5');
write_file("$root/z5/2.txt", 'content 5/X');	# same size
settle('renamed and changed');
$after = ids_of($node, $id);
is( join(' ', map { $after->{"z5/$_"} // 'none' } 'renamed and changed.txt', '2.txt', 'sub/1.txt'),
	join(' ', map { $before->{"d5/$_"} } '1.txt', '2.txt', 'sub/1.txt'),
	'renamed and changed: ids are kept');

# ---- out of the repository, and back ----

my $outside = new_root('outside');
$before = ids_of($node, $id);
rename("$root/z5", "$outside/z5") or die "rename: $!";
settle('moved out');
write_file("$outside/z5/2.txt", 'content 5/Y');
rename("$outside/z5", "$root/d5") or die "rename: $!";
settle('moved in again, changed outside');

# to a name that is ignored, and back: written meanwhile
mv('d6/1.txt', 'd6/1.tmp');
settle('a name that is ignored');
ok(!ids_of($node, $id)->{'d6/1.tmp'}, 'a name that is ignored has no row');
write_file("$root/d6/1.tmp", 'content 6/Z');
mv('d6/1.tmp', 'd6/1.txt');
settle('a name that is not ignored any more');

# ---- another file with the same inode, size and time ----

my $time = 1_500_000_000.25;
$last = latest_operation($node, $id);
Time::HiRes::utime($time, $time, "$root/save/1.txt") or die "utime: $!";
settle('a time set');
$before = table_files($node, $id);
my $same = 0;
foreach my $down (0, 1)
{
	my $how = $down ? 'while down' : 'under watch';
	my ($inode, $new_inode);

	$node->stop if $down;
	$inode = (stat "$root/save/1.txt")[1];
	unlink("$root/save/1.txt") or die "unlink: $!";
	write_file("$root/save/other $down.txt", 'sAvE 1');
	Time::HiRes::utime($time, $time, "$root/save/other $down.txt") or die "utime: $!";
	$new_inode = (stat "$root/save/other $down.txt")[1];
	$same++ if $inode == $new_inode;
	$node->start if $down;
	settle("another file with the same inode, $how");
	my $row = table_files($node, $id)->{"save/other $down.txt"};
	isnt($row->[4], $before->{'save/1.txt'}[4], "another file, $how: has another id")
	  if $inode == $new_inode;

	write_file("$root/save/1.txt", 'save 1');
	Time::HiRes::utime($time, $time, "$root/save/1.txt") or die "utime: $!";
	settle("and a new one, $how");
	$before = table_files($node, $id);
}
diag("the inode was used again in $same of 2 cases");

# in the same name: also then the content is read
$node->stop;
unlink("$root/save/1.txt") or die "unlink: $!";
write_file("$root/save/1.txt", 'SAVE 1');
Time::HiRes::utime($time, $time, "$root/save/1.txt") or die "utime: $!";
$node->start;
settle('another file of the same name, inode, size and time');

# content changed in place, size and mtime restored: only ctime tells
foreach my $down (0, 1)
{
	$node->stop if $down;
	write_file("$root/save/1.txt", "save $down");
	Time::HiRes::utime($time, $time, "$root/save/1.txt") or die "utime: $!";
	$node->start if $down;
	settle('the same size and time' . ($down ? ', while down' : ''));
}

# ---- atomic save ----

$before = ids_of($node, $id);
foreach my $i (2 .. 9)
{
	# through a name that is ignored, and one that is not
	my $temporary = $i % 2 ? "$root/save/.$i.txt.tmp" : "$root/save/$i.txt.new";

	write_file($temporary, "saved anew $i");
	wait_ok($node, $id, 'atomic save') if $i % 4 < 2;
	rename($temporary, "$root/save/$i.txt") or die "rename: $!";
}
settle('atomic save');
$after = ids_of($node, $id);
is( join(' ', map { $after->{"save/$_.txt"} // 'none' } 3, 5, 7, 9),
	join(' ', map { $before->{"save/$_.txt"} } 3, 5, 7, 9),
	'atomic save through ignored names: the ids are kept');
is( join(' ', map { $after->{"save/$_.txt"} // 'none' } 2, 6),
	join(' ', map { $before->{"save/$_.txt"} } 2, 6),
	'atomic save faster than the debounce: the ids are kept');

# ---- hard links ----

make_path("$root/links/deep");
write_file("$root/links/one", 'linked');
link("$root/links/one", "$root/links/deep/$_") || die "link: $!" foreach 'two', 'three';
link("$root/links/one", "$root/four") or die "link: $!";
settle('hard links');
is(scalar(keys %{{ map { $_ => 1 } @{ ids_of($node, $id) }{ 'links/one', 'links/deep/two', 'links/deep/three', 'four' } }}),
	4, 'hard links: each name is a row');
write_file("$root/links/deep/two", 'written through the second');
settle('hard links: one is written');
append_file("$root/four", ' and the fourth');
settle('hard links: another is written');
truncate("$root/links/one", 3) or die "truncate: $!";
settle('hard links: one is truncated');
chmod(0600, "$root/links/one") or die "chmod: $!";
settle('hard links: mode');
reconcile_finds_nothing($node, $id, 'hard links');
mv('links', 'linked');
append_file("$root/four", ' again');
settle('hard links: renamed and written');
$node->restart;
append_file("$root/linked/one", ' after a restart');
settle('hard links: after a restart');
unlink("$root/four") or die "unlink: $!";
append_file("$root/linked/deep/three", ' one less');
settle('hard links: one less');
foreach my $i (1 .. 30)
{
	append_file("$root/linked/" . ('one', 'deep/two', 'deep/three')[ $i % 3 ], $i);
	wait_ok($node, $id, 'hard links') if $i % 7 == 0;
}
settle('hard links: written in turns');

reconcile_finds_nothing($node, $id, 'in the end');
$node->stop;
done_testing();
