#
# fsync_wait() returns true only when everything is in the table, also where
# fsync-tree has no thread or descriptor left, and where directories have no
# watch.  While something lacks, the state says what and what to do; when it is
# back, all heals without help.  fsync_problems names directories without a watch.
#
# In a namespace of its own, which has limits of its own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use File::Path qw(make_path remove_tree);
use FsyncFuse;
use PostgreSQL::Test::Utils;
use Test::More;

sub limit
{
	my ($what, $value) = @_;

	open my $fh, '>', "/proc/sys/user/max_inotify_$what"
	  or return 0;
	print $fh $value;
	return close $fh;
}

plan skip_all => 'the limits of a namespace cannot be set'
  unless limit('watches', 10_000) && limit('instances', 128);

# Sets a limit of a process, which keeps its hard one; "" lifts it to that.
sub rlimit
{
	my ($pid, $what, $value) = @_;

	if ($value eq '')
	{
		my ($soft, $hard) = `prlimit --pid=$pid --$what --noheadings --raw --output=SOFT,HARD` =~ /(\S+) (\S+)/;

		$value = $hard;
	}

	system('prlimit', "--pid=$pid", "--$what=$value:") == 0
	  or die "prlimit $what=$value failed";
}

# The least number of descriptors that would be open if it had no more.
sub descriptors
{
	my ($pid) = @_;

	return 1 + (sort { $b <=> $a } map { m{/(\d+)$} } glob("/proc/$pid/fdinfo/*"))[0];
}

# What fsync_wait() says after a short while, "t" or "f".
sub waited
{
	my ($node, $id, $timeout) = @_;
	my ($rc, $out) = $node->psql('postgres', "SELECT fsync_wait('$id', timeout => '$timeout')");

	return $out;
}

# The state says what lacks, and what to do.
sub says
{
	my ($node, $id, $reason, $hint, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_status($node, $id, "state || ': ' || reason", qr/^degraded: $reason/, "$name: the state says why");
	like(status_of($node, $id, 'hint'), qr/$hint/, "$name: and what to do");
}

my $node = new_node('main');
my $n = 0;

# A repository of its own, whose fsync-tree has hashed nothing yet.
sub fresh
{
	my ($name, %opt) = @_;
	my $root = new_root($name);

	mkdir("$root/d") or die "mkdir: $!";
	my $id = add_repository($node, $root, %opt);
	wait_ok($node, $id, "$name: first sync");
	return ($id, $root, tree_pid($node, $id));
}

# ---- no thread ----

my ($id, $root, $pid) = fresh('threads');
rlimit($pid, nproc => 1);
write_file("$root/d/$_", "file $_") foreach 1 .. 200;
is(waited($node, $id, '3 s'), 'f', 'no thread: fsync_wait() does not return true');
says($node, $id, 'no thread is to be had', 'processes', 'no thread');
is(scalar(keys %{ problems_of($node, $id) }), 0, 'no thread: no file is to blame');
rlimit($pid, nproc => '');
wait_equal($node, $id, $root, 'a thread: files are hashed');
wait_for_state($node, $id, 'watching', 'a thread: the state is as it was');
is(tree_pid($node, $id), $pid, 'a thread: nothing had to be begun anew');

# A directory takes the thread of a scan, a file that is large one of its own.
($id, $root, $pid) = fresh('scans');
rlimit($pid, nproc => 1);
make_path("$root/new/a/b");
write_file("$root/new/a/b/$_", "file $_") foreach 1 .. 20;
is(waited($node, $id, '2 s'), 'f', 'no thread for a directory: fsync_wait() does not return true');
says($node, $id, 'no thread is to be had', 'processes', 'no thread for a directory');
rename("$root/new", "$root/d/moved") or die "rename: $!";
rlimit($pid, nproc => '');
wait_equal($node, $id, $root, 'a thread for a directory');
write_file("$root/small", 'x');
wait_equal($node, $id, $root, 'a thread that hashes small files');
rlimit($pid, nproc => 1);
write_file("$root/large", '');
truncate("$root/large", 70 * 1024 * 1024) or die "truncate: $!";
is(waited($node, $id, '2 s'), 'f', 'no thread for a large file: fsync_wait() does not return true');
rlimit($pid, nproc => '');
wait_equal($node, $id, $root, 'a thread for a large file');

# A reconciliation waits, too.
($id, $root, $pid) = fresh('runs');
rlimit($pid, nproc => 1);
my $reconciling = start_sql($node, 'postgres', 'reconciling', "SELECT status FROM fsync_reconcile('$id')");
says($node, $id, 'no thread is to be had', 'processes', 'no thread for a reconciliation');
rlimit($pid, nproc => '');
is((finish_sql($reconciling))[1], 'completed', 'a thread for a reconciliation: it completes');

# ---- no descriptor ----

# From none at all to nearly enough: each step of the way may be the one that
# lacks it.
my $refused = 0;
foreach my $left (0 .. 6)
{
	foreach my $use_ignore_files ('false', 'true')
	{
		my $name = "$left descriptors left" . ($use_ignore_files eq 'true' ? ', ignore files' : '');

		($id, $root, $pid) = fresh("files$left$use_ignore_files", args => "use_ignore_files => $use_ignore_files");
		write_file("$root/d/.fsyncignore", "*.no\n");
		make_path("$root/e/deep");
		write_file("$root/d/$_", "$left $_") foreach 'gone', 'kept';
		wait_ok($node, $id, "$name: with enough of them");
		my $accept = sub { $use_ignore_files eq 'false' || $_[0] !~ /\.no$/ };
		my $kept = ids_of($node, $id)->{'d/kept'};

		rlimit($pid, nofile => descriptors($pid) + $left);
		unlink("$root/d/gone") or die "unlink: $!";
		rename("$root/d/kept", "$root/e/kept") or die "rename: $!";
		write_file("$root/d/$_", "file $_") foreach 1 .. 20, 'a.no';
		make_path("$root/new/a/b");
		write_file("$root/new/a/b/$_", "file $_") foreach 1 .. 20;
		if (waited($node, $id, '1500 ms') eq 't')
		{
			is_equal($node, $id, $root, "$name: true is true", accept => $accept);
		}
		else
		{
			$refused++;
			says($node, $id, 'no file descriptor is to be had', 'files', $name) if $left < 3;
		}
		rlimit($pid, nofile => '') if -d "/proc/$pid";
		wait_ok($node, $id, "$name: healed");
		is_equal($node, $id, $root, "$name: healed", accept => $accept);
		is(ids_of($node, $id)->{'e/kept'}, $kept, "$name: a file that was renamed keeps its id");
		is(scalar(keys %{ problems_of($node, $id) }), 0, "$name: no file is to blame");
		wait_for_state($node, $id, 'watching', "$name: the state is as it was");
		$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");
	}
}
cmp_ok($refused, '>=', 2, "no descriptor: fsync_wait() did not return true ($refused times)");

# ---- too few watches ----

limit('watches', 25) or die "could not set the limit: $!";
($id, $root, $pid) = fresh('watches');
foreach my $d (1 .. 200)
{
	make_path("$root/d$d/below");
	write_file("$root/d$d/$_", "$d $_") foreach 'old', 'below/old';
}
wait_equal($node, $id, $root, 'too few watches: directories that come');
wait_for_state($node, $id, 'degraded', 'too few watches: degraded');
like(status_of($node, $id, 'hint'), qr/fsync_wait\(\) looks at them/, 'too few watches: the hint says what is done');

write_file("$root/d$_/new", $_) foreach 1 .. 200;
append_file("$root/d$_/below/old", 'more') foreach 1 .. 200;
wait_equal($node, $id, $root, 'too few watches: files in all of them');
unlink("$root/d$_/new") or die "unlink: $!" foreach 1 .. 200;
my @unwatched = split /\n/, $node->safe_psql('postgres',
	"SELECT file_path FROM fsync_problems WHERE repository_id = '$id' AND file_path ~ '^d1[0-9]+\$' ORDER BY 1 LIMIT 4");
my $before = ids_of($node, $id);
rename("$root/$unwatched[0]/old", "$root/$unwatched[1]/moved") or die "rename: $!";
rename("$root/$unwatched[2]/below", "$root/$unwatched[3]/moved") or die "rename: $!";
make_path("$root/d196/below/x/y/z");
write_file("$root/d196/below/x/y/z/deep", 'deep');
wait_equal($node, $id, $root, 'too few watches: removals, renames, directories below');
is(join(' ', @{ ids_of($node, $id) }{ "$unwatched[1]/moved", "$unwatched[3]/moved/old" }),
	join(' ', @{$before}{ "$unwatched[0]/old", "$unwatched[2]/below/old" }),
	'too few watches: files that were renamed where nobody watches keep their ids');

# Many barriers at once, each true for what its session did.
my @sessions = map
{
	write_file("$root/d$_/session", $_);
	start_sql($node, 'postgres', "session $_",
		"SELECT fsync_wait('$id') \\gset\nSELECT count(*) FROM file_records WHERE file_path = 'd$_/session'");
} 101 .. 120;
is(join('', map { (finish_sql($_))[1] } @sessions), '1' x 20, 'too few watches: twenty sessions at once');

# They are named, and not more than a hundred.
my $problems = sub {
	return $node->safe_psql('postgres',
		"SELECT count(*) FILTER (WHERE file_path <> ''), count(*) FILTER (WHERE file_path = '' AND message ~ 'first 100'),"
		  . " count(*) FILTER (WHERE EXISTS (SELECT FROM fsync_problems q WHERE q.repository_id = p.repository_id AND q.file_path <> '' AND p.file_path LIKE q.file_path || '/%')), min(problem), max(problem) FROM fsync_problems p WHERE repository_id = '$id'");
};
my $said = '100|1|0|directory not watched|directory not watched';
ok(wait_until(sub { $problems->() eq $said }), 'too few watches: a hundred are named, and how many there are')
  or diag($problems->());
like(reconcile($node, $id), qr/^completed/, 'too few watches: a reconciliation');
is($problems->(), $said, 'too few watches: they are named after it');
$node->restart;
wait_equal($node, $id, $root, 'too few watches: after a restart');
ok(wait_until(sub { $problems->() eq $said }), 'too few watches: they are named after a restart');
write_file("$root/d$_/after", 'restart') foreach 1 .. 200;
unlike(waited($node, $id, '60 s'), qr/f/, 'too few watches: after a restart, fsync_wait()');
is_equal($node, $id, $root, 'too few watches: after a restart, files in all of them');

# With a watch for each, while they are written to and waited for.
limit('watches', 10_000) or die "could not set the limit: $!";
my $rounds = 0;
my $differ = '';
wait_until(
	sub {
		write_file("$root/d$_/round", 'x' x ++$rounds) foreach 1 .. 200;
		return 1 if waited($node, $id, '60 s') ne 't';
		$differ ||= differences(disk_files($root), table_files($node, $id));
		return $differ ne '' || status_of($node, $id, 'state') eq 'watching';
	});
is($differ, '', "enough watches: true at each of the barriers meanwhile");
wait_for_state($node, $id, 'watching', 'enough watches: heals without help');
ok(wait_until(sub { $problems->() =~ /^0\|0\|0/ }), 'enough watches: no directory is named any more');
append_file("$root/d$_/new2", 'more') foreach 3 .. 200;
wait_equal($node, $id, $root, 'enough watches');

# ---- no instance ----

limit('instances', 0) or die "could not set the limit: $!";
$node->restart;
wait_for_state($node, $id, 'degraded', 'no instance: degraded');
wait_ok($node, $id, 'no instance');
append_file("$root/d$_/new2", 'and more') foreach 3 .. 200;
mkdir("$root/no instance") or die "mkdir: $!";
write_file("$root/no instance/x", 'x');
remove_tree("$root/d2");
wait_equal($node, $id, $root, 'no instance: fsync_wait() looks itself');
ok(wait_until(sub { (problems_of($node, $id)->{''} // '') eq 'directory not watched' }),
	'no instance: the directory itself is named');
limit('instances', 128) or die "could not set the limit: $!";
wait_for_state($node, $id, 'watching', 'an instance: heals without help');
wait_equal($node, $id, $root, 'an instance');
is(problems_of($node, $id)->{''}, undef, 'an instance: nothing is named any more');

# ---- a file system that may not answer, below a directory without a watch ----

SKIP:
{
	my $device = fuse_device();

	skip('/dev/fuse cannot be opened', 3) unless $device;
	$node->safe_psql('postgres', "SELECT fsync_remove_repository(repository_id) FROM fsync_repositories");
	limit('watches', 25) or die "could not set the limit: $!";
	my $mixed = new_root('mixed');
	make_path("$mixed/a$_/b") foreach 1 .. 60;
	make_path("$mixed/z/1/2/mount");
	my $server = serve_files($device, "$mixed/z/1/2/mount", { 'a.txt' => 'a', 'b.txt' => 'b' });
	skip('no file system can be served here', 3) unless is_served("$mixed/z/1/2/mount", 2);
	$id = add_repository($node, $mixed);
	wait_ok($node, $id, 'a FUSE mount below');
	like(status_of($node, $id, 'hint'), qr/FUSE/, 'a FUSE mount below: the hint says that it is left out');
	kill('USR1', $server);
	write_file("$mixed/z/1/beside", 'x');
	wait_ok($node, $id, 'a FUSE mount that does not answer');
	ok(ids_of($node, $id)->{'z/1/beside'}, 'a FUSE mount that does not answer: all but that is looked at');
	ok(ids_of($node, $id)->{'z/1/2/mount/a.txt'}, 'a FUSE mount that does not answer: its rows stay');
	end_server($server);
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");
}

$node->stop;
done_testing();
