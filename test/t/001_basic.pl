#
# The main job: a tree of more than 2,000 files is added, and everything that
# people do to files is done to it.  After each step fsync_wait(), then at once
# every path, size, time and hash against find and sha256sum.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Copy qw(move);
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $outside = new_root('outside');
my $count = make_tree($root, 2200);

cmp_ok($count, '>=', 2000, 'the tree has at least 2,000 files');

my $id = add_repository($node, $root);
my $directory;

like($id, qr/^[0-9a-f-]{36}$/, 'fsync_add_repository() returns the id');
wait_equal($node, $id, $root, 'first sync', program => 1);

is( $node->safe_psql(
		'postgres', qq(
SELECT operation_type, status, files_added, files_updated, files_moved, files_removed
FROM fsync_sync_history('$id') WHERE operation_type = 'startup')),
	"startup|completed|$count|0|0|0",
	'one completed startup operation counts every file');
wait_for_state($node, $id, 'watching', 'the state becomes watching');
is( $node->safe_psql(
		'postgres', qq(
SELECT total_files, is_watching, problems, reason IS NULL OR reason = '', worker_pid > 0
FROM fsync_status('$id'))),
	"$count|t|0|t|t",
	'fsync_status() counts the files and has no complaint');
is( $node->safe_psql(
		'postgres', qq(
SELECT count(*) FROM fsync_files
WHERE absolute_path = ) . sql_path($root) . qq( || '/' || file_path
	AND content_hash ~ '^[0-9a-f]{64}\$')),
	$count,
	'fsync_files shows absolute paths and hexadecimal hashes');
is( $node->safe_psql(
		'postgres', "SELECT content_hash = sha256('nasty: it''s.txt')
FROM file_records WHERE file_path = 'it''s.txt'"),
	't',
	'content_hash can be compared with sha256()');
reconcile_finds_nothing($node, $id, 'after the first sync');

# ---- files ----

write_file("$root/new.txt", 'new');
write_file("$root/empty.txt", '');
wait_equal($node, $id, $root, 'create');

my $before = ids_of($node, $id);

append_file("$root/new.txt", ' and more');
append_file("$root/empty.txt", 'not empty');
wait_equal($node, $id, $root, 'append');

truncate("$root/new.txt", 2) or die "truncate: $!";
wait_equal($node, $id, $root, 'truncate');

# same size, and the old time put back: only ctime tells
my @stat = stat("$root/new.txt");
write_file("$root/new.txt", 'NE');
utime($stat[8], $stat[9], "$root/new.txt") or die "utime: $!";
wait_equal($node, $id, $root, 'rewritten with the same size and time');

write_file("$root/new.txt.tmp", 'saved in one piece');
rename("$root/new.txt.tmp", "$root/new.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'atomic save');

my $after = ids_of($node, $id);
is($after->{'new.txt'}, $before->{'new.txt'}, 'a file keeps its id when its content changes');

chmod(0600, "$root/new.txt") or die "chmod: $!";
wait_equal($node, $id, $root, 'chmod');

utime(1_000_000_000, 1_000_000_000, "$root/new.txt") or die "utime: $!";
wait_equal($node, $id, $root, 'mtime set');

link("$root/new.txt", "$root/second name.txt") or die "link: $!";
wait_equal($node, $id, $root, 'hard link');
append_file("$root/second name.txt", '!');
wait_equal($node, $id, $root, 'written through one of two names');

unlink("$root/second name.txt", "$root/empty.txt") == 2 or die "unlink: $!";
wait_equal($node, $id, $root, 'unlink');

# ---- renames of files ----

$before = ids_of($node, $id);
rename("$root/new.txt", "$root/renamed \n file.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'rename of a file');
$after = ids_of($node, $id);
is($after->{"renamed \n file.txt"}, $before->{'new.txt'}, 'a renamed file keeps its id');

my $victim = $after->{'it\'s.txt'};
rename("$root/renamed \n file.txt", "$root/it's.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'rename onto a file');
$after = ids_of($node, $id);
is($after->{'it\'s.txt'}, $victim, 'a file onto which another is renamed keeps its id');
ok(!(grep { $_ == $before->{'new.txt'} } values %$after), 'and the row of the other is gone');

rename("$root/tab\there.txt", "$root/now ignored.tmp") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed to an ignored name');
rename("$root/now ignored.tmp", "$root/tab\there.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed from an ignored name');

# ---- directories ----

make_path("$root/a/b/c/d/e");
write_file("$root/a/b/c/d/e/deep.txt", 'deep');
write_file("$root/a/b/middle.txt", 'middle');
wait_equal($node, $id, $root, 'mkdir -p with files at once');

make_tree("$outside/tree", 300);
move("$outside/tree", "$root/tree") or die "move: $!";
wait_equal($node, $id, $root, 'a tree moved in');

system_or_bail('cp', '-a', "$root/tree", "$root/copy");
wait_equal($node, $id, $root, 'cp -a of a tree');

system_or_bail('sh', '-c', "mkdir '$root/unpacked' && tar -C '$root/copy' -cf - . | tar -C '$root/unpacked' -xf -");
wait_equal($node, $id, $root, 'tar');

$before = ids_of($node, $id);
rename("$root/tree", "$root/a/b/c/renamed tree") or die "rename: $!";
wait_equal($node, $id, $root, 'rename of a directory');
$after = ids_of($node, $id);
is( join(',', map { $after->{"a/b/c/renamed $_"} // 'none' } sort grep { m{^tree/} } keys %$before),
	join(',', map { $before->{$_} } sort grep { m{^tree/} } keys %$before),
	'every file below a renamed directory keeps its id');

rename("$root/a/b", "$root/b") or die "rename: $!";
rename("$root/b/c", "$root/a/c") or die "rename: $!";
write_file("$root/a/c/renamed tree/after the rename.txt", 'x');
wait_equal($node, $id, $root, 'directories renamed twice, and written to');

# d/d/* becomes d/*: the paths of before and after overlap
make_path("$root/d/d/d");
write_file("$root/d/$_", $_) foreach ('1', '2');
write_file("$root/d/d/$_", "d$_") foreach ('1', '2');
write_file("$root/d/d/d/$_", "dd$_") foreach ('1', '2');
wait_equal($node, $id, $root, 'd/d/d');
$before = ids_of($node, $id);
rename("$root/d", "$root/old d") or die "rename: $!";
rename("$root/old d/d", "$root/d") or die "rename: $!";
wait_equal($node, $id, $root, 'd/d renamed to d');
$after = ids_of($node, $id);
is("$after->{'d/1'} $after->{'d/d/1'} $after->{'old d/1'}",
	"$before->{'d/d/1'} $before->{'d/d/d/1'} $before->{'d/1'}",
	'and every file keeps its id');

# a name that is a file, then a directory, then a file again
write_file("$root/changeling", 'file');
wait_equal($node, $id, $root, 'a file');
unlink("$root/changeling") or die "unlink: $!";
make_path("$root/changeling");
write_file("$root/changeling/inside", 'x');
wait_equal($node, $id, $root, 'a directory in its place');
remove_tree("$root/changeling");
write_file("$root/changeling", 'file again');
wait_equal($node, $id, $root, 'and a file again');

move("$root/copy", "$outside/copy") or die "move: $!";
wait_equal($node, $id, $root, 'a tree moved out');
write_file("$outside/copy/moved out.txt", 'x');
append_file("$outside/copy/$nasty_names[0]", 'x');
wait_equal($node, $id, $root, 'a tree that was moved out is not tracked any more');

remove_tree("$root/unpacked", "$root/a");
wait_equal($node, $id, $root, 'rm -rf');

# ---- what is not tracked ----

write_file("$root/.git/config", 'x');
make_path("$root/.cache/deep/down");
write_file("$root/.cache/deep/down/file", 'x');
write_file("$root/save.bak/more", 'x');
wait_equal($node, $id, $root, 'ignored names');

reconcile_finds_nothing($node, $id, 'after all that');

# the independent comparison once more with the other program
wait_equal($node, $id, $root, 'in the end', program => 1);

is( $node->safe_psql('postgres',
		"SELECT count(*) FROM sync_operations WHERE status <> 'completed'"),
	'0', 'no operation failed or was left running');

# ---- a directory that is renamed is not read again ----

my $second = new_root('second');
make_tree("$second/before", 200);
my $second_id = add_repository($node, $second);

wait_equal($node, $second_id, $second, 'second repository');
my $last = latest_operation($node, $second_id);
my $files = scalar(keys %{ ids_of($node, $second_id) });

rename("$second/before", "$second/after") or die "rename: $!";
wait_equal($node, $second_id, $second, 'second repository, renamed');
$node->poll_query_until('postgres', qq(
SELECT coalesce(sum(files_moved), 0) = $files FROM sync_operations
WHERE repository_id = '$second_id' AND id > $last AND operation_type = 'realtime'))
  or diag('the burst of the rename was not recorded');
is( $node->safe_psql(
		'postgres', qq(
SELECT sum(files_added), sum(files_updated), sum(files_moved), sum(files_removed), sum(bytes_hashed)
FROM sync_operations WHERE repository_id = '$second_id' AND id > $last)),
	"0|0|$files|0|0",
	'the rename of a directory moves each row and reads no file');

# ---- removal ----

$node->safe_psql('postgres', "SELECT fsync_remove_repository('$second_id')");
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE repository_id = '$second_id'"),
	'0', 'fsync_remove_repository() removes the rows');
ok(-e "$second/after/$nasty_names[0]", 'and no file');

log_is_quiet($node, 0, 'the server log holds nothing above LOG');
$node->stop;

done_testing();
