#
# on_missing, on_type_change: the rows of files that are gone are deleted, or
# stay and are marked.  A marked row comes back to life, with its id, when its
# file does; it is no belief, counts for nothing, and is purged in time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncFeed;
use FsyncLinux;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $outside = new_root('outside');

make_tree($root, 60);
write_file("$root/$_.txt", "content of $_") foreach 'a' .. 'j';

my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

sub configure
{
	my ($set) = @_;

	$node->safe_psql('postgres', "UPDATE fsync_repositories SET $set WHERE repository_id = '$id'");
}

# Paths of marked rows, but for those of the many.
sub missing
{
	return $node->safe_psql('postgres', qq(
SELECT string_agg(file_path, ',' ORDER BY file_path) FROM file_records
WHERE repository_id = '$id' AND missing_since IS NOT NULL AND file_path NOT LIKE 'many/%'));
}

sub id_of
{
	my ($path) = @_;

	return $node->safe_psql('postgres', "SELECT id FROM file_records WHERE repository_id = '$id' AND file_path = "
		  . sql_path($path));
}

# What real time has counted since an operation: added|updated|moved|removed.
sub counted_since
{
	my ($operation) = @_;

	return $node->safe_psql('postgres', qq(
SELECT concat_ws('|', sum(files_added), sum(files_updated), sum(files_moved), sum(files_removed))
FROM sync_operations WHERE repository_id = '$id' AND id > $operation));
}

# ---- deleted by default ----

unlink("$root/a.txt") or die "unlink: $!";
wait_equal($node, $id, $root, 'delete');
is(id_of('a.txt'), '', 'delete: the row goes with its file');

# ---- marked ----

my $tree = tree_pid($node, $id);
configure("on_missing = 'mark'");
my $ids = ids_of($node, $id);
my $total = status_of($node, $id, 'total_files');
my $operation = latest_operation($node, $id);
unlink("$root/b.txt", "$root/c.txt") == 2 or die "unlink: $!";
wait_equal($node, $id, $root, 'mark');
is(missing(), 'b.txt,c.txt', 'mark: the rows stay');
is(id_of('b.txt'), $ids->{'b.txt'}, 'mark: with their ids');
is(counted_since($operation), '0|0|0|2', 'mark: two files are counted as removed');
is(status_of($node, $id, 'total_files'), $total - 2, 'mark: fsync_status() counts the files that are there');
is($node->safe_psql('postgres', "SELECT count(*) FROM fsync_files WHERE missing_since BETWEEN now() - interval '1 hour' AND now()"),
	'2', 'mark: fsync_files says since when');
is(tree_pid($node, $id), $tree, 'mark: fsync-tree is the same process');
reconcile_finds_nothing($node, $id, 'mark');
is(missing(), 'b.txt,c.txt', 'mark: a reconciliation leaves them');
is($node->safe_psql('postgres', "SELECT bool_and(last_scanned < missing_since) FROM fsync_files WHERE missing_since IS NOT NULL"),
	't', 'mark: what is missing was not seen by a later scan');

# ---- and back ----

$operation = latest_operation($node, $id);
new_file("$root/b.txt", 'content of b');
new_file("$root/c.txt", 'something else');
wait_equal($node, $id, $root, 'back');
is(missing(), '', 'back: nothing is missing any more');
is(id_of('b.txt'), $ids->{'b.txt'}, 'back: the same id with the same content');
is(id_of('c.txt'), $ids->{'c.txt'}, 'back: the same id with another content');
is(counted_since($operation), '2|0|0|0', 'back: they are counted as added');
reconcile_finds_nothing($node, $id, 'back');

# a directory, in more than one message
make_path("$root/many");
write_file("$root/many/$_", $_) foreach 1 .. 1500;
wait_equal($node, $id, $root, 'many files');
$ids = ids_of($node, $id);
rename("$root/many", "$outside/many") or die "rename: $!";
wait_equal($node, $id, $root, 'a directory moved out');
is($node->safe_psql('postgres', 'SELECT count(*) FROM file_records WHERE missing_since IS NOT NULL'), '1500',
	'a directory moved out: all its rows are marked');
rename("$outside/many", "$root/many") or die "rename: $!";
wait_equal($node, $id, $root, 'a directory moved back');
is_deeply(ids_of($node, $id), $ids, 'a directory moved back: the ids are the same');
remove_tree("$root/many");
wait_equal($node, $id, $root, 'a directory removed');
make_path("$root/many");
write_file("$root/many/$_", $_) foreach 1 .. 10;
wait_equal($node, $id, $root, 'some of it made again');
is(id_of('many/10'), $ids->{'many/10'}, 'some of it made again: with their ids');

# ---- while the server is down ----

$node->stop;
unlink("$root/d.txt", "$root/e.txt") == 2 or die "unlink: $!";
$node->start;
wait_equal($node, $id, $root, 'gone while down');
is(missing(), 'd.txt,e.txt', 'gone while down: marked');
$node->stop;
write_file("$root/d.txt", 'content of d');
$node->start;
wait_equal($node, $id, $root, 'back while down');
is(id_of('d.txt'), $ids->{'d.txt'}, 'back while down: with its id');

# ---- renames, where the row of the file that is renamed remains ----

configure("on_overwrite = 'source'");
$operation = latest_operation($node, $id);
rename("$root/f.txt", "$root/e.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed onto the path of a missing file');
is(id_of('e.txt'), $ids->{'f.txt'}, 'renamed onto the path of a missing file: the id comes along');
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE id = $ids->{'e.txt'}"), '0',
	'renamed onto the path of a missing file: whose row gives way');
is(counted_since($operation), '0|0|1|0', 'renamed onto the path of a missing file: which is not removed twice');
rename("$root/e.txt", "$root/f.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed back');
is(id_of('f.txt'), $ids->{'f.txt'}, 'renamed back: the same id');
is(id_of('e.txt'), '', 'renamed back: a rename leaves nothing behind');
rename("$root/g.txt", "$root/h.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed onto a file');
is(id_of('h.txt'), $ids->{'g.txt'}, 'renamed onto a file: the id comes along');
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE id = $ids->{'h.txt'}"), '0',
	'renamed onto a file: what was overwritten is not missing');
configure("on_overwrite = 'target'");

# ---- a name that is something else now ----

sub make_other
{
	my ($path) = @_;

	# at once, or it would be missing in between
	mkdir("$root/.other") or die "mkdir: $!";
	write_file("$root/.other/inside", 'x');
	exchange("$root/.other", "$root/$path");
	unlink("$root/.other") or die "unlink: $!";
}

make_other('f.txt');
wait_equal($node, $id, $root, 'a directory now');
like(missing(), qr/\bf\.txt\b/, 'a directory now: marked, as on_missing says');
remove_tree("$root/f.txt");
write_file("$root/f.txt", 'a file again');
wait_equal($node, $id, $root, 'a file again');
is(id_of('f.txt'), $ids->{'f.txt'}, 'a file again: with its id');

configure("on_type_change = 'delete'");
make_other('f.txt');
wait_equal($node, $id, $root, 'on_type_change = delete');
is(id_of('f.txt'), '', 'on_type_change = delete: the row goes');

configure("on_type_change = 'mark', on_missing = 'delete'");
unlink("$root/j.txt") or die "unlink: $!";
symlink('nowhere', "$root/.link") or die "symlink: $!";
rename("$root/.link", "$root/i.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'on_type_change = mark');
is(id_of('i.txt'), $ids->{'i.txt'}, 'on_type_change = mark: a symbolic link now, the row stays');
is(id_of('j.txt'), '', 'on_type_change = mark: but not that of a missing file');
configure("on_type_change = 'missing', on_missing = 'mark'");

# ---- what is excluded is not missing ----

write_file("$root/picture.raw", 'x');
wait_equal($node, $id, $root, 'before it is excluded');
configure("exclude = '{*.raw}'");
my $accept = sub { $_[0] !~ /\.raw\z/ };
wait_equal($node, $id, $root, 'excluded', accept => $accept);
is(id_of('picture.raw'), '', 'excluded: the row goes');
configure('exclude = NULL');
wait_equal($node, $id, $root, 'not excluded any more');

# ---- the threshold counts files that are there ----

my $crowd = new_root('crowd');
write_file("$crowd/$_", $_) foreach 1 .. 20;
my $crowd_id = add_repository($node, $crowd);
wait_equal($node, $crowd_id, $crowd, 'threshold');
$node->safe_psql('postgres', "UPDATE fsync_repositories SET on_missing = 'mark' WHERE repository_id = '$crowd_id'");
unlink("$crowd/$_") foreach 1 .. 12;
wait_equal($node, $crowd_id, $crowd, 'threshold: twelve of twenty files are gone');
$node->stop;
unlink("$crowd/$_") foreach 13 .. 17;
$node->start;
wait_for_state($node, $crowd_id, 'degraded', 'threshold: five of the other eight are too many');
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE repository_id = '$crowd_id' AND missing_since IS NULL"),
	'8', 'threshold: nothing is marked unasked');
$node->safe_psql('postgres', "SELECT fsync_reconcile('$crowd_id', force => true)");
wait_equal($node, $crowd_id, $crowd, 'threshold: by force');
is(rows_of($node, $crowd_id), '20', 'threshold: by force they are marked');

# ---- purged ----

$node->safe_psql('postgres', q(
CREATE TABLE album (file_id bigint REFERENCES file_records);
INSERT INTO album SELECT id FROM file_records WHERE file_path = '1';
));
$node->safe_psql('postgres', "UPDATE fsync_repositories SET missing_retention = '1 day' WHERE repository_id = '$crowd_id'");
$node->safe_psql('postgres', "UPDATE file_records SET missing_since = missing_since - interval '2 days' WHERE file_path IN ('1', '2', '3') AND repository_id = '$crowd_id'");
$node->safe_psql('postgres', "UPDATE fsync_repositories SET missing_retention = '25 hours' WHERE repository_id = '$crowd_id'");
ok($node->poll_query_until('postgres', "SELECT count(*) = 18 FROM file_records WHERE repository_id = '$crowd_id'"),
	'purge: what was missing for too long goes, and no other row');
is_deeply(problems_of($node, $crowd_id), { '1' => 'still referenced' },
	'purge: a row that is referenced is a problem');
is(rows_of($node, $crowd_id), '18', 'purge: and stays');
$node->safe_psql('postgres', "SELECT fsync_reconcile('$crowd_id')");
is_deeply(problems_of($node, $crowd_id), { '1' => 'still referenced' },
	'purge: it stays a problem after a reconciliation');

# the rest after a second, by itself
$node->safe_psql('postgres', "UPDATE fsync_repositories SET missing_retention = '1 second' WHERE repository_id = '$crowd_id'");
ok($node->poll_query_until('postgres', "SELECT count(*) = 4 FROM file_records WHERE repository_id = '$crowd_id'"),
	'purge: a shorter time counts at once');
unlink("$crowd/18") or die "unlink: $!";
ok($node->poll_query_until('postgres', "SELECT count(*) = 3 FROM file_records WHERE repository_id = '$crowd_id'"),
	'purge: a row that is marked later goes by itself');
cmp_ok($node->safe_psql('postgres', "SELECT occurrences FROM fsync_problems WHERE repository_id = '$crowd_id'"), '<', 20,
	'purge: one that is refused is not tried without end');

# comes back while it is a problem
write_file("$crowd/1", 'back');
wait_equal($node, $crowd_id, $crowd, 'purge: back in time');
is_deeply(problems_of($node, $crowd_id), {}, 'purge: back in time, no problem any more');
unlink("$crowd/1") or die "unlink: $!";
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM fsync_problems WHERE repository_id = '$crowd_id'"),
	'purge: a problem again');
$node->safe_psql('postgres', 'DROP TABLE album');
$node->safe_psql('postgres', "UPDATE fsync_repositories SET missing_retention = '1 microsecond' WHERE repository_id = '$crowd_id'");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM file_records WHERE repository_id = '$crowd_id'"),
	'purge: not referenced any more');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM fsync_problems WHERE repository_id = '$crowd_id'"),
	'purge: and no problem any more');
wait_equal($node, $crowd_id, $crowd, 'purge: in the end');
like(($node->psql('postgres', "UPDATE fsync_repositories SET missing_retention = '-1 day'"))[2],
	qr/must be positive/, 'a negative time is refused');

# ---- a dump carries it ----

configure("missing_retention = '10 years', on_type_change = 'mark'");
my $content = q(
SELECT md5(string_agg(f::text, ' ' ORDER BY id)), count(missing_since) FROM file_records f;
SELECT repository_id, on_missing, missing_retention, on_type_change FROM fsync_repositories ORDER BY 1);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-q', '-f', $dump, $node->connstr('restored') ], 'restored');
is($node->safe_psql('restored', $content), $node->safe_psql('postgres', $content),
	'a dump carries settings and the rows of missing files');

# ---- switched off ----

isnt(missing(), '', 'before it is switched off there are marked rows');
$ids = ids_of($node, $id);
configure("on_missing = 'delete'");
isnt(missing(), '', 'while one of the two marks the rows stay');
configure("on_type_change = 'missing'");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM file_records WHERE repository_id = '$id' AND missing_since IS NOT NULL"),
	'switched off: marked rows go at once');
is_deeply(ids_of($node, $id), $ids, 'switched off: and no others');
wait_equal($node, $id, $root, 'switched off');
reconcile_finds_nothing($node, $id, 'in the end');

$node->stop;
done_testing();
