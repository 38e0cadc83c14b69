#
# A database that is in the worker's way: settings that were not meant for it, a
# lock on its table, row security, a full disk, a synchronous standby that is
# missing.  The state says so, nothing is lost, and the table is equal to the
# disk when it is over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

# Small file systems of our own need a mount namespace of our own.
BEGIN
{
	my @namespace = ('unshare', '--user', '--map-current-user', '--keep-caps', '--mount');

	if (!defined $ENV{FSYNC_TEST_NAMESPACE})
	{
		$ENV{FSYNC_TEST_NAMESPACE} =
		  system("@namespace mount -t tmpfs none /mnt >/dev/null 2>&1") == 0;
		exec(@namespace, $^X, (map { "-I$_" } @INC), $0) if $ENV{FSYNC_TEST_NAMESPACE};
	}
}

use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';

# Waits until the log says that the repository is degraded, and why.
sub wait_until_degraded
{
	my ($node, $position, $why, $name) = @_;
	my $said;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		sub {
			slurp_file($node->logfile, $position) =~ /WARNING: +(repository .* is degraded: .*)/
			  && ($said = $1);
		});
	like($said // '', $why, "$name: the log says that it is degraded, and why");
}

# How often the log says that it began and that it ended.
sub said_once
{
	my ($node, $position, $name) = @_;
	my $log = slurp_file($node->logfile, $position);
	my $began = () = $log =~ /is degraded:/g;
	my $ended = () = $log =~ /is watched again/g;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is("$began $ended", '1 1', "$name: logged once when it began and once when it ended");
}

# ---- settings that were not meant for the worker ----

my $parallel = server_version() >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
my $hostile = qq(
default_transaction_read_only = on
default_transaction_isolation = 'serializable'
default_transaction_deferrable = on
session_replication_role = 'replica'
row_security = on
search_path = 'nowhere'
lock_timeout = '1ms'
statement_timeout = '1ms'
idle_in_transaction_session_timeout = '1ms'
jit = on
jit_above_cost = 0
standard_conforming_strings = off
transform_null_equals = on
quote_all_identifiers = on
bytea_output = 'escape'
datestyle = 'SQL, DMY'
$parallel = on
enable_indexscan = off
enable_nestloop = off
plan_cache_mode = 'force_generic_plan'
);

# what we ourselves need, stronger than all of them
$ENV{PGOPTIONS} = join(' ', map { "-c $_" } (
		'default_transaction_read_only=off', 'default_transaction_isolation=read\ committed',
		'default_transaction_deferrable=off', 'session_replication_role=origin',
		'row_security=on', 'search_path=public', 'lock_timeout=0', 'statement_timeout=0',
		'idle_in_transaction_session_timeout=0', 'jit=off', 'standard_conforming_strings=on',
		"$parallel=off", 'role=none', 'datestyle=ISO'));

my $settings = PostgreSQL::Test::Utils::tempdir() . '/hostile.conf';
write_file($settings, $hostile);
my $node = new_node('main', conf => "wal_level = replica\nmax_wal_senders = 2\ninclude = '$settings'");
my $root = new_root('photos');

# A trigger sees the settings under which the worker writes.
$node->safe_psql($db, q(
CREATE TABLE seen (name text, setting text, PRIMARY KEY (name, setting));
GRANT SELECT, INSERT ON seen TO fsync_owner;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen
	SELECT s.name, s.setting FROM pg_settings s
	WHERE s.name = ANY ('{transaction_read_only, transaction_isolation,
		session_replication_role, row_security, search_path, lock_timeout,
		statement_timeout, idle_in_transaction_session_timeout, jit}')
	UNION ALL SELECT 'user', current_user
	ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON file_records EXECUTE FUNCTION look();
ALTER TABLE file_records ENABLE ALWAYS TRIGGER look;
CREATE ROLE nobody;
));

my $superuser = $node->safe_psql($db, 'SELECT current_user');
my $expected = join("\n", sort 'user|fsync_owner', 'transaction_read_only|off',
	'transaction_isolation|read committed', 'session_replication_role|origin',
	'row_security|off', 'search_path|pg_catalog, pg_temp', 'lock_timeout|30',
	'statement_timeout|0', 'idle_in_transaction_session_timeout|0', 'jit|off');

sub pinned_ok
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $node->safe_psql($db,
			"SELECT name || '|' || setting FROM seen ORDER BY (name || '|' || setting) COLLATE \"C\""),
		$expected, "$name: the worker writes under its own settings");
	$node->safe_psql($db, 'TRUNCATE seen');
}

my $position = log_position($node);
# more than a storm makes and removes, so that no scan finds most of them gone
make_tree("$root/steady", 600);
my $id = add_repository($node, $root);
my $storm = start_storm("$root/storm", 1);
storm_goes_on($storm);
stop_storm($storm);
all_is_well($node, $id, $root, 'postgresql.conf', $position);
pinned_ok('postgresql.conf');

# ALTER DATABASE and ALTER ROLE reach a worker when it starts.
foreach my $line (grep { /=/ } split /\n/, $hostile)
{
	$node->safe_psql($db, "ALTER DATABASE postgres SET $line");
	$node->safe_psql($db, "ALTER ROLE \"$superuser\" SET $line");
}
$node->safe_psql($db, "ALTER ROLE \"$superuser\" SET role = 'nobody'");
$node->safe_psql($db, "ALTER DATABASE postgres SET role = 'nobody'");
$node->stop;
write_file("$root/while down.txt", 'x');
$node->start;
$position = log_position($node);
$storm = start_storm("$root/storm", 2);
storm_goes_on($storm);
# and what a reload brings
$node->reload;
storm_goes_on($storm);
stop_storm($storm);
all_is_well($node, $id, $root, 'ALTER DATABASE, ALTER ROLE', $position);
pinned_ok('ALTER DATABASE, ALTER ROLE');
$node->safe_psql($db, "ALTER DATABASE postgres RESET ALL; ALTER ROLE \"$superuser\" RESET ALL; DROP TRIGGER look ON file_records");
write_file($settings, '');
$node->restart;
delete $ENV{PGOPTIONS};
wait_equal($node, $id, $root, 'settings as usual');

# ---- a lock on file_records ----

my $worker = worker_pid($node, $db);
my $holder = start_sql($node, $db, 'holder',
	'BEGIN; LOCK TABLE file_records IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600);');
wait_for_backend($node, 'holder', "wait_event = 'PgSleep'");

$position = log_position($node);
$storm = start_storm("$root/storm", 3);
storm_goes_on($storm);
rename("$root/steady", "$root/steady too") or die "rename: $!";
$node->poll_query_until($db,
	"SELECT count(*) > 0 FROM pg_locks WHERE pid = $worker AND NOT granted")
  or die 'the worker does not wait for the lock';
$node->safe_psql($db, "SELECT pg_cancel_backend($worker)");
wait_until_degraded($node, $position, qr/lock timeout|user request/, 'lock');
storm_goes_on($storm);
stop_storm($storm);
is( $node->safe_psql($db, "SELECT fsync_wait('$id', timeout => '300 ms')"),
	'f', 'lock: fsync_wait() does not say that all is done');
$node->safe_psql($db,
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
finish_sql($holder);
all_is_well($node, $id, $root, 'lock', $position);
is(worker_pid($node, $db), $worker, 'lock: the worker is the same');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0',
	'lock: and no file is to blame');
wait_for_state($node, $id, 'watching', 'lock: watching again');
said_once($node, $position, 'lock');

# What waits to be written is not younger for it.  Rows can be read meanwhile.
$holder = start_sql($node, $db, 'holder',
	'BEGIN; LOCK TABLE file_records IN SHARE MODE; SELECT pg_sleep(600);');
wait_for_backend($node, 'holder', "wait_event = 'PgSleep'");
# at once with its content, or it may be read once more later
write_file("$root/hashed before.tmp", 'x');
rename("$root/hashed before.tmp", "$root/hashed before.txt") or die "rename: $!";
$node->poll_query_until($db,
	"SELECT count(*) > 0 FROM pg_locks WHERE pid = $worker AND NOT granted")
  or die 'the worker does not wait for the lock';
my $waiting = $node->safe_psql($db, 'SELECT clock_timestamp()');
$node->safe_psql($db,
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
finish_sql($holder);
wait_equal($node, $id, $root, 'lock, and one file');
is( $node->safe_psql($db, "SELECT last_scanned < '$waiting' AND created_at > last_scanned
	FROM file_records WHERE file_path = 'hashed before.txt'"),
	't', 'lock: last_scanned says when the file was read');

# ---- row security that hides the rows from their owner ----

$node->safe_psql($db, q(
ALTER TABLE file_records ENABLE ROW LEVEL SECURITY;
));
write_file("$root/row security.txt", 'x');
wait_equal($node, $id, $root, 'row security that does not concern the owner');

$position = log_position($node);
my $rows = $node->safe_psql($db, 'SELECT count(*) FROM file_records');
$node->safe_psql($db, 'ALTER TABLE file_records FORCE ROW LEVEL SECURITY');
write_file("$root/row security 2.txt", 'x');
unlink("$root/row security.txt") or die "unlink: $!";
wait_until_degraded($node, $position, qr/row-level security/, 'FORCE ROW LEVEL SECURITY');
is($node->safe_psql($db, 'SELECT count(*) FROM file_records'),
	$rows, 'FORCE ROW LEVEL SECURITY: the rows stay as they are');
$node->safe_psql($db, 'ALTER TABLE file_records NO FORCE ROW LEVEL SECURITY');
all_is_well($node, $id, $root, 'FORCE ROW LEVEL SECURITY', $position);
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0',
	'FORCE ROW LEVEL SECURITY: no file is to blame');
wait_for_state($node, $id, 'watching', 'FORCE ROW LEVEL SECURITY: watching again');
said_once($node, $position, 'FORCE ROW LEVEL SECURITY');

# ---- a synchronous standby that is not there ----

$node->safe_psql($db, q(
ALTER SYSTEM SET synchronous_standby_names = 'missing';
SELECT pg_reload_conf();
));
$worker = worker_pid($node, $db);
# a commit waits from when the checkpointer has seen the setting, too
wait_until(
	sub {
		append_file("$root/synchronous.txt", 'x');
		return $node->safe_psql($db,
			"SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $worker") eq 't';
	},
	'synchronous standby: the worker waits for it');
is( $node->safe_psql($db, "SELECT fsync_wait('$id', timeout => '300 ms')"),
	'f', 'synchronous standby: and so does who waits for the worker');
$node->stop('fast');
pass('synchronous standby: the server can be shut down meanwhile');
$node->append_conf('postgresql.auto.conf', "synchronous_standby_names = ''\n");
$position = log_position($node);
$node->start;
all_is_well($node, $id, $root, 'synchronous standby', $position);
$node->stop;

# ---- full disks ----

SKIP:
{
	skip 'no mount namespace: unshare --user --mount is not permitted here', 1
	  unless $ENV{FSYNC_TEST_NAMESPACE};

	my $small = PostgreSQL::Test::Utils::tempdir() . '/small';

	# A file system with so many megabytes.
	my $make_small = sub {
		my ($megabytes) = @_;
		mkdir $small;
		system_or_bail('mount', '-t', 'tmpfs', '-o', "size=${megabytes}m", 'none', $small);
	};
	my $fill = sub {
		open my $fh, '>', "$small/ballast" or die "ballast: $!";
		1 while syswrite($fh, "\0" x 65536);
		close $fh;
	};
	my $make_room = sub { unlink("$small/ballast") or die "unlink: $!" };

	# of the tables
	$make_small->(64);
	mkdir "$small/space" or die "mkdir: $!";
	my $full = new_node('full', conf => "restart_after_crash = on\n");
	$full->safe_psql($db, "CREATE TABLESPACE small LOCATION '$small/space'");
	$full->safe_psql($db, 'CREATE DATABASE small TABLESPACE small');
	$full->safe_psql('small', 'CREATE EXTENSION fsync');
	my $full_id = add_repository($full, $root, db => 'small');
	wait_equal($full, $full_id, $root, 'disk', db => 'small');

	$position = log_position($full);
	$fill->();
	make_tree("$root/more", 400);
	wait_until_degraded($full, $position, qr/No space left on device/, 'full disk');
	rename("$root/more", "$root/more too") or die "rename: $!";
	$make_room->();
	all_is_well($full, $full_id, $root, 'full disk', $position, db => 'small');
	is($full->safe_psql('small', 'SELECT count(*) FROM fsync_problems'),
		'0', 'full disk: no file is to blame');
	wait_for_state($full, $full_id, 'watching', 'full disk: watching again', db => 'small');
	said_once($full, $position, 'full disk');
	$full->stop;
	system_or_bail('umount', $small);

	# of the write-ahead log: PostgreSQL panics, and may not come back before
	# there is room
	$make_small->(20);
	my $wal = new_node(
		'wal',
		init => { extra => [ '--encoding=UTF8', '--no-locale', '--wal-segsize=1', "--waldir=$small/wal" ] },
		conf => "restart_after_crash = on\nmin_wal_size = 2MB\nmax_wal_size = 4MB\n");
	my $wal_id = add_repository($wal, $root);
	wait_equal($wal, $wal_id, $root, 'log');
	$wal->safe_psql($db, 'CREATE TABLE much (x text)');

	$position = log_position($wal);
	$storm = start_storm("$root/storm", 4);
	$fill->();
	make_tree("$root/many more", 300);
	$wal->psql($db, "INSERT INTO much SELECT repeat('x', 1000) FROM generate_series(1, 30000)");
	wait_until(sub { slurp_file($wal->logfile, $position) =~ /PANIC: .*No space left/ },
		'full disk of the log: PostgreSQL panics');
	storm_goes_on($storm);
	stop_storm($storm);
	$make_room->();
	$wal->stop('immediate', fail_ok => 1);
	$wal->start;
	$position = log_position($wal);
	all_is_well($wal, $wal_id, $root, 'full disk of the log', $position);
	$wal->stop;
}

done_testing();
