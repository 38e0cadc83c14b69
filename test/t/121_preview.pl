#
# fsync_preview() tells what other settings would come to, and fsync_ignored()
# what is not tracked and why, both from the disk: compared with what happens
# then, and with fsync_why().  Nothing is changed; large trees, hostile names,
# roots that are not the registered one; who may ask.

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
my $root = "$base/photos";

make_path("$root/$_") foreach ('raw/deep', 'album', '.cache/x', 'closed', 'build/out', 'empty');
write_file("$root/$_", "content of $_")
  foreach ('a.jpg', 'b.JPG', 'c.txt', 'raw/d.cr3', 'raw/deep/e.cr3', 'album/f.jpg', 'album/g.jpg~', '.cache/x/h',
	'build/out/i.jpg', 'closed/j.jpg', 'k.tmp', '.hidden.jpg');
write_file("$root/large.jpg", 'x' x 5000);
write_file("$root/album/.fsyncignore", "f.*\n");
symlink('a.jpg', "$root/link.jpg") or die "symlink: $!";
mkfifo("$root/fifo.jpg", 0600) or die "mkfifo: $!";

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $id = add_repository($node, $root, args => "exclude => '{/build/}', max_size => 1000");
wait_ok($node, $id, 'first sync');

# (added, removed, first_added, first_removed, complete), and what psql said.
sub preview
{
	my ($args, %opt) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"SELECT files_added, files_removed, array_to_string(first_added, ' '), array_to_string(first_removed, ' '), complete FROM fsync_preview('$id', $args)",
		extra_params => $opt{as} ? [ '-U', $opt{as} ] : []);

	return wantarray ? ($out, $err, $rc) : $out;
}

sub paths { return { map { ($_ => 1) } split /\n/, sql("SELECT file_path FROM file_records WHERE repository_id = '$id'") } }

# ---- against what happens then ----

foreach my $args ("exclude => '{}'", "exclude => '{*.cr3}'", "include => '{*.jpg}'",
	"include => '{*.jpg}', ignore_case => true", 'include_hidden => true', 'use_ignore_files => true',
	'max_size => -1', "include => '{preset:images}', exclude => '{album/}', max_size => -1", 'min_size => 18',
	"exclude => '{/build/}'")
{
	my $before = paths();
	my ($told, $err) = preview($args);
	my ($rc, $out, $said);

	is_deeply(paths(), $before, "$args: nothing is changed");
	($rc, $out, $said) = $node->psql('postgres', "BEGIN; SELECT fsync_configure_repository('$id', $args); COMMIT");
	is($rc, 0, "$args: configured") or diag($said);
	wait_ok($node, $id, $args);
	my $after = paths();
	my @added = sort grep { !$before->{$_} } keys %$after;
	my @removed = sort grep { !$after->{$_} } keys %$before;
	is($told, join('|', scalar @added, scalar @removed, "@added", "@removed", 't'), "$args: as was told");
	is($err =~ /NOTICE:  (\d+ rows?) of/ ? $1 : '', $said =~ /NOTICE:  (\d+ rows?) of/ ? $1 : '', "$args: the same NOTICE");
	sql("UPDATE fsync_repositories SET include = NULL, exclude = '{/build/}', ignore_case = false, include_hidden = false, use_ignore_files = false, min_size = NULL, max_size = 1000");
	wait_ok($node, $id, 'as before');
}
is(preview("exclude => '{*}', max_paths => 2"), '0|7||a.jpg album/f.jpg|t', 'the first paths, as many as are wanted');
is(preview("exclude => '{*}', max_paths => 0"), '0|7|||t', 'or none');
is(sql("BEGIN READ ONLY; SELECT files_removed FROM fsync_preview('$id', exclude => '{*.txt}'); COMMIT"), '1', 'also in a transaction that only reads');

# ---- errors ----

foreach my $case ([ "exclude => '{a[}'", qr/invalid pattern "a\["/ ], [ 'min_size => 2000', qr/min_size must not be greater/ ],
	[ 'max_paths => 1000', qr/max_paths must be between 0 and 100/ ], [ "timeout => '-1 s'", qr/timeout must not be negative/ ],
	[ 'timeout => NULL', qr/timeout must not be null/ ])
{
	my ($out, $err) = preview($case->[0]);

	like($err, $case->[1], "$case->[0]: an error");
}
like((preview("exclude => '{}', timeout => '0'"))[0], qr/\|f$/, 'no time: it is not complete');
like((preview("exclude => '{}', timeout => '0'"))[1], qr/WARNING:  directory .* was not looked at to its end/, 'and says so');
is(sql(q(SELECT count(*) FROM fsync_status() WHERE state = 'watching')), '1', 'the repository goes on');

# ---- what is not tracked ----

sub ignored { return $node->psql('postgres', "SELECT path, is_directory, source, rule, rule_file, detail FROM fsync_ignored('$id'" . ($_[0] // '') . ')',
		extra_params => $_[1] ? [ '-U', $_[1] ] : []) }

sql("SELECT fsync_configure_repository('$id', use_ignore_files => true)");
wait_ok($node, $id, 'with ignore files');
chmod(0, "$root/closed") or die "chmod: $!";
my (undef, $list, $err) = ignored();
is($list, join("\n",
		'.cache|t|hidden|.*||',
		'.hidden.jpg|f|hidden|.*||',
		'album/.fsyncignore|f|hidden|.*||',
		'album/f.jpg|f|ignore file|f.*|album/.fsyncignore|',
		'album/g.jpg~|f|default|*~||',
		'build|t|exclude|/build/||',
		'closed|t|error|||It could not be looked at: Permission denied.',
		'fifo.jpg|f|type|||It is a FIFO, not a regular file.',
		'k.tmp|f|default|*.tmp||',
		'large.jpg|f|size|max_size = 1000||Its size is 5000 bytes.',
		'link.jpg|f|type|||It is a symbolic link, not a regular file.'),
	'what is not tracked, and why');
is($err, '', 'and that is all');
is(sql(qq(
SELECT count(*) FROM fsync_ignored('$id') i CROSS JOIN LATERAL fsync_why('$id', i.path || CASE WHEN is_directory THEN '/' ELSE '' END) w
WHERE i.source <> 'error' AND (w.tracked OR (i.source, i.rule, i.rule_file) IS DISTINCT FROM (w.source, w.rule, w.rule_file)))),
	'0', 'fsync_why() says the same');
chmod(0700, "$root/closed") or die "chmod: $!";
(undef, $list, $err) = ignored(', 3');
is(scalar split(/\n/, $list), 3, 'three rows');
like($err, qr/WARNING:  there is more in directory/, 'and a warning that there are more');
sql("SELECT fsync_configure_repository('$id', include => '{*.jpg}')");
(undef, $list) = ignored();
like($list, qr/^c\.txt\|f\|include\|\|\|No pattern of include matches\.$/m, 'what no pattern includes');
sql("SELECT fsync_configure_repository('$id', include => '{}')");

# names that are no text, or do something on a terminal
write_file("$root/bad\xff\\name", 'x');
write_file("$root/line\nend.tmp", 'x');
is(sql("SELECT path FROM fsync_ignored('$id') WHERE source = 'name'"), 'bad\377\\\\name', 'a name that is not valid is escaped');
is(sql("SELECT count(*) FROM fsync_ignored('$id') WHERE path = E'line\\nend.tmp'"), '1', 'one that is valid is as it is');

# ---- much ----

make_path("$root/many");
write_file("$root/many/$_.tmp", '') foreach 1 .. 12000;
sql("SELECT fsync_configure_repository('$id', exclude => '{/build/,many/x*}')");
wait_ok($node, $id, 'many files');
(undef, $list, $err) = ignored(', 10000');
like($err, qr/there is more/, 'more than can be told');
is(sql("SELECT count(*) FROM fsync_ignored('$id', 10000)"), '10000', 'ten thousand rows');
like((ignored(', 10001'))[2], qr/max_rows must be between 1 and 10000/, 'no more than that');

# one that is cancelled ends, and so does what it had asked
like(($node->psql('postgres', "SET statement_timeout = '1ms'; SELECT fsync_preview('$id', include => '{*}')"))[2],
	qr/canceling statement due to statement timeout/, 'cancelled');
wait_until(sub { !grep { (eval { slurp_file($_) } // '') =~ /^fsync-tree\0(?:preview|ignored)\0\Q$root\E/ } glob('/proc/[0-9]*/cmdline') },
	'and nothing of it is left');

# ---- who may ask ----

sql(q(
CREATE ROLE reader LOGIN; GRANT SELECT ON file_records TO reader;
CREATE ROLE caller LOGIN; CREATE ROLE curator LOGIN; GRANT SELECT ON file_records TO curator;
GRANT EXECUTE ON FUNCTION fsync_preview, fsync_ignored TO caller, curator;));
like((preview("exclude => '{}'", as => 'reader'))[1], qr/permission denied for function fsync_preview/, 'not without EXECUTE');
like((preview("exclude => '{}'", as => 'caller'))[1], qr/permission denied for table file_records/, 'nor without SELECT');
like((ignored('', 'caller'))[2], qr/permission denied for table file_records/, 'nor what is not tracked');
like((preview("exclude => '{}'", as => 'curator'))[0], qr/^1\|0\|/, 'with both');
sql('ALTER TABLE file_records ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON file_records TO curator USING (false)');
like((preview("exclude => '{}'", as => 'curator'))[1], qr/permission denied.*row-level security/s, 'not where a policy hides rows');
like((ignored('', 'curator'))[2], qr/permission denied.*row-level security/s, 'nor what is not tracked');
sql('ALTER TABLE file_records DISABLE ROW LEVEL SECURITY; DROP POLICY p ON file_records');

# ---- the root ----

rename($root, "$root.away") or die "rename: $!";
like((preview("exclude => '{}'"))[1], qr/could not look at directory .*: No such file or directory/, 'the root is gone');
mkdir($root) or die "mkdir: $!";
write_file("$root/secret", 'x');
like((preview("exclude => '{}'"))[1], qr/is not the one that was registered/, 'another directory in its place');
like((ignored())[2], qr/is not the one that was registered/, 'is not listed either');
unlink("$root/secret"); rmdir($root) or die "rmdir: $!";
symlink($node->data_dir . '/global', $root) or die "symlink: $!";
like((ignored(', 10000'))[2], qr/could not look at directory/, 'nor is a link followed');
unlink($root);
rename("$root.away", $root) or die "rename: $!";
like((preview("exclude => '{}'"))[0], qr/^1\|0\|/, 'and back');

$node->stop;
done_testing();
