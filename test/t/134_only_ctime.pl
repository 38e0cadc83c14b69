#
# chmod -R and the like move the ctime of every file, and nothing else: all are
# read again, one at a time, after those that are new or have changed; a barrier
# waits for them, rows keep the old ctime until the hash is known, and
# fsync_progress tells how many are left.  Content that changed under the same
# times and size is never believed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep utime);

my $node = new_node('main', conf => "fsync.reconciliation_interval = 0\n");
my $root = new_root();
my $db = 'postgres';

make_path("$root/many/$_") foreach 1 .. 50;
foreach my $dir (1 .. 50)
{
	write_file("$root/many/$dir/$_.bin", "$dir $_ " x 10_000) foreach 1 .. 60;
}
make_tree("$root/tree", 200);
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');


sub left
{
	my ($since) = @_;

	return $node->safe_psql($db,
		"SELECT count(*) FROM file_records WHERE file_path LIKE 'many/%' AND ctime_ns <= $since");
}

sub last_ctime
{
	return $node->safe_psql($db, 'SELECT max(ctime_ns) FROM file_records');
}

sub chmod_all
{
	my ($mode) = @_;

	system('chmod', '-R', $mode, "$root/many") == 0 or die 'chmod -R failed';
}

# ---- new files come before ----

my $updated = $node->safe_psql($db, "SELECT max(updated_at) FROM file_records WHERE file_path LIKE 'many/%'");
my $since = last_ctime();
chmod_all('go-r');
my $progress = '';
ok( wait_until(sub { ($progress = $node->safe_psql($db,
		"SELECT operation_type, operation_id IS NULL, files_to_reread FROM fsync_progress")) ne '' }),
	'fsync_progress shows them');
like($progress, qr/^realtime\|t\|\d+$/, '... as no operation');
cmp_ok($node->safe_psql($db, "SELECT pending_changes FROM fsync_status('$id')"), '>', 0, 'and fsync_status()');
write_file("$root/new $_.txt", "new $_") foreach 1 .. 100;
ok( wait_until(sub { $node->safe_psql($db,
		"SELECT count(*) FROM file_records WHERE file_path LIKE 'new %' AND content_hash IS NOT NULL") eq '100' }),
	'new files are hashed');
wait_ok($node, $id, 'a barrier waits for them');
sub new_before_many
{
	return $node->safe_psql($db, q(
SELECT max(xmin::text::bigint) FILTER (WHERE file_path LIKE 'new %')
	< max(xmin::text::bigint) FILTER (WHERE file_path LIKE 'many/%') FROM file_records));
}

# On a busy machine all may have been read before there were new ones.  Without
# a lane of their own new files would come last each time.
my $before = new_before_many();
foreach my $try (1 .. 10)
{
	last if $before eq 't';
	chmod_all($try % 2 ? 'go+r' : 'go-r');
	write_file("$root/new $_.txt", "new $_, $try") foreach 1 .. 20;
	wait_ok($node, $id, '... once more');
	$before = new_before_many();
}
is($before, 't', '... before those');
is(left($since), '0', '... all');
is_equal($node, $id, $root, 'after chmod -R');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_progress'), '0', 'fsync_progress shows none any more');
is($node->safe_psql($db, "SELECT max(updated_at) FROM file_records WHERE file_path LIKE 'many/%'"), $updated,
	'nothing is said to have been updated');
reconcile_finds_nothing($node, $id, 'after chmod -R');

# ---- content that changed under the same times and size ----

my %time = map { $_ => (stat("$root/many/$_"))[9] } '1/1.bin', '25/30.bin', '50/60.bin';
my $hidden = sub {
	my ($path) = @_;
	my $size = -s "$root/$path";

	open my $fh, '+<:raw', "$root/$path" or die "open: $!";
	seek $fh, $size / 2, 0;
	print $fh 'XYZ';
	close $fh;
	system('touch', '-d', '@1000000000', "$root/$path") == 0 or die 'touch failed';
};
foreach my $path (sort keys %time)
{
	system('touch', '-d', '@1000000000', "$root/many/$path") == 0 or die 'touch failed';
}
wait_equal($node, $id, $root, 'with old times');
chmod_all('go+r');
$hidden->("many/$_") foreach sort keys %time;
chmod_all('go-r');
wait_equal($node, $id, $root, 'content changed behind restored times, beside chmod -R');
chmod_all('go+r');
rename("$root/many/25/30.bin", "$root/many/renamed.bin") or die "rename: $!";
rename("$root/many/50", "$root/many/moved") or die "rename: $!";
my $ids = ids_of($node, $id);
wait_equal($node, $id, $root, 'files and directories renamed while they wait');
is(ids_of($node, $id)->{'many/renamed.bin'}, $ids->{'many/25/30.bin'} // $ids->{'many/renamed.bin'},
	'... keep their ids');

# ---- found by a scan ----

$node->stop;
chmod_all('go-r');
$hidden->("many/$_") foreach '1/1.bin', '2/2.bin', 'moved/60.bin';
system('touch', '-d', '@1000000000', "$root/many/2/2.bin");
$node->start;
write_file("$root/later.txt", 'later');
wait_equal($node, $id, $root, 'changed behind restored times while nobody watched');
is($node->safe_psql($db, "SELECT count(*) FROM fsync_problems"), '0', 'no problem is left');

# A rename before the file was read must not save it from being read: it is
# found by a scan, and its row has a hash of what it was.
system('touch', '-d', '@1000000000', "$root/many/40/60.bin") == 0 or die 'touch failed';
wait_equal($node, $id, $root, 'with an old time');
$node->stop;
chmod_all('go+r');
$hidden->('many/40/60.bin');
$node->start;
wait_until(sub { $node->safe_psql($db,
		"SELECT count(*) FROM fsync_progress WHERE files_to_reread > 0") ne '0' });
rename("$root/many/40/60.bin", "$root/many/40/late.bin") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed under watch before it was read');
reconcile_finds_nothing($node, $id, 'in the end');

# ---- in a reconciliation, and cancelled ----

$since = last_ctime();
chmod_all('go-r');
is($node->safe_psql($db, "SELECT status, files_updated FROM fsync_reconcile('$id')"), 'completed|0',
	'a reconciliation waits for them, too, and counts none');
is(left($since), '0', '... all');
$since = last_ctime();
chmod_all('go+r');
is($node->safe_psql($db, "SELECT status, files_updated FROM fsync_reconcile('$id', path => 'many/7')"),
	'completed|0', 'and so does one of a part');
is( $node->safe_psql($db,
		"SELECT count(*) FROM file_records WHERE file_path LIKE 'many/7/%' AND ctime_ns <= $since"),
	'0', '... for its own');
$node->safe_psql($db, "SELECT fsync_pause('$id')");
$node->safe_psql($db, "SELECT fsync_resume('$id')");
wait_equal($node, $id, $root, 'paused and resumed meanwhile');
chmod_all('go-r');
kill('KILL', tree_pid($node, $id));
wait_equal($node, $id, $root, 'fsync-tree was killed meanwhile');

# ---- hard links, and no hashes ----

make_path("$root/farm");
system('cp', '-al', "$root/many", "$root/farm/copy") == 0 or die 'cp -al failed';
wait_equal($node, $id, $root, 'cp -al');
chmod_all('go+r');
$hidden->('farm/copy/3/3.bin');
wait_equal($node, $id, $root, 'files with two names');
reconcile_finds_nothing($node, $id, 'files with two names');
$node->stop;
done_testing();
