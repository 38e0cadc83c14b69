#
# A manifest that sha256sum itself checks, on a tree with every kind of name that
# coreutils escapes, and is what sha256sum writes; and its hash is that of the lines as
# psql prints them, in databases of three encodings.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('tree');
my $file = PostgreSQL::Test::Utils::tempdir() . '/manifest';

sub shell
{
	my ($command, @args) = @_;

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{LC_ALL} = 'C';
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'bash', '-c', "set -eo pipefail; $command", 'bash', @args ], '>', \$out, '2>', \$err);
	return wantarray ? ($out, $err) : $out . $err;
}

# The manifest as psql prints it, in a file.
sub write_manifest
{
	my ($db, $id) = @_;

	return shell(q(psql -XAtq -v ON_ERROR_STOP=1 -d "$1" -c "SELECT fsync_manifest('$2')" >"$3"), $db, $id, $file);
}

# What sha256sum writes of the same files, in the order of their bytes.
sub expected
{
	my ($dir) = @_;

	return shell(q(cd "$1" && find . -type f ! -path '*/.*' ! -name '*~' ! -name '*.tmp' ! -name '*.bak' ! -path '*.bak/*' ! -name '*.swp' ! -name Thumbs.db \
		-printf '%P\0' | sort -z | xargs -0 -r sha256sum --), $dir);
}

sub is_manifest
{
	my ($db, $id, $dir, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(write_manifest($db, $id), '', "$name: nothing is left out");
	is(slurp_file($file), expected($dir), "$name: is what sha256sum writes");
	# sha256sum says that an empty manifest is none
	my ($out, $err) = -s $file == 0 ? ("all right\n", '') : shell(q(cd "$1" && sha256sum --strict --quiet -c "$2" && echo all right), $dir, $file);
	is($out . $err, "all right\n", "$name: and what it checks");
	is($node->safe_psql($db, "SELECT fsync_manifest_hash('$id')"), (split ' ', shell(q(sha256sum <"$1"), $file))[0], "$name: its hash");
}

make_tree($root, 300);
write_file("$root/$_", "content of $_") foreach "return\rhere", "\\", "\\n", "line\nand\\back\r\n", "\r", "\n", ' ', '*star', '  two spaces', "\\\\",
  "ends in a space ", "\x7f", "\xE2\x80\xAE turned", '-c', '--check';
my $id = add_repository($node, $root);
wait_ok($node, $id, 'first sync');
is_manifest('postgres', $id, $root, 'hostile names');
my $hash = $node->safe_psql('postgres', "SELECT fsync_manifest_hash('$id')");
is($node->safe_psql('postgres', "SELECT fsync_manifest_hash('$id')"), $hash, 'the same again');
append_file("$root/NULL", 'x');
wait_ok($node, $id, 'a change');
isnt($node->safe_psql('postgres', "SELECT fsync_manifest_hash('$id')"), $hash, 'another one after a change');
is_manifest('postgres', $id, $root, 'after a change');
my $whole = slurp_file($file);

# A copy of the tree elsewhere has the same hash.
my $copy_root = PostgreSQL::Test::Utils::tempdir() . '/copy';
shell(q(cp -a "$1" "$2"), $root, $copy_root);
my $copy = add_repository($node, $copy_root);
wait_ok($node, $copy, 'a copy');
is($node->safe_psql('postgres', "SELECT count(DISTINCT fsync_manifest_hash(repository_id)) FROM fsync_repositories"), '1', 'two trees are compared by one line');

# One byte of one file, its times and size as before: sha256sum sees it.
$node->safe_psql('postgres', "SELECT fsync_pause('$id')");
write_file("$root/say \"hello\".txt", 'nasty: say "Hello".txt');
write_manifest('postgres', $id);
like(shell(q(cd "$1" && sha256sum --quiet -c "$2" || true), $root, $file), qr/^say "hello".txt: FAILED/, 'a file that was changed since is found');
$node->safe_psql('postgres', "SELECT fsync_resume('$id')");
wait_ok($node, $id, 'resumed');

# Files without a hash, and missing ones.
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', on_missing => 'mark')");
wait_ok($node, $id, 'mark');
unlink "$root/NULL";
wait_ok($node, $id, 'gone');
is_manifest('postgres', $id, $root, 'without a file that is gone');
my $empty_root = new_root('empty');
my $empty = add_repository($node, $empty_root, args => 'calculate_hashes => false');
wait_ok($node, $empty, 'empty');
is_manifest('postgres', $empty, $empty_root, 'an empty directory');
write_file("$empty_root/$_", $_) foreach 'a', 'b';
wait_ok($node, $empty, 'no hashes');
like(write_manifest('postgres', $empty), qr/NOTICE:  2 files without a hash are left out/, 'it says how many have no hash');
is(slurp_file($file), '', 'of which there are no lines');
unlink "$empty_root/a";
wait_ok($node, $empty, 'one');
like(write_manifest('postgres', $empty), qr/NOTICE:  1 file without a hash is left out/, 'or one');
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT fsync_manifest_hash(NULL)');
like($err, qr/repository_id must not be null/, 'of none');
($rc, $out, $err) = $node->psql('postgres', 'SELECT * FROM fsync_manifest(gen_random_uuid())');
like($err, qr/does not exist/, 'of one that does not exist');
is($node->safe_psql('postgres', "SET standard_conforming_strings = off; SELECT count(*) FROM fsync_manifest('$id') m WHERE m ~ '^.[0-9a-f]{64}  '") > 5, 1,
	'settings of the session are no matter');

# A path is its bytes, in whatever encoding.
my $latin_root = new_root('latin');
write_file("$latin_root/f\xFCr.txt", 'latin');
write_file("$latin_root/back\\\xE4.txt", 'latin');
my %hashes;
foreach my $encoding ('LATIN1', 'SQL_ASCII')
{
	my $db = lc $encoding;

	$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->safe_psql($db, 'CREATE EXTENSION fsync');
	my $latin = add_repository($node, $latin_root, db => $db);
	wait_ok($node, $latin, $encoding, db => $db);
	local $ENV{PGCLIENTENCODING} = $encoding;
	is_manifest($db, $latin, $latin_root, $encoding);
	$hashes{ $node->safe_psql($db, "SELECT fsync_manifest_hash('$latin')") } = 1;
	$node->safe_psql($db, "SELECT fsync_remove_repository('$latin')");
}
is(scalar keys %hashes, 1, 'the hash is the same in both');

$node->stop;
done_testing();
