#
# What users attach to file_records: triggers that raise, that write, that
# notify; foreign keys of every kind.  One row that cannot be written or removed
# is one row in fsync_problems, the others are applied, and when the cause has
# gone the problem goes at the next reconciliation.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $tmp = PostgreSQL::Test::Utils::tempdir();
my $node = new_node('main', conf => "max_prepared_transactions = 2\n");
my $root = new_root('photos');

foreach my $d (1 .. 6)
{
	make_path("$root/d$d/sub");
	write_file("$root/d$d/$_.txt", "$d/$_") foreach 1 .. 20;
	write_file("$root/d$d/sub/deep.txt", "$d deep");
}
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
my $worker = worker_pid($node, $db);
my $position = log_position($node);

sub problems
{
	return $node->safe_psql($db,
		"SELECT file_path, problem FROM fsync_problems ORDER BY file_path COLLATE \"C\"");
}

# The table is equal to the disk except for these paths, and they are what
# fsync_problems has.  Rows of files that are gone: paths => what is wrong.
sub equal_but_for
{
	my ($name, %problem) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_ok($node, $id, $name) or return;
	my ($disk, $table) = (disk_files($root), table_files($node, $id));
	delete $disk->{$_}, delete $table->{$_} foreach keys %problem;
	is(differences($disk, $table), '', "$name: all others are applied");
	is(problems(), join("\n", map { "$_|$problem{$_}" } sort keys %problem),
		"$name: and each of these is a problem");
}

# When the cause has gone, a reconciliation mends it.
sub mended
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $node->safe_psql($db, "SELECT status FROM fsync_reconcile('$id')"),
		'completed', "$name: reconciled when the cause has gone");
	wait_equal($node, $id, $root, "$name, mended");
	is(problems(), '', "$name, mended: the problem is gone");
}

# A reconciliation runs to its end, and does not give up the scan.
sub reconcile_twice
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $node->safe_psql($db, "SELECT status FROM fsync_reconcile('$id')"),
		'completed', "$name: a reconciliation runs to its end")
	  for 1 .. 2;
}

# ---- a trigger that raises for one row ----

$node->safe_psql($db, q(
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.file_path ~ 'poison' THEN
		RAISE EXCEPTION 'I do not like "%"', new.file_path;
	END IF;
	RETURN new;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON file_records
	FOR EACH ROW EXECUTE FUNCTION refuse();
));

make_path("$root/new");
write_file("$root/new/$_.txt", "new $_") foreach 1 .. 200;
write_file("$root/new/poison.txt", 'x');
write_file("$root/d1/1.txt", 'changed');
equal_but_for('a trigger refuses an insertion', 'new/poison.txt' => 'rejected by the database');
like( $node->safe_psql($db, 'SELECT message FROM fsync_problems'),
	qr/I do not like/, 'the problem has the message of the trigger');

# The row of a renamed file cannot follow.  Nor can it stay where no file is.
my %poisoned = map { $_ => 'rejected by the database' } 'new/poison.txt', 'd1/2 poison.txt',
  'd6 poison/7.txt';
$node->safe_psql($db, q(
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.file_path IN ('new/poison.txt', 'd1/2 poison.txt', 'd6 poison/7.txt') THEN
		RAISE EXCEPTION 'I do not like "%"', new.file_path;
	END IF;
	RETURN new;
END $$;
));
my $before = ids_of($node, $id);
rename("$root/d1/2.txt", "$root/d1/2 poison.txt") or die "rename: $!";
rename("$root/d6", "$root/d6 poison") or die "rename: $!";
write_file("$root/d1/3.txt", 'changed');
equal_but_for('a trigger refuses a rename', %poisoned);
is(ids_of($node, $id)->{'d6 poison/8.txt'}, $before->{'d6/8.txt'},
	'a trigger refuses a rename: the others that moved keep their ids');

# two files exchange their names, one of which is not liked
$node->safe_psql($db, q(
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.file_path IN ('new/poison.txt', 'd1/2 poison.txt', 'd6 poison/7.txt')
		OR new.file_path = 'd1/5.txt' AND new.file_size = 100 THEN
		RAISE EXCEPTION 'I do not like "%"', new.file_path;
	END IF;
	RETURN new;
END $$;
));
write_file("$root/d1/4.txt", 'y' x 100);
equal_but_for('before the exchange', %poisoned);
rename("$root/d1/4.txt", "$root/d1/4.tmp") or die "rename: $!";
rename("$root/d1/5.txt", "$root/d1/4.txt") or die "rename: $!";
rename("$root/d1/4.tmp", "$root/d1/5.txt") or die "rename: $!";
$poisoned{'d1/5.txt'} = 'rejected by the database';
equal_but_for('a trigger refuses half of an exchange', %poisoned);
reconcile_twice('a trigger refuses a rename');
equal_but_for('reconciled with the trigger', %poisoned);

$node->safe_psql($db, 'DROP TRIGGER refuse ON file_records');
mended('a trigger that raised');

# ---- triggers that leave rows out ----

$node->safe_psql($db, q(
CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE WHEN new.file_path ~ 'left out' THEN NULL ELSE new END;
END $$;
CREATE TRIGGER leave_out BEFORE INSERT OR UPDATE ON file_records
	FOR EACH ROW EXECUTE FUNCTION leave_out();
));
write_file("$root/d2/left out.txt", 'x');
write_file("$root/d2/let in.txt", 'x');
rename("$root/d2/4.txt", "$root/d2/4 left out.txt") or die "rename: $!";
equal_but_for('a trigger leaves out rows', 'd2/left out.txt' => 'rejected by the database',
	'd2/4 left out.txt' => 'rejected by the database');
$node->safe_psql($db, 'DROP TRIGGER leave_out ON file_records');
mended('a trigger that left out a row');

# A row that may not be deleted, by a trigger that does not even raise.
$node->safe_psql($db, q(
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE WHEN old.file_path = 'd2/1.txt' THEN NULL ELSE old END;
END $$;
CREATE TRIGGER keep BEFORE DELETE ON file_records FOR EACH ROW EXECUTE FUNCTION keep();
));
unlink("$root/d2/1.txt", "$root/d2/2.txt") == 2 or die "unlink: $!";
equal_but_for('a trigger keeps a row', 'd2/1.txt' => 'rejected by the database');
$node->safe_psql($db, 'DROP TRIGGER keep ON file_records');
mended('a trigger that kept a row');

# ---- a trigger that notifies and writes ----

$node->safe_psql($db, q(
CREATE TABLE journal (what text, path text);
GRANT SELECT, INSERT ON journal TO fsync_owner;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('files', coalesce(new.file_path, old.file_path));
	INSERT INTO public.journal VALUES (tg_op, coalesce(new.file_path, old.file_path));
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON file_records
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell();
));
rename("$root/d3", "$root/d3 renamed") or die "rename: $!";
# at once with its content, so that it is one row's insertion
write_file("$root/told.tmp", 'x');
rename("$root/told.tmp", "$root/told.txt") or die "rename: $!";
unlink("$root/d2/3.txt") or die "unlink: $!";
equal_but_for('a trigger notifies');
is( $node->safe_psql($db,
		"SELECT string_agg(DISTINCT what, ',') || ' ' || count(*) FROM journal"),
	'DELETE,INSERT,UPDATE 23', 'a trigger notifies: once for each row');
like(
	$node->safe_psql($db, "LISTEN files; SELECT fsync_wait('$id')"),
	qr/^t$/, 'a session that listens can wait');
$node->safe_psql($db, 'DROP TRIGGER tell ON file_records');

# ---- triggers that refuse all that there is ----

# That is no bad row: the repository is degraded until it is mended, and nobody
# waits for that without an end.
my $other = new_root('other');
my $other_id = add_repository($node, $other);

foreach my $refusal (
	[ 'each statement', 'STATEMENT', 'insufficient_privilege' ],
	[ 'each row', 'ROW', 'insufficient_privilege' ],
	[ 'each statement, by an exception', 'STATEMENT', 'raise_exception' ])
{
	my ($name, $level, $error) = @$refusal;

	$node->safe_psql($db, qq(
CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	RAISE $error USING MESSAGE = 'nothing is taken here';
END \$\$;
CREATE TRIGGER refuse_all BEFORE INSERT OR UPDATE OR DELETE ON file_records
	FOR EACH $level EXECUTE FUNCTION refuse_all();
));
	# of one message: what is found by a scan, not as it is made
	make_path("$tmp/made");
	write_file("$tmp/made/$_.txt", "$name $_") foreach 1 .. 300;
	rename("$tmp/made", "$other/made") or die "rename: $!";
	foreach my $call ("SELECT status FROM fsync_reconcile('$other_id')",
		'SELECT status FROM fsync_reconcile()', 'CALL fsync_reconcile_all()')
	{
		my ($rc, $out, $err) = $node->psql($db, "SET statement_timeout = '100 s'; $call");
		like("$out$err", qr/reconciliation of repository.*nothing is taken here/s,
			"$name is refused: $call says so");
	}
	is(status_of($node, $other_id, 'state'), 'degraded', "$name is refused: degraded");
	$node->safe_psql($db, 'DROP TRIGGER refuse_all ON file_records; DROP FUNCTION refuse_all()');
	is( $node->safe_psql($db, "SET statement_timeout = '100 s'; SELECT status FROM fsync_reconcile('$other_id')"),
		'completed', "$name was refused: mended, a reconciliation completes");
	wait_equal($node, $other_id, $other, "$name was refused: mended");
	remove_tree("$other/made");
	wait_equal($node, $other_id, $other, "$name was refused: removed");
}
$node->safe_psql($db, "SELECT fsync_remove_repository('$other_id')");

# ---- triggers that try what would end a worker ----

foreach my $evil (
	[ 'RESET ALL', 'SET lock_timeout' => "SET lock_timeout = 1; SET row_security = on;" ],
	[ 'deferred', 'SET CONSTRAINTS' => 'SET CONSTRAINTS ALL DEFERRED;' ],
	[ 'cancel', 'cancels its own statement' => 'PERFORM pg_cancel_backend(pg_backend_pid());' ])
{
	my (undef, $name, $sql) = @$evil;

	$node->safe_psql($db, qq(
CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	IF (SELECT count(*) < 2 FROM public.journal WHERE what = 'evil') THEN
		INSERT INTO public.journal VALUES ('evil', '');
		$sql
	END IF;
	RETURN NULL;
END \$\$;
DELETE FROM journal;
CREATE TRIGGER evil AFTER INSERT OR UPDATE OR DELETE ON file_records EXECUTE FUNCTION evil();
)) unless $name =~ /cancels/;
	# one that cancels would do so for ever, if it could not count; and only
	# a superuser may cancel the worker
	$node->safe_psql($db, qq(
CREATE SEQUENCE times;
GRANT ALL ON SEQUENCE times TO PUBLIC;
CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$
BEGIN
	IF nextval('public.times') <= 2 THEN
		$sql
	END IF;
	RETURN NULL;
END \$\$;
CREATE TRIGGER evil AFTER INSERT OR UPDATE OR DELETE ON file_records EXECUTE FUNCTION evil();
)) if $name =~ /cancels/;
	write_file("$root/evil.txt", $name);
	write_file("$root/evil2.txt", $name);
	equal_but_for("a trigger $name");
	$node->safe_psql($db, 'DROP TRIGGER evil ON file_records; DROP FUNCTION evil()');
}

# ---- foreign keys ----

# Each references a file in a directory of its own and one that stays.
my %keys = (
	no_action => ['REFERENCES file_records', 'still referenced'],
	restricted => ['REFERENCES file_records ON DELETE RESTRICT', 'still referenced'],
	deferred => [
		'REFERENCES file_records DEFERRABLE INITIALLY DEFERRED', 'still referenced'
	],
	cascaded => ['REFERENCES file_records ON DELETE CASCADE', undef],
	nulled => ['REFERENCES file_records ON DELETE SET NULL', undef]);

$node->safe_psql($db, "CREATE TABLE $_ (file_id bigint $keys{$_}[0])") foreach sort keys %keys;
foreach my $key (sort keys %keys)
{
	make_path("$root/$key");
	write_file("$root/$key/$_.txt", "$key $_") foreach 1 .. 20;
}
wait_equal($node, $id, $root, 'files to be referenced');
foreach my $key (sort keys %keys)
{
	$node->safe_psql($db,
		"INSERT INTO $key SELECT id FROM file_records WHERE file_path IN ('$key/7.txt', 'told.txt')");
}

# contents and names change freely
append_file("$root/$_/7.txt", 'more') foreach keys %keys;
append_file("$root/told.txt", 'more');
rename("$root/no_action/7.txt", "$root/no_action/seven.txt") or die "rename: $!";
equal_but_for('referenced files written and renamed');
rename("$root/no_action/seven.txt", "$root/no_action/7.txt") or die "rename: $!";
equal_but_for('and back');

$before = ids_of($node, $id);
remove_tree("$root/$_") foreach keys %keys;
append_file("$root/d4/1.txt", 'at the same time');
my %kept = map { ("$_/7.txt" => $keys{$_}[1]) } grep { defined $keys{$_}[1] } keys %keys;
equal_but_for('referenced files removed', %kept);
is( $node->safe_psql($db, 'SELECT count(*), count(file_id) FROM cascaded'),
	'1|1', 'ON DELETE CASCADE: the referencing row went');
is($node->safe_psql($db, 'SELECT count(*), count(file_id) FROM nulled'),
	'2|1', 'ON DELETE SET NULL: the reference went');
reconcile_twice('rows that are kept by foreign keys');
equal_but_for('reconciled', %kept);
is( status_of($node, $id, 'state'), 'watching', 'and the state is not the worse for it');

# overwritten by another file, and made anew
write_file("$root/d5/7.txt", 'the new one');
make_path("$root/no_action");
rename("$root/d5/7.txt", "$root/no_action/7.txt") or die "rename: $!";
delete $kept{'no_action/7.txt'};
equal_but_for('a file comes back to a row that was kept', %kept);
is(ids_of($node, $id)->{'no_action/7.txt'}, $before->{'no_action/7.txt'},
	'and has the id that is referenced');
rename("$root/d5/8.txt", "$root/told.txt") or die "rename: $!";
equal_but_for('a referenced file is overwritten by another', %kept);
is(ids_of($node, $id)->{'told.txt'}, $before->{'told.txt'},
	'the row that is referenced stays, with the new content');

# while the reference is not committed yet, the worker waits for it
$node->safe_psql($db, "DELETE FROM $_") foreach keys %keys;
mended('references');
my $holder = start_sql($node, $db, 'holder',
	"BEGIN; INSERT INTO no_action SELECT id FROM file_records WHERE file_path = 'told.txt'; SELECT pg_sleep(600);");
wait_for_backend($node, 'holder', "wait_event = 'PgSleep'");
unlink("$root/told.txt") or die "unlink: $!";
write_file("$root/d4/2.txt", 'at the same time');
is( $node->safe_psql($db, "SELECT fsync_wait('$id', timeout => '300 ms')"),
	'f', 'an uncommitted reference: fsync_wait() does not say that all is done');
$node->safe_psql($db,
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
finish_sql($holder);
equal_but_for('an uncommitted reference that was rolled back');

# removing the repository says what is in the way
$node->safe_psql($db,
	"INSERT INTO no_action SELECT id FROM file_records WHERE file_path = 'd4/2.txt'");
my ($rc, $out, $err) = $node->psql($db, "SELECT fsync_remove_repository('$id')");
isnt($rc, 0, 'a repository with referenced files cannot be removed');
like($err, qr/violates foreign key constraint.*no_action/, 'and the error says by whom');
$node->safe_psql($db, 'DELETE FROM no_action');

# ---- an index and a constraint of the user's ----

$node->safe_psql($db, q(
CREATE UNIQUE INDEX one_big ON file_records (file_size) WHERE file_size > 100000;
ALTER TABLE file_records ADD CONSTRAINT small CHECK (file_size < 1000000);
));
write_file("$root/big 1", 'x' x 200_000);
write_file("$root/big 2", 'y' x 200_000);
write_file("$root/too big", 'z' x 1_000_000);
write_file("$root/d4/3.txt", 'at the same time');
wait_ok($node, $id, 'constraints of users');
is( $node->safe_psql($db, 'SELECT count(*), min(problem), max(problem) FROM fsync_problems'),
	'2|rejected by the database|rejected by the database',
	'constraints of users: what they refuse is a problem');
is($node->safe_psql($db, "SELECT file_size FROM file_records WHERE file_path = 'd4/3.txt'"),
	'16', 'constraints of users: all others are applied');
$node->safe_psql($db, 'DROP INDEX one_big; ALTER TABLE file_records DROP CONSTRAINT small');
mended('constraints of users');

is(worker_pid($node, $db), $worker, 'all that by the same worker');
all_is_well($node, $id, $root, 'in the end', $position);
$node->stop;
done_testing();
