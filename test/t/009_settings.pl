#
# Settings and patterns do what they say, when they are given and when they
# are changed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('main');

# ---- include and exclude ----

my $root = new_root('photos');

make_tree($root, 200);
make_path("$root/2024/raw", "$root/2025", "$root/raw", "$root/notes");
foreach my $dir ('2024', '2024/raw', '2025', 'raw', 'notes')
{
	write_file("$root/$dir/$_", "$dir $_") foreach ('a.jpg', 'b.JPG', 'c.png', 'd.txt', 'keep.txt');
}

# the same in words of our own
my $accept = sub {
	my ($path) = @_;

	return 0 unless $path =~ m{(?:^|/)[^/]*\.jpg\z}s || $path =~ m{(?:^|/)keep\.txt\z}s || $path =~ m{^notes/}s;
	return 0 if $path =~ m{(?:^|/)raw/}s || $path =~ m{^2025/}s;
	return 1;
};
my $id = add_repository($node, $root,
	args => "include => ARRAY['*.jpg', 'keep.txt', '/notes/'], exclude => ARRAY['raw/', '/2025']");

wait_equal($node, $id, $root, 'include and exclude', accept => $accept);
write_file("$root/notes/new.txt", 'x');
write_file("$root/2024/new.jpg", 'x');
write_file("$root/2024/new.txt", 'x');
write_file("$root/2024/raw/new.jpg", 'x');
make_path("$root/2024/deep/raw/deep");
write_file("$root/2024/deep/raw/deep/new.jpg", 'x');
write_file("$root/2024/deep/new.jpg", 'x');
wait_equal($node, $id, $root, 'include and exclude under watch', accept => $accept);

rename("$root/2024/new.txt", "$root/2024/newer.jpg") or die "rename: $!";
rename("$root/2024/a.jpg", "$root/2024/a.txt") or die "rename: $!";
rename("$root/2024/deep/raw", "$root/2024/deep/cooked") or die "rename: $!";
rename("$root/2024/deep/new.jpg", "$root/raw/new.jpg") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed across the patterns', accept => $accept);
reconcile_finds_nothing($node, $id, 'include and exclude');

# changed while it runs
$accept = sub { return $_[0] !~ m{\.png\z}s && $_[0] !~ m{(?:^|/)notes/}s };
$node->safe_psql('postgres',
	"UPDATE fsync_repositories SET include = NULL, exclude = ARRAY['*.png', 'notes'] WHERE repository_id = '$id'");
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id')");
wait_equal($node, $id, $root, 'patterns changed', accept => $accept);
write_file("$root/2024/e.png", 'x');
write_file("$root/2025/e.txt", 'x');
wait_equal($node, $id, $root, 'patterns changed, under watch', accept => $accept);
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

# ---- hashes ----

my $quick = new_root('quick');
make_tree($quick, 150);
$id = add_repository($node, $quick, args => 'calculate_hashes => false');
wait_equal($node, $id, $quick, 'hashing off in a repository', hashes => 0);
append_file("$quick/it's.txt", 'x');
write_file("$quick/new.txt", 'x');
wait_equal($node, $id, $quick, 'hashing off, under watch', hashes => 0);
is( $node->safe_psql('postgres', "SELECT sum(bytes_hashed) FROM sync_operations WHERE repository_id = '$id'"),
	'0', 'and no file was read');
$node->safe_psql('postgres',
	"UPDATE fsync_repositories SET calculate_hashes = true WHERE repository_id = '$id'");
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id')");
wait_equal($node, $id, $quick, 'hashing on again');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$id')");

$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.calculate_hashes = off');
$node->reload;
$id = add_repository($node, $quick);
wait_equal($node, $id, $quick, 'hashing off by the setting', hashes => 0);
$node->safe_psql('postgres', 'ALTER SYSTEM RESET fsync.calculate_hashes');
$node->reload;
# A reload takes effect when the worker has seen it; the next scan that it
# begins after that hashes what has no hash.
ok( $node->poll_query_until('postgres', qq(
SELECT count(*) > 0 FROM fsync_reconcile('$id'), file_records WHERE content_hash IS NOT NULL)),
	'hashing on by the setting takes effect by a reload');
wait_equal($node, $id, $quick, 'hashing on by the setting');

# ---- debounce ----

# With ten minutes of quiet asked for, a file that is written without end is
# seen because of the other limit only.
$node->safe_psql('postgres', q(
ALTER SYSTEM SET fsync.debounce_interval = '10min';
));
$node->safe_psql('postgres', q(ALTER SYSTEM SET fsync.debounce_max_delay = '1s'));
$node->restart;
wait_equal($node, $id, $quick, 'after a restart');

my $child = fork() // die "fork: $!";
if ($child == 0)
{
	my $parent = getppid();

	open(my $fh, '>>', "$quick/endless.log") or POSIX::_exit(1);
	$fh->autoflush(1);
	while (getppid() == $parent)
	{
		print $fh "line\n";
		usleep(20_000);
	}
	POSIX::_exit(0);
}
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM file_records WHERE file_path = 'endless.log'"),
	'a file that is written without end has a row, by debounce_max_delay');
my $size = $node->safe_psql('postgres', "SELECT file_size FROM file_records WHERE file_path = 'endless.log'");
ok( $node->poll_query_until('postgres',
		"SELECT file_size > $size FROM file_records WHERE file_path = 'endless.log'"),
	'and the row follows');
kill('KILL', $child);
waitpid($child, 0);
wait_equal($node, $id, $quick, 'in the end');
is($node->safe_psql('postgres', "SELECT count(*) FROM fsync_problems WHERE repository_id = '$id'"),
	'0', 'and is no problem any more');

# fsync_wait() does not sit out the debounce
$node->safe_psql('postgres', q(ALTER SYSTEM SET fsync.debounce_max_delay = '10min'));
$node->restart;
wait_equal($node, $id, $quick, 'after another restart');
write_file("$quick/at once.txt", 'x');
wait_equal($node, $id, $quick, 'fsync_wait() flushes the debounce');

# ---- small batches ----

$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.batch_size = 7');
$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.max_concurrency = 1');
$node->stop;
make_tree("$quick/meanwhile", 300);
$node->start;

# Rows of a transaction have one created_at.
sub largest_batch
{
	my ($dir) = @_;

	return $node->safe_psql('postgres',
		"SELECT max(n) FROM (SELECT count(*) AS n FROM file_records
		 WHERE starts_with(file_path, '$dir/') GROUP BY created_at) AS batches");
}
wait_equal($node, $id, $quick, 'batches of seven rows, in a scan');
cmp_ok(largest_batch('meanwhile'), '<=', 70, 'a scan writes ten times as many at once');
make_tree("$quick/more", 300);
wait_equal($node, $id, $quick, 'batches of seven rows, one thread');
cmp_ok(largest_batch('more'), '<=', 7, 'batches of seven rows are no larger');
rename("$quick/more", "$quick/moved") or die "rename: $!";
wait_equal($node, $id, $quick, 'a directory renamed in batches of seven rows');

# ---- scheduled reconciliations ----

$node->safe_psql('postgres', q(ALTER SYSTEM SET fsync.reconciliation_interval = '1s'));
my $last = latest_operation($node, $id);
$node->reload;
my ($status, $counts) = wait_for_operation($node, $id, 'reconciliation', $last);
is("$status $counts", 'completed 0|0|0|0', 'the worker reconciles by itself when it is time');
$node->safe_psql('postgres', q(ALTER SYSTEM SET fsync.reconciliation_interval = 0));

# ---- the history does not grow without end ----

# Looked at once an hour, and when the first run after a start has ended.
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id')") foreach 1 .. 5;
cmp_ok(
	$node->safe_psql('postgres', "SELECT count(*) FROM fsync_sync_history('$id', 100)"),
	'>', 3, 'sync_operations has more than three rows');
$node->safe_psql('postgres', 'ALTER SYSTEM SET fsync.history_max_rows = 3');
$node->restart;
ok( $node->poll_query_until('postgres',
		"SELECT count(*) <= 3 FROM fsync_sync_history('$id', 100)"),
	'and keeps no more than asked for');

# ---- values ----

foreach my $bad ("fsync.batch_size = 0", "fsync.mass_delete_threshold = 1.5",
	"fsync.debounce_interval = '-1s'", "fsync.no_such_setting = 1")
{
	my ($rc) = $node->psql('postgres', "ALTER SYSTEM SET $bad");
	isnt($rc, 0, "\"$bad\" is refused");
}
is( $node->safe_psql('postgres', q(
SELECT string_agg(name, ' ' ORDER BY name) FROM pg_settings
WHERE name LIKE 'fsync.%' AND short_desc <> '')),
	'fsync.batch_size fsync.calculate_hashes fsync.change_max_rows fsync.change_retention '
	  . 'fsync.debounce_interval fsync.debounce_max_delay '
	  . 'fsync.helper_path fsync.helper_timeout fsync.history_max_rows fsync.history_retention '
	  . 'fsync.io_priority fsync.log_min_duration fsync.mass_delete_threshold fsync.max_concurrency '
	  . 'fsync.max_repositories fsync.poll_interval fsync.reconcile_cpu_limit fsync.reconciliation_interval '
	  . 'fsync.require_sandbox fsync.scheduled_cpu_limit',
	'every setting is there and described');

$node->stop;
done_testing();
