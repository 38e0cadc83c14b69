#
# What users do to the extension's tables where functions return their rows: they
# add and drop columns.  And what their triggers may do to the worker: raise
# errors that look like others, with long texts, in the midst of other things.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', extension => 0, conf => 'restart_after_crash = on');
$node->safe_psql($db, 'CREATE SCHEMA fs; ALTER DATABASE postgres SET search_path = fs, fs2, public;
	CREATE EXTENSION fsync SCHEMA fs');
my $root = new_root('photos');
my $other = new_root('other');
write_file("$root/$_.txt", "content of $_") foreach 'a' .. 'h';
my $id = add_repository($node, $root, args => 'change_feed => true');
my $other_id = add_repository($node, $other);
wait_equal($node, $id, $root, 'first sync');
my $position = log_position($node);
my $worker = worker_pid($node, $db);

sub sql
{
	return $node->safe_psql($db, $_[0]);
}

# ---- columns ----

sql('ALTER TABLE sync_operations ADD a text, ADD b integer DEFAULT 2147483644, ADD c text DEFAULT \'hello\';
	ALTER TABLE sync_operations DROP a');
is(sql("SELECT b, c FROM fsync_sync_history('$id', 1)"), '2147483644|hello',
	'columns added and dropped: the history');
is(sql("SELECT status, b, c FROM fsync_reconcile('$id')"), 'completed|2147483644|hello',
	'columns added and dropped: a reconciliation');
is(sql("SELECT status, b, c FROM fsync_verify('$id')"), 'completed|2147483644|hello',
	'columns added and dropped: a verification');

sql("SELECT fsync_create_consumer('c', '$id', from_start => true)");
sql("ALTER TABLE file_changes ADD x text, ADD note text DEFAULT 'new'; ALTER TABLE file_changes DROP x");
write_file("$root/i.txt", 'content of i');
wait_equal($node, $id, $root, 'a change');
is(sql("SELECT string_agg(operation || ' ' || file_path || coalesce(' ' || note, ''), ', ')
	FROM fsync_next_changes('c') WHERE file_path IN ('a.txt', 'i.txt')"),
	'added a.txt, added i.txt new', 'columns added and dropped: the feed');

# ---- the schema gets another name within a statement ----

sql(q(CREATE FUNCTION public.nested() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	s text;
BEGIN
	IF new.min_size = 1 THEN
		PERFORM pg_advisory_lock(1);
		SELECT nspname INTO s FROM pg_extension e JOIN pg_namespace ns ON ns.oid = e.extnamespace
		WHERE extname = 'fsync';
		EXECUTE format('SELECT count(*) FROM %I.fsync_status()', s) INTO n;
		RAISE LOG 'nested: % repositories', n;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER nested AFTER UPDATE ON fsync_repositories FOR EACH ROW EXECUTE FUNCTION public.nested();
GRANT EXECUTE ON FUNCTION fsync_status TO fsync_owner));
my $holder = $node->background_psql($db);
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $nested = start_sql($node, $db, 'nested', "SELECT fsync_configure_repository('$id', min_size => 1)");
wait_for_backend($node, 'nested', "wait_event = 'advisory'");
sql('ALTER SCHEMA fs RENAME TO fs2');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
my ($rc, undef, $err) = finish_sql($nested);
is($rc, 0, 'the schema was renamed meanwhile: no harm') or diag($err);
sql('DROP TRIGGER nested ON fsync_repositories');
wait_equal($node, $id, $root, 'the schema was renamed');

# ---- an error that looks like a fault of fsync-tree ----

sql(qq(CREATE FUNCTION public.odd() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	IF new.repository_id = '$id' THEN
		RAISE EXCEPTION 'not this one' USING ERRCODE = 'protocol_violation';
	END IF;
	RETURN new;
END \$\$;
CREATE TRIGGER odd BEFORE UPDATE ON sync_operations FOR EACH ROW EXECUTE FUNCTION public.odd()));
my $tree = tree_pid($node, $id);
sql("SELECT fsync_reconcile('$id', wait => false)");
wait_until(sub { status_of($node, $id, 'reason') =~ /not this one/ }, 'an odd error: the state says which');
write_file("$other/1.txt", 'x');
wait_equal($node, $other_id, $other, 'an odd error: other repositories go on');
is(tree_pid($node, $id), $tree, 'an odd error: fsync-tree is not to blame');
sql('DROP TRIGGER odd ON sync_operations');
wait_equal($node, $id, $root, 'an odd error is over');

# ---- a long text in letters of several bytes ----

# The text of the state has a limit; one of three first bytes is at the edge.
foreach my $shift (0 .. 2)
{
	sql(qq(CREATE FUNCTION public.long() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	RAISE EXCEPTION '%', repeat('x', $shift) || repeat(U&'\\5199', 400)
		USING ERRCODE = 'object_in_use';
END \$\$;
CREATE TRIGGER long BEFORE INSERT ON file_records FOR EACH ROW EXECUTE FUNCTION public.long()));
	write_file("$root/long $shift.txt", 'x');
	$node->poll_query_until($db,
		"SELECT state = 'degraded' AND octet_length(state_reason) > 400 FROM fsync_repositories WHERE repository_id = '$id'");
	is(sql("SELECT state_reason = convert_from(convert_to(state_reason, 'UTF8'), 'UTF8')
		FROM fsync_repositories WHERE repository_id = '$id'"),
		't', "a long text, $shift: what is stored is valid");
	sql('DROP FUNCTION public.long() CASCADE');
	wait_equal($node, $id, $root, "a long text, $shift, is over");
	wait_for_state($node, $id, 'watching', "a long text, $shift: watching again");
}

# ---- a verdict, and rows that are refused in the same message ----

sql("UPDATE file_records SET content_hash = sha256(convert_to('good content of ' || file_path, 'UTF8'))
	WHERE repository_id = '$id' AND file_path IN ('a.txt', 'c.txt', 'd.txt')");
sql("SELECT * FROM fsync_verify('$id')");
sql(q(CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'refused';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON file_records
	FOR EACH ROW WHEN (starts_with(new.file_path, 'bad')) EXECUTE FUNCTION public.refuse()));
$tree = tree_pid($node, $id);
kill('STOP', $tree) or die "kill: $!";
write_file("$root/bad $_.txt", 'x') foreach 1 .. 10;
chmod(0600, map { "$root/$_.txt" } 'a', 'c', 'd');
write_file("$root/bad $_.txt", 'x') foreach 11 .. 20;
kill('CONT', $tree) or die "kill: $!";
wait_ok($node, $id, 'rows that are refused');
is(sql("SELECT string_agg(file_path, ', ' ORDER BY file_path) FROM fsync_problems
	WHERE problem = 'content differs from its hash'"),
	'a.txt, c.txt, d.txt', 'rows that are refused: the verdicts on others stand');
sql('DROP TRIGGER refuse ON file_records');
unlink(glob("$root/bad*"));
wait_ok($node, $id, 'in the end');

is(worker_pid($node, $db), $worker, 'all that by the same worker');
unlike(slurp_file($node->logfile, $position), qr/terminated by signal/, 'and nothing crashed');
$node->stop;
done_testing();
