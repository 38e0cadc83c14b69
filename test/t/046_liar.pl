# An fsync-tree that has been taken over says whatever it likes: the worker
# believes nothing that the true one could not have said, keeps nothing of it,
# does not grow and is not kept busy by it, and other repositories do not notice.
#
# FLOODS (names of them, separated by commas), FLOOD_SECONDS
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Copy qw(copy);
use FsyncTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $liar = $ENV{TREE_LIAR} or die 'TREE_LIAR does not name the program liar';
my $tmp = PostgreSQL::Test::Utils::tempdir();
my ($libdir) = `pg_config --pkglibdir` =~ /^(.+)$/;

# It becomes the true program where a root has no file ".lie".
copy($liar, "$tmp/liar") or die "could not copy $liar: $!";
chmod(0755, "$tmp/liar") or die "chmod: $!";
symlink("$libdir/fsync-tree", "$tmp/true") or die "symlink: $!";

my $node = new_node('main', conf => "fsync.helper_path = '$tmp/liar'\nfsync.max_repositories = 100");
my $good_root = new_root('good');
make_tree($good_root, 100);
my $good = add_repository($node, $good_root);
wait_equal($node, $good, $good_root, 'the well-behaved one');

my $refused = 'fsync-tree said what it cannot have meant';

# ---- the true one: moves that do not fit into one message ----

my $long = new_root('long');
mkdir "$long/$_" or die "mkdir: $!" foreach 'd', 'e';
foreach my $i (1 .. 4000)
{
	write_file("$long/$_/" . 'x' x 220 . $i, "$_ $i") foreach 'd', 'e';
}
my $long_id = add_repository($node, $long);
wait_ok($node, $long_id, 'long names: before');
my $ids = ids_of($node, $long_id);
my $true = tree_pid($node, $long_id);
rename("$long/d", "$long/d.old") or die "rename: $!";
rename("$long/e", "$long/d") or die "rename: $!";
rename("$long/d.old", "$long/e") or die "rename: $!";
wait_ok($node, $long_id, 'long names: exchanged');
my $exchanged = ids_of($node, $long_id);
is_deeply({ map { tr/de/ed/r => $exchanged->{$_} } keys %$exchanged }, $ids,
	'long names: all ids after an exchange of two directories');
is(tree_pid($node, $long_id), $true, 'long names: the true one is not taken for a liar');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$long_id')");

# ---- lies of a single value, a repository each ----

my %lies = (
	'path ../../etc/passwd' => 'a path with "." or ".."',
	'path ..' => 'a path with "." or ".."',
	'path a/./b' => 'a path with "." or ".."',
	'path /1' => 'an empty component',
	'path a//b' => 'an empty component',
	'path a/' => 'an empty component',
	'path empty' => 'cannot be understood',
	'path zero' => 'cannot be understood',
	'path long' => 'cannot be understood',
	'moved-path ../lie' => 'a path with "." or ".."',
	'problem-path ../lie' => 'a path with "." or ".."',
	'problem-path /lie' => 'an empty component',
	'size' => 'a negative size',
	'time nsec' => 'cannot be understood',
	'time ns' => 'contradicts itself',
	'problem 9' => 'only the database',
	'problem 10' => 'only the database',
	'problem 11' => 'cannot be understood',
	'problem 0' => 'cannot be understood',
	'op X' => 'cannot be understood',
	'op D' => 'cannot be understood',
	'scan-id 1' => 'a scan that nobody asked for',
	'scan-id -1000' => 'a scan that nobody asked for',
	'count' => 'too many observations',
	'state enum' => 'cannot be understood',
	'state identity' => 'another identity',
	'state no-identity' => 'another identity',
	'state directories' => 'a number of directories',
	'state reason' => 'a text that is too long',
	'state mounts-twice' => 'mounts in no order',
	'state mounts-escape' => 'a mount at what is no path',
	'state mounts-none' => 'a mount without an identity',
	'progress files' => 'a number that cannot be',
	'progress pending' => 'a number that cannot be',
	'progress event' => 'a time of an event',
	'progress scan' => 'a scan that nobody asked for',
	'statistics lag' => 'delays of changes',
	'statistics events' => 'a number that cannot be',
	'request limit' => 'too many rows',
	'request paths' => 'too many rows',
	'request order' => 'in no order',
	'request again' => 'it made before',
	'verdict' => 'verdicts that nobody asked for',
	'flushed' => 'a flush that nobody asked for',
	'pong' => 'a ping that nobody sent',
	'scan-done twice' => 'does not go on',
	'scan-done other' => 'does not go on',
	'bytes type' => 'cannot be understood',
	'bytes worker' => 'cannot be understood',
	'bytes hello' => 'its greeting once more',
	'bytes length' => 'too long',
	'bytes random' => 'too long',
	'no-hello' => 'before its greeting',
	'version' => 'another version');

# What is kept of repositories.
sub kept
{
	my $ids = join(', ', map { "'$_'" } @_);

	return $node->safe_psql('postgres', qq(
SELECT repository_id, root_identity, mounts FROM fsync_repositories
WHERE repository_id IN ($ids) ORDER BY 1;
SELECT repository_id, file_path, file_size, mtime_ns, content_hash, id FROM file_records
WHERE repository_id IN ($ids) ORDER BY 1, 2;
SELECT repository_id, problem, path FROM fsync_problems
WHERE repository_id IN ($ids) ORDER BY 1, 2, 3;
SELECT repository_id, events < 100000, inspections < 100000, bytes_hashed < 1000000,
	   coalesce(lag_p99_ms < 600000, true)
FROM fsync_stat WHERE repository_id IN ($ids) ORDER BY 1;
SELECT repository_id, max(files_scanned) < 1000, max(bytes_hashed) < 1000000, min(bytes_hashed) >= 0
FROM sync_operations WHERE repository_id IN ($ids) GROUP BY 1 ORDER BY 1));
}

sub same_is_kept
{
	my ($is, $was, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %was = map { $_ => 1 } split /\n/, $was;
	my %is = map { $_ => 1 } split /\n/, $is;
	is(join("\n", grep { !$was{$_} } sort keys %is), '', "$name: nothing new");
	is(join("\n", grep { !$is{$_} } sort keys %was), '', "$name: nothing gone");
}

my @names = sort keys %lies;
my (%root, %id, %name);
foreach my $i (0 .. $#names)
{
	my $name = $names[$i];

	$root{$name} = new_root("lie$i");
	mkdir "$root{$name}/d" or die "mkdir: $!";
	write_file("$root{$name}/true", 'true');
	write_file("$root{$name}/d/true", 'also true');
	$id{$name} = add_repository($node, $root{$name});
	$name{ $id{$name} } = $name;
}
my $all = join(', ', map { "'$_'" } values %id);

sub all_are_watched
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $timeout = $PostgreSQL::Test::Utils::timeout_default;
	is( $node->safe_psql('postgres', qq(
SELECT count(*) FROM fsync_repositories
WHERE repository_id IN ($all) AND NOT fsync_wait(repository_id, timeout => '$timeout s'))),
		0, "$name: fsync_wait() returns true");
	ok( $node->poll_query_until('postgres', qq(
SELECT count(*) = 0 FROM fsync_repositories r, fsync_status(r.repository_id) s
WHERE r.repository_id IN ($all) AND s.state <> 'watching')),
		"$name: all is well");
}

all_are_watched('before');
my $kept = kept(values %id);
write_file("$root{$_}/.lie", "$_\n") foreach @names;
kill('KILL', split /\n/, $node->safe_psql('postgres',
		"SELECT tree_pid FROM fsync_repositories r, fsync_status(r.repository_id) WHERE r.repository_id IN ($all)"));

my %reasons;
wait_until(
	sub {
		foreach my $line (split /\n/, $node->safe_psql('postgres', qq(
SELECT r.repository_id, s.state, s.reason FROM fsync_repositories r, fsync_status(r.repository_id) s
WHERE r.repository_id IN ($all) AND s.reason ~ '$refused|another version')))
		{
			my ($id, @said) = split /\|/, $line;
			$reasons{ $name{$id} } = "@said";
		}
		return keys %reasons == @names;
	});
foreach my $name (@names)
{
	my $what = $name eq 'version' ? '' : "$refused: ";

	like($reasons{$name} // '', qr/^degraded \Q$what\E.*\Q$lies{$name}\E/,
		"$name: the state says what was wrong");
}
wait_equal($node, $good, $good_root, 'beside liars');
same_is_kept(kept(values %id), $kept, 'liars');

# The true one comes back by itself, and finds what was there.
my $worker = worker_pid($node, 'postgres');
unlink "$root{$_}/.lie" foreach @names;
$node->safe_psql('postgres', "SELECT fsync_pause(r), fsync_resume(r) FROM unnest(ARRAY[$all]::uuid[]) r");
all_are_watched('afterwards');
same_is_kept(kept(values %id), $kept, 'afterwards');
is(worker_pid($node, 'postgres'), $worker, 'the worker is the same');
$node->safe_psql('postgres', "SELECT fsync_remove_repository(r) FROM unnest(ARRAY[$all]::uuid[]) r");

# ---- lies that outlive the liar ----

my $mounted = new_root('mounted');
mkdir "$mounted/d" or die "mkdir: $!";
write_file("$mounted/d/true", 'true');
my $mounted_id = add_repository($node, $mounted);
wait_equal($node, $mounted_id, $mounted, 'mounts: before');
my $before = kept($mounted_id);
write_file("$mounted/.lie", "mounts\n");
my $runs = latest_operation($node, $mounted_id);
kill('KILL', tree_pid($node, $mounted_id));
wait_for_operation($node, $mounted_id, 'reconciliation', $runs);
is(kept($mounted_id), $before, 'mounts: those that are made up are not kept');
unlink "$mounted/.lie";
kill('KILL', tree_pid($node, $mounted_id));
wait_for_state($node, $mounted_id, 'watching', 'mounts: the true one does not miss them');
wait_equal($node, $mounted_id, $mounted, 'mounts: after');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$mounted_id')");

# ---- floods ----

sub memory
{
	my ($pid) = @_;
	my $status = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status");

	return $status =~ /^RssAnon:\s+(\d+) kB/m ? $1 / 1024 : 0;
}

# Rows with long names, for requests whose answers are as large as can be.
my $flood = new_root('flood');
write_file("$flood/$_" . 'x' x 200, '') foreach 1 .. 20000;
my $flood_id = add_repository($node, $flood);
wait_equal($node, $flood_id, $flood, 'floods: before');
my @floods = split /,/, $ENV{FLOODS} //
  'flood-frame,flood-requests,flood-singles,flood-log,flood-states,flood-random,' .
  join(',', map { "flood-observations $_" } 'P', 'C', 'A', 'U', 'M');

$node->safe_psql('postgres', 'CREATE DATABASE other');
foreach my $name (@floods)
{
	my $offset = -s $node->logfile;
	my ($worst, $memory, $n) = (0, 0, 0);
	my $begin;

	# a worker that has not grown yet
	kill('TERM', worker_pid($node, 'postgres'));
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker");
	wait_ok($node, $good, "$name: before");
	$worker = worker_pid($node, 'postgres');
	my $idle = memory($worker);

	write_file("$flood/.lie", "$name\n");
	kill('KILL', tree_pid($node, $flood_id));
	$begin = time;
	while (time - $begin < ($ENV{FLOOD_SECONDS} // 4))
	{
		my $started = time;

		write_file("$good_root/change", "$name $n");
		wait_ok($node, $good, "$name: another repository");
		$worst = time - $started if time - $started > $worst;
		$memory = memory($worker) if memory($worker) > $memory;
		$n++;
	}
	is(worker_pid($node, 'postgres'), $worker, "$name: the worker lives");
	is_equal($node, $good, $good_root, "$name: another repository");

	my $started = time;
	$node->safe_psql('postgres', 'DROP DATABASE other; ');
	my $barrier = time - $started;
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$memory = memory($worker) if memory($worker) > $memory;
	$started = time;
	kill('TERM', $worker);
	wait_until(sub { process_is_gone($worker) });
	my $terminate = time - $started;

	cmp_ok($worst, '<', 10, "$name: another repository is served");
	cmp_ok($barrier, '<', 10, "$name: another database can be dropped");
	cmp_ok($terminate, '<', 10, "$name: the worker can be ended");
	cmp_ok($memory - $idle, '<', 64, "$name: the worker does not grow");
	my $log = (-s $node->logfile) - $offset;
	cmp_ok($log, '<', 200_000, "$name: the log does not grow");
	note(sprintf '%-22s %4d waits, longest %.3f s, DROP DATABASE %.3f s, end %.3f s, memory %+.1f MB, log %d bytes',
		$name, $n, $worst, $barrier, $terminate, $memory - $idle, $log);

	unlink "$flood/.lie";
	$node->safe_psql('postgres', "SELECT fsync_pause('$flood_id'), fsync_resume('$flood_id')");
	$node->safe_psql('postgres', "SELECT fsync_reconcile('$flood_id', force => true)");
	wait_equal($node, $flood_id, $flood, "$name: the true one is back");
	wait_for_state($node, $flood_id, 'watching', "$name: all is well again");
	is_deeply(problems_of($node, $flood_id), {}, "$name: no problem is left");
}

# No line of a liar's is taken for one of the server's.
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/^2026-01-01|\x1b|^.{0,40}FATAL:  \x1b/m,
	'no line of the log is forged');
$node->stop;
done_testing();
