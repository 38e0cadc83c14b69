#
# Limits that are in the way: too few places for workers or for repositories, a
# full disk.  The state says which limit it is, and the number or the place that
# helps; the log names all that are affected, once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

# A small file system of our own needs a mount namespace of our own.
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

# ---- what is there by default ----

my $node = new_node('main', conf => "max_logical_replication_workers = 0\n");
is($node->safe_psql($db, 'SHOW fsync.max_repositories'), '256', 'places for 256 repositories');
cmp_ok($node->safe_psql($db, "SELECT allocated_size FROM pg_shmem_allocations WHERE name = 'fsync'"), '<', 2 * 1024 * 1024,
	'take less than 2 MB');

# ---- too few places for workers ----

# the launcher, and three of seven databases
my @databases = ($db, map { "db$_" } 1 .. 6);
my (%root, %id);
foreach my $name (@databases)
{
	$root{$name} = new_root($name);
	write_file("$root{$name}/file", $name);
	next if $name eq $db;
	$node->safe_psql($db, "CREATE DATABASE $name");
	$node->safe_psql($name, 'CREATE EXTENSION fsync');
}
$node->append_conf('postgresql.conf', 'max_worker_processes = 4');
$node->restart;
my $position = log_position($node);
$id{$_} = add_repository($node, $root{$_}, db => $_) foreach @databases;

sub status { return $node->safe_psql($_[0], "SELECT state, reason, hint FROM fsync_status('$id{$_[0]}')") }

my (@watched, @stopped);
ok(wait_until(sub {
	@watched = grep { status($_) =~ /^watching/ } @databases;
	@stopped = grep { status($_) =~ /^stopped\|.*max_worker_processes/ } @databases;
	return @watched == 3 && @stopped == 4;
}), 'three databases are watched, four have no place');
foreach my $name (@stopped)
{
	like(status($name), qr/^stopped\|no worker can be started: all places of max_worker_processes, which is 4, are taken\|Set max_worker_processes to 8 or more/,
		"$name: the state says what limits it, and the number that would do");
	my ($rc, $out, $err) = $node->psql($name, "SELECT fsync_wait('$id{$name}', timeout => '1 min')");
	like("$out\n$err", qr/^f\n.*WARNING.*is not watched.*all places of max_worker_processes.*Set max_worker_processes to 8 or more/s,
		"$name: and so does who waits");
}
ok(wait_until(sub {
	my $log = slurp_file($node->logfile, $position);
	my @last = $log =~ /no place for the fsync workers of 4 databases: (.*)\n.*Set max_worker_processes to 8 or more/g;
	return @last > 0 && $last[-1] eq join(', ', map { "\"$_\"" } sort @stopped);
}), 'the log names them all, and the number');
cmp_ok(scalar(() = slurp_file($node->logfile, $position) =~ /no place for the fsync workers/g), '<=', 4, 'once for each that came');
is(scalar(grep { status($_) =~ /^watching/ } @watched), 3, 'the others do not notice');
wait_equal($node, $id{$_}, $root{$_}, "$_ is watched", db => $_) foreach @watched;

# a place becomes free: who waits has it
$node->safe_psql($watched[0], 'DROP EXTENSION fsync CASCADE');
ok(wait_until(sub { $node->safe_psql($stopped[0], "SELECT fsync_wait('$id{$stopped[0]}')") eq 't' }),
	'who asks has the place that another one left');
unlike(status($stopped[0]), qr/^stopped/, 'and is stopped no more');
like(status($stopped[1]), qr/Set max_worker_processes to 7 or more/, 'the others need one less');

# the number that would do does
$node->append_conf('postgresql.conf', 'max_worker_processes = 7');
$node->restart;
foreach my $name (@databases)
{
	next if $name eq $watched[0];
	wait_equal($node, $id{$name}, $root{$name}, "$name, with that number", db => $name);
}

# no place for the launcher itself
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
like(status($stopped[0]), qr/^stopped\|fsync's launcher is not running\|.*max_worker_processes, which is 0, has no place for it/,
	'no place for the launcher');
$node->append_conf('postgresql.conf', 'max_worker_processes = 12');

# a template
$node->restart;
wait_ok($node, $id{$stopped[0]}, 'a database', db => $stopped[0]);
$node->safe_psql($db, "ALTER DATABASE $stopped[0] IS_TEMPLATE true");
$node->restart;
like(status($stopped[0]), qr/^stopped\|the database is a template\|Use ALTER DATABASE/, 'a template');
$node->safe_psql($db, "ALTER DATABASE $stopped[0] IS_TEMPLATE false");
wait_for_state($node, $id{$stopped[0]}, 'watching', 'and none any more', db => $stopped[0]);

# ---- too few places for repositories ----

$node->append_conf('postgresql.conf', 'fsync.max_repositories = 6');
$node->restart;
wait_ok($node, $id{$stopped[0]}, 'the one place', db => $stopped[0]);
my @more = map { new_root("more$_") } 1 .. 3;
my @more_ids = map { add_repository($node, $_, db => $stopped[0]) } @more;
my $lacking = qr/^stopped\|there are more repositories than fsync.max_repositories, which is 6\|Set fsync.max_repositories to 9 or more/;
ok(wait_until(sub {
	my @states = split /\n/, $node->safe_psql($stopped[0], 'SELECT state, reason, hint FROM fsync_status()');
	return @states == 4 && grep({ $_ =~ $lacking } @states) == 3;
}), 'too many repositories: the state says what limits them, and the number that would do')
  or diag($node->safe_psql($stopped[0], 'SELECT state, reason, hint FROM fsync_status()'));
wait_equal($node, $id{$stopped[0]}, $root{$stopped[0]}, 'the others do not notice', db => $stopped[0]);
$node->append_conf('postgresql.conf', 'fsync.max_repositories = 9');
$node->restart;
wait_equal($node, $more_ids[$_], $more[$_], "that number does, $_", db => $stopped[0]) foreach 0 .. 2;
$node->stop;

# ---- full disks ----

SKIP:
{
	skip 'no mount namespace of our own', 6 unless $ENV{FSYNC_TEST_NAMESPACE};
	my $small = PostgreSQL::Test::Utils::tempdir() . '/small';
	my $root = new_root('root');
	my $other = new_root('other');

	mkdir $small or die "mkdir: $!";
	system_or_bail('mount', '-t', 'tmpfs', '-o', 'size=64m', 'none', $small);
	mkdir "$small/space" or die "mkdir: $!";
	my $full = new_node('full');
	$full->safe_psql($db, "CREATE TABLESPACE \"small one\" LOCATION '$small/space'");
	my $full_id = add_repository($full, $root);
	my $other_id = add_repository($full, $other);
	wait_ok($full, $_, 'before the disk is full') foreach $full_id, $other_id;
	$full->safe_psql($db, 'ALTER TABLE file_records SET TABLESPACE "small one"');
	write_file("$root/1", '1');
	wait_ok($full, $full_id, 'in the small tablespace');
	system("dd if=/dev/zero of=$small/filler bs=64k >/dev/null 2>&1");
	mkdir "$root/d" or die "mkdir: $!";
	write_file("$root/d/$_", $_) foreach 1 .. 3000;
	wait_for_state($full, $full_id, 'degraded', 'full disk: degraded');
	like(status_of($full, $full_id, 'reason'), qr/No space left on device/, 'full disk: that is the reason');
	like(status_of($full, $full_id, 'hint'),
		qr/^Free space on the file system of the tablespace "small one" \(\Q$small\E\/space\)\. It is tried again/,
		'full disk: the hint names tablespace and directory');
	is(status_of($full, $other_id, 'state'), 'watching', 'full disk: the other repository does not notice');
	unlink("$small/filler");
	wait_equal($full, $full_id, $root, 'full disk: there is room again');
	is(status_of($full, $full_id, 'state'), 'watching', 'full disk: and all is well');
	$full->stop;
}

done_testing();
