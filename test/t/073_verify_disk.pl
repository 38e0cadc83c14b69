#
# Bit rot as it is: a disk on which a file's content is another one, or cannot
# be read, while its stat is the same.  The page cache still has the right
# content: a verification must not be content with that.
#
# The disk is a file system of the test's own (FsyncFuse.pm).

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

my %content = map { ("file $_.txt" => "content of file $_ " x 1000) } 1 .. 5;
my $root = new_root('disk');
my $faults = PostgreSQL::Test::Utils::tempdir() . '/faults';
mkdir $faults or die "mkdir: $!";

# A file "rot NAME" or "bad NAME" there, and reading NAME is as that says.
my $server = serve_files($device, $root, \%content,
	read => sub {
		my ($name, $content) = @_;

		return (POSIX::EIO) if -e "$faults/bad $name";
		$content =~ tr/c/C/ if -e "$faults/rot $name";
		return (0, $content);
	});

plan skip_all => 'no file system can be served here' unless is_served($root, 5);

my $node = new_node('main');
my $id = add_repository($node, $root);
wait_ok($node, $id, 'first sync');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub verify
{
	return sql(qq(SELECT status, files_scanned, coalesce(error_message, '-') FROM fsync_verify('$id')));
}

sub problems
{
	return sql('SELECT file_path, problem, message FROM fsync_problems ORDER BY 1');
}

my $good = sha256_hex($content{'file 2.txt'});
my $rotten = sha256_hex($content{'file 2.txt'} =~ tr/c/C/r);

is(verify(), 'completed|5|-', 'a good disk');
foreach my $name (sort keys %content)
{
	open my $fh, '<', "$root/$name" or die "open: $!";
	local $/;
	my $all = <$fh>;
}

write_file("$faults/rot file 2.txt", '');
write_file("$faults/bad file 4.txt", '');
is(verify(), 'completed|4|corrupt files: 1, unreadable files: 1; see fsync_problems', 'a bad disk');
is(problems(),
	"file 2.txt|content differs from its hash|SHA-256 of the content is $rotten, and was $good\n"
	  . 'file 4.txt|I/O error in verification|Input/output error',
	'what is rotten, and what cannot be read');
is(sql("SELECT encode(content_hash, 'hex') FROM file_records WHERE file_path = 'file 2.txt'"), $good,
	'the good hash is kept');
reconcile_finds_nothing($node, $id, 'a bad disk');
is(sql('SELECT count(*) FROM fsync_problems'), '2', 'a reconciliation, which reads nothing, leaves the problems');

unlink("$faults/rot file 2.txt", "$faults/bad file 4.txt") == 2 or die "unlink: $!";
is(verify(), 'completed|5|-', 'a good disk again');
is(problems(), '', 'and no problem');

$node->stop;
end_server($server);
unmount($root);
done_testing();
