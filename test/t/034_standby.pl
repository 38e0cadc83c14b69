#
# A hot standby: it has the rows of its primary, no worker, and functions that
# say why they do not work.  Promoted, it goes on by itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $primary = new_node('primary', init => { allows_streaming => 1 });
my $root = new_root('photos');

make_tree($root, 150);
my $id = add_repository($primary, $root);
wait_equal($primary, $id, $root, 'the primary');
my $ids = ids_of($primary, $id);

my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

append_file("$root/NULL", 'more');
wait_equal($primary, $id, $root, 'the primary, with a standby');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
is_equal($standby, $id, $root, 'the standby');

# ---- in recovery ----

is( $standby->safe_psql($db,
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'fsync%'"),
	'0', 'the standby has neither launcher nor worker');
foreach my $call (
	"SELECT fsync_wait('$id')", 'SELECT fsync_wait()',
	"SELECT * FROM fsync_reconcile('$id')", 'CALL fsync_reconcile_all()',
	'SELECT fsync_add_repository(' . sql_path($root) . ')',
	"SELECT fsync_activate_repository('$id')")
{
	my ($rc, $out, $err) = $standby->psql($db, $call);

	like($err, qr/ERROR: +fsync does not work during recovery/, "the standby refuses $call");
}
my ($rc, $out, $err) = $standby->psql($db, "SELECT fsync_remove_repository('$id')");
like($err, qr/ERROR: .*(?:recovery|read-only)/, 'the standby removes no repository');
is( $standby->safe_psql($db, "SELECT state, reason, total_files = " . keys(%$ids) . " FROM fsync_status('$id')"),
	'stopped|the server is a standby|t', 'fsync_status() says what it is');
is($standby->safe_psql($db, "SELECT count(*) > 0 FROM fsync_sync_history('$id')"),
	't', 'the history can be read');

# ---- the primary fails in the midst of changes, and the standby is promoted ----

my $storm = start_storm("$root/storm", 1);
storm_goes_on($storm);
$primary->stop('immediate');
storm_goes_on($storm);
my $position = log_position($standby);
$standby->promote;
storm_goes_on($storm);
stop_storm($storm);
all_is_well($standby, $id, $root, 'promoted', $position);

my $now = ids_of($standby, $id);
is_deeply({ map { $_ => $now->{$_} } keys %$ids }, $ids, 'promoted: the files keep their ids');
write_file("$root/after.txt", 'x');
wait_equal($standby, $id, $root, 'promoted: and are watched');

$standby->stop;
done_testing();
