#
# The same on every file system: what people do to files under watch and while
# the server is down, then the comparison; what each of them can do more
# (reflinks, subvolumes and snapshots, layers); and those that fold names, where
# stat succeeds for spellings that no directory lists.
#
# test/disks.sh mounts them, which only root can do; tmpfs and overlay are
# mounted here.  What is missing is skipped, by name.

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

my $disks = $ENV{FSYNC_TEST_DISKS};
my $base = new_root('base');
my %place;						# type => a directory on it

foreach my $type (qw(ext4 ext2 xfs btrfs vfat exfat ntfs mergerfs))
{
	next unless defined $disks && -d "$disks/$type" && -w "$disks/$type";
	$place{$type} = "$disks/$type";
}
mkdir "$base/$_" or die "mkdir: $!" foreach ('tmpfs', 'overlay', 'lower', 'layers');
$place{tmpfs} = "$base/tmpfs" if eval { mount_at('tmpfs', "$base/tmpfs"); 1 };
make_path("$base/lower/old/deep");
write_file("$base/lower/$_", "lower $_") foreach ('a.txt', 'old/b.txt', 'old/deep/c.txt');
if (eval { mount_at('tmpfs', "$base/layers"); 1 })
{
	mkdir "$base/layers/$_" or die "mkdir: $!" foreach ('upper', 'work');
	$place{overlay} = "$base/overlay"
	  if eval {
		mount_at('overlay', "$base/overlay",
			options => "lowerdir=$base/lower,upperdir=$base/layers/upper,workdir=$base/layers/work");
		1;
	  };
}

# which fold names, which know a time of birth, and which report no changes of
# others, so that their state says so
my %folds = map { $_ => 1 } qw(vfat exfat ntfs);
my %has_birth = map { $_ => 1 } qw(ext4 xfs btrfs tmpfs);

my @types = qw(ext4 ext2 xfs btrfs tmpfs overlay vfat exfat ntfs mergerfs);
my @missing = grep { !$place{$_} } @types;

note('file systems: ' . join(' ', grep { $place{$_} } @types));
foreach my $type (@missing)
{
  SKIP:
	{
		skip "no $type: test/disks.sh, which needs root and its programs, has not mounted it", 1;
	}
}
@types = grep { $place{$_} } @types;
plan skip_all => 'no file system is to be had' unless @types;

my $node = new_node('main');
my (%root, %id);

sub move
{
	my ($from, $to) = @_;

	rename($from, $to) or die "could not rename $from to $to: $!";
}

# lowntfs-3g has names for a while, in the kernel's cache, that it does not know
# any more: its listing and its stat agree a second later.
sub equal
{
	my ($type, $name) = @_;
	my $settled = sub {
		$node->safe_psql('postgres', "SELECT fsync_wait('$id{$type}')");
		return eval {
			differences(disk_files($root{$type}), table_files($node, $id{$type})) eq '';
		};
	};

	return wait_equal($node, $id{$type}, $root{$type}, "$type: $name") if $type ne 'ntfs';
	return wait_until($settled, "$type: $name: table equals disk before long");
}

# Nothing was missed, by another comparison.
sub complete
{
	my ($type, $name) = @_;

	reconcile_finds_nothing($node, $id{$type}, "$type: $name");
}

#-----------------------------------------------------------------------
# Everywhere
#-----------------------------------------------------------------------

# Files with plain names, as some of these file systems know no others.
sub fill
{
	my ($dir) = @_;

	foreach my $d (1 .. 6)
	{
		make_path("$dir/dir $d/sub");
		write_file("$dir/dir $d/img_$_.jpg", "$d/$_ " x (50 * $_)) foreach 1 .. 8;
		write_file("$dir/dir $d/sub/deep.txt", "deep $d");
	}
}

sub change
{
	my ($dir) = @_;

	append_file("$dir/dir 1/img_1.jpg", 'more');
	write_file("$dir/dir 1/img_2.jpg", 'other');
	write_file("$dir/dir 1/img_3.jpg.tmp", 'saved anew');
	move("$dir/dir 1/img_3.jpg.tmp", "$dir/dir 1/img_3.jpg");
	truncate("$dir/dir 1/img_4.jpg", 5) or die "truncate: $!";
	utime(1_500_000_000, 1_500_000_000, "$dir/dir 1/img_5.jpg") or die "utime: $!";
	move("$dir/dir 2/img_1.jpg", "$dir/dir 3/moved.jpg");
	move("$dir/dir 4", "$dir/renamed");
	write_file("$dir/renamed/after.txt", 'after');
	unlink("$dir/dir 5/img_1.jpg") or die "unlink: $!";
	remove_tree("$dir/dir 6");
	make_path("$dir/new/a/b");
	write_file("$dir/new/a/b/c.txt", 'at once');
}

foreach my $type (@types)
{
	$root{$type} = "$place{$type}/root";
	mkdir $root{$type} or die "mkdir: $!";
	fill($root{$type});
	$id{$type} = add_repository($node, $root{$type});
}
if ($place{overlay})
{
	# what is there below, too
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id{overlay}')");
	$root{overlay} = $place{overlay};
	$id{overlay} = add_repository($node, $root{overlay});
}
equal($_, 'first sync') foreach @types;

my %ids = map { $_ => ids_of($node, $id{$_}) } @types;

change($_ eq 'overlay' ? "$root{$_}/root" : $root{$_}) foreach @types;
foreach my $type (@types)
{
	my $in = $type eq 'overlay' ? 'root/' : '';

	equal($type, 'changed under watch');
	my $now = ids_of($node, $id{$type});
	is($now->{"${in}dir 1/img_3.jpg"}, $ids{$type}->{"${in}dir 1/img_3.jpg"},
		"$type: a file that was saved anew keeps its id")
	  if $has_birth{$type};
	next unless $has_birth{$type};
	is($now->{"${in}dir 3/moved.jpg"}, $ids{$type}->{"${in}dir 2/img_1.jpg"},
		"$type: a renamed file keeps its id");
	is($now->{"${in}renamed/img_2.jpg"}, $ids{$type}->{"${in}dir 4/img_2.jpg"},
		"$type: files of a renamed directory keep theirs");
}
complete($_, 'after changes under watch') foreach @types;

# while nobody watches
%ids = map { $_ => ids_of($node, $id{$_}) } @types;
$node->stop;
foreach my $type (@types)
{
	my $dir = $type eq 'overlay' ? "$root{$type}/root" : $root{$type};

	move("$dir/renamed", "$dir/dir 4");
	move("$dir/dir 3/moved.jpg", "$dir/dir 2/img_1.jpg");
	append_file("$dir/dir 2/img_2.jpg", 'while down');
	unlink("$dir/dir 2/img_3.jpg") or die "unlink: $!";
	write_file("$dir/dir 2/new.txt", 'while down');
}
$node->start;
foreach my $type (@types)
{
	equal($type, 'changed while down');
	next unless $has_birth{$type};
	my $now = ids_of($node, $id{$type});
	is($now->{'dir 2/img_1.jpg'}, $ids{$type}->{'dir 3/moved.jpg'},
		"$type: renamed while down, a file keeps its id");
	is($now->{'dir 4/img_2.jpg'}, $ids{$type}->{'renamed/img_2.jpg'},
		"$type: and those of a directory");
}
complete($_, 'after changes while down') foreach @types;

#-----------------------------------------------------------------------
# Clones, subvolumes, layers
#-----------------------------------------------------------------------

foreach my $type (grep { $place{$_} } qw(xfs btrfs))
{
	my $dir = $root{$type};

	is(system('cp', '--reflink=always', "$dir/dir 2/img_8.jpg", "$dir/clone.jpg"), 0,
		"$type: a file is cloned");
	equal($type, 'cloned');
	append_file("$dir/clone.jpg", 'and changed');
	equal($type, 'a clone is changed');
	complete($type, 'clones');
}

SKIP:
{
	skip 'no btrfs with its programs: no subvolumes', 1
	  unless $place{btrfs} && system('btrfs --version >/dev/null 2>&1') == 0;
	my $dir = $root{btrfs};
	my $run = sub {
		my $said = `btrfs @_ 2>&1`;
		is($?, 0, "btrfs: @_") or diag($said);
	};

	$run->("subvolume create '$dir/vol'");
	write_file("$dir/vol/f$_", "volume $_") foreach 1 .. 5;
	mkdir "$dir/vol/sub" or die "mkdir: $!";
	write_file("$dir/vol/sub/g", 'deep');
	equal('btrfs', 'a subvolume');
	$run->("subvolume snapshot '$dir/vol' '$dir/snap'");
	equal('btrfs', 'a snapshot');
	append_file("$dir/snap/f1", 'changed in the snapshot');
	append_file("$dir/vol/sub/g", 'changed in the volume');
	equal('btrfs', 'both are changed');
	complete('btrfs', 'subvolumes');
	move("$dir/snap", "$dir/kept");
	equal('btrfs', 'a snapshot is renamed');
	$run->("subvolume delete '$dir/vol'");
	equal('btrfs', 'a subvolume is deleted');
	complete('btrfs', 'a subvolume is gone');
}

SKIP:
{
	skip 'no overlay', 1 unless $place{overlay};
	my $dir = $root{overlay};

	append_file("$dir/old/b.txt", 'copied up');
	equal('overlay', 'a file is copied up');
	unlink("$dir/a.txt") or die "unlink: $!";
	equal('overlay', 'a file of the lower layer is removed');
	write_file("$dir/a.txt", 'again');
	write_file("$dir/old/deep/c.txt", 'rewritten');
	equal('overlay', 'and made again');
	complete('overlay', 'layers');
	like(status_of($node, $id{overlay}, 'reason'), qr/does not report changes/,
		'overlay: the state says that layers may change');
}

#-----------------------------------------------------------------------
# Names that fold
#-----------------------------------------------------------------------

# Whether a rename to another case is more than nothing there: lowntfs-3g's
# names have no case at all.
sub keeps_case
{
	my ($dir) = @_;

	write_file("$dir/Case.probe", 'x');
	move("$dir/Case.probe", "$dir/case.Probe");
	opendir(my $dh, $dir) or die "opendir: $!";
	my ($name) = grep { lc $_ eq 'case.probe' } readdir $dh;
	unlink("$dir/$name") or die "unlink: $!";
	return $name eq 'case.Probe';
}

foreach my $type (grep { $folds{$_} } @types)
{
	my $dir = $root{$type};
	my $id = $id{$type};
	my $cased = keeps_case($dir);

	note("$type: " . ($cased ? 'keeps the case of names' : 'names have no case'));

	# a file
	write_file("$dir/Foo.jpg", 'one');
	equal($type, 'a name of two cases');
	move("$dir/Foo.jpg", "$dir/foo.jpg");
	equal($type, 'renamed to another case');
	complete($type, 'renamed to another case');
	write_file("$dir/FOO.JPG", 'two, and longer');
	equal($type, 'written by a third spelling');
	is($node->safe_psql('postgres',
			"SELECT count(*) FROM file_records WHERE repository_id = '$id' AND lower(file_path) = 'foo.jpg'"),
		'1', "$type: there is one row");
	write_file("$dir/fOO.jPG", 'tri, and longer');
	equal($type, 'written by a fourth, of the same size');
	complete($type, 'written by other spellings');
	unlink("$dir/FOO.jpg") or die "unlink: $!";
	equal($type, 'removed by a fifth');
	complete($type, 'removed by another spelling');

	# other letters than those of ASCII, and none
	write_file("$dir/\xC3\x84pfel.jpg", 'fruit');
	write_file("$dir/001", 'no letters');
	equal($type, 'other letters');
	move("$dir/\xC3\x84pfel.jpg", "$dir/\xC3\xA4pfel.jpg");
	equal($type, 'other letters, in another case');
	write_file("$dir/\xC3\x84pfel.JPG", 'more fruit');
	equal($type, 'other letters, written');
	complete($type, 'other letters');

	# a directory, whose files are watched by its new name
	make_path("$dir/Dir/Sub");
	write_file("$dir/Dir/f$_", "file $_") foreach 1 .. 5;
	write_file("$dir/Dir/Sub/g", 'deep');
	equal($type, 'a directory');
	move("$dir/Dir", "$dir/dir");
	equal($type, 'a directory in another case');
	write_file("$dir/dir/f1", 'changed');
	write_file("$dir/dir/new", 'new');
	write_file("$dir/dir/Sub/g", 'deep and changed');
	equal($type, 'what is in it is watched');
	complete($type, 'a directory in another case');
	move("$dir/dir/Sub", "$dir/dir/SUB");
	move("$dir/dir", "$dir/DIR");
	write_file("$dir/DIR/SUB/h", 'more');
	equal($type, 'two of them at once');
	complete($type, 'two of them at once');
	mkdir "$dir/Other" or die "mkdir: $!";
	move("$dir/DIR/f1", "$dir/Other/F1");
	move("$dir/DIR/SUB", "$dir/Other/sub");
	equal($type, 'moved to another directory in another case');
	complete($type, 'moved in another case');

	# a directory that goes by another spelling than it came
	make_path("$dir/Gone", "$dir/Away/Deep");
	write_file("$dir/Gone/f", 'x');
	write_file("$dir/Away/$_", 'y') foreach ('f', 'Deep/g');
	equal($type, 'two directories');
	unlink("$dir/Gone/f") or die "unlink: $!";
	rmdir("$dir/gONE") or die "rmdir: $!";
	move("$dir/aWAY", "$dir/Here");
	equal($type, 'they go by other spellings');
	write_file("$dir/Here/Deep/g", 'changed');
	equal($type, 'what is in the one that moved is watched');
	complete($type, 'directories by other spellings');

	# while nobody watches, and in the places where things go
	$node->safe_psql('postgres', "SELECT fsync_pause('$id')");
	move("$dir/Other/F1", "$dir/Other/f1");
	move("$dir/Other", "$dir/other");
	write_file("$dir/OTHER/another", 'x');
	$node->safe_psql('postgres', "SELECT fsync_resume('$id')");
	equal($type, 'renamed to another case while paused');
	complete($type, 'renamed while paused');

	# a directory that is reached by another spelling: events may not tell
	write_file("$dir/OTHER/by another way", 'y');
	reconcile($node, $id);
	is_equal($node, $id, $dir, "$type: after a reconciliation, by another way");
	remove_tree("$dir/other");
	equal($type, 'removed');
	complete($type, 'in the end');
	wait_for_state($node, $id, 'watching', "$type: it is watched");
}

#-----------------------------------------------------------------------
# One that folds, mounted inside a tree that does not
#-----------------------------------------------------------------------

SKIP:
{
	my ($type) = grep { $place{$_} } qw(exfat vfat ntfs);

	skip 'no file system that folds names', 1 unless defined $type;
	my $tree = "$base/tree";
	my $card = "$place{$type}/card";

	make_path("$tree/card", "$tree/Plain", $card);
	write_file("$tree/Plain/both", 'lower');
	write_file("$tree/Plain/BOTH", 'upper');
	write_file("$card/Foo.jpg", 'one');
	mount_at('', "$tree/card", bind => $card);
	my $id = add_repository($node, $tree);

	wait_equal($node, $id, $tree, 'inside: first sync');
	move("$tree/card/Foo.jpg", "$tree/card/foo.jpg");
	wait_equal($node, $id, $tree, 'inside: renamed to another case');
	write_file("$tree/card/FOO.JPG", 'two, and longer');
	move("$tree/Plain/both", "$tree/Plain/Both");
	wait_equal($node, $id, $tree, 'inside: by a third spelling, and where names are what they are');
	append_file("$tree/Plain/BOTH", 'more');
	unlink("$tree/Plain/Both") or die "unlink: $!";
	wait_equal($node, $id, $tree, 'inside: two files whose names differ by case only');
	reconcile_finds_nothing($node, $id, 'inside');
}

$node->stop;
done_testing();
