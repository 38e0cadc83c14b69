#
# fsync-tree as somebody who has taken it over: a program that enters the sandbox
# by the same functions, in each mode, tries what could do harm, and must fail
# with all of it.  Then the real one: confined before it reads anything; and on
# systems that lack a part of the sandbox, which the status and one line of the
# log tell, and where fsync.require_sandbox refuses to go on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Copy qw(copy);
use FsyncLinux;
use FsyncTest;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket;
use Test::More;

my $burglar = $ENV{SANDBOX_BURGLAR} or die 'SANDBOX_BURGLAR does not name the program burglar';
my $lacking = $ENV{SANDBOX_LACKING} or die 'SANDBOX_LACKING does not name the program lacking';
my $tmp = PostgreSQL::Test::Utils::tempdir();
my $fsync_tree = `pg_config --pkglibdir`;
chomp $fsync_tree;
$fsync_tree .= '/fsync-tree';

# ---- what there is to be had ----

my $node = new_node('main', conf => "fsync.helper_path = '$burglar'");
my $data = $node->data_dir;
my $root = new_root('robbed');
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5, Proto => 'tcp')
  or die "could not listen: $!";
my @pidfile = split(/\n/, slurp_file("$data/postmaster.pid"));
my ($postmaster) = $pidfile[0] =~ /(\d+)/;
my ($shared_memory) = ($pidfile[6] // '') =~ /(\d+)\s*$/;

mkdir "$data/base/pgsql_tmp";
write_file("$tmp/outside", 'outside');
symlink("$tmp/outside", "$root/link") or die "symlink: $!";
foreach my $dir ($data, $root)
{
	write_file("$dir/decoy", 'untouched');
	chmod 0640, "$dir/decoy" or die "chmod: $!";
	utime(1e9, 1e9, "$dir/decoy") or die "utime: $!";
	mkdir "$dir/empty" or die "mkdir: $!";
}
write_file("$data/base/pgsql_tmp/decoy", 'untouched');
write_file("$root/burglar", join("\n",
		"data $data",
		'socket ' . $node->host . '/.s.PGSQL.' . $node->port,
		"result $tmp/result",
		'port ' . $listener->sockport,
		"postmaster $postmaster",
		'shared_memory ' . ($shared_memory // 0)) . "\n");

# ---- it is robbed ----

my $id = add_repository($node, $root);
wait_for_status($node, $id, 'reason', qr/^robbed$/, 'the burglar says that it is through');
$node->psql('postgres', "SELECT * FROM $_") foreach ("fsync_why('$id', 'decoy')", "fsync_preview('$id')", "fsync_ignored('$id')");

foreach my $mode (qw(worker check why preview ignored))
{
	my $result = -e "$tmp/result.$mode" ? slurp_file("$tmp/result.$mode") : '';

  SKIP:
	{
		my ($missing) = $result =~ /^missing (.*)/m;
		skip "$mode: no $missing on this system", 4 if $missing;
		my @denied = $result =~ /^denied /mg;
		cmp_ok(scalar(@denied), '>', 100, "$mode: so many attempts were denied: " . @denied);
		is(join("\n", $result =~ /^(DONE .*)/mg), '', "$mode: and all were");
		is(join("\n", $result =~ /^(FAILS .*)/mg), '', "$mode: what fsync-tree needs works");
		like($result, qr/^end$/m, "$mode: it was through");
	}
}

foreach my $file (map { "$_/decoy" } $data, $root)
{
	my @stat = stat $file;

	is(slurp_file($file), 'untouched', "$file has its content");
	is(sprintf('%o', $stat[2] & 07777), '640', 'its mode');
	is($stat[9], 1e9, 'and its time');
}
is(join(' ', grep { -e } map { ("$_/other", "$_/created") } $data, $root), '', 'nothing was made');
ok(-d "$data/empty" && -d "$root/empty", 'and nothing removed');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'PostgreSQL serves on');

# What it wrote to its standard error, 10 MB and more.
my $log = slurp_file($node->logfile);
my @said = $log =~ /(fsync-tree of repository .*? says: .*)/g;
cmp_ok(scalar(@said), '<=', 20, 'the log has a few lines of what it said: ' . @said);
cmp_ok(scalar(@said), '>', 0, 'but some');
unlike($log, qr/^2026-01-01/m, 'no line is forged');
unlike($log, qr/[\e\r]/, 'and none has control characters');
cmp_ok(length($log), '<', 200_000, 'the log is short');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

# ---- the real one ----

$node->append_conf('postgresql.conf', "fsync.helper_path = ''");
$node->restart;
my $photos = new_root('photos');
make_tree($photos, 100);
$id = add_repository($node, $photos);
wait_equal($node, $id, $photos, 'the real one');
my $whole = status_of($node, $id, 'sandbox');
note("the sandbox is $whole");

# "name value" of /proc/PID/status.
sub process_status
{
	my ($pid, $name) = @_;

	open my $fh, '<', "/proc/$pid/status" or return '';
	my ($value) = join('', <$fh>) =~ /^$name:\s*(\d+)/m;
	return $value // '';
}

sub is_confined
{
	my ($pid, $name) = @_;

  SKIP:
	{
		skip "$name: the sandbox is $whole", 1 if $whole ne 'complete';
		ok(wait_until(sub { process_status($pid, 'Seccomp') eq '2' }), "$name: system calls are filtered");
		is(process_status($pid, 'NoNewPrivs'), '1', "$name: no new privileges");
	}
}

is_confined(tree_pid($node, $id), 'at work');

# Before it is sent a byte, or can say one: it waits for the other end.
sub started
{
	my ($stdin, $stdout, $socket, @args) = @_;
	my $pid = fork() // die "fork: $!";

	return $pid if $pid;
	open STDIN, '<&', $stdin or POSIX::_exit(1) if $stdin;
	open STDOUT, '>&', $stdout or POSIX::_exit(1) if $stdout;
	POSIX::dup2(fileno($socket), 3) if $socket;
	exec($fsync_tree, @args) or POSIX::_exit(1);
}

sub ended
{
	my ($pid) = @_;

	kill 'KILL', $pid;
	waitpid $pid, 0;
}

# A pipe with nothing in it, and one that takes no more.
pipe(my $empty, my $writer) or die "pipe: $!";
pipe(my $reader, my $full) or die "pipe: $!";
$full->blocking(0);
1 while syswrite($full, 'x' x 4096);
1 while syswrite($full, 'x');
$full->blocking(1);
socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, 0) or die "socketpair: $!";

my %waiting = (
	worker => started(undef, undef, $theirs, 'worker', $photos),
	check => started(undef, $full, undef, 'check', $photos),
	why => started($empty, undef, undef, 'why', $photos, 'x'),
	preview => started($empty, undef, undef, 'preview', $photos, 10, 1000000),
	ignored => started($empty, undef, undef, 'ignored', $photos, 10, 1000000));
foreach my $mode (sort keys %waiting)
{
	is_confined($waiting{$mode}, "$mode, before the first byte");
	cmp_ok(slurp_file("/proc/$waiting{$mode}/oom_score_adj"), '>=', 500, "$mode: goes before the server");
	ended($waiting{$mode});
}

# ---- systems that lack something ----

copy($lacking, "$tmp/lacking") or die "copy: $!";
chmod 0755, "$tmp/lacking" or die "chmod: $!";
$node->append_conf('postgresql.conf', "fsync.helper_path = '$tmp/lacking'");

# Newer than some headers; the same on all architectures.
my %newer = (mseal => 462);

sub lack
{
	my ($program, %calls) = @_;

	write_file("$tmp/lacking.conf", join("\n", $program,
			map { ($newer{$_} // FsyncLinux::call_number($_)) . " $calls{$_}" } sort keys %calls) . "\n");
}

my %systems = (
	'a kernel without Landlock' => [ { landlock_create_ruleset => 38 }, qr/^no Landlock \(/ ],
	'one where it is switched off' => [ { landlock_create_ruleset => 95 }, qr/^no Landlock \(not enabled/ ],
	'a container that forbids what a sandbox is made of' =>
	  [ { landlock_create_ruleset => 1, seccomp => 1, prctl => 1 }, qr/^no no_new_privs .*seccomp/ ],
	'one that has no openat2' => [ { openat2 => 38 }, qr/^complete$/ ],
	'one that cannot seal memory' => [ { mseal => 38 }, qr/^complete$/ ],
	'one without Landlock that cannot seal memory' =>
	  [ { landlock_create_ruleset => 38, mseal => 38 }, qr/^no Landlock \(/ ]);

foreach my $system (sort keys %systems)
{
	my ($calls, $sandbox) = @{ $systems{$system} };
	my $offset = -s $node->logfile;

	lack($fsync_tree, %$calls);
	$node->restart;
	write_file("$photos/$system", 'x');
	wait_for_state($node, $id, 'watching', "$system: is watched");
	wait_equal($node, $id, $photos, $system);
	like(status_of($node, $id, 'sandbox'), $sandbox, "$system: the status says so") if $whole eq 'complete';
	my @lines = said($node, $offset, qr/sandbox of fsync-tree is not complete/);
	is(scalar(@lines), $sandbox =~ /complete/ ? 0 : 1, "$system: one line in the log") or diag(@lines);
	my $other = add_repository($node, new_root($system));
	is($node->safe_psql('postgres', "SELECT tracked FROM fsync_why('$id', 'x')"), 't', "$system: fsync_why()");
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$other')");
}

# Emptying a file is denied twice: by Landlock where the list of calls cannot.
my $landlock = syscall(FsyncLinux::call_number('landlock_create_ruleset'), 0, 0, 1);
my @no_seccomp = (seccomp => 1, prctl => 1);
my %parts = (
	'nothing' => {},
	'mseal' => { mseal => 38 },
	'Landlock' => { landlock_create_ruleset => 38 },
	'Landlock and mseal' => { landlock_create_ruleset => 38, mseal => 38 },
	'seccomp' => {@no_seccomp},
	'seccomp and mseal' => { @no_seccomp, mseal => 38 });

foreach my $lacks (sort keys %parts)
{
	lack($burglar, %{ $parts{$lacks} });
	unlink "$tmp/result.truncate";
	system("$tmp/lacking", 'truncate', $root);
	my $result = -e "$tmp/result.truncate" ? slurp_file("$tmp/result.truncate") : '';

  SKIP:
	{
		skip "without $lacks: Landlock's version is $landlock", 4
		  if $result =~ /^missing .*seccomp/m && ($lacks =~ /Landlock/ || $landlock < 3);
		cmp_ok(scalar(() = $result =~ /^denied /mg), '>=', 10, "without $lacks: truncation is denied");
		is(join("\n", $result =~ /^(DONE .*)/mg), '', "without $lacks: in all ways");
		like($result, qr/^end$/m, "without $lacks: it was through");
		is(slurp_file("$root/decoy"), 'untouched', "without $lacks: the file has its content");
	}
}

# ---- and must not ----

lack($fsync_tree, landlock_create_ruleset => 38);
$node->restart;
wait_for_state($node, $id, 'watching', 'without: is watched');
$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.require_sandbox = on');
$node->reload;
wait_for_state($node, $id, 'degraded', 'a sandbox is required: degraded');
ok( $node->poll_query_until('postgres',
		"SELECT reason ~ 'cannot confine itself' FROM fsync_status('$id')"),
	'and the reason says why');
like(status_of($node, $id, 'hint'), qr/require_sandbox/, 'the hint what to do');
foreach my $call ("fsync_add_repository('" . new_root('refused') . "')", "fsync_why('$id', 'x')")
{
	my ($rc, undef, $err) = $node->psql('postgres', "SELECT $call");
	like($err, qr/cannot confine itself/, "$call is refused");
}
$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.require_sandbox = off');
$node->reload;
wait_for_state($node, $id, 'watching', 'not required any more: is watched again');
wait_equal($node, $id, $photos, 'in the end');
SKIP:
{
	skip "the sandbox is $whole", 1 if $whole ne 'complete';
	$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.require_sandbox = on');
	$node->append_conf('postgresql.conf', "fsync.helper_path = ''");
	$node->restart;
	wait_for_state($node, $id, 'watching', 'required, and there: is watched');
}
$node->stop;
done_testing();
