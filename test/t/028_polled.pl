#
# A file system that does not tell what others do with it, as a network mount:
# what happens to a file while it is hashed shows in no event, and must be seen
# all the same.
#
# The file system is one of the test's own (FsyncFuse.pm).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use Digest::SHA qw(sha256_hex);
use FsyncFuse;
use PostgreSQL::Test::Utils;
use Test::More;

my $device = fuse_device();

plan skip_all => '/dev/fuse cannot be opened' unless $device;

my %content = map { ("$_.txt" => "content of file $_ " x 100) } 'a' .. 'f';
my $root = new_root('mount');

# When c.txt is read somebody renames it; when e.txt is, another file of the
# same size comes to its name.
my $server = serve_files($device, $root, \%content,
	read => sub {
		my ($name, $content, $fs) = @_;

		if ($name eq 'c.txt')
		{
			my ($i) = grep { $fs->{names}[$_] eq $name } 0 .. $#{ $fs->{names} };

			$fs->{names}[$i] = 'renamed.txt';
			$fs->{content}{'renamed.txt'} = $content;
		}
		if ($name eq 'e.txt')
		{
			my ($i) = grep { $fs->{names}[$_] eq $name } 0 .. $#{ $fs->{names} };

			$fs->{names}[$i] = 'old.txt';
			push @{ $fs->{names} }, $name;
			$fs->{content}{'old.txt'} = $content;
			($fs->{content}{$name} = $content) =~ tr/c/C/;
		}
		return (0, $content);
	});

plan skip_all => 'no file system can be served here' unless is_served($root, 6);

my $node = new_node('main');
my $id = add_repository($node, $root);
my $names = sub { join(' ', sort keys %{ ids_of($node, $id) }) };

wait_ok($node, $id, 'first sync');
like(status_of($node, $id, 'reason'), qr/does not report changes/, 'the file system is polled');
unlike($names->(), qr/c\.txt/, 'a file that was renamed while it was read has no row under its old name');
my $replaced = table_files($node, $id)->{'e.txt'};
ok(!defined $replaced || $replaced->[3] ne sha256_hex($content{'e.txt'}),
	'what came to a name while its file was read does not have that hash');

$node->safe_psql('postgres', "SELECT fsync_reconcile('$id')");
is($names->(), 'a.txt b.txt d.txt e.txt f.txt old.txt renamed.txt', 'a reconciliation finds where they are');
isnt(table_files($node, $id)->{'e.txt'}[3], sha256_hex($content{'e.txt'}),
	'... and what has their names');

$node->stop;
end_server($server);
unmount($root);
done_testing();
