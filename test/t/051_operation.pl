#
# Pausing, resuming and cancelling: what is paused is left alone, whatever
# happens to it, and is equal again when it is resumed; a run that is cancelled
# ends as that and leaves nothing behind; what it did not do is done by the next.
# A schedule without pg_cron is an error that says what to do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $db = 'postgres';
my $root = new_root('photos');

make_tree($root, 100);
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

sub fails
{
	my ($sql, $error, $name) = @_;
	my ($rc, $out, $err) = $node->psql($db, $sql);

	isnt($rc, 0, "$name: an error");
	like($err, $error, "$name: which says what to do");
}

# ---- pause ----

my $before = $node->safe_psql($db, 'SELECT md5(string_agg(f::text, chr(10) ORDER BY id)) FROM file_records f');
my $tree = tree_pid($node, $id);

$node->safe_psql($db, "BEGIN; SELECT fsync_pause('$id'); ROLLBACK");
write_file("$root/while it is watched.txt", 'x');
wait_equal($node, $id, $root, 'a pause that was rolled back');
$node->safe_psql($db, "DELETE FROM file_records WHERE file_path = 'while it is watched.txt'");

$node->safe_psql($db, "SELECT fsync_pause('$id')");
wait_until(sub { status_of($node, $id, 'state') eq 'paused' }, 'the repository is paused');
is(status_of($node, $id, 'hint'), 'Call fsync_resume() to track the directory again.', 'and says how to go on');
wait_until(sub { !kill(0, $tree) }, 'its process is gone');
fails("SELECT fsync_wait('$id')", qr/is paused.*HINT: .*fsync_resume/s, 'waiting for a paused repository');
fails("SELECT fsync_reconcile('$id')", qr/is paused.*HINT: .*fsync_resume/s, 'reconciling a paused one');
is($node->safe_psql($db, 'SELECT fsync_wait()'), 't', 'waiting for all leaves it out');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_reconcile()'), '0', 'reconciling all, too');
$node->safe_psql($db, 'CALL fsync_reconcile_all()');

unlink("$root/while it is watched.txt");
write_file("$root/while it is paused.txt", 'y');
$node->restart;
is(status_of($node, $id, 'state'), 'paused', 'a paused repository is paused after a restart');
$node->safe_psql($db, "SELECT fsync_pause('$id')");
is( $node->safe_psql($db, 'SELECT md5(string_agg(f::text, chr(10) ORDER BY id)) FROM file_records f'),
	$before, 'nothing was written meanwhile');

$node->safe_psql($db, "SELECT fsync_resume('$id')");
wait_equal($node, $id, $root, 'resumed');
$node->safe_psql($db, "SELECT fsync_resume('$id')");
reconcile_finds_nothing($node, $id, 'resumed');

# one of two, so that its worker goes on
my $other_root = new_root('other');
make_tree($other_root, 20);
my $other = add_repository($node, $other_root);
wait_equal($node, $other, $other_root, 'another repository');
$node->safe_psql($db, "SELECT fsync_pause('$id')");
write_file("$other_root/x.txt", 'x');
wait_equal($node, $other, $other_root, 'another repository while one is paused');
write_file("$root/again.txt", 'x');
$node->safe_psql($db, "SELECT fsync_resume('$id')");
wait_equal($node, $id, $root, 'resumed in a running worker');
is( $node->safe_psql($db, qq(
SELECT operation_type, status, reason, files_added FROM sync_operations
WHERE repository_id = '$id' ORDER BY id DESC LIMIT 1)),
	'startup|completed|tracking was resumed|1', 'with a startup sync');

fails("SELECT fsync_pause('00000000-0000-0000-0000-000000000000')", qr/does not exist/,
	'pausing what is not there');
fails('SELECT fsync_pause(NULL)', qr/must not be null/, 'pausing NULL');

# ---- cancel ----

# Reading it takes longer than anybody waits.
sub endless_file
{
	open(my $fh, '>', $_[0]) or die "open: $!";
	truncate($fh, 1 << 40) or die "truncate: $!";
	close($fh);
}

sub running_operation
{
	my $operation;

	wait_until(
		sub {
			$operation = $node->safe_psql($db, qq(
SELECT id FROM sync_operations WHERE repository_id = '$id' AND status = 'running'));
			return $operation ne '';
		},
		"$_[0]: a run goes on");
	return $operation;
}

sub ended_as
{
	my ($operation, $expected, $name) = @_;

	is( $node->safe_psql($db, qq(
SELECT status, error_message, end_time IS NOT NULL FROM sync_operations WHERE id = $operation)),
		$expected, "$name: the operation says so");
}

# One that makes good what nobody watched.
$node->safe_psql($db, "SELECT fsync_pause('$id')");
endless_file("$root/endless");
$node->safe_psql($db, "SELECT fsync_resume('$id')");
my $operation = running_operation('startup');
is($node->safe_psql($db, "SELECT fsync_cancel($operation)"), 't', 'a startup sync is cancelled');
ended_as($operation, 'cancelled|cancelled|t', 'a cancelled startup sync');
wait_until(sub { status_of($node, $id, 'state') eq 'degraded' }, 'the repository is degraded then');
like(status_of($node, $id, 'hint'), qr/fsync_reconcile/, 'and says what to do');
is($node->safe_psql($db, "SELECT fsync_wait('$id', '100 ms')"), 'f',
	'fsync_wait() does not pretend that the table is equal');
is($node->safe_psql($db, "SELECT fsync_cancel($operation)"), 'f', 'it cannot be cancelled twice');

# One that somebody waits for, and that is cancelled by a pause.
my $waiter = $node->background_psql($db, on_error_stop => 0);
my $out = '';
$waiter->query_until(qr/waits/, "\\echo waits\nSELECT 'result: ' || status FROM fsync_reconcile('$id');\n");
$operation = running_operation('reconciliation');
$node->safe_psql($db, "SELECT fsync_cancel($operation)");
like($waiter->query("SELECT 'done'"), qr/done/, 'who waited for the run goes on');
$waiter->quit;
ended_as($operation, 'cancelled|cancelled|t', 'a cancelled reconciliation');

$node->safe_psql($db, "SELECT fsync_reconcile('$id', wait => false)");
$operation = running_operation('reconciliation before a pause');
$node->safe_psql($db, "SELECT fsync_pause('$id')");
wait_until(sub { status_of($node, $id, 'state') eq 'paused' }, 'paused in the middle of a run');
ended_as($operation, 'cancelled|the repository was paused|t', 'a paused reconciliation');

unlink("$root/endless");
$node->safe_psql($db, "SELECT fsync_resume('$id')");
wait_equal($node, $id, $root, 'after all that');
is(status_of($node, $id, 'state'), 'watching', 'after all that: all is well');
reconcile_finds_nothing($node, $id, 'after all that');

# A routine run that is cancelled leaves the repository as well watched as before.
$node->safe_psql($db, "SELECT fsync_pause('$other')");
$node->safe_psql($db, "UPDATE file_records SET mtime_ns = 0 WHERE repository_id = '$id'");
endless_file("$root/endless");
$node->safe_psql($db, "SELECT fsync_reconcile('$id', wait => false)");
$operation = running_operation('routine');
is($node->safe_psql($db, "SELECT fsync_cancel($operation)"), 't', 'a routine run is cancelled');
is(status_of($node, $id, 'state'), 'watching', 'a cancelled routine run: still watching');
unlink("$root/endless");
all_is_well($node, $id, $root, 'after a cancelled routine run', log_position($node));

fails('SELECT fsync_cancel(0)', qr/operation 0 does not exist/, 'cancelling what is not there');
is( $node->safe_psql($db, "SELECT count(*) FROM sync_operations WHERE status = 'running'"),
	'0', 'no operation is left running');

# ---- schedule, without pg_cron (005 has it) ----

fails("SELECT fsync_schedule('30 3 * * *')", qr/pg_cron is not loaded.*HINT: .*shared_preload_libraries/s,
	'a schedule without pg_cron');
fails('SELECT fsync_schedule(NULL)', qr/must not be null/, 'a schedule of NULL');

$node->stop;
done_testing();
