#
# Which contents have no copy: fsync_uncopied() and fsync_missing_copies() against
# comm of what sha256sum says, on a backup that is arranged in another way; hard
# links, snapshots of them, corrupt and missing files and files without a hash are no
# copies.  Whose rights count.

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
my $backup_root = new_root('backup');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub shell
{
	my ($command) = @_;

	return FsyncTest::run_bytes('bash', '-c', "set -eo pipefail; $command", $root, $backup_root);
}

sub answer
{
	my ($rc, $out, $err) = $node->psql('postgres', $_[0]);

	return $rc == 0 ? 'ok' : $err =~ /ERROR:\s+(.*)/ ? $1 : $err;
}

make_tree($root, 500);
my $id = add_repository($node, $root);
my $backup = add_repository($node, $backup_root);

# The backup: flat, under other names, without some of it, and with more.
my $n = 0;
my $disk = disk_files($root);
foreach my $path (sort keys %$disk)
{
	next if $n++ % 7 == 3;
	make_path("$backup_root/" . $n % 5);
	write_file("$backup_root/" . $n % 5 . "/file $n", slurp_file("$root/$path"));
}
write_file("$backup_root/more", 'more');

sub uncopied
{
	return sql("SELECT encode(convert_to(file_path, 'UTF8'), 'hex') FROM fsync_uncopied('$id', '$backup') ORDER BY 1");
}

# The same by coreutils: the hashes of one tree that are not in the other.
sub expected
{
	my %only = map { $_ => 1 } split /\n/, shell(q(
comm -23 <(cd "$0" && find . -type f -print0 | xargs -0 sha256sum | sed 's/^\\\\//' | cut -c1-64 | sort -u) \
	<(cd "$1" && find . -type f -print0 | xargs -0 sha256sum | sed 's/^\\\\//' | cut -c1-64 | sort -u)));
	my $files = disk_files($root);

	return join("\n", sort map { unpack('H*', $_) } grep { $only{ $files->{$_}->[3] } } keys %$files);
}

wait_ok($node, $_, 'first sync') foreach $id, $backup;
my $missing = uncopied();
is($missing, expected(), 'what is nowhere in the backup');
my @missing = split /\n/, $missing;
cmp_ok(scalar @missing, '>', 30, 'which is something');

# A snapshot by hard links beside the files is no copy of them.
make_path("$backup_root/snapshot");
my $linked = 0;
foreach my $hex (@missing)
{
	link "$root/" . pack('H*', $hex), "$backup_root/snapshot/" . $linked++ or die "link: $!";
}
wait_ok($node, $_, 'links') foreach $id, $backup;
is(sql("SELECT count(*) FROM file_records WHERE repository_id = '$backup' AND file_path LIKE 'snapshot/%'"), scalar @missing, 'links into the backup');
is(uncopied(), $missing, 'are no copies');
write_file("$backup_root/a copy", slurp_file("$root/" . pack('H*', $missing[0])));
wait_ok($node, $backup, 'a copy');
my $copied = $disk->{ pack('H*', $missing[0]) }->[3];
is(uncopied(), join("\n", grep { $disk->{ pack('H*', $_) }->[3] ne $copied } @missing), 'a copy is');

# ---- how many there are ----

sub missing_copies
{
	my ($min) = @_;

	return join "\n", sort split /\n/, sql("SELECT encode(convert_to(watch_root || '/' || file_path, 'UTF8'), 'hex'), copies"
		. " FROM fsync_missing_copies($min) JOIN fsync_repositories USING (repository_id)");
}

# By inode, as find says them.
sub expected_copies
{
	my ($min) = @_;
	my (%inodes, %hash);

	foreach my $dir ($root, $backup_root)
	{
		my $files = disk_files($dir);

		foreach my $path (keys %$files)
		{
			$hash{"$dir/$path"} = $files->{$path}->[3];
			$inodes{ $files->{$path}->[3] }->{ join ':', (stat "$dir/$path")[ 0, 1 ] } = 1;
		}
	}
	return join("\n", sort map { unpack('H*', $_) . '|' . keys %{ $inodes{ $hash{$_} } } }
		  grep { keys %{ $inodes{ $hash{$_} } } < $min } keys %hash);
}

link "$root/NULL", "$root/another name" or die "link: $!";
wait_ok($node, $id, 'a hard link');
foreach my $min (1, 2, 3, 5, 1000)
{
	is(missing_copies($min), expected_copies($min), "contents with fewer than $min copies");
}

# ---- what is no copy ----

# A name by which a content is there, of which there is one copy in the backup.
my ($path, $copy) = split /\|/, sql("SELECT f.file_path, c.id FROM file_records f JOIN file_records c ON c.content_hash = f.content_hash"
	. " AND c.repository_id = '$backup' WHERE f.repository_id = '$id' AND f.file_path ~ '^[a-z0-9 ]+/IMG_\\d+\\.jpg\$' AND f.file_size > 100"
	. " AND (SELECT count(*) FROM file_records x WHERE x.content_hash = f.content_hash) = 2 ORDER BY f.id LIMIT 1")
  or die 'no such file';
$path //= '';

sub is_uncopied
{
	return sql("SELECT count(*) FROM fsync_uncopied('$id', '$backup') WHERE file_path = '$path'");
}

sub copies
{
	return sql("SELECT copies FROM fsync_missing_copies(9) WHERE repository_id = '$id' AND file_path = '$path'");
}

is(is_uncopied() . copies(), '02', "a file with its copy: $path");
sql("INSERT INTO fsync_verifications (file_id, repository_id, last_read, problem) VALUES ($copy, '$backup', now(), 'content differs from its hash')");
is(is_uncopied() . copies(), '11', 'a copy that is corrupt is none');
sql("CREATE ROLE reader; GRANT SELECT ON file_records, file_changes TO reader; CREATE ROLE nobody");
is(sql("SET ROLE reader; SELECT count(*) FROM fsync_uncopied('$id', '$backup') WHERE file_path = '$path'"), '1', 'also for who may not read verifications');
my $copy_path = sql("SELECT file_path FROM file_records WHERE id = $copy");
link "$backup_root/$copy_path", "$backup_root/other name" or die "link: $!";
wait_ok($node, $backup, 'a link');

# For that it was read again, and found to be good; it is not taken to be.
sql("INSERT INTO fsync_verifications (file_id, repository_id, last_read, problem) VALUES ($copy, '$backup', now(), 'content differs from its hash')"
	. ' ON CONFLICT (file_id) DO UPDATE SET problem = excluded.problem');
is(is_uncopied() . copies(), '11', 'neither is another name of it');
sql("UPDATE fsync_verifications SET problem = NULL, last_verified = now()");
is(is_uncopied() . copies(), '02', 'until it is found right');
sql("SELECT fsync_configure_repository('$backup', on_missing => 'mark')");
unlink "$backup_root/$copy_path", "$backup_root/other name";
wait_ok($node, $backup, 'gone');
is(is_uncopied() . copies(), '11', 'one that is gone, and whose row stays, is none');

my $bare_root = new_root('bare');
write_file("$bare_root/x", 'bare');
my $bare = add_repository($node, $bare_root, args => 'calculate_hashes => false');
wait_ok($node, $bare, 'no hashes');
is(sql("SELECT file_path, content_hash IS NULL FROM fsync_uncopied('$bare', '$backup')"), 'x|t', 'a file without a hash has no copy that is known');
is(sql("SELECT count(*) FROM fsync_uncopied('$id', '$bare')"), sql("SELECT count(*) FROM file_records WHERE repository_id = '$id'"), 'and is none');
is(sql("SELECT file_path, copies IS NULL FROM fsync_missing_copies(2) WHERE repository_id = '$bare'"), 'x|t', 'how many there are is not known');
is(sql("SELECT count(*) FROM fsync_missing_copies(1) WHERE repository_id = '$bare'"), '0', 'but itself');

# ---- arguments and rights ----

is(answer("SELECT fsync_uncopied('$id', '$id')"), 'in_repository must be another repository', 'in itself');
is(answer("SELECT fsync_uncopied('$id', NULL)"), 'in_repository must not be null', 'in none');
is(answer("SELECT fsync_uncopied(NULL, '$id')"), 'repository_id must not be null', 'of none');
like(answer("SELECT fsync_uncopied('$id', gen_random_uuid())"), qr/^repository ".*" does not exist/, 'in one that does not exist');
is(answer('SELECT fsync_missing_copies(0)'), 'min_copies must be at least 1', 'no copy');
is(answer('SELECT fsync_missing_copies(NULL)'), 'min_copies must not be null', 'any number of copies');
is(answer('SET ROLE reader; SELECT fsync_missing_copies(2); SELECT fsync_rescue()'), 'ok', 'who may read file_records may ask');
foreach my $call ("fsync_uncopied('$id', '$backup')", 'fsync_missing_copies(2)', 'fsync_rescue()', "fsync_manifest('$id')", "fsync_manifest_hash('$id')")
{
	is(answer("SET ROLE nobody; SELECT $call"), 'permission denied for table file_records', "who may not: $call");
}
sql("ALTER TABLE file_records ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON file_records TO reader USING (repository_id <> '$backup')");
is(sql("SET ROLE reader; SELECT count(*) FROM fsync_uncopied('$id', '$backup')"), sql("SELECT count(*) FROM file_records WHERE repository_id = '$id'"),
	'a copy that one may not see');
is(sql("SET ROLE reader; SELECT count(*) FROM fsync_missing_copies(9) WHERE repository_id = '$backup'"), '0', 'row-level security holds');

$node->stop;
done_testing();
