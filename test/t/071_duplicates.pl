#
# fsync_duplicates: the same content under several names, hard links told apart
# from copies; found by its hash through the index.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Copy qw(copy);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $other = new_root('other');

write_file("$root/one.jpg", 'a picture');
copy("$root/one.jpg", "$root/copy.jpg") or die "copy: $!";
link("$root/copy.jpg", "$root/link.jpg") or die "link: $!";
write_file("$root/linked.jpg", 'one file, two names');
link("$root/linked.jpg", "$root/other name.jpg") or die "link: $!";
write_file("$root/empty $_", '') foreach 1 .. 3;
write_file("$root/single.jpg", 'nobody is like me');
write_file("$root/same size 1", 'abc');
write_file("$root/same size 2", 'abd');
write_file("$other/elsewhere.jpg", 'a picture');

my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub duplicates
{
	return sql(q(
SELECT file_size, copies, names, wasted_bytes, array_length(file_ids, 1),
	(SELECT string_agg(n, ',' ORDER BY n COLLATE "C") FROM (SELECT regexp_replace(p, '.*/', '') FROM unnest(absolute_paths) p) s (n)),
	file_ids = ARRAY(SELECT unnest(file_ids) ORDER BY 1),
	content_hash = (SELECT content_hash FROM file_records WHERE id = file_ids[1])
FROM fsync_duplicates ORDER BY content_hash));
}

is(duplicates(), '9|2|3|9|3|copy.jpg,link.jpg,one.jpg|t|t',
	'two copies, one of them with two names; neither hard links alone, nor empty files');

my $other_id = add_repository($node, $other);
wait_equal($node, $other_id, $other, 'another repository');
is(duplicates(), '9|3|4|18|4|copy.jpg,elsewhere.jpg,link.jpg,one.jpg|t|t', 'across repositories');
is(sql(qq(SELECT count(*) FROM fsync_duplicates d, unnest(d.file_ids, d.absolute_paths) u (id, path)
JOIN fsync_files f USING (id) WHERE f.absolute_path = u.path)), '4', 'paths are in the order of the ids');

write_file("$root/rotten.jpg", 'b picture');
wait_equal($node, $id, $root, 'another file');
sql("UPDATE file_records SET content_hash = sha256('a picture') WHERE file_path = 'rotten.jpg'");
like(duplicates(), qr/^9\|4\|/, 'before it is known to be corrupt');
sql('SELECT fsync_verify()');
is(duplicates(), '9|3|4|18|4|copy.jpg,elsewhere.jpg,link.jpg,one.jpg|t|t', 'a corrupt file is no copy');
unlink("$root/rotten.jpg") or die "unlink: $!";

sql("SELECT fsync_configure_repository('$id', on_missing => 'mark')");
unlink("$root/one.jpg") or die "unlink: $!";
wait_equal($node, $id, $root, 'one is missing');
is(duplicates(), '9|2|3|9|3|copy.jpg,elsewhere.jpg,link.jpg|t|t', 'a missing file is no copy');
unlink("$other/elsewhere.jpg") or die "unlink: $!";
wait_equal($node, $other_id, $other, 'another is gone');
is(duplicates(), '', 'one file with two names is no duplicate');

# ---- by the index ----

sql(qq(
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash,
	last_scanned, scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
SELECT '$other_id', 'made up/' || n, 1, now(), sha256((n / 2)::text::bytea), now(), 0, now(), now(), n, 0, 0
FROM generate_series(0, 19999) n;
ANALYZE file_records;));
my $plan = sql("EXPLAIN SELECT * FROM fsync_duplicates WHERE content_hash = sha256('17')");
like($plan, qr/Index Scan (?:using|on) file_records_content_hash_idx/, 'one hash is looked up in the index');
unlike($plan, qr/Seq Scan on file_records/, 'and nothing else is read');
is(sql("SELECT names FROM fsync_duplicates WHERE content_hash = sha256('17')"), '2', 'and found');

$node->stop;
done_testing();
