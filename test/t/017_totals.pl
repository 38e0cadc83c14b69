#
# What fsync_status() says of files, bytes and problems is what a count of the
# rows says, whenever fsync_wait() has returned true, and no row is read for
# it: after changes of every kind, after what others wrote in every way, after
# what the database refused or altered, under on_missing = 'mark', after
# crashes.  Another repository of the database is not mistaken for a moment.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', conf => "max_prepared_transactions = 2\nrestart_after_crash = on\n");
my $root = new_root('root');
my $other = new_root('other');
my $rows = PostgreSQL::Test::Utils::tempdir() . '/rows';

write_file("$other/f$_", 'o' x $_) foreach 1 .. 7;
my $other_id = add_repository($node, $other);
make_path("$root/d/e", "$root/x");
write_file("$root/f$_", 'f' x (10 * $_)) foreach 1 .. 30;
write_file("$root/d/$_", 'd' x $_) foreach 1 .. 20;
write_file("$root/d/e/$_", 'e' x $_) foreach 1 .. 20;
my $id = add_repository($node, $root);

my $compare = q(
SELECT coalesce(string_agg(format('%s: %s files, %s bytes, %s problems; rows: %s, %s, %s',
	s.path, s.total_files, s.total_bytes, s.problems, f.n, f.bytes, p.n), ', '), 'equal')
FROM fsync_status() s
CROSS JOIN LATERAL (SELECT count(*) AS n, coalesce(sum(file_size), 0) AS bytes FROM file_records r
	WHERE r.repository_id = s.repository_id AND missing_since IS NULL) f
CROSS JOIN LATERAL (SELECT count(*) AS n FROM fsync_problems r
	WHERE r.repository_id = s.repository_id) p
WHERE (s.total_files, s.total_bytes, s.problems) IS DISTINCT FROM (f.n, f.bytes, p.n));

# How often the tables of files and of problems are read by fsync_status().
sub reads
{
	return $node->safe_psql($db, q(
BEGIN;
SELECT count(*) FROM fsync_status() \g /dev/null
SELECT coalesce(sum(seq_scan) + sum(coalesce(idx_scan, 0)), 0) FROM pg_stat_xact_user_tables
WHERE relname IN ('file_records', 'fsync_problems');
COMMIT;
));
}

sub equal
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql($db, $compare), 'equal', "$name: what is said is what a count says");
}

# They are equal, and no row is read: the worker has followed what it wrote.
sub followed
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_ok($node, $id, $name) or return;
	equal($name);
	reads();    # who counts the problems leaves the number for the next one
	is(reads(), '0', "$name: no row is read");
}

# They are equal at once, and some time later no row is read.
sub counted_anew
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	equal("$name, at once");
	ok(wait_until(sub { reads() eq '0' }), "$name: no row is read, after some time");
	equal($name);
}

wait_ok($node, $other_id, 'first sync of the other');
wait_ok($node, $id, 'first sync');
counted_anew('first sync');

# ---- changes on disk ----

write_file("$root/new$_", 'n' x $_) foreach 1 .. 10;
followed('new files');
append_file("$root/f$_", 'more') foreach 1 .. 5;
followed('files that grow');
truncate("$root/f$_", 1) foreach 6 .. 10;
followed('files that shrink');
write_file("$root/f11", '');
followed('an empty file');
unlink("$root/f12", "$root/f13");
followed('files that go');
rename("$root/f14", "$root/d/f14");
rename("$root/f15", "$root/f16");
followed('files that are renamed, one of them onto another');
rename("$root/f17", "$root/aside");
rename("$root/f18", "$root/f17");
rename("$root/aside", "$root/f18");
append_file("$root/f17", 'more of that');
followed('files that exchange their names');
rename("$root/d", "$root/z");
followed('a directory that is renamed');
rename("$root/z/e", "$root/x/e");
append_file("$root/x/e/1", 'more');
followed('a directory that is renamed, and a file in it that grows');
link("$root/f20", "$root/x/link");
followed('another name');
append_file("$root/f20", 'more of both');
followed('both names grow');
chmod(0600, "$root/f21");
utime(1, 1, "$root/f22");
followed('touched files');
make_path("$root/many");
write_file("$root/many/$_", $_) foreach 1 .. 3000;
followed('many files');
append_file("$root/many/$_", 'x') foreach 1 .. 1500;
followed('many changed ones');
rename("$root/many", "$root/a-few");
followed('many renamed ones');
remove_tree("$root/a-few", "$root/x");
followed('many removed ones');
rename("$root/z", $other . '/from');
wait_ok($node, $other_id, 'from one to the other');
followed('a directory that goes from one repository to the other');

# ---- what others write ----

my $one = "repository_id = '$id'";
my @writes = (
	[ 'UPDATE', "UPDATE file_records SET file_size = file_size + 1000 WHERE $one" ],
	[ 'DELETE', "DELETE FROM file_records WHERE $one AND file_path LIKE 'f%'" ],
	[ 'INSERT', "INSERT INTO file_records (repository_id, file_path, file_size, mod_time, last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
		SELECT repository_id, 'by hand', 77, mod_time, last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns FROM file_records WHERE $one LIMIT 1" ],
	[ 'a mark', "UPDATE file_records SET missing_since = now() WHERE $one AND file_path = 'f23'" ],
	[ 'another repository', "UPDATE file_records SET repository_id = '$other_id', file_path = 'stray' WHERE $one AND file_path = 'f24'" ],
	[ 'COPY', "COPY (SELECT * FROM file_records) TO '$rows'; DELETE FROM file_records; COPY file_records FROM '$rows'" ],
	[ 'a replica', "SET session_replication_role = replica; DELETE FROM file_records WHERE $one AND file_path > 'f25'" ],
	[ 'triggers off', "ALTER TABLE file_records DISABLE TRIGGER ALL; DELETE FROM file_records WHERE $one AND file_path > 'f24';
		ALTER TABLE file_records ENABLE TRIGGER ALL" ],
	[ 'a cascade', "CREATE TABLE owners (id int PRIMARY KEY); INSERT INTO owners VALUES (1), (2);
		ALTER TABLE file_records ADD COLUMN owner int REFERENCES owners ON DELETE CASCADE" ],
	[ 'a cascade that deletes', "UPDATE file_records SET owner = 1 WHERE $one AND file_path LIKE 'f1%'; DELETE FROM owners WHERE id = 1" ],
	[ 'a function', "DO \$\$ BEGIN DELETE FROM file_records WHERE $one AND file_path LIKE 'f2%'; END \$\$" ],
	[ 'a subtransaction', "BEGIN; SAVEPOINT s; DELETE FROM file_records WHERE $one; ROLLBACK TO s;
		SAVEPOINT t; DELETE FROM file_records WHERE $one AND file_path LIKE 'n%'; RELEASE t; COMMIT" ],
	[ 'nothing, in the end', "BEGIN; DELETE FROM file_records; ROLLBACK" ],
	[ 'ALTER TABLE', "ALTER TABLE file_records ADD COLUMN extra uuid DEFAULT gen_random_uuid()" ],
	[ 'TRUNCATE', 'TRUNCATE file_records CASCADE' ]);
foreach my $write (@writes)
{
	my ($name, $sql) = @$write;

	$node->safe_psql($db, $sql);
	counted_anew("others: $name");
	$node->safe_psql($db, "SELECT fsync_reconcile('$id'); SELECT fsync_reconcile('$other_id')");
	followed("others: $name, mended");
}
is_equal($node, $id, $root, 'others');
is_equal($node, $other_id, $other, 'others, the other repository');

# within a transaction of one's own
is($node->safe_psql($db, "BEGIN; DELETE FROM file_records WHERE $one AND file_path < 'f2'; $compare; ROLLBACK"),
	'equal', 'who has written sees what was written');
followed('rolled back');
my $reader = start_sql($node, $db, 'reader', "
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM file_records \\g /dev/null
SET application_name = 'reader waits';
DO \$\$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'writer') LOOP
	PERFORM pg_sleep(0.02); PERFORM pg_stat_clear_snapshot(); END LOOP; END \$\$;
$compare;
COMMIT");
wait_for_backend($node, 'reader waits', 'true');
write_file("$root/later", 'later');
wait_ok($node, $id, 'a file that comes later');
my $writer = start_sql($node, $db, 'writer', 'SELECT pg_sleep(0)' .
	'; SET application_name = writer; DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity'
	. q( WHERE application_name = 'reader waits') . ') LOOP PERFORM pg_sleep(0.02); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$');
my (undef, $seen) = finish_sql($reader);
like($seen, qr/^equal$/m, 'who reads as of before sees what was before');
finish_sql($writer);
followed('and all others what is now');

# prepared
$node->safe_psql($db, "BEGIN; DELETE FROM file_records WHERE $one AND file_path < 'f2'; PREPARE TRANSACTION 'gone'");
equal('prepared');
$node->safe_psql($db, "COMMIT PREPARED 'gone'");
counted_anew('committed after it was prepared');
$node->safe_psql($db, "SELECT fsync_reconcile('$id')");
followed('committed after it was prepared, mended');
$node->safe_psql($db, "BEGIN; UPDATE file_records SET file_size = 5 WHERE $one; PREPARE TRANSACTION 'kept'");
$node->restart;
wait_ok($node, $other_id, 'a prepared transaction that outlives the server');
equal('a prepared transaction that outlives the server');
$node->safe_psql($db, "COMMIT PREPARED 'kept'");
counted_anew('a prepared transaction that outlived the server');
$node->safe_psql($db, "SELECT fsync_reconcile('$id')");
followed('a prepared transaction that outlived the server, mended');

# ---- what the database refuses or alters ----

$node->safe_psql($db, "ALTER TABLE file_records ADD CONSTRAINT small CHECK (file_size < 500 OR repository_id <> '$id')");
write_file("$root/large$_", 'l' x (400 + 50 * $_)) foreach 1 .. 6;
append_file("$root/f25", 'l' x 500);
followed('a constraint that refuses some');
is(status_of($node, $id, 'problems'), '6', 'a constraint that refuses some: they are problems');
unlink("$root/large6");
write_file("$root/f25", 'small');
followed('some are gone');
$node->safe_psql($db, 'ALTER TABLE file_records DROP CONSTRAINT small');
$node->safe_psql($db, "SELECT fsync_reconcile('$id')");
followed('the constraint is dropped');
is(status_of($node, $id, 'problems'), '0', 'the constraint is dropped: no problem is left');

my @triggers = (
	[ 'leaves out rows', 'BEFORE INSERT OR UPDATE OR DELETE', q(IF NEW.file_path LIKE '%3' THEN RETURN NULL; END IF; RETURN coalesce(NEW, OLD)) ],
	[ 'changes sizes', 'BEFORE INSERT OR UPDATE', 'NEW.file_size = NEW.file_size + 3; RETURN NEW' ],
	[ 'changes paths', 'BEFORE INSERT', q(NEW.file_path = replace(NEW.file_path, 'trig', 'gun'); RETURN NEW) ],
	[ 'marks', 'BEFORE INSERT', q(IF NEW.file_path LIKE '%2' THEN NEW.missing_since = now(); END IF; RETURN NEW) ],
	[ 'updates other rows', 'AFTER INSERT', qq(UPDATE file_records SET file_size = file_size + 1 WHERE repository_id = '$other_id'; RETURN NULL) ],
	[ 'deletes other rows', 'AFTER INSERT OR UPDATE', q(DELETE FROM file_records WHERE file_path = 'f26'; RETURN NULL) ],
	[ 'does so when it is deferred', 'DEFERRED', q(UPDATE file_records SET file_size = file_size + 1 WHERE file_path = 'f27'; RETURN NULL) ]);
foreach my $trigger (@triggers)
{
	my ($name, $when, $body) = @$trigger;
	my $event = $when eq 'DEFERRED' ? 'CREATE CONSTRAINT TRIGGER meddle AFTER INSERT ON file_records DEFERRABLE INITIALLY DEFERRED'
		: "CREATE TRIGGER meddle $when ON file_records";

	$node->safe_psql($db, qq(
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS \$\$ BEGIN $body; END \$\$;
$event FOR EACH ROW EXECUTE FUNCTION meddle()));
	write_file("$root/trig$_", 't' x $_) foreach 1 .. 5;
	append_file("$root/f28", $name);
	rename("$root/f29", "$root/was29");
	unlink("$root/trig4");
	wait_ok($node, $id, "a trigger that $name");
	equal("a trigger that $name");
	rename("$root/was29", "$root/f29");
	unlink(map { "$root/trig$_" } 1 .. 5);
	wait_ok($node, $id, "a trigger that $name, more");
	equal("a trigger that $name, more");
	counted_anew("a trigger that $name");
	$node->safe_psql($db, 'DROP TRIGGER meddle ON file_records; DROP FUNCTION meddle()');
	$node->safe_psql($db, "SELECT fsync_reconcile('$id'); SELECT fsync_reconcile('$other_id')");
	wait_ok($node, $id, "a trigger that $name, mended");
	counted_anew("a trigger that $name, mended");
}
$node->safe_psql($db, 'CREATE RULE as_well AS ON INSERT TO file_records DO ALSO DELETE FROM file_records WHERE file_path = \'f26\'');
write_file("$root/rule$_", 'r' x $_) foreach 1 .. 5;
wait_ok($node, $id, 'a rule');
counted_anew('a rule');
$node->safe_psql($db, 'DROP RULE as_well ON file_records');
$node->safe_psql($db, 'CREATE TABLE heirs () INHERITS (file_records)');
$node->safe_psql($db, "INSERT INTO heirs SELECT * FROM file_records WHERE $one AND file_path = 'f27'");
equal('a table that inherits');
$node->safe_psql($db, 'DROP TABLE heirs; ANALYZE file_records');
counted_anew('a table that inherited');
$node->safe_psql($db, "SELECT fsync_reconcile('$id')");

# ---- problems that others write ----

$node->safe_psql($db, "INSERT INTO fsync_problems (repository_id, path, file_path, problem, first_seen, last_seen)
	VALUES ('$id', 'x', 'x', 'cannot be read', now(), now())");
followed('a problem of a user');
$node->safe_psql($db, 'DELETE FROM fsync_problems');
followed('which is taken back');

# ---- missing files ----

$node->safe_psql($db, "SELECT fsync_configure_repository('$id', on_missing => 'mark')");
write_file("$root/m$_", 'm' x $_) foreach 1 .. 10;
followed('on_missing = mark');
unlink("$root/m$_") foreach 1 .. 6;
followed('files that are missing');
isnt($node->safe_psql($db, "SELECT count(*) FROM file_records WHERE $one AND missing_since IS NOT NULL"), '0',
	'files that are missing: their rows are there');
write_file("$root/m1", 'm');
write_file("$root/m2", 'another m');
rename("$root/m7", "$root/m3");
followed('some are there again');
unlink("$root/m8");
link("$root/m9", "$root/m8");
followed('another file takes the place of one');
$node->safe_psql($db, "SELECT fsync_configure_repository('$id', on_missing => 'delete')");
ok($node->poll_query_until($db, "SELECT count(*) = 0 FROM file_records WHERE missing_since IS NOT NULL"),
	'missing files are purged');
followed('missing files are purged');

# ---- crashes ----

kill('KILL', tree_pid($node, $id));
write_file("$root/crash1", 'crash');
followed('kill -9 of fsync-tree');
kill('KILL', worker_pid($node, $db));
write_file("$root/crash2", 'crash of the worker');
wait_for_server($node);
wait_ok($node, $id, 'kill -9 of the worker');
wait_ok($node, $other_id, 'kill -9 of the worker');
counted_anew('kill -9 of the worker');
$node->stop('immediate');
unlink("$root/crash1");
$node->start;
wait_ok($node, $id, 'kill -9 of the server');
wait_ok($node, $other_id, 'kill -9 of the server');
counted_anew('kill -9 of the server');
rename($root, "$root.away");
wait_for_state($node, $id, 'unavailable', 'the root is away');
$node->restart;
counted_anew('a root that was away from the start');
rename("$root.away", $root);
wait_for_state($node, $id, 'watching', 'the root is back');
followed('the root is back');

# ---- a scan proves them ----

SKIP:
{
	skip 'pg_surgery is not installed', 3
	  if $node->safe_psql($db, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_surgery'") eq '0';
	my $position = log_position($node);

	# a way to the rows that keeps no lock
	$node->safe_psql($db, 'CREATE EXTENSION pg_surgery');
	$node->safe_psql($db, "SELECT heap_force_kill('file_records', ARRAY(SELECT ctid FROM file_records WHERE $one AND file_path = 'f27'))");
	is(reads(), '0', 'damage is not noticed');
	$node->safe_psql($db, "SELECT fsync_reconcile('$id')");
	like(join("\n", said($node, $position, qr/totals/)), qr/the totals of repository .* were wrong/,
		'a scan logs that they were wrong');
	followed('after that scan');
	is(scalar(said($node, 0, qr/totals of repository/)), 1, 'and it is the only one that had anything to log');
}

# who made the extension anew, and asks before the worker knows
is($node->safe_psql($db, 'BEGIN; DROP EXTENSION fsync CASCADE; CREATE EXTENSION fsync;'
	  . 'SELECT fsync_add_repository(' . sql_path($root) . ') \\g /dev/null' . "\nSELECT total_files, problems FROM fsync_status(); ROLLBACK"),
	'0|0', 'tables that the worker does not know');
followed('that was rolled back');

done_testing();
