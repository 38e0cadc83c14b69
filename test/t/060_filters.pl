#
# Which files are tracked: presets, letters of any case, hidden names and
# sizes; changed while the repository is watched, in one reconciliation, also
# where most rows go; and what is excluded costs neither a watch nor a look.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');

# The tracked paths, in order.
sub tracked
{
	my ($id) = @_;

	return $node->safe_psql('postgres',
		"SELECT string_agg(file_path, ' ' ORDER BY file_path) FROM file_records WHERE repository_id = '$id'");
}

# ... once all changes are applied.
sub tracked_are
{
	my ($id, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_ok($node, $id, $name);
	is(tracked($id), $expected, $name);
}

# Changes settings; the scan that follows is one, complete, and finds these
# numbers of rows to add and to remove.
sub configure
{
	my ($id, $settings, $added, $removed, $name) = @_;
	my $last = latest_operation($node, $id);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', $settings)");
	my ($status, $counts) = wait_for_operation($node, $id, 'reconciliation', $last);
	is("$status $counts", "completed $added|0|0|$removed", "$name: one reconciliation");
	wait_ok($node, $id, $name);
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM sync_operations WHERE repository_id = '$id' AND id > $last"),
		'1', "$name: and nothing else");
}

# ---- presets ----

make_path("$root/trip", "$root/DCIM.raw");
write_file("$root/$_", "content of $_")
  foreach ('a.jpg', 'b.HEIC', 'c.mov', 'd.NEF', 'e.pdf', 'f.xyz', 'trip/g.Png', 'trip/h.cr3',
	'DCIM.raw/i.txt', 'DCIM.raw/j.jpeg');
my $id = add_repository($node, $root, args => "include => '{preset:images,preset:videos}'");
tracked_are($id, 'DCIM.raw/j.jpeg a.jpg b.HEIC c.mov trip/g.Png', 'two presets');
write_file("$root/trip/k.WEBP", 'x');
write_file("$root/trip/k.odt", 'x');
rename("$root/a.jpg", "$root/a.txt") or die "rename: $!";
rename("$root/f.xyz", "$root/f.jpg") or die "rename: $!";
tracked_are($id, 'DCIM.raw/j.jpeg b.HEIC c.mov f.jpg trip/g.Png trip/k.WEBP', 'presets, under watch');
configure($id, q(include => '{preset:raw,preset:documents}'), 6, 6, 'other presets');
is(tracked($id), 'DCIM.raw/i.txt a.txt d.NEF e.pdf trip/h.cr3 trip/k.odt', 'other presets');
configure($id, q(include => '{}', exclude => '{preset:documents}'), 6, 4, 'a preset excluded');
is(tracked($id), 'DCIM.raw/j.jpeg b.HEIC c.mov d.NEF f.jpg trip/g.Png trip/h.cr3 trip/k.WEBP',
	'a preset excluded');

# ---- more than half of the rows go, unasked ----

configure($id, q(include => '{*.mov}'), 0, 7, 'most of it excluded');
is(tracked($id), 'c.mov', 'most of it excluded');
is(status_of($node, $id, 'state'), 'watching', 'which no threshold refuses');
configure($id, q(include => '{}', exclude => '{*}'), 0, 1, 'everything excluded');
$node->safe_psql('postgres', 'SELECT 1 / count(*) FROM fsync_repositories WHERE include IS NULL');
configure($id, q(exclude => '{}'), 12, 0, 'nothing excluded');

# What is excluded does not count as gone, even if it is; what is gone and was
# wanted does.
$node->stop;
unlink("$root/a.txt", "$root/b.HEIC", "$root/c.mov", "$root/d.NEF", "$root/e.pdf", "$root/f.jpg",
	"$root/trip/g.Png");
$node->start;
wait_for_state($node, $id, 'degraded', 'more than half is gone');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', exclude => '{/DCIM.raw}')");
ok( $node->poll_query_until('postgres',
		"SELECT error_message ~ '^7 of 12 ' FROM fsync_sync_history('$id', 1) WHERE operation_type = 'reconciliation'"),
	'also where other files are excluded');
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE repository_id = '$id'"),
	'12', 'and nothing is removed');
configure($id, q(exclude => '{/trip,/DCIM.raw}'), 0, 12, 'half of it gone, the rest excluded');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

# ---- letters ----

my $letters = new_root('letters');
make_path("$letters/Raw", "$letters/raw2");
write_file("$letters/$_", 'x') foreach ('a.JPG', 'b.jpg', 'Raw/c.jpg', 'raw2/d.Jpg', 'KEEP.txt');
$id = add_repository($node, $letters, args => q(include => '{*.jpg,keep.*}', exclude => '{raw/}'));
tracked_are($id, 'Raw/c.jpg b.jpg', 'letters as they are');
configure($id, 'ignore_case => true', 3, 1, 'letters of any case');
is(tracked($id), 'KEEP.txt a.JPG b.jpg raw2/d.Jpg', 'letters of any case');
make_path("$letters/x/RAW");
write_file("$letters/x/RAW/e.jpg", 'x');
write_file("$letters/x/f.JPg", 'x');
tracked_are($id, 'KEEP.txt a.JPG b.jpg raw2/d.Jpg x/f.JPg', 'letters of any case, under watch');
reconcile_finds_nothing($node, $id, 'letters of any case');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

# ---- hidden names ----

my $hidden = new_root('hidden');
make_path("$hidden/.config/x", "$hidden/.git");
write_file("$hidden/$_", 'x')
  foreach ('.a', '.config/x/b', '.git/c', 'd', '.DS_Store', 'e~', '.f.swp', 'Thumbs.db', 'g.tmp', '.config/h.bak');
$id = add_repository($node, $hidden, args => q(exclude => '{.git/}'));
tracked_are($id, 'd', 'hidden names are not tracked');
configure($id, 'include_hidden => true', 2, 0, 'hidden names on request');
is(tracked($id), '.a .config/x/b d', 'hidden names on request, but no other ignored ones');
write_file("$hidden/.config/new", 'x');
make_path("$hidden/.cache/y");
write_file("$hidden/.cache/y/z", 'x');
write_file("$hidden/.git/new", 'x');
rename("$hidden/d", "$hidden/.d") or die "rename: $!";
tracked_are($id, '.a .cache/y/z .config/new .config/x/b .d', 'hidden names, under watch');
append_file("$hidden/.cache/y/z", 'more');
wait_ok($node, $id, 'a hidden directory is watched');
is($node->safe_psql('postgres', "SELECT file_size FROM file_records WHERE file_path = '.cache/y/z'"), '5',
	'a hidden directory is watched');
configure($id, 'include_hidden => false', 0, 5, 'hidden names no more');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

# ---- sizes ----

my $sizes = new_root('sizes');
make_path("$sizes/sub");
write_file("$sizes/size$_", 'x' x $_) foreach (0, 9, 10, 20, 21);
foreach my $hashes ('true', 'false')
{
	$id = add_repository($node, $sizes,
		args => "min_size => 10, max_size => 20, calculate_hashes => $hashes");
	tracked_are($id, 'size10 size20', "limits of size, hashes $hashes");

	append_file("$sizes/size9", 'x');
	append_file("$sizes/size20", 'x');
	truncate("$sizes/size10", 9) or die "truncate: $!";
	truncate("$sizes/size21", 20) or die "truncate: $!";
	rename("$sizes/size0", "$sizes/sub/size0") or die "rename: $!";
	tracked_are($id, 'size21 size9', "files grow and shrink across the limits, hashes $hashes");
	is( $node->safe_psql('postgres',
			"SELECT string_agg(file_size::text, ' ' ORDER BY file_path) FROM file_records WHERE repository_id = '$id'"),
		'20 10', "and have their sizes, hashes $hashes");
	reconcile_finds_nothing($node, $id, "limits of size, hashes $hashes");

	# the same, unseen
	$node->stop;
	append_file("$sizes/size9", 'x' x 20);
	append_file("$sizes/size10", 'x');
	append_file("$sizes/sub/size0", 'x' x 15);
	$node->start;
	tracked_are($id, 'size10 size21 sub/size0', "while the server was down, hashes $hashes");

	configure($id, 'min_size => -1, max_size => -1', 2, 0, "no limit any more, hashes $hashes");
	configure($id, 'max_size => 0', 0, 5, "only empty files, hashes $hashes");
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");
	unlink("$sizes/sub/size0");
	write_file("$sizes/size$_", 'x' x $_) foreach (0, 9, 10, 20, 21);
}

# A file that crosses the limit while it is written has no row for good.
$id = add_repository($node, $sizes, args => 'max_size => 100000');
wait_ok($node, $id, 'a limit for a file that grows');
foreach my $round (1 .. 20)
{
	write_file("$sizes/grows", '');
	append_file("$sizes/grows", 'x' x 30_000) foreach 1 .. 4;
	wait_ok($node, $id, 'a file that grows') or last;
	last if tracked($id) =~ /grows/;
}
is(tracked($id), 'size0 size10 size20 size21 size9', 'a file that grows beyond the limit has no row');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

# ---- excluded directories ----

my $costs = new_root('costs');
make_path(map { ("$costs/in/$_", "$costs/out/$_", "$costs/x/out/$_") } 1 .. 20);
write_file("$costs/in/1/a", 'x');
write_file("$costs/out/1/a", 'x');
make_path("$costs/closed/sub");
chmod(0, "$costs/closed") or die "chmod: $!";

my $watches = sub { return status_of($node, $id, 'directories_watched') };

$id = add_repository($node, $costs);
wait_ok($node, $id, 'everything watched');
is($watches->(), 64 + 1, 'directories have a watch each');
is(problems_of($node, $id)->{closed}, 'permission denied', 'one that is closed is a problem');
configure($id, q(exclude => '{out/,/closed}'), 0, 1, 'directories excluded');
is($watches->(), 23, 'excluded directories have no watch');
is($node->safe_psql('postgres', 'SELECT count(*) FROM fsync_problems'), '0',
	'and are not even opened: no problem');
make_path("$costs/in/out/deep", "$costs/in/fine/deep");
wait_ok($node, $id, 'new directories');
is($watches->(), 25, 'nor do new ones');

# renamed, what lies below is judged anew
configure($id, q(exclude => '{/in/3/own,/else/4}'), 1, 0, 'patterns with a place');
make_path("$costs/in/3/own/deep", "$costs/in/4/deep");
write_file("$costs/in/3/own/deep/f", 'x');
write_file("$costs/in/4/deep/g", 'x');
tracked_are($id, 'in/1/a in/4/deep/g out/1/a', 'patterns with a place');
rename("$costs/in", "$costs/else") or die "rename: $!";
tracked_are($id, 'else/1/a else/3/own/deep/f out/1/a', 'a directory renamed');
append_file("$costs/else/3/own/deep/f", 'more');
write_file("$costs/else/3/own/deep/h", 'x');
tracked_are($id, 'else/1/a else/3/own/deep/f else/3/own/deep/h out/1/a', 'what is below is watched');
is($node->safe_psql('postgres', "SELECT file_size FROM file_records WHERE file_path LIKE 'else/3/%/f'"), '5',
	'as it should be');
is($watches->(), 70, 'and what is excluded there is not');
chmod(0755, "$costs/closed");

$node->stop;
done_testing();
