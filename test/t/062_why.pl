#
# fsync_why() tells which rule decides about a path, and is right: what it
# calls tracked has a row, and what not has none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use POSIX qw(mkfifo);
use Test::More;

my $node = new_node('main');
my $base = new_root('base');
my $root = "$base/user";

make_path("$root/$_")
  foreach ('album', 'raw', 'docs/sub', '.hidden', 'x.tmp', 'closed', 'secret', 'build/out');
symlink($base, "$base/../link") or die "symlink: $!";
write_file("$root/$_", 'x' x 20)
  foreach ('a.jpg', 'a.txt', 'album/b.JPG', 'album/c.jpg~', 'raw/d.jpg', 'docs/sub/e.txt', '.hidden/f.jpg',
	'x.tmp/g.jpg', 'keep.jpg', 'no.jpg', 'closed/h.jpg', 'secret/i.jpg', 'secret/j.jpg', 'build/out/k.jpg');
write_file("$root/small.jpg", 'x');
write_file("$root/large.jpg", 'x' x 200);
write_file("$root/.fsyncignore", "no.*\n");
write_file("$root/secret/.fsyncignore", "j*\n");
symlink('a.jpg', "$root/link.jpg") or die "symlink: $!";
mkfifo("$root/fifo.jpg", 0600) or die "mkfifo: $!";
chmod(0, "$root/closed", "$root/secret/.fsyncignore") or die "chmod: $!";

my $id = $node->safe_psql('postgres', qq(
SELECT fsync_add_repository('$base/../link', user_area => 'user',
	include => '{preset:images,docs/}', exclude => '{raw,/build/out/,!keep.jpg}',
	use_ignore_files => true, min_size => 10, max_size => 100)));
wait_ok($node, $id, 'a repository');

# path; tracked, source, rule, file of the rule, what it decides on; detail
my @cases = (
	[ 'a.jpg', 't', 'include', 'preset:images', '', 'a.jpg', qr/^$/ ],
	[ 'a.txt', 'f', 'include', '', '', 'a.txt', qr/^No pattern of include matches\.$/ ],
	[ 'album/b.JPG', 't', 'include', 'preset:images', '', 'album/b.JPG', qr/^$/ ],
	[ 'album/c.jpg~', 'f', 'default', '*~', '', 'album/c.jpg~', qr/^$/ ],
	[ 'raw/d.jpg', 'f', 'exclude', 'raw', '', 'raw', qr/^$/ ],
	[ 'docs/sub/e.txt', 't', 'include', 'docs/', '', 'docs', qr/^$/ ],
	[ '.hidden/f.jpg', 'f', 'hidden', '.*', '', '.hidden', qr/^$/ ],
	[ 'x.tmp/g.jpg', 'f', 'default', '*.tmp', '', 'x.tmp', qr/^$/ ],
	[ 'keep.jpg', 't', 'include', 'preset:images', '', 'keep.jpg', qr/^$/ ],
	[ 'no.jpg', 'f', 'ignore file', 'no.*', '.fsyncignore', 'no.jpg', qr/^$/ ],
	[ 'secret/j.jpg', '', 'ignore file', '', 'secret/.fsyncignore', 'secret/j.jpg', qr/cannot be read/ ],
	[ 'build/out/k.jpg', 'f', 'exclude', '/build/out/', '', 'build/out', qr/^$/ ],
	[ 'small.jpg', 'f', 'size', 'min_size = 10', '', 'small.jpg', qr/^Its size is 1 bytes\.$/ ],
	[ 'large.jpg', 'f', 'size', 'max_size = 100', '', 'large.jpg', qr/^Its size is 200 bytes\.$/ ],
	[ 'link.jpg', 'f', 'type', '', '', 'link.jpg', qr/^It is a symbolic link, not a regular file\.$/ ],
	[ 'fifo.jpg', 'f', 'type', '', '', 'fifo.jpg', qr/^It is a FIFO/ ],
	[ 'album', 'f', 'type', '', '', 'album', qr/^It is a directory/ ],
	[ 'raw', 'f', 'exclude', 'raw', '', 'raw', qr/^$/ ],
	[ 'closed/h.jpg', '', 'ignore file', '', 'closed/.fsyncignore', 'closed/h.jpg', qr/Permission denied/ ],
	[ 'missing.jpg', 't', 'include', 'preset:images', '', 'missing.jpg', qr/^There is no such file\.$/ ],
	[ 'missing/raw/x', 'f', 'exclude', 'raw', '', 'missing/raw', qr/^There is no such file\.$/ ],
	[ 'a.txt/x.jpg', 't', 'include', 'preset:images', '', 'a.txt/x.jpg', qr/no such file/ ],
);

sub why
{
	my ($path) = @_;

	return $node->safe_psql('postgres',
		"SELECT * FROM fsync_why('$id', " . sql_path($path) . ")");
}

foreach my $case (@cases)
{
	my ($path, @expected) = @$case;
	my $detail;

	$detail = pop @expected;
	my @got = split /\|/, why($path), -1;
	my $said = pop @got;
	is(join('|', @got), join('|', @expected), "$path: which rule");
	like($said, $detail, "$path: what else");
	next if $path =~ /missing|a\.txt\//;
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM file_records WHERE file_path = " . sql_path($path)),
		$got[0] eq 't' ? '1' : '0', "$path: and that is so");
}

# ---- the same path in other words ----

foreach my $path ("$root/a.jpg", "$base/../link/user//a.jpg", "$base/../link/user/./a.jpg", './a.jpg', 'x/.././a.jpg')
{
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT * FROM fsync_why('$id', '$path')");

	if ($path =~ m{x/\.\.})
	{
		like($err, qr/path ".*" contains "\.\."/, 'steps up are refused');
	}
	else
	{
		is($out, 't|include|preset:images||a.jpg|', "\"$path\"") or diag($err);
	}
}
foreach my $path ('/etc/passwd', "$base/users/a.jpg", "$base")
{
	my (undef, undef, $err) = $node->psql('postgres', "SELECT * FROM fsync_why('$id', '$path')");
	like($err, qr/does not lie below the repository's directory/, "not below: \"$path\"");
}
foreach my $path ('', '.', $root, "$root/")
{
	my (undef, undef, $err) = $node->psql('postgres', "SELECT * FROM fsync_why('$id', '$path')");
	like($err, qr/names nothing/, "the directory itself: \"$path\"");
}
is(why('raw/'), 'f|exclude|raw||raw|', 'a slash asks about a directory');
is(why('gone/build/'), 'f|type|||gone/build|It is a directory: files in it may be tracked. There is no such directory.',
	'also one that is not there');

# A link in the tree leads nowhere.
symlink('/etc', "$root/album/etc") or die "symlink: $!";
like(why('album/etc/passwd.jpg'), qr/There is no such file/, 'nothing is told of what lies outside');

# ---- it follows the settings, also where nothing is watched ----

$node->safe_psql('postgres',
	"SELECT fsync_configure_repository('$id', include => '{}', exclude => '{*.txt,!a.txt}', use_ignore_files => false)");
is(why('a.txt'), 't|exclude|!a.txt||a.txt|', 'a pattern that takes back');
is(why('docs/sub/e.txt'), 'f|exclude|*.txt||docs/sub/e.txt|', 'other settings');
is(why('no.jpg'), 't|none||||No rule excludes it.', 'no rule');
rename($root, "$root.away") or die "rename: $!";
is(why('a.txt'), 't|exclude|!a.txt||a.txt|There is no such file.', 'without its directory');
rename("$root.away", $root) or die "rename: $!";
chmod(0755, "$root/closed");

# ---- no other helper, no answer ----

my (undef, undef, $err) = $node->psql('postgres',
	"SELECT * FROM fsync_why('99999999-9999-4999-8999-999999999999', 'x')");
like($err, qr/repository ".*" does not exist/, 'an unknown repository');
$node->safe_psql('postgres', q(ALTER SYSTEM SET fsync.helper_path = '/bin/true'));
$node->restart;
(undef, undef, $err) = $node->psql('postgres', "SELECT * FROM fsync_why('$id', 'a.txt')");
like($err, qr/could not look at "a.txt"/, 'a program that does not answer');

$node->stop;
done_testing();
