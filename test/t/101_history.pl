#
# How far back the past is known, and that what is not known is an error and no
# wrong answer: feeds switched off and on, changes that were pruned, rows that
# somebody else wrote, triggers that leave changes out, a clock that was set back,
# dumps; moments that are none; whose rights count.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "fsync.change_retention = 0\nmax_prepared_transactions = 2");
my $root = new_root('tree');
my $other_root = new_root('other');
my $empty_root = new_root('empty');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# "ok", or the error's first line and detail.
sub answer
{
	my ($query, %opt) = @_;
	my ($rc, $out, $err) = $node->psql($opt{db} // 'postgres', $query);

	return $rc == 0 ? 'ok' : join(' ', map { /ERROR:\s+(.*)/ ? $1 : /DETAIL:\s+(.*)/ ? $1 : () } split /\n/, $err);
}

sub now { return sql('SELECT clock_timestamp()') }

# The paths and contents at a moment, in one line.
sub past
{
	my ($id, $at) = @_;

	return sql("SELECT string_agg(file_path || coalesce('=' || file_size, '') || CASE WHEN content_hash IS NULL THEN '?' ELSE '' END, ' ' ORDER BY file_path) FROM fsync_files_at('$id', '$at')");
}

# A moment before this one cannot be asked for, and one after it can; the history
# has begun anew since $before.
sub begins_anew
{
	my ($id, $before, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->poll_query_until('postgres', "SELECT fsync_feed_since('$id') > '$before'") or die 'no history';
	like(answer("SELECT * FROM fsync_files_at('$id', '$before')"),
		qr/^the history of repository "$id" does not reach back to .* It is known from .* on/, "$name: nothing is said of before");
	my $since = sql("SELECT fsync_feed_since('$id')");
	is(answer("SELECT * FROM fsync_files_at('$id', '$since')"), 'ok', "$name: from then on it is known");
	like(answer("SELECT * FROM fsync_diff('$id', '$since'::timestamptz - interval '1 us')"), qr/does not reach back/, "$name: to the microsecond");
	is(sql("SELECT count(*) FROM fsync_files_at('$id', clock_timestamp()) p FULL JOIN"
			. " (SELECT * FROM file_records WHERE repository_id = '$id' AND missing_since IS NULL) f ON f.id = p.id"
			. " WHERE (p.file_path, p.file_size, p.content_hash) IS DISTINCT FROM (f.file_path, f.file_size, f.content_hash)"), '0', "$name: and the present is right");
}

write_file("$root/a", 'one');
write_file("$root/b", 'two!');
write_file("$other_root/x", 'x');
my $before_all = now();
my $id = add_repository($node, $root);
my $other = add_repository($node, $other_root, args => 'change_feed => true');
my $empty = add_repository($node, $empty_root, args => 'change_feed => true');
wait_ok($node, $_, 'first sync') foreach $id, $other, $empty;

# ---- arguments ----

my $now = now();
is(answer("SELECT * FROM fsync_files_at('$id', '$now')"),
	qq(the change feed of repository "$id" is off Without it nothing is known of the past.), 'without a feed');
is(sql("SELECT fsync_feed_since('$id') IS NULL"), 't', 'since never');
is(past($other, $now), 'x=1', 'a repository with a feed');
is(sql("SELECT count(*) FROM fsync_files_at('$empty', '$now')"), '0', 'an empty repository');
is(sql("SELECT count(*) FROM fsync_diff('$empty', fsync_feed_since('$empty'))"), '0', 'in which nothing happens');
like(answer("SELECT * FROM fsync_files_at('$other', '$before_all')"), qr/does not reach back/, 'before the repository was added');
like(answer("SELECT * FROM fsync_files_at('$other', '-infinity')"), qr/does not reach back to -infinity/, 'since ever');
like(answer("SELECT * FROM fsync_files_at('$other', 'infinity')"), qr/^at is still to come: infinity/, 'in all eternity');
like(answer("SELECT * FROM fsync_files_at('$other', now() + interval '1 hour')"), qr/^at is still to come/, 'in the future');
like(answer("SELECT * FROM fsync_diff('$other', now(), now() + interval '1 hour')"), qr/^to is still to come/, 'until then');
is(answer("SELECT * FROM fsync_files_at('$other', NULL)"), 'at must not be null', 'no moment');
is(answer("SELECT * FROM fsync_files_at(NULL, now())"), 'repository_id must not be null', 'no repository');
is(answer("SELECT * FROM fsync_diff('$other', NULL)"), 'from must not be null', 'from no moment');
is(answer("SELECT * FROM fsync_diff('$other', now(), NULL)"), 'to must not be null', 'to no moment');
is(answer("SELECT * FROM fsync_diff('$other', now(), '$now')"), 'from must not be later than to', 'backwards');
like(answer("SELECT * FROM fsync_files_at(gen_random_uuid(), now())"), qr/^repository ".*" does not exist/, 'a repository that is none');

# ---- the feed comes late, goes and comes back ----

sql("SELECT fsync_configure_repository('$id', change_feed => true)");
wait_ok($node, $id, 'the feed comes');
begins_anew($id, $now, 'a feed that comes late');
my $first = now();
is(past($id, $first), 'a=3 b=4', 'with what was there');
write_file("$root/a", 'changed');
wait_ok($node, $id, 'a change');
is(past($id, $first), 'a=3 b=4', 'what was before a change');
is(sql("SELECT operation, file_path, old_size, file_size, old_hash = sha256('one') FROM fsync_diff('$id', '$first')"), 'updated|a|3|7|t', 'which is known');

sql("SELECT fsync_configure_repository('$id', change_feed => false)");
like(answer("SELECT * FROM fsync_files_at('$id', '$first')"), qr/is off/, 'the feed goes');
write_file("$root/c", 'c');
wait_ok($node, $id, 'a change that nobody tells');
sql("SELECT fsync_configure_repository('$id', change_feed => true)");
wait_ok($node, $id, 'the feed comes back');
begins_anew($id, $first, 'a feed that was off');
my $second = now();
is(past($id, $second), 'a=7 b=4 c=1', 'with what came while it was off');
sql("UPDATE fsync_repositories SET change_feed = false WHERE repository_id = '$id'; UPDATE fsync_repositories SET change_feed = true WHERE repository_id = '$id'");
begins_anew($id, $second, 'off and on at once');
$second = now();
sql("BEGIN; UPDATE fsync_repositories SET change_feed = false WHERE repository_id = '$id'; SELECT pg_sleep(0.1); ROLLBACK");
is(past($id, $second), 'a=7 b=4 c=1', 'one who thinks better of it');
is(past($other, $now), 'x=1', 'the other repository does not notice');

# ---- missing files that are marked, pauses, hashes ----

sql("SELECT fsync_configure_repository('$id', on_missing => 'mark')");
wait_ok($node, $id, 'mark');
my $whole = now();
unlink "$root/b";
wait_ok($node, $id, 'gone');
my $gone = now();
write_file("$root/b", 'returned');
rename "$root/a", "$root/d";
rename "$root/c", "$root/a";
rename "$root/d", "$root/c";
wait_ok($node, $id, 'back');
is(past($id, $whole), 'a=7 b=4 c=1', 'before a file was missing');
is(past($id, $gone), 'a=7 c=1', 'while its row was marked');
is(past($id, now()), 'a=1 b=8 c=7', 'when it was back, and others had changed names');
is(sql("SELECT string_agg(operation || ' ' || old_path || ' ' || file_path, ', ' ORDER BY file_path) FROM fsync_diff('$id', '$whole')"),
	'moved c a, updated b b, moved a c', 'what has become of them');
is(sql("SELECT string_agg(operation || ' ' || coalesce(old_path, '-') || ' ' || file_path, ', ') FROM fsync_diff('$id', '$gone') WHERE file_path = 'b'"),
	'added - b', 'a file that comes back');

my $paused = now();
sql("SELECT fsync_pause('$id')");
write_file("$root/e", 'e');
my $in_pause = now();
sql("SELECT fsync_resume('$id')");
wait_ok($node, $id, 'resumed');
is(past($id, $in_pause), 'a=1 b=8 c=7', 'in a pause the table stood still');
is(past($id, now()), 'a=1 b=8 c=7 e=1', 'and then went on');
sql("SELECT fsync_configure_repository('$id', calculate_hashes => false)");
write_file("$root/f", 'f');
wait_ok($node, $id, 'no hashes');
my $unhashed = now();
my $unhashed_is = sql("SELECT string_agg(file_path || coalesce('=' || file_size, '') || CASE WHEN content_hash IS NULL THEN '?' ELSE '' END, ' ' ORDER BY file_path) FROM file_records WHERE repository_id = '$id' AND missing_since IS NULL");
like($unhashed_is, qr/f=1\?/, 'a file without a hash');
sql("SELECT fsync_configure_repository('$id', calculate_hashes => true)");
wait_ok($node, $id, 'hashes');
is(past($id, $unhashed), $unhashed_is, 'hashes that were not there');
is(sql("SELECT operation, old_hash IS NULL, content_hash = sha256('f') FROM fsync_diff('$id', '$unhashed') WHERE file_path = 'f'"), 'updated|t|t', 'and came');

# ---- what others write ----

foreach my $write (
	[ 'a row deleted', "DELETE FROM file_records WHERE repository_id = '$id' AND file_path = 'a'" ],
	[ 'a row inserted', "INSERT INTO file_records (repository_id, file_path, file_size, mod_time, last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns) VALUES ('$id', 'nonsense', 1, now(), now(), 1, now(), now(), 1, 1, 1)" ],
	[ 'a row updated', "UPDATE file_records SET mod_time = now() WHERE repository_id = '$id' AND file_path = 'a'" ],
	[ 'a row deleted as a replica', "SET session_replication_role = replica; DELETE FROM file_records WHERE repository_id = '$id' AND file_path = 'c'" ],
	[ 'all rows truncated', 'TRUNCATE file_records CASCADE' ],
	[ 'a change deleted', "DELETE FROM file_changes WHERE change_id = (SELECT max(change_id) FROM file_changes WHERE repository_id = '$id')" ],
	[ 'a change updated', "UPDATE file_changes SET file_path = 'nonsense' WHERE change_id = (SELECT max(change_id) FROM file_changes WHERE repository_id = '$id')" ],
	[ 'a change inserted', "INSERT INTO file_changes (repository_id, file_id, operation, file_path, changed_at) VALUES ('$id', 1, 'added', 'nonsense', now())" ],
	[ 'all changes truncated', 'TRUNCATE file_changes' ])
{
	my ($name, $sql) = @$write;
	my $before = now();

	sql($sql);
	reconcile($node, $id, args => 'force => true');
	reconcile($node, $other, args => 'force => true');
	wait_equal($node, $id, $root, $name);
	begins_anew($id, $before, $name);
}

my $untouched = now();
sql("ALTER TABLE file_records ADD note text; UPDATE file_records SET note = 'seen'");
is(answer("SELECT * FROM fsync_files_at('$id', '$untouched')"), 'ok', "a column of one's own may be written");
sql('ALTER TABLE file_records DROP note');
sql("BEGIN; DELETE FROM file_records WHERE file_path = 'a'; SELECT pg_sleep(0.1); ROLLBACK");
is(answer("SELECT * FROM fsync_files_at('$id', '$untouched')"), 'ok', 'what was rolled back is nothing');

# A transaction that is prepared: it may be, and the history ends with it.
my $prepared = now();
sql("BEGIN; DELETE FROM file_records WHERE file_path = 'a' AND repository_id = '$id'; PREPARE TRANSACTION 'p'");
sql("COMMIT PREPARED 'p'");
begins_anew($id, $prepared, 'prepared');
reconcile($node, $id);
wait_equal($node, $id, $root, 'prepared');

# One who writes before a history begins, and commits after that.
my $holder = start_sql($node, 'postgres', 'holder', "SELECT pg_advisory_lock(7); SELECT pg_sleep(1000)");
wait_for_backend($node, 'holder', "wait_event = 'PgSleep'");
my $slow = start_sql($node, 'postgres', 'slow', "BEGIN; DELETE FROM file_records WHERE file_path = 'a'; SELECT pg_advisory_lock(7); COMMIT");
wait_for_backend($node, 'slow', "wait_event_type = 'Lock'");
sql("SELECT fsync_configure_repository('$id', change_feed => change_feed) FROM fsync_repositories WHERE repository_id = '$id'");
my $meanwhile = now();
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
finish_sql($slow);
eval { finish_sql($holder) };
reconcile($node, $id);
begins_anew($id, $meanwhile, 'one who committed late');

sql(q(CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN new.file_path = 'secret' THEN NULL ELSE new END; END $$;
CREATE TRIGGER leave_out BEFORE INSERT ON file_changes FOR EACH ROW EXECUTE FUNCTION leave_out()));
my $complete = now();
write_file("$root/open", 'x');
wait_ok($node, $id, 'told');
is(answer("SELECT * FROM fsync_files_at('$id', '$complete')"), 'ok', 'a trigger that leaves nothing out');
write_file("$root/secret", 'x');
wait_ok($node, $id, 'not told');
begins_anew($id, $complete, 'a change that a trigger has left out');
sql('DROP TRIGGER leave_out ON file_changes');

# A trigger that writes other rows than the worker's statement.
sql(q(CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM public.file_records WHERE file_path = 'open'; RETURN NULL; END $$;
GRANT EXECUTE ON FUNCTION also TO fsync_owner; CREATE TRIGGER also AFTER DELETE ON file_records FOR EACH ROW WHEN (old.file_path = 'secret') EXECUTE FUNCTION also()));
sql("SELECT fsync_configure_repository('$id', on_missing => 'delete')");
wait_ok($node, $id, 'delete');
$complete = now();
unlink "$root/secret";
wait_ok($node, $id, 'and another row');
begins_anew($id, $complete, 'a row that a trigger deletes');
sql('DROP TRIGGER also ON file_records');
reconcile($node, $id);

# ---- retention ----

sql("ALTER SYSTEM SET fsync.change_retention = '7d'");
foreach my $n (1 .. 4)
{
	write_file("$root/old $n", $n);
	wait_ok($node, $id, "change $n");
}
my $kept = now();
write_file("$root/old 1", 'young');
wait_ok($node, $id, 'a young change');
my $limit = sql("SELECT max(changed_at) FROM file_changes WHERE repository_id = '$id' AND file_path = 'old 2'");
my $since = sql("SELECT fsync_feed_since('$id')");
my $known = past($id, $limit);

# As old as that by the clock, without another's writing: more changes than are kept.
my $left = sql("SELECT count(*) FROM file_changes WHERE changed_at > '$limit'");
$node->append_conf('postgresql.conf', 'fsync.change_max_rows = 1000000');
sql("ALTER SYSTEM SET fsync.change_max_rows = $left");
$node->reload;
$node->poll_query_until('postgres', "SELECT count(*) = $left FROM file_changes") or die 'nothing is pruned';
is(sql("SELECT fsync_feed_since('$id')"), $limit, 'what was pruned is known to the last change of it');
cmp_ok($since, 'ne', $limit, 'which was not so before');
is(past($id, $limit), $known, 'from that moment on all is as it was');
like(answer("SELECT * FROM fsync_files_at('$id', '$limit'::timestamptz - interval '1 us')"), qr/does not reach back/, 'and not before');
like(past($id, $kept), qr/old 1=1 /, 'later moments, too');
sql("ALTER SYSTEM RESET fsync.change_max_rows; ALTER SYSTEM SET fsync.change_retention = 0");
$node->reload;

# ---- a dump ----

my $in_dump = now();
unlink "$root/old 4";
wait_ok($node, $id, 'removed');
my $was = past($id, $in_dump);
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$other_root.dump", $node->connstr('postgres') ], 'dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), "$other_root.dump" ], 'restore');
is($node->safe_psql('restored', "SELECT string_agg(file_path || coalesce('=' || file_size, '') || CASE WHEN content_hash IS NULL THEN '?' ELSE '' END, ' ' ORDER BY file_path) FROM fsync_files_at('$id', '$in_dump')"),
	$was, 'a restored database knows the past');
is($node->safe_psql('restored', "SELECT fsync_feed_since('$id')"), $limit, 'as far as the one that it was made of');
$node->safe_psql('restored', 'DROP EXTENSION fsync CASCADE');

# ---- a clock that was set back ----

# Changes of tomorrow, as a clock would have made them that was wrong.
sql("SET session_replication_role = replica; ALTER TABLE file_changes DISABLE TRIGGER fsync_written;"
	. " UPDATE file_changes SET changed_at = changed_at + interval '1 day' WHERE change_id = (SELECT max(change_id) FROM file_changes WHERE repository_id = '$id');"
	. " ALTER TABLE file_changes ENABLE ALWAYS TRIGGER fsync_written");
my $set_back = now();
write_file("$root/after", 'x');
wait_ok($node, $id, 'a change after the clock was set back');
begins_anew($id, $set_back, 'a clock that was set back');
$set_back = now();
write_file("$root/after", 'later');
wait_ok($node, $id, 'another one');
like(past($id, $set_back), qr/after=1/, 'and then goes on');
like(past($id, now()), qr/after=5/, 'as it does');

# ---- time zones ----

is(sql("SET timezone = 'Asia/Kathmandu'; SELECT count(*) FROM fsync_files_at('$id', '$set_back')"),
	sql("SET timezone = 'America/St_Johns'; SELECT count(*) FROM fsync_files_at('$id', '$set_back')"), 'a moment is the same everywhere');

# ---- rights ----

sql(q(CREATE ROLE reader; CREATE ROLE nobody; GRANT SELECT ON file_records, file_changes TO reader;
GRANT SELECT (file_path) ON file_changes TO nobody));
is(answer("SET ROLE reader; SELECT * FROM fsync_files_at('$id', '$set_back'); SELECT * FROM fsync_diff('$id', '$set_back'); SELECT fsync_feed_since('$id')"),
	'ok', 'who may read the two tables may ask');
like(answer("SET ROLE nobody; SELECT * FROM fsync_files_at('$id', '$set_back')"), qr/^permission denied for table file_(?:changes|records)$/, 'who may read less may not');
sql('REVOKE SELECT (file_path) ON file_changes FROM nobody');
is(answer("SET ROLE nobody; SELECT fsync_feed_since('$id')"), 'permission denied for table file_changes', 'not even since when');
is(answer("SET ROLE nobody; SELECT * FROM fsync_diff(gen_random_uuid(), '-infinity')"), 'permission denied for table file_changes', 'nor whether there is such a repository');
sql(q(ALTER TABLE file_records ENABLE ROW LEVEL SECURITY; ALTER TABLE file_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON file_records TO reader USING (file_path LIKE 'old%'); CREATE POLICY p ON file_changes TO reader USING (file_path LIKE 'old%')));
is(sql("SET ROLE reader; SELECT string_agg(DISTINCT left(file_path, 3), ' ') FROM fsync_files_at('$id', '$set_back')"), 'old', 'row-level security holds');
is(sql("SELECT count(*) FROM fsync_files_at('$id', '$set_back') WHERE file_path NOT LIKE 'old%'") > 0, 1, 'for whom it is meant');
sql('ALTER TABLE file_records DISABLE ROW LEVEL SECURITY; ALTER TABLE file_changes DISABLE ROW LEVEL SECURITY');

# ---- gone ----

sql("SELECT fsync_remove_repository('$id')");
like(answer("SELECT * FROM fsync_files_at('$id', '$set_back')"), qr/does not exist/, 'of a repository that was removed');
is(sql("SELECT count(*) FROM fsync_feed_history WHERE repository_id = '$id'"), '0', 'nothing is kept');
is(answer("SELECT * FROM fsync_files_at('$other', '$set_back')"), 'ok', 'which ends no history of others');

$node->stop;
done_testing();
