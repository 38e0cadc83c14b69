#
# Repositories that overlap: a file that has a row in several is no duplicate of
# itself, by whatever path, and registering one says with which it overlaps.
# Consumers of all repositories: those whose feed is off are named.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Copy qw(copy);
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $base = new_root('ov');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# What a statement returns and says.
sub both
{
	my ($statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement);

	is($rc, 0, "succeeds: $statement") or diag($err);
	return ($out, $err);
}

sub duplicates
{
	return sql(q(
SELECT copies, names, wasted_bytes, (SELECT string_agg(substr(p, strpos(p, '/ov') + 1), ' ' ORDER BY n) FROM unnest(absolute_paths) WITH ORDINALITY u (p, n))
FROM fsync_duplicates ORDER BY content_hash));
}

make_path("$base/$_") foreach ('a/b', 'ab', 'x');
write_file("$base/a/only.jpg", 'an only one');
write_file("$base/a/b/deep.jpg", 'another one');

my ($outer) = both("SELECT fsync_add_repository('$base')");
my ($inner, $err) = both("SELECT fsync_add_repository('$base/a')");
like($err, qr/NOTICE:  directory "\Q$base\E\/a" lies within "\Q$base\E", which is watched as repository "$outer"\n.*DETAIL: .*\n.*exclude "\/a\/" from the outer/,
	'one that lies within another');
my ($deepest);
($deepest, $err) = both("SELECT fsync_add_repository('$base/a/b')");
is(scalar(() = $err =~ /NOTICE/g), 2, 'one that lies within two');
my ($other);
($other, $err) = both("SELECT fsync_add_repository('$base/ab')");
is(scalar(() = $err =~ /NOTICE/g), 1, 'a name that only begins alike is another');
wait_ok($node, $_, 'first sync') foreach ($outer, $inner, $deepest, $other);
is(sql('SELECT count(*) FROM file_records'), '5', 'each has its rows');
is(duplicates(), '', 'no file is its own duplicate');

copy("$base/a/b/deep.jpg", "$base/ab/copy.jpg") or die "copy: $!";
wait_ok($node, $_, 'a copy') foreach ($outer, $inner, $deepest, $other);
is(duplicates(), '2|2|11|ov/a/b/deep.jpg ov/ab/copy.jpg', 'a true copy is one, each path is there once');

# a hard link of which each repository knows another name
sql("SELECT fsync_configure_repository('$outer', exclude => '{/a/b/}')");
link("$base/a/b/deep.jpg", "$base/x/link.jpg") or die "link: $!";
unlink("$base/ab/copy.jpg") or die "unlink: $!";
wait_ok($node, $_, 'a link') foreach ($outer, $inner, $deepest, $other);
is(duplicates(), '', 'nor is one a copy that is a link in the same tree');

# the outer one hashes nothing: the inner one's rows count
sql("SELECT fsync_configure_repository('$outer', exclude => '{}', calculate_hashes => false)");
copy("$base/a/only.jpg", "$base/a/same.jpg") or die "copy: $!";
sql("SELECT fsync_wait()");
sql("UPDATE file_records SET content_hash = NULL WHERE repository_id = '$outer'");
is(duplicates(), '2|2|11|ov/a/only.jpg ov/a/same.jpg', 'without hashes in the outer one, the inner one counts');

# the other order, and after a restore
sql("SELECT fsync_remove_repository(repository_id) FROM fsync_repositories");
($inner, $err) = both("SELECT fsync_add_repository('$base/a')");
is($err, '', 'nothing to say where nothing overlaps');
($outer, $err) = both("SELECT fsync_add_repository('$base')");
like($err, qr/NOTICE:  directory "\Q$base\E" contains "\Q$base\E\/a", which is watched as repository "$inner"/, 'one that contains another');
(undef, $err) = both("SELECT fsync_activate_repository('$outer')");
like($err, qr/NOTICE:  directory "\Q$base\E" contains/, 'activated: the same');

# ---- consumers of all repositories ----

(undef, $err) = both("SELECT fsync_create_consumer('all', from_start => true)");
like($err, qr/WARNING:  the consumer gets no changes of repositories whose change feed is off\n.*DETAIL:  It is off for "\Q$base\E\/a" \($inner\), "\Q$base\E" \($outer\)\./,
	'a consumer of all: those whose feed is off are named');
sql("SELECT fsync_configure_repository(repository_id, change_feed => true) FROM fsync_repositories");
(undef, $err) = both("SELECT fsync_create_consumer('more')");
is($err, '', 'nothing to say where all feeds are on');
sql("SELECT fsync_create_consumer('one', '$inner')");
(undef, $err) = both("SELECT fsync_configure_repository('$inner', change_feed => false)");
like($err, qr/WARNING:  consumers get no changes of repository "$inner".*\n.*DETAIL:  There is consumer "all", "more", "one"\./, 'a feed that is switched off');
(undef, $err) = both("UPDATE fsync_repositories SET change_feed = false WHERE repository_id = '$outer'");
like($err, qr/WARNING:  consumers get no changes of repository "$outer".*\n.*DETAIL:  There is consumer "all", "more"\./, 'by an UPDATE, too');
my $new = new_root('new');
(undef, $err) = both("SELECT fsync_add_repository('$new')");
like($err, qr/WARNING:  consumers get no changes of repository/, 'a new repository without a feed');
(undef, $err) = both("BEGIN; SELECT fsync_add_repository('$base/x', change_feed => true); ROLLBACK");
unlike($err, qr/WARNING/, 'and one with a feed');

$node->stop;
done_testing();
