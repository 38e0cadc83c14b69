#
# Sessions that add, wait and reconcile: transactions, isolation levels,
# deadlocks, cancellation, time limits.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "max_prepared_transactions = 2\n");
my $root = new_root('photos');

make_tree($root, 100);

# ---- adding is transactional ----

my $uuid = '11111111-1111-4111-8111-111111111111';
my $path = sql_path($root);

$node->safe_psql('postgres', "BEGIN; SELECT fsync_add_repository($path, '$uuid'); ROLLBACK");
is($node->safe_psql('postgres', 'SELECT count(*) FROM fsync_status()'),
	'0', 'added and rolled back: there is no repository');
wait_until(sub { worker_pid($node, 'postgres') eq '' }, 'and no worker');

my ($rc, $out, $err) = $node->psql('postgres',
	"BEGIN; SELECT fsync_add_repository($path, '$uuid'); PREPARE TRANSACTION 'x'");
isnt($rc, 0, 'a transaction that added a repository cannot be prepared');
is($node->safe_psql('postgres', 'SELECT count(*) FROM fsync_status()'), '0', 'and added nothing');

is( $node->safe_psql('postgres', "
BEGIN;
SAVEPOINT s;
SELECT fsync_add_repository($path, '22222222-2222-4222-8222-222222222222');
ROLLBACK TO s;
SELECT fsync_add_repository($path, '$uuid');
COMMIT;
SELECT string_agg(repository_id::text, ',') FROM fsync_status()"),
	"22222222-2222-4222-8222-222222222222\n$uuid\n$uuid",
	'a savepoint rolled back takes its repository with it');
my $id = $uuid;
wait_equal($node, $id, $root, 'added by a transaction that was committed');

# ---- what a waiter can see ----

($rc, $out, $err) = $node->psql('postgres',
	"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT fsync_wait('$id')");
isnt($rc, 0, 'fsync_wait() raises under REPEATABLE READ');
like($err, qr/isolation|REPEATABLE READ/i, 'and says why');

write_file("$root/seen.txt", 'x');
is( $node->safe_psql('postgres', "
BEGIN;
SELECT fsync_wait('$id');
SELECT count(*) FROM file_records WHERE file_path = 'seen.txt';
COMMIT"),
	"t\n1", 'the next statement of the same transaction sees the rows');

write_file("$root/seen too.txt", 'x');
is( $node->safe_psql('postgres', "SELECT fsync_wait()"), 't',
	'without an id, all repositories are waited for');
is_equal($node, $id, $root, 'after fsync_wait()');

write_file("$root/by reconcile.txt", 'x');
is( $node->safe_psql('postgres', "SELECT status, end_time IS NOT NULL FROM fsync_reconcile('$id')"),
	'completed|t', 'fsync_reconcile() returns the row of a run that has ended');
is_equal($node, $id, $root, 'after fsync_reconcile()');
is( $node->safe_psql('postgres', "SELECT count(*) FROM fsync_reconcile()"),
	'1', 'without an id, it returns one row a repository');

# ---- the procedure ----

is($node->safe_psql('postgres', 'CALL fsync_reconcile_all()'), '', 'fsync_reconcile_all() can be called');
($rc, $out, $err) = $node->psql('postgres', 'BEGIN; CALL fsync_reconcile_all()');
isnt($rc, 0, 'but not in a transaction block, since it commits');

# ---- unknown ones ----

foreach my $call ("fsync_wait('$uuid'::uuid)", "fsync_reconcile('$uuid')",
	"fsync_remove_repository('$uuid')")
{
	(my $unknown = $call) =~ s/\Q$uuid\E/99999999-9999-4999-8999-999999999999/;
	($rc, $out, $err) = $node->psql('postgres', "SELECT $unknown");
	isnt($rc, 0, "$unknown raises: there is no such repository");
}

# ---- a caller that blocks the worker ----

# The file is written when the lock is held, or else it might be in the table
# already.
sub blocked_caller
{
	my ($file, $call) = @_;

	return finish_sql(
		start_sql($node, 'postgres', 'blocker', qq(
BEGIN;
LOCK TABLE file_records IN EXCLUSIVE MODE;
\\! echo x > '$root/$file'
SELECT $call;
)));
}

($rc, $out, $err) = blocked_caller('blocked.txt', "fsync_wait('$id', timeout => '1 hour')");
isnt($rc, 0, 'a caller that itself blocks the worker does not wait for ever');
like($err, qr/40P01/, 'but gets the error of a deadlock');
wait_equal($node, $id, $root, 'after the deadlock');

($rc, $out, $err) = blocked_caller('blocked too.txt', "fsync_reconcile('$id')");
isnt($rc, 0, 'the same for fsync_reconcile()');
like($err, qr/40P01/, 'which gets the error of a deadlock too');
wait_equal($node, $id, $root, 'after the second deadlock');

# ---- somebody else blocks the worker ----

# Holds a lock until it is told to go: EXCLUSIVE, against writers, or ACCESS
# EXCLUSIVE.
sub hold_lock
{
	my ($mode) = @_;
	my $holder = start_sql($node, 'postgres', 'holder',
		"BEGIN; LOCK TABLE file_records IN $mode MODE; SELECT pg_sleep(600);");

	wait_for_backend($node, 'holder', "wait_event = 'PgSleep'");
	return $holder;
}

sub release_lock
{
	my ($holder) = @_;

	$node->safe_psql('postgres',
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
	finish_sql($holder);
}

my $holder = hold_lock('EXCLUSIVE');
write_file("$root/late.txt", 'x');
is( $node->safe_psql('postgres', "SELECT fsync_wait('$id', timeout => '500 ms')"),
	'f', 'fsync_wait() returns false when its time is over');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE file_path = 'late.txt'"),
	'0', 'and the change is not there');


my $waiter = start_sql($node, 'postgres', 'waiter', "SELECT fsync_wait('$id', timeout => '1 hour');");
wait_for_backend($node, 'waiter', "state = 'active' AND wait_event_type IS NOT NULL");
$node->safe_psql('postgres',
	"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'");
($rc, $out, $err) = finish_sql($waiter);
like($err, qr/57014/, 'a waiter can be cancelled');

my $limited = start_sql($node, 'postgres', 'limited',
	"SET statement_timeout = '300ms'; SELECT fsync_wait('$id', timeout => '1 hour');");
($rc, $out, $err) = finish_sql($limited);
like($err, qr/57014/, 'statement_timeout ends a waiter');

release_lock($holder);
wait_equal($node, $id, $root, 'after the lock is gone');

# A run that has begun, and cannot write what it found.  With a long debounce it
# is the run that finds it, not real time.
$node->append_conf('postgresql.conf', q(
fsync.debounce_interval = 10min
fsync.debounce_max_delay = 10min
));
$node->restart;
wait_equal($node, $id, $root, 'after a restart');
my $last = latest_operation($node, $id);
$holder = hold_lock('EXCLUSIVE');
write_file("$root/found by a run.txt", 'x');
my $reconciler = start_sql($node, 'postgres', 'reconciler', "SELECT fsync_reconcile('$id');");
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM sync_operations WHERE id > $last AND status = 'running'"),
	'a reconciliation has begun');
$node->safe_psql('postgres',
	"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'reconciler'");
($rc, $out, $err) = finish_sql($reconciler);
like($err, qr/57014/, 'one that waits for it can be cancelled');
release_lock($holder);
my ($status) = wait_for_operation($node, $id, 'reconciliation', $last);
is($status, 'completed', 'and the run goes on to its end');
wait_equal($node, $id, $root, 'after the run');
$node->append_conf('postgresql.conf', q(
fsync.debounce_interval = 50ms
fsync.debounce_max_delay = 5s
));
$node->reload;

# ---- many waiters ----

my @waiters;
write_file("$root/for many $_.txt", 'x') foreach 1 .. 20;
push @waiters, start_sql($node, 'postgres', "many $_",
	"SELECT fsync_wait('$id'); SELECT count(*) FROM file_records WHERE file_path LIKE 'for many%';")
  foreach 1 .. 8;
my @answers = map { my ($r, $o) = finish_sql($_); $o } @waiters;
is(join(' ', map { s/\n/,/r } @answers), join(' ', ('t,20') x 8), 'many sessions can wait at once');

# ---- a long lock: the worker waits it out ----

$holder = hold_lock('EXCLUSIVE');
write_file("$root/patience.txt", 'x');
rename("$root/for many 1.txt", "$root/for many one.txt") or die "rename: $!";
# long enough for its lock_timeout to strike
my $worker = worker_pid($node, 'postgres');
ok( $node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_locks WHERE pid = $worker AND NOT granted"),
	'the worker waits for the lock');
ok( $node->poll_query_until('postgres',
		"SELECT state = 'degraded' OR pending_changes > 0 FROM fsync_status('$id')"),
	'fsync_status() shows that something waits');
release_lock($holder);
wait_equal($node, $id, $root, 'after a long lock');
is(worker_pid($node, 'postgres'), $worker, 'by the same worker');
is($node->safe_psql('postgres', "SELECT count(*) FROM fsync_problems"), '0',
	'a lock makes no problems of files');

# ---- statistics after a first scan ----

my $large = new_root('large');
my $analyzed = "SELECT reltuples >= 1200 FROM pg_class WHERE oid = 'file_records'::regclass";
write_file("$large/$_.txt", $_) foreach 1 .. 1200;
$node->safe_psql('postgres', 'ALTER TABLE file_records SET (autovacuum_enabled = off)');
my $large_id = add_repository($node, $large);
wait_equal($node, $large_id, $large, 'a first scan of many files');
ok($node->poll_query_until('postgres', $analyzed), 'a first scan of many files: statistics come');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$large_id')");

# An ANALYZE that takes as long as somebody holds a lock, which nobody does who
# waits for the files.
$node->safe_psql('postgres', q(
CREATE FUNCTION slow(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_stat_activity
		WHERE pid = pg_catalog.pg_backend_pid() AND query LIKE '%analyzing%') THEN
		WHILE NOT pg_catalog.pg_try_advisory_xact_lock_shared(42) LOOP
			PERFORM pg_catalog.pg_sleep(0.01);
		END LOOP;
	END IF;
	RETURN $1;
END $$;
CREATE INDEX by_slow ON file_records (slow(file_size))));
my $locker = start_sql($node, 'postgres', 'locker', 'SELECT pg_advisory_lock(42), pg_sleep(600)');
wait_for_backend($node, 'locker', "wait_event = 'PgSleep'");
my $last_analyze = "SELECT coalesce(last_analyze, '-infinity') FROM pg_stat_user_tables
	WHERE relid = 'file_records'::regclass";
my $before = $node->safe_psql('postgres', $last_analyze);
$large_id = '33333333-3333-4333-8333-333333333333';
is( $node->safe_psql('postgres', "
SELECT fsync_add_repository(" . sql_path($large) . ", '$large_id');
SELECT fsync_wait('$large_id', timeout => '3 min');
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'locker'"),
	"$large_id\nt\nt", 'statistics are held up: who waits for the files has the answer before');
ok($node->poll_query_until('postgres', "SELECT ($last_analyze) > '$before'"),
	'statistics are held up: they come');
finish_sql($locker);
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$large_id'); DROP INDEX by_slow");

# A table that is locked is not waited for, but tried again.
$node->safe_psql('postgres', 'ALTER SYSTEM SET log_min_messages = debug1');
$node->reload;
my $log = -s $node->logfile;
$locker = start_sql($node, 'postgres', 'locker', "
BEGIN;
LOCK TABLE file_records IN SHARE UPDATE EXCLUSIVE MODE;
SELECT pg_sleep(600)");
wait_for_backend($node, 'locker', "wait_event = 'PgSleep'");
$before = $node->safe_psql('postgres', $last_analyze);
$large_id = add_repository($node, $large);
wait_equal($node, $large_id, $large, 'a locked table');
$node->wait_for_log(qr/will be analyzed later/, $log);
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'locker'");
ok($node->poll_query_until('postgres', "SELECT ($last_analyze) > '$before'"),
	'a locked table: statistics come when it is free');
finish_sql($locker);
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$large_id')");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET log_min_messages');
$node->reload;

# An index of a user's that cannot be analyzed.  What a worker does is shown to
# its own role, a superuser, but not to the owner of the tables.
$log = -s $node->logfile;
$node->safe_psql('postgres', q(
CREATE FUNCTION picky(bigint) RETURNS bigint IMMUTABLE SECURITY DEFINER LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_stat_activity
		WHERE pid = pg_catalog.pg_backend_pid() AND query LIKE '%analyzing%') THEN
		RAISE EXCEPTION 'nobody analyzes me';
	END IF;
	RETURN $1;
END $$;
CREATE INDEX by_picky ON file_records (picky(file_size))));
$large_id = add_repository($node, $large);
wait_equal($node, $large_id, $large, 'statistics fail');
$node->wait_for_log(qr/LOG:  could not analyze table "file_records" of database \d+: nobody analyzes me/, $log);
is($node->safe_psql('postgres', "SELECT count(*) FROM fsync_status() WHERE state <> 'watching'"),
	'0', 'statistics fail: no repository is the worse for it');
is( $node->safe_psql('postgres',
		"SELECT status FROM sync_operations WHERE repository_id = '$large_id'"),
	'completed', 'statistics fail: the scan is complete');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$large_id')");
$node->safe_psql('postgres', 'DROP INDEX by_picky');

# ---- settings forced on the worker ----

$node->safe_psql('postgres', q(
ALTER DATABASE postgres SET default_transaction_read_only = on;
));
$node->append_conf('postgresql.conf', q(
default_transaction_isolation = 'serializable'
statement_timeout = '3s'
lock_timeout = '100ms'
search_path = 'nowhere'
));
$node->restart;
write_file("$root/read only.txt", 'x');
is( $node->safe_psql('postgres', "
SET search_path = public; SET default_transaction_isolation = 'read committed';
SET statement_timeout = 0; SET lock_timeout = 0;
BEGIN READ WRITE; SELECT fsync_wait('$id'); COMMIT"),
	't', 'the worker works under settings that would stop it');
$node->safe_psql('postgres', "
SET default_transaction_read_only = off; ALTER DATABASE postgres RESET ALL");
$node->append_conf('postgresql.conf', q(
default_transaction_isolation = 'read committed'
statement_timeout = 0
lock_timeout = 0
search_path = 'public'
));
$node->restart;
wait_equal($node, $id, $root, 'after that');

# ---- removal while it works ----

make_tree("$root/much more", 500);
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");
is($node->safe_psql('postgres', 'SELECT count(*) FROM file_records'), '0',
	'removed while the worker was writing: no row is left');
$id = add_repository($node, $root);
wait_equal($node, $id, $root, 'and added again');

$node->stop;
done_testing();
