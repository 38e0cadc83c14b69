#
# A reconciliation that is told to be gentle is: with a limit to its CPU time it
# goes on for as long as it takes, holds up no change and no barrier, and ends
# when the limit is lifted or nobody wants it any more.  How much it takes is
# measured by "make bench", not here.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $outside = new_root('outside');

# A file that changes without an event, through a name outside the tree, and
# takes a scan minutes at one per cent of a core; sparse, it takes no room.
my $huge = 8 * 1024 * 1024 * 1024;

sub resize
{
	my ($size) = @_;

	truncate("$outside/link", $size) or die "truncate: $!";
}

sub set
{
	my (%settings) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.$_ = '$settings{$_}'") foreach sort keys %settings;
	$node->reload;
}

sub operation_status
{
	my ($operation) = @_;

	return $node->safe_psql('postgres', "SELECT status FROM sync_operations WHERE id = $operation");
}

# Starts a scan that will not end by itself, and returns its operation.
sub start_scan
{
	my ($id) = @_;
	my $operation;

	resize($huge);
	$node->safe_psql('postgres', "SELECT FROM fsync_reconcile('$id', wait => false)");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM sync_operations WHERE repository_id = '$id' AND status = 'running'")
	  or die 'no scan began';
	return $node->safe_psql('postgres',
		"SELECT id FROM sync_operations WHERE repository_id = '$id' AND status = 'running'");
}

# The I/O priorities of fsync-tree's threads; the main thread's apart.
sub priorities
{
	my ($pid) = @_;
	my %found = (main => '', others => {});

	foreach my $tid (map { m{(\d+)\z} } glob("/proc/$pid/task/*"))
	{
		my $priority = `ionice -p $tid 2>/dev/null`;

		chomp $priority;
		$found{main} = $priority if $tid == $pid;
		$found{others}{$priority} = 1 if $tid != $pid;
	}
	return \%found;
}

sub wait_for_priority
{
	my ($pid, $like) = @_;
	my $found;

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$found = priorities($pid);
		last if grep { $_ =~ $like } keys %{ $found->{others} };
		select(undef, undef, undef, 0.1);
	}
	return $found;
}

# ---- the settings ----

foreach my $bad ('reconcile_cpu_limit = -1', 'reconcile_cpu_limit = 100000',
	"reconcile_cpu_limit = 'a little'", 'io_priority = low', 'io_priority = 3')
{
	my ($rc) = $node->psql('postgres', "ALTER SYSTEM SET fsync.$bad");
	isnt($rc, 0, "\"$bad\" is refused");
}
is( $node->safe_psql('postgres', q(
SELECT name, setting, vartype, context, enumvals FROM pg_settings
WHERE name IN ('fsync.reconcile_cpu_limit', 'fsync.io_priority') ORDER BY name)),
	"fsync.io_priority|none|enum|sighup|{none,best-effort,idle}\n"
	  . 'fsync.reconcile_cpu_limit|0|integer|sighup|',
	'no limit unless asked for');

# ---- a scan that is limited ----

make_tree($root, 300);
make_path("$root/album/a");
write_file("$root/album/a/$_.jpg", $_) foreach 1 .. 20;
write_file("$outside/link", 'x');
link("$outside/link", "$root/large.mov") or die "link: $!";

my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
my $pid = $node->safe_psql('postgres', "SELECT tree_pid FROM fsync_status('$id')");

set(reconcile_cpu_limit => 1, io_priority => 'idle');
my $operation = start_scan($id);
my $found = wait_for_priority($pid, qr/idle/);
ok($found->{others}{idle}, 'a thread that hashes for the scan reads when nobody else does');
unlike($found->{main}, qr/idle/, '... and the one that handles changes like anybody');

set(io_priority => 'best-effort');
$found = wait_for_priority($pid, qr/best-effort: prio 7/);
ok($found->{others}{'best-effort: prio 7'}, 'the priority can be changed while it runs');

# what a user does meanwhile
write_file("$root/new.txt", 'new');
append_file("$root/album/a/1.jpg", 'more');
unlink("$root/album/a/2.jpg") or die "unlink: $!";
wait_ok($node, $id, 'a barrier while the scan waits for its time');
is( $node->safe_psql('postgres', qq(
SELECT count(*) FROM file_records
WHERE (file_path, content_hash) IN (('new.txt', sha256('new')), ('album/a/1.jpg', sha256('1more')))
   OR file_path = 'album/a/2.jpg')),
	'2', 'changes are written');
my $ids = $node->safe_psql('postgres',
	"SELECT string_agg(id::text, ' ' ORDER BY id) FROM file_records WHERE file_path LIKE 'album/a/%'");
rename("$root/album/a", "$root/moved") or die "rename: $!";
make_path("$root/arrived/deep");
write_file("$root/arrived/deep/$_", "arrived $_") foreach 1 .. 50;
wait_ok($node, $id, 'and once more');
is( $node->safe_psql('postgres',
		"SELECT string_agg(id::text, ' ' ORDER BY id) FROM file_records WHERE file_path LIKE 'moved/%'"),
	$ids, 'a directory is renamed');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE file_path LIKE 'arrived/deep/%' AND content_hash IS NOT NULL"),
	'50', 'a directory arrives');
is(operation_status($operation), 'running', 'and the scan is still at it');

# ---- the limit is lifted ----

resize(100_000);
set(reconcile_cpu_limit => 0, io_priority => 'none');
$node->poll_query_until('postgres',
	"SELECT status = 'completed' FROM sync_operations WHERE id = $operation")
  or die 'the scan did not end';
wait_equal($node, $id, $root, 'the limit was lifted');
reconcile_finds_nothing($node, $id, 'after a limited scan');

# ---- a scan that nobody wants any more ----

set(reconcile_cpu_limit => 1);
$operation = start_scan($id);
$node->safe_psql('postgres', "SELECT fsync_cancel($operation)");
$node->poll_query_until('postgres',
	"SELECT status = 'cancelled' FROM sync_operations WHERE id = $operation")
  or die 'the scan was not cancelled';
write_file("$root/after.txt", 'after');
wait_ok($node, $id, 'after a limited scan was cancelled');
start_scan($id);
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last unless -e "/proc/$pid";
	select(undef, undef, undef, 0.1);
}
ok(!-e "/proc/$pid", 'fsync-tree ends with its repository');

resize(1);
set(reconcile_cpu_limit => 0);
$id = add_repository($node, $root);
wait_equal($node, $id, $root, 'added once more');
set(reconcile_cpu_limit => 1);
start_scan($id);
$node->stop;
resize(10);
$node->start;
wait_equal($node, $id, $root, 'stopped in the middle');

# ---- a small tree within a limit ----

append_file("$outside/link", 'y');
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id')");
is_equal($node, $id, $root, 'a scan within its limit');
$node->stop;
done_testing();
