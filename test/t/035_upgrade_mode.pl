#
# pg_upgrade: the library loads in binary-upgrade mode, where nothing of it may
# run, and a cluster with the extension is upgraded to one that finds its rows,
# ids, and repositories as they were.

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
my $old = new_node('old');
my $root = new_root('photos');

make_tree($root, 100);
my $id = add_repository($old, $root);
wait_equal($old, $id, $root, 'the old cluster');
$old->safe_psql($db, q(
CREATE TABLE album (file_id bigint REFERENCES file_records);
INSERT INTO album SELECT id FROM file_records;
));
# but for a file that is made while no server runs
my $rows = q(
SELECT md5(string_agg(f::text, ',' ORDER BY id)) FROM file_records f
WHERE file_path <> 'during the upgrade.txt');
my $before = $old->safe_psql($db, $rows);
my $highest = $old->safe_psql($db, 'SELECT max(id) FROM file_records');
my $bindir = server_bindir();
$old->stop;

# ---- a server in binary-upgrade mode ----

my $position = log_position($old);
command_ok(
	[ 'pg_ctl', '-w', '-D', $old->data_dir, '-l', $old->logfile, '-o', '-b', 'start' ],
	'the server starts in binary-upgrade mode');
is($old->safe_psql($db, "LOAD 'fsync'; SELECT 1"), '1', 'the library can be loaded there');
is( $old->safe_psql($db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'fsync%'"),
	'0', 'and nothing of it runs');
is($old->safe_psql($db, $rows), $before, 'nothing is written');
command_ok([ 'pg_ctl', '-w', '-D', $old->data_dir, '-m', 'fast', 'stop' ], 'and stops');
unlike(slurp_file($old->logfile, $position), qr/(?:WARNING|ERROR|FATAL|PANIC):/,
	'the log has nothing to say about it');

# ---- pg_upgrade ----

write_file("$root/during the upgrade.txt", 'x');
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
my $socket = PostgreSQL::Test::Utils::tempdir_short();
my @upgrade = (
	'pg_upgrade', '--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
	'--old-bindir', $bindir, '--new-bindir', $bindir, '--socketdir', $socket,
	'--old-port', $old->port, '--new-port', $new->port, '--link');

chdir(PostgreSQL::Test::Utils::tempdir()) or die "chdir: $!";

$new->append_conf('postgresql.conf', "shared_preload_libraries = 'fsync'\nfsync.debounce_interval = 50ms\n");
command_ok(\@upgrade, 'pg_upgrade');
$new->append_conf('postgresql.conf', "log_line_prefix = '%m [%p] %b '\n");
$new->start;
is($new->safe_psql($db, $rows), $before, 'pg_upgrade: the rows are the same');
is($new->safe_psql($db, 'SELECT count(*) FROM album JOIN file_records ON id = file_id'),
	$new->safe_psql($db, 'SELECT count(*) FROM album'), 'pg_upgrade: references hold');

# Databases keep their OIDs, so the repository is still that of its database;
# before 15 they do not.
$position = log_position($new);
$new->safe_psql($db, "SELECT fsync_activate_repository('$id')") if server_version() < 15;
all_is_well($new, $id, $root, 'pg_upgrade', $position);
is( $new->safe_psql($db,
		"SELECT id > $highest FROM file_records WHERE file_path = 'during the upgrade.txt'"),
	't', 'pg_upgrade: no id is given out twice');

$new->stop;
done_testing();
