#
# examples/search-documents: two workers, killed or stopped for longer than their
# lease at random again and again while files change; in the end each file is found by
# the words of its present content, and nothing else is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncFeed;
use FsyncTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $example = "$FindBin::RealBin/../../examples/search-documents";
my $node = new_node('main');
my $root = new_root('documents');
my $said = PostgreSQL::Test::Utils::tempdir() . '/said';
my %workers;

# In a process group of its own, to be killed with whatever it runs.
sub start_worker
{
	my $pid = fork();

	die "could not fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		setpgrp(0, 0);
		$ENV{PGHOST} = $node->host;
		$ENV{PGPORT} = $node->port;
		$ENV{PGDATABASE} = 'postgres';
		$ENV{LEASE} = 6;
		$ENV{TMPDIR} = PostgreSQL::Test::Utils::tempdir();
		open STDOUT, '>>', $said;
		open STDERR, '>&', \*STDOUT;
		exec "$example/search-documents.sh" or POSIX::_exit(1);
	}
	setpgrp($pid, $pid);
	$workers{$pid} = 1;
}

sub kill_worker
{
	my ($pid) = @_;

	kill 'KILL', -$pid;
	waitpid $pid, 0;
	delete $workers{$pid};
}

END { kill 'KILL', map { -$_ } keys %workers; }

make_tree($root, 150);
my $id = add_repository($node, $root, args => 'change_feed => true');
wait_equal($node, $id, $root, 'first sync');
$node->safe_psql('postgres', "SELECT fsync_create_consumer('search', from_start => true)");
$node->safe_psql('postgres', slurp_file("$example/search.sql"));

write_file($said, '');
my $storm = start_storm("$root/storm", 105);
my $taken_over = 0;
my $stopped;
start_worker() foreach 1, 2;
# until one has taken over what a dead one had begun
for (my $kill = 1; $kill <= 30 || (!$taken_over && $kill <= 300); $kill++)
{
	storm_goes_on($storm) if $kill % 5 == 0;
	usleep(int(rand(600_000)) + ($kill > 30 ? 20_000 * $kill : 0));
	my $worker = (keys %workers)[ rand(keys %workers) ];
	if ($kill % 7 == 3 && !$stopped)
	{
		# it goes on when others have done its work
		kill 'STOP', -$worker;
		$stopped = $worker;
		start_worker();
	}
	elsif ($worker != ($stopped // 0))
	{
		kill_worker($worker);
		start_worker();
	}
	elsif ($kill % 5 == 0)
	{
		kill 'CONT', -$stopped;
		$stopped = undef;
	}
	$taken_over ||= $node->safe_psql('postgres',
		'SELECT count(*) FROM fsync_consumer_deliveries WHERE attempts > 1');
}
kill 'CONT', -$stopped if $stopped;
stop_storm($storm);
wait_equal($node, $id, $root, 'after the storm');
wait_until(
	sub {
		$taken_over ||= $node->safe_psql('postgres',
			'SELECT count(*) FROM fsync_consumer_deliveries WHERE attempts > 1');
		return $node->safe_psql('postgres', 'SELECT pending + in_flight FROM fsync_consumers') eq '0';
	},
	'the survivors handle all that the dead have left');
cmp_ok($taken_over, '>', 0, 'which was something');
kill_worker($_) foreach keys %workers;

# The words of each file by its content on the disk, as PostgreSQL splits them.
my $table = table_files($node, $id);
cmp_ok(scalar keys %$table, '>', 150, 'many files');
$node->safe_psql('postgres', 'CREATE TABLE expected (file_id bigint PRIMARY KEY, content bytea); '
	. join('', map { sprintf "INSERT INTO expected VALUES (%s, '\\x%s');\n", $table->{$_}->[4], unpack('H*', slurp_file("$root/$_")) } sort keys %$table));
is($node->safe_psql('postgres', q(
SELECT count(*) FROM documents d FULL JOIN expected e USING (file_id)
WHERE d.words IS DISTINCT FROM to_tsvector('simple', convert_from(content, 'UTF8')))), '0', 'each file has its words, none is stale, and there is no other');

# What is found is what has the words.
write_file("$root/about the sea.txt", "A holiday at the north sea.\n");
write_file("$root/work.txt", "Work at the sea; no holiday in the north.\n");
write_file("$root/large.txt", 'holiday ' . 'and more of it ' x 100_000);
write_file("$root/no text.txt", "holiday\xFF\x00\xC3\n");
start_worker();
wait_equal($node, $id, $root, 'documents');
wait_until(sub { $node->safe_psql('postgres', 'SELECT pending + in_flight FROM fsync_consumers') eq '0' }, 'they are read');
is($node->safe_psql('postgres', q(SELECT string_agg(file_path, ', ' ORDER BY file_path) FROM search_documents('holiday'))),
	'about the sea.txt, large.txt, no text.txt, work.txt', 'what has a word');
is($node->safe_psql('postgres', q(SELECT file_path FROM search_documents('holiday -work "north sea"'))), 'about the sea.txt', 'what has words, and lacks others');
rename "$root/about the sea.txt", "$root/renamed.txt";
unlink "$root/work.txt";
wait_equal($node, $id, $root, 'renamed');
is($node->safe_psql('postgres', q(SELECT string_agg(file_path, ', ' ORDER BY file_path) FROM search_documents('sea'))), 'renamed.txt', 'under its new name, at once');
kill_worker($_) foreach keys %workers;
is(slurp_file($said), '', 'no worker complains');

$node->stop;
done_testing();
