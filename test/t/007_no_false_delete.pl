#
# A row goes only when its file is known to be gone.  A root that is away or
# replaced, or a scan that finds most of the files missing, removes nothing by
# itself; what a user removes under watch is removed, however much it is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

# Rows of a repository.
sub rows
{
	my ($id) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE repository_id = '$id'");
}

# Status of a reconciliation, also when it raises.
sub try_reconcile
{
	my ($id, $force) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"SELECT status, files_removed, error_message FROM fsync_reconcile('$id', force => $force)");

	return $rc == 0 ? $out : "failed: $err";
}

# ---- the root is renamed away, and back ----

my $root = new_root('photos');
my $n = make_tree($root, 200);
my $id = add_repository($node, $root);

wait_equal($node, $id, $root, 'first sync');
wait_for_state($node, $id, 'watching', 'the state becomes watching');

my $before = ids_of($node, $id);
my $offset = -s $node->logfile;

rename($root, "$root.away") or die "rename: $!";
wait_for_state($node, $id, 'unavailable', 'root renamed away: unavailable');
isnt(status_of($node, $id, 'reason'), '', 'with a reason');
is(rows($id), $n, 'the rows stay');
like(try_reconcile($id, 'false'), qr/^failed/, 'a reconciliation fails');
is(rows($id), $n, 'and removes nothing');
like(try_reconcile($id, 'true'), qr/^failed/, 'by force too');
is(rows($id), $n, 'and removes nothing');
is( $node->safe_psql('postgres', "SELECT fsync_wait('$id', timeout => '1 s')"),
	'f', 'fsync_wait() does not claim that all is well')
  or diag('it cannot know what happens in a root that it does not see');

append_file("$root.away/it's.txt", 'changed while away');
rename("$root.away", $root) or die "rename: $!";
wait_for_state($node, $id, 'watching', 'root is back: watching, without help');
wait_equal($node, $id, $root, 'root is back');
is_deeply(ids_of($node, $id), $before, 'with all ids');

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset);
my @said = grep { /\b(?:LOG|WARNING):.*\Q$root\E/ } split /\n/, $log;
cmp_ok(scalar(@said), '<=', 6, 'the log does not repeat itself') or diag(join("\n", @said));

# ---- an ancestor of the root is renamed: the root sees no event ----

my $ancestor = new_root('ancestor');
make_path("$ancestor/in/between");
my $inner = "$ancestor/in/between/root";
my $inner_n = make_tree($inner, 60);
my $inner_id = add_repository($node, $inner);
wait_equal($node, $inner_id, $inner, 'a root deeper down');
rename("$ancestor/in", "$ancestor/out") or die "rename: $!";
like(try_reconcile($inner_id, 'false'), qr/^failed/, 'ancestor renamed: a reconciliation fails');
is(rows($inner_id), $inner_n, 'and the rows stay');
rename("$ancestor/out", "$ancestor/in") or die "rename: $!";
wait_for_state($node, $inner_id, 'watching', 'ancestor is back: watching');
wait_equal($node, $inner_id, $inner, 'ancestor is back');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$inner_id')");

# ---- replaced by an empty directory ----

rename($root, "$root.away") or die "rename: $!";
mkdir($root) or die "mkdir: $!";
wait_for_state($node, $id, 'unavailable|degraded', 'root replaced: the state says so');
like(try_reconcile($id, 'false'), qr/^failed/, 'root replaced: a reconciliation fails');
is(rows($id), $n, 'root replaced: the rows stay');
wait_for_status($node, $id, 'hint', qr/force/, 'the hint says what to do');

# and at the start of the server
my $last = latest_operation($node, $id);
$node->restart;
wait_for_state($node, $id, 'unavailable|degraded', 'root replaced: after a restart too');
is(rows($id), $n, 'root replaced: the rows stay after a restart');

# the old one back
rmdir($root) or die "rmdir: $!";
rename("$root.away", $root) or die "rename: $!";
wait_for_state($node, $id, 'watching', 'the old root is back: watching');
wait_equal($node, $id, $root, 'the old root is back');
is_deeply(ids_of($node, $id), $before, 'with all ids');

# ---- absent at the start, and appearing later ----

$node->stop;
rename($root, "$root.away") or die "rename: $!";
$node->start;
wait_for_state($node, $id, 'unavailable', 'root absent at the start: unavailable');
is(rows($id), $n, 'the rows stay');
rename("$root.away", $root) or die "rename: $!";
wait_for_state($node, $id, 'watching', 'root appears later: watching');
wait_equal($node, $id, $root, 'root appears later');

# ---- really a new one: by force ----

rename($root, "$root.old") or die "rename: $!";
mkdir($root) or die "mkdir: $!";
write_file("$root/first of a new life.txt", 'x');
wait_for_state($node, $id, 'unavailable|degraded', 'root replaced again: the state says so');
# said by the fsync-tree that has seen the new one, not by one that is ending
wait_for_status($node, $id, 'hint', qr/force/, 'root replaced again: the hint says what to do');
is(try_reconcile($id, 'true'), "completed|$n|", 'by force, the new root is accepted');
wait_equal($node, $id, $root, 'a new root, accepted');
wait_for_state($node, $id, 'watching', 'and watched');
write_file("$root/second.txt", 'x');
wait_equal($node, $id, $root, 'a new root, watched');

# ---- most files gone while nobody watched ----

my $mass = new_root('mass');
mkdir("$mass/$_") or die "mkdir: $!" foreach ('keep', 'lose');
write_file("$mass/keep/$_.txt", "keep $_") foreach 1 .. 20;
write_file("$mass/lose/$_.txt", "lose $_") foreach 1 .. 80;
my $mass_id = add_repository($node, $mass);
wait_equal($node, $mass_id, $mass, 'mass: first sync');

$last = latest_operation($node, $mass_id);
$node->stop;
remove_tree("$mass/lose");
write_file("$mass/keep/new.txt", 'new');
$node->start;
my ($status, $counts, $error) = wait_for_operation($node, $mass_id, 'startup', $last);
is($status, 'failed', 'a scan that would remove four fifths of the rows fails');
like($error, qr/80/, 'and says how many');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE repository_id = '$mass_id' AND file_path LIKE 'lose/%'"),
	'80', 'nothing was removed');
wait_for_state($node, $mass_id, 'degraded|unavailable', 'the state says so');
like(status_of($node, $mass_id, 'hint'), qr/force/, 'the hint says what to do');
like(try_reconcile($mass_id, 'false'), qr/^failed/, 'a reconciliation without force fails too');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM file_records WHERE repository_id = '$mass_id' AND file_path LIKE 'lose/%'"),
	'80', 'and removes nothing');
is((split /\|/, try_reconcile($mass_id, 'true'))[0], 'completed', 'by force, it is completed');
wait_equal($node, $mass_id, $mass, 'mass: by force');
wait_for_state($node, $mass_id, 'watching', 'mass: and the state is watching');

# ---- below the threshold, or with another threshold ----

$node->stop;
unlink("$mass/keep/$_.txt") or die "unlink: $!" foreach 1 .. 5;
$node->start;
wait_equal($node, $mass_id, $mass, 'a few files removed while the server was down');

$node->append_conf('postgresql.conf', 'fsync.mass_delete_threshold = 1');
$node->stop;
remove_tree("$mass/keep", { keep_root => 1 });
$node->start;
wait_equal($node, $mass_id, $mass, 'all files removed, with a threshold of 1');
is(rows($mass_id), '0', 'and no row is left');
$node->append_conf('postgresql.conf', 'fsync.mass_delete_threshold = 0.5');
$node->reload;

# ---- under watch, a user may remove what he likes ----

make_tree("$mass/again", 300);
wait_equal($node, $mass_id, $mass, 'files again');
remove_tree("$mass/again");
wait_equal($node, $mass_id, $mass, 'rm -rf of all files under watch');
is(rows($mass_id), '0', 'is applied');
reconcile_finds_nothing($node, $mass_id, 'an emptied repository');

$node->stop;
done_testing();
