#
# fsync_relocate_repository(): the files are somewhere else now.  Ids stay where
# paths are the same, contents are read again where the directory is another one,
# and nothing that happens to the former files afterwards reaches the rows.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', conf => 'fsync.debounce_interval = 20ms');
my $base = new_root('base');
my $old = "$base/old";
my $new = "$base/new";

sub sql
{
	return $node->safe_psql($db, $_[0]);
}

sub outcome
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql($db, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return $rc == 0 ? $out : $err =~ s/^psql:.*?ERROR: //sr;
}

# Bytes that the last scan has read.
sub bytes_read
{
	return sql("SELECT bytes_hashed FROM sync_operations WHERE repository_id = '$_[0]' AND operation_type <> 'realtime' ORDER BY id DESC LIMIT 1");
}

# path => id
sub ids
{
	my ($id) = @_;
	my $files = table_files($node, $id);

	return { map { $_ => $files->{$_}->[4] } keys %$files };
}

sub relocate
{
	my ($id, $path) = @_;

	return sql("SELECT fsync_relocate_repository('$id', '$path')");
}

my $n = make_tree($old, 300);
my $id = add_repository($node, $old, args => "repository_id => '00000000-0000-0000-0000-000000000001', change_feed => true");
wait_equal($node, $id, $old, 'a tree');
my $before = ids($id);

# ---- a copy on other inodes ----

# With times, as a move to another disk; and a few that are not as they were: one
# with another content behind the same size and time, one that is gone, one new.
is(system('cp', '-a', $old, $new), 0, 'a copy');
my ($same, $gone) = (grep { !/\// } sort keys %$before)[ 0, 1 ];
my @stat = stat "$new/$same";
write_file("$new/$same", 'Z' x $stat[7]);
utime($stat[8], $stat[9], "$new/$same");
unlink("$new/$gone");
write_file("$new/added", 'added');
my $changes = sql('SELECT coalesce(max(change_id), 0) FROM file_changes');
relocate($id, $new);
remove_tree($old);
is(sql("SELECT fsync_wait('$id', '60 s')"), 't', 'after it the barrier holds');
wait_equal($node, $id, $new, 'the table is equal to the new place');
my $after = ids($id);
is(join(',', grep { ($after->{$_} // 0) != $before->{$_} } grep { $_ ne $gone } sort keys %$before), '', 'all ids are what they were');
ok(!exists $after->{$gone}, 'but for what is not there');
is(bytes_read($id), sql('SELECT sum(file_size) FROM file_records'), 'each file was read again');
is(sql("SELECT string_agg(operation || ' ' || (file_path = 'added')::int, ', ' ORDER BY operation) FROM file_changes WHERE change_id > $changes AND operation <> 'updated'"),
	'added 1, removed 0', 'the feed has what differs');
is(sql("SELECT count(*) FROM file_changes WHERE change_id > $changes AND operation = 'updated' AND old_hash = content_hash"), '0',
	'and not what is as it was');
is(sql("SELECT path, watch_root = path FROM fsync_repositories"), "$new|t", 'the row says where it is');
is(sql("SELECT watch_root, given_path FROM fsync_private.registrations"), "$new|$new", 'so does the registration');
is(reconcile($node, $id), 'completed|0|0|0|0', 'a reconciliation finds nothing');
write_file("$new/event", 'x');
ok(wait_ok($node, $id), 'events are of the new place');
ok(exists ids($id)->{event}, 'and come');

# ---- the same directory under another name: nothing to read ----

rename($new, "$base/third");
relocate($id, "$base/third");
ok(wait_ok($node, $id), 'a renamed directory');
is(bytes_read($id), '0', 'is not read again');
is_deeply({ %{ ids($id) } }, { %$after, event => ids($id)->{event} }, 'and all ids are the same');

# ---- a file that has moved inside as well is a new one: inodes say nothing ----

is(system('cp', '-a', "$base/third", "$base/fourth"), 0, 'another copy');
rename("$base/fourth/event", "$base/fourth/event2");
my $event_id = ids($id)->{event};
relocate($id, "$base/fourth");
ok(wait_ok($node, $id), 'relocated');
wait_equal($node, $id, "$base/fourth", 'equal');
isnt(ids($id)->{event2}, $event_id, 'a file with another path has another id');

# Inode numbers and times of the copy, as if by chance those of other rows: no
# row moves.
sql(q(UPDATE file_records f SET inode = o.inode, btime_ns = o.btime_ns, mtime_ns = o.mtime_ns, file_size = o.file_size
	FROM file_records o WHERE f.file_path = 'added' AND o.file_path = 'event2'));
is(system('cp', '-a', "$base/fourth", "$base/fifth"), 0, 'another copy');
my $added_id = ids($id)->{added};
relocate($id, "$base/fifth");
ok(wait_ok($node, $id), 'relocated');
wait_equal($node, $id, "$base/fifth", 'equal');
is(ids($id)->{added}, $added_id, 'the id stays at its path');

# ---- interrupted: the rest is not believed either ----

is(system('cp', '-a', "$base/fifth", "$base/sixth"), 0, 'another copy');
my $all = ids($id);
relocate($id, "$base/sixth");
$node->stop('immediate');
$node->start;
wait_equal($node, $id, "$base/sixth", 'after a crash right behind it');
is_deeply(ids($id), $all, 'with the same ids');

# ---- a wrong directory is no disaster ----

mkdir "$base/empty";
relocate($id, "$base/empty");
wait_for_state($node, $id, 'degraded', 'an empty directory: degraded');
like(status_of($node, $id, 'reason'), qr/mass_delete_threshold/, 'as too much would go');
is_deeply(ids($id), $all, 'and nothing goes');
relocate($id, "$base/sixth");
wait_for_state($node, $id, 'watching', 'back again');
is_deeply(ids($id), $all, 'with all ids');

# ---- what happens to the former files meanwhile ----

# The worker is stopped, so that it learns of the relocation only after it has
# read events of the former directory.
is(system('cp', '-a', "$base/sixth", "$base/seventh"), 0, 'another copy');
my $session = $node->background_psql($db);
$session->query_safe('BEGIN');
$session->query_safe("SELECT fsync_relocate_repository('$id', '$base/seventh')");
unlink(glob "'$base/sixth/*'") foreach 1;
unlink grep { -f } map { "$base/sixth/$_" } keys %$all;
$node->poll_query_until($db, "SELECT pending_changes > 0 OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'fsync worker' AND wait_event_type = 'Lock') FROM fsync_status('$id')");
$session->query_safe('COMMIT');
$session->quit;
remove_tree("$base/sixth");
ok(wait_ok($node, $id), 'relocated while the former files are deleted');
wait_equal($node, $id, "$base/seventh", 'equal');
is_deeply(ids($id), $all, 'no id was lost');

# Rolled back, it never happened.
$session = $node->background_psql($db);
$session->query_safe('BEGIN');
$session->query_safe("SELECT fsync_relocate_repository('$id', '$base/empty')");
$session->query_safe('ROLLBACK');
$session->quit;
write_file("$base/seventh/later", 'x');
ok(wait_ok($node, $id), 'rolled back');
ok(exists ids($id)->{later}, 'it goes on');

# ---- paused, with a user_area, by a link, of a dump ----

sql("SELECT fsync_pause('$id')");
is(system('cp', '-a', "$base/seventh", "$base/eighth"), 0, 'another copy');
$all = ids($id);
relocate($id, "$base/eighth");
is(sql("SELECT paused FROM fsync_repositories"), 't', 'a paused one stays paused');
remove_tree("$base/seventh");
sql("SELECT fsync_resume('$id')");
wait_equal($node, $id, "$base/eighth", 'resumed in the new place');
is_deeply(ids($id), $all, 'with all ids');

make_path("$base/app1/user", "$base/app2/user");
write_file("$base/app1/user/f", 'f');
write_file("$base/app2/user/f", 'f');
my $area = add_repository($node, "$base/app1", args => "user_area => 'user'");
wait_equal($node, $area, "$base/app1/user", 'a user_area');
my $area_ids = ids($area);
symlink("$base/app2", "$base/current");
relocate($area, "$base/current");
wait_equal($node, $area, "$base/app2/user", 'goes along');
is_deeply(ids($area), $area_ids, 'with its id');
is(sql("SELECT watch_root, path FROM fsync_repositories WHERE repository_id = '$area'"), "$base/app2/user|$base/current",
	'links are resolved when it is called');

# With what a user made of the row types of functions.
$node->safe_psql($db, 'CREATE VIEW states AS SELECT * FROM fsync_status(); CREATE TABLE snapshots AS SELECT s FROM fsync_status() s;
	CREATE OR REPLACE VIEW states AS SELECT * FROM fsync_status()');
$node->safe_psql($db, 'CREATE DATABASE copy');
is(system('sh', '-c', join(' ', map { "'$_'" } server_bindir() . '/pg_dump') . " -d '" . $node->connstr($db) . "' | '" . server_bindir() . "/psql' -qX -v ON_ERROR_STOP=1 -d '" . $node->connstr('copy') . "' >/dev/null"),
	0, 'a dump is restored in another database');
is($node->safe_psql('copy', 'SELECT count(*), count(DISTINCT (s).path) FROM states, snapshots'), '4|2', 'with what uses the row types of functions');
is(system('cp', '-a', "$base/eighth", "$base/ninth"), 0, 'with the files elsewhere');
$node->safe_psql('copy', "SELECT fsync_relocate_repository('$id', '$base/ninth')");
wait_equal($node, $id, "$base/ninth", 'it is tracked there', db => 'copy');
is($node->safe_psql('copy', "SELECT count(*) FROM file_records WHERE repository_id = '$id'"), scalar keys %$all, 'with all rows');
is($node->safe_psql('copy', "SELECT md5(string_agg(id || ' ' || file_path, ',' ORDER BY id)) FROM file_records WHERE repository_id = '$id'"),
	sql("SELECT md5(string_agg(id || ' ' || file_path, ',' ORDER BY id)) FROM file_records WHERE repository_id = '$id'"), 'and their ids');

# ---- who may, and where to ----

sql('CREATE ROLE app LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app');
foreach my $path ("$base/ninth", "$base/none", '/')
{
	my ($rc, $out, $err) = $node->psql($db, "SELECT fsync_relocate_repository('$id', '$path')", extra_params => [ '-U', 'app' ]);
	like($err, qr/ERROR:  permission denied to register a directory/, 'without the right all paths are alike');
}
like(outcome("SELECT fsync_relocate_repository('$id', '$base/none')"), qr/^ 58P01: /, 'one that does not exist');
like(outcome("SELECT fsync_relocate_repository('$id', 'relative')"), qr/^ 22023: .*not absolute/, 'a relative one');
like(outcome("SELECT fsync_relocate_repository('$id', '" . $node->data_dir . "')"), qr/^ 22023: .*data directory/, 'the data directory');
like(outcome("SELECT fsync_relocate_repository('$id', '/')"), qr/^ 22023: .*contains/, 'one above it');
like(outcome("SELECT fsync_relocate_repository('$area', '$base/eighth')"), qr/^ 58P01: /, 'one without the user_area');
like(outcome("SELECT fsync_relocate_repository('$id', '$base/app2/user')"), qr/^ 42710: .*already registered.*$area/s, 'that of another repository');
like(outcome("SELECT fsync_relocate_repository(NULL, '/')"), qr/^ 22004: repository_id must not be null/, 'NULL');
like(outcome("SELECT fsync_relocate_repository('$id', NULL)"), qr/^ 22004: new_path must not be null/, 'NULL');
like(outcome("SELECT fsync_relocate_repository('00000000-0000-0000-0000-0000000000ff', '$base/ninth')"), qr/^ 42704: repository .* does not exist/, 'no such repository');
wait_equal($node, $id, "$base/eighth", 'none of it has done anything');

done_testing();
