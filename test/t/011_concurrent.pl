#
# Several repositories at once, and real-time changes that are applied while a
# scan runs, without the one getting in the way of the other.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my @repositories;

# ---- three at once ----

foreach my $n (1 .. 3)
{
	my $root = new_root("tree $n");

	make_tree($root, 400);
	push @repositories, [ add_repository($node, $root), $root ];
}
wait_equal($node, $_->[0], $_->[1], "first sync of $_->[1]") foreach @repositories;

# Changes of every kind, other ones in each round.
sub change
{
	my ($root, $round) = @_;

	make_tree("$root/round $round", 60);
	write_file("$root/file $round.txt", "round $round");
	append_file("$root/it's.txt", "round $round\n");
	if ($round > 1)
	{
		my $last = $round - 1;

		rename("$root/round $last", "$root/was $last") or die "rename: $!";
		unlink("$root/file $last.txt") or die "unlink: $!";
		append_file("$root/was $last/it's.txt", 'moved');
	}
	remove_tree("$root/was " . ($round - 2)) if $round > 2;
}

foreach my $round (1 .. 5)
{
	my $started = $node->safe_psql('postgres', 'SELECT count(*) FROM fsync_reconcile(wait => false)');

	is($started, '3', "round $round: three reconciliations begin");
	change($_->[1], $round) foreach @repositories;
	wait_equal($node, $_->[0], $_->[1], "round $round, $_->[1]") foreach @repositories;
}

ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM sync_operations WHERE status = 'running'"),
	'all of them end');
is($node->safe_psql('postgres', "SELECT count(*) FROM sync_operations WHERE status <> 'completed'"),
	'0', 'none of them failed');
is_equal($node, $_->[0], $_->[1], "after the last one, $_->[1]") foreach @repositories;
reconcile_finds_nothing($node, $_->[0], $_->[1]) foreach @repositories;

# ---- changes while reconciliations run without a pause ----

my ($id, $root) = @{ $repositories[0] };
my $sessions = start_sql($node, 'postgres', 'reconciler',
	"SELECT status FROM fsync_reconcile('$id');\n" x 20);
foreach my $round (6 .. 15)
{
	change($root, $round);
	wait_equal($node, $id, $root, "while one reconciliation follows another, round $round");
}
my ($rc, $out, $err) = finish_sql($sessions);
is($out, join("\n", ('completed') x 20), 'each of the reconciliations is completed');
is($err, '', 'without an error');
wait_equal($node, $id, $root, 'after the reconciliations');
reconcile_finds_nothing($node, $id, 'after the reconciliations');

# ---- a scan that takes long, for certain ----

# Files that cost nothing to make and time to hash, one of them more than anybody
# has.
my $slow = new_root('slow');
mkdir("$slow/large") or die "mkdir: $!";
write_file("$slow/large/huge.img", '');
truncate("$slow/large/huge.img", 2**40) || truncate("$slow/large/huge.img", 2**37)
  or die "truncate: $!";
foreach my $n (1 .. 100)
{
	write_file("$slow/large/$n.img", '');
	truncate("$slow/large/$n.img", 60 * 1024 * 1024) or die "truncate: $!";
}
$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.max_concurrency = 1');
$node->reload;
my $slow_id = add_repository($node, $slow);
$node->poll_query_until('postgres', "SELECT operation_type = 'startup' FROM fsync_status('$slow_id')")
  or die 'the startup sync never began';

write_file("$slow/a small one.txt", 'small');
# One statement, so one moment: the row is there and the scan still runs.
ok( $node->poll_query_until('postgres', qq(
SELECT EXISTS (SELECT FROM file_records WHERE file_path = 'a small one.txt')
   AND EXISTS (SELECT FROM sync_operations
			   WHERE repository_id = '$slow_id' AND operation_type = 'startup' AND status = 'running'))),
	'a change is applied while a long scan runs');
ok( $node->poll_query_until('postgres',
		"SELECT bytes_done > 0 FROM fsync_status('$slow_id')"),
	'whose progress fsync_status() shows');
write_file("$repositories[1][1]/another.txt", 'x');
wait_equal($node, $repositories[1][0], $repositories[1][1], 'meanwhile, another repository');

remove_tree("$slow/large");
wait_equal($node, $slow_id, $slow, 'after the large files are gone');
my ($status) = wait_for_operation($node, $slow_id, 'startup', 0);
is($status, 'completed', 'the long scan is completed');
reconcile_finds_nothing($node, $slow_id, 'after the long scan');

# ---- removal during a scan ----

make_tree("$slow/more", 500);
$node->safe_psql('postgres', "SELECT count(*) FROM fsync_reconcile('$slow_id', wait => false)");
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$slow_id')");
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE repository_id = '$slow_id'"),
	'0', 'a repository can be removed while it is scanned');
write_file("$repositories[2][1]/another.txt", 'x');
wait_equal($node, $repositories[2][0], $repositories[2][1], 'and the others go on');
is($node->safe_psql('postgres', "SELECT count(*) FROM sync_operations WHERE repository_id = '$slow_id'"),
	'0', 'nothing is left of it');

$node->stop;
done_testing();
