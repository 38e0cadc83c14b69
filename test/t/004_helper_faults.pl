#
# fsync-tree dies, hangs, or cannot be started.  PostgreSQL serves on, the
# repository's state says so, and the table is equal again afterwards.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $other_root = new_root('other');

make_tree($root, 300);
make_tree($other_root, 50);

my $id = add_repository($node, $root);
my $other = add_repository($node, $other_root);

wait_equal($node, $id, $root, 'first sync');
wait_equal($node, $other, $other_root, 'another repository');
wait_for_state($node, $_, 'watching', 'the state becomes watching') foreach ($id, $other);

# A state may be short, but the log has each: when it begins and when it ends.
my $offset = -s $node->logfile;

sub state_said_so
{
	my ($name, $state) = @_;

	ok($node->wait_for_log(qr/repository "\Q$root\E" is watched again/, $offset),
		"$name: the log says when it was over");
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset);
	my @said = $log =~ /repository "\Q$root\E" is ($state): \S/g;
	is(scalar(@said), 1, "$name: the state said so once, with a reason") or diag($log);
	unlike($log, qr/repository "\Q$other_root\E" is /,
		"$name: the other repository was not concerned");
	$offset = -s $node->logfile;
}

my $worker = worker_pid($node, 'postgres');
my $postmaster = $node->{_pid};

# ---- killed ----

my $tree = tree_pid($node, $id);
is(kill('KILL', $tree), 1, 'fsync-tree is killed');
write_file("$root/while it was dead.txt", 'x');
rename("$root/it's.txt", "$root/renamed while it was dead.txt") or die "rename: $!";
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'PostgreSQL serves on');

my $new_tree = tree_pid($node, $id, not => $tree);
ok($new_tree, 'another fsync-tree is started');
wait_equal($node, $id, $root, 'after fsync-tree was killed');
state_said_so('killed', 'degraded');
wait_for_state($node, $id, 'watching', 'killed: the state becomes watching again');
reconcile_finds_nothing($node, $id, 'after fsync-tree was killed');

# ---- killed in the middle of a storm ----

$tree = tree_pid($node, $id);
make_tree("$root/storm", 1000);
kill('KILL', $tree);
rename("$root/storm", "$root/after the storm") or die "rename: $!";
wait_equal($node, $id, $root, 'after fsync-tree was killed in a storm');
wait_for_state($node, $id, 'watching', 'storm: the state becomes watching again');
$offset = -s $node->logfile;

# ---- hung ----

# Half of this is silence enough for a bad state, and on a busy machine the
# other one is silent too for a while.
$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.helper_timeout = '12s'");
$node->reload;
$tree = tree_pid($node, $id);
is(kill('STOP', $tree), 1, 'fsync-tree is stopped');
append_file("$root/renamed while it was dead.txt", 'more');
write_file("$other_root/meanwhile.txt", 'x');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'PostgreSQL serves on');
wait_equal($node, $other, $other_root, 'the other repository goes on');
$new_tree = tree_pid($node, $id, not => $tree);
ok($new_tree, 'a hung fsync-tree is replaced');
wait_equal($node, $id, $root, 'after fsync-tree hung');
state_said_so('hung', 'unavailable');
wait_until(sub { process_is_gone($tree) }, 'and the old one is gone');
wait_for_state($node, $id, 'watching', 'hung: the state becomes watching again');

# ---- stopped, and gone on with before anybody minds ----

$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.helper_timeout = 600; SELECT pg_reload_conf()');
$tree = tree_pid($node, $id);
kill('STOP', $tree);
is( $node->safe_psql('postgres', "SELECT fsync_wait('$id', timeout => '1 s')"),
	'f', 'fsync_wait() returns false while fsync-tree does not answer');
append_file("$root/renamed while it was dead.txt", 'even more');
kill('CONT', $tree);
wait_equal($node, $id, $root, 'after fsync-tree was stopped for a while');

# ---- shutdown while it hangs ----

$tree = tree_pid($node, $id);
kill('STOP', $tree);
$node->stop('fast');
pass('the server can be shut down while fsync-tree hangs');
kill('CONT', $tree) if !process_is_gone($tree);
wait_until(sub { process_is_gone($tree) }, 'and leaves no fsync-tree behind');

write_file("$root/while down.txt", 'x');
$node->start;
wait_equal($node, $id, $root, 'after the next start');
ok(kill(0, $node->{_pid}), 'the server runs');

# ---- no thread is to be had ----

my $few = new_root('few');
my $few_id = add_repository($node, $few);
wait_equal($node, $few_id, $few, 'a repository without files');
$tree = tree_pid($node, $few_id);
my ($threads) = `prlimit --nproc --output=SOFT --noheadings --raw` =~ /(\S+)/;
system('prlimit', "--pid=$tree", '--nproc=1:') == 0 or die 'prlimit failed';
write_file("$few/first.txt", 'the first to be hashed');
my $waited = $node->safe_psql('postgres', "SELECT fsync_wait('$few_id', timeout => '2 s')");
is($waited, rows_of($node, $few_id) > 0 ? 't' : 'f', 'no thread: a flush is not answered without the row');
SKIP:
{
	skip 'threads are not limited here', 2 if $waited eq 't';
	is_deeply(problems_of($node, $few_id), {}, 'no thread: the file is not to blame');
	system('prlimit', "--pid=$tree", "--nproc=$threads:") == 0 or die 'prlimit failed';
	wait_equal($node, $few_id, $few, 'no thread: it is hashed when there is one');
}
is(tree_pid($node, $few_id), $tree, 'no thread: by the same fsync-tree');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$few_id')");

# ---- a program that cannot be started ----

my $tmp = PostgreSQL::Test::Utils::tempdir();
write_file("$tmp/broken", "#!/bin/sh\nexit 1\n");
chmod(0755, "$tmp/broken") or die "chmod: $!";
$node->append_conf('postgresql.conf', "fsync.helper_path = '$tmp/broken'");
$node->restart;
wait_for_state($node, $id, 'unavailable|degraded|starting', 'a program that ends at once: the state is not watching');
ok( $node->poll_query_until('postgres', "SELECT reason <> '' FROM fsync_status('$id')"),
	'and says why');
is($node->safe_psql('postgres', 'SELECT count(*) > 300 FROM file_records'), 't', 'the rows stay');

$node->append_conf('postgresql.conf', "fsync.helper_path = '$tmp/does not exist'");
$node->restart;
ok( $node->poll_query_until('postgres', "SELECT reason <> '' FROM fsync_status('$id')"),
	'a program that does not exist: the state says why');

$node->append_conf('postgresql.conf', "fsync.helper_path = ''");
$node->restart;
wait_equal($node, $id, $root, 'with the right program again');

unlike(
	PostgreSQL::Test::Utils::slurp_file($node->logfile),
	qr/PANIC|terminating any other active server processes/,
	'no fault of fsync-tree crashed the server');
$node->stop;

done_testing();
