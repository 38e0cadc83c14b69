#
# What cannot be tracked is a row in fsync_problems, which goes when its cause
# goes; what is no regular file is no row anywhere, and is not even opened.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use IO::Socket::UNIX;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');

make_tree($root, 100);
make_path("$root/private/deeper");
write_file("$root/private/$_.txt", $_) foreach 1 .. 5;
write_file("$root/private/deeper/6.txt", '6');
write_file("$root/secret.txt", 'secret');

my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'first sync');

sub problems
{
	return $node->safe_psql(
		'postgres', qq(
SELECT encode(path, 'escape'), problem FROM fsync_problems
WHERE repository_id = '$id' ORDER BY path));
}

is(problems(), '', 'no problem to begin with');

# ---- a file that may not be read ----

my $before = table_files($node, $id);
chmod(0, "$root/secret.txt") or die "chmod: $!";
append_file("$root/it's.txt", 'x');
write_file("$root/another secret.txt", 'x');
chmod(0, "$root/another secret.txt") or die "chmod: $!";
wait_ok($node, $id, 'unreadable files');
is( problems(),
	"another secret.txt|permission denied\nsecret.txt|permission denied",
	'unreadable files are problems');
my $table = table_files($node, $id);
is($table->{'secret.txt'}[3], $before->{'secret.txt'}[3],
	'the row of a file that became unreadable stays');
isnt($table->{"it's.txt"}[3], $before->{"it's.txt"}[3], 'other files are not concerned');
is(status_of($node, $id, 'problems'), '2', 'fsync_status() counts them');
is( $node->safe_psql('postgres',
		"SELECT min(occurrences) >= 1 AND bool_and(first_seen <= last_seen) FROM fsync_problems"),
	't', 'a problem says when and how often');

$node->safe_psql('postgres', "SELECT fsync_reconcile('$id')");
is( problems(),
	"another secret.txt|permission denied\nsecret.txt|permission denied",
	'a reconciliation keeps the problems that are still there');

chmod(0644, "$root/secret.txt", "$root/another secret.txt") == 2 or die "chmod: $!";
wait_equal($node, $id, $root, 'readable again');
is(problems(), '', 'and the problems are gone');

# ---- one that goes by removing the file ----

write_file("$root/short-lived.txt", 'x');
chmod(0, "$root/short-lived.txt") or die "chmod: $!";
wait_ok($node, $id, 'another unreadable file');
is(problems(), 'short-lived.txt|permission denied', 'another unreadable file');
unlink("$root/short-lived.txt") or die "unlink: $!";
wait_equal($node, $id, $root, 'removed');
is(problems(), '', 'the problem goes with the file');

# ---- a directory ----

$before = table_files($node, $id);
chmod(0, "$root/private") or die "chmod: $!";
wait_ok($node, $id, 'an unreadable directory');
my ($status) = split /\|/, $node->safe_psql('postgres',
	"SELECT status, error_message FROM fsync_reconcile('$id')");
is($status, 'completed', 'an unreadable directory does not stop a reconciliation');
like(problems(), qr{^private/?\|permission denied$}m, 'an unreadable directory is a problem');
$table = table_files($node, $id);
is( join(',', sort grep { m{^private/} } keys %$table),
	join(',', sort grep { m{^private/} } keys %$before),
	'the rows below it stay');
chmod(0755, "$root/private") or die "chmod: $!";
wait_equal($node, $id, $root, 'a readable directory again');
is(problems(), '', 'and its problem is gone');
append_file("$root/private/deeper/6.txt", 'more');
wait_equal($node, $id, $root, 'which is watched as before');

# ---- files that cannot be examined, in a first scan ----

foreach my $hashes ('true', 'false')
{
	my $listed = new_root("listed $hashes");

	make_path("$listed/open", "$listed/shut");
	write_file("$listed/open/1.txt", 'x');
	write_file("$listed/shut/2.txt", 'x');
	chmod(0444, "$listed/shut") or die "chmod: $!";
	my $listed_id = add_repository($node, $listed, args => "calculate_hashes => $hashes");
	wait_ok($node, $listed_id, "hashes $hashes: a directory that can only be listed");
	is(join(',', sort keys %{ table_files($node, $listed_id) }), 'open/1.txt',
		"hashes $hashes: what can be examined is tracked");
	like( $node->safe_psql('postgres',
			"SELECT file_path, problem FROM fsync_problems WHERE repository_id = '$listed_id'"),
		qr{^shut(?:/2\.txt)?\|permission denied$}, "hashes $hashes: what cannot be is a problem");
	chmod(0755, "$listed/shut") or die "chmod: $!";
	wait_equal($node, $listed_id, $listed, "hashes $hashes: it can be examined now",
		hashes => $hashes eq 'true');
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM fsync_problems WHERE repository_id = '$listed_id'"),
		'0', "hashes $hashes: and the problem is gone");
	$node->safe_psql('postgres', "SELECT fsync_remove_repository('$listed_id')");
}

# ---- names that the database cannot hold ----

my $bad = "bad \xFF\xFE name.txt";
write_file("$root/$bad", 'x');
make_path("$root/dir \xC3\x28");
write_file("$root/dir \xC3\x28/inside.txt", 'x');
wait_ok($node, $id, 'invalid names');
is( $node->safe_psql(
		'postgres', qq(
SELECT encode(path, 'hex'), problem FROM fsync_problems
WHERE repository_id = '$id' ORDER BY path)),
	join("\n",
		unpack('H*', $bad) . "|name invalid in the database's encoding",
		unpack('H*', "dir \xC3\x28") . "|name invalid in the database's encoding"),
	'invalid names are problems, with their bytes');
write_file("$root/next to it.txt", 'x');
rename("$root/$bad", "$root/good name.txt") or die "rename: $!";
rename("$root/dir \xC3\x28", "$root/dir (") or die "rename: $!";
wait_equal($node, $id, $root, 'renamed to valid names');
is(problems(), '', 'and the problems are gone');

# ---- paths that the index cannot hold ----

# Not repetitive: an index entry is compressed before it is measured.
my $long = $root;
srand(7);
for (my $i = 0; $i < 11; $i++)
{
	$long .= '/' . join('', map { ('a' .. 'z', 0 .. 9)[ rand 36 ] } 1 .. 240);
}
make_path($long);
write_file("$long/a.txt", 'x');
wait_ok($node, $id, 'a path that is too long');
like(problems(), qr/\|path too long$/, 'a path of more than 2,500 bytes is a problem');
is( $node->safe_psql('postgres',
		"SELECT max(octet_length(file_path)) <= 2500 FROM file_records"),
	't', 'and no row');

# 2,500 bytes are not too long, whatever they are: ten directories of 240 bytes
# and the slashes between them are 2,409, "/", one of 46, "/" and a name of 43
# make 2,500
my $fits = substr($long, 0, length($root) + 10 * 241) . '/' . 'y' x 46;
make_path($fits);
write_file("$fits/" . 'z' x 43, 'x');
wait_ok($node, $id, 'a path that just fits');
is( $node->safe_psql('postgres',
		"SELECT max(octet_length(file_path)) FROM file_records"),
	'2500', 'a path of 2,500 bytes is a row');

remove_tree(substr($long, 0, length($root) + 241));
wait_equal($node, $id, $root, 'shorter paths again');
is(problems(), '', 'and the problem is gone');

# ---- what is no regular file ----

my $count = scalar(keys %{ table_files($node, $id) });

mkfifo("$root/fifo.jpg", 0644) or die "mkfifo: $!";
symlink('/etc/passwd', "$root/link to a file.txt") or die "symlink: $!";
symlink($root, "$root/link to the root") or die "symlink: $!";
symlink('/nonexistent', "$root/dangling") or die "symlink: $!";
# The path of a socket is short.
my $cwd = PostgreSQL::Test::Utils::tempdir_short();
symlink($root, "$cwd/root") or die "symlink: $!";
my $socket = IO::Socket::UNIX->new(Local => "$cwd/root/socket", Listen => 1)
  or die "socket: $!";

# A writer that waits for a reader of the FIFO goes on waiting.
pipe(my $reader, my $writer) or die "pipe: $!";
my $child = fork() // die "fork: $!";
if ($child == 0)
{
	close $reader;
	open(my $fifo, '>', "$root/fifo.jpg");
	syswrite($writer, 'opened');
	POSIX::_exit(0);
}
close $writer;

wait_equal($node, $id, $root, 'FIFO, socket and symbolic links');
is(scalar(keys %{ table_files($node, $id) }), $count, 'are no files');
is(problems(), '', 'and no problems');
reconcile_finds_nothing($node, $id, 'FIFO, socket and symbolic links');

my $ready = '';
vec($ready, fileno($reader), 1) = 1;
is(select($ready, undef, undef, 0), 0, 'nobody opened the FIFO');
kill('KILL', $child);
waitpid($child, 0);

# a file becomes a link, and a link a file
unlink("$root/secret.txt") or die "unlink: $!";
symlink('/etc/passwd', "$root/secret.txt") or die "symlink: $!";
unlink("$root/dangling") or die "unlink: $!";
write_file("$root/dangling", 'a file now');
wait_equal($node, $id, $root, 'a file became a link, and a link a file');

# a directory is swapped for a link to one outside
my $outside = new_root('outside');
make_path("$outside/deeper");
write_file("$outside/1.txt", 'not yours');
rename("$root/private", "$root/private before") or die "rename: $!";
symlink($outside, "$root/private") or die "symlink: $!";
wait_equal($node, $id, $root, 'a directory became a link');
append_file("$outside/1.txt", 'not yours either');
wait_equal($node, $id, $root, 'nothing outside the root is tracked');
reconcile_finds_nothing($node, $id, 'in the end');

$node->stop;
done_testing();
