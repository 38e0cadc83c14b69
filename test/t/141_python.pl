#
# examples/python: waits for a file, pages through a folder, follows the change
# feed, woken by LISTEN, and loses nothing when it is killed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use IPC::Run ();
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

# Debian's, for which Debian's psycopg is.
my $python = '/usr/bin/python3';
my $script = "$FindBin::RealBin/../../examples/python/fsync_client.py";

plan skip_all => 'python3-psycopg is not installed'
  if !-x $python || system("$python -c 'import psycopg' 2>/dev/null") != 0;

my $node = new_node('main');
my $db = 'postgres';
my $root = new_root("my photos");

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = $db;
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

my $id = add_repository($node, $root, args => 'change_feed => true');
$node->safe_psql($db, q(
CREATE ROLE gallery LOGIN;
GRANT SELECT ON file_records, fsync_repositories TO gallery;
GRANT EXECUTE ON FUNCTION fsync_wait, fsync_next_changes, fsync_ack TO gallery));

sub run_client
{
	my ($out, $err);

	local $ENV{PGUSER} = 'gallery';
	IPC::Run::run([ $python, $script, @_ ], '<', \undef, '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return ($?, $out, $err);
}

# ---- wait ----

write_file("$root/one.txt", 'one');
my ($rc, $out, $err) = run_client('wait', $root, 'one.txt');
is($rc, 0, 'a file is waited for') or diag($err);
is($out, $node->safe_psql($db, "SELECT id || ' 3 ' || encode(content_hash, 'hex') FROM file_records") . "\n", 'and its row is there');
($rc, $out, $err) = run_client('wait', $root, 'none.txt');
like($err, qr/none\.txt is not there/, 'one that is not there');
($rc, $out, $err) = run_client('wait', "$root-not", 'none.txt');
like($err, qr/is not registered/, 'a directory that is not registered');
$node->safe_psql($db, "SELECT fsync_pause('$id')");
($rc, $out, $err) = run_client('wait', $root, 'one.txt');
isnt($rc, 0, 'one that is paused');
$node->safe_psql($db, "SELECT fsync_resume('$id')");

# ---- pages ----

# More than a page of everything; names around "/" in the order of bytes; folders
# with a lot in them; letters of several bytes.
sub listing_is
{
	my ($folder, $name) = @_;
	my $dir = $folder eq '' ? $root : "$root/$folder";
	my @expected;

	opendir(my $handle, $dir) or die "opendir: $!";
	foreach my $entry (grep { !/^\./ } readdir $handle)
	{
		push @expected, -d "$dir/$entry" ? "$entry/" : "$entry\t" . -s _;
	}
	closedir $handle;
	($rc, $out, $err) = run_client('list', $root, $folder);
	is($rc, 0, "$name: it runs") or diag($err);
	return is($out, join('', map { "$_\n" } sort { ($a =~ s/\t.*//sr) cmp($b =~ s/\t.*//sr) } @expected), $name);
}
foreach my $i (1 .. 250)
{
	mkdir "$root/folder $i" or die "mkdir: $!";
	write_file("$root/folder $i/$_", $_) foreach 1 .. 3;
	write_file("$root/file $i", 'x' x $i);
}
foreach my $odd ('x', "x\x01", 'x-1', 'x.jpg', 'x0', "x0\x01", "\xC3\xBCber", "%s 'q' \\", '_%')
{
	write_file("$root/$odd", $odd);
	mkdir "$root/dir$odd" or die "mkdir: $!";
	write_file("$root/dir$odd/$odd", $odd);
}
mkdir "$root/deep" or die "mkdir: $!";
mkdir "$root/deep/er" or die "mkdir: $!";
write_file("$root/deep/er/$_", $_) foreach 1 .. 100;
write_file("$root/deep0", 'x');
wait_ok($node, $id, 'a tree');
listing_is('', 'the root, by pages');
listing_is('deep', 'a folder with a folder');
listing_is('deep/er', 'exactly a page');
listing_is("dir$_", "folder dir$_") foreach ('x', 'x-1', "\xC3\xBCber", '_%');
($rc, $out, $err) = run_client('list', $root, 'nowhere');
is("$rc|$out", '0|', 'a folder that is not there');

# ---- follow ----

$node->safe_psql($db, "SELECT fsync_create_consumer('printer')");
my %handled;
my $said = PostgreSQL::Test::Utils::tempdir() . '/said';
my $follower;

sub start_follower
{
	$follower = fork() // die "fork: $!";
	if ($follower == 0)
	{
		$ENV{PGUSER} = 'gallery';
		open STDOUT, '>>', $said;
		open STDERR, '>&', \*STDOUT;
		exec $python, $script, 'follow', 'printer' or POSIX::_exit(1);
	}
}

sub stop_follower
{
	my ($signal) = @_;

	kill $signal, $follower;
	waitpid $follower, 0;
	$follower = undef;
	return $?;
}
END { kill 'KILL', $follower if $follower; }

sub followed
{
	return map { my $c = eval { decode_json($_) }; $c ? "$c->{operation} " . ($c->{path} // '') : () } split /\n/, slurp_file($said);
}
write_file($said, '');
start_follower();
wait_until(sub { $node->safe_psql($db, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'gallery' AND state = 'idle'") eq '1' },
	'it listens');
my $start = time();
write_file("$root/new file", 'x');
wait_until(sub { grep { $_ eq 'added new file' } followed() }, 'it is told of a new file');
cmp_ok(time() - $start, '<', 50, 'by LISTEN, not by asking again');
rename("$root/new file", "$root/renamed") or die "rename: $!";
wait_until(sub { grep { $_ eq 'moved renamed' } followed() }, 'of a rename');
is(stop_follower('TERM'), 0, 'it ends when it is told to');

# Killed again and again: each change is handled.
foreach my $round (1 .. 5)
{
	start_follower();
	write_file("$root/round $round $_", 'x') foreach 1 .. 20;
	wait_ok($node, $id, "round $round");
	wait_until(sub { scalar(grep { /^added round $round / } followed()) > 3 }, 'it works') if $round % 2;
	stop_follower('KILL');
}
$node->safe_psql($db, "UPDATE fsync_consumer_deliveries SET visible_at = now()");
start_follower();
wait_until(sub { my %seen = map { $_ => 1 } grep { /^added round/ } followed(); keys %seen == 100 }, 'each change is handled');
stop_follower('TERM');
ok($node->poll_query_until($db, "SELECT pending + in_flight = 0 FROM fsync_consumers"), 'and acknowledged');

$node->stop;
done_testing();
