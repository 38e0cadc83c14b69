#
# SQL that reads well: row types, the columns of fsync_files, the contents of a
# folder, a file by its path, a content by its digits; and the queries of
# examples/queries.sql at 200,000 rows, each by an index.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', conf => "fsync.reconciliation_interval = 0\n");
my $examples = ($ENV{TESTDIR} // "$FindBin::RealBin/../..") . '/examples';

$examples = "$FindBin::RealBin/../../examples" unless -d $examples;
$examples = '../examples' unless -d $examples;

sub sql
{
	return $node->safe_psql($db, $_[0]);
}

sub error_of
{
	my ($sql, @params) = @_;
	my (undef, $out, $err) = $node->psql($db, $sql, extra_params => [ '-v', 'VERBOSITY=verbose', @params ]);

	return $err =~ s/^psql:.*?ERROR: //sr;
}

# ---- row types ----

my ($width, $widest) = split /\|/, sql(q(
SELECT pg_get_function_result(oid), proname FROM pg_proc WHERE proname ~ '^fsync_' ORDER BY length(pg_get_function_result(oid)) DESC NULLS LAST LIMIT 1));
cmp_ok(length $width, '<', 60, "no function has a result that is wide ($widest: $width)");
is(sql(q(SELECT string_agg(proname, ' ') FROM pg_proc WHERE proname ~ '^fsync_' AND proargmodes IS NOT NULL)), '',
	'nor has one OUT arguments');
is(sql(q(SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE c.relkind = 'c' AND c.relname ~ '^fsync_'
	AND c.relname <> 'fsync_counters' AND col_description(a.attrelid, a.attnum) IS NULL)), '0', 'their columns say what they are');
sql('CREATE VIEW mine AS SELECT repository_id, state, problems FROM fsync_status();
	CREATE FUNCTION states() RETURNS SETOF fsync_repository_status LANGUAGE sql AS $$ SELECT * FROM fsync_status() $$;
	CREATE OR REPLACE VIEW mine AS SELECT repository_id, state, problems, reason FROM states()');
like(error_of("ALTER TYPE fsync_repository_status ADD ATTRIBUTE x int; SELECT * FROM fsync_status()"),
	qr/^ 55000: type "fsync_repository_status" was altered/, 'a type that somebody has altered is told');
sql('ALTER TYPE fsync_repository_status DROP ATTRIBUTE x') if 0;

# ---- a small tree ----

$node->safe_psql($db, 'DROP EXTENSION fsync CASCADE; CREATE EXTENSION fsync');
my $root = new_root('tree');
my @paths = (
	'top.txt', 'B.JPG', 'archive.tar.gz', 'noext', 'dot.', '..x..y', 'two  words.a b', "new\nline.tx\nt",
	'a/1', 'a/2', 'a/sub/deep/x.jpg', 'a-b/1.jpg', 'a0', 'a b/1', 'a.b/c', 'ab/1',
	"\xC3\xBC/\xC3\xA4.JPG", 'z/' . 'n' x 200 . '/f', "quote'd/f", 'back\\slash/f', '%/_', "\x01/\x01", 'z/z/z/z/z');
foreach my $path (@paths)
{
	my ($dir) = "$root/$path" =~ m{^(.*)/}s;
	make_path($dir);
	write_file("$root/$path", $path);
}
my $id = add_repository($node, $root, args => 'include_hidden => true');
wait_equal($node, $id, $root, 'a tree') if 0;
ok(wait_ok($node, $id), 'a tree');
is(rows_of($node, $id), scalar @paths, 'has its rows');

# What is at the end of a path, by Perl.
my %want = map {
	my $path = $_;
	my ($directory, $name) = $path =~ m{^(?:(.*)/)?([^/]*)$}s;
	my ($extension) = $name =~ /.\.([^.]+)\z/s;
	(unpack('H*', $path) => join('|', unpack('H*', $directory // ''), unpack('H*', $name), unpack('H*', defined $extension ? $extension =~ tr/A-Z/a-z/r : 'NULL')))
} @paths;
my %got = map { /^(\w*)\|(.*)$/s } split /\n/, sql(q(
SELECT encode(convert_to(file_path, 'UTF8'), 'hex'), encode(convert_to(directory, 'UTF8'), 'hex'), encode(convert_to(file_name, 'UTF8'), 'hex'),
	encode(convert_to(coalesce(extension, 'NULL'), 'UTF8'), 'hex') FROM fsync_files));
is_deeply(\%got, \%want, 'file_name, directory and extension');

# ---- fsync_list ----

# The children of a folder, by Perl: folders first, in the order of bytes.
sub children
{
	my ($prefix, @all) = @_;
	my (%folders, @files);

	foreach my $path (@all)
	{
		next if index($path, $prefix) != 0;
		my $rest = substr($path, length $prefix);
		if ($rest =~ m{^([^/]*/)}s) { $folders{"$prefix$1"} = 1 }
		else { push @files, $path }
	}
	return (sort(keys %folders), sort(@files));
}

# The paths that a call returns, page by page.
sub listed
{
	my ($repository, $directory, $page) = @_;
	my @all;
	my $after = 'NULL';

	while (1)
	{
		my @rows = split /\n/, sql("SELECT encode(convert_to(path, 'UTF8'), 'hex') || CASE WHEN is_directory <> (path LIKE '%/') OR is_directory <> (id IS NULL) THEN '!' ELSE '' END FROM fsync_list('$repository', "
			  . sql_path($directory) . ", $after, $page)");
		push @all, map { pack('H*', $_) } @rows;
		return @all if @rows < $page;
		$after = sql_path($all[-1]);
	}
}
my %directories = map { my @d; my $p = $_; while ($p =~ m{^(.*)/[^/]*$}s) { $p = $1; push @d, $p } map { ($_ => 1) } @d } @paths;
foreach my $directory ('', sort keys %directories)
{
	my @want = children($directory eq '' ? '' : "$directory/", @paths);
	foreach my $page (1, 2, 3, 1000)
	{
		my @got = listed($id, $directory, $page);
		is(join("\0", @got), join("\0", @want), 'what is in "' . ($directory =~ s/[^ -~]/?/gr) . "\", $page a page");
	}
}
is(join("\0", listed($id, 'a/', 10)), join("\0", listed($id, 'a', 10)), 'a slash at the end is no matter');
is(sql("SELECT count(*) FROM fsync_list('$id', 'none')"), '0', 'a folder that is none is empty');
is(sql("SELECT count(*) FROM fsync_list('$id', 'top.txt')"), '0', 'so is a file');
is(sql("SELECT count(*) FROM fsync_list('$id', max_rows => 0)"), '0', 'no rows at most');
is(sql("SELECT name, is_directory, id IS NULL FROM fsync_list('$id', 'a', max_rows => 1)"), 'sub|t|t', 'a folder');
is(sql("SELECT l.name, l.file_size, l.mod_time = f.mod_time, l.content_hash = f.content_hash FROM fsync_list('$id', 'a', 'a/1') l JOIN file_records f USING (id)"),
	'2|3|t|t', 'a file');
like(error_of("SELECT fsync_list('$id', '/a')"), qr/^ 22023: directory "\/a" is not relative/, 'an absolute one');
like(error_of("SELECT fsync_list('$id', 'a', 'b/1')"), qr/^ 22023: "b\/1" is not the path of something in directory/, 'after what is elsewhere');
like(error_of("SELECT fsync_list('$id', 'a', 'a/sub/deep/')"), qr/^ 22023: /, 'or deeper');
like(error_of("SELECT fsync_list('$id', 'a', 'a/')"), qr/^ 22023: /, 'or the folder itself');
like(error_of("SELECT fsync_list('$id', max_rows => -1)"), qr/^ 22023: max_rows must be zero or more/, 'less than no rows');
like(error_of("SELECT fsync_list(NULL)"), qr/^ 22004: repository_id must not be null/, 'NULL');
like(error_of("SELECT fsync_list('$id', NULL)"), qr/^ 22004: directory must not be null/, 'NULL');
like(error_of("SELECT fsync_list('00000000-0000-0000-0000-0000000000ff')"), qr/^ 42704: repository .* does not exist/, 'no such repository');

# Missing files are not there, and neither is a folder with nothing but such.
sql("SELECT fsync_configure_repository('$id', on_missing => 'mark')");
ok(wait_ok($node, $id), 'missing files are marked');
unlink("$root/a.b/c", "$root/a/1");
ok(wait_ok($node, $id), 'two go missing');
is(join(' ', listed($id, 'a', 10)), 'a/sub/ a/2', 'a missing file is not in its folder');
ok(!grep({ $_ eq 'a.b/' } listed($id, '', 3)), 'nor is the folder of a missing file');

# ---- fsync_find, fsync_find_content ----

is(sql("SELECT file_path, repository_id FROM fsync_find('$root/a/sub/deep/x.jpg')"), "a/sub/deep/x.jpg|$id", 'a file by its path');
is(sql("SELECT file_path FROM fsync_find('$root//a/./sub/deep//x.jpg')"), 'a/sub/deep/x.jpg', 'written in another way');
is(sql("SELECT missing_since IS NOT NULL FROM fsync_find('$root/a/1')"), 't', 'a missing one');
is(sql("SELECT count(*) FROM fsync_find('$root/a')"), '0', 'a folder is none');
is(sql("SELECT count(*) FROM fsync_find('$root')"), '0', 'nor is the root');
is(sql("SELECT count(*) FROM fsync_find('${root}x/a/2')"), '0', 'nor what only begins alike');
is(sql("SELECT count(*) FROM fsync_find(NULL)"), '0', 'NULL');
like(error_of("SELECT fsync_find('a/2')"), qr/^ 22023: path "a\/2" is not absolute/, 'a relative path');
like(error_of("SELECT fsync_find('$root/a/../a/2')"), qr/^ 22023: .*contains ".."/, 'steps up');
symlink("$root/a", "$root.link");
my $sub = add_repository($node, "$root.link");
ok(wait_ok($node, $sub), 'another repository inside, registered by a link');
is(sql("SELECT string_agg(file_path, ' ' ORDER BY file_path) FROM fsync_find('$root/a/2')"), '2 a/2', 'the file is in both');
is(sql("SELECT file_path FROM fsync_find('$root.link/2')"), '2', 'and is found by the path that was given');

my $hash = sql("SELECT encode(content_hash, 'hex') FROM file_records WHERE file_path = 'top.txt'");
is(sql("SELECT absolute_path FROM fsync_find_content('$hash')"), "$root/top.txt", 'a content by its digits');
is(sql("SELECT count(*) FROM fsync_find_content('\U$hash')"), '1', 'in upper case');
is(sql("SELECT count(*) FROM fsync_find_content('\\x$hash')"), '1', 'as bytea prints it');
is(sql("SELECT count(*) FROM fsync_find_content(repeat('0', 64))"), '0', 'one that is not there');
is(sql("SELECT count(*) FROM file_records WHERE content_hash = '$hash'"), '0', 'digits alone are other bytes');
is(sql("SELECT count(*) FROM file_records WHERE content_hash = '\\x$hash'"), '1', 'with \\x they are the hash');
like(error_of("SELECT fsync_find_content('" . substr($hash, 1) . "')"), qr/^ 22023: invalid content hash/, '63 digits');
like(error_of("SELECT fsync_find_content('" . 'g' x 64 . "')"), qr/^ 22023: .*64 hexadecimal digits/s, 'no digits');

# ---- rights ----

sql('CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN');
my @calls = ("fsync_list('$id')", "fsync_find('$root/a/2')", "fsync_find_content('$hash')", "fsync_find_content(repeat('0', 64))");
like(error_of("SELECT $_", '-U', 'stranger'), qr/permission denied for function/, 'nothing is granted to all') foreach @calls;
sql('GRANT EXECUTE ON FUNCTION fsync_list, fsync_find, fsync_find_content TO reader, stranger; GRANT SELECT ON file_records, fsync_files TO reader');
like(error_of("SELECT $_", '-U', 'stranger'), qr/permission denied for (?:table|view)/, 'they read as the caller') foreach @calls;
is(error_of("SELECT $_", '-U', 'reader'), '', 'who may') foreach @calls;
sql("ALTER TABLE file_records ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON file_records TO reader USING (file_path LIKE 'a/%')");
is($node->safe_psql($db, "SELECT string_agg(path, ' ') FROM fsync_list('$id')", extra_params => [ '-U', 'reader' ]), 'a/', 'under the policies of the caller');
sql('DROP POLICY p ON file_records; ALTER TABLE file_records DISABLE ROW LEVEL SECURITY');
sql('CREATE SCHEMA other; ALTER EXTENSION fsync SET SCHEMA other') if 0;
sql("SELECT fsync_remove_repository('$sub')");

# ---- at 200,000 rows ----

my $large = '00000000-0000-0000-0000-0000000000aa';
my $disk = new_root('large');
add_repository($node, $disk, args => "repository_id => '$large'");
ok(wait_ok($node, $large), 'an empty repository');
sql("SELECT fsync_pause('$large')");
sql(qq(
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash, last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
SELECT '$large', CASE WHEN n <= 125000 THEN 'big/' || n / 1000 || '/' || n || '.jpg' WHEN n <= 150000 THEN 'flat/' || n || '.png'
	ELSE 'album ' || n / 50 || '/IMG ' || n || '.JPG' END, n % 100000, timestamptz '2020-01-01' + n * interval '1 minute',
	sha256((n % 100000)::text::bytea), now(), 1, now(), timestamptz '2020-01-01' + n * interval '1 minute', n, n, n
FROM generate_series(1, 200000) n;
CREATE INDEX ON file_records USING brin (updated_at)));
sql($_) foreach slurp_file("$examples/queries.sql") =~ /^-- index: (CREATE INDEX [^\n]*)$/mg;
sql('VACUUM ANALYZE file_records');

my %value = (
	repository => $large, path => 'album 3500/IMG 175000.JPG', prefix => 'big/7/', directory => '', after => 'album 3500/',
	hash => sql("SELECT encode(sha256('700'), 'hex')"), hash_after => '80', since => '2020-05-15',
	extension => 'png', absolute => "$disk/big/1/1000.jpg");
my %rows = (
	'a page of a folder' => 100, 'the sub-folders of a folder' => 1000, 'a sub-tree' => 1, 'all records' => 1000, 'the same for people' => 1000,
	'a record by' => 1, 'by what sha256sum' => 2, 'added last' => 50, 'newest by' => 50, 'by extension' => 100, 'duplicates' => 20);
my $queries = slurp_file("$examples/queries.sql");
my %found;

# What a statement has done, also inside functions: rows of file_records read by a
# sequential scan, and buffers.
sub buffers
{
	my ($sql) = @_;
	my $explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) $sql";

	# The first one in a session reads catalogs.
	my $plan = sql("SET jit = off; $explain\n;\\echo second\n$explain") =~ s/\A.*^second\n//msr;
	my ($line) = $plan =~ /Buffers: ([^\n]*)/;
	my $buffers = 0;

	$buffers += $_ foreach ($line // '') =~ /(?:hit|read)=(\d+)/g;
	return ($buffers, $plan);
}
my $table_pages = sql("SELECT relpages FROM pg_class WHERE relname = 'file_records'");
while ($queries =~ /^-- name: ([^\n]*)\n(.*?;)\n/msg)
{
	my ($name, $sql) = ($1, $2);
	my ($key) = grep { index($name, $_) == 0 } sort { length $b <=> length $a } keys %rows;

	next if !defined $key;
	$sql =~ s/:'(\w+)'/'$value{$1}'/g;
	$found{$key} = 1;
	my ($buffers, $plan) = buffers($sql);
	unlike($plan, qr/Seq Scan on file_records/, "query \"$name\" reads no whole table") or diag($plan);
	unlike($plan, qr/Sort Method: external/, 'and sorts nothing on disk');
	# it reads all rows that it counts
	cmp_ok($buffers, '<', 2500, "and few pages of $table_pages") or diag($plan) unless $key eq 'the sub-folders of a folder';
	$sql =~ s/;\z//;
	is(sql("SELECT count(*) FROM ($sql) q"), $rows{$key}, 'it finds what there is');
}
is(join(',', sort keys %found), join(',', sort keys %rows), 'each of them was tried');

# One folder with all rows below it costs a few steps; so do other shapes.
foreach my $case ([ "fsync_list('$large', 'big')", 126, 3000 ], [ "fsync_list('$large', '', 'flat/', 10)", 0, 6000 ], [ "fsync_list('$large', max_rows => 3)", 3, 100 ],
	[ "fsync_list('$large', 'flat', 'flat/140000.png', 50)", 50, 100 ], [ "fsync_list('$large', 'big/7')", 1000, 1300 ])
{
	my ($call, $rows, $most) = @$case;
	my ($buffers, $plan) = buffers("SELECT * FROM $call");

	is(sql("SELECT count(*) FROM $call"), $rows, $call);
	cmp_ok($buffers, '<', $most, 'by a few pages') or diag($plan);
}
my ($listing) = listed($large, 'flat', 1000);
is($listing, 'flat/125001.png', 'a flat folder');

# Not analysed, and in a session that would rather read the whole table.
sql(q(DELETE FROM pg_statistic WHERE starelid = 'file_records'::regclass; UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname = 'file_records'));
my ($buffers) = buffers("SELECT * FROM fsync_list('$large', 'big/7', max_rows => 20)");
cmp_ok($buffers, '<', 200, 'also without statistics');

sql("DELETE FROM file_records WHERE repository_id = '$large'");
done_testing();
