#
# A file system that does not answer any more, as a network mount whose server
# is gone: who asks it cannot even be killed.  Its repository becomes
# unavailable and keeps its rows; the others go on, sessions get their answers,
# and PostgreSQL stops and starts.  When it answers again all is as before.
#
# The file system is a small one of the test's own, served over /dev/fuse in a
# namespace of its own.  However the test ends, the kernel ends the requests
# that hang when the descriptor is closed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
BEGIN { enter_namespace(); }
use Fcntl qw(:DEFAULT);
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;

# /dev/fuse is root's on some systems; check.sh then makes a node for us.
my ($device) = grep { -r $_ && -w $_ && sysopen(my $fh, $_, O_RDWR) }
  (($ENV{TESTDIR} ? "$ENV{TESTDIR}/fuse" : ()), '/dev/fuse');

plan skip_all => '/dev/fuse cannot be opened' unless $device;

my %content = map { ("file $_.txt" => "content of file $_") } 1 .. 5;
my @names = sort keys %content;

# ---- the file system: a root (node 1) and its files (nodes 2, 3, …) ----

sub attributes
{
	my ($node) = @_;
	my $size = $node == 1 ? 0 : length($content{ $names[ $node - 2 ] });
	my $time = 1_600_000_000 + $node;

	return pack('Q6L10', $node, $size, 0, $time, $time, $time, 0, 0, 0,
		$node == 1 ? 040755 : 0100644, 1, $>, $) + 0, 0, 4096, 0);
}

# The answer to a request: error number and data; nothing where none is due.
sub answer
{
	my ($opcode, $node, $data) = @_;

	# LOOKUP, GETATTR
	if ($opcode == 1)
	{
		my ($name) = $data =~ /^([^\0]*)/;
		my ($i) = grep { $names[$_] eq $name } 0 .. $#names;

		return (POSIX::ENOENT) unless defined $i;
		return (0, pack('Q4L2', $i + 2, 0, 0, 0, 0, 0) . attributes($i + 2));
	}
	return (0, pack('QL2', 0, 0, 0) . attributes($node)) if $opcode == 3;

	# OPEN and OPENDIR, READ, STATFS
	return (0, pack('QL2', 0, 0, 0)) if $opcode == 14 || $opcode == 27;
	if ($opcode == 15)
	{
		my (undef, $offset, $size) = unpack('QQL', $data);
		my $content = $content{ $names[ $node - 2 ] };

		return (0, $offset < length $content ? substr($content, $offset, $size) : '');
	}
	return (0, pack('Q5L10', 1000, 1000, 1000, 1000, 1000, 4096, 255, 4096, (0) x 7))
	  if $opcode == 17;

	# RELEASE, FLUSH, RELEASEDIR, ACCESS, DESTROY
	return (0, '') if grep { $opcode == $_ } 18, 25, 29, 34, 38;

	# INIT, of protocol 7.31
	return (0, pack('L4S2L2S2L8', 7, 31, 65536, 0, 16, 12, 65536, 1, 1, 0, (0) x 8))
	  if $opcode == 26;

	# READDIR
	if ($opcode == 28)
	{
		my (undef, $offset) = unpack('QQ', $data);
		my $list = '';

		foreach my $i ($offset .. $#names)
		{
			my $name = $names[$i];

			$list .= pack('QQLL', $i + 2, $i + 1, length $name, 8) . $name
			  . "\0" x (-length($name) % 8);
		}
		return (0, $list);
	}

	# FORGET, INTERRUPT, BATCH_FORGET: no answer is due
	return if grep { $opcode == $_ } 2, 36, 42;
	return (POSIX::ENOSYS);
}

# Mounts and serves the file system; returns the server's pid.  SIGUSR1 makes
# it take requests and answer none.
sub serve
{
	my ($target) = @_;

	sysopen(my $fuse, $device, O_RDWR) or die "could not open $device: $!";
	mount_at('fuse', $target,
		options => sprintf('fd=%d,rootmode=40000,user_id=%d,group_id=%d', fileno($fuse), $>, $) + 0));

	my $pid = fork() // die "fork: $!";
	return $pid if $pid;

	my $hangs = 0;

	$SIG{USR1} = sub { $hangs = 1; };
	$SIG{TERM} = 'DEFAULT';
	while (1)
	{
		my $n = sysread($fuse, my $request, 1 << 20);

		next if !defined $n && ($!{EINTR} || $!{ENOENT});
		last unless $n;
		my (undef, $opcode, $unique, $node) = unpack('LLQQ', $request);
		next if $hangs;
		my ($error, $data) = answer($opcode, $node, substr($request, 40));
		next unless defined $error;
		$data = '' if $error;
		syswrite($fuse, pack('LlQ', 16 + length $data, -$error, $unique) . $data);
	}
	POSIX::_exit(0);
}

my $hung = new_root('hung');
my $server = serve($hung);

# The server must not outlive the test.
END { kill('KILL', $server) if $server; }

my @listed = eval { local $SIG{ALRM} = sub { die }; alarm(10); my @l = glob("'$hung'/*"); alarm(0); @l };
if (@listed != @names)
{
	plan skip_all => 'no file system can be served here';
}

# ---- as long as it answers ----

my $node = new_node('main', conf => 'fsync.helper_timeout = 10s');
my $well = new_root('well');
make_tree($well, 40);
my $well_id = add_repository($node, $well);
my $id = add_repository($node, $hung);
wait_equal($node, $well_id, $well, 'a repository that is well');
wait_ok($node, $id, 'one on the file system');
is(join(',', sort keys %{ ids_of($node, $id) }), join(',', @names), 'its files have rows');
reconcile_finds_nothing($node, $id, 'while it answers');
my $ids = ids_of($node, $id);

# A statement, which must be answered although the file system never does.
sub answered
{
	my ($sql, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql,
		timeout => $PostgreSQL::Test::Utils::timeout_default, timed_out => \my $timed_out);

	ok(!$timed_out, "$name: is answered");
	return $rc == 0 ? $out : $err;
}

# The other repository is kept right.
sub others_go_on
{
	my ($name) = @_;

	append_file("$well/it's.txt", $name);
	write_file("$well/$name.txt", $name);
	wait_equal($node, $well_id, $well, "$name: the other repository");
}

# ---- it hangs ----

kill('USR1', $server);
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id', wait => false)");
wait_for_state($node, $id, 'unavailable', 'hung: unavailable');
isnt(status_of($node, $id, 'hint'), '', 'hung: there is a hint');
others_go_on('hung');
is_deeply(ids_of($node, $id), $ids, 'hung: the rows stay');
is(answered("SELECT fsync_wait('$id', timeout => '1 s')", 'hung: fsync_wait()'), 'f',
	'hung: and does not claim that all is well');
like(answered("SELECT fsync_add_repository(" . sql_path("$hung/sub") . ")", 'hung: fsync_add_repository()'),
	qr/ERROR/, 'hung: and raises');
others_go_on('hung, later');

foreach my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	pass("hung, $mode stop: the server stops and starts");
	others_go_on("hung, $mode stop");
	wait_for_state($node, $id, 'unavailable', "hung, $mode stop: still unavailable");
	is_deeply(ids_of($node, $id), $ids, "hung, $mode stop: the rows stay");
}
answered("SELECT count(*) FROM fsync_status()", 'hung: fsync_status()');
$node->safe_psql('postgres', 'CREATE DATABASE another');
$node->safe_psql('postgres', 'DROP DATABASE another');
pass('hung: databases can be made and dropped');

# ---- its server dies: requests fail ----

kill('KILL', $server);
waitpid($server, 0);
$server = 0;
wait_for_state($node, $id, 'unavailable', 'dead: unavailable');
is_deeply(ids_of($node, $id), $ids, 'dead: the rows stay');
others_go_on('dead');
ok(unmount($hung), 'dead: it can be unmounted');
is_deeply(ids_of($node, $id), $ids, 'unmounted: the rows stay');

# ---- and answers again ----

$content{'file 1.txt'} = 'changed meanwhile, and longer';
$server = serve($hung);
wait_for_state($node, $id, 'watching', 'it answers again: heals without help');
wait_ok($node, $id, 'it answers again');
is(table_files($node, $id)->{'file 1.txt'}[3], Digest::SHA::sha256_hex($content{'file 1.txt'}),
	'it answers again: what changed is seen');
is(join(',', sort keys %{ ids_of($node, $id) }), join(',', @names), 'it answers again: all rows');

# hung while the repository is removed
kill('USR1', $server);
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id', wait => false)");
answered("SELECT fsync_remove_repository('$id')", 'hung: fsync_remove_repository()');
is(rows_of($node, $id), 0, 'hung: and the rows go');
others_go_on('removed');

kill('KILL', $server);
waitpid($server, 0);
$server = 0;
$node->stop;
unmount($hung);
done_testing();
