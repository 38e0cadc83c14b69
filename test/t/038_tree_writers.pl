#
# People who can write to a watched tree, or beside it: they put a link to the
# data directory in the root's place, at the right moment or later; they write
# files of rules that cost much; they choose names that do something to a
# terminal or a log.  All that comes of it is what the table says of that tree.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use FsyncLinux;
use FsyncTest;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

my $node = new_node('main');
my $data = $node->data_dir;
my $tmp = PostgreSQL::Test::Utils::tempdir();

# Rows that are not of one of the test's own files, which end in .txt.
sub foreign_rows
{
	return $node->safe_psql('postgres',
		q(SELECT count(*), min(file_path) FROM file_records WHERE file_path !~ '\.txt$'));
}

# ---- the root becomes a link while it is registered ----

my $a = new_root('a');
mkdir "$a/dir" or die "mkdir: $!";
write_file("$a/dir/mine.txt", 'mine');
symlink("$data/global", "$a/link") or die "symlink: $!";

my $parent = $$;
my $swapper = fork() // die "fork: $!";
if ($swapper == 0)
{
	while (getppid() == $parent)
	{
		exchange("$a/dir", "$a/link");
		usleep(500);
	}
	POSIX::_exit(0);
}
my ($registered, $refused, $begin) = (0, 0, time);
while (($registered < 10 || $refused < 3) && time - $begin < 120)
{
	my ($rc, $id, $err) = $node->psql('postgres', "SELECT fsync_add_repository('$a/dir')");

	if ($rc != 0)
	{
		$refused++;
		next;
	}
	$registered++;
	$node->poll_query_until('postgres', "SELECT state NOT IN ('starting', 'syncing') FROM fsync_status('$id')")
	  or die 'it is starting for ever';
	$node->psql('postgres', "SELECT fsync_reconcile('$id', force => true)");
	my $rows = foreign_rows();
	if ($rows ne '0|')
	{
		is($rows, '0|', 'a race: no row of the data directory');
		last;
	}
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");
}
kill 'KILL', $swapper;
waitpid $swapper, 0;
is(foreign_rows(), '0|', "a race: no row of the data directory in $registered registrations, $refused were refused");

# ---- and later ----

# Refused, and said so, whatever is asked.
sub is_refused
{
	my ($id, $reason, $name) = @_;

	like(reconcile($node, $id, args => 'force => true'), qr/^failed/, "$name: not by force either");
	wait_for_state($node, $id, 'unavailable', "$name: unavailable");
	wait_for_status($node, $id, 'reason', $reason, "$name: the reason");
	like(reconcile($node, $id, args => 'force => true'), qr/^failed/, "$name: nor again");
	isnt(status_of($node, $id, 'hint'), '', "$name: there is a hint");
	is($node->safe_psql('postgres', "SELECT fsync_wait('$id', timeout => '1 s')"), 'f', "$name: fsync_wait()");
	is(foreign_rows(), '0|', "$name: no row of it");
	is(rows_of($node, $id), 3, "$name: the rows stay");
}

my $top = new_root('top');
my $root = "$top/above/root";
make_path($root);
write_file("$root/$_.txt", $_) foreach 1 .. 3;
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'a root');

foreach my $lacks ('', 'without openat2: ')
{
	my $link = qr/symbolic link, which is not followed|symbolic link in this path/;

	if ($lacks)
	{
		my $fsync_tree = `pg_config --pkglibdir` =~ s/\s+$//r . '/fsync-tree';

		copy($ENV{SANDBOX_LACKING}, "$tmp/lacking") or die "copy: $!";
		chmod 0755, "$tmp/lacking" or die "chmod: $!";
		write_file("$tmp/lacking.conf", "$fsync_tree\n" . FsyncLinux::call_number('openat2') . " 38\n");
		$node->append_conf('postgresql.conf', "fsync.helper_path = '$tmp/lacking'");
		$node->restart;
		wait_equal($node, $id, $root, "${lacks}a root");
	}
	rename($root, "$root.old") or die "rename: $!";
	symlink("$data/global", $root) or die "symlink: $!";
	is_refused($id, $link, "${lacks}a link to the data directory");
	unlink $root or die "unlink: $!";
	symlink("$root.old", $root) or die "symlink: $!";
	is_refused($id, $link, "${lacks}a link to the very same");
	unlink $root or die "unlink: $!";
	rename("$root.old", $root) or die "rename: $!";
	wait_for_state($node, $id, 'watching', "${lacks}it is back");

	rename("$top/above", "$top/moved") or die "rename: $!";
	symlink("$top/moved", "$top/above") or die "symlink: $!";
	is_refused($id, $link, "${lacks}a link above it");
	unlink "$top/above" or die "unlink: $!";
	rename("$top/moved", "$top/above") or die "rename: $!";
	wait_for_state($node, $id, 'watching', "${lacks}it is back again");
	wait_equal($node, $id, $root, "${lacks}afterwards");
}
$node->append_conf('postgresql.conf', "fsync.helper_path = ''");
$node->restart;
wait_equal($node, $id, $root, 'with openat2 again');

# A tablespace that was made in the tree, or around it, since.
foreach my $case ([ "$root/space", 'in it' ], [ "$top/above/around", 'around it' ])
{
	my ($space, $where) = @$case;

	make_path($space);
	$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
	if ($where eq 'around it')
	{
		# the root's own directory, in the tablespace
		rename($root, "$space/root") or die "rename: $!";
		rename($space, "$top/space") or die "rename: $!";
		symlink("$top/space", $space) or die "symlink: $!";
		remove_tree($root);
		rename("$top/above", "$top/old") or die "rename: $!";
		rename("$top/space", "$top/above") or die "rename: $!";
		make_path("$top/space");
		unlink("$top/old/around") or die "unlink: $!";
		my ($link) = glob("$data/pg_tblspc/*");
		unlink $link or die "unlink: $!";
		symlink("$top/above", $link) or die "symlink: $!";
	}
	$node->restart;
	is_refused($id, qr/PostgreSQL uses itself/, "a tablespace $where");
	if ($where eq 'around it')
	{
		rename("$top/above/root", "$top/root") or die "rename: $!";
	}
	$node->safe_psql('postgres', 'DROP TABLESPACE space');
	if ($where eq 'around it')
	{
		remove_tree("$top/above");
		mkdir "$top/above" or die "mkdir: $!";
		rename("$top/root", $root) or die "rename: $!";
	}
	else { remove_tree($space) }
	$node->restart;
	wait_for_state($node, $id, 'watching', "a tablespace $where: it is gone");
}

# ---- files of rules ----

sub anonymous_kb
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s*(\d+)/m;

	return $kb;
}

my %bombs = (
	'one line again and again' => "a\n" x 524_288,
	'many lines' => join('', map { "$_\n" } 1 .. 150_000),
	'classes' => ('[a]' x 340 . "\n") x 5 . join('', map { '[a]' x 300 . "$_\n" } 1 .. 1000),
	'stars' => join('', map { '*a' x 100 . "$_\n" } 1 .. 4000),
	'depths' => join('', map { '**/a/' x 100 . "$_\n" } 1 .. 1500),
	'a file without end' => undef);

foreach my $name (sort keys %bombs)
{
	my $tree = new_root($name);
	my $deep = "$tree/deep";
	my $text = $bombs{$name};

	mkdir "$tree/other" or die "mkdir: $!";
	write_file("$tree/other/$_.txt", $_) foreach 1 .. 200;
	mkdir $deep or die "mkdir: $!";
	write_file("$tree/bomb", $text // 'a');
	truncate("$tree/bomb", 2**40) or die "truncate: $!" if !defined $text;
	foreach my $level (1 .. 12)
	{
		link("$tree/bomb", "$deep/.fsyncignore") or die "link: $!";
		write_file("$deep/$_.txt", $_) foreach 1 .. 20;
		mkdir "$deep/aaaaaaaaaaaaaaaaaaaaaaaaa$_" or die "mkdir: $!" foreach 1 .. 3;
		$deep .= '/aaaaaaaaaaaaaaaaaaaaaaaaa1';
	}
	unlink "$tree/bomb" or die "unlink: $!";
	my $start = time;
	my $bomb_id = add_repository($node, $tree, args => 'use_ignore_files => true');
	ok( $node->poll_query_until('postgres', qq(
SELECT count(*) = 200 FROM file_records WHERE repository_id = '$bomb_id' AND file_path LIKE 'other/%')),
		"$name: the rest is there");
	wait_ok($node, $bomb_id, $name);
	cmp_ok(time - $start, '<', 60, "$name: soon");
	cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM fsync_problems WHERE repository_id = '$bomb_id'"),
		'>', 0, "$name: there is a problem");
	my $kb = anonymous_kb(tree_pid($node, $bomb_id));
	cmp_ok($kb, '<', 65536, "$name: memory");
	$start = time;
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT tracked FROM fsync_why('$bomb_id', '"
		  . substr($deep, length($tree) + 1) . "/x.txt')");
	is($rc, 0, "$name: fsync_why()") or diag($err);
	cmp_ok(time - $start, '<', 10, "$name: answers soon");
	note("$name: $kb kB");
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$bomb_id')");
	remove_tree($tree);
}

# ---- names ----

# A line of its own, a terminal's escape, a control character of Latin-1, and
# one that turns the direction of writing.
my $evil = "x\n2026-01-01 00:00:00 UTC [1] PANIC:  forged \e[31m \xC2\x9B \xE2\x80\xAE";
my $offset = -s $node->logfile;
my $names = new_root('names');
my $named = "$names/$evil";
mkdir $named or die "mkdir: $!";
write_file("$named/$evil.txt", 'x');
mkdir "$named/$evil closed" or die "mkdir: $!";
chmod 0, "$named/$evil closed" or die "chmod: $!";
my $evil_id = add_repository($node, $named);
wait_ok($node, $evil_id, 'names');
is($node->safe_psql('postgres', "SELECT encode(convert_to(file_path, 'UTF8'), 'hex') FROM file_records WHERE repository_id = '$evil_id'"),
	unpack('H*', "$evil.txt"), 'names: the row has the very name');
is($node->safe_psql('postgres', "SELECT encode(path, 'hex') FROM fsync_problems WHERE repository_id = '$evil_id'"),
	unpack('H*', "$evil closed"), 'names: so has the problem');
is($node->safe_psql('postgres',
		qq(SELECT count(*) FROM fsync_problems WHERE repository_id = '$evil_id'
AND (file_path COLLATE "C" ~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u202e]' OR message ~ E'[\\u0001-\\u001f]'))),
	'0', 'names: but what is shown has nothing of it');
$node->psql('postgres', 'SELECT fsync_add_repository(' . sql_path("$named/$evil.txt") . ')');
my (undef, undef, $message) = $node->psql('postgres', 'SELECT fsync_add_repository(' . sql_path("$named/nowhere") . ')');
unlike($message, qr/[\e\xC2]|^2026-01-01/m, 'names: nor has a message');
like($message, qr/x\\0122026.*\\033\[31m \\302\\233 \\342\\200\\256/, 'names: which shows the name escaped');
chmod 0700, "$named/$evil closed" or die "chmod: $!";
rename($named, "$names/away") or die "rename: $!";
wait_for_state($node, $evil_id, 'unavailable', 'names: the root is away');
unlike(status_of($node, $evil_id, 'reason'), qr/[\n\e\xC2]/, 'names: the reason');
like(status_of($node, $evil_id, 'reason'), qr/\\033/, 'names: and it is escaped');
rename("$names/away", $named) or die "rename: $!";
wait_for_state($node, $evil_id, 'watching', 'names: and back');
my $log = slurp_file($node->logfile, $offset);
unlike($log, qr/^2026-01-01/m, 'names: no line of the log is forged');
unlike($log, qr/\e|\xC2\x9B|\xE2\x80\xAE/, 'names: and none has control characters');

$node->stop;
done_testing();
