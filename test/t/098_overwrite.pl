#
# A file that is renamed onto one with a row, as programs do that save a file:
# which row remains does not depend on how long the other one had been there.
# And what is believed of files that changed while nobody looked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main');
my $root = new_root('photos');
my $n = 0;
write_file("$root/quiet.txt", 'nothing happens to it');
my $id = add_repository($node, $root);
my $second = add_repository($node, new_root('second'));
wait_equal($node, $id, $root, 'first sync');

sub configure
{
	my ($set) = @_;

	$node->safe_psql($db, "UPDATE fsync_repositories SET $set WHERE repository_id = '$id'");
}

sub row
{
	my ($path) = @_;

	return $node->safe_psql($db, "SELECT id FROM file_records WHERE repository_id = '$id' AND file_path = "
		  . sql_path($path));
}

# The ids of two files that are there, with rows: the one that will be
# overwritten, then that which is renamed onto it.
sub two_files
{
	my ($target, $new) = @_;

	$n++;
	write_file("$root/$target", "target $n");
	write_file("$root/$new", "new content, $n");
	wait_ok($node, $id, "$target: both are there");
	return (row($target), row($new));
}

# Does it so that the events tell, or over a pause, or right before a scan.
my %ways = (
	events => sub { shift->(); },
	pause => sub {
		$node->safe_psql($db, "SELECT fsync_pause('$id')");
		wait_for_state($node, $id, 'paused');
		shift->();
		$node->safe_psql($db, "SELECT fsync_resume('$id')");
		wait_for_state($node, $id, 'watching');
	},
	scan => sub { shift->(); reconcile($node, $id); },);

foreach my $mark (0, 1)
{
	configure("on_missing = '" . ($mark ? 'mark' : 'delete') . "'");
	foreach my $way (sort keys %ways)
	{
		my $what = "$way, " . ($mark ? 'marking' : 'deleting');
		my ($t, $s) = two_files("t$n", "s$n");
		my ($target, $new) = ("t" . ($n - 1), "s" . ($n - 1));

		configure("on_overwrite = 'target'");
		$ways{$way}->(sub { rename("$root/$new", "$root/$target") or die "rename: $!" });
		wait_equal($node, $id, $root, "target, $what");
		is(row($target), $t, "target, $what: the file that was overwritten keeps its id");
		is($node->safe_psql($db, "SELECT count(*) FROM file_records WHERE id = $s"), 0,
			"target, $what: the other row is gone");

		configure("on_overwrite = 'source'");
		($t, $s) = two_files($target, $new);
		$ways{$way}->(sub { rename("$root/$new", "$root/$target") or die "rename: $!" });
		wait_equal($node, $id, $root, "source, $what");
		is(row($target), $s, "source, $what: the row of the file that was renamed");
		is($node->safe_psql($db, "SELECT count(*) FROM file_records WHERE id = $t"), 0,
			"source, $what: the other row is gone");
		configure("on_overwrite = 'target'");
	}
}

# ---- onto a file that is missing, and marked ----

my ($target, $new) = two_files('lost', 'found');
unlink("$root/lost") or die "unlink: $!";
wait_ok($node, $id, 'missing: marked');
rename("$root/found", "$root/lost") or die "rename: $!";
wait_equal($node, $id, $root, 'missing: a file comes to its name');
is(row('lost'), $target, 'missing: it has its row again');
is(row('found'), '', 'missing: and no other');
configure("on_missing = 'delete'");

# ---- others are renamed at the same time ----

# As log files are: the last one is overwritten, and nothing else loses its id.
write_file("$root/log.$_", "log $_") foreach 1 .. 3;
wait_ok($node, $id, 'rotation: all are there');
my %was = map { $_ => row("log.$_") } 1 .. 3;
rename("$root/log.2", "$root/log.3") or die "rename: $!";
rename("$root/log.1", "$root/log.2") or die "rename: $!";
wait_equal($node, $id, $root, 'rotation');
is(row('log.3'), $was{3}, 'rotation: the one that was overwritten keeps its id');
is(row('log.2'), $was{1}, 'rotation: the one that came to a free name takes its along');

# Files that exchange their names overwrite nothing.
my ($a, $b) = two_files('a', 'b');
rename("$root/a", "$root/c") or die "rename: $!";
rename("$root/b", "$root/a") or die "rename: $!";
rename("$root/c", "$root/b") or die "rename: $!";
wait_equal($node, $id, $root, 'exchange');
is(join(',', row('a'), row('b')), "$b,$a", 'exchange: each takes its id along');

# Nor does a directory that takes the place of one that was removed.
foreach my $day (4, 5)
{
	mkdir("$root/daily.$day") or die "mkdir: $!";
	write_file("$root/daily.$day/f", "f of $day");
}
wait_ok($node, $id, 'directories: all are there');
my $four = row('daily.4/f');
unlink("$root/daily.5/f") or die "unlink: $!";
rmdir("$root/daily.5") or die "rmdir: $!";
rename("$root/daily.4", "$root/daily.5") or die "rename: $!";
wait_equal($node, $id, $root, 'directories');
is(row('daily.5/f'), $four, 'directories: files go with theirs');

# ---- the feed ----

configure('change_feed = true');
($target, $new) = two_files('fed', 'fed.new');
my $position = $node->safe_psql($db, 'SELECT coalesce(max(change_id), 0) FROM file_changes');
rename("$root/fed.new", "$root/fed") or die "rename: $!";
wait_equal($node, $id, $root, 'feed');
is( $node->safe_psql(
		$db, qq(SELECT string_agg(DISTINCT operation || ' ' || file_path, ', ')
FROM file_changes WHERE change_id > $position)),
	'removed fed.new, updated fed',
	'feed: one is removed, one updated');
configure('change_feed = false');

# ---- a row that refers to one of them ----

$node->safe_psql($db, 'CREATE TABLE ratings (file_id bigint REFERENCES file_records ON DELETE CASCADE)');
($target, $new) = two_files('rated', 'rated.new');
$node->safe_psql($db, "INSERT INTO ratings VALUES ($target)");
rename("$root/rated.new", "$root/rated") or die "rename: $!";
wait_equal($node, $id, $root, 'rated');
is($node->safe_psql($db, "SELECT count(*) FROM ratings WHERE file_id = $target"), 1, 'rated: it still is');
$node->safe_psql($db, 'DROP TABLE ratings');

# ---- removed at once again ----

($target, $new) = two_files('short', 'short.new');
rename("$root/short.new", "$root/short") or die "rename: $!";
unlink("$root/short") or die "unlink: $!";
wait_equal($node, $id, $root, 'overwritten, and removed');

# ---- programs that keep what was there under another name ----

configure("exclude = '{preset:backups}'");
write_file("$root/photo.jpg", 'a photo');
wait_ok($node, $id, 'backups: it is there');
my $photo = row('photo.jpg');
my @saves = (
	[ 'sed -i.orig', sub { system('sed', '-i.orig', 's/photo/picture/', "$root/photo.jpg") == 0 or die 'sed' } ],
	[ 'cp -b', sub { system('cp', '-b', '--suffix=.orig', "$root/quiet.txt", "$root/photo.jpg") == 0 or die 'cp' } ],
	[ 'exiftool', sub {
			write_file("$root/photo.jpg_exiftool_tmp", 'with other tags');
			rename("$root/photo.jpg", "$root/photo.jpg_original") or die "rename: $!";
			rename("$root/photo.jpg_exiftool_tmp", "$root/photo.jpg") or die "rename: $!";
		} ],
	[ 'exiftool, slowly', sub {
			write_file("$root/photo.jpg_exiftool_tmp", 'and others again');
			wait_ok($node, $id, 'backups: the new one is there for a while');
			rename("$root/photo.jpg", "$root/photo.jpg_original") or die "rename: $!";
			rename("$root/photo.jpg_exiftool_tmp", "$root/photo.jpg") or die "rename: $!";
		} ]);
foreach my $save (@saves)
{
	$save->[1]->();
	wait_ok($node, $id, "backups: $save->[0]");
	is(row('photo.jpg'), $photo, "backups, $save->[0]: the id stays");
	is( $node->safe_psql($db, "SELECT encode(content_hash, 'hex') FROM file_records WHERE id = $photo"),
		(split ' ', `sha256sum '$root/photo.jpg'`)[0],
		"backups, $save->[0]: with the new content");
}
is(row('photo.jpg_original'), '', 'backups: and what was kept is not tracked');
unlink(glob("$root/photo.jpg*"));
configure("exclude = NULL");
wait_equal($node, $id, $root, 'backups: the end');

# ---- names of one file ----

# Which row moves, the event says: that of the name that was renamed.
foreach my $first ('remove', 'rename')
{
	foreach my $kept ('a', 'b')
	{
		my $gone = $kept eq 'a' ? 'b' : 'a';
		my $what = "names, $first first, $kept moves";

		write_file("$root/link.a", $what);
		link("$root/link.a", "$root/link.b") or die "link: $!";
		wait_ok($node, $id, "$what: both are there");
		my $moves = row("link.$kept");
		unlink("$root/link.$gone") or die "unlink: $!" if $first eq 'remove';
		rename("$root/link.$kept", "$root/link.c") or die "rename: $!";
		unlink("$root/link.$gone") or die "unlink: $!" if $first eq 'rename';
		wait_equal($node, $id, $root, $what);
		is(row('link.c'), $moves, "$what: with its id");
		unlink("$root/link.c") or die "unlink: $!";
		wait_ok($node, $id, "$what: the end");
	}
}

# ---- an absence ----

# Its content is changed, and nothing that stat tells but the ctime.
sub change_unseen
{
	my ($path) = @_;
	my @stat = stat("$root/$path");

	write_file("$root/$path", '_' x $stat[7]);
	system('touch', '-d', '@' . $node->safe_psql($db,
		"SELECT mtime_ns / 1000000000 || '.' || lpad((mtime_ns % 1000000000)::text, 9, '0') FROM file_records"
		  . " WHERE repository_id = '$id' AND file_path = " . sql_path($path)), "$root/$path") == 0
	  or die 'touch';
	return;
}

mkdir("$root/d") or die "mkdir: $!";
write_file("$root/d/$_", "content of $_") foreach 'f', 'g', 'h';
wait_ok($node, $id, 'absence: all is there');
my %ids = map { $_ => row("d/$_") } 'f', 'g', 'h';
$ways{pause}->(
	sub {
		change_unseen('d/f');
		change_unseen('d/g');
		rename("$root/d", "$root/D") or die "rename: $!";
		rename("$root/D/g", "$root/D/G") or die "rename: $!";
	});
wait_equal($node, $id, $root, 'absence: what changed in a directory that was renamed');
is(join(',', map { row("D/$_") } 'f', 'G', 'h'), join(',', @ids{ 'f', 'g', 'h' }), 'absence: the ids stay');
is($node->safe_psql($db, "SELECT count(*) FROM fsync_problems WHERE repository_id = '$id'"), 0,
	'no problem is left');
is(status_of($node, $second, 'state'), 'watching', 'another repository has noticed nothing');

# ---- bad input ----

my (undef, undef, $stderr) = $node->psql($db, "SELECT fsync_configure_repository('$id', on_overwrite => 'both')");
like($stderr, qr/invalid value for on_overwrite: "both"\n.*HINT:  It is either "target" or "source"/s, 'a bad word');

$node->stop;
done_testing();
