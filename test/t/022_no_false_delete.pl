#
# A walk's silence is not absence.  While reconciliations run in a loop,
# directories are renamed to and fro before and behind the walk and a file is
# renamed in a large directory: no row vanishes, all keep their ids.  What a
# scan could not see, because it may not, was killed, or finds far too little,
# keeps its rows; what was really removed goes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('main');

# A trigger sees each removal, also of a row that soon comes back.
$node->safe_psql(
	'postgres', q(
CREATE TABLE removed (id bigint, file_path text, at timestamptz DEFAULT clock_timestamp());
GRANT INSERT ON removed TO fsync_owner;
CREATE FUNCTION note_removal() RETURNS trigger LANGUAGE plpgsql
	SET search_path = public AS
	$$BEGIN INSERT INTO public.removed VALUES (OLD.id, OLD.file_path); RETURN NULL; END$$;
CREATE TRIGGER note AFTER DELETE ON file_records FOR EACH ROW EXECUTE FUNCTION note_removal()));

sub removals
{
	return $node->safe_psql('postgres',
		'WITH gone AS (DELETE FROM removed RETURNING *) SELECT count(*) FROM gone');
}

sub below
{
	my ($id, $dir) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE repository_id = '$id' AND file_path LIKE '$dir/%'");
}

# Runs a function in a child until told to stop; the function does one round
# and leaves all as it was.  After two seconds there is a rest of two: what is
# never seen at rest for MOVES_WAIT_US loses its row, and gets another.
sub keep_doing
{
	my ($round) = @_;
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		my $stop = 0;
		my $begin = time();

		local $SIG{TERM} = sub { $stop = 1; };
		until ($stop)
		{
			eval { $round->(); 1 } or last;
			next if time() < $begin + 2;
			usleep(100_000) for 1 .. ($stop ? 0 : 20);
			$begin = time();
		}
		print STDERR $@ if $@;
		# no END blocks: they belong to the parent
		require POSIX;
		POSIX::_exit($@ ? 1 : 0);
	}
	return $pid;
}

sub stop_doing
{
	my ($pid, $name) = @_;

	kill('TERM', $pid);
	waitpid($pid, 0);
	is($?, 0, "$name: the storm went as it should");
}

# Reconciles for five seconds at least, and until three runs are complete; how
# long one takes beside a storm is nobody's promise.  Returns how many were
# completed, and the fewest rows that were ever seen.
sub reconcile_meanwhile
{
	my ($id) = @_;
	my ($runs, $fewest) = (0, rows_of($node, $id));
	my $begin = time();
	my $bound = 2 * $PostgreSQL::Test::Utils::timeout_default;

	while (time() < $begin + 5 || ($runs < 3 && time() < $begin + $bound))
	{
		my $result = reconcile($node, $id);
		my $rows = rows_of($node, $id);

		$runs++ if $result =~ /^completed/;
		$fewest = $rows if $rows < $fewest;
	}
	return ($runs, $fewest);
}

# ---- directories that are renamed across the walk ----

my $root = new_root('photos');
foreach my $d (1 .. 30)
{
	mkdir(sprintf("$root/m%02d", $d)) or die "mkdir: $!";
	write_file(sprintf("$root/m%02d/%d.txt", $d, $_), "$d/$_") foreach 1 .. 100;
}
make_path("$root/a ahead", "$root/z behind", "$root/a ahead/wander/sub");
write_file("$root/a ahead/wander/$_.txt", "w$_") foreach 1 .. 300;
write_file("$root/a ahead/wander/sub/$_.txt", "s$_") foreach 1 .. 300;
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
my $n = rows_of($node, $id);
my %by_id = reverse %{ ids_of($node, $id) };
removals();

my $storm = keep_doing(sub {
	rename("$root/z behind/wander", "$root/a ahead/wander") if -e "$root/z behind/wander";
	rename("$root/m15", "$root/a ahead/m15") or die "rename: $!";
	rename("$root/a ahead/wander", "$root/z behind/wander") or die "rename: $!";
	rename("$root/a ahead/m15", "$root/z behind/m15") or die "rename: $!";
	usleep(1000 * int(rand(20)));
	rename("$root/z behind/wander", "$root/a ahead/wander") or die "rename: $!";
	rename("$root/z behind/m15", "$root/m15") or die "rename: $!";
	usleep(1000 * int(rand(20)));
});
my ($runs, $fewest) = reconcile_meanwhile($id);
stop_doing($storm, 'directories across the walk');
cmp_ok($runs, '>=', 3, 'directories across the walk: reconciliations ran');
note("$runs reconciliations while directories were renamed");
is($fewest, $n, 'directories across the walk: no row was ever missing');
wait_equal($node, $id, $root, 'directories across the walk');
is(removals(), '0', 'directories across the walk: nothing was removed');
my %now = reverse %{ ids_of($node, $id) };
is(join(',', sort keys %now), join(',', sort keys %by_id), 'directories across the walk: all ids are the same');
is_deeply(\%now, \%by_id, 'directories across the walk: and at their paths');
reconcile_finds_nothing($node, $id, 'directories across the walk');

# ---- most of the files, renamed under a scan ----

# Each scan may find them at neither place; that is hardly ever a mass deletion.
my $most = new_root('most');
make_path("$most/a/files", "$most/z");
write_file("$most/a/files/$_.txt", "m$_") foreach 1 .. 3000;
write_file("$most/m$_.txt", "m$_") foreach 1 .. 300;
my $most_id = add_repository($node, $most);
wait_equal($node, $most_id, $most, 'before most files are renamed');
$storm = keep_doing(sub {
	rename("$most/a/files", "$most/z/files") or die "rename: $!";
	usleep(1000 * int(rand(10)));
	rename("$most/z/files", "$most/a/files") or die "rename: $!";
	usleep(1000 * int(rand(10)));
});
($runs) = reconcile_meanwhile($most_id);
stop_doing($storm, 'most files renamed under a scan');
cmp_ok($runs, '>=', 3, 'most files renamed under a scan: reconciliations ran');
wait_for_state($node, $most_id, 'watching', 'most files renamed under a scan: all is well again');
wait_equal($node, $most_id, $most, 'most files renamed under a scan');
reconcile_finds_nothing($node, $most_id, 'most files renamed under a scan');

# One may, in a storm without end: it removes nothing, and the next one heals.
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM sync_operations WHERE error_message LIKE '%mass_delete%'"),
	'<', 0.4 * $runs, 'most files renamed under a scan: scans did not take them for deleted');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$most_id')");

# ---- a file that is renamed to and fro in a large directory ----

mkdir("$root/large") or die "mkdir: $!";
write_file("$root/large/$_", '') foreach 1 .. 20_000;
write_file("$root/large/wanderer", 'here I am');
wait_ok($node, $id, 'a large directory');
is(below($id, 'large'), 20_001, 'a large directory');
my $wanderer = ids_of($node, $id)->{'large/wanderer'};
$n = rows_of($node, $id);
removals();

$storm = keep_doing(sub {
	rename("$root/large/wanderer", "$root/large/wandered") or die "rename: $!";
	rename("$root/large/wandered", "$root/large/a longer name than before") or die "rename: $!";
	rename("$root/large/a longer name than before", "$root/large/wanderer") or die "rename: $!";
	usleep(500);
});
($runs, $fewest) = reconcile_meanwhile($id);
stop_doing($storm, 'a wandering file');
note("$runs reconciliations while a file was renamed");
cmp_ok($runs, '>=', 3, 'a wandering file: reconciliations ran');
is($fewest, $n, 'a wandering file: no row was ever missing');
wait_equal($node, $id, $root, 'a wandering file');
is(removals(), '0', 'a wandering file: nothing was removed');
is(ids_of($node, $id)->{'large/wanderer'}, $wanderer, 'a wandering file: with its id');

# ---- killed half-way ----

# The server is down while files go, come and change; then fsync-tree is killed
# in the middle of the scan, again and again, until it is let go.
$n = rows_of($node, $id);
my $large = below($id, 'large');
$node->stop;
unlink("$root/large/$_") or die "unlink: $!" foreach 1 .. 1000;
write_file("$root/large/$_", $_) foreach 1001 .. 1100;
rename("$root/m01", "$root/large/m01") or die "rename: $!";
$node->start;
my $pid = 0;
foreach my $round (1 .. 3)
{
	$pid = tree_pid($node, $id, not => $pid);
	last unless $pid;
	usleep(20_000 * $round);
	kill('KILL', $pid);
	my $rows = rows_of($node, $id);
	cmp_ok($rows, '>=', $n - 1000, "killed in a scan, $round: no row that should stay is gone");
}
wait_equal($node, $id, $root, 'killed in a scan: afterwards');
is(rows_of($node, $id), $n - 1000, 'killed in a scan: and what was removed is gone');
is( $node->safe_psql('postgres', "SELECT count(*) FROM sync_operations WHERE status = 'running'"),
	'0', 'killed in a scan: no operation is left running');
removals();

# Cancelled: the repository's waiter is cancelled, and the server stopped.
my $before_it = latest_operation($node, $id);
my $sql = start_sql($node, 'postgres', 'waiter', "SELECT fsync_reconcile('$id')");
wait_until(sub { latest_operation($node, $id) > $before_it }, 'a reconciliation has begun');
$node->restart;
finish_sql($sql);
wait_equal($node, $id, $root, 'stopped in a reconciliation');
is(removals(), '0', 'stopped in a reconciliation: nothing was removed');

# ---- what may not be read ----

mkdir("$root/private") or die "mkdir: $!";
make_path("$root/private/sub");
write_file("$root/private/$_.txt", $_) foreach 1 .. 10;
write_file("$root/private/sub/$_.txt", $_) foreach 1 .. 10;
wait_equal($node, $id, $root, 'a private directory');
foreach my $mode (0, 0100, 0400)
{
	my $name = sprintf('a directory of mode %03o', $mode);

	chmod($mode, "$root/private") or die "chmod: $!";
	wait_ok($node, $id, $name);
	like(reconcile($node, $id), qr/^completed/, "$name: a reconciliation runs");
	is(below($id, 'private'), '20', "$name: the rows below it stay");
	isnt(join(',', grep { m{^private} } keys %{ problems_of($node, $id) }), '', "$name: is a problem");
	if ($mode == 0)
	{
		$node->restart;
		wait_ok($node, $id, "$name, after a restart");
		is(below($id, 'private'), '20', "$name: the rows stay after a restart");
	}
	chmod(0755, "$root/private") or die "chmod: $!";
	wait_equal($node, $id, $root, "$name: readable again");
	is(join(',', keys %{ problems_of($node, $id) }), '', "$name: and the problem is gone");
}
chmod(0, "$root/private/sub") or die "chmod: $!";
$node->stop;
rename("$root/private", "$root/moved") or die "rename: $!";
$node->start;
wait_ok($node, $id, 'an unreadable directory that was renamed');
chmod(0755, "$root/moved/sub") or die "chmod: $!";
wait_equal($node, $id, $root, 'an unreadable directory that was renamed: readable again');
remove_tree("$root/moved");
wait_equal($node, $id, $root, 'removed');
removals();

# ---- suddenly empty ----

my $last = latest_operation($node, $id);
$n = rows_of($node, $id);
$node->stop;
mkdir("$root.shelter") or die "mkdir: $!";
my @names = map { s{.*/}{}r } glob("'$root'/*");
rename("$root/$_", "$root.shelter/$_") || die "rename: $!" foreach @names;
$node->start;
my ($status, $counts, $error) = wait_for_operation($node, $id, 'startup', $last);
is($status, 'failed', 'suddenly empty: the scan fails');
wait_for_state($node, $id, 'degraded', 'suddenly empty: degraded');
like(status_of($node, $id, 'hint'), qr/force/, 'suddenly empty: the hint says what to do');
is(rows_of($node, $id), $n, 'suddenly empty: the rows stay');
write_file("$root/new.txt", 'new');
ok(wait_until(sub { below($id, 'new.txt') . ids_of($node, $id)->{'new.txt'} }),
	'suddenly empty: what comes is recorded');
unlink("$root/new.txt") or die "unlink: $!";
rename("$root.shelter/$_", "$root/$_") || die "rename: $!" foreach @names;
like(reconcile($node, $id), qr/^completed/, 'filled again: a reconciliation is content');
wait_for_state($node, $id, 'watching', 'filled again: watching');
wait_equal($node, $id, $root, 'filled again');
is($node->safe_psql('postgres', "SELECT count(*) FROM removed WHERE file_path <> 'new.txt'"),
	'0', 'filled again: no row was removed');
removals();

# really emptied, but for a few
$node->stop;
remove_tree("$root/large");
$node->start;
wait_for_state($node, $id, 'degraded', 'emptied: degraded');
is(rows_of($node, $id), $n, 'emptied: the rows stay');
like(reconcile($node, $id), qr/^failed/, 'emptied: without force they stay');
is(rows_of($node, $id), $n, 'emptied: all of them');
like(reconcile($node, $id, args => 'force => true'), qr/^completed/, 'emptied: accepted by force');
wait_equal($node, $id, $root, 'emptied');
wait_for_state($node, $id, 'watching', 'emptied: watching');

# under watch a user may remove what he likes
removals();
$n = rows_of($node, $id);
remove_tree(map { sprintf("$root/m%02d", $_) } 2 .. 25);
wait_equal($node, $id, $root, 'rm -rf of most under watch');
is(removals(), '2400', 'rm -rf of most under watch: is applied');
reconcile_finds_nothing($node, $id, 'in the end');

$node->stop;
done_testing();
