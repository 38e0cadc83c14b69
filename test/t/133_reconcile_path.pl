#
# fsync_reconcile() with a path: "this changed".  It looks at that and at nothing
# else, finds what no event told, removes what is gone, keeps ids, and does not
# wait for a reconciliation of everything, nor for the debounce.
#
# With a debounce of an hour nothing is looked at by itself; what is written
# through a hard link outside of the directory, no event tells at all.

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
use Time::HiRes qw(usleep);

my $node = new_node('main', conf => "fsync.reconciliation_interval = 0\n");
my $root = new_root();
my $outside = new_root('outside');

sub here
{
	my ($id, $path, $args) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "
SELECT operation_type, status, files_scanned, files_added, files_updated, files_moved,
	files_removed, error_message
FROM fsync_reconcile('$id', path => " . sql_path($path) . ($args // '') . ')');

	return $out . $err;
}

sub rows
{
	my ($id, $condition) = @_;

	return $node->safe_psql('postgres', "
SELECT count(*) FROM file_records WHERE repository_id = '$id' AND missing_since IS NULL AND $condition");
}

foreach my $dir ('sub/dir', 'sub/other', 'elsewhere')
{
	make_path("$root/$dir");
	write_file("$root/$dir/$_.txt", "$dir $_") foreach 'a' .. 'e';
}
make_tree("$root/tree", 300);
my $id = add_repository($node, $root, args => "debounce_interval => '1 hour'");
wait_equal($node, $id, $root, 'first sync');
my $ids = ids_of($node, $id);

# ---- what no event tells, there and nowhere else ----

foreach my $dir ('sub/dir', 'elsewhere')
{
	link("$root/$dir/a.txt", "$outside/" . ($dir =~ tr{/}{_}r)) or die "link: $!";
}
wait_equal($node, $id, $root, 'with links outside');
my $sums = "SELECT string_agg(encode(content_hash, 'hex'), ' ' ORDER BY file_path) FROM file_records
	WHERE repository_id = '$id' AND file_path IN ('sub/dir/a.txt', 'elsewhere/a.txt')";
my $before = $node->safe_psql('postgres', $sums);
append_file("$outside/sub_dir", 'more');
append_file("$outside/elsewhere", 'more');
is(here($id, 'sub/dir'), 'reconciliation|completed|5|0|1|0|0|', 'a directory: its five files, one of them changed');
my @after = split / /, $node->safe_psql('postgres', $sums);
my @before = split / /, $before;
is($after[0], $before[0], 'what changed elsewhere was not looked at');
isnt($after[1], $before[1], 'what changed there was read');
is(here($id, 'elsewhere/a.txt'), 'reconciliation|completed|1|0|1|0|0|', "a file's path");
is_equal($node, $id, $root, 'both');
is(here($id, 'sub/dir'), 'reconciliation|completed|5|0|0|0|0|', 'once more: nothing');
is($node->safe_psql('postgres', "SELECT reason FROM sync_operations ORDER BY id DESC LIMIT 1"),
	'requested for "sub/dir"', 'the run says what it was for');

# ---- new, gone, replaced; the debounce is not sat out ----

make_path("$root/sub/dir/new/deep");
write_file("$root/sub/dir/new/deep/$_", $_) foreach 'x', "it's", "two\nlines", 'percent%s';
unlink("$root/sub/dir/b.txt") or die "unlink: $!";
write_file("$root/sub/other/not yet.txt", 'x');
is(here($id, 'sub/dir'), 'reconciliation|completed|8|4|0|0|1|', 'files that came and went');
is(rows($id, "file_path = 'sub/other/not yet.txt'"), '0', '... and one beside waits for its debounce');
is(here($id, "sub/dir/new/deep/two\nlines"), 'reconciliation|completed|1|0|0|0|0|', 'a hostile name');

remove_tree("$root/sub/dir/new");
is(here($id, 'sub/dir/new'), 'reconciliation|completed|0|0|0|0|4|', 'a directory that is gone');
unlink("$root/sub/dir/c.txt") or die "unlink: $!";
is(here($id, 'sub/dir/c.txt'), 'reconciliation|completed|0|0|0|0|1|', 'a file that is gone');
foreach my $never ('never', 'never/was', 'sub/dir/a.txt/below', 'sub/di', 'sub/dir2', '...', 'a' x 300,
	join('/', ('deep') x 400))
{
	is(here($id, $never), 'reconciliation|completed|0|0|0|0|0|', 'nothing: ' . substr($never, 0, 40));
}

remove_tree("$root/sub/other");
write_file("$root/sub/other", 'a file');
is(here($id, 'sub/other'), 'reconciliation|completed|1|1|0|0|5|', 'a directory became a file');
unlink("$root/sub/other") or die "unlink: $!";
make_path("$root/sub/other/x");
write_file("$root/sub/other/x/y", 'y');
is(here($id, 'sub/other'), 'reconciliation|completed|1|1|0|0|1|', '... and a directory again');
unlink("$root/sub/dir/d.txt") or die "unlink: $!";
symlink($outside, "$root/sub/dir/d.txt") or die "symlink: $!";
write_file("$outside/secret", 'x');
is(here($id, 'sub/dir/d.txt'), 'reconciliation|completed|0|0|0|0|1|', 'a symbolic link is no file');
is(here($id, 'sub/dir/d.txt/secret'), 'reconciliation|completed|0|0|0|0|0|', '... nor followed');
make_path("$root/sub/.git");
write_file("$root/sub/.git/config", 'x');
is(here($id, 'sub/.git'), 'reconciliation|completed|0|0|0|0|0|', 'what is ignored stays so');
is(here($id, 'sub/.git/config'), 'reconciliation|completed|0|0|0|0|0|', '... by its own path, too');
wait_equal($node, $id, $root, 'after all that');

# ---- ids ----

$ids = ids_of($node, $id);
rename("$root/sub/dir/a.txt", "$root/elsewhere/from sub.txt") or die "rename: $!";
is(here($id, 'sub/dir') =~ /completed\|\d+\|0\|0\|[01]\|0/ ? 1 : 0, 1, 'a file that was renamed from there is not removed');
wait_equal($node, $id, $root, 'renamed out of it');
is(ids_of($node, $id)->{'elsewhere/from sub.txt'}, $ids->{'sub/dir/a.txt'}, '... and has kept its id');
rename("$root/elsewhere/b.txt", "$root/sub/dir/to sub.txt") or die "rename: $!";
like(here($id, 'sub/dir'), qr/completed\|\d+\|0\|0\|[01]\|0/, 'a file that was renamed to it is no new one');
wait_equal($node, $id, $root, 'renamed into it');
is(ids_of($node, $id)->{'sub/dir/to sub.txt'}, $ids->{'elsewhere/b.txt'}, '... and has kept its id');
rename("$root/sub/dir", "$root/elsewhere/dir") or die "rename: $!";
like(here($id, 'sub/dir'), qr/completed\|\d+\|0\|0\|\d\|0/, 'the directory itself was renamed');
wait_equal($node, $id, $root, 'renamed with all below it');
is(ids_of($node, $id)->{'elsewhere/dir/to sub.txt'}, $ids->{'elsewhere/b.txt'}, '... and its files have kept their ids');
link("$root/elsewhere/c.txt", "$root/tree/another name") or die "link: $!";
like(here($id, 'tree'), qr/completed\|301\|1\|0\|0\|0\|$/, 'a hard link to a file elsewhere');
wait_equal($node, $id, $root, 'hard links');
is(ids_of($node, $id)->{'elsewhere/c.txt'}, $ids->{'elsewhere/c.txt'}, '... whose id stays');

# ---- beside a reconciliation of everything, and each other ----

make_path("$root/large/$_") foreach 1 .. 40;
foreach my $dir (1 .. 40)
{
	write_file("$root/large/$dir/$_", "$dir $_ " x 50) foreach 1 .. 100;
}
wait_equal($node, $id, $root, 'a larger tree');

# a file of a terabyte keeps one busy as long as it is there
write_file("$root/tree/huge", 'x');
truncate("$root/tree/huge", 2**40) or die "truncate: $!";
my $full = $node->safe_psql('postgres', "SELECT id FROM fsync_reconcile('$id', wait => false)");
wait_until(sub { $node->safe_psql('postgres', "SELECT bytes_done > 0 FROM fsync_progress WHERE operation_id = $full") eq 't' });
write_file("$root/sub/at once.txt", 'x');
is(here($id, 'sub'), 'reconciliation|completed|2|1|0|0|0|', 'a reconciliation of everything does not hold it up');
is($node->safe_psql('postgres', "SELECT status FROM sync_operations WHERE id = $full"),
	'running', '... and goes on');
like(here($id, "sub/none $_"), qr/completed\|0/, "many paths meanwhile, $_") foreach 1 .. 12;
unlink("$root/tree/huge") or die "unlink: $!";
wait_ok($node, $id, 'without that file');
ok( $node->poll_query_until('postgres',
		"SELECT status = 'completed' FROM sync_operations WHERE id = $full"),
	'it ends as it should');

my @sessions;
foreach my $i (1 .. 20)
{
	my $path = $i % 3 == 0 ? 'large' : $i % 3 == 1 ? "large/$i" : "large/$i/new";

	write_file("$root/large/$i/new", 'x');
	push @sessions, start_sql($node, 'postgres', "overlap$i",
		"SELECT status FROM fsync_reconcile('$id', path => '$path')");
}
foreach my $session (@sessions)
{
	my ($rc, $out, $err) = finish_sql($session);

	is("$out$err", 'completed', 'one of twenty that overlap');
}
is(rows($id, "file_path ~ '^large/[0-9]+/new\$'"), '20', 'they have found all');
is($node->safe_psql('postgres', qq(
SELECT count(*) FROM fsync_reconcile('$id', path => 'large', wait => false))), '1', 'without waiting');
wait_equal($node, $id, $root, 'then');
reconcile_finds_nothing($node, $id, 'then');

# ---- marked ----

$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', on_missing => 'mark')");
$ids = ids_of($node, $id);
rename("$root/large/3", "$outside/3") or die "rename: $!";
is(here($id, 'large/3'), 'reconciliation|completed|0|0|0|0|101|', 'missing files are counted');
is($node->safe_psql('postgres', qq(
SELECT count(*) FROM file_records WHERE file_path LIKE 'large/3/%' AND missing_since IS NOT NULL)),
	'101', '... and marked');
rename("$outside/3", "$root/large/3") or die "rename: $!";
is(here($id, 'large/3'), 'reconciliation|completed|101|101|0|0|0|', 'they come back');
is(ids_of($node, $id)->{'large/3/1'}, $ids->{'large/3/1'}, '... with their ids');

# ---- paused, absent, replaced ----

$node->safe_psql('postgres', "SELECT fsync_pause('$id')");
like(here($id, 'sub'), qr/is paused/, 'paused: an error');
$node->safe_psql('postgres', "SELECT fsync_resume('$id')");
like(here($id, 'sub'), qr/completed/, 'resumed: it waits for the scan that comes first');

my $count = rows($id, 'true');
rename($root, "$root.away") or die "rename: $!";
like(here($id, 'large'), qr/^reconciliation\|failed\|0\|0\|0\|0\|0\|.*could not open directory/, 'no root: it fails');
is(rows($id, 'true'), $count, '... and removes nothing');
mkdir($root) or die "mkdir: $!";
wait_for_status($node, $id, 'reason', qr/not the one/, 'another root');
like(here($id, 'large'), qr/^reconciliation\|failed\|0\|0\|0\|0\|0\|.*not the one/, '... the same');
is(rows($id, 'true'), $count, '... and removes nothing');
rmdir($root) or die "rmdir: $!";
rename("$root.away", $root) or die "rename: $!";
wait_for_state($node, $id, 'watching', 'it is back');
like(here($id, 'large'), qr/completed\|4020\|0\|0\|0\|0\|$/, '... and looked at');

# most of it went while nobody watched: that is for a reconciliation of all to judge
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', on_missing => 'delete')");
wait_equal($node, $id, $root, 'rows are deleted again');
$node->stop;
rename("$root/large", "$outside/large") or die "rename: $!";
$node->start;
wait_for_state($node, $id, 'degraded', 'most files are gone');
$count = rows($id, 'true');
like(here($id, 'large'), qr/failed\|0\|0\|0\|0\|0\|.*mass_delete_threshold/, 'a path is no way around the threshold');
is(rows($id, 'true'), $count, '... and removes nothing');
rename("$outside/large", "$root/large") or die "rename: $!";
reconcile($node, $id);
wait_equal($node, $id, $root, 'it is back');

# a process that ends meanwhile
my $asked = start_sql($node, 'postgres', 'asked',
	"SELECT status FROM fsync_reconcile('$id', path => 'large')");
kill('KILL', tree_pid($node, $id));
is((finish_sql($asked))[1], 'completed', 'fsync-tree was killed: the next one is asked');

# ---- wrong paths ----

foreach my $bad ('', '/', '/sub', 'sub/', 'sub//dir', './sub', '.', '..', 'sub/..', '../x', 'sub/./dir')
{
	like(here($id, $bad), qr/ERROR: .*invalid path/, "refused: \"$bad\"");
}
like(here($id, 'x' x 2501), qr/ERROR: .*path is too long/, 'refused: too long');
like(here($id, 'x/' x 1249 . 'xx'), qr/completed\|0/, 'not refused: as long as can be');
like(here($id, 'sub', ', force => true'), qr/ERROR: .*path and force/, 'refused: force');
like(($node->psql('postgres', "SELECT * FROM fsync_reconcile(path => 'sub')"))[2],
	qr/repository_id must not be null/, 'refused: no repository');

$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

# ---- a file system that reports nothing ----

SKIP:
{
	my $device = fuse_device();

	skip '/dev/fuse cannot be opened', 4 unless $device;
	my $mount = new_root('mount');
	my %content = map { ("$_.txt" => "content $_") } 'a' .. 'd';
	my $step = 0;
	my $server = serve_files($device, $mount, \%content,
		read => sub {
			my ($name, $content, $fs) = @_;

			# others change them when a.txt is read for the first time
			if ($name eq 'd.txt' && $step++ == 0)
			{
				$fs->{content}{'b.txt'} = 'other content, longer';
				@{ $fs->{names} } = map { $_ eq 'c.txt' ? 'new.txt' : $_ } @{ $fs->{names} };
				$fs->{content}{'new.txt'} = 'new';
			}
			return (0, $content);
		});

	skip 'no file system can be served here', 4 unless is_served($mount, 4);
	$id = add_repository($node, $mount, args => "poll_interval => '0'");
	wait_ok($node, $id, 'first sync');
	is(rows($id, "file_path = 'b.txt'"), '1', 'polled');
	like(here($id, 'b.txt'), qr/completed\|1\|0\|[01]\|0\|0/, 'a file that others changed');
	is(rows($id, "file_path = 'b.txt' AND file_size = 21"), '1', '... is as it is now');
	like(here($id, 'c.txt'), qr/completed\|0\|0\|0\|0\|[01]/, 'a file that others removed');
	is(rows($id, "file_path = 'c.txt'"), '0', '... has no row');
	$node->stop;
	end_server($server);
	unmount($mount);
}
done_testing();
