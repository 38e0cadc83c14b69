#
# debounce_interval, reconciliation_interval and poll_interval of a repository:
# they go before the cluster's settings, change while something waits, are
# dumped, and a barrier sits out none of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use File::Path qw(make_path);
use FsyncFuse;
use IO::Handle;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

my $node = new_node('main', conf => "fsync.reconciliation_interval = 0\n");
my $root = new_root('incoming');
my $plain = new_root('plain');

sub row
{
	my ($path) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE file_path = '$path'");
}

sub has_row
{
	my ($path, $name) = @_;

	return wait_until(sub { row($path) eq '1' }, $name);
}

my $id = add_repository($node, $root, args => "debounce_interval => '1 hour'");
my $other = add_repository($node, $plain);

wait_equal($node, $id, $root, 'an empty one');
wait_equal($node, $other, $plain, 'another');
is( $node->safe_psql('postgres', q(
SELECT debounce_interval, reconciliation_interval, poll_interval FROM fsync_repositories
ORDER BY created_at)), "01:00:00||\n||", 'NULL: as the cluster');

# ---- debounce ----

write_file("$root/a.txt", 'a');
make_path("$root/new/deep");
write_file("$root/new/deep/b.txt", 'b');
write_file("$plain/c.txt", 'c');
has_row('c.txt', 'another repository does not wait');
is(row('a.txt') . row('new/deep/b.txt'), '00', 'this one does');
wait_equal($node, $id, $root, 'a barrier does not sit it out');
unlink("$root/a.txt") or die "unlink: $!";
rename("$root/new/deep", "$root/new/renamed") or die "rename: $!";
wait_equal($node, $id, $root, 'neither for what goes or moves');

# Of all repositories at once, and a reconciliation
write_file("$root/d.txt", 'd');
is($node->safe_psql('postgres', 'SELECT fsync_wait()'), 't', 'a barrier of all repositories');
is_equal($node, $id, $root, '... does not, too');
write_file("$root/e.txt", 'e');
reconcile($node, $id);
is(row('e.txt'), '1', 'a reconciliation does not wait');

# the setting changes while a name, and a new directory, wait
write_file("$root/f.txt", 'f');
make_path("$root/later");
write_file("$root/later/g.txt", 'g');
is(row('f.txt') . row('later/g.txt'), '00', 'they wait');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', debounce_interval => '100ms')");
has_row('f.txt', 'a shorter interval holds for a name that waits');
has_row('later/g.txt', '... and for a directory');
my $pid = tree_pid($node, $id);
$node->safe_psql('postgres', "UPDATE fsync_repositories SET debounce_interval = '1 hour' WHERE repository_id = '$id'");
wait_equal($node, $id, $root, 'changed in the table');
is(tree_pid($node, $id), $pid, 'nothing was started anew for that');
write_file("$root/h.txt", 'h');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', min_size => 0)");
is($node->safe_psql('postgres', "SELECT debounce_interval FROM fsync_repositories WHERE repository_id = '$id'"),
	'01:00:00', 'NULL leaves it as it is');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', debounce_interval => '-1')");
is($node->safe_psql('postgres', "SELECT debounce_interval IS NULL FROM fsync_repositories WHERE repository_id = '$id'"),
	't', '-1: as the cluster again');
has_row('h.txt', '... which does not wait');

# A file is waited for until it is whole: of three seconds without a write, also
# in a directory that is new, and longer than fsync.debounce_max_delay.
$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.debounce_max_delay = '1s'");
$node->reload;
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', debounce_interval => '3s')");
$node->safe_psql('postgres', q(
CREATE TABLE shown (file_path text, file_size bigint);
CREATE FUNCTION show() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN INSERT INTO public.shown VALUES (new.file_path, new.file_size); RETURN NULL; END$$;
GRANT INSERT ON shown TO PUBLIC;
CREATE TRIGGER show AFTER INSERT OR UPDATE ON file_records FOR EACH ROW EXECUTE FUNCTION show();
));
wait_equal($node, $id, $root, 'with a trigger');
make_path("$root/upload/deep");
foreach my $name ('slow.txt', 'upload/slow.txt', 'upload/deep/slow.txt')
{
	write_file("$root/$name", '');
}
for (my $i = 0; $i < 50; $i++)
{
	append_file("$root/$_", 'piece ') foreach 'slow.txt', 'upload/slow.txt', 'upload/deep/slow.txt';
	usleep(200_000);
}
foreach my $name ('slow.txt', 'upload/slow.txt', 'upload/deep/slow.txt')
{
	has_row($name, "a file that was written for ten seconds: $name");
	is($node->safe_psql('postgres', "SELECT string_agg(file_size::text, ' ') FROM shown WHERE file_path = '$name'"),
		'300', '... was not shown before it was whole');
}
wait_equal($node, $id, $root, 'in the end');

# ... unless somebody waits
write_file("$root/upload/deep/asked.txt", 'half');
wait_equal($node, $id, $root, 'a barrier takes what is there');
append_file("$root/upload/deep/asked.txt", 'whole');
wait_equal($node, $id, $root, '... and what comes then');

# what never is quiet is seen all the same
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', debounce_interval => '200ms')");
my $child = fork() // die "fork: $!";
if ($child == 0)
{
	my $parent = getppid();

	open(my $fh, '>>', "$root/endless.log") or POSIX::_exit(1);
	$fh->autoflush(1);
	while (getppid() == $parent)
	{
		print $fh "line\n";
		usleep(20_000);
	}
	POSIX::_exit(0);
}
has_row('endless.log', 'a file that is written without end has a row');
kill('KILL', $child);
waitpid($child, 0);
wait_equal($node, $id, $root, 'when it has ended');

# ---- reconciliations ----

sub reconciliations
{
	my ($which) = @_;

	return $node->safe_psql('postgres', qq(
SELECT count(*) FROM sync_operations WHERE repository_id = '$which' AND reason = 'scheduled'));
}

my $before = reconciliations($other);
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', reconciliation_interval => '1s')");
wait_until(sub { reconciliations($id) >= 2 }, 'a repository that is reconciled each second');
is(reconciliations($other), $before, '... beside one that never is, as the cluster says');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', reconciliation_interval => '1000 years')");
$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.reconciliation_interval = '1s'");
$node->reload;
wait_until(sub { reconciliations($other) >= $before + 2 }, 'the cluster, each second');
my $mine = reconciliations($id);
$before = reconciliations($other);
wait_until(sub { reconciliations($other) >= $before + 2 });
is(reconciliations($id), $mine, '... but not this one');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$other', reconciliation_interval => '0')");
wait_equal($node, $other, $plain, 'turned off');
$before = reconciliations($other);
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', reconciliation_interval => '-1')");
wait_until(sub { reconciliations($id) >= $mine + 2 }, 'as the cluster again');
cmp_ok(reconciliations($other), '<=', $before + 1, '... beside one where they are off');
$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.reconciliation_interval = 0");
$node->reload;

# ---- values ----

foreach my $bad ("debounce_interval => '25 hours'", "debounce_interval => '1 microsecond'",
	"reconciliation_interval => '999 ms'", "poll_interval => '1001 years'", "poll_interval => '1 ms'")
{
	my ($name) = $bad =~ /^(\w+)/;

	like(($node->psql('postgres', "SELECT fsync_configure_repository('$id', $bad)"))[2],
		qr/ERROR:  $name is out of range/, "refused: $bad");
	like(($node->psql('postgres', "SELECT fsync_add_repository('/srv', $bad)"))[2],
		qr/ERROR:  $name is out of range/, '... when it is added, too');
}
like(($node->psql('postgres', "UPDATE fsync_repositories SET debounce_interval = '-1'"))[2],
	qr/ERROR:  debounce_interval is out of range/, 'refused in the table: -1');
like(($node->psql('postgres', "UPDATE fsync_repositories SET poll_interval = '0.1 s'"))[2],
	qr/ERROR:  poll_interval is out of range/, 'refused in the table: too short');

# ---- they are dumped ----

$node->safe_psql('postgres', qq(SELECT fsync_configure_repository('$id',
	debounce_interval => '90 s', reconciliation_interval => '2 days', poll_interval => '0')));
$node->safe_psql('postgres', 'CREATE DATABASE restored');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->safe_psql('postgres', 'DROP TRIGGER show ON file_records');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
is( $node->safe_psql('restored', qq(
SELECT debounce_interval, reconciliation_interval, poll_interval FROM fsync_repositories
WHERE repository_id = '$id')), '00:01:30|2 days|00:00:00', 'a dump has them');

# ---- where nothing is reported ----

SKIP:
{
	my $device = fuse_device();

	skip '/dev/fuse cannot be opened', 6 unless $device;
	my $mount = new_root('mount');
	my $server = serve_files($device, $mount, { 'a.txt' => 'a' }, read => sub { return (0, $_[1]) });

	skip 'no file system can be served here', 6 unless is_served($mount, 1);
	my $polled = add_repository($node, $mount, args => "poll_interval => '1s'");

	wait_until(sub { reconciliations($polled) >= 2 }, 'polled each second, though reconciliations are off');
	$node->safe_psql('postgres', "SELECT fsync_configure_repository('$polled', poll_interval => '1 hour')");
	wait_ok($node, $polled, 'changed');
	$before = reconciliations($polled);
	$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.poll_interval = '1s'");
	$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.reconciliation_interval = '1d'");
	$node->reload;
	$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', reconciliation_interval => '1 s')");
	my $beside = reconciliations($id);
	wait_until(sub { reconciliations($id) >= $beside + 3 }, 'another one is reconciled thrice');
	cmp_ok(reconciliations($polled), '<=', $before + 1, '... while it waits for an hour');
	$node->safe_psql('postgres', "SELECT fsync_configure_repository('$polled', poll_interval => '-1')");
	wait_until(sub { reconciliations($polled) >= $before + 3 }, 'by the setting of the cluster');
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$polled')");
	$node->stop;
	end_server($server);
	unmount($mount);
}
done_testing();
