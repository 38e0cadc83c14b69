#
# The change feed tells what happened, whoever found it: in real time, in a
# reconciliation, after a start.  Replayed, it is the table, ids included.  It is
# written with the rows or not at all, and off where nobody asked for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(remove_tree);
use FsyncFaults;
use FsyncFeed;
use FsyncLinux;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $storm = $ENV{TORTURE_STORM} or die 'TORTURE_STORM does not name the program storm';
my ($out, $err);
my $node = new_node('main', conf => 'fsync.mass_delete_threshold = 1');
my $root = new_root('photos');

mkdir "$root/$_" foreach qw(a b);
write_file("$root/a/$_", "content of $_") foreach 1 .. 5;
my $id = add_repository($node, $root, args => 'change_feed => true');
wait_equal($node, $id, $root, 'first sync');

# ---- what happened ----

is(join("\n", sort split /\n/, changes_since($node, 0)), join("\n", map { "added a/$_" } 1 .. 5), 'a first sync adds');
is($node->safe_psql('postgres', q(
SELECT count(*) FROM file_changes c JOIN file_records f ON f.id = c.file_id
	JOIN sync_operations o ON o.id = c.operation_id
WHERE o.operation_type = 'startup' AND c.repository_id = f.repository_id
	AND (c.file_path, c.file_size, c.mod_time, c.content_hash) = (f.file_path, f.file_size, f.mod_time, f.content_hash)
	AND c.content_hash = sha256(('content of ' || substr(f.file_path, 3))::bytea)
	AND (c.old_hash, c.old_size, c.old_mod_time) IS NULL
	AND c.changed_at BETWEEN f.created_at AND f.created_at + interval '1 minute')),
	'5', 'with all that the row has, and the scan that found it');

# Does something, waits, and says what the feed has of it; sorted, where that may
# take more than one transaction.
sub changes_of
{
	my ($do, %opt) = @_;
	my $before = last_change($node);

	$do->();
	if ($opt{reconcile}) { reconcile($node, $id) }
	else { wait_ok($node, $id, 'changes') }
	return join("\n", sort split /\n/, changes_since($node, $before)) if $opt{sorted} || $opt{reconcile};
	return changes_since($node, $before);
}

is(changes_of(sub { append_file("$root/a/1", '!') }), 'updated a/1', 'a file is written to');
is($node->safe_psql('postgres', q(
SELECT old_hash = sha256('content of 1') AND content_hash = sha256('content of 1!')
	AND operation_id IS NULL FROM file_changes ORDER BY change_id DESC LIMIT 1)),
	't', 'with both hashes, and no scan');
is(changes_of(sub { rename("$root/a/2", "$root/b/zwei") }), 'moved b/zwei from a/2', 'a file is renamed');
is(changes_of(sub { unlink("$root/a/3") }), 'removed a/3', 'a file is removed');
is($node->safe_psql('postgres', q(
SELECT old_hash = sha256('content of 3') AND content_hash IS NULL AND file_size IS NULL
	AND mod_time IS NULL FROM file_changes ORDER BY change_id DESC LIMIT 1)),
	't', 'with the hash that it had');
is(changes_of(sub { rename("$root/a", "$root/c") }, sorted => 1),
	join("\n", map { "moved c/$_ from a/$_" } 1, 4, 5), 'a directory is renamed');
is(changes_of(sub { chmod(0600, "$root/c/1"); append_file("$root/c/4", '') }), '',
	'what no reader sees is no change');
is(changes_of(sub { exchange("$root/c/4", "$root/c/5") }),
	"moved c/4 from c/5\nmoved c/5 from c/4", 'two files exchange their names');
is(changes_of(sub { rename("$root/c/4", "$root/c/5") }),
	"removed c/4\nupdated c/5", 'a file is renamed onto another');

# Both at once, as one inspection finds them.
is( changes_of(sub {
		rename("$root/c/1", "$root/c/eins");
		append_file("$root/c/eins", '!');
	}),
	"moved c/eins from c/1\nupdated c/eins", 'a file is renamed and written to: moved, then updated');
is(changes_of(sub { rename("$root/c", PostgreSQL::Test::Utils::tempdir() . '/out') }, sorted => 1),
	"removed c/5\nremoved c/eins", 'a directory is moved out');
replay_equals($node, $id, 'real time');

# ---- found by a scan ----

is(changes_of(sub {
		$node->stop;
		rename("$root/b/zwei", "$root/b/deux") or die;
		write_file("$root/b/new", 'new');
		$node->start;
	}, sorted => 1), "added b/new\nmoved b/deux from b/zwei", 'changes while the server was down');
is($node->safe_psql('postgres', q(
SELECT count(*) FROM file_changes c JOIN sync_operations o ON o.id = c.operation_id
WHERE c.file_path IN ('b/deux', 'b/new'))), '2', 'as what its scan found');

# Stopped, fsync-tree sees the events only after the scan was asked for: what
# scan and real time find is in the feed once.
is(changes_of(sub {
		my $tree = tree_pid($node, $id);
		kill 'STOP', $tree;
		write_file("$root/b/$_", "r$_") foreach 1 .. 3;
		unlink("$root/b/new");
		kill 'CONT', $tree;
	}, reconcile => 1), "added b/1\nadded b/2\nadded b/3\nremoved b/new", 'a reconciliation');
replay_equals($node, $id, 'after scans');

# ---- with its row, or not at all ----

$node->safe_psql('postgres', q(
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no %', NEW.file_path; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON file_records FOR EACH ROW
	WHEN (NEW.file_path LIKE '%/bad%') EXECUTE FUNCTION refuse()));
is(changes_of(sub { new_file("$root/b/$_", $_) foreach 'bad', 'good', 'worse', 'bad2' }, sorted => 1),
	"added b/good\nadded b/worse", 'a row that a trigger refuses is not in the feed');
replay_equals($node, $id, 'with refused rows');
is($node->safe_psql('postgres', q(SELECT count(*) FROM fsync_problems)), '2', 'but a problem');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON file_records');
is(changes_of(sub { }, reconcile => 1), "added b/bad\nadded b/bad2", 'until it is accepted');

$node->safe_psql('postgres', q(
CREATE TRIGGER refuse BEFORE INSERT ON file_changes FOR EACH ROW
	WHEN (NEW.file_path = 'b/bad') EXECUTE FUNCTION refuse()));
unlink("$root/b/bad");
wait_until(sub { status_of($node, $id, 'state') eq 'degraded' }, 'a feed that refuses a change');
is($node->safe_psql('postgres', q(SELECT count(*) FROM file_records WHERE file_path = 'b/bad')),
	'1', 'keeps its row from being changed');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON file_changes');
wait_equal($node, $id, $root, 'and mended, it is');
replay_equals($node, $id, 'after that');

# ---- rows of missing files that are kept ----

$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', on_missing => 'mark')");
wait_equal($node, $id, $root, 'with rows that are marked');
my $kept = ids_of($node, $id)->{'b/good'};
my $out_of_sight = PostgreSQL::Test::Utils::tempdir() . '/good';
is(changes_of(sub { rename("$root/b/good", $out_of_sight) }), 'removed b/good', 'a row that is marked counts as removed');
is($node->safe_psql('postgres', "SELECT missing_since IS NOT NULL FROM file_records WHERE id = $kept"), 't', 'though it is kept');
is(changes_of(sub { rename($out_of_sight, "$root/b/good") }), 'added b/good', 'and as added, when its file comes back');
is($node->safe_psql('postgres', 'SELECT file_id FROM file_changes ORDER BY change_id DESC LIMIT 1'), $kept, 'with its id');
replay_equals($node, $id, 'with marked rows');
rename("$root/b/good", $out_of_sight);
wait_ok($node, $id, 'missing again');
like($node->safe_psql('postgres', q(
SELECT fsync_create_consumer('present', from_start => true);
SELECT string_agg(file_path, ' ' ORDER BY file_path) FROM fsync_next_changes('present');
SELECT fsync_drop_consumer('present'))), qr{^b/1 b/2 b/3 b/bad2 b/deux b/worse$}m, 'a missing file is none for a consumer from the start');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', on_missing => 'delete')");
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id', force => true)");
rename($out_of_sight, "$root/b/good");
wait_equal($node, $id, $root, 'back');
replay_equals($node, $id, 'back');

# ---- notifications ----

my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $listener = start_sql($node, 'postgres', 'listener', q(
LISTEN fsync;
SELECT pg_advisory_lock(1);
SELECT 1;
));
wait_for_backend($node, 'listener', "wait_event = 'advisory'");

# looked at when they are all there, however long that takes
$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.debounce_interval = '10min'");
$node->safe_psql('postgres', "ALTER SYSTEM SET fsync.debounce_max_delay = '10min'");
$node->reload;
wait_ok($node, $id, 'a long debounce');
my $before = last_change($node);
remove_tree("$root/b", { keep_root => 1 });
write_file("$root/b/$_", $_) foreach 1 .. 50;
wait_equal($node, $id, $root, 'fifty files');
$holder->quit;
my (undef, $heard) = finish_sql($listener);
$node->safe_psql('postgres', "ALTER SYSTEM RESET $_") foreach 'fsync.debounce_interval', 'fsync.debounce_max_delay';
$node->reload;
my @payloads = $heard =~ /notification "fsync" with payload "(.*?)" received/g;
my %heard;
cmp_ok(scalar @payloads, '>=', 1, 'a listener hears of it');
cmp_ok(scalar @payloads, '<=', 20, 'by commits, not by files');
foreach my $payload (@payloads)
{
	my $row = $node->safe_psql('postgres', qq(
SELECT string_agg(k, ' ' ORDER BY k COLLATE "C") FROM json_object_keys('$payload') k));
	is($row, 'added first_change_id last_change_id moved removed repository_id updated', 'as JSON')
	  if !%heard;
	my ($repository, $first, $last, @counts) = split /\|/, $node->safe_psql('postgres', qq(
SELECT p->>'repository_id', p->>'first_change_id', p->>'last_change_id', p->>'added',
	p->>'updated', p->>'moved', p->>'removed' FROM (SELECT '$payload'::json AS p) p));
	is($repository, $id, 'of the repository');
	is($node->safe_psql('postgres', qq(
SELECT concat_ws(' ', count(*) FILTER (WHERE operation = 'added'), count(*) FILTER (WHERE operation = 'updated'),
	count(*) FILTER (WHERE operation = 'moved'), count(*) FILTER (WHERE operation = 'removed'))
FROM file_changes WHERE change_id BETWEEN $first AND $last)), "@counts", 'with its counts');
	$heard{$_} = 1 foreach $first .. $last;
}
is($node->safe_psql('postgres', "SELECT count(*) FROM file_changes WHERE change_id > $before AND change_id <> ALL ('{"
	  . join(',', keys %heard) . "}')"), '0', 'every change is in one of them');

# ---- off and on ----

$before = last_change($node);
$node->safe_psql('postgres', 'UPDATE fsync_repositories SET change_feed = false');
write_file("$root/b/unseen", 'x');
wait_equal($node, $id, $root, 'without a feed');
is(changes_since($node, $before), '', 'switched off, it says nothing');
$node->safe_psql('postgres', 'UPDATE fsync_repositories SET change_feed = true');
is(changes_of(sub { append_file("$root/b/unseen", 'y') }), 'updated b/unseen',
	'and on again, what happens from then on');

my $other_root = new_root('other');
write_file("$other_root/x", 'x');
my $other = add_repository($node, $other_root);
wait_equal($node, $other, $other_root, 'another repository');
is($node->safe_psql('postgres', "SELECT count(*) FROM file_changes WHERE repository_id = '$other'"),
	'0', 'by default it is off');

# ---- in the order in which it can be seen ----

$node->safe_psql('postgres', 'UPDATE fsync_repositories SET change_feed = true');
$node->safe_psql('postgres', 'CREATE TABLE seen (change_id bigint)');
my $reader = start_sql($node, 'postgres', 'reader', q(
DO $$
DECLARE
	last bigint;
BEGIN
	SELECT max(change_id) INTO last FROM file_changes;
	INSERT INTO seen SELECT change_id FROM file_changes;
	COMMIT;
	WHILE pg_try_advisory_lock(2) LOOP
		PERFORM pg_advisory_unlock(2);
		WITH s AS (INSERT INTO seen SELECT change_id FROM file_changes
			WHERE change_id > last RETURNING change_id)
		SELECT coalesce(max(change_id), last) INTO last FROM s;
		COMMIT;
	END LOOP;
	INSERT INTO seen SELECT change_id FROM file_changes WHERE change_id > last;
END $$));
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM seen') or die;
my @storms = map { start_storm($_->[0], $_->[1]) } [ "$root/storm", 1 ], [ "$other_root/storm", 2 ];
foreach my $round (1 .. 3)
{
	storm_goes_on($_) foreach @storms;
	wait_ok($node, $_, 'storm') foreach $id, $other;
}
stop_storm($_) foreach @storms;
wait_equal($node, $id, $root, 'one storm');
wait_equal($node, $other, $other_root, 'the other storm');
$holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(2)');
finish_sql($reader);
$holder->quit;
is($node->safe_psql('postgres', 'SELECT count(*) FROM file_changes c FULL JOIN seen s USING (change_id) WHERE s.change_id IS NULL OR c.change_id IS NULL'),
	'0', 'who follows the ids upwards misses none of two repositories');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM file_changes WHERE repository_id = '$other'"),
	'>', 20, 'and there were many');

# ---- a storm, replayed ----

my $wild = new_root('wild');
make_tree($wild, 200);
my $third = add_repository($node, $wild, args => 'change_feed => true');
wait_equal($node, $third, $wild, 'a wild repository');

# Two of its processes can leave a directory behind that nobody may read.
sub rage
{
	my ($seed) = @_;

	IPC::Run::run([ $storm, $wild, $seed, 1000, 2 ], '>', \$out, '2>', \$err) or die $err;
	system_or_bail('chmod', '-R', 'u+rwX', $wild);
}

foreach my $seed (1 .. 3)
{
	rage(700 + $seed);
	wait_equal($node, $third, $wild, "storm $seed");
	replay_equals($node, $third, "storm $seed");
}
# The storm also rewrites a file, puts its time back, and renames it: unwatched,
# that is a rename, so here the feed is compared with the table alone.
$node->stop;
rage(710);
$node->start;
wait_ok($node, $third, 'a storm while the server was down');
replay_equals($node, $third, 'a storm while the server was down');

# ---- gone with the repository ----

$node->safe_psql('postgres', "SELECT fsync_remove_repository('$third')");
is($node->safe_psql('postgres', "SELECT count(*) FROM file_changes WHERE repository_id = '$third'"),
	'0', 'the changes of a removed repository go');
cmp_ok(last_change($node), '>', 0, 'the others stay');
$node->safe_psql('postgres', 'TRUNCATE fsync_repositories');
is(last_change($node), '0', 'and go with TRUNCATE');

$node->stop;
done_testing();
