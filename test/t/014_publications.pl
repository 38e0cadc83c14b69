#
# Logical replication's publications: one FOR ALL TABLES makes every table need a
# replica identity; a row filter or a column list that does not go with it makes
# every UPDATE or DELETE of the table fail.  That is the table's trouble: the state
# says so, no file is blamed, and it goes on by itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', conf => "wal_level = logical\n");
my $root = new_root('photos');
my $other = new_root('other');

write_file("$root/f$_", "file $_") foreach 1 .. 10;
write_file("$other/f$_", "file $_") foreach 1 .. 5;
my $id = add_repository($node, $root, args => 'change_feed => true');
my $other_id = add_repository($node, $other);
wait_equal($node, $id, $root, 'first sync');
wait_equal($node, $other_id, $other, 'first sync of the other');
$node->safe_psql($db, "SELECT fsync_create_consumer('c')");
my $worker = worker_pid($node, $db);

# ---- all tables ----

$node->safe_psql($db, 'CREATE PUBLICATION p FOR ALL TABLES');
is( $node->safe_psql($db, q(
SELECT string_agg(c.relname, ',') FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_class'::regclass
	AND d.deptype = 'e' AND c.relkind = 'r'
	AND NOT (c.relreplident IN ('f', 'i') OR c.relreplident = 'd' AND EXISTS
		(SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)))),
	'', 'each table of the extension has a replica identity');

chmod 0, "$root/f1" or die "chmod: $!";
append_file("$root/f2", 'more');
write_file("$root/new", 'x');
wait_ok($node, $id, 'all tables are published');
is($node->safe_psql($db, 'SELECT file_path, problem FROM fsync_problems'),
	'f1|permission denied', 'all tables are published: an unreadable file is one problem');
is($node->safe_psql($db, "SELECT count(*) FROM file_records WHERE file_path = 'new'"),
	'1', 'all tables are published: a new file');
is(reconcile($node, $id), 'completed|0|0|0|0', 'all tables are published: the problem again');
chmod 0644, "$root/f1" or die "chmod: $!";
append_file("$root/f1", 'more');
rename("$root/f3", "$root/three") or die "rename: $!";
unlink("$root/f4") or die "unlink: $!";
wait_equal($node, $id, $root, 'all tables are published: every kind of change');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'and no problem is left');
is($node->safe_psql($db, "SELECT status FROM fsync_verify('$id')"),
	'completed', 'all tables are published: a verification');
is($node->safe_psql($db, "SELECT status FROM fsync_verify('$id')"),
	'completed', 'all tables are published: and another one');
my $handed_out = $node->safe_psql($db, "SELECT count(*) FROM fsync_next_changes('c')");
cmp_ok($handed_out, '>', 0, 'all tables are published: changes are handed out');
is($node->safe_psql($db,
		"SELECT fsync_ack('c', array_agg(change_id)) FROM file_changes"),
	$handed_out, 'all tables are published: and acknowledged');
$node->safe_psql($db, 'DROP PUBLICATION p');

# ---- a publication that does not go with the table ----

my @cases = (
	[ 'a row filter', 'CREATE PUBLICATION p FOR TABLE file_records WHERE (file_size > 0)',
		qr/^cannot (update|delete from) table "file_records": Column used in the publication WHERE expression is not part of the replica identity/ ],
	[ 'a column list', 'CREATE PUBLICATION p FOR TABLE file_records (file_path, file_size)',
		qr/^cannot (update|delete from) table "file_records": Column list used by the publication does not cover the replica identity/ ],
	[ 'no replica identity', 'ALTER TABLE file_records REPLICA IDENTITY NOTHING;
CREATE PUBLICATION p FOR TABLE file_records',
		qr/^cannot (update|delete from) table "file_records" because it does not have a replica identity/ ]);

# Row filters and column lists came with 15.
@cases = grep { $_->[0] eq 'no replica identity' } @cases if server_version() < 15;
foreach my $case (@cases)
{
	my ($name, $sql, $reason) = @$case;

	foreach my $change ('one file', 'many files', 'a removal', 'a rename')
	{
		$node->safe_psql($db, $sql);
		if ($change eq 'one file') { append_file("$root/f5", $name); }
		elsif ($change eq 'many files') { append_file("$root/f$_", $name) foreach 5 .. 10; }
		elsif ($change eq 'a removal') { unlink("$root/f6") or die "unlink: $!"; }
		else { rename("$root/f7", "$root/seven") or die "rename: $!"; }
		wait_for_status($node, $id, 'reason', $reason, "$name, $change: the state has the detail");
		like($node->safe_psql($db, "SELECT state || ': ' || hint FROM fsync_status('$id')"),
			qr/^degraded: .*REPLICA IDENTITY/, "$name, $change: and a hint");
		is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'),
			'0', "$name, $change: no file is blamed");
		is($node->safe_psql($db, "SELECT fsync_wait('$id', timeout => '300 ms')"),
			'f', "$name, $change: a barrier does not say that all is done");

		# one that has nothing to write goes on
		is($node->safe_psql($db, "SELECT fsync_wait('$other_id')"),
			't', "$name, $change: the other repository");
		is(status_of($node, $other_id, 'state'), 'watching', "$name, $change: and its state");
		# at once with its content: an empty file that is written to is updated
		write_file("$other/new.tmp", "$name, $change");
		rename("$other/new.tmp", "$other/new") or die "rename: $!";
		wait_equal($node, $other_id, $other, "$name, $change: a new file in the other");
		$node->safe_psql($db, 'DROP PUBLICATION p; ALTER TABLE file_records REPLICA IDENTITY DEFAULT');
		wait_for_state($node, $id, 'watching', "$name, $change: it goes on by itself");
		wait_equal($node, $id, $root, "$name, $change: in the end");
		unlink("$other/new");
		wait_equal($node, $other_id, $other, "$name, $change: the other in the end");
		rename("$root/seven", "$root/f7") if -e "$root/seven";
		write_file("$root/f6", 'there again') if !-e "$root/f6";
		wait_equal($node, $id, $root, 'there again');
	}
}

is(worker_pid($node, $db), $worker, 'all that by the same worker');
reconcile_finds_nothing($node, $id, 'in the end');
reconcile_finds_nothing($node, $other_id, 'in the end, the other');
$node->stop;
done_testing();
