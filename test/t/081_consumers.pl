#
# Consumers of the change feed: sessions share the work, what is not acknowledged
# comes back, no change overtakes one of the same file or path, whatever dies;
# and what is kept for them, and for how long.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncFeed;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('main');
my $root = new_root('photos');
my $id = add_repository($node, $root, args => 'change_feed => true');
my $db = 'postgres';

wait_equal($node, $id, $root, 'an empty repository');

sub sql
{
	my ($sql) = @_;

	return $node->safe_psql($db, $sql);
}

# What a consumer is handed, as "operation path" lines.
sub next_changes
{
	my ($consumer, $args, $database) = @_;

	return $node->safe_psql($database // $db, "SELECT operation || ' ' || file_path FROM fsync_next_changes('$consumer'"
		  . ($args ? ", $args" : '') . ')');
}

sub ack_all
{
	my ($consumer) = @_;

	return sql("SELECT fsync_ack('$consumer', array_agg(change_id)) FROM fsync_consumer_deliveries WHERE consumer = '$consumer'");
}

# One transaction a file, so that the order is that of the arguments.
sub one_by_one
{
	foreach my $change (@_)
	{
		$change->();
		wait_ok($node, $id, 'one change');
	}
}

sub touch_files
{
	my @names = @_;

	return map {
		my $path = "$root/$_";
		sub { -e $path ? append_file($path, 'x') : new_file($path, 'x') }
	} @names;
}

sub error_of
{
	my ($sql) = @_;
	my (undef, $out, $err) = $node->psql($db, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return $err;
}

# ---- sharing, acknowledging, coming back ----

sql("SELECT fsync_create_consumer('c', '$id')");
one_by_one(touch_files(qw(a b c d e)));
my ($first, $second) = map { $node->background_psql($db) } 1, 2;
my $take = "SELECT operation || ' ' || file_path FROM fsync_next_changes('c', 2);";
is($first->query_safe($take), "added a\nadded b", 'one session gets the first');
is($second->query_safe($take), "added c\nadded d", 'another the next');
is($first->query_safe($take), 'added e', 'in the order of the changes');
is($second->query_safe("SELECT count(*) FROM fsync_next_changes('c', 2);"), '0', 'until there is no more');
is(sql("SELECT pending, in_flight, oldest IS NOT NULL FROM fsync_consumers"), '0|5|t', 'five are handed out');
is(sql("SELECT fsync_ack('c', array_agg(change_id)) FROM file_changes WHERE file_path < 'c'"), '2',
	'two are acknowledged');
is(sql("SELECT fsync_ack('c', array_agg(change_id)) FROM file_changes WHERE file_path < 'd'"), '1',
	'what was acknowledged is not counted again');
sql("UPDATE fsync_consumer_deliveries SET visible_at = now() WHERE file_path = 'e'");
is(next_changes('c'), 'added e', 'what was not acknowledged in time comes back');
is(sql("SELECT attempts FROM fsync_consumer_deliveries WHERE file_path = 'e'"), '2', 'and is counted');
sql("SELECT fsync_next_changes('c')");
one_by_one(touch_files('f'));
is(next_changes('c', "visibility_timeout => '10 ms'"), 'added f', 'with a short timeout');
wait_until(sub { next_changes('c', "visibility_timeout => '10 ms'") eq 'added f' }, 'it comes back by itself');
ack_all('c');
is(sql('SELECT pending, in_flight, oldest FROM fsync_consumers'), '0|0|', 'all is acknowledged');

# ---- order ----

# a is with the first session; then it is written to, renamed, and another file
# gets its name, while b just changes.
one_by_one(touch_files('a'));
is($first->query_safe($take), 'updated a', 'a change of a file is with one session');
one_by_one(
	touch_files(qw(a b)),
	sub { rename("$root/a", "$root/z") },
	touch_files('a', 'c'),
	sub { unlink("$root/a") },
	sub { rename("$root/d", "$root/a") },
	touch_files('z'));
is(next_changes('c', 1), 'updated b', 'another session does not get a later one of the same file');
is(next_changes('c'), 'updated c', 'nor one of a file at its path, nor what follows on that');
is(sql('SELECT pending, in_flight FROM fsync_consumers'), '6|3', 'which wait');
ack_all('c');
is(next_changes('c'), join("\n", 'updated a', 'moved z', 'added a', 'removed a', 'moved a', 'updated z'),
	'until it is acknowledged: then one session gets them all');
ack_all('c');

# ---- a session that keeps its transaction open, or gives it up ----

one_by_one(touch_files(qw(a b c)));
$first->query_safe("BEGIN; $take");
my $waiting = start_sql($node, $db, 'waiting', $take);
wait_for_backend($node, 'waiting', "wait_event_type = 'Lock'");
$first->query_safe('ROLLBACK');
is((finish_sql($waiting))[1], "updated a\nupdated b", 'what was rolled back was not handed out');
$first->query_safe("BEGIN; $take; SELECT fsync_ack('c', array_agg(change_id)) FROM file_changes; ROLLBACK");
is(sql("SELECT count(*) FROM fsync_consumer_deliveries WHERE visible_at > now()"), '2',
	'nor acknowledged');
ack_all('c');
is(next_changes('c'), 'updated c', 'and nothing is forgotten');
ack_all('c');
$_->quit foreach $first, $second;

# ---- many sessions that die, in a storm ----

sql("SELECT fsync_create_consumer('crowd', '$id')");
sql(q(
CREATE TABLE handled (n bigserial, change_id bigint, file_id bigint, file_path text, old_path text);
CREATE PROCEDURE work(worker int) LANGUAGE plpgsql AS $$
DECLARE
	batch file_changes[];
BEGIN
	LOOP
		SELECT array_agg(c) INTO batch FROM fsync_next_changes('crowd', 1 + (random() * 20)::int, '2 seconds') c;
		COMMIT;
		EXIT WHEN batch IS NULL AND NOT pg_try_advisory_lock_shared(7);
		PERFORM pg_advisory_unlock_shared(7);
		PERFORM pg_sleep(random() / 50);
		INSERT INTO handled (change_id, file_id, file_path, old_path)
			SELECT c.change_id, c.file_id, c.file_path, c.old_path FROM unnest(batch) c
			JOIN fsync_consumer_deliveries d ON (d.consumer, d.change_id) = ('crowd', c.change_id)
			WHERE fsync_ack('crowd', ARRAY[c.change_id]) = 1 ORDER BY c.change_id;
		COMMIT;
	END LOOP;
END $$));
my %workers;
my $started = 0;

sub start_worker
{
	my $name = 'worker ' . $started++;

	$workers{$name} = start_sql($node, $db, $name, "SET client_min_messages = error; CALL work($started)");
}

my $storm = start_storm("$root/storm", 81);
start_worker() foreach 1 .. 4;
foreach my $kill (1 .. 15)
{
	storm_goes_on($storm) if $kill % 3 == 0;
	usleep(int(rand(200_000)));
	my ($name) = (keys %workers)[ rand(keys %workers) ];
	# It may not have connected yet.
	wait_until(
		sub { sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '$name'") eq 't' },
		"$name ends");
	finish_sql(delete $workers{$name});
	start_worker();
}
stop_storm($storm);
wait_equal($node, $id, $root, 'after the storm');
wait_until(sub { sql("SELECT pending + in_flight FROM fsync_consumers WHERE name = 'crowd'") eq '0' },
	'the survivors handle all that is left');
my $holder = $node->background_psql($db);
$holder->query_safe('SELECT pg_advisory_lock(7)');
finish_sql($_) foreach values %workers;
$holder->quit;
cmp_ok(sql('SELECT count(*) FROM handled'), '>', 200, 'many changes');
is(sql(q(
SELECT count(*) FROM file_changes c FULL JOIN handled h USING (change_id)
WHERE c.change_id > (SELECT min(change_id) FROM handled) AND (h.n IS NULL OR c.change_id IS NULL))),
	'0', 'none is lost');
is(sql('SELECT count(*) - count(DISTINCT change_id) FROM handled'), '0', 'none is acknowledged twice');
is(sql(q(
SELECT count(*) FROM (SELECT change_id < lag(change_id) OVER (PARTITION BY file_id ORDER BY n) AS bad FROM handled) h
WHERE bad)), '0', 'those of a file are acknowledged in their order');
is(sql(q(
SELECT count(*) FROM (SELECT change_id < lag(change_id) OVER (PARTITION BY path ORDER BY n) AS bad
	FROM handled, unnest(ARRAY[file_path, old_path]) path WHERE path IS NOT NULL) h
WHERE bad)), '0', 'and those of a path, too');
is(sql(q(SELECT count(*) FROM fsync_consumer_deliveries WHERE consumer = 'crowd')), '0', 'and nothing is kept');

# ---- from the start ----

sql(q(SELECT fsync_drop_consumer('crowd'); SELECT fsync_drop_consumer('c')));
is(sql('SELECT count(*) FROM fsync_consumers'), '0', 'consumers are dropped');
system_or_bail('rm', '-rf', "$root/storm");
wait_equal($node, $id, $root, 'without the storm');
my $other_root = new_root('other');
write_file("$other_root/one", 'x');
my $other = add_repository($node, $other_root);
wait_equal($node, $other, $other_root, 'another repository');

sql("SELECT fsync_create_consumer('new', '$id', from_start => true); SELECT fsync_create_consumer('all', from_start => true)");
my $existing = join "\n", map { "added $_" } split /\n/, sql("SELECT file_path FROM file_records WHERE repository_id = '$id' ORDER BY id");
is(sql("SELECT pending FROM fsync_consumers WHERE name = 'new'"), $existing =~ tr/\n// + 1, 'all files are pending');
my $gone = sql("SELECT file_path FROM file_records WHERE repository_id = '$id' ORDER BY id LIMIT 1");
like(next_changes('new', 1), qr/^added \Q$gone\E$/, 'the first of them');
is(next_changes('all', 1), "added $gone", 'as for the other consumer');
unlink("$root/$gone");
one_by_one(touch_files('later'));
sql(q(UPDATE fsync_consumer_deliveries SET visible_at = '-infinity'));
my @rest = split /\n/, next_changes('new');
is($rest[-1], 'added later', 'what happened since comes last');
is($rest[-2], "removed $gone", 'also that one is gone, which was handed out');
is(scalar(grep { $_ eq "added $gone" } @rest), 0, 'and is not handed out again');
is(join("\n", "added $gone", @rest[ 0 .. $#rest - 2 ]), $existing, 'the others are there, once');
is(sql("SELECT count(*) FROM fsync_consumer_deliveries WHERE consumer = 'new' AND change_id < 0"),
	scalar(@rest) - 2, 'with ids of their own');
ack_all('new');
is(next_changes('new'), '', 'that can be acknowledged');
like(next_changes('all'), qr/^added one$/m, 'a consumer of all gets other repositories too');
ack_all('all');

# ---- crash ----

one_by_one(touch_files('a', 'b'));
is(next_changes('new', 1), 'updated a', 'handed out before a crash');
$node->stop('immediate');
$node->start;
is(next_changes('new'), 'updated b', 'it is with its session after the crash, and the next comes next');
sql(q(UPDATE fsync_consumer_deliveries SET visible_at = '-infinity'));
is(next_changes('new'), "updated a\nupdated b", 'or comes back');
ack_all('new');

# ---- dump and restore ----

one_by_one(touch_files('b', 'c'));
is(next_changes('new', 1), 'updated b', 'one in flight, one pending');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '--format=custom', "--file=$dump", $db ], 'pg_dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--dbname=restored', $dump ], 'pg_restore');
is($node->safe_psql('restored', q(
SELECT pending, in_flight FROM fsync_consumers WHERE name = 'new')), '1|1', 'a restored consumer is where it was');
is(next_changes('new', undef, 'restored'), 'updated c', 'and goes on');
$node->safe_psql('restored', "SELECT fsync_ack('new', array_agg(change_id)) FROM file_changes");
my $last = $node->safe_psql('restored', 'SELECT max(change_id) FROM file_changes');
$node->safe_psql('restored', "SELECT fsync_activate_repository('$id')");
new_file("$root/d2", 'x');
wait_equal($node, $id, $root, 'the restored repository', db => 'restored');
is(next_changes('new', undef, 'restored'), 'added d2', 'with what changed since');
cmp_ok($node->safe_psql('restored', 'SELECT max(change_id) FROM file_changes'), '>', $last,
	'with ids that were not given out before');
$node->safe_psql('restored', 'DROP EXTENSION fsync CASCADE');
wait_ok($node, $id, 'back again');
next_changes('new');
ack_all('new');
next_changes('all');
ack_all('all');

# ---- retention ----

my $position = log_position($node);

sub prune
{
	my ($settings) = @_;

	sql("ALTER SYSTEM SET $_") foreach @$settings;
	$node->reload;
}

one_by_one(touch_files('a', 'b', 'c'));
my ($in_c, $in_b, $in_a) = split /\n/, sql('SELECT change_id FROM file_changes ORDER BY change_id DESC LIMIT 3');
is(next_changes('new', 2), "updated a\nupdated b", 'two in flight, one pending');
sql("SELECT fsync_ack('new', ARRAY[$in_a, $in_b, $in_c]::bigint[])");
next_changes('all');
ack_all('all');
sql("UPDATE file_changes SET changed_at = changed_at - interval '8 days'");
one_by_one(touch_files('d'));
my $young = last_change($node);
prune(['fsync.history_max_rows = 999']);
wait_until(sub { sql('SELECT min(change_id) FROM file_changes') eq $in_c }, 'what is old and acknowledged goes');
is(sql('SELECT string_agg(change_id::text, \' \' ORDER BY change_id) FROM file_changes'), "$in_c $young",
	'what a consumer has not seen, or is young, stays');
is(next_changes('new', 1), 'updated c', 'so it is handed out');
prune(['fsync.history_max_rows = 998']);
# a turn of the worker, in which it prunes, comes before the answer
wait_ok($node, $id, 'a turn') foreach 1, 2;
is(sql("SELECT count(*) FROM file_changes WHERE change_id = $in_c"), '1', 'and kept while it is in flight');
ack_all('new');
prune(['fsync.history_max_rows = 997']);
wait_until(sub { sql('SELECT count(*) FROM file_changes') eq '1' }, 'until it is acknowledged');
log_is_quiet($node, $position, 'nothing is said about that');

# more than the limit
sql("SELECT fsync_create_consumer('slow', '$id')");
one_by_one(touch_files('a', 'b', 'c', 'd'));
is(next_changes('slow', 1), 'updated a', 'a slow consumer');
next_changes('all');
ack_all('all');
$position = log_position($node);
prune(['fsync.change_max_rows = 2']);
wait_until(sub { sql('SELECT count(*) FROM file_changes') eq '2' }, 'more than fsync.change_max_rows are not kept');
is(sql('SELECT name, lost_changes FROM fsync_consumers ORDER BY name'), "all|0\nnew|3\nslow|2",
	'a consumer that lost some says so');
is(join("\n", sort grep { /consumer/ } said($node, $position, qr/WARNING/)),
	join("\n", map { "WARNING:  consumer \"$_->[0]\" of the change feed has lost $_->[1] changes" } [ 'new', 3 ], [ 'slow', 2 ]),
	'and the log does');
like(error_of("SELECT fsync_next_changes('slow')"),
	qr/ERROR:  55000: consumer "slow" has lost 2 changes.*create it again with from_start/s,
	'and its application is told');
sql("SELECT fsync_drop_consumer('slow'); SELECT fsync_create_consumer('slow', '$id', from_start => true)");
is(sql("SELECT count(*) FROM fsync_next_changes('slow')"), rows_of($node, $id), 'which begins anew');

# ---- gone with the repository ----

sql("SELECT fsync_remove_repository('$id')");
is(sql('SELECT name FROM fsync_consumers'), 'all', 'the consumers of a removed repository go, that of all stays');
is(sql('SELECT count(*) FROM fsync_consumer_deliveries'), '0', 'nothing is in flight');
is(next_changes('all'), '', 'and nothing is left');

$node->stop;
done_testing();
