#
# A hash was once the content.  Files that are written while they are read
# never get a hash that was never theirs, and get the right one when they are
# left alone; a write in the same clock tick as the one before is not missed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use Digest::SHA qw(sha256_hex);
use FsyncTest;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('main', conf => qq(
fsync.debounce_interval = 20ms
fsync.debounce_max_delay = 300ms
));
my $root = new_root('photos');

# A child that runs the function until it is told to stop.
sub writer
{
	my ($round) = @_;
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		my $stop = 0;

		$SIG{TERM} = sub { $stop = 1; };
		for (my $i = 0; !$stop; $i++)
		{
			eval { $round->($i); 1 } or do { print STDERR $@; POSIX::_exit(1); };
		}
		POSIX::_exit(0);
	}
	return $pid;
}

# Files of 512 kB are rewritten page by page, each page all of one letter, to and
# fro in turns.  So it is known what they ever were; a read that a writer
# overtook is something else.  (Not in larger pieces: the times do not move
# within one write(2).  An event at its end has such a hash taken again, but a
# writer that is suspended in the middle is one that nothing tells of.)
my $part = 4096;
my $parts = 128;
my @letters = ('A' .. 'H');
my %once;

foreach my $i (0 .. $#letters)
{
	my ($old, $new) = @letters[ $i - 1, $i ];

	foreach my $done (1 .. $parts)
	{
		my @state = ($new x ($done * $part), $old x (($parts - $done) * $part));

		@state = reverse @state if $i % 2;
		$once{ sha256_hex(join('', @state)) } = 1;
	}
}

sub rewrite
{
	my ($path, $i) = @_;
	my $letter = $letters[ $i % @letters ];

	open my $fh, '+<:raw', $path or die "could not open $path: $!";
	foreach my $at ($i % 2 ? reverse(0 .. $parts - 1) : (0 .. $parts - 1))
	{
		sysseek($fh, $at * $part, 0);
		syswrite($fh, $letter x $part) == $part or die "could not write $path: $!";
		usleep(100) if $at % 8 == 0;
	}
	close $fh;
}

# in place; through another name; in place, with its old time
write_file("$root/$_", 'A' x ($parts * $part)) foreach 'in place', 'renamed', 'old time';
write_file("$root/log.txt", "begin\n" x 7_000_000);
write_file("$root/quiet.txt", 'quiet');
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

my %wrong;

# All hashes that the table ever shows, by a trigger: none is missed.
$node->safe_psql(
	'postgres', q(
CREATE TABLE shown (file_path text, content_hash bytea, file_size bigint);
GRANT INSERT ON shown TO fsync_owner;
CREATE FUNCTION show_row() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
	$$BEGIN INSERT INTO public.shown VALUES (NEW.file_path, NEW.content_hash, NEW.file_size); RETURN NULL; END$$;
CREATE TRIGGER show_row AFTER INSERT OR UPDATE ON file_records
	FOR EACH ROW EXECUTE FUNCTION show_row()));

my @writers = (
	# now and then a moment of rest
	writer(sub {
		my ($i) = @_;

		rewrite("$root/in place", $i);
		usleep(1000 * ($i % 4 == 3 ? 150 : 5));
	}),
	writer(sub {
		my ($i) = @_;

		write_file("$root/renamed.tmp", $letters[ $i % @letters ] x ($parts * $part));
		rename("$root/renamed.tmp", "$root/renamed") or die "rename: $!";
		usleep(30_000);
	}),
	# size and mtime always the same
	writer(sub {
		my ($i) = @_;

		rewrite("$root/old time", $i);
		utime(1_600_000_000, 1_600_000_000, "$root/old time");
		usleep(1000 * ($i % 4 == 3 ? 150 : 5));
	}),
	# appended to without end, and so long that it never stands still while it
	# is read; a new one as well
	writer(sub {
		my ($i) = @_;

		write_file("$root/new log.txt", "begin\n" x 7_000_000) if $i == 0;
		append_file("$root/$_", "line $i of the log\n") foreach 'log.txt', 'new log.txt';
		usleep(500);
	}));

# meanwhile others are not held up, and reconciliations add to it; until enough
# was seen of the files that never stand still
my $begin = time();
my $i = 0;
my $held_up = 0;
my ($rows, $problems);
for (;;)
{
	write_file("$root/other " . ($i++) . ".txt", "other $i");
	$held_up++ unless wait_until(sub { ids_of($node, $id)->{ "other " . ($i - 1) . ".txt" } });
	$node->safe_psql('postgres', "SELECT fsync_reconcile('$id', wait => false)") if $i % 5 == 0;
	$rows = table_files($node, $id);
	$problems = problems_of($node, $id);
	next if time() < $begin + 6;
	last if time() > $begin + 2 * $PostgreSQL::Test::Utils::timeout_default;
	last if 2 == grep { $rows->{$_} && $problems->{$_} } 'log.txt', 'new log.txt'
	  and $node->safe_psql('postgres',
		"SELECT count(DISTINCT content_hash) > 1 FROM shown WHERE file_path = 'renamed'") eq 't';
}

foreach (@writers)
{
	kill('TERM', $_);
	waitpid($_, 0);
	is($?, 0, 'the writer went as it should');
}
note("$i other files");
is($held_up, 0, 'other files are recorded meanwhile');

# A growing file has its row, with no hash or a true one, and is a problem.
foreach my $log ('log.txt', 'new log.txt')
{
	my $row = $rows->{$log};

	ok(defined $row, "$log: has its row");
	ok( !defined $row->[3] || $row->[3] eq prefix_hash("$root/$log", $row->[0]),
		"$log: its hash is NULL or that of what it was");
	is($problems->{$log}, 'kept changing while read', "$log: is a problem");
}

sub prefix_hash
{
	my ($path, $size) = @_;

	open my $fh, '<:raw', $path or die "could not open $path: $!";
	read($fh, my $content, $size);
	close $fh;
	return sha256_hex($content);
}

# left alone
wait_until(sub { differences(disk_files($root), table_files($node, $id)) eq '' },
	'left alone: all is recorded without any help');
wait_until(sub { !%{ problems_of($node, $id) } }, 'left alone: no problem remains');
wait_equal($node, $id, $root, 'left alone');

# No hash was ever shown that was never the content.
my %good;
foreach my $row (split /\n/, $node->safe_psql('postgres', q(
SELECT DISTINCT file_path, file_size, encode(content_hash, 'hex') FROM shown
WHERE file_path IN ('in place', 'renamed', 'old time', 'log.txt', 'new log.txt') AND content_hash IS NOT NULL)))
{
	my ($path, $size, $hash) = split /\|/, $row;
	my $true = $path =~ /log/ ? $hash eq prefix_hash("$root/log.txt", $size) : $once{$hash};

	$true ? $good{$path}++ : $wrong{$path}++;
}
is(join(',', map { "$_: $wrong{$_}" } keys %wrong), '', 'no hash that was never the content');
note(join(', ', map { "$_: $good{$_} hashes" } sort keys %good));
cmp_ok($good{'renamed'} // 0, '>=', 2, 'and true ones were seen in between');
reconcile_finds_nothing($node, $id, 'afterwards');

# ---- two writes, one after the other, of the same size ----

my $misses = 0;
foreach my $round (1 .. 60)
{
	my $path = "$root/tick.txt";

	write_file($path, sprintf('first %05d', $round));
	# now and then, let it be seen in between
	wait_ok($node, $id, 'tick') if $round % 3 == 0;
	usleep(1000 * ($round % 50)) if $round % 3 == 1;
	open my $fh, '+<:raw', $path or die "open: $!";
	syswrite($fh, sprintf('again %05d', $round));
	syswrite($fh, 'X');
	close $fh;
	wait_ok($node, $id, 'tick');
	my $hash = table_files($node, $id)->{'tick.txt'}[3] // 'none';
	$misses++ if $hash ne Digest::SHA->new(256)->addfile($path, 'b')->hexdigest;
}
is($misses, 0, 'a second write soon after the first is never missed');

# a file that is truncated, extended and emptied while it is read
my $writer = writer(sub {
	my ($i) = @_;

	write_file("$root/restless", 'x' x (($i * 7919) % 3_000_000));
	truncate("$root/restless", ($i * 104_729) % 2_000_000);
});
foreach (1 .. 10)
{
	$node->safe_psql('postgres', "SELECT fsync_wait('$id', timeout => '2 s')");
}
kill('TERM', $writer);
waitpid($writer, 0);
wait_equal($node, $id, $root, 'grown and truncated while read');
reconcile_finds_nothing($node, $id, 'in the end');
is(join(',', keys %{ problems_of($node, $id) }), '', 'no problem remains');

$node->stop;
done_testing();
