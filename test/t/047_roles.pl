#
# From a grant to a superuser.  Each of these attacks is one of an ordinary role
# that was granted something on one table: its code is run by PostgreSQL, by the
# worker or by a function, and tries to become superuser, or to have another
# directory watched.  It must find itself to be a role that can do nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', conf => "max_connections = 80\n");
my $superuser = $node->safe_psql($db, 'SELECT current_user');
my $root = new_root('photos');

sub sql
{
	return $node->safe_psql($db, join(";\n", "SET statement_timeout = '40 s'", @_));
}

# As a role that is connected itself, not by SET ROLE: exit code, output, error.
sub as
{
	my ($role, $statements, $database) = @_;

	return $node->psql($database // $db, $statements,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);
}

sub may
{
	my ($role, $statements, $name) = @_;
	my ($rc, $out, $err) = as($role, $statements);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rc, 0, $name // "$role may: $statements") or diag($err);
	return $out;
}

sub state_is
{
	my ($id, $state, $reason, $name) = @_;
	my $query = "SELECT state || '|' || coalesce(reason, '') || '|' || coalesce(hint, '') FROM fsync_status('$id')";

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { $node->safe_psql($db, $query) =~ /^\Q$state\E\|.*$reason/s }, $name)
	  or diag($node->safe_psql($db, $query));
}

# What is granted, all in a schema of mallory's.
sql(q(CREATE ROLE mallory LOGIN), q(CREATE SCHEMA m AUTHORIZATION mallory));
may('mallory', q(
GRANT USAGE ON SCHEMA m TO PUBLIC;
CREATE TABLE m.ran (who text, how text);
GRANT ALL ON m.ran TO PUBLIC;
CREATE FUNCTION m.payload(how text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	statement text;
BEGIN
	INSERT INTO m.ran VALUES (current_user, how);
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
		EXECUTE 'ALTER ROLE mallory SUPERUSER';
	END IF;
	-- what runs as the owner of the tables cannot change them, but for rows
	FOREACH statement IN ARRAY ARRAY['GRANT ALL ON public.file_records TO mallory',
		'ALTER TABLE public.file_records ADD COLUMN mine int', 'DROP INDEX public.file_records_missing_idx',
		'ALTER TABLE public.fsync_repositories DISABLE TRIGGER ALL',
		'CREATE POLICY p ON public.file_records USING (m.payload(''policy'') IS NULL)',
		'CREATE RULE "_RETURN" AS ON SELECT TO public.fsync_problems DO INSTEAD SELECT 1',
		'COMMENT ON TABLE public.file_records IS ''mine''', 'CREATE TABLE public.mine ()']
	LOOP
		CONTINUE WHEN current_user <> 'fsync_owner';
		BEGIN
			EXECUTE statement;
			INSERT INTO m.ran VALUES ('anybody', statement);
		EXCEPTION WHEN insufficient_privilege THEN
			CONTINUE;
		END;
	END LOOP;
	FOREACH statement IN ARRAY ARRAY['SET ROLE ' || quote_ident(session_user), 'RESET ROLE',
		'SET SESSION AUTHORIZATION DEFAULT']
	LOOP
		BEGIN
			EXECUTE statement;
		EXCEPTION WHEN OTHERS THEN
			CONTINUE;
		END;
		IF session_user <> 'mallory' AND current_user NOT IN ('mallory', 'fsync_owner') THEN
			EXECUTE 'ALTER ROLE mallory SUPERUSER';
		END IF;
	END LOOP;
EXCEPTION WHEN insufficient_privilege OR object_not_in_prerequisite_state THEN
	NULL;
END $$;
CREATE FUNCTION m.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM m.payload(tg_table_name || ' ' || tg_name);
	RETURN CASE WHEN tg_op = 'DELETE' THEN old ELSE new END;
END $$;
));

# Nobody but those two ever ran it, mallory is what he was, and it did run.
sub held
{
	my ($name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($db, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"),
		'f', "$name: mallory is no superuser");
	is( $node->safe_psql($db, "SELECT string_agg(DISTINCT who || ' ' || how, ', ') FROM m.ran WHERE who NOT IN ('mallory', 'fsync_owner')"),
		'', "$name: his code was run by nobody who can do anything");
	is($node->safe_psql($db, "SELECT count(*) > 0 FROM m.ran"), 't', "$name: it was run")
	  unless $opt{quiet};
	$node->safe_psql($db, 'ALTER ROLE mallory NOSUPERUSER; DELETE FROM m.ran');
}

write_file("$root/f$_", "content $_") foreach 1 .. 40;
my $id = add_repository($node, $root, args => 'change_feed => true');
wait_equal($node, $id, $root, 'a repository');

# ---- the owner ----

my $ours = q(SELECT c.oid::regclass FROM pg_class c
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'fsync');
is( sql("$ours WHERE relkind IN ('r', 'S') AND relowner <> 'fsync_owner'::regrole"),
	'fsync_private.registrations', 'the role fsync_owner owns all tables and sequences but the private one');
is( sql(q(SELECT rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
	FROM pg_roles WHERE rolname = 'fsync_owner')), 'f', 'and has no attribute');
is( sql(q(SELECT count(*) FROM pg_auth_members WHERE 'fsync_owner'::regrole IN (roleid, member))),
	'0', 'nor members, nor memberships');

# ---- a cast of his own type, in the check of a foreign key ----

# Every key of every table of ours that can be referenced, with columns of a
# type of mallory's that is cast to the one that is meant.
my @keys = split /\n/, sql("SELECT i.indrelid::regclass || ' ' || (SELECT string_agg(a.attname || ':' || format_type(a.atttypid, NULL), ',' ORDER BY k.n)
	FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum)
FROM pg_index i WHERE i.indisunique AND i.indexprs IS NULL AND i.indrelid IN ($ours AND relkind = 'r' AND relname <> 'registrations')");
cmp_ok(scalar @keys, '>=', 8, 'keys of our tables are found');
sql("SELECT fsync_create_consumer('x', '$id', from_start => true)", "SELECT count(*) FROM fsync_next_changes('x', 5)");
$node->safe_psql($db, "SELECT count(*) FROM fsync_verify('$id')");
append_file("$root/f40", 'more');
wait_ok($node, $id, 'a change for the feed');
may('mallory', "CREATE TABLE m.key (column_name text, value text);
CREATE FUNCTION m.value(what text) RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM m.payload(what);
	RETURN (SELECT value FROM m.key WHERE column_name = what);
END \$\$;
GRANT ALL ON m.key TO PUBLIC");

# A type for each column: the cast gives the value that is in the table.
my $n = 0;
foreach my $key (@keys)
{
	my ($table, $columns) = split / /, $key;
	my @columns = map { [ split /:/ ] } split /,/, $columns;

	$n++;
	sql("GRANT REFERENCES ON $table TO mallory",
		'DELETE FROM m.key',
		map { "INSERT INTO m.key SELECT '$_->[0]', (SELECT $_->[0] FROM $table ORDER BY $columns[0][0] LIMIT 1)" } @columns);
	foreach my $column (@columns)
	{
		may('mallory', "CREATE TYPE m.e${n}_$column->[0] AS ENUM ('a');
CREATE FUNCTION m.c${n}_$column->[0](m.e${n}_$column->[0]) RETURNS $column->[1] LANGUAGE plpgsql AS
	\$\$ BEGIN RETURN m.value('$column->[0]'); END \$\$;
CREATE CAST (m.e${n}_$column->[0] AS $column->[1]) WITH FUNCTION m.c${n}_$column->[0](m.e${n}_$column->[0]) AS IMPLICIT",
			"a type of his is cast to that of $table.$column->[0]");
	}
	my $reference = "CREATE TABLE m.r (" . join(', ', map { "c_$_->[0] m.e${n}_$_->[0]" } @columns)
	  . ", FOREIGN KEY (" . join(', ', map { "c_$_->[0]" } @columns)
	  . ") REFERENCES $table (" . join(', ', map { $_->[0] } @columns) . "));
INSERT INTO m.r VALUES (" . join(', ', map { "'a'" } @columns) . '); DROP TABLE m.r';

	# From 18 on a key of a type without collations cannot refer to text.
	if ($columns =~ /:text/ && server_version() >= 18)
	{
		my ($rc, $out, $err) = as('mallory', $reference);

		isnt($rc, 0, "mallory cannot reference $key");
	}
	else
	{
		may('mallory', $reference, "mallory references $key");
		held("a cast in a reference to $key");
	}
	sql("REVOKE ALL ON $table FROM mallory");
}

# ---- triggers behind ON DELETE CASCADE ----

foreach my $kind ('TRIGGER t AFTER DELETE ON m.r', 'TRIGGER t BEFORE DELETE ON m.r',
	'CONSTRAINT TRIGGER t AFTER DELETE ON m.r',
	'CONSTRAINT TRIGGER t AFTER DELETE ON m.r DEFERRABLE INITIALLY DEFERRED')
{
	sql('GRANT SELECT, REFERENCES ON file_records TO mallory');
	may('mallory', "DROP TABLE IF EXISTS m.r;
CREATE TABLE m.r (id bigint REFERENCES file_records ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO m.r SELECT id FROM file_records;
CREATE $kind FOR EACH ROW EXECUTE FUNCTION m.fire()", "mallory's table, with a $kind");
	unlink("$root/f1", "$root/f2");
	wait_ok($node, $id, "$kind: files removed");
	held("$kind, files removed under watch");
	sql("SELECT fsync_pause('$id')");
	unlink("$root/f3");
	sql("SELECT fsync_resume('$id')");
	wait_ok($node, $id, "$kind: removed in a pause");
	held("$kind, a file removed while it was paused");
	sql("SELECT fsync_configure_repository('$id', exclude => '{f4}')");
	wait_ok($node, $id, "$kind: excluded");
	held("$kind, a file excluded");
	sql('BEGIN', "SELECT fsync_remove_repository('$id')", 'SELECT 1', 'COMMIT');
	held("$kind, fsync_remove_repository() by a superuser");
	write_file("$root/f$_", "content $_") foreach 1 .. 4;
	$id = add_repository($node, $root, args => 'change_feed => true');
	wait_equal($node, $id, $root, "$kind: added again");
}
may('mallory', 'DROP TABLE m.r');

# ---- triggers on each table of ours ----

my @tables = split /\n/, sql("$ours WHERE relkind = 'r' AND relname <> 'registrations'");
foreach my $timing ('TRIGGER early BEFORE INSERT OR UPDATE OR DELETE',
	'TRIGGER late AFTER INSERT OR UPDATE OR DELETE',
	'CONSTRAINT TRIGGER deferred AFTER INSERT OR UPDATE OR DELETE')
{
	my $deferred = $timing =~ /CONSTRAINT/ ? 'DEFERRABLE INITIALLY DEFERRED' : '';

	foreach my $table (@tables)
	{
		sql("GRANT TRIGGER ON $table TO mallory");
		may('mallory', "CREATE $timing ON $table $deferred FOR EACH ROW EXECUTE FUNCTION m.fire()");
		sql("REVOKE ALL ON $table FROM mallory");
	}
	write_file("$root/new", 'x');
	unlink("$root/f9");
	rename("$root/f10", "$root/f11");
	chmod 0, "$root/f12";
	wait_ok($node, $id, "$timing: changes");
	# what a superuser calls; where a deferred trigger may not wait, it fails
	foreach my $call ("fsync_configure_repository('$id', exclude => '{*.tmp}')",
		"fsync_pause('$id')", "fsync_resume('$id')", "status FROM fsync_reconcile('$id')",
		"status FROM fsync_verify('$id')", "fsync_create_consumer('c', '$id', from_start => true)",
		"change_id FROM fsync_next_changes('c')", "fsync_ack('c', '{-1,-2,-3,-4,1,2,3,4,5}')",
		"fsync_drop_consumer('c')", "fsync_add_repository('" . new_root("x$timing") . "')",
		"fsync_remove_repository('$id')")
	{
		my ($rc, undef, $err) = $node->psql($db, "BEGIN; SELECT $call; COMMIT",
			extra_params => [ '-v', 'VERBOSITY=verbose' ]);

		ok($rc == 0 || $err =~ /42501: cannot fire deferred trigger|does not exist/,
			"$timing: $call") or diag($err);
	}
	held($timing);
	chmod 0644, "$root/f12";
	foreach my $table (@tables)
	{
		my ($name) = $timing =~ /TRIGGER (\w+)/;

		sql("DROP TRIGGER $name ON $table");
	}
	write_file("$root/f$_", "again $_") foreach 1 .. 12;
	sql("SELECT fsync_remove_repository(repository_id) FROM fsync_repositories");
	$id = add_repository($node, $root, args => 'change_feed => true');
	wait_equal($node, $id, $root, "$timing: afterwards");
}

# Our own trigger functions, on a table of somebody who was granted all functions.
sql('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO mallory');
foreach my $function (qw(fsync_repositories_guard fsync_repositories_cleared fsync_repositories_changed fsync_registrations_guard))
{
	my ($rc, undef, $err) = as('mallory', "CREATE TABLE m.own (repository_id uuid, x int);
CREATE TRIGGER t AFTER DELETE ON m.own FOR EACH ROW EXECUTE FUNCTION $function();
INSERT INTO m.own VALUES ('$id'); DELETE FROM m.own");

	isnt($rc, 0, "$function() does nothing for a table of his");
	may('mallory', 'DROP TABLE IF EXISTS m.own');
}
is(sql("SELECT count(*) > 10 FROM file_records WHERE repository_id = '$id'"), 't', 'and the rows are there');
sql('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM mallory');

# ---- another directory ----

my $secret = $node->data_dir . '/global';
my $before = $node->safe_psql($db, 'SELECT md5(string_agg(file_path, chr(10) ORDER BY file_path)) FROM file_records');
my $tree = tree_pid($node, $id);

sub nothing_else_is_watched
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql("SELECT count(*) FROM file_records WHERE file_path ~ 'pg_control|pg_filenode'"), '0',
		"$name: no row of the data directory");
}

sql('GRANT SELECT, INSERT, UPDATE, DELETE ON fsync_repositories TO mallory');
may('mallory', "UPDATE fsync_repositories SET exclude = '{*}' WHERE repository_id = '$id'");
wait_ok($node, $id, 'all is excluded');
may('mallory', "UPDATE fsync_repositories SET watch_root = '$secret', exclude = NULL,
	root_identity = NULL, mounts = NULL, last_complete_generation = 0 WHERE repository_id = '$id'");
state_is($id, 'degraded', 'watch_root was changed.*fsync_activate_repository', 'watch_root was changed: degraded, with a hint');
wait_until(sub { process_is_gone($tree) }, 'and nothing is watched');
nothing_else_is_watched('UPDATE of watch_root');
my ($rc, $out, $err) = $node->psql($db, "SELECT fsync_why('$id', 'pg_control')");
like($err, qr/is not active/, 'fsync_why() does not look there');
($rc, $out, $err) = as('mallory', "SELECT fsync_activate_repository('$id')");
like($err, qr/permission denied/, 'mallory cannot register it');
may('mallory', "UPDATE fsync_repositories SET watch_root = '$root' WHERE repository_id = '$id'");
wait_for_state($node, $id, 'watching', 'set back, it is watched');
wait_equal($node, $id, $root, 'set back');

# the path as it was given
may('mallory', "UPDATE fsync_repositories SET path = '$secret', user_area = NULL WHERE repository_id = '$id'");
wait_equal($node, $id, $root, 'path was changed, which is not what is watched');
nothing_else_is_watched('UPDATE of path');
may('mallory', "UPDATE fsync_repositories SET path = '$root' WHERE repository_id = '$id'");

# rows made by hand, with and without what guards the table
my @hand = ('11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222');
my $insert = "INSERT INTO fsync_repositories (repository_id, path, watch_root, active, database_oid, state)
SELECT '%s', '$secret%s', '$secret%s', true, oid, 'watching' FROM pg_database WHERE datname = current_database()";
may('mallory', sprintf($insert, $hand[0], '', ''), 'a row for another directory');
sql('ALTER TABLE fsync_repositories DISABLE TRIGGER ALL');
may('mallory', sprintf($insert, $hand[1], '/.', '/.'), 'another, where the trigger is disabled');
may('mallory', "UPDATE fsync_repositories SET active = true WHERE repository_id = '$hand[0]'");
sql('ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER fsync_guard',
	map { "ALTER TABLE fsync_repositories ENABLE ALWAYS TRIGGER $_" } qw(fsync_cleared fsync_truncated fsync_changed));
may('mallory', "UPDATE fsync_repositories SET paused = false");
wait_equal($node, $id, $root, 'beside these');
foreach my $hand (@hand)
{
	is(status_of($node, $hand, 'state'), 'inactive', 'a row that is active but was not registered: inactive');
	is(status_of($node, $hand, 'tree_pid'), '', 'and not watched');
}
nothing_else_is_watched('INSERT');
may('mallory', "DELETE FROM fsync_repositories WHERE repository_id IN ('$hand[0]', '$hand[1]')");

# a row that is saved, removed and inserted again: not watched, nor said to be
sql("CREATE TABLE saved AS SELECT * FROM fsync_repositories WHERE repository_id = '$id'",
	'GRANT ALL ON saved TO mallory');
may('mallory', "BEGIN; DELETE FROM fsync_repositories WHERE repository_id = '$id';
INSERT INTO fsync_repositories SELECT * FROM saved; UPDATE fsync_repositories SET active = true; COMMIT");
is(status_of($node, $id, 'state'), 'inactive', 'a saved row, inserted again, is inactive at once')
  foreach 1 .. 20;
sql("SELECT fsync_activate_repository('$id')");
wait_equal($node, $id, $root, 'activated by a superuser');

# ---- what is private ----

sql('GRANT ALL ON ALL TABLES IN SCHEMA public TO mallory', 'GRANT ALL ON SCHEMA public TO mallory');
($rc, $out, $err) = as('mallory', 'SELECT * FROM fsync_private.registrations');
like($err, qr/42501: permission denied/, 'GRANT ON ALL TABLES does not reach what is private');
($rc, $out, $err) = as('mallory', 'CREATE TABLE m.p (x uuid REFERENCES fsync_private.registrations)');
like($err, qr/42501: permission denied/, 'nor may it be referenced');
($rc, $out, $err) = $node->psql($db, "UPDATE fsync_private.registrations SET watch_root = '$secret'");
like($err, qr/fsync_add_repository\(\).*alone/, 'no statement writes it, not even a superuser\'s');
sql(qq(SET session_replication_role = replica;
	INSERT INTO fsync_private.registrations VALUES (gen_random_uuid(), '$secret', '$secret', 'x', 5, 1, now())));
is(sql('SELECT count(*) FROM fsync_private.registrations'), '1', 'and what replication brings is left out');
foreach my $grant ('SELECT', 'REFERENCES', 'UPDATE (watch_root)', 'TRIGGER')
{
	sql("GRANT $grant ON fsync_private.registrations TO mallory");
	state_is($id, 'degraded', 'were granted', "$grant granted on it: degraded");
	sql("REVOKE ALL ON fsync_private.registrations FROM mallory",
		'REVOKE UPDATE (watch_root) ON fsync_private.registrations FROM mallory');
	wait_for_state($node, $id, 'watching', 'revoked: watched again');
}
sql('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM mallory', 'REVOKE ALL ON SCHEMA public FROM mallory');

# a copy of the database
sql('CREATE DATABASE copy TEMPLATE postgres');
$node->safe_psql('copy', 'UPDATE fsync_repositories SET active = true,
	database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())');
is( $node->safe_psql('copy', "SELECT state FROM fsync_status()"), 'inactive',
	'the repositories of a copy are inactive, whatever its table says');
is($node->safe_psql('copy', "SELECT count(tree_pid) FROM fsync_status()"), '0', 'and nothing is watched');
sql('DROP DATABASE copy');

# ---- another owner ----

sub mended
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_state($node, $id, 'watching', "$name: mended, it is watched");
	wait_equal($node, $id, $root, "$name: mended");
}

wait_for_state($node, $id, 'watching', 'before');
foreach my $case (
	[ 'REASSIGN OWNED', qq(REASSIGN OWNED BY fsync_owner TO "$superuser"), qr/belongs to role "\Q$superuser\E"/ ],
	[ 'one table given away', "ALTER TABLE sync_operations OWNER TO mallory", qr/"sync_operations" belongs to role "mallory"/ ],
	[ 'SUPERUSER', 'ALTER ROLE fsync_owner SUPERUSER', qr/it is a superuser/ ],
	[ 'LOGIN', 'ALTER ROLE fsync_owner LOGIN', qr/it can log in/ ],
	[ 'CREATEROLE', 'ALTER ROLE fsync_owner CREATEROLE', qr/it can create roles/ ],
	[ 'BYPASSRLS', 'ALTER ROLE fsync_owner BYPASSRLS', qr/bypasses/ ],
	[ 'a membership', 'GRANT pg_read_server_files TO fsync_owner', qr/is a member of another role/ ])
{
	my ($name, $statement, $reason) = @$case;

	sql($statement);
	state_is($id, 'degraded', $reason, "$name: degraded, and says why");
	write_file("$root/$name", 'x');
	foreach my $call ("fsync_wait('$id', timeout => '5 s')", "fsync_remove_repository('$id')",
		"fsync_pause('$id')", "* FROM fsync_reconcile('$id')")
	{
		($rc, $out, $err) = $node->psql($db, "SELECT $call");
		isnt($rc, 0, "$name: $call refuses");
		like($err, $reason, 'and says why');
	}
	is(sql("SELECT count(*) FROM file_records WHERE file_path = '$name'"), '0', "$name: nothing is written");
	sql((map { "ALTER TABLE $_ OWNER TO fsync_owner" } @tables),
		'ALTER ROLE fsync_owner NOSUPERUSER NOLOGIN NOCREATEROLE NOBYPASSRLS',
		'REVOKE pg_read_server_files FROM fsync_owner');
	# REASSIGN OWNED gave away nothing else, as there is nothing
	mended($name);
}

sql('GRANT fsync_owner TO mallory');
mended('a member of the owner');
sql('REVOKE fsync_owner FROM mallory');

foreach my $statement ('DROP ROLE fsync_owner', 'DROP OWNED BY fsync_owner', 'DROP OWNED BY fsync_owner CASCADE')
{
	($rc, $out, $err) = $node->psql($db, $statement);
	isnt($rc, 0, "$statement is refused");
}

# ---- a trigger that may not write what it wants to ----

sql('CREATE TABLE album (path text)',
	q(CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO public.album VALUES (new.file_path); RETURN new; END $$),
	"CREATE TRIGGER note BEFORE INSERT ON file_records FOR EACH ROW WHEN (new.file_path LIKE 'noted%') EXECUTE FUNCTION note()");
write_file("$root/noted", 'x');
write_file("$root/unnoted $_", 'x') foreach 1 .. 10;
wait_ok($node, $id, 'a trigger that writes an application\'s table');
is(sql('SELECT file_path || problem || message FROM fsync_problems'),
	'notedrejected by the databasepermission denied for table album', 'one problem, which says why');
is(sql("SELECT count(*) FROM file_records WHERE file_path LIKE 'unnoted%'"), '10', 'the others go on');
is(status_of($node, $id, 'state'), 'watching', 'and the state is not the worse for it');
write_file("$root/noted 2", 'x');
wait_ok($node, $id, 'alone in its message');
is(status_of($node, $id, 'state'), 'watching', 'the same for a file that is alone');
sql('ALTER FUNCTION note() SECURITY DEFINER');
sql("SELECT fsync_reconcile('$id')");
wait_equal($node, $id, $root, 'as SECURITY DEFINER it works');
is(sql('SELECT count(*) FROM fsync_problems'), '0', 'and there is no problem left');
sql('DROP TRIGGER note ON file_records');

# The owner's own rights are not a row's trouble.
foreach my $case ([ 'REVOKE INSERT ON file_records FROM fsync_owner', 'GRANT INSERT ON file_records TO fsync_owner' ],
	[ 'ALTER TABLE file_records ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
		'ALTER TABLE file_records DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY' ])
{
	sql($case->[0]);
	write_file("$root/$case->[0]", 'x');
	state_is($id, 'degraded', 'has not all rights|row-level', "$case->[0]: degraded");
	is(sql('SELECT count(*) FROM fsync_problems'), '0', 'and no problem of a file');
	sql($case->[1]);
	mended($case->[0]);
}

# ---- an application's references, wherever the schema is ----

sql('CREATE ROLE app LOGIN', 'CREATE SCHEMA app AUTHORIZATION app', 'GRANT SELECT, REFERENCES ON file_records TO app');
may('app', 'CREATE TABLE app.rating (id bigint REFERENCES file_records ON DELETE CASCADE);
INSERT INTO app.rating SELECT min(id) FROM file_records', 'an application references files');
$node->safe_psql($db, 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE SCHEMA fs; REVOKE ALL ON SCHEMA fs FROM PUBLIC; CREATE EXTENSION fsync SCHEMA fs');
my $second = new_root('second');
write_file("$second/1", 'x');
my $second_id = $node->safe_psql('other', "SELECT fs.fsync_add_repository('$second')");
is($node->safe_psql('other', 'SELECT fs.fsync_wait()'), 't', 'a second database shares the role');
$node->safe_psql('other', 'ALTER SCHEMA fs RENAME TO fs2; CREATE SCHEMA app AUTHORIZATION app;
GRANT USAGE ON SCHEMA fs2 TO app; GRANT SELECT, REFERENCES ON fs2.file_records TO app');
($rc, $out, $err) = as('app', 'CREATE TABLE app.rating (id bigint REFERENCES fs2.file_records);
INSERT INTO app.rating SELECT id FROM fs2.file_records', 'other');
is($rc, 0, 'references can be inserted after ALTER SCHEMA RENAME') or diag($err);
$node->safe_psql('other', 'REVOKE ALL ON SCHEMA fs2 FROM fsync_owner');
($rc, $out, $err) = $node->psql('other', 'SELECT fs2.fsync_wait()');
like($err, qr/has no right to use schema fs2.*GRANT USAGE ON SCHEMA fs2 TO fsync_owner/s,
	'without USAGE it says what to do');
$node->safe_psql('other', 'GRANT USAGE ON SCHEMA fs2 TO fsync_owner');
$node->safe_psql('other', 'DROP TABLE app.rating; DROP EXTENSION fsync');
is(sql("SELECT count(*) FROM pg_roles WHERE rolname = 'fsync_owner'"), '1', 'DROP EXTENSION leaves the role');
is($node->safe_psql('other', "SELECT count(*) FROM pg_namespace WHERE nspname = 'fsync_private'"), '0', 'and nothing else');

# ---- a role of that name that is not fit ----

foreach my $case (
	[ 'ALTER ROLE fsync_owner LOGIN', 'ALTER ROLE fsync_owner NOLOGIN', qr/it can log in/ ],
	[ 'ALTER ROLE fsync_owner CREATEDB', 'ALTER ROLE fsync_owner NOCREATEDB', qr/create databases/ ],
	[ 'ALTER ROLE fsync_owner SUPERUSER', 'ALTER ROLE fsync_owner NOSUPERUSER', qr/is a superuser/ ],
	[ 'GRANT fsync_owner TO mallory', 'REVOKE fsync_owner FROM mallory', qr/are members of it/ ],
	[ 'GRANT pg_monitor TO fsync_owner', 'REVOKE pg_monitor FROM fsync_owner', qr/member of another role/ ],
	[ 'CREATE TABLE t (); ALTER TABLE t OWNER TO fsync_owner', 'DROP TABLE t', qr/it owns other things/ ],
	[ 'ALTER DATABASE other OWNER TO fsync_owner', qq(ALTER DATABASE other OWNER TO "$superuser"), qr/it owns other things/ ])
{
	$node->safe_psql('other', $case->[0]);
	($rc, $out, $err) = $node->psql('other', 'CREATE EXTENSION fsync');
	isnt($rc, 0, "$case->[0]: CREATE EXTENSION refuses");
	like($err, $case->[2], 'and says why');
	$node->safe_psql('other', $case->[1]);
}
$node->safe_psql('other', 'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mallory;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO mallory; CREATE EXTENSION fsync');
is( $node->safe_psql('other', "SELECT has_table_privilege('mallory', 'fsync_private.registrations', 'SELECT, UPDATE, REFERENCES')
	OR has_schema_privilege('mallory', 'fsync_private', 'USAGE, CREATE')"), 'f',
	'default privileges do not reach what is private');
is($node->safe_psql('other', "SELECT count(*) FROM fsync_status()"), '0', 'and all is well there');
mended('in the first database, all is well');

# ---- whoever may create databases stops no worker ----

sql('CREATE ROLE creator LOGIN CREATEDB');
my $worker = worker_pid($node, $db);
foreach my $statement ('CREATE DATABASE x TEMPLATE postgres', 'CREATE DATABASE other TEMPLATE postgres',
	'DROP DATABASE postgres', 'ALTER DATABASE postgres RENAME TO x',
	'ALTER DATABASE postgres SET TABLESPACE pg_default')
{
	($rc, $out, $err) = as('creator', $statement, 'other');
	isnt($rc, 0, "creator may not: $statement");
	like($err, qr/42501/, 'for lack of a right') if $statement !~ /DATABASE other/;
	is(worker_pid($node, $db), $worker, 'and the worker goes on');
}
($rc, $out, $err) = $node->psql('other', 'CREATE DATABASE other TEMPLATE postgres');
like($err, qr/already exists/, 'a database that exists is not made');
is(worker_pid($node, $db), $worker, 'and no worker is stopped for it');

# ---- limits ----

sub limited
{
	my ($statement, $error, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	($rc, $out, $err) = $node->psql($db, $statement, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, $error, $name);
}
my $many = "(SELECT array_agg('*.' || i) FROM generate_series(1, %d) i)";
limited("SELECT fsync_configure_repository('$id', exclude => " . sprintf($many, 10_001) . ')',
	qr/54000: too many patterns/, '10,001 patterns are too many');
limited("SELECT fsync_configure_repository('$id', exclude => " . sprintf($many, 6000) . ', include => '
	  . sprintf($many, 6000) . ')', qr/54000: too many patterns/, 'also together');
limited("UPDATE fsync_repositories SET exclude = " . sprintf($many, 10_001),
	qr/54000: too many patterns/, 'also by UPDATE');
limited("SELECT fsync_configure_repository('$id', exclude => (SELECT array_agg(i || repeat('x', 250)) FROM generate_series(1, 5000) i))",
	qr/54000: the patterns in include and exclude are too long/, 'more than 1 MiB is too long');
is(sql("SELECT fsync_configure_repository('$id', exclude => " . sprintf($many, 10_000) . ')'), '',
	'10,000 are possible');
wait_ok($node, $id, 'with them');
sql("SELECT fsync_configure_repository('$id', exclude => '{}')");
limited("SELECT fsync_add_repository('/' || repeat('x', $_))", qr/42622: path is too long/, "a path of $_ bytes and one")
  foreach 4095, 9_000_000;
limited("SELECT fsync_add_repository('/' || repeat('x', 3000), user_area => repeat('y', 1095))",
	qr/42622: path is too long/, 'path and user_area together');
limited("SELECT * FROM fsync_why('$id', repeat('x', 9000000))", qr/42622: path is too long/, 'a path for fsync_why()');

# one role's sessions do not take all places
sql('GRANT EXECUTE ON FUNCTION fsync_wait TO app');
$tree = tree_pid($node, $id);
kill STOP => $tree;
my @waiters = map {
	start_sql($node, $db, "waiter $_", "SET SESSION AUTHORIZATION app; SELECT fsync_wait('$id', timeout => '10 min')")
} 1 .. 32;
wait_until(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'waiter%' AND wait_event_type = 'Extension'") eq '32' },
	'32 sessions of a role wait');
($rc, $out, $err) = as('app', "SELECT fsync_wait('$id', timeout => '1 s')");
like($err, qr/53400: too many sessions of this role/, 'the next is refused');
is(sql("SELECT fsync_wait('$id', timeout => '300 ms')"), 'f', 'other roles can wait');
kill CONT => $tree;
finish_sql($_) foreach @waiters;

wait_equal($node, $id, $root, 'in the end');
$node->stop;
done_testing();
