#
# Rows that a user wrote: paths that no file can have, times that are not the
# file's, ids of their own; and what users make of the other tables: foreign keys
# on the history, an owner who has lost his rights.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main');
my $root = new_root('photos');
my $other = new_root('other');

make_path("$root/d");
write_file("$root/f$_", "file $_") foreach 1 .. 10;
write_file("$root/d/$_", "file $_") foreach 1 .. 3;
write_file("$other/f$_", "file $_") foreach 1 .. 5;
my $id = add_repository($node, $root);
my $other_id = add_repository($node, $other);
wait_equal($node, $id, $root, 'first sync');
wait_equal($node, $other_id, $other, 'first sync of the other');
my $tree = status_of($node, $id, 'tree_pid');
my $other_tree = status_of($node, $other_id, 'tree_pid');

sub insert
{
	my ($path, %opt) = @_;
	my $override = $opt{id} ? 'OVERRIDING SYSTEM VALUE' : '';
	my ($column, $value) = $opt{id} ? ('id, ', "$opt{id}, ") : ('', '');

	$node->safe_psql($db, "
INSERT INTO file_records ($column repository_id, file_path, file_size, mod_time, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
$override
VALUES ($value '@{[ $opt{repository} // $id ]}', $path, 1, now(), now(), 1, now(), now(), 1, 1, 1)");
}

# ---- paths that no file can have ----

my %paths = (
	'empty' => "''",
	'of 3,000 bytes' => "repeat('x/', 1500) || 'x'",
	'with a component of 300 bytes' => "repeat('x', 300)",
	'with a deep component of 300 bytes' => "'d/' || repeat('x', 300) || '/f1'",
	'absolute' => "'/f1'",
	'that ends in a slash' => "'f1/'",
	'with an empty component' => "'d//1'",
	'with a dot' => "'./f1'",
	'with a dot inside' => "'d/./1'",
	'with two dots' => "'../photos/f1'",
	'of a slash' => "'/'",
	'of dots' => "'..'");
foreach my $name (sort keys %paths)
{
	insert($paths{$name});
	is(reconcile($node, $id), 'completed|0|0|0|0', "a path $name: a reconciliation");
	is_equal($node, $id, $root, "a path $name");
}
insert($paths{$_}) foreach sort keys %paths;
like($node->safe_psql($db, "SELECT status FROM fsync_verify('$id')"),
	qr/^completed$/, 'all of these: a verification');
is(reconcile($node, $id), 'completed|0|0|0|0', 'all of these: a reconciliation');
wait_equal($node, $id, $root, 'all of these');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'and no problem of them');

# found by the start of the worker, too
insert($paths{$_}) foreach sort keys %paths;
$node->restart;
wait_equal($node, $id, $root, 'all of these, after a restart');
$tree = status_of($node, $id, 'tree_pid');
$other_tree = status_of($node, $other_id, 'tree_pid');

# one that cannot go is a problem, and stops nothing
$node->safe_psql($db, 'CREATE TABLE refs (file_id bigint REFERENCES file_records)');
insert("''");
insert("repeat('y', 300)");
$node->safe_psql($db, "INSERT INTO refs SELECT id FROM file_records WHERE file_path = ''");
append_file("$root/f1", 'more');
is((split /\|/, reconcile($node, $id))[0], 'completed', 'one that is referenced: a reconciliation');
is($node->safe_psql($db, "SELECT file_path, problem FROM fsync_problems"),
	'|still referenced', 'one that is referenced is a problem');
$node->safe_psql($db, "DELETE FROM refs");
is(reconcile($node, $id), 'completed|0|0|0|0', 'referenced no more: a reconciliation');
wait_equal($node, $id, $root, 'referenced no more');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'and the problem is gone');

# ---- columns that are not the file's ----

foreach my $set ("mod_time = now()", "mod_time = 'infinity'", "mod_time = mod_time + interval '1 microsecond'",
	'mtime_ns = mtime_ns + 1', 'file_size = 77', 'content_hash = NULL', "content_hash = '\\x00'",
	'inode = 1', 'ctime_ns = 1', 'btime_ns = 1')
{
	my $before = ids_of($node, $id);
	$node->safe_psql($db, "UPDATE file_records SET $set WHERE repository_id = '$id' AND file_path IN ('f2', 'd/1')");
	like(reconcile($node, $id), qr/^completed\|/, "SET $set: a reconciliation");
	is_equal($node, $id, $root, "SET $set");
	is_deeply(ids_of($node, $id), $before, "SET $set: ids") unless $set =~ /^(inode|btime)/;
}
wait_equal($node, $id, $root, 'columns of rows');
reconcile_finds_nothing($node, $id, 'columns of rows');
is(status_of($node, $id, 'tree_pid'), $tree, 'all that by one fsync-tree');
is(status_of($node, $other_id, 'tree_pid'), $other_tree, 'and the other has its own');
reconcile_finds_nothing($node, $other_id, 'the other repository');

# ---- paths that cannot be registered ----

foreach my $case (
	[ "'/srv/' || repeat('x', 256) || '/y'", qr/42622.*has a component that is too long.*has 256 bytes; the most are 255/s ],
	[ "repeat('/x', 2100)", qr/42622.*is too long.*has 4200 bytes; a path can have at most 4095/s ])
{
	my ($expression, $message) = @$case;
	my ($rc, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose
SELECT fsync_add_repository($expression)");
	like($err, $message, "fsync_add_repository($expression) says what is wrong");
}

# ---- ids of their own ----

my $third = new_root('third');
my $third_id = '33333333-3333-4333-8333-333333333333';
write_file("$third/old$_", "old $_") foreach 1 .. 5;
my $next = $node->safe_psql($db, "SELECT nextval('file_records_id_seq')");
insert("'old$_'", id => $next + $_, repository => $third_id) foreach 1 .. 5;
add_repository($node, $third, args => "'$third_id'");
wait_equal($node, $third_id, $third, 'added to rows with their own ids');
is(join(' ', map { ids_of($node, $third_id)->{"old$_"} } 1 .. 5),
	join(' ', map { $next + $_ } 1 .. 5), 'they keep their ids');
write_file("$third/new$_", $_) foreach 1 .. 20;
write_file("$other/new$_", $_) foreach 1 .. 20;
wait_equal($node, $third_id, $third, 'new files beside ids of their own');
wait_equal($node, $other_id, $other, 'new files in the other');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'no duplicate key');

# while the worker runs, and before it starts
$next = $node->safe_psql($db, "SELECT max(id) FROM file_records");
insert("'mine$_'", id => $next + $_, repository => $third_id) foreach 1 .. 5;
write_file("$third/newer$_", $_) foreach 1 .. 10;
wait_ok($node, $third_id, 'ids that come while the worker runs');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0',
	'ids that come while the worker runs: no duplicate key');
like(reconcile($node, $third_id), qr/^completed\|/, 'reconciled');
wait_equal($node, $third_id, $third, 'ids that come while the worker runs');

$node->safe_psql($db, "
INSERT INTO sync_operations (id, repository_id, operation_type, start_time, end_time, status)
OVERRIDING SYSTEM VALUE
SELECT max(id) + i, '$third_id', 'realtime', now(), now(), 'completed'
FROM sync_operations, generate_series(1, 3) i GROUP BY i;
INSERT INTO file_changes (change_id, repository_id, file_id, operation, file_path, changed_at)
OVERRIDING SYSTEM VALUE
SELECT i, '$third_id', 1, 'removed', 'x', now() FROM generate_series(1, 3) i;
SELECT fsync_configure_repository('$third_id', change_feed => true)");
write_file("$third/fed", 'x');
is($node->safe_psql($db, "SELECT status FROM fsync_reconcile('$third_id')"),
	'completed', 'ids of runs that are there already');
wait_equal($node, $third_id, $third, 'ids of runs and changes that are there already');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'none of them is a problem');
isnt($node->safe_psql($db, "SELECT count(*) FROM file_changes WHERE file_path = 'fed'"),
	'0', 'the change is told');

# ---- a foreign key on the history ----

$node->safe_psql($db, "
CREATE TABLE notes (operation_id bigint REFERENCES sync_operations);
CREATE TABLE change_notes (change_id bigint REFERENCES file_changes);
INSERT INTO sync_operations (repository_id, operation_type, start_time, end_time, status)
SELECT '$other_id', 'realtime', now() - interval '2 years', now() - interval '2 years', 'completed'
FROM generate_series(1, 3000);
INSERT INTO notes SELECT min(id) + 1000 FROM sync_operations WHERE end_time < now() - interval '1 year';
CREATE TABLE secret (operation_id bigint);
INSERT INTO secret SELECT operation_id + 1 FROM notes;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
	\$\$BEGIN PERFORM FROM public.secret; RETURN OLD; END\$\$;
INSERT INTO file_changes (repository_id, file_id, operation, file_path, changed_at)
SELECT '$other_id', 1, 'removed', 'old' || i, now() - interval '2 years' FROM generate_series(1, 3000) i;
UPDATE file_changes SET changed_at = now() - interval '2 years';
INSERT INTO change_notes SELECT change_id FROM file_changes WHERE file_path = 'old500'");

# as the owner of the tables, who may not read it
my $secret = $node->safe_psql($db, 'SELECT operation_id FROM secret');
$node->safe_psql($db, "CREATE TRIGGER look BEFORE DELETE ON sync_operations FOR EACH ROW
WHEN (OLD.id = $secret) EXECUTE FUNCTION look()");
$node->reload;
ok( $node->poll_query_until($db,
		"SELECT count(*) = 2 FROM sync_operations WHERE end_time < now() - interval '1 year'"),
	'old operations go, but for one that is referenced and one that a trigger stumbles over');
ok( $node->poll_query_until($db,
		"SELECT count(*) = 1 FROM file_changes WHERE changed_at < now() - interval '1 year'"),
	'old changes go, but for the one that is referenced');
$node->append_conf('postgresql.conf', 'fsync.history_max_rows = 2');
$node->reload;
ok( $node->poll_query_until($db, "
SELECT count(*) <= 5 FROM sync_operations WHERE repository_id = '$other_id'"),
	'those beyond the number go, too');

# ---- a row that is inactive is so at once ----

my @states;
$node->safe_psql($db, 'DROP TABLE notes, change_notes; DROP TRIGGER look ON sync_operations');
for my $i (1 .. 30)
{
	push @states, $node->safe_psql($db, "
CREATE TEMP TABLE saved AS SELECT * FROM fsync_repositories WHERE repository_id = '$other_id';
SELECT fsync_remove_repository('$other_id');
INSERT INTO fsync_repositories SELECT * FROM saved;
SELECT state FROM fsync_status('$other_id')") =~ s/^\n+//r;
	$node->safe_psql($db, "SELECT fsync_activate_repository('$other_id'); SELECT fsync_wait('$other_id')");
}
is(join(' ', grep { $_ ne 'inactive' } @states), '', 'a row that was inserted again is inactive at once');

# ---- what the owner may not read ----

# A superuser has every right, so then the tables are given to somebody who lacks one.
my ($owner, $is_super) = split /\|/, $node->safe_psql($db, q(
SELECT rolname, rolsuper FROM pg_class JOIN pg_roles r ON r.oid = relowner
WHERE pg_class.oid = 'file_records'::regclass));
$node->safe_psql($db, 'CREATE ROLE weak');
foreach my $table ('fsync_problems', 'sync_operations', 'file_records', 'fsync_repositories')
{
	$node->safe_psql($db, $is_super eq 't' ? "
ALTER TABLE file_records OWNER TO weak;
GRANT ALL ON ALL TABLES IN SCHEMA public TO weak;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO weak;
GRANT USAGE ON SCHEMA public TO weak;
REVOKE ALL ON $table FROM weak" : "REVOKE ALL ON $table FROM $owner");
	my ($rc, $out, $err) = $node->psql($db, "SELECT state, reason FROM fsync_status('$id')");
	is($rc, 0, "without a right on $table: fsync_status() answers");
	wait_until(
		sub {
			($rc, $out, $err) = $node->psql($db, "SELECT state, reason FROM fsync_status('$id')");
			return $rc != 0 || $out =~ /^degraded\|./;
		});
	is($rc, 0, "without a right on $table: it still does");
	like($out, qr/^degraded\|./, "without a right on $table: and says so");
	$node->safe_psql($db, $is_super eq 't' ? "
GRANT ALL ON $table TO weak;
ALTER TABLE file_records OWNER TO $owner" : "GRANT ALL ON $table TO $owner");
}
wait_for_state($node, $id, 'watching', 'it comes back when the owner has his rights');
wait_equal($node, $id, $root, 'in the end');
$node->stop;
done_testing();
