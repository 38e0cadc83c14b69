#
# What the log and ps tell.  On a good day the log has a line for each start of a
# worker, and one for each first sync or long run that ends, and nothing else.  ps says
# which directory each fsync-tree watches, whatever its name is.  How to uninstall is
# as doc/operation.md says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => q(
log_statement = none
log_checkpoints = off
log_connections = off
log_disconnections = off
log_replication_commands = off
log_autovacuum_min_duration = -1
));
my $db = 'postgres';
my $root = new_root('photos');
my $other = new_root('other');

# Lines of fsync's processes from an offset on, without what says that the sandbox
# of this machine is not complete.
sub lines
{
	my ($offset) = @_;

	return grep { !/sandbox of fsync-tree is not complete|fsync.require_sandbox/ }
	  map { /\b(LOG|WARNING|ERROR|FATAL|HINT|DETAIL):\s+(.*)$/ ? "$1 $2" : $_ }
	  grep { /\] fsync / } split /\n/, slurp_file($node->logfile, $offset);
}

# ---- a good day ----

my $at = -s $node->logfile;
make_tree($root, 50);
my $id = add_repository($node, $root, args => 'change_feed => true');
wait_equal($node, $id, $root, 'first sync');
my @lines = lines($at);
is(scalar @lines, 2, 'two lines') or diag(join "\n", @lines);
is($lines[0], 'LOG fsync worker has started in database "postgres", repositories: 1 (1 to be synced for the first time)',
	'one of the start of the worker');
like($lines[1], qr/^LOG first sync of repository "\Q$root\E" completed after \d+\.\d{3} s: \d+ files looked at, \d+ added, 0 updated, 0 moved, 0 removed, \d+ kB read$/,
	'one of the end of the first sync');

$at = -s $node->logfile;
write_file("$root/new", 'x');
rename("$root/new", "$root/newer");
unlink("$root/newer");
wait_ok($node, $id, 'changes');
reconcile_finds_nothing($node, $id, 'a reconciliation');
$node->safe_psql($db, "SELECT fsync_verify('$id'); SELECT fsync_configure_repository('$id', exclude => '{*.x}'); SELECT fsync_wait();
	SELECT fsync_pause('$id'); SELECT fsync_status()");
my $second = add_repository($node, $other);
wait_ok($node, $second, 'another repository');
$node->safe_psql($db, "SELECT fsync_remove_repository('$second')");
$node->safe_psql($db, "SELECT fsync_resume('$id')");
wait_equal($node, $id, $root, 'all else');
@lines = lines($at);
# Where all were paused the worker had nothing to do, and left.
@lines = grep { !/^LOG fsync worker has started/ } @lines;
is(scalar @lines, 1, 'nothing else is said, but of another first sync') or diag(join "\n", @lines);
like($lines[0], qr/^LOG first sync of repository "\Q$other\E"/, 'of that repository');

my $third = add_repository($node, $other);
wait_ok($node, $third, 'a repository that is to be paused');
$node->safe_psql($db, "SELECT fsync_pause('$third')");
$node->safe_psql($db, "INSERT INTO fsync_repositories (repository_id, path, watch_root) VALUES (gen_random_uuid(), '/nowhere', '/nowhere')");
$at = -s $node->logfile;
$node->restart;
wait_equal($node, $id, $root, 'after a restart');
@lines = grep { !/terminat/ } lines($at);
is_deeply(\@lines, [ 'LOG fsync worker has started in database "postgres", repositories: 3 (1 to be compared with the disk, 1 paused, 1 inactive)' ],
	'one line after a restart');

# ---- fsync.log_min_duration ----

is($node->safe_psql($db, 'SHOW fsync.log_min_duration'), '10min', 'the default');
$node->safe_psql($db, 'ALTER SYSTEM SET fsync.log_min_duration = 0');
$node->reload;
$node->poll_query_until($db, "SELECT current_setting('fsync.log_min_duration') = '0'");
$at = -s $node->logfile;

# The worker reads its settings before it takes what was asked of it after that.
wait_until(sub { $node->safe_psql($db, "SELECT fsync_reconcile('$id')"); grep { /reconciliation of/ } lines($at) }, '0: each run');
$node->safe_psql($db, "SELECT fsync_verify('$id')");
write_file("$root/two\nlines", 'x');
wait_ok($node, $id, 'a change');
@lines = lines($at);
like((grep { /LOG verification of/ } @lines)[0], qr/"\Q$root\E" completed after [\d.]+ s: \d+ files looked at, \d+ kB read$/, 'a verification');
wait_until(sub { grep { /LOG a burst of changes of repository "\Q$root\E" ended after .* 1 added/ } lines($at) }, 'a burst');
open(my $fh, '>', "$root/endless") or die "open: $!";
truncate($fh, 1 << 40) or die "truncate: $!";
close($fh);
$node->safe_psql($db, "SELECT fsync_reconcile('$id', wait => false)");
wait_until(sub { $node->safe_psql($db, 'SELECT count(*) FROM fsync_progress WHERE bytes_done > 0') }, 'a run goes on');
$node->safe_psql($db, 'SELECT fsync_cancel(operation_id) FROM fsync_progress');
unlink("$root/endless");
is(scalar(grep { /LOG reconciliation of .* cancelled after/ } lines($at)), 1, 'one that was cancelled');

$node->safe_psql($db, "ALTER SYSTEM SET fsync.log_min_duration = -1");
$node->restart;
$at = -s $node->logfile;
wait_ok($node, $id, 'another restart');
$node->safe_psql($db, "SELECT fsync_remove_repository('$third')");
my $fourth = add_repository($node, $other);
wait_ok($node, $fourth, 'a first sync');
$node->safe_psql($db, "SELECT fsync_reconcile()");
is_deeply([ grep { !/has started/ } lines($at) ], [], '-1: no run');
$node->safe_psql($db, "ALTER SYSTEM SET fsync.log_min_duration = '1h'");
$node->reload;

# ---- ps ----

sub title
{
	my ($pid) = @_;

	return slurp_file("/proc/$pid/cmdline") =~ s/\0+\z//r =~ s/\0/ /gr;
}
is(title(tree_pid($node, $id)), "fsync-tree: $root", 'an fsync-tree says what it watches');
like(title(worker_pid($node, $db)), qr/fsync worker for database \d+ \(postgres\)/, 'the worker says which database it is for');

my $names = new_root('names');
my %shown = (
	"line\nfeed \e[31m red" => 'line\\012feed \\033[31m red',
	"\xC3\xBCber \xE5\x86\x99" => "\xC3\xBCber \xE5\x86\x99",
	"over\xE2\x80\xAEride" => 'over\\342\\200\\256ride',
	"\n" x 100 => '\\012' x 100,
	"c1 \xC2\x9B31m" => 'c1 \\302\\23331m',
	"back\\slash" => 'back\\slash');
foreach my $name (sort keys %shown)
{
	mkdir "$names/$name" or die "mkdir: $!";
	my $there = add_repository($node, "$names/$name");
	wait_ok($node, $there, 'a name');
	is(title(tree_pid($node, $there)), "fsync-tree: $names/$shown{$name}", "shown as $shown{$name}");
	$node->safe_psql($db, "SELECT fsync_remove_repository('$there')");
}
my $long = $names;
while (length($long) < 1500)
{
	$long .= '/' . "\xC3\xBC" x 100;
	mkdir $long or die "mkdir: $!";
}
my $there = add_repository($node, $long);
wait_ok($node, $there, 'a long name');
my $title = title(tree_pid($node, $there));
cmp_ok(length($title), '<=', 500, 'a long name is cut');
like($title, qr/\Afsync-tree: \Q$names\E.*\xBC\.\.\.\z/s, 'between two characters');
$node->safe_psql($db, "SELECT fsync_remove_repository('$there')");

# ---- in a database with an odd name; uninstalling ----

$node->safe_psql($db, "CREATE DATABASE \"odd\n\e[31m\"");
$at = -s $node->logfile;
my $odd_root = new_root('odd');
$node->safe_psql("odd\n\e[31m", "CREATE EXTENSION fsync; SELECT fsync_add_repository('$odd_root'); SELECT fsync_wait()");
like((grep { /has started/ } lines($at))[0], qr/in database "odd\\012\\033\[31m"/, 'the name of a database, too');
like(title(worker_pid($node, "odd\n\e[31m")), qr/\(odd\\012\\033\[31m\)/, 'in ps as well');

foreach my $of ($db, "odd\n\e[31m")
{
	$node->safe_psql($of, 'DROP EXTENSION fsync CASCADE');
	$node->safe_psql($of, 'DROP OWNED BY fsync_owner');
}
$node->safe_psql($db, 'DROP ROLE fsync_owner');
ok(1, 'nothing keeps the role then');
my $conf = slurp_file($node->data_dir . '/postgresql.conf');
write_file($node->data_dir . '/postgresql.conf', $conf =~ s/^(?:shared_preload_libraries.*|fsync\..*)\n//mgr);
$node->restart;
is($node->safe_psql($db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'fsync%'"), '0', 'uninstalled');

# ---- where it is not preloaded ----

my ($rc, $out, $err) = $node->psql($db, 'CREATE EXTENSION fsync');
like($err, qr/^HINT:  Add fsync to shared_preload_libraries in postgresql.conf/m, 'the hint says to add it to what is there');
unlike($err, qr/Set shared_preload_libraries/, 'not to replace that');

$node->stop;
done_testing();
