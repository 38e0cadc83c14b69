#
# How far a scan is: what cannot be known is NULL, a large file shows its bytes
# while it is read.  And reconciliations that nobody waits for are gentle, while
# those that are called are not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $db = 'postgres';
my $node = new_node('main');

sub sql
{
	return $node->safe_psql($db, $_[0]);
}

sub set
{
	my %settings = @_;

	sql("ALTER SYSTEM SET fsync.$_ = '$settings{$_}'") foreach sort keys %settings;
	$node->reload;
}

# ---- a large file ----

# Sparse: it costs the time of hashing only.
my $root = new_root('films');
write_file("$root/$_", $_) foreach 'a' .. 'e';
open my $film, '>', "$root/film.mkv" or die;
truncate($film, 1 << 30) or die;
close $film;
set(reconcile_cpu_limit => 5);
my $id = add_repository($node, $root);
my $progress = "FROM fsync_progress WHERE repository_id = '$id'";
my @seen;
wait_until(sub {
		# the first sizes that are heard of are of files that are read by then
		my $row = sql("SELECT coalesce(file_path, ''), coalesce(file_bytes_done, 0), coalesce(file_bytes, 0), time_left IS NULL, files_total IS NULL, bytes_done $progress");

		push @seen, [ split /\|/, $row ] if $row ne '';
		return $row =~ /^film/ && $seen[-1][1] > 0;
	}, 'a large file shows its bytes while it is read');
is($seen[-1][0], 'film.mkv', 'and its name');
is($seen[-1][2], 1 << 30, 'and its size');
cmp_ok($seen[-1][1], '<=', 1 << 30, 'it has not read more than that');
is(join(' ', map { $_->[3] } grep { $_->[3] ne 't' } @seen), '', 'nobody can know how long a first scan will take');
is(join(' ', map { $_->[4] } grep { $_->[4] ne 't' } @seen), '', 'as nobody knows how many files there are');
my $before = $seen[-1][1];
wait_until(sub { (sql("SELECT file_bytes_done $progress") || 0) > $before }, 'the bytes become more');
set(reconcile_cpu_limit => 0);
ok(wait_ok($node, $id), 'it is done');
is(sql("SELECT count(*) $progress"), '0', 'then there is no progress');

# ---- time left ----

# So many that looking at them takes seconds of a hundredth of a core.
my $many = new_root('many');
write_file("$many/$_", '') foreach 1 .. 20000;
my $many_id = add_repository($node, $many);
ok(wait_ok($node, $many_id), 'many files');

# One reconciliation tells how many files the next may meet.
is(reconcile($node, $many_id), 'completed|0|0|0|0', 'a reconciliation');
set(reconcile_cpu_limit => 1);
my $run = start_sql($node, $db, 'run', "SELECT 1 FROM fsync_reconcile('$many_id')");
my $row;
wait_until(sub {
		$row = sql("SELECT files_total, time_left > '0' FROM fsync_progress WHERE repository_id = '$many_id' AND files_done > 0 AND files_done < files_total");
		return $row ne '';
	}, 'in the next');
is($row, '20000|t', 'the number of files is known, and how long it may take');
set(reconcile_cpu_limit => 0);
is((finish_sql($run))[1], '1', 'the run has ended');

# ---- gentle ----

is(sql("SELECT setting, boot_val, unit IS NULL, context, min_val, max_val FROM pg_settings WHERE name = 'fsync.scheduled_cpu_limit'"),
	'10|10|t|sighup|0|1000', 'the setting');

# Hashing 1 GB takes seconds of CPU time.
my $big = new_root('big');
my $big_id = add_repository($node, $big);
ok(wait_ok($node, $big_id), 'an empty directory');
set(scheduled_cpu_limit => 1, debounce_interval => '10min', debounce_max_delay => '1h');
open my $fh, '>', "$big/image" or die;
truncate($fh, 1 << 30) or die;
close $fh;
sub cpu_of
{
	my ($pid) = @_;
	my @stat = split / /, slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr;

	return ($stat[11] + $stat[12]) / 100;
}
my $tree = status_of($node, $big_id, 'tree_pid');
my $last = latest_operation($node, $big_id);
set(reconciliation_interval => '1s');
$node->poll_query_until($db, "SELECT count(*) > 0 FROM sync_operations WHERE repository_id = '$big_id' AND id > $last AND reason = 'scheduled' AND status = 'running'")
  or die 'no scheduled run';
my ($operation) = split /\n/, sql("SELECT id FROM sync_operations WHERE repository_id = '$big_id' AND status = 'running'");
my ($cpu, $start) = (cpu_of($tree), time);
wait_until(sub { time - $start > 3 }, 'three seconds later');
cmp_ok(cpu_of($tree) - $cpu, '<', 0.3, 'a scheduled reconciliation has used little of them');
is(sql("SELECT status FROM sync_operations WHERE id = $operation"), 'running', 'and goes on');

# Somebody calls for one: it has to wait for this one, which hurries then.
set(reconciliation_interval => 0);
my $called = start_sql($node, $db, 'called', "SELECT status FROM fsync_reconcile('$big_id')");
is((finish_sql($called))[1], 'completed', 'one that is called');
is(sql("SELECT status FROM sync_operations WHERE id = $operation"), 'completed', 'comes after it');
cmp_ok(cpu_of($tree) - $cpu, '>', 0.3, 'with all the CPU time that it needs');
is(sql("SELECT encode(content_hash, 'hex') IS NOT NULL FROM file_records WHERE repository_id = '$big_id'"), 't', 'the file is hashed');

done_testing();
