#
# What users alter about file_records that is honoured by a statement, but not
# of itself by what writes below SQL: columns with defaults, generated columns,
# domains, triggers, deferred constraints, children.  Rows that are new
# and rows that move are as a statement would leave them, and every index
# agrees with the table.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncFaults;
use FsyncFeed;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main');
my $root = new_root('photos');
my $round = 0;

write_file("$root/first.txt", 'first');
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');
my $worker = worker_pid($node, $db);
my $position = log_position($node);
$node->safe_psql($db, q(
CREATE EXTENSION amcheck;
CREATE TABLE journal (what text, path text, rows bigint);
GRANT INSERT ON journal TO fsync_owner;
CREATE FUNCTION each_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.journal VALUES (tg_op, new.file_path, 1);
	RETURN new;
END $$;
CREATE FUNCTION all_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.journal SELECT tg_op, min(file_path), count(*) FROM new_rows;
	RETURN NULL;
END $$;
CREATE DOMAIN colour AS text DEFAULT 'red' CHECK (value <> 'blue');
));

sub indexes_agree
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $node->safe_psql($db,
			"SELECT count(bt_index_check(indexrelid, true)::text) > 2 FROM pg_index
			 JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam
			 WHERE indrelid = 'file_records'::regclass AND amname = 'btree'"),
		't', "$name: the indexes agree with the table");
}

# Thirty files, of more bytes than those before them, come and move with their
# directory; then the query gives this.  In it, :dir is where they are in the end.
sub altered
{
	my ($name, %o) = @_;
	my $from = "from $round";
	my $to = 'to ' . $round++;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($db, "$o{alter}; TRUNCATE journal") if $o{alter};
	make_path("$root/$from/sub");
	write_file("$root/$from/$_.txt", "$from $_" x ($_ * $round)) foreach 1 .. 29;
	write_file("$root/$from/sub/deep.txt", "$from deep");
	wait_equal($node, $id, $root, "$name: new files");
	my $before = ids_of($node, $id);
	$node->safe_psql($db, $o{between}) if $o{between};
	rename("$root/$from", "$root/$to") or die "rename: $!";
	wait_equal($node, $id, $root, "$name: files that moved");
	my $after = ids_of($node, $id);
	is( join(' ', map { $after->{"$to/$_"} // 'none' } '1.txt', '29.txt', 'sub/deep.txt'),
		join(' ', map { $before->{"$from/$_"} } '1.txt', '29.txt', 'sub/deep.txt'),
		"$name: ids are kept");
	is($node->safe_psql($db, $o{query} =~ s/:dir/'$to\/'/gr), $o{gives}, "$name: honoured")
	  if $o{query};
	indexes_agree($name);
	is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', "$name: no problem");
	$node->safe_psql($db, $o{undo}) if $o{undo};
}

my $own = 'FROM file_records WHERE starts_with(file_path, :dir)';

altered('nothing', query => "SELECT count(*), count(DISTINCT id) $own", gives => '30|30');
altered(
	'a column',
	alter => 'ALTER TABLE file_records ADD COLUMN stars integer',
	between => 'UPDATE file_records SET stars = 5 WHERE right(file_path, 5) = \'7.txt\'',
	query => "SELECT count(*), count(stars), sum(stars) $own",
	gives => '30|3|15',
	undo => 'ALTER TABLE file_records DROP COLUMN stars');
altered('a dropped column', query => "SELECT count(*) $own", gives => '30');
altered(
	'a column with a default',
	alter => q(ALTER TABLE file_records ADD COLUMN note text DEFAULT 'new'),
	query => "SELECT count(*), count(note) $own AND note = 'new'",
	gives => '30|30',
	undo => 'ALTER TABLE file_records DROP COLUMN note');
altered(
	'a column of a domain',
	alter => 'ALTER TABLE file_records ADD COLUMN colour colour',
	query => "SELECT count(*) $own AND colour = 'red'",
	gives => '30',
	undo => 'ALTER TABLE file_records DROP COLUMN colour');
altered(
	'a generated column',
	alter => 'ALTER TABLE file_records ADD COLUMN loud text GENERATED ALWAYS AS (upper(file_path)) STORED',
	query => "SELECT count(*) $own AND loud = upper(file_path)",
	gives => '30',
	undo => 'ALTER TABLE file_records DROP COLUMN loud');
altered(
	'triggers for each row',
	alter => 'CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON file_records FOR EACH ROW EXECUTE FUNCTION each_row()',
	query => "SELECT count(DISTINCT path) FILTER (WHERE what = 'INSERT' AND starts_with(path, 'from')),
			count(DISTINCT path) FILTER (WHERE what = 'UPDATE' AND starts_with(path, :dir))
		FROM journal",
	gives => '30|30',
	undo => 'DROP TRIGGER before_row ON file_records');
altered(
	'triggers of a column',
	alter => 'CREATE TRIGGER after_row AFTER UPDATE OF file_path ON file_records FOR EACH ROW EXECUTE FUNCTION each_row()',
	query => 'SELECT what, count(*) FROM journal GROUP BY what ORDER BY what',
	gives => 'UPDATE|30',
	undo => 'DROP TRIGGER after_row ON file_records');
altered(
	'triggers for each statement',
	alter => q(CREATE TRIGGER new_rows AFTER INSERT ON file_records REFERENCING NEW TABLE AS new_rows
		FOR EACH STATEMENT EXECUTE FUNCTION all_rows();
		CREATE TRIGGER moved_rows AFTER UPDATE ON file_records REFERENCING NEW TABLE AS new_rows
		FOR EACH STATEMENT EXECUTE FUNCTION all_rows()),
	query => "SELECT sum(rows) FILTER (WHERE what = 'INSERT'),
			sum(rows) FILTER (WHERE what = 'UPDATE') >= 30
		FROM journal",
	gives => '30|t',
	undo => 'DROP TRIGGER new_rows ON file_records; DROP TRIGGER moved_rows ON file_records');
altered(
	'a foreign key to it',
	alter => q(CREATE TABLE albums (file_id bigint REFERENCES file_records, repository_id uuid, file_path text,
		FOREIGN KEY (repository_id, file_path)
			REFERENCES file_records (repository_id, file_path) ON UPDATE CASCADE)),
	between => 'INSERT INTO albums SELECT id, repository_id, file_path FROM file_records',
	query => 'SELECT count(*) FROM albums JOIN file_records USING (repository_id, file_path)
		WHERE id = file_id AND starts_with(file_path, :dir)',
	gives => '30',
	undo => 'DROP TABLE albums');
altered(
	'a foreign key of it',
	alter => q(CREATE TABLE lengths (n bigint PRIMARY KEY);
		INSERT INTO lengths SELECT generate_series(0, 10000);
		ALTER TABLE file_records ADD FOREIGN KEY (file_size) REFERENCES lengths),
	query => "SELECT count(*) $own",
	gives => '30',
	undo => 'DROP TABLE lengths CASCADE');
altered(
	'a deferred constraint',
	alter => 'ALTER TABLE file_records ADD CONSTRAINT late UNIQUE (id, file_size) DEFERRABLE INITIALLY DEFERRED',
	query => "SELECT count(*) $own",
	gives => '30',
	undo => 'ALTER TABLE file_records DROP CONSTRAINT late');
altered(
	'indexes of users',
	alter => q(CREATE INDEX by_loud ON file_records (upper(file_path));
		CREATE INDEX by_deep ON file_records (file_path) WHERE file_path LIKE '%deep%';
		CREATE INDEX by_size ON file_records USING hash (file_size)),
	query => "SET enable_seqscan = off; SELECT (SELECT count(*) $own AND upper(file_path) = upper(:dir || '7.txt')),
		(SELECT count(*) $own AND file_path LIKE '%deep%'),
		(SELECT count(*) FROM file_records WHERE file_size = (SELECT max(file_size) $own))",
	gives => '1|1|1',
	undo => 'DROP INDEX by_loud, by_deep; DROP INDEX by_size');
altered(
	'a unique index',
	alter => 'CREATE UNIQUE INDEX by_inode ON file_records (inode, file_path COLLATE "C" DESC)',
	query => "SELECT count(*), count(DISTINCT inode) $own",
	gives => '30|30',
	undo => 'DROP INDEX by_inode');
altered(
	'an index of a column of users',
	alter => q(ALTER TABLE file_records ADD COLUMN tags text[];
		CREATE INDEX by_tags ON file_records USING gin (tags)),
	between => q(UPDATE file_records SET tags = '{x,y}' WHERE right(file_path, 5) = '7.txt'),
	query => "SET enable_seqscan = off; SELECT count(*) $own AND tags @> '{y}'",
	gives => '3',
	undo => 'ALTER TABLE file_records DROP COLUMN tags');

# The rows go where there is room, to blocks that are summarized: what is not added
# to the summary of its block is not found.
$node->safe_psql($db, 'VACUUM file_records');
altered(
	'block-range indexes',
	alter => q(CREATE INDEX by_block ON file_records USING brin (file_size) WITH (pages_per_range = 1);
		CREATE INDEX by_change ON file_records USING brin (updated_at);
		SELECT brin_summarize_new_values('by_change')),
	between => q(SELECT brin_summarize_new_values('by_block')),
	query => "SET enable_seqscan = off;
		SELECT (SELECT count(*) FROM file_records f WHERE starts_with(file_path, :dir)
				AND (SELECT count(*) FROM file_records WHERE file_size = f.file_size) > 0),
			(SELECT count(*) FROM file_records WHERE updated_at >= (SELECT min(updated_at) $own))",
	gives => '30|30',
	undo => 'DROP INDEX by_block, by_change');
altered(
	'no index on hashes',
	alter => 'DROP INDEX file_records_content_hash_idx',
	query => "SELECT count(*), count(content_hash) $own",
	gives => '30|30',
	undo => 'CREATE INDEX file_records_content_hash_idx ON file_records (content_hash)');
altered(
	'a child',
	alter => 'CREATE TABLE child () INHERITS (file_records)',
	query => "SELECT count(*) $own",
	gives => '30',
	undo => 'DROP TABLE child');

# A unique index holds within one message.
$node->safe_psql($db, 'CREATE UNIQUE INDEX by_hash ON file_records (content_hash)');
# None is seen while it is empty or a twin of another.
new_file("$root/$_.txt", 'twins') foreach 'twin a', 'twin b';
new_file("$root/no twin.txt", 'twins, not');
wait_ok($node, $id);
is( $node->safe_psql($db,
		"SELECT (SELECT count(*) FROM file_records WHERE starts_with(file_path, 'twin')),
			(SELECT count(*) FROM file_records WHERE file_path = 'no twin.txt'),
			(SELECT string_agg(problem, ' ') FROM fsync_problems)"),
	'1|1|rejected by the database', 'a unique index: one of two is refused');
unlink("$root/twin a.txt", "$root/twin b.txt");
wait_equal($node, $id, $root, 'a unique index: without the two');
like(reconcile($node, $id), qr/^completed/, 'a unique index: a reconciliation completes');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'a unique index: no problem');

# Files without rows, since another has their content, come in a message of
# their own when their directory is renamed: each is refused, and no other.
# None of them is seen while it is empty: that row would stay.
make_path("$root.copies");
write_file("$root.copies/$_.txt", 'the same in all') foreach 1 .. 130;
rename("$root.copies", "$root/copies") or die "rename: $!";
wait_ok($node, $id);
rename("$root/copies", "$root/copies, renamed") or die "rename: $!";
write_file("$root/not a copy.txt", 'not a copy');
wait_ok($node, $id, 'a unique index: many refused at once');
is( $node->safe_psql($db,
		"SELECT (SELECT count(*) FROM file_records WHERE starts_with(file_path, 'copies, renamed/')),
			(SELECT count(*) FROM file_records WHERE file_path = 'not a copy.txt'),
			(SELECT state FROM fsync_status())"),
	'1|1|watching', 'a unique index: the others go on');

# The problems are of files that are there, and of no others.
sub refused_are
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_ok($node, $id);
	my $with_row = ids_of($node, $id);
	my $problems = problems_of($node, $id);
	my $disk = disk_files($root);
	is_deeply([ sort grep { !$disk->{$_} || $with_row->{$_} } keys %$problems ],
		[], "$name: no problem without its file");
	is_deeply([ sort grep { !$problems->{$_} && !$with_row->{$_} } keys %$disk ],
		[], "$name: a row or a problem for each file");
}
refused_are('a unique index: the directory was renamed, and its problems with it');
my $no_row = (sort keys %{ problems_of($node, $id) })[0];
rename("$root/$no_row", "$root/copies, renamed/other name.txt") or die "rename: $!";
refused_are('a unique index: a refused file was renamed');
unlink("$root/copies, renamed/other name.txt") or die "unlink: $!";
refused_are('a unique index: a refused file was removed');
rename("$root/copies, renamed", "$root.copies") or die "rename: $!";
refused_are('a unique index: they went away');
rename("$root.copies", "$root/copies back") or die "rename: $!";
refused_are('a unique index: they came back');
remove_tree("$root/copies back");
refused_are('a unique index: they were removed');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'a unique index: no problem is left');
wait_equal($node, $id, $root, 'a unique index: without the copies');
$node->safe_psql($db, 'DROP INDEX by_hash');

# A row at the new name is in the way: its file was overwritten.
my $before = ids_of($node, $id);
write_file("$root/first.txt", 'first, once more');
rename("$root/to 0/1.txt", "$root/to 0/2.txt") or die "rename: $!";
rename("$root/to 0/3.txt", "$root/to 0/3 moved.txt") or die "rename: $!";
wait_equal($node, $id, $root, 'a file is overwritten');
my $after = ids_of($node, $id);
is( "$after->{'to 0/2.txt'} $after->{'to 0/3 moved.txt'}",
	"$before->{'to 0/2.txt'} $before->{'to 0/3.txt'}",
	'a file is overwritten: its row keeps its id, and so does one that moved');

# What the worker takes for new is there already.
$node->safe_psql($db, qq(
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
VALUES ('$id', 'surprise.txt', 1, now(), now(), 0, now(), now(), 1, 1, 1)));
write_file("$root/surprise.txt", 'surprise');
write_file("$root/no surprise.txt", 'no surprise');
wait_equal($node, $id, $root, 'a row that is there already');

# More rows in one message than go to the indexes at once.
my $many = new_root('many');
make_path("$many/here");
write_file("$many/here/$_.txt", "many $_") foreach 1 .. 12000;
my $many_id = add_repository($node, $many);
wait_equal($node, $many_id, $many, 'many new files');
indexes_agree('many new files');
make_path("$many/few");
write_file("$many/few/$_.txt", "few $_") foreach 1 .. 3;
wait_equal($node, $many_id, $many, 'few new files');
my $hashed = "SELECT string_agg(id || ' ' || last_scanned, ',' ORDER BY id) FROM file_records
	WHERE repository_id = '$many_id'";
my $when = $node->safe_psql($db, $hashed);
rename("$many/here", "$many/there") or die "rename: $!";
wait_equal($node, $many_id, $many, 'many files that moved');
indexes_agree('many files that moved');
rename("$many/few", "$many/the few") or die "rename: $!";
wait_equal($node, $many_id, $many, 'few files that moved');
$node->safe_psql($db, 'CREATE TRIGGER each BEFORE UPDATE ON file_records
	FOR EACH ROW EXECUTE FUNCTION each_row()');
rename("$many/the few", "$many/few") or die "rename: $!";
wait_equal($node, $many_id, $many, 'few files that moved, with a trigger');
$node->safe_psql($db, 'DROP TRIGGER each ON file_records');
ok($node->safe_psql($db, $hashed) eq $when, 'files that moved: the rows say when they were hashed');

# A rename of the file itself gives it another ctime.  A hash from soon after
# the old one is in doubt, and stays so.
write_file("$many/doubt.txt", 'doubt');
wait_equal($node, $many_id, $many, 'a new file');
rename("$many/doubt.txt", "$many/doubt moved.txt") or die "rename: $!";
wait_equal($node, $many_id, $many, 'a new file that moved');
is( $node->safe_psql($db, "SELECT (extract(epoch FROM last_scanned) * 1000000)::bigint = ctime_ns / 1000
	FROM file_records WHERE repository_id = '$many_id' AND file_path = 'doubt moved.txt'"),
	't', 'a new file that moved: the hash is as of the rename');

# A row that may neither change nor go, since others refer to it: the problem
# stays as long as the row, also where a change of the file was refused before.
my $kept = new_root('kept');
write_file("$kept/$_.txt", $_) foreach 'changed', 'moved';
my $kept_id = add_repository($node, $kept);
wait_equal($node, $kept_id, $kept, 'rows that are referred to');
$node->safe_psql($db, qq(
CREATE TABLE album (file_id bigint REFERENCES file_records);
INSERT INTO album SELECT id FROM file_records WHERE repository_id = '$kept_id';
CREATE FUNCTION no_change() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	RAISE EXCEPTION 'this row does not change';
END \$\$;
CREATE TRIGGER no_change BEFORE UPDATE ON file_records
	FOR EACH ROW WHEN (old.repository_id = '$kept_id') EXECUTE FUNCTION no_change()));
write_file("$kept/changed.txt", 'changed twice');
wait_ok($node, $kept_id);
rename("$kept/$_.txt", "$kept/$_ again.txt") or die "rename: $!" foreach 'changed', 'moved';
wait_ok($node, $kept_id);
wait_ok($node, $kept_id);
is( $node->safe_psql($db,
		"SELECT string_agg(file_path || ': ' || problem, ', ' ORDER BY file_path)
		 FROM fsync_problems WHERE repository_id = '$kept_id' AND problem = 'still referenced'"),
	'changed.txt: still referenced, moved.txt: still referenced',
	'rows that are referred to: the problems stand');
$node->safe_psql($db, 'DROP TABLE album');
$node->safe_psql($db, 'DROP TRIGGER no_change ON file_records');
like(reconcile($node, $kept_id), qr/^completed/, 'rows that are referred to: no more');
wait_equal($node, $kept_id, $kept, 'rows that are referred to: no more');
is($node->safe_psql($db, 'SELECT count(*) FROM fsync_problems'), '0', 'rows that are referred to: no problem is left');

# Versions of rows that a rename made are deleted from an index of what it left
# unchanged, or the index would grow with each.
sub rename_often
{
	my ($from, $to) = @_;

	foreach my $n ($from .. $to)
	{
		rename($n == 1 ? "$many/often" : "$many/often " . ($n - 1), "$many/often $n")
		  or die "rename: $!";
		wait_ok($node, $many_id);
	}
	return $node->safe_psql($db, "SELECT pg_relation_size('by_album')");
}
$node->safe_psql($db, q(
ALTER TABLE file_records ADD COLUMN album text;
ALTER TABLE file_records SET (autovacuum_enabled = off);
CREATE INDEX by_album ON file_records (album)));
make_path("$many/often");
write_file("$many/often/$_.txt", "often $_") foreach 1 .. 1000;
wait_equal($node, $many_id, $many, 'an index of what does not change');
$node->safe_psql($db,
	"UPDATE file_records SET album = 'album ' || id % 10 WHERE starts_with(file_path, 'often')");
my $size_after_few = rename_often(1, 20);
my $size_after_many = rename_often(21, 80);
SKIP:
{
	skip 'a btree deletes such versions from PostgreSQL 14 on', 1 if server_version() < 14;
	cmp_ok($size_after_many, '<', 1.5 * $size_after_few,
		"an index of what does not change does not grow with each rename ($size_after_few to $size_after_many)");
}

is(worker_pid($node, $db), $worker, 'all that by the same worker');
all_is_well($node, $id, $root, 'in the end', $position);
log_is_quiet($node, $position, 'nothing is left open at a commit', qr/WARNING:  a column was added to table/);
$node->stop;
done_testing();
