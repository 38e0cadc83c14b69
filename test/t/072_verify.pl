#
# fsync_verify(): content that is not what was hashed, while stat says that
# nothing changed, is found, reported and kept apart from the good hash, until
# the file really changes or is right again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use Digest::SHA qw(sha256_hex);
use File::Path qw(make_path);
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');

make_tree($root, 60);
write_file("$root/$_.txt", "content of $_") foreach 'a' .. 'h';
write_file("$root/large.bin", 'x' x 3_000_000);

my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
my $files = rows_of($node, $id);
my $bytes = status_of($node, $id, 'total_bytes');

sub verify
{
	my (%opt) = @_;
	my $args = $opt{args} ? ", $opt{args}" : '';
	my ($rc, $out, $err) = $node->psql('postgres', qq(
SELECT operation_type, status, files_scanned, bytes_hashed, coalesce(error_message, '-')
FROM fsync_verify('$id'$args)));

	return $out . $err;
}

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub problems
{
	return sql(qq(
SELECT file_path, problem FROM fsync_problems WHERE repository_id = '$id' ORDER BY file_path));
}

# As if a file had other content than when it was hashed, without a trace in
# its stat: the other way round, its row has another hash.
sub rot
{
	my ($path) = @_;

	sql(qq(UPDATE file_records SET content_hash = sha256('good content of $path')
		WHERE repository_id = '$id' AND file_path = '$path'));
}

sub hash_of
{
	my ($path) = @_;

	return sql(qq(SELECT encode(content_hash, 'hex') FROM file_records
		WHERE repository_id = '$id' AND file_path = '$path'));
}

# ---- all is right ----

is(sql('SELECT count(last_verified) FROM fsync_files'), '0', 'nothing is verified to begin with');
is(verify(), "verification|completed|$files|$bytes|-", 'everything is read and is right');
is(sql('SELECT count(*) FROM fsync_files WHERE last_verified > now() - interval \'1 hour\''), $files,
	'each file says when it was verified');
my $before = sql('SELECT max(last_verified) FROM fsync_files');
is(verify(), "verification|completed|$files|$bytes|-", 'and again');
is(sql("SELECT count(*) FROM fsync_files WHERE last_verified > '$before'"), $files, 'each at a later time');
is(sql("SELECT reason FROM sync_operations WHERE operation_type = 'verification' ORDER BY id LIMIT 1"), 'requested',
	'the runs are in the history');

# ---- corrupt ----

my $good = sha256_hex('good content of a.txt');
my $found = sha256_hex('content of a');
my $corrupt = 'a.txt|content differs from its hash';
rot('a.txt');
like(verify(), qr/^verification\|completed\|$files\|\d+\|corrupt files: 1, unreadable files: 0; see fsync_problems$/,
	'corrupt: the run says so');
is(problems(), $corrupt, 'corrupt: a problem');
is(sql('SELECT message FROM fsync_problems'), "SHA-256 of the content is $found, and was $good",
	'corrupt: with both hashes');
is(hash_of('a.txt'), $good, 'corrupt: the good hash stays');
is(sql("SELECT last_verified < now() - interval '0' AND last_verified <= (SELECT min(last_verified) FROM fsync_files) FROM fsync_files WHERE file_path = 'a.txt'"),
	't', 'corrupt: it is not verified');

# nothing that is no change takes it away
reconcile_finds_nothing($node, $id, 'corrupt');
is(problems(), $corrupt, 'corrupt: still, after a reconciliation');
chmod(0600, "$root/a.txt") or die "chmod: $!";
wait_ok($node, $id, 'corrupt: chmod');
is(hash_of('a.txt'), $good, 'corrupt: a chmod does not replace the good hash');
is(problems(), $corrupt, 'corrupt: nor takes the problem away');
{
	open my $fh, '+<', "$root/a.txt" or die "open: $!";
	close $fh;
}
wait_ok($node, $id, 'corrupt: opened for writing and closed');
is(hash_of('a.txt'), $good, 'corrupt: nor does one that opens it for writing');
my $tree = tree_pid($node, $id);
$node->restart;
wait_ok($node, $id, 'corrupt: restart');
is(hash_of('a.txt'), $good, 'corrupt: nor a restart');
is(problems(), $corrupt, 'corrupt: still a problem after a restart');
my $first_seen = sql('SELECT first_seen FROM fsync_problems');
verify();
is(sql("SELECT occurrences, first_seen = '$first_seen' FROM fsync_problems"), '2|t',
	'corrupt: found once more, it is the same problem');

# renamed, it takes its problem along
my $row = sql("SELECT id FROM file_records WHERE file_path = 'a.txt'");
make_path("$root/moved");
rename("$root/a.txt", "$root/moved/a.txt") or die "rename: $!";
wait_ok($node, $id, 'corrupt: renamed');
is(problems(), 'moved/a.txt|content differs from its hash', 'corrupt: renamed, so is its problem');
is(sql("SELECT encode(content_hash, 'hex') FROM file_records WHERE id = $row"), $good,
	'corrupt: renamed, with the good hash');
rename("$root/moved/a.txt", "$root/a.txt") or die "rename: $!";
wait_ok($node, $id, 'corrupt: renamed back');
is(problems(), $corrupt, 'corrupt: renamed back');

# unreadable meanwhile
chmod(0, "$root/a.txt") or die "chmod: $!";
wait_ok($node, $id, 'corrupt: unreadable');
is(problems(), 'a.txt|permission denied', 'corrupt: another problem comes first');
chmod(0644, "$root/a.txt") or die "chmod: $!";
wait_ok($node, $id, 'corrupt: readable again');
is(problems(), $corrupt, 'corrupt: and then it is corrupt again');
is(hash_of('a.txt'), $good, 'corrupt: with the good hash');

# written, it is another file
write_file("$root/a.txt", 'content of a');
wait_equal($node, $id, $root, 'written');
is(problems(), '', 'written: no problem any more');
like(verify(), qr/\|-$/, 'written: it is right');

# the right content again, with the same size and times
rot('b.txt');
rot('c.txt');
verify();
is(problems(), "b.txt|content differs from its hash\nc.txt|content differs from its hash", 'two corrupt files');
sql("UPDATE file_records SET content_hash = sha256('content of b') WHERE file_path = 'b.txt'");
verify();
is(problems(), 'c.txt|content differs from its hash', 'right again: the problem goes with the next verification');
unlink("$root/c.txt") or die "unlink: $!";
wait_equal($node, $id, $root, 'removed');
is(problems(), '', 'removed: so is its problem');
$files--;

# ---- what changed is not corrupt ----

$node->append_conf('postgresql.conf', 'fsync.debounce_interval = 10min');
$node->append_conf('postgresql.conf', 'fsync.debounce_max_delay = 10min');
$node->restart;
wait_ok($node, $id, 'settings');
write_file("$root/d.txt", 'CONTENT OF D');
like(verify(), qr/^verification\|completed\|@{[ $files - 1 ]}\|\d+\|-$/, 'a change that is not in the table yet is no corruption');
wait_equal($node, $id, $root, 'and is seen as ever');
$node->append_conf('postgresql.conf',
	"fsync.debounce_interval = 50ms\nfsync.debounce_max_delay = 5s");
$node->reload;

# ---- the oldest first, within a budget ----

write_file("$root/new.txt", 'never verified');
wait_equal($node, $id, $root, 'a new file');
$files++;
sql("UPDATE fsync_verifications SET last_read = last_read - interval '1 day' WHERE file_id = (SELECT id FROM file_records WHERE file_path = 'e.txt')");
sub verified_since
{
	return sql("SELECT string_agg(file_path, ',' ORDER BY file_path) FROM fsync_files WHERE last_verified > '$before'");
}
$before = sql('SELECT clock_timestamp()');
is(verify(args => "budget => '1'"), 'verification|completed|1|14|-', 'budget: one file at least');
is(verified_since(), 'new.txt', 'budget: the one that never was');
is(sql("SELECT count(*) FROM fsync_verifications WHERE last_read IS DISTINCT FROM last_verified AND problem IS NULL AND file_id <> (SELECT id FROM file_records WHERE file_path = 'e.txt')"), '0',
	'budget: what was right when it was read is verified');
is(verify(args => "budget => '1 bytes'"), 'verification|completed|1|12|-', 'budget: and the next');
is(verified_since(), 'e.txt,new.txt', 'budget: the one of the longest ago');
my $runs = 2;
while (sql("SELECT count(*) FROM fsync_files WHERE last_verified > '$before'") < $files && $runs < 100)
{
	verify(args => "budget => '6 kB'");
	$runs++;
}
cmp_ok($runs, '>', 3, 'budget: it takes several runs');
cmp_ok($runs, '<', 30, 'budget: but comes round');
like(sql("SELECT reason FROM sync_operations ORDER BY id DESC LIMIT 1"), qr/at most 6144 bytes/, 'budget: the history tells it');

# a large file that is corrupt does not use up every budget
rot('large.bin');
verify();
is(problems(), 'large.bin|content differs from its hash', 'budget: a large corrupt file');
$before = sql('SELECT clock_timestamp()');
verify(args => "budget => '1 MB'") foreach 1 .. 4;
is(sql("SELECT string_agg(file_path, ',') FROM fsync_files WHERE last_verified <= '$before' OR last_verified IS NULL"),
	'large.bin', 'budget: has its turn like the others');
write_file("$root/large.bin", 'y' x 3_000_000);
wait_equal($node, $id, $root, 'a large file, written');
is(problems(), '', 'a large file, written: no problem');

# by time, slowly
my $slow = verify(args => "rate => '4 kB', budget => '1 second'");
like($slow, qr/^verification\|completed\|\d+\|\d+\|-$/, 'time: it ends');
my ($slow_files) = (split /\|/, $slow)[2];
cmp_ok($slow_files, '<', $files, 'time: before it is through');

# ---- cancelled, paused, interrupted ----

my $operation = sql("SELECT id FROM fsync_verify('$id', rate => '1 kB', wait => false)");
is(sql("SELECT status FROM sync_operations WHERE id = $operation"), 'running', 'it goes on without being waited for');
is(sql("SELECT operation_type FROM fsync_status('$id') WHERE operation_id = $operation"), 'verification', 'fsync_status() tells it');
write_file("$root/meanwhile.txt", 'not held up');
wait_equal($node, $id, $root, 'changes go on beside it');
reconcile_finds_nothing($node, $id, 'beside a verification');
is(sql("SELECT fsync_cancel($operation)"), 't', 'cancelled');
is(sql("SELECT status FROM sync_operations WHERE id = $operation"), 'cancelled', 'cancelled: the run has ended');
$files++;

$operation = sql("SELECT id FROM fsync_verify('$id', rate => '1 kB', wait => false)");
sql("SELECT fsync_pause('$id')");
ok($node->poll_query_until('postgres', "SELECT status = 'cancelled' FROM sync_operations WHERE id = $operation"), 'paused: it ends');
sql("SELECT fsync_resume('$id')");
wait_equal($node, $id, $root, 'resumed');

$operation = sql("SELECT id FROM fsync_verify('$id', rate => '1 kB', wait => false)");
kill('KILL', tree_pid($node, $id));
ok($node->poll_query_until('postgres', "SELECT status = 'failed' AND error_message <> '' FROM sync_operations WHERE id = $operation"),
	'fsync-tree killed: it fails, and says why');
wait_equal($node, $id, $root, 'fsync-tree killed');
$operation = sql("SELECT id FROM fsync_verify('$id', rate => '1 kB', wait => false)");
$node->restart;
ok($node->poll_query_until('postgres', "SELECT status = 'failed' FROM sync_operations WHERE id = $operation"), 'restarted: it is over');
wait_equal($node, $id, $root, 'restarted');
is((split /\|/, verify())[2], $files, 'and the next one reads everything');

# two at a time come one after the other, and both are answered
my @both = map { start_sql($node, 'postgres', "verify$_", "SELECT status, files_scanned FROM fsync_verify('$id')") } 1, 2;
is(join(' ', map { (finish_sql($_))[1] } @both), "completed|$files completed|$files", 'two verifications');

# ---- many files, in more than one message; files that have gone ----

make_path("$root/many");
write_file("$root/many/$_", $_) foreach 1 .. 2500;
wait_equal($node, $id, $root, 'many files');
is((split /\|/, verify())[2], $files + 2500, 'many files are read');
is((split /\|/, verify())[2], $files + 2500, 'and again');
unlink("$root/many/$_") foreach 1 .. 2400;
wait_equal($node, $id, $root, 'many files removed');
is((split /\|/, verify())[2], $files + 100, 'removed files are not');
is(sql('SELECT count(*) FROM fsync_verifications'), $files + 100, 'and are forgotten');

# ---- missing files, files without hash ----

sql("UPDATE fsync_repositories SET on_missing = 'mark'");
rot('f.txt');
verify();
isnt(problems(), '', 'corrupt before it goes missing');
rename("$root/f.txt", PostgreSQL::Test::Utils::tempdir() . '/f.txt') or die "rename: $!";
wait_equal($node, $id, $root, 'missing');
is(problems(), '', 'missing: no problem');
is((split /\|/, verify())[2], $files + 99, 'missing: not read');
sql("SELECT fsync_configure_repository('$id', calculate_hashes => false)");
wait_ok($node, $id, 'without hashes');

# ---- arguments ----

like(verify(args => "rate => '0'"), qr/rate must be positive/, 'rate 0');
like(verify(args => "rate => 'fast'"), qr/invalid size/, 'rate fast');
like(verify(args => "budget => '-1 hour'"), qr/budget must be positive/, 'budget -1 hour');
like(verify(args => "budget => 'much'"), qr/invalid input syntax for type interval/, 'budget much');
like(verify(args => "wait => NULL"), qr/must not be null/, 'wait NULL');

sql("SELECT fsync_remove_repository('$id')");
is(sql('SELECT count(*) FROM fsync_verifications'), '0', 'a removed repository leaves nothing behind');

$node->stop;
done_testing();
