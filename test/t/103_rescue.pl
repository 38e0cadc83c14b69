#
# Where a good copy is of what a disk has lost: files whose content has rotten, or
# cannot be read any more, on a disk that does that (FsyncFuse.pm), and files that are
# gone, against copies on another disk that are good, corrupt, gone, or other names
# of the corrupt file; and that what fsync_rescue() points to has the content.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use Digest::SHA qw(sha256_hex);
use FsyncFuse;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $device = fuse_device();

plan skip_all => '/dev/fuse cannot be opened' unless $device;

my %content = map { ("file $_.txt" => "content of file $_ " x 1000) } 1 .. 6;
my $root = new_root('disk');
my $backup_root = new_root('backup');
my $faults = PostgreSQL::Test::Utils::tempdir() . '/faults';
mkdir $faults or die "mkdir: $!";

my $server = serve_files($device, $root, \%content,
	read => sub {
		my ($name, $content) = @_;

		return (POSIX::EIO) if -e "$faults/bad $name";
		$content =~ tr/c/C/ if -e "$faults/rot $name";
		return (0, $content);
	});

plan skip_all => 'no file system can be served here' unless is_served($root, 6);

# Copies of all files but 6, under other names; of file 3 there are two.
write_file("$backup_root/copy of $_", $content{"file $_.txt"}) foreach 1 .. 5;
write_file("$backup_root/second copy of 3", $content{'file 3.txt'});
write_file("$backup_root/precious", 'precious');
write_file("$backup_root/precious too", 'precious');
write_file("$backup_root/alone", 'alone');

my $node = new_node('main');
my $id = add_repository($node, $root);
my $backup = add_repository($node, $backup_root, args => "on_missing => 'mark'");
wait_ok($node, $_, 'first sync') foreach $id, $backup;

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub verify
{
	my ($which) = @_;

	return sql("SELECT status FROM fsync_verify('$which')");
}

sub rescue
{
	my ($which) = @_;

	return sql("SELECT file_path, problem, coalesce(copy_path, '-'), copy_verified IS NOT NULL FROM fsync_rescue("
		. ($which ? "'$which'" : '') . ') ORDER BY 1, 3');
}

is(verify($id), 'completed', 'a good disk');
is(rescue(), '', 'nothing is lost');

write_file("$faults/rot file $_.txt", '') foreach 2, 3, 6;
write_file("$faults/bad file 4.txt", '');
is(verify($id), 'completed', 'a bad disk');
my $differs = 'content differs from its hash';
my $unread = 'I/O error in verification';
is(rescue(), "file 2.txt|$differs|copy of 2|f
file 3.txt|$differs|copy of 3|f
file 3.txt|$differs|second copy of 3|f
file 4.txt|$unread|copy of 4|f
file 6.txt|$differs|-|f", 'what is lost, and where it still is');

my $before = sql('SELECT clock_timestamp()');
is(verify($backup), 'completed', 'the backup is verified');
is(rescue($id), "file 2.txt|$differs|copy of 2|t
file 3.txt|$differs|copy of 3|t
file 3.txt|$differs|second copy of 3|t
file 4.txt|$unread|copy of 4|t
file 6.txt|$differs|-|f", 'and was good');
is(sql("SELECT bool_and(copy_verified > '$before') FROM fsync_rescue('$id') WHERE copy_id IS NOT NULL"), 't', 'when');
is(rescue($backup), '', 'of the backup nothing is lost');

# The copies have the content.
foreach my $row (split /\n/, sql("SELECT r.watch_root || '/' || copy_path, encode(content_hash, 'hex') FROM fsync_rescue('$id') s"
	. ' JOIN fsync_repositories r ON r.repository_id = copy_repository_id'))
{
	my ($path, $hash) = split /\|/, $row;

	is(sha256_hex(slurp_file($path)), $hash, "$path has it");
}

# A copy that is changed in place, its times set back, is corrupt; so is its other name.
link "$backup_root/copy of 2", "$backup_root/other name of 2" or die "link: $!";
wait_ok($node, $backup, 'a link');
is(rescue($id) =~ s/\nfile 3.*//sr, "file 2.txt|$differs|copy of 2|t
file 2.txt|$differs|other name of 2|f", 'another name is as good');
my $copy = sql("SELECT id FROM file_records WHERE file_path = 'copy of 2'");
sql("UPDATE fsync_verifications SET problem = '$differs', message = 'x' WHERE file_id = $copy");
is(rescue($id) =~ s/\nfile 3.*//sr, "file 2.txt|$differs|-|f", 'and as bad');
is(rescue($backup), "copy of 2|$differs|-|f", 'both are lost');
sql("UPDATE fsync_verifications SET problem = NULL, message = NULL WHERE file_id = $copy");

# What is gone.
unlink "$backup_root/precious", "$backup_root/alone", "$backup_root/copy of 3";
wait_ok($node, $backup, 'gone');
is(rescue($backup), "alone|missing|-|f
copy of 3|missing|second copy of 3|t
precious|missing|precious too|t", 'files that are gone');
is(rescue($id) =~ s/.*\n(file 3.txt)/$1/sr =~ s/\nfile 4.*//sr, "file 3.txt|$differs|second copy of 3|t", 'and no copies');
is(sql('SELECT count(*) FROM fsync_rescue()'), 8, 'of all repositories');
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT * FROM fsync_rescue(gen_random_uuid())');
like($err, qr/does not exist/, 'of one that does not exist');

# Who may read file_records learns where, and when it was verified, and nothing else.
sql('CREATE ROLE reader; GRANT SELECT ON file_records TO reader');
is(sql("SET ROLE reader; SELECT count(*), count(copy_verified) FROM fsync_rescue()"), sql("SELECT count(*), count(copy_verified) FROM fsync_rescue()"),
	'who may read file_records may ask');
sql("ALTER TABLE file_records ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON file_records TO reader USING (repository_id = '$backup')");
is(sql("SET ROLE reader; SELECT count(*) FROM fsync_rescue() WHERE repository_id = '$id'"), '0', 'row-level security holds');

unlink(glob("$faults/*")) == 4 or die "unlink: $!";
is(verify($id), 'completed', 'a good disk again');
is(rescue($id), '', 'and nothing is lost');

$node->stop;
end_server($server);
unmount($root);
done_testing();
