#
# What an application's rows have to fear: rows of files that settings leave out
# can be marked instead of removed, and come back with their ids; and before
# rows go, a NOTICE says how many, and how many of other tables with them, with
# nobody's code run as somebody who only wanted to know.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The NOTICEs of a statement, which must succeed; as: who runs it.
sub notices
{
	my ($statement, %opt) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement,
		extra_params => $opt{as} ? [ '-U', $opt{as} ] : []);

	is($rc, 0, "succeeds: $statement") or diag($err);
	return $err;
}

make_path("$root/raw", "$root/.cache", "$root/sub");
write_file("$root/$_", "content of $_")
  foreach ('a.jpg', 'b.jpg', 'c.txt', 'raw/d.cr3', 'raw/e.cr3', '.cache/f.jpg', 'sub/g.jpg');
write_file("$root/large.jpg", 'x' x 5000);

my $id = add_repository($node, $root, args => "include_hidden => true, on_excluded => 'mark'");
wait_ok($node, $id, 'first sync');
my $ids = ids_of($node, $id);
is(scalar keys %$ids, 8, 'eight files');

# Paths of the marked rows, and why.
sub marked
{
	return sql("SELECT string_agg(file_path || ':' || missing_reason, ' ' ORDER BY file_path) FROM fsync_files
WHERE missing_since IS NOT NULL");
}

sub id_of { return sql("SELECT id FROM file_records WHERE file_path = " . sql_path($_[0])) }

# ---- on_excluded = 'mark' ----

foreach my $case (
	[ "exclude => '{*.cr3}'", "exclude => '{}'", 'raw/d.cr3:excluded raw/e.cr3:excluded' ],
	[ "exclude => '{/raw/}'", "exclude => '{}'", 'raw/d.cr3:excluded raw/e.cr3:excluded' ],
	[ "include => '{*.jpg}'", "include => '{}'", 'c.txt:excluded raw/d.cr3:excluded raw/e.cr3:excluded' ],
	[ "include => '{*.txt}', exclude => '{c*}'", "include => '{}', exclude => '{}'", undef ],
	[ "exclude => '{*.JPG}', ignore_case => true", "exclude => '{}', ignore_case => false",
		'.cache/f.jpg:excluded a.jpg:excluded b.jpg:excluded large.jpg:excluded sub/g.jpg:excluded' ],
	[ 'include_hidden => false', 'include_hidden => true', '.cache/f.jpg:excluded' ],
	[ 'max_size => 100', 'max_size => -1', 'large.jpg:excluded' ],
	[ 'min_size => 100', 'min_size => -1', undef ])
{
	my ($set, $back, $expected) = @$case;
	my $err = notices("SELECT fsync_configure_repository('$id', $set)");
	my $n;

	wait_ok($node, $id, $set);
	is(marked(), $expected, "$set: marked, and why") if defined $expected;
	is(sql('SELECT count(*) FROM file_records'), '8', "$set: all rows stay");
	$n = sql('SELECT count(*) FROM file_records WHERE missing_since IS NOT NULL');
	like($err, qr/NOTICE:  $n rows? of repository "$id" will be marked as missing/, "$set: as was said");
	sql("SELECT fsync_configure_repository('$id', $back)");
	wait_ok($node, $id, $back);
	is(marked(), '', "$back: none is marked any more");
	is_deeply(ids_of($node, $id), $ids, "$back: all have their ids");
	is(sql('SELECT count(*) FROM file_records WHERE missing_reason IS NOT NULL'), '0', "$back: nor says why");
}

# by what is in the tree, and in real time
sql("SELECT fsync_configure_repository('$id', use_ignore_files => true, exclude => '{.fsyncignore}')");
wait_ok($node, $id, 'with ignore files');
write_file("$root/.fsyncignore", "*.cr3\n");
wait_ok($node, $id, 'a rule');
is(marked(), 'raw/d.cr3:excluded raw/e.cr3:excluded', '.fsyncignore: marked');
write_file("$root/.fsyncignore", "# nothing\n");
wait_ok($node, $id, 'the rule is gone');
is_deeply(ids_of($node, $id), $ids, '.fsyncignore: back with their ids');
sql("SELECT fsync_configure_repository('$id', max_size => 5000)");
wait_ok($node, $id, 'a limit');
append_file("$root/large.jpg", 'x');
wait_ok($node, $id, 'a file grows');
is(marked(), 'large.jpg:excluded', 'a file that grows too large: marked');
write_file("$root/large.jpg", 'x');
wait_ok($node, $id, 'and shrinks');
is(id_of('large.jpg'), $ids->{'large.jpg'}, 'and shrinks: back with its id');

# strategies do not mix
unlink("$root/b.jpg") or die "unlink: $!";
wait_ok($node, $id, 'a file goes');
is(id_of('b.jpg'), '', 'a file that is gone is not excluded: on_missing says delete');
sql("SELECT fsync_configure_repository('$id', on_missing => 'mark')");
unlink("$root/c.txt") or die "unlink: $!";
sql("SELECT fsync_configure_repository('$id', exclude => '{*.cr3,.fsyncignore}', on_type_change => 'mark')");
unlink("$root/a.jpg") or die "unlink: $!";
mkdir("$root/a.jpg") or die "mkdir: $!";
wait_ok($node, $id, 'three reasons');
is(marked(), 'a.jpg:type change c.txt:missing raw/d.cr3:excluded raw/e.cr3:excluded', 'each says why');
rmdir("$root/a.jpg") or die "rmdir: $!";
write_file("$root/$_", "content of $_") foreach ('a.jpg', 'b.jpg', 'c.txt');

# rows that no file can have are never kept
sql(qq(
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
VALUES ('$id', 'x/../y', 1, now(), now(), 0, now(), now(), 1, 1, 1)));
sql("SELECT fsync_reconcile('$id')");
is(id_of('x/../y'), '', 'a row at a path that no file can have goes');

# no strategy marks any more: as was said, they go
my $err = notices("SELECT fsync_configure_repository('$id', on_missing => 'delete', on_type_change => 'missing', on_excluded => 'remove')");
like($err, qr/NOTICE:  \d rows of missing files of repository "$id" will be removed/, 'an end of marking says what goes');
wait_until(sub { marked() eq '' }, 'and they go');
is(sql("SELECT fsync_configure_repository('$id', exclude => '{.fsyncignore}'); SELECT fsync_wait()"), "\nt", 'all is tracked again');
my ($rc, $out, $stderr) = $node->psql('postgres', "SELECT fsync_configure_repository('$id', on_excluded => 'delete')");
like($stderr, qr/invalid value for on_excluded: "delete".*HINT:  It is either "remove" or "mark"\./s, 'a bad word');

# ---- what goes with rows ----

sql(q(
CREATE TABLE rating (file_id bigint REFERENCES file_records ON DELETE CASCADE, stars int);
CREATE TABLE reply (id int PRIMARY KEY, file_id bigint REFERENCES file_records ON DELETE CASCADE,
	answers int REFERENCES reply ON DELETE CASCADE);
CREATE TABLE "My Notes" (repository uuid, path text COLLATE "C", "The Note" text,
	FOREIGN KEY (repository, path) REFERENCES file_records (repository_id, file_path) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE cover (file_id int REFERENCES file_records ON DELETE SET NULL, n int);
CREATE TABLE album (id int, kind text, file_id bigint REFERENCES file_records ON DELETE CASCADE, PRIMARY KEY (id, kind))
	PARTITION BY LIST (kind);
CREATE TABLE album_a PARTITION OF album FOR VALUES IN ('a');
CREATE TABLE album_z (kind text NOT NULL, file_id bigint, id int NOT NULL);
ALTER TABLE album ATTACH PARTITION album_z FOR VALUES IN ('z');
CREATE TABLE visit (album int, kind varchar, FOREIGN KEY (album, kind) REFERENCES album ON DELETE CASCADE);
CREATE TABLE guard (file_id bigint REFERENCES file_records);
CREATE TABLE library (repository_id uuid REFERENCES fsync_repositories ON DELETE CASCADE);
));
sub fill
{
	sql(q(
TRUNCATE rating, reply, "My Notes", cover, album, visit, guard, library;
INSERT INTO rating SELECT id, n FROM file_records, generate_series(1, 10) n;
INSERT INTO reply SELECT row_number() OVER (), id FROM file_records;
INSERT INTO reply SELECT n + 100, NULL, n FROM generate_series(1, 3) n;
INSERT INTO reply SELECT n + 200, NULL, n + 100 FROM generate_series(1, 3) n;
INSERT INTO reply VALUES (300, NULL, 300);
INSERT INTO "My Notes" SELECT repository_id, file_path FROM file_records;
INSERT INTO cover SELECT id, 1 FROM file_records WHERE file_path LIKE '%.cr3';
INSERT INTO album SELECT id, CASE WHEN id % 2 = 0 THEN 'a' ELSE 'z' END, id FROM file_records;
INSERT INTO visit SELECT id, kind FROM album, generate_series(1, 4);
INSERT INTO library SELECT repository_id FROM fsync_repositories;));
}
fill();
my $files = sql('SELECT count(*) FROM file_records');
is($files, '8', 'eight files again');

# What goes, counted before and after.
my @counted = ('rating', 'reply', '"My Notes"', 'album', 'visit', 'library');
sub counts { return { map { ($_ => sql("SELECT count(*) FROM $_")) } @counted } }

sub is_as_said
{
	my ($said, $before, $name) = @_;
	my $after = counts();

	foreach my $table (@counted)
	{
		my $gone = $before->{$table} - $after->{$table};
		my ($n) = $said =~ /^(?:DETAIL:  )?(\d+) rows? of table "public\.\Q@{[ $table =~ s{"}{}gr ]}\E" goe?s? with them\.$/m;

		is($n // 0, $gone, "$name: $table loses " . ($n // 0) . ' rows, as was said');
	}
}

my $before = counts();
my $said = notices("SELECT fsync_configure_repository('$id', exclude => '{*.cr3,.fsyncignore}')");
like($said, qr/NOTICE:  2 rows of repository "$id" will be removed/, 'exclude: how many rows');
like($said, qr/^2 rows of table "public\.cover" lose their reference to them\.$/m, 'exclude: references that are cleared');
like($said, qr/HINT:  With on_excluded = 'mark'/, 'exclude: and what to do instead');
wait_ok($node, $id, 'exclude');
is(sql('SELECT count(*) FROM file_records'), '6', 'exclude: they went');
is_as_said($said, $before, 'exclude');
sql("SELECT fsync_configure_repository('$id', exclude => '{.fsyncignore}')");
wait_ok($node, $id, 'all again');
fill();

like(notices("BEGIN; UPDATE fsync_repositories SET max_size = 1; ROLLBACK"), qr/NOTICE:  7 rows of repository/,
	'an UPDATE says it, too');
unlike(notices("SELECT fsync_configure_repository('$id', min_size => 1)"), qr/NOTICE/, 'nothing to say of what leaves out nothing');
sql('INSERT INTO guard SELECT id FROM file_records LIMIT 1');
like(notices("BEGIN; UPDATE fsync_repositories SET exclude = '{*}'; ROLLBACK"),
	qr/^1 row of table "public\.guard" refers to some of them, which cannot be removed as long as it does\.$/m,
	'a plain foreign key keeps rows, which is said');
sql('TRUNCATE guard');

# ---- who may know ----

sql(q(
CREATE ROLE curator LOGIN;
GRANT USAGE ON SCHEMA public TO curator;
GRANT EXECUTE ON FUNCTION fsync_remove_repository, fsync_configure_repository TO curator;
GRANT SELECT ON rating, reply TO curator;
ALTER TABLE reply ENABLE ROW LEVEL SECURITY;
));
$said = notices("BEGIN; SELECT fsync_configure_repository('$id', exclude => '{*}'); ROLLBACK", as => 'curator');
like($said, qr/^80 rows of table "public\.rating" go with them\.$/m, 'who may read a table is told a number');
like($said, qr/^Table "public\.(album|visit|reply)" refers to them as well; role "curator" may not read it\.$/m, 'who may not, is told the table');
unlike($said, qr/rows? of table "public\.(album|visit|cover|My Notes|reply)"/, 'and no number, nor of rows that a policy hides');
$said = notices("BEGIN; SELECT fsync_remove_repository('$id'); ROLLBACK", as => 'curator');
like($said, qr/NOTICE:  8 rows of file_records are removed with repository "$id"$/m, 'the same of a removal');
like($said, qr/^(?:DETAIL:  )?80 rows of table "public\.rating" go with them\.$/m, 'the same of a removal: a table');
unlike($said, qr/rows? of table "public\.(album|visit|cover|My Notes|reply)"/, 'the same of a removal: not of others');

# ---- nobody's code ----

sql(q(
CREATE ROLE mallory LOGIN;
CREATE SCHEMA m AUTHORIZATION mallory;
GRANT SELECT, REFERENCES ON file_records TO mallory;
CREATE TABLE pwned (who text); GRANT ALL ON pwned TO PUBLIC;
));
my $payload = q(BEGIN
	IF current_user <> 'mallory' THEN INSERT INTO public.pwned VALUES (current_user); END IF;
	IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE mallory SUPERUSER; END IF;);
my $file = sql('SELECT min(id) FROM file_records');
$node->safe_psql('postgres', qq(
SET search_path = m;
CREATE FUNCTION m.p(a int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS \$\$ $payload RETURN true; END \$\$;
CREATE TYPE m.e AS ENUM ('x');
CREATE FUNCTION m.c(m.e) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS \$\$ $payload RETURN $file; END \$\$;
CREATE CAST (m.e AS bigint) WITH FUNCTION m.c(m.e) AS IMPLICIT;
CREATE TABLE m.t (x m.e REFERENCES public.file_records ON DELETE CASCADE, u int UNIQUE);
CREATE INDEX ON m.t (x) WHERE m.p(1);
CREATE TABLE m.v (u int REFERENCES m.t (u) ON DELETE CASCADE);
CREATE FUNCTION m.policy() RETURNS boolean LANGUAGE plpgsql AS \$\$ $payload RETURN true; END \$\$;
ALTER TABLE m.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON m.t USING (m.policy());
GRANT SELECT ON m.t, m.v TO PUBLIC;
GRANT USAGE ON SCHEMA m TO PUBLIC;
CREATE FUNCTION m.slow(bigint) RETURNS bigint LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'no'; END \$\$;
), extra_params => [ '-U', 'mallory' ]);
$node->psql('postgres', "INSERT INTO m.t VALUES ('x', 1)", extra_params => [ '-U', 'mallory' ]);
$said = notices("BEGIN; UPDATE fsync_repositories SET exclude = '{*}'; ROLLBACK");
like($said, qr/NOTICE:  8 rows of repository/, 'a superuser changes settings');
$said = notices("BEGIN; SELECT fsync_configure_repository('$id', exclude => '{*}'); ROLLBACK", as => 'curator');
is(sql("SELECT string_agg(who, ',') FROM pwned WHERE who NOT IN ('fsync_owner')"), '', 'nothing of a referencing table ran as who asked');
is(sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'and nobody became a superuser');

# a table that is locked, or that cannot be read, does not stop anybody
my $lock = start_sql($node, 'postgres', 'holder', 'BEGIN; LOCK TABLE rating IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)');
wait_until(sub { sql("SELECT count(*) FROM pg_locks WHERE relation = 'rating'::regclass AND mode = 'AccessExclusiveLock' AND granted") eq '1' },
	'somebody holds a table');
$said = notices("BEGIN; UPDATE fsync_repositories SET exclude = '{*}'; ROLLBACK");
like($said, qr/NOTICE:  8 rows .*^Rows of other tables that refer to them could not be counted\.$/ms, 'one that is locked is not waited for');
sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'rating'::regclass AND mode = 'AccessExclusiveLock'");
finish_sql($lock);
is(sql("BEGIN; SELECT FROM fsync_configure_repository('$id', exclude => '{*}');
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'rating'::regclass; ROLLBACK"), "0", 'no lock is left on a table');
sql('DROP SCHEMA m CASCADE; ALTER TABLE reply DISABLE ROW LEVEL SECURITY');

# ---- a removal ----

$before = counts();
$said = notices("SELECT fsync_remove_repository('$id')");
like($said, qr/NOTICE:  8 rows of file_records are removed with repository "$id"$/m, 'removed: how many rows');
like($said, qr/^(?:DETAIL:  )?2 rows of table "public\.cover" lose their reference to them\.$/m, 'removed: cleared references');
is_as_said($said, $before, 'removed');
is(sql('SELECT count(*) FROM library'), '0', 'removed: what referred to the repository, too');

$id = add_repository($node, $root);
wait_ok($node, $id, 'added again');
fill();
like(notices('BEGIN; DELETE FROM fsync_repositories; ROLLBACK'), qr/NOTICE:  7 rows.*70 rows of table "public\.rating" go/s, 'a DELETE says it, too');
sql('DROP TABLE library');
like(notices('BEGIN; TRUNCATE fsync_repositories; ROLLBACK'), qr/NOTICE:  7 rows of file_records are removed with all repositories/,
	'and a TRUNCATE');

$node->stop;
done_testing();
