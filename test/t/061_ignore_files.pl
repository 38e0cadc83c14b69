#
# Files named .fsyncignore in the tree: obeyed where a repository wants that,
# as git obeys .gitignore; a change of one takes effect at once, below its
# directory; and one that cannot be read costs no row.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $ignore = '.fsyncignore';

# What git lists of a tree without an index, as paths; the exclude list of the
# repository are patterns of git's command line.
sub git_lists
{
	my ($directory, @exclude) = @_;

	local %ENV = (%ENV, HOME => $directory, GIT_CONFIG_NOSYSTEM => 1,
		GIT_DIR => PostgreSQL::Test::Utils::tempdir() . '/git');
	system('git', 'init', '-q', '--bare', $ENV{GIT_DIR}) == 0 or die 'git init failed';
	open(my $git, '-|', 'git', "--work-tree=$directory", '-C', $directory, 'ls-files', '-z', '--others',
		"--exclude-per-directory=$ignore", map { "--exclude=$_" } @exclude)
	  or die "git: $!";
	local $/ = "\0";
	my @paths = map { chomp; $_ } <$git>;
	close $git or die 'git ls-files failed';
	return { map { $_ => 1 } @paths };
}

# The table is equal to the disk, of which git says what counts.
sub equal_to_git
{
	my ($id, $name, @exclude) = @_;
	my $listed = git_lists($root, @exclude);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_equal($node, $id, $root, $name, accept => sub { $listed->{ $_[0] } });
}

sub watches { return status_of($node, $_[0], 'directories_watched') }

# ---- obeyed on request ----

make_path("$root/a/b/c", "$root/build/x/y", "$root/logs");
write_file("$root/$_", "content of $_")
  foreach ('1.txt', '1.log', 'a/2.txt', 'a/2.log', 'a/b/3.log', 'a/b/keep.log', 'a/b/c/4.txt',
	'build/5.txt', 'build/x/y/6.txt', 'logs/7.txt');
write_file("$root/$ignore", "*.log\n/build/\n# comment\n");
write_file("$root/a/b/$ignore", "!keep.log\nc\n");
my $id = add_repository($node, $root);
wait_equal($node, $id, $root, 'not obeyed unless asked for');
$node->safe_psql('postgres', "SELECT fsync_configure_repository('$id', use_ignore_files => true)");
equal_to_git($id, 'obeyed on request');
is(watches($id), '4', 'excluded directories are not watched');
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE file_path = 'a/b/keep.log'"), '1',
	'a deeper file takes back');

# ---- changed while it is watched ----

append_file("$root/$ignore", "logs\n");
equal_to_git($id, 'a line more');
is(watches($id), '3', 'a directory that is excluded now is not watched any more');
write_file("$root/logs/8.txt", 'x');
write_file("$root/a/b/$ignore", "c/*.txt\n");
equal_to_git($id, 'another text');
is(watches($id), '4', 'a directory that is not excluded any more is watched');
write_file("$root/a/b/c/9.txt", 'x');
write_file("$root/a/b/c/9.jpg", 'x');
equal_to_git($id, 'files come');
unlink("$root/$ignore") or die "unlink: $!";
equal_to_git($id, 'removed');
is(watches($id), '8', 'everything is watched');
append_file("$root/build/x/y/6.txt", 'more');
write_file("$root/build/x/y/new.txt", 'x');
equal_to_git($id, 'what was excluded is watched');
write_file("$root/new", "build\n");
rename("$root/new", "$root/$ignore") or die "rename: $!";
equal_to_git($id, 'renamed to its name');
rename("$root/$ignore", "$root/a/$ignore") or die "rename: $!";
equal_to_git($id, 'renamed into another directory');
make_path("$root/a/build/z");
write_file("$root/a/build/z/1.txt", 'x');
equal_to_git($id, 'obeyed there');
rename("$root/a", "$root/other") or die "rename: $!";
equal_to_git($id, 'its directory renamed');
rename("$root/other/build", "$root/other/b/built") or die "rename: $!";
equal_to_git($id, 'a directory renamed to what is not excluded');
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE file_path = 'other/b/built/z/1.txt'"),
	'1', 'has its files');
symlink("../build/5.txt", "$root/logs/$ignore") or die "symlink: $!";
make_path("$root/build/x/$ignore");
equal_to_git($id, 'what is no file');
reconcile_finds_nothing($node, $id, 'in the end');

# While a reconciliation runs, and files are hashed.
foreach my $round (1 .. 5)
{
	make_path("$root/round$round/in", "$root/round$round/out");
	write_file("$root/round$round/$_", $_ x 50_000) foreach (map { ("in/$_", "out/$_") } 1 .. 20);
	my $sql = start_sql($node, 'postgres', "reconcile$round", "SELECT fsync_reconcile('$id')");
	write_file("$root/round$round/$ignore", "out\n");
	write_file("$root/round$round/in/$ignore", "1*\n");
	finish_sql($sql);
	equal_to_git($id, "changed while files are hashed, round $round");
}
reconcile_finds_nothing($node, $id, 'changed while files were hashed');

# ---- the exclude list is stronger, as git's command line ----

$node->safe_psql('postgres',
	"SELECT fsync_configure_repository('$id', exclude => '{!1*,round2,!other/b/c}')");
equal_to_git($id, 'beside an exclude list', '!1*', 'round2', '!other/b/c');
write_file("$root/round1/in/13", 'x');
equal_to_git($id, 'beside an exclude list, under watch', '!1*', 'round2', '!other/b/c');
reconcile_finds_nothing($node, $id, 'beside an exclude list');

# ---- while the server is down ----

$node->stop;
write_file("$root/round3/$ignore", "in\n");
append_file("$root/round4/$ignore", "*5\n");
unlink("$root/round5/$ignore");
$node->start;
equal_to_git($id, 'after changes while the server was down', '!1*', 'round2', '!other/b/c');

# ---- one that cannot be read ----

my $rows = q(SELECT string_agg(id || ' ' || file_path, ',' ORDER BY file_path)
FROM file_records WHERE file_path ~ '^round4/');
my $before = $node->safe_psql('postgres', $rows);
my @readable = ("$root/round4/in/2", "$root/round4/in/3");

chmod(0, "$root/round4/$ignore") or die "chmod: $!";
wait_ok($node, $id, 'a file that cannot be read');
is($node->safe_psql('postgres', $rows), $before, 'a file that cannot be read: rows stay');
is(problems_of($node, $id)->{"round4/$ignore"}, 'permission denied', 'and it is a problem');
write_file("$root/round4/in/new", 'x');
append_file($readable[0], 'x');
unlink($readable[1]) or die "unlink: $!";
my ($status) = split /\|/, $node->safe_psql('postgres', "SELECT status FROM fsync_reconcile('$id', force => true)");
is($status, 'completed', 'a reconciliation completes');
wait_ok($node, $id, 'a file that cannot be read');
$before =~ s{,\d+ round4/in/3(?=,)}{};
is($node->safe_psql('postgres', $rows), $before,
	'neither are rows made of what may be excluded, nor removed but of what is gone');
is( $node->safe_psql('postgres', "SELECT file_size FROM file_records WHERE file_path = 'round4/in/2'"),
	-s $readable[0], 'and those that are there follow');
chmod(0644, "$root/round4/$ignore") or die "chmod: $!";
equal_to_git($id, 'readable again', '!1*', 'round2', '!other/b/c');
is($node->safe_psql('postgres', 'SELECT count(*) FROM fsync_problems'), '0', 'the problem is gone');

# ---- one that is too large ----

write_file("$root/round1/$ignore", "out\n" . '#' x 1_048_576);
wait_ok($node, $id, 'a file that is too large');
is(problems_of($node, $id)->{"round1/$ignore"}, 'I/O error', 'a file that is too large is a problem, too');
write_file("$root/round1/$ignore", "out\n" . '#' x 1_048_000);
equal_to_git($id, 'not too large any more', '!1*', 'round2', '!other/b/c');
is($node->safe_psql('postgres', 'SELECT count(*) FROM fsync_problems'), '0', 'and no problem');

# ---- hidden files, the file itself among them ----

$node->safe_psql('postgres',
	"SELECT fsync_configure_repository('$id', exclude => '{}', include_hidden => true)");
wait_ok($node, $id, 'hidden files');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE file_path ~ '(^|/)\\.fsyncignore\$'"),
	scalar(grep { m{(^|/)\.fsyncignore\z} && !-l "$root/$_" } keys %{ git_lists($root) }),
	'it is a file like others');
$node->safe_psql('postgres',
	"SELECT fsync_configure_repository('$id', use_ignore_files => false, include_hidden => false)");
wait_equal($node, $id, $root, 'not obeyed any more');

$node->stop;
done_testing();
