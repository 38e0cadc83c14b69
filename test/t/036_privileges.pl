#
# Who may do what.  An ordinary role can call nothing and read nothing; it can
# neither register a path nor learn that a file exists; and nothing that it can
# make in a database is run by the worker, or by a function of ours, as somebody
# else.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', extension => 0);
my $root = new_root('photos');

# As a role that is no superuser; and with rights to create where it likes, as
# databases of before PostgreSQL 15 gave them.
$node->safe_psql($db, q(
CREATE ROLE mallory LOGIN;
CREATE ROLE reader LOGIN;
CREATE ROLE registrar LOGIN;
GRANT pg_read_server_files TO registrar;
GRANT ALL ON SCHEMA public TO mallory, reader, registrar;
GRANT TEMPORARY ON DATABASE postgres TO mallory;
));
my $superuser = $node->safe_psql($db, 'SELECT current_user');

# SQL as a role: exit code, output, error.
sub as
{
	my ($role, $sql) = @_;

	return $node->psql($db, "SET SESSION AUTHORIZATION $role; $sql",
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
}

sub denied
{
	my ($role, $sql, $name) = @_;
	my ($rc, $out, $err) = as($role, $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($err, qr/ERROR:  42501: permission denied/, $name // "$role may not: $sql")
	  or diag($out);
	return $err;
}

sub allowed
{
	my ($role, $sql, $name) = @_;
	my ($rc, $out, $err) = as($role, $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rc, 0, $name // "$role may: $sql") or diag($err);
	return $out;
}

# ---- before the extension is there: what waits for it in its schema ----

# Objects that our SQL could mistake for the ones it means, were its names not
# qualified: as good as the real ones, or better, for the parser.
allowed('mallory', q(
CREATE TABLE public.pwned (who text, how text);
GRANT ALL ON public.pwned TO PUBLIC;
CREATE FUNCTION public.note(how text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'mallory' THEN
		INSERT INTO public.pwned VALUES (current_user, how);
	END IF;
END $$;
CREATE FUNCTION public.same(a uuid, b uuid) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('uuid ='); RETURN a OPERATOR(pg_catalog.=) b; END $$;
CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.same);
CREATE FUNCTION public.same(a text, b text) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('text ='); RETURN a OPERATOR(pg_catalog.=) b; END $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
CREATE FUNCTION public.append(a text, b bigint) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('||'); RETURN a OPERATOR(pg_catalog.||) b::text; END $$;
CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = public.append);
CREATE FUNCTION public.greater(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('>'); RETURN a OPERATOR(pg_catalog.>) b; END $$;
CREATE FUNCTION public.sha256(a bytea) RETURNS bytea LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('sha256'); RETURN pg_catalog.sha256(a); END $$;
CREATE FUNCTION public.gen_random_uuid() RETURNS uuid LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('uuid'); RETURN pg_catalog.gen_random_uuid(); END $$;
CREATE FUNCTION public.unnest(a text[]) RETURNS SETOF text LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('unnest'); RETURN QUERY SELECT pg_catalog.unnest(a); END $$;
CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('now'); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION public.count() RETURNS bigint LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.note('count'); RETURN 0; END $$;
), 'a role makes functions and operators in public');

# A superuser's session, whose search_path is as careless as can be.
$node->safe_psql($db, 'SET search_path = public, pg_catalog; CREATE EXTENSION fsync SCHEMA public');
is($node->safe_psql($db, 'SELECT * FROM pwned'), '', 'CREATE EXTENSION runs none of them');

foreach my $d (1 .. 3)
{
	mkdir "$root/d$d" or die "mkdir: $!";
	write_file("$root/d$d/$_", "$d/$_") foreach 1 .. 10;
}
my $id = $node->safe_psql($db,
	"SET search_path = public, pg_catalog; SELECT fsync_add_repository("
	  . sql_path($root) . ', change_feed => true)');
wait_equal($node, $id, $root, 'a repository of a superuser');
wait_for_state($node, $id, 'watching', 'is watched');

# What the worker and the functions do in a day: rows of all kinds, exchanged
# names, problems, history.
sub a_day
{
	write_file("$root/d1/new", 'x');
	append_file("$root/d1/1", 'x');
	unlink("$root/d1/2");
	rename("$root/d2/1", "$root/d2/x");
	rename("$root/d2/2", "$root/d2/1");
	rename("$root/d2/x", "$root/d2/2");
	mkdir "$root/bad\xFFname";
	write_file("$root/bad\xFFname/file", 'x');
	$node->safe_psql($db, qq(
SET search_path = public, pg_catalog;
SELECT fsync_wait('$id');
SELECT * FROM fsync_reconcile('$id');
SELECT * FROM fsync_status();
SELECT * FROM fsync_sync_history('$id');
CALL fsync_reconcile_all();
SELECT * FROM fsync_files;
SELECT * FROM fsync_consumers;
SELECT fsync_create_consumer('day', '$id', from_start => true);
SELECT fsync_ack('day', ARRAY[change_id]) FROM fsync_next_changes('day');
SELECT fsync_drop_consumer('day');
));
	unlink("$root/bad\xFFname/file");
	rmdir "$root/bad\xFFname";
	write_file("$root/d1/2", 'again');
	wait_ok($node, $id, 'a day');
}

a_day();
is($node->safe_psql($db, 'SELECT * FROM pwned'), '',
	'neither the worker nor a function runs what is in public');

# ---- an ordinary role ----

my $functions = $node->safe_psql($db, q(
SELECT format('%s %I.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END,
	n.nspname, p.proname,
	(SELECT string_agg('NULL::' || format_type(t, NULL), ', ' ORDER BY o)
	 FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, o)))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refobjid = e.oid AND e.extname = 'fsync'
WHERE p.prorettype <> 'trigger'::regtype
));
my @functions = split /\n/, $functions;

# Those that read as their caller look at the rights after their arguments.
s/NULL::uuid/gen_random_uuid()/g, s/NULL::timestamp with time zone/now()/g, s/NULL::integer/1/g
  foreach grep { /fsync_(?:feed_since|files_at|diff|uncopied|missing_copies|manifest|manifest_hash)\(/ } @functions;
cmp_ok(scalar(@functions), '>=', 8, 'the functions of the extension are found');
denied('mallory', $_) foreach @functions;
denied('mallory', "SELECT * FROM $_")
  foreach qw(file_records fsync_files fsync_repositories sync_operations fsync_problems fsync_verifications fsync_duplicates
	file_changes fsync_consumers fsync_consumer_positions fsync_consumer_deliveries);
denied('mallory', $_) foreach (
	'INSERT INTO file_records DEFAULT VALUES', 'DELETE FROM file_records',
	'TRUNCATE fsync_repositories', 'SELECT nextval(\'file_records_id_seq\')',
	'CREATE TRIGGER t AFTER INSERT ON file_records EXECUTE FUNCTION note()',
	'CREATE TABLE r (id bigint REFERENCES file_records)',
	'INSERT INTO file_changes DEFAULT VALUES', 'DELETE FROM fsync_consumer_deliveries');

# trigger functions of ours, on a table of its own
foreach my $function (qw(fsync_repositories_guard fsync_repositories_cleared fsync_repositories_changed))
{
	denied('mallory',
		"CREATE TABLE own_$function (repository_id uuid);"
		  . " CREATE TRIGGER t BEFORE DELETE ON own_$function FOR EACH ROW EXECUTE FUNCTION $function()",
		"mallory may not use the trigger function $function()");
}
is( $node->safe_psql($db, q(
SELECT count(*) FROM pg_proc p JOIN pg_depend d
	ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refobjid = e.oid AND e.extname = 'fsync'
WHERE p.prosecdef AND coalesce(p.proconfig::text, '') !~ 'search_path')),
	'0', 'no function of ours is SECURITY DEFINER without a search_path');

# ---- registering: EXECUTE is not enough, and an error tells nothing ----

$node->safe_psql($db, 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO reader, registrar');
my @errors;
foreach my $path ($root, "$root/d1/1", '/no/such/path', $node->data_dir, '/root', '/', 'relative', '')
{
	my $error = denied('reader', "SELECT fsync_add_repository('$path')",
		"without pg_read_server_files \"$path\" cannot be registered");
	$error =~ s/\Q$path\E//g if $path ne '' && $path ne '/';
	push @errors, $error;
}
is(scalar(keys %{ { map { $_ => 1 } @errors } }), 1,
	'and the error is the same for a path that is there and one that is not');
denied('reader', "SELECT fsync_activate_repository('$id')",
	'without pg_read_server_files no repository can be activated');
denied('reader', "SELECT fsync_activate_repository('99999999-9999-4999-8999-999999999999')",
	'which is also said of one that does not exist');
denied('reader',
	"SELECT fsync_add_repository('/no/such/path', include => ARRAY['['])",
	'the right is asked for before anything else');

# ---- reading ----

$node->safe_psql($db, 'GRANT SELECT ON file_records, fsync_files TO reader');
is(allowed('reader', 'SELECT count(*) FROM fsync_files'), '31', 'SELECT suffices to read fsync_files')
  or diag($node->safe_psql($db, 'SELECT file_path FROM file_records'));
is(allowed('reader', "SELECT fsync_wait('$id')"), 't', 'EXECUTE suffices to wait');
is(allowed('reader', "SELECT status FROM fsync_reconcile('$id')"),
	'completed', 'EXECUTE suffices to reconcile');
is(allowed('reader', "SELECT state FROM fsync_status('$id')"),
	'watching', 'EXECUTE suffices for fsync_status()');
denied('reader', $_) foreach (
	'UPDATE file_records SET file_size = 0', 'DELETE FROM file_records',
	'SELECT * FROM fsync_repositories', 'INSERT INTO fsync_repositories DEFAULT VALUES',
	"UPDATE fsync_repositories SET watch_root = '/etc'");

# ---- a registrar, who is no superuser ----

my $second = new_root('second');
write_file("$second/1", 'x');
my $second_id = allowed('registrar', "SELECT fsync_add_repository('$second')",
	'EXECUTE and pg_read_server_files suffice to register');
wait_equal($node, $second_id, $second, 'the repository of a role that is no superuser');
allowed('registrar', "SELECT fsync_remove_repository('$second_id')");

# A row that somebody writes by hand is not watched, whoever may write there.
$node->safe_psql($db, 'GRANT ALL ON fsync_repositories TO registrar');
my $hand = '33333333-3333-4333-8333-333333333333';
allowed('registrar', "INSERT INTO fsync_repositories (repository_id, path, watch_root, active, database_oid)"
	  . " SELECT '$hand', '$second', '$second', true, oid FROM pg_database WHERE datname = current_database()");
is($node->safe_psql($db, "SELECT active FROM fsync_repositories WHERE repository_id = '$hand'"),
	'f', 'a row made by INSERT is inactive');
allowed('registrar', "DELETE FROM fsync_repositories WHERE repository_id = '$hand'");

# ---- objects with our names ----

# A temporary table of a session does not catch what its functions write, nor
# does a schema in front of ours.
$node->safe_psql($db, 'CREATE SCHEMA front AUTHORIZATION reader');
my $out = allowed('reader', qq(
CREATE TEMP TABLE file_records (id bigint, repository_id uuid, file_path text, file_size bigint);
CREATE TEMP TABLE fsync_repositories (repository_id uuid, active boolean, database_oid oid, created_at int);
CREATE TEMP TABLE sync_operations (LIKE public.file_records INCLUDING ALL) ;
CREATE FUNCTION front.count(x bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1';
SET search_path = pg_temp, front, public, pg_catalog;
SELECT total_files FROM public.fsync_status('$id');
SELECT public.fsync_wait('$id');
SELECT status FROM public.fsync_reconcile('$id');
), 'temporary tables with the names of ours do no harm');
is($out, "31\nt\ncompleted", 'and are not taken for them');

# ---- a grantee of TRIGGER ----

# He becomes what the owner is, as PostgreSQL's documentation warns, and that can
# do nothing (t/047_roles.pl); within the bounds of a security-restricted
# operation, and the worker is not ended.
$node->safe_psql($db, 'GRANT TRIGGER ON file_records TO mallory');
allowed('mallory', q(
CREATE TABLE public.tried (what text, error text);
GRANT ALL ON public.tried TO PUBLIC;
CREATE FUNCTION public.try() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	statement text;
BEGIN
	FOREACH statement IN ARRAY ARRAY['SET ROLE mallory', 'SET SESSION AUTHORIZATION mallory',
		'CREATE TEMP TABLE file_records (a int)', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
		'LISTEN x', 'RESET SESSION AUTHORIZATION']
	LOOP
		BEGIN
			EXECUTE statement;
			INSERT INTO public.tried VALUES (statement, 'done');
		EXCEPTION WHEN OTHERS THEN
			INSERT INTO public.tried VALUES (statement, sqlstate);
		END;
	END LOOP;
	SET search_path = public, pg_catalog;
	RETURN NULL;
END $$;
CREATE TRIGGER try AFTER INSERT ON public.file_records EXECUTE FUNCTION public.try();
), 'a grantee of TRIGGER makes a trigger');
write_file("$root/d3/for the trigger", 'x');
wait_equal($node, $id, $root, 'with a trigger that tries to get away');
is( $node->safe_psql($db, q(SELECT string_agg(what || ': ' || error, E'\n' ORDER BY what COLLATE "C")
	FROM (SELECT DISTINCT what, error FROM tried WHERE what <> 'DECLARE c CURSOR WITH HOLD FOR SELECT 1') t)),
	join("\n", 'CREATE TEMP TABLE file_records (a int): 42501', 'LISTEN x: 42501',
		'RESET SESSION AUTHORIZATION: 42501', 'SET ROLE mallory: 42501',
		'SET SESSION AUTHORIZATION mallory: 42501'),
	'his trigger runs in a security-restricted operation');
allowed('mallory', 'DROP TABLE pwned CASCADE; CREATE TABLE pwned (who text, how text); GRANT ALL ON pwned TO PUBLIC');
a_day();
is($node->safe_psql($db, 'SELECT * FROM pwned'), '',
	'and the search_path that it set is not that of the worker');

$node->safe_psql($db, 'DROP TRIGGER try ON file_records; REVOKE ALL ON file_records FROM mallory');

# ---- other ways to a path ----

foreach my $setting (qw(fsync.helper_path fsync.batch_size fsync.calculate_hashes))
{
	my ($rc, undef, $err) = as('mallory', "SET $setting = '1'");
	isnt($rc, 0, "an ordinary role cannot set $setting");
}
my (undef, undef, $err) = as('mallory', 'SHOW fsync.helper_path');
like($err, qr/must be superuser|permission denied/, 'nor see where the program is');

# its address space, its descriptors, its environment: nothing of the server's
my $tree = tree_pid($node, $id);
my @open = grep { !m{^/dev/null|^(?:socket|pipe|anon_inode):} } map { readlink($_) // () }
  glob("/proc/$tree/fd/*");
is(join(' ', grep { index($_, $root) != 0 } @open), '', 'fsync-tree has no descriptor of the server\'s');

$node->stop;
done_testing();
