#
# Registering that an application does at each start: what is registered already
# is left as it is, and a directory that is not there yet is tracked from when it
# appears, with the checks of registering then and now.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main');
my $base = new_root('base');
my $photos = "$base/photos";

sub sql
{
	return $node->safe_psql($db, $_[0]);
}

# The code and the text of an error; or what was returned.
sub outcome
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql($db, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return $rc == 0 ? $out : $err =~ s/^psql:.*?ERROR: //sr;
}

sub add
{
	my ($path, @args) = @_;

	return join(', ', "SELECT fsync_add_repository('$path'", @args) . ')';
}

my $again = 'if_not_exists => true';
my $later = 'must_exist => false';

# ---- what is registered already ----

mkdir $photos;
write_file("$photos/a.jpg", 'a');
my $id = sql(add($photos, $again, "exclude => '{*.xmp}'"));
like($id, qr/^[0-9a-f-]{36}$/, 'the first call registers');
ok(wait_ok($node, $id), 'and it is tracked');
is(sql(add($photos, $again, "exclude => '{*.jpg}'")), $id, 'the next returns its id');
is(sql("SELECT exclude FROM fsync_repositories"), '{*.xmp}', 'and leaves its settings');
is(sql(add("$base//photos/./", $again)), $id, 'also where the path is written in another way');
symlink($photos, "$base/link");
is(sql(add("$base/link", $again)), $id, 'or leads there by a link');
is(sql(add($base, "user_area => 'photos'", $again)), $id, 'or is a user_area');
is(sql(add($photos, "repository_id => '$id'", $again)), $id, 'with the id that it has');
is(sql('SELECT count(*) FROM fsync_repositories'), '1', 'there is one');
my (undef, undef, $notice) = $node->psql($db, add($photos, $again));
like($notice, qr/NOTICE:  directory ".*photos" is already registered, skipping/, 'a notice says so');
like(outcome(add($photos)), qr/^ 42710: .*already registered/, 'without if_not_exists it is an error');
my $other_id = '00000000-0000-0000-0000-00000000000a';
like(outcome(add($photos, "repository_id => '$other_id'", $again)), qr/^ 42710: .*already registered.*$id/s,
	'so it is where another id is wanted');
like(outcome(add($base, "repository_id => '$id'", $again)), qr/^ 42710: repository "$id" already exists/,
	'and where the id has another directory');
like(outcome(add($photos, 'if_not_exists => NULL')), qr/^ 22004: if_not_exists must not be null/, 'NULL is neither');
like(outcome(add($photos, $again, "include => '{\"[a\"}'")), qr/^ 22023: invalid pattern/, 'settings are checked all the same');

# An application starts while the disk is not mounted.
rename($photos, "$base/away");
is(sql(add($photos, $again)), $id, 'a directory that is absent now and was registered');
rename("$base/away", $photos);
sql("SELECT fsync_pause('$id')");
is(sql(add($photos, $again)), $id, 'a paused one');
is(sql("SELECT paused FROM fsync_repositories"), 't', 'stays paused');
sql("SELECT fsync_resume('$id')");

# Two at once: the second waits for the first, and gets the same.
mkdir "$base/both";
my $first = $node->background_psql($db);
$first->query_safe('BEGIN');
my $first_id = $first->query_safe(add("$base/both", $again) . ';');
my $second = start_sql($node, $db, 'second', add("$base/both", $again));
wait_for_backend($node, 'second', "wait_event_type = 'Lock'");
$first->query_safe('COMMIT');
is((finish_sql($second))[1], $first_id, 'of two that start at the same time both get the same');
$first->quit;
sql("SELECT fsync_remove_repository('$first_id')");

# ---- who may, and what is told to who may not ----

sql('CREATE ROLE app LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app');
foreach my $path ($photos, "$base/absent", $node->data_dir)
{
	my ($rc, $out, $err) = $node->psql($db, add($path, $again, $later), extra_params => [ '-U', 'app' ]);
	like($err, qr/ERROR:  permission denied to register a directory/, 'without the right all paths are alike');
}

# What came by a dump, or an INSERT, is not tracked, and is not taken for it.
sql(q(CREATE TABLE saved AS SELECT * FROM fsync_repositories; TRUNCATE fsync_repositories;
	INSERT INTO fsync_repositories SELECT * FROM saved));
like(outcome(add($photos, $again)), qr/^ 55000: directory ".*photos" belongs to repository "$id", which is not active.*fsync_activate_repository/s,
	'a row that came some other way is no registration');
sql("SELECT fsync_activate_repository('$id')");
is(sql(add($photos, $again)), $id, 'until it is activated');

# ---- a directory that is not there yet ----

like(outcome(add("$base/none")), qr/^ 58P01: directory ".*none" does not exist/, 'by default it must exist');
my $new = sql(add("$base/new/user", $again, $later));
isnt($new, $id, 'one that may come later is registered');
wait_for_state($node, $new, 'unavailable', 'it is unavailable');
like(status_of($node, $new, 'reason'), qr/No such file|does not exist/, 'and why');
is(sql("SELECT fsync_wait('$new', '60 s')"), 'f', 'to wait for it is of no use');
is(sql("SELECT fsync_wait('$id', '60 s')"), 't', 'others go on');
is(sql(add("$base/new/user", $again, $later)), $new, 'the next start of the application');
is(sql(add("$base/new/user", $again)), $new, 'also where it does not say that it may be absent');
make_path("$base/new");
make_path("$base/new/user/sub");
write_file("$base/new/user/sub/f", 'f');
wait_for_state($node, $new, 'watching', 'when it appears it begins by itself');
wait_equal($node, $new, "$base/new/user", 'and is tracked');
is(sql("SELECT root_identity IS NOT NULL FROM fsync_private.registrations WHERE repository_id = '$new'"), 't',
	'with its first file it is the one that may be watched');
rename("$base/new/user", "$base/new/old");
mkdir "$base/new/user";
wait_for_state($node, $new, 'unavailable', 'from then on another in its place is none');
is(rows_of($node, $new), '1', 'and rows stay');
rmdir "$base/new/user";
rename("$base/new/old", "$base/new/user");
wait_for_state($node, $new, 'watching', 'until it is back');

# A mount point: an empty directory, in whose place another comes later.
mkdir "$base/mnt";
my $mounted = sql(add("$base/mnt", $later));
wait_equal($node, $mounted, "$base/mnt", 'an empty directory is tracked');
mkdir "$base/disk";
write_file("$base/disk/f", 'f');
rmdir "$base/mnt";
rename("$base/disk", "$base/mnt");
wait_for_state($node, $mounted, 'watching', 'what comes in its place is accepted');
wait_until(sub { rows_of($node, $mounted) eq '1' }, 'and tracked');
rename("$base/mnt", "$base/disk");
mkdir "$base/mnt";
wait_for_state($node, $mounted, 'unavailable', 'the empty directory is not any more');
is(rows_of($node, $mounted), '1', 'and its row stays');
$node->restart;
wait_for_state($node, $mounted, 'unavailable', 'also after a restart');
is(rows_of($node, $mounted), '1', 'with its row');
rmdir "$base/mnt";
rename("$base/disk", "$base/mnt");
wait_for_state($node, $mounted, 'watching', 'until it is back');
wait_equal($node, $mounted, "$base/mnt", 'and equal');

# A file by an event only, no scan after it.
mkdir "$base/event";
my $event = sql(add("$base/event", $later));
wait_equal($node, $event, "$base/event", 'an empty directory again');
write_file("$base/event/f", 'f');
ok(wait_ok($node, $event), 'a file is made in it');
rename("$base/event", "$base/event-old");
mkdir "$base/event";
wait_for_state($node, $event, 'unavailable', 'another directory in its place');
$node->restart;
wait_for_state($node, $event, 'unavailable', 'also after a restart');
is(rows_of($node, $event), '1', 'takes no row');
sql("SELECT fsync_remove_repository('$event')");

# Settings are kept from the beginning.
sql(add("$base/filtered", $later, "include => '{*.jpg}'"));
make_path("$base/filtered");
write_file("$base/filtered/$_", $_) foreach 'a.jpg', 'a.txt';
wait_until(sub { sql("SELECT string_agg(file_path, ',') FROM fsync_files WHERE absolute_path LIKE '%/filtered/%'") eq 'a.jpg' },
	'settings of a directory that came later');

# ---- what may not appear there ----

# A link: not followed.
my $link_id = sql(add("$base/linked/x", $later));
make_path("$base/elsewhere/x");
write_file("$base/elsewhere/x/secret", 'x');
symlink("$base/elsewhere", "$base/linked");
my $end_id = sql(add("$base/end", $later));
symlink("$base/elsewhere/x", "$base/end");
like(outcome(add("$base/dangling", $later)), qr/does not exist/, 'a link that leads nowhere is refused')
  if symlink("$base/nowhere", "$base/dangling");
like(outcome(add("$base/dangling/below", $later)), qr/^ 58P01: .*A symbolic link in this path leads nowhere/s, 'also on the way');
like(outcome(add("$base/none/../..", $later)), qr/^ 58P01:/, 'so are steps up through what is not there');
like(outcome(add("$photos/a.jpg/x", $later)), qr/^ 42809:|^ 58P01:/, 'and what can never be');
like(outcome(add("$base/" . 'x' x 256, $later)), qr/^ 42622:/, 'and a name that is too long');

# The data directory, or one above it or in it, by its own name or by a rename.
my $data = $node->data_dir;
like(outcome(add("$data/new", $later)), qr/^ 22023: directory ".*new" lies within the data directory/, 'a directory that comes in the data directory');
like(outcome(add("$data/base/x/y/z", $later)), qr/^ 22023: .*lies within/, 'deep in it, too');
symlink($data, "$base/to-data");
like(outcome(add("$base/to-data/new", $later)), qr/^ 22023: .*lies within/, 'or there by a link');
my $above = sql(add("$base/cluster", $later));
my $inside = sql(add("$base/cluster2/pgdata/base", $later));
$node->stop;
my ($parent) = $data =~ m{^(.*)/[^/]+$};
rename($parent, "$base/cluster") or die "could not rename $parent: $!";
symlink("$base/cluster", $parent) or die;
$node->start;
wait_for_state($node, $above, 'unavailable', 'a directory with the data directory in it appears');
like(status_of($node, $above, 'reason'), qr/PostgreSQL|server|data directory/, 'and is refused');
$node->stop;
unlink $parent;
rename("$base/cluster", "$base/cluster2") or die;
symlink("$base/cluster2", $parent) or die;
$node->start;
wait_for_state($node, $inside, 'unavailable', 'one in the data directory');
$node->stop;
unlink $parent;
rename("$base/cluster2", $parent) or die;
$node->start;

# The links have been there for a while by now.
foreach my $which ([ $link_id, 'above it' ], [ $end_id, 'in its place' ])
{
	wait_for_state($node, $which->[0], 'unavailable', "a link $which->[1] is not followed");
	is(rows_of($node, $which->[0]), '0', 'and nothing of what it leads to is read');
}

done_testing();
