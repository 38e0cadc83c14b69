#
# A file system that does not answer any more, as a network mount whose server
# is gone: who asks it cannot even be killed.  Its repository becomes
# unavailable and keeps its rows; the others go on, sessions get their answers,
# and PostgreSQL stops and starts.  When it answers again all is as before.
#
# The file system is a small one of the test's own (FsyncFuse.pm).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use FsyncFuse;
use PostgreSQL::Test::Utils;
use Test::More;

my $device = fuse_device();

plan skip_all => '/dev/fuse cannot be opened' unless $device;

my %content = map { ("file $_.txt" => "content of file $_") } 1 .. 5;
my @names = sort keys %content;

my $hung = new_root('hung');
my $server = serve_files($device, $hung, \%content);

plan skip_all => 'no file system can be served here' unless is_served($hung, scalar @names);

# ---- as long as it answers ----

my $node = new_node('main', conf => 'fsync.helper_timeout = 10s');
my $well = new_root('well');
make_tree($well, 40);
my $well_id = add_repository($node, $well);
my $id = add_repository($node, $hung);
wait_equal($node, $well_id, $well, 'a repository that is well');
wait_ok($node, $id, 'one on the file system');
is(join(',', sort keys %{ ids_of($node, $id) }), join(',', @names), 'its files have rows');
reconcile_finds_nothing($node, $id, 'while it answers');
my $ids = ids_of($node, $id);

# A statement, which must be answered although the file system never does.
sub answered
{
	my ($sql, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql,
		timeout => $PostgreSQL::Test::Utils::timeout_default, timed_out => \my $timed_out);

	ok(!$timed_out, "$name: is answered");
	return $rc == 0 ? $out : $err;
}

# The other repository is kept right.
sub others_go_on
{
	my ($name) = @_;

	append_file("$well/it's.txt", $name);
	write_file("$well/$name.txt", $name);
	wait_equal($node, $well_id, $well, "$name: the other repository");
}

# ---- it hangs ----

kill('USR1', $server);
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id', wait => false)");
wait_for_state($node, $id, 'unavailable', 'hung: unavailable');
isnt(status_of($node, $id, 'hint'), '', 'hung: there is a hint');
others_go_on('hung');
is_deeply(ids_of($node, $id), $ids, 'hung: the rows stay');
is(answered("SELECT fsync_wait('$id', timeout => '1 s')", 'hung: fsync_wait()'), 'f',
	'hung: and does not claim that all is well');
like(answered("SELECT fsync_add_repository(" . sql_path("$hung/sub") . ")", 'hung: fsync_add_repository()'),
	qr/ERROR/, 'hung: and raises');
others_go_on('hung, later');

foreach my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	pass("hung, $mode stop: the server stops and starts");
	others_go_on("hung, $mode stop");
	wait_for_state($node, $id, 'unavailable', "hung, $mode stop: still unavailable");
	is_deeply(ids_of($node, $id), $ids, "hung, $mode stop: the rows stay");
}
answered("SELECT count(*) FROM fsync_status()", 'hung: fsync_status()');
$node->safe_psql('postgres', 'CREATE DATABASE another');
$node->safe_psql('postgres', 'DROP DATABASE another');
pass('hung: databases can be made and dropped');

# ---- its server dies: requests fail ----

end_server($server);
wait_for_state($node, $id, 'unavailable', 'dead: unavailable');
is_deeply(ids_of($node, $id), $ids, 'dead: the rows stay');
others_go_on('dead');
ok(unmount($hung), 'dead: it can be unmounted');
is_deeply(ids_of($node, $id), $ids, 'unmounted: the rows stay');

# ---- and answers again ----

$content{'file 1.txt'} = 'changed meanwhile, and longer';
$server = serve_files($device, $hung, \%content);
wait_for_state($node, $id, 'watching', 'it answers again: heals without help');
wait_ok($node, $id, 'it answers again');
is(table_files($node, $id)->{'file 1.txt'}[3], Digest::SHA::sha256_hex($content{'file 1.txt'}),
	'it answers again: what changed is seen');
is(join(',', sort keys %{ ids_of($node, $id) }), join(',', @names), 'it answers again: all rows');

# hung while the repository is removed
kill('USR1', $server);
$node->safe_psql('postgres', "SELECT fsync_reconcile('$id', wait => false)");
answered("SELECT fsync_remove_repository('$id')", 'hung: fsync_remove_repository()');
is(rows_of($node, $id), 0, 'hung: and the rows go');
others_go_on('removed');

end_server($server);
$node->stop;
unmount($hung);
done_testing();
