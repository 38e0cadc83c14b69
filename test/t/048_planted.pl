#
# What waits for CREATE EXTENSION in its schema: operators, functions and types
# that could be mistaken for those that the extension means, of all types near,
# and objects with the names of ours.  Nothing that belongs to the extension may
# depend on any of them, and none is ever called.

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

# As databases of before PostgreSQL 15 gave it.
$node->safe_psql($db, 'CREATE ROLE mallory LOGIN; GRANT ALL ON SCHEMA public TO PUBLIC');

my $directory = $node->config_data('--sharedir') . '/extension';
my $script = slurp_file((glob "$directory/fsync--*.sql")[-1]);
$script =~ s/--.*//g;

# Every word of the script that is the name of a function of PostgreSQL's, and
# every operator.
my %words = map { ($_ => 1) } $script =~ /\b([a-z][a-z0-9_]+)\b/g;
my @functions = grep { $words{$_} } split /\n/, $node->safe_psql($db,
	q(SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^[a-z0-9_]+$'));
cmp_ok(scalar @functions, '>', 15, 'the script uses functions: ' . join(' ', @functions));
my @operators = qw(= <> < > <= >= + - * / || ~~ !~~ ~ % &&);
my @types = qw(bigint integer smallint numeric real float8 text varchar name uuid bytea
  timestamptz timestamp date interval boolean oid text[] bigint[] record);

my $list = sub { 'ARRAY[' . join(', ', map { "'$_'" } @_) . ']' };
my ($rc, $out, $err) = $node->psql($db, sprintf(q(
CREATE TABLE public.pwned (who text, what text);
GRANT ALL ON public.pwned TO PUBLIC;
CREATE FUNCTION public.payload(what text) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
	IF current_user <> 'mallory' THEN
		INSERT INTO public.pwned VALUES (current_user, what);
	END IF;
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
		EXECUTE 'ALTER ROLE mallory SUPERUSER';
	END IF;
END $f$;
DO $do$
DECLARE
	l text; r text; o text; f text; returns text;
	types text[] := %s;
BEGIN
	FOREACH o IN ARRAY %s LOOP
		FOREACH l IN ARRAY types LOOP
			CONTINUE WHEN l = 'record';
			FOREACH r IN ARRAY types LOOP
				CONTINUE WHEN r = 'record';
				returns := CASE WHEN o IN ('+', '-', '*', '/', '%%', '||') THEN
					CASE WHEN l = 'interval' OR r = 'interval' THEN 'interval' ELSE l END ELSE 'boolean' END;
				EXECUTE format('CREATE FUNCTION public.op_%%s(a %%s, b %%s) RETURNS %%s IMMUTABLE LANGUAGE plpgsql AS '
					|| '$f$ BEGIN PERFORM public.payload(%%L); RETURN NULL; END $f$',
					encode(o::bytea, 'hex'), l, r, returns, l || o || r);
				EXECUTE format('CREATE OPERATOR public.%%s (LEFTARG = %%s, RIGHTARG = %%s, FUNCTION = public.op_%%s)',
					o, l, r, encode(o::bytea, 'hex'));
			END LOOP;
		END LOOP;
	END LOOP;
	FOREACH f IN ARRAY %s LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION public.%%I() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS '
				|| '$f$ BEGIN PERFORM public.payload(%%L); RETURN 0; END $f$', f, f);
		EXCEPTION WHEN OTHERS THEN
			CONTINUE;
		END;
		FOREACH l IN ARRAY types LOOP
			EXECUTE format('CREATE FUNCTION public.%%I(a %%s) RETURNS %%s IMMUTABLE LANGUAGE plpgsql AS '
				|| '$f$ BEGIN PERFORM public.payload(%%L); RETURN NULL; END $f$', f, l,
				CASE l WHEN 'record' THEN 'bigint' ELSE l END, f || l);
			CONTINUE WHEN l = 'record';
			FOREACH r IN ARRAY ARRAY['text', 'varchar', 'integer', 'bigint', 'timestamptz', 'interval'] LOOP
				EXECUTE format('CREATE FUNCTION public.%%I(a %%s, b %%s) RETURNS %%s IMMUTABLE LANGUAGE plpgsql AS '
					|| '$f$ BEGIN PERFORM public.payload(%%L); RETURN NULL; END $f$', f, l, r, l, f || l || r);
			END LOOP;
		END LOOP;
	END LOOP;
END $do$;
CREATE FUNCTION public.collect(state bigint[], v bigint) RETURNS bigint[] LANGUAGE plpgsql AS
	$f$ BEGIN PERFORM public.payload('aggregate'); RETURN state; END $f$;
CREATE FUNCTION public.collect(state text[], v text) RETURNS text[] LANGUAGE plpgsql AS
	$f$ BEGIN PERFORM public.payload('aggregate'); RETURN state; END $f$;
DROP FUNCTION IF EXISTS public.array_agg(bigint), public.array_agg(text);
CREATE AGGREGATE public.array_agg(bigint) (SFUNC = public.collect, STYPE = bigint[]);
CREATE AGGREGATE public.array_agg(text) (SFUNC = public.collect, STYPE = text[]);
CREATE TYPE public.text AS ENUM ('x');
CREATE TYPE public.bytea AS ENUM ('x');
CREATE DOMAIN public.uuid AS pg_catalog.int4;
CREATE DOMAIN public.timestamptz AS pg_catalog.date;
CREATE DOMAIN public.oid AS pg_catalog.int4;
CREATE DOMAIN public.bool AS pg_catalog.int4;
CREATE DOMAIN public.int8 AS pg_catalog.int4;
CREATE COLLATION public."C" FROM pg_catalog."POSIX";
), $list->(@types), $list->(@operators), $list->(@functions)), extra_params => [ '-U', 'mallory' ]);
is($rc, 0, 'a role fills the schema') or diag($err);
cmp_ok($node->safe_psql($db, 'SET search_path = pg_catalog; SELECT count(*) FROM pg_operator WHERE oid >= 16384'),
	'>', 5000, 'with operators');

$node->safe_psql($db, 'SET search_path = public, pg_catalog; CREATE EXTENSION fsync SCHEMA public');

# ---- what belongs to the extension depends on nothing outside ----

# The members, and what belongs to these: columns' defaults, constraints,
# indexes, rules, triggers, row types, TOAST tables.
my $ours = q(
WITH RECURSIVE ours AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'fsync'
	UNION
	SELECT d.classid, d.objid FROM pg_depend d JOIN ours o ON d.refclassid = o.classid AND d.refobjid = o.objid
	WHERE d.deptype IN ('i', 'a', 'I', 'P', 'S') AND d.objid >= 16384)
);
my $count = $node->safe_psql($db, "SET search_path = pg_catalog; $ours SELECT count(*) FROM ours");
cmp_ok($count, '>', 150, 'what belongs to the extension is found');
is( $node->safe_psql($db, "SET search_path = pg_catalog; $ours
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) || ' needs ' || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
FROM ours o JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.objid
WHERE d.refobjid >= 16384 AND (d.refclassid, d.refobjid) NOT IN (SELECT classid, objid FROM ours)
	AND d.refclassid <> 'pg_extension'::regclass
	AND NOT (d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'public'::regnamespace)"),
	'', 'nothing of it depends on anything but PostgreSQL and itself');

# The same by the stored trees, which name objects by number.
my $trees = $node->safe_psql($db, "SET search_path = pg_catalog; $ours,
trees AS (
	SELECT 'rule of ' || ev_class::regclass AS what, ev_action::text || ev_qual::text AS tree FROM pg_rewrite
	WHERE ('pg_rewrite'::regclass, oid) IN (SELECT classid, objid FROM ours)
	UNION ALL
	SELECT 'default in ' || adrelid::regclass, adbin::text FROM pg_attrdef
	WHERE ('pg_class'::regclass, adrelid) IN (SELECT classid, objid FROM ours)
	UNION ALL
	SELECT 'constraint ' || conname, conbin::text FROM pg_constraint
	WHERE ('pg_class'::regclass, conrelid) IN (SELECT classid, objid FROM ours)
	UNION ALL
	SELECT 'index ' || indexrelid::regclass, indexprs::text || coalesce(indpred::text, '') FROM pg_index
	WHERE ('pg_class'::regclass, indrelid) IN (SELECT classid, objid FROM ours)
	UNION ALL
	SELECT 'index ' || indexrelid::regclass, indpred::text FROM pg_index
	WHERE ('pg_class'::regclass, indrelid) IN (SELECT classid, objid FROM ours)
	UNION ALL
	SELECT 'trigger ' || tgname, tgqual::text FROM pg_trigger
	WHERE ('pg_class'::regclass, tgrelid) IN (SELECT classid, objid FROM ours)
	UNION ALL
	SELECT 'argument of ' || proname, proargdefaults::text FROM pg_proc
	WHERE ('pg_proc'::regclass, oid) IN (SELECT classid, objid FROM ours)
),
used AS (
	SELECT what, m[1] AS kind, m[2]::oid AS id
	FROM trees CROSS JOIN LATERAL regexp_matches(tree,
		':(opno|opfuncid|funcid|aggfnoid|winfnoid|\\w*type|\\w*collid|eqop|sortop|seqid|opfamily) (\\d+)', 'g') AS m)
SELECT count(*) || '|' || coalesce(string_agg(what || ' ' || kind || ' ' || id, ', ')
	FILTER (WHERE id >= 16384 AND id NOT IN (SELECT objid FROM ours)), '') FROM used");
my ($used, $foreign) = split /\|/, $trees, 2;
cmp_ok($used, '>', 300, 'the stored trees name objects');
is($foreign, '', 'and none of these is of anybody else');

# ---- and calls nothing outside ----

sub quiet_sql
{
	return $node->safe_psql($db, "SET search_path = public, pg_catalog; $_[0]");
}
write_file("$root/f$_", 'x' x $_) foreach 1 .. 20;
write_file("$root/copy", 'x');
quiet_sql('CREATE TABLE public.rating (file_id pg_catalog.int4 REFERENCES public.file_records ON DELETE CASCADE)');
my $id = quiet_sql("SELECT public.fsync_add_repository('$root', change_feed => true)");
is(quiet_sql('SELECT public.fsync_wait()'), 't', 'a first sync');
append_file("$root/f1", 'x');
unlink("$root/f2");
rename("$root/f3", "$root/g3");
is(quiet_sql('SELECT public.fsync_wait()'), 't', 'changes');
foreach my $query ('* FROM public.fsync_reconcile()', '* FROM public.fsync_verify()', '* FROM public.fsync_status()',
	'* FROM public.fsync_files', '* FROM public.fsync_duplicates', '* FROM public.fsync_consumers',
	'* FROM public.fsync_report()', '* FROM public.fsync_progress', '* FROM public.fsync_stat', "* FROM public.fsync_sync_history('$id')",
	"public.fsync_create_consumer('c')", "* FROM public.fsync_next_changes('c')",
	"public.fsync_ack('c', '{1}')", "public.fsync_nack('c', '{1}', '1 s')", "public.fsync_extend('c', '{1}', '1 s')",
	"* FROM public.fsync_list('$id')", "* FROM public.fsync_find('$root/f1')", "* FROM public.fsync_find_content(repeat('0', 64))",
	"public.fsync_relocate_repository('$id', '$root')", "public.fsync_add_repository('$root', if_not_exists => true, must_exist => false)",
	"public.fsync_drop_consumer('c')",
	"public.fsync_configure_repository('$id', exclude => '{*.tmp}')", "public.fsync_why('$id', 'f1')",
	"* FROM public.fsync_preview('$id', exclude => '{f*}')", "* FROM public.fsync_ignored('$id')",
	"public.fsync_configure_repository('$id', exclude => '{f4}', on_excluded => 'mark')")
{
	quiet_sql("SELECT $query");
}
is(quiet_sql('SELECT public.fsync_wait()'), 't', 'all of it');
is($node->safe_psql($db, 'SELECT who, what FROM public.pwned'), '', 'nothing of the role was called by anybody else');
is($node->safe_psql($db, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'mallory'"), 'f',
	'and it is no superuser');
quiet_sql("SELECT public.fsync_remove_repository('$id')");
is($node->safe_psql($db, 'SELECT who, what FROM public.pwned'), '', 'nor when the repository was removed');

# ---- objects with our names ----

foreach my $case (
	'CREATE TABLE public.file_records (id bigint)', 'CREATE VIEW public.fsync_files AS SELECT 1',
	'CREATE TABLE public.fsync_repositories (repository_id uuid)', "CREATE TYPE public.fsync_stat AS ENUM ('a')",
	'CREATE SEQUENCE public.file_records_id_seq', 'CREATE TABLE public.file_records_content_hash_idx ()',
	'CREATE FUNCTION public.fsync_wait(uuid, interval) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$',
	'CREATE FUNCTION public.fsync_wait(text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$',
	'CREATE FUNCTION public.fsync_wait() RETURNS boolean LANGUAGE sql AS $$ SELECT true $$',
	'CREATE FUNCTION public.fsync_status() RETURNS boolean LANGUAGE sql AS $$ SELECT true $$',
	'CREATE FUNCTION public.fsync_add_repository(varchar) RETURNS uuid LANGUAGE sql AS $$ SELECT NULL::uuid $$',
	'CREATE FUNCTION public.fsync_repositories_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$',
	'CREATE FUNCTION public.fsync_install_begin() RETURNS void LANGUAGE sql AS $$ SELECT $$',
	'CREATE SCHEMA fsync_private')
{
	$node->safe_psql($db, 'CREATE DATABASE planted TEMPLATE template0');
	$node->safe_psql('planted', "GRANT ALL ON SCHEMA public TO mallory; GRANT CREATE ON DATABASE planted TO mallory");
	$node->psql('planted', $case, extra_params => [ '-U', 'mallory' ]);
	($rc, $out, $err) = $node->psql('planted', 'CREATE EXTENSION fsync');
	isnt($rc, 0, "refused: $case");
	like($err, qr/already exists|has a function .* already|is not a member of the extension/, 'and says what is in the way');
	is($node->safe_psql('planted', "SELECT count(*) FROM pg_extension WHERE extname = 'fsync'"), '0', 'nothing is left');
	$node->safe_psql($db, 'DROP DATABASE planted');
}

$node->stop;
done_testing();
