#
# A dump carries the repositories, the files with their ids, and what an
# application made refer to them.  Restored, a repository is inactive until it
# is activated: otherwise a worker would write into a restore that is under way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $dump = PostgreSQL::Test::Utils::tempdir() . "/dump";

make_tree($root, 200);
my $id = add_repository($node, $root, args => "exclude => ARRAY['*.raw']");
wait_equal($node, $id, $root, 'first sync');

# Every setting is another than its default; this test needs it only once.
$node->safe_psql('postgres', qq(
SELECT fsync_configure_repository('$id', include => '{*,preset:raw}', exclude => '{*.raw,.*}', calculate_hashes => true,
	ignore_case => true, include_hidden => true, use_ignore_files => true, min_size => 0,
	max_size => 1000000000, on_missing => 'mark', missing_retention => '30 days',
	on_type_change => 'mark', on_overwrite => 'source', on_excluded => 'mark', change_feed => true,
	debounce_interval => '1 second', reconciliation_interval => '1 week', poll_interval => '1 minute')));
wait_ok($node, $id, 'other settings');
my $as_before = qq(
SELECT fsync_configure_repository('$id', include => '{}', exclude => '{*.raw}', ignore_case => false,
	include_hidden => false, use_ignore_files => false, min_size => -1, max_size => -1,
	on_missing => 'delete', missing_retention => '0', on_type_change => 'missing',
	on_overwrite => 'target', on_excluded => 'remove', change_feed => false,
	debounce_interval => '-1', reconciliation_interval => '-1', poll_interval => '-1'));

$node->safe_psql(
	'postgres', q(
CREATE TABLE album (title text, file_id bigint NOT NULL REFERENCES file_records);
INSERT INTO album SELECT 'holiday', id FROM file_records ORDER BY id LIMIT 50;
));

my $content = q(
SELECT md5(string_agg(f::text, ',' ORDER BY id)) FROM file_records f;
SELECT md5(string_agg(a::text, ',' ORDER BY file_id)) FROM album a;
);
my $repository = q(
SELECT repository_id, path, watch_root, include, exclude, calculate_hashes, ignore_case,
	include_hidden, use_ignore_files, min_size, max_size, on_missing, missing_retention,
	on_type_change, on_overwrite, on_excluded, change_feed, debounce_interval,
	reconciliation_interval, poll_interval
FROM fsync_repositories);
my $before = $node->safe_psql('postgres', $content);
my $before_repository = $node->safe_psql('postgres', $repository);

foreach my $format ('custom', 'plain')
{
	my $db = "restored_$format";

	# While files change and the worker writes.
	$node->command_ok([ 'pg_dump', "--format=$format", "--file=$dump.$format", 'postgres' ],
		"$format: pg_dump");
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	if ($format eq 'custom')
	{
		$node->command_ok([ 'pg_restore', '--exit-on-error', "--dbname=$db", "$dump.$format" ],
			"$format: pg_restore");
	}
	else
	{
		$node->command_ok(
			[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.$format", $db ],
			"$format: psql");
	}

	is($node->safe_psql($db, $content), $before, "$format: files and what refers to them are the same");
	is($node->safe_psql($db, $repository), $before_repository, "$format: so is the repository");
	is($node->safe_psql($db, 'SELECT state FROM fsync_status()'), 'inactive',
		"$format: which is inactive");
	# one that looks whether there is something to do may still be there
	wait_until(sub { worker_pid($node, $db) eq '' }, "$format: and has no worker");
	is( $node->safe_psql($db, "SELECT count(*) FROM sync_operations"),
		'0', "$format: the history stays behind");
}

is( $node->safe_psql('restored_plain', q(
SELECT string_agg(attname, ' ' ORDER BY attname)
FROM fsync_repositories r, pg_attribute
WHERE attrelid = 'fsync_repositories'::regclass AND attnum > 0 AND NOT attisdropped
	AND attname NOT IN ('repository_id', 'path', 'user_area', 'watch_root', 'active', 'database_oid',
		'state', 'state_reason', 'state_hint', 'root_identity', 'mounts', 'scan_generation',
		'last_complete_generation', 'last_complete_scan', 'created_at', 'paused')
	AND coalesce(to_jsonb(r) ->> attname::text, '') IN ('', 'false', 'delete', 'missing', 'target', 'remove'))),
	'', 'no setting has its default');
$node->safe_psql($_, $as_before) foreach ('postgres', 'restored_custom');

# ---- inactive means that nothing is written ----

write_file("$root/while inactive.txt", 'x');
write_file("$root/not wanted.raw", 'x');
my $accept = sub { $_[0] !~ /\.raw\z/ };
wait_equal($node, $id, $root, 'the original goes on', accept => $accept);
is($node->safe_psql('restored_custom', $content), $before, 'the inactive one does not');

# ---- activated ----

my $highest = $node->safe_psql('restored_custom', 'SELECT max(id) FROM file_records');
my $kept = $node->safe_psql('restored_custom', 'SELECT string_agg(id::text, \',\' ORDER BY id) FROM file_records');
$node->safe_psql('restored_custom', "SELECT fsync_activate_repository('$id')");
wait_equal($node, $id, $root, 'activated', db => 'restored_custom', accept => $accept);
is( $node->safe_psql('restored_custom',
		"SELECT id > $highest FROM file_records WHERE file_path = 'while inactive.txt'"),
	't', 'a new file gets an id that was never given out before');
is( $node->safe_psql('restored_custom',
		"SELECT string_agg(id::text, ',' ORDER BY id) FROM file_records WHERE id <= $highest"),
	$kept, 'the files keep their ids');
is($node->safe_psql('restored_custom', 'SELECT count(*) FROM album JOIN file_records ON id = file_id'),
	'50', 'what refers to them still does');
append_file("$root/while inactive.txt", 'x');
wait_equal($node, $id, $root, 'watched again', db => 'restored_custom', accept => $accept);
reconcile_finds_nothing($node, $id, 'activated', db => 'restored_custom');

# ---- a referenced row cannot go, and says so ----

my $path = $node->safe_psql('restored_custom',
	"SELECT encode(convert_to(file_path, 'UTF8'), 'hex') FROM file_records JOIN album ON id = file_id ORDER BY id LIMIT 1");
my $file = "$root/" . pack('H*', $path);
rename($file, PostgreSQL::Test::Utils::tempdir() . '/gone') or die "rename: $!";
append_file("$root/while inactive.txt", 'y');
wait_ok($node, $id, 'a referenced file removed', db => 'restored_custom');
is( $node->safe_psql('restored_custom', 'SELECT problem FROM fsync_problems'),
	'still referenced', 'a row that an application references stays, as a problem');
is( $node->safe_psql('restored_custom',
		"SELECT file_size FROM file_records WHERE file_path = 'while inactive.txt'"),
	'3', 'and holds up nobody else');
$node->safe_psql('restored_custom', 'DELETE FROM album');
$node->safe_psql('restored_custom', "SELECT fsync_reconcile('$id')");
wait_equal($node, $id, $root, 'not referenced any more', db => 'restored_custom', accept => $accept);
is($node->safe_psql('restored_custom', 'SELECT count(*) FROM fsync_problems'),
	'0', 'and the problem is gone');

$node->stop;
done_testing();
