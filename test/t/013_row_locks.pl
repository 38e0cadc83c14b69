#
# Rows that other transactions hold: locked, updated, referenced or inserted and
# not committed.  What is held is one file's problem, which names the holder; all
# other files are written, another repository of the same worker does not
# notice, and when the row is free the file is looked at again, without anybody
# asking for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $db = 'postgres';
my $node = new_node('main', conf => "max_prepared_transactions = 2\n");
my $root = new_root('photos');
my $other = new_root('other');

make_path("$root/d", "$root/e");
write_file("$root/f$_", "file $_") foreach 1 .. 40;
write_file("$root/d/$_", "d $_") foreach 1 .. 20;
write_file("$other/f$_", "file $_") foreach 1 .. 5;
my $id = add_repository($node, $root);
my $other_id = add_repository($node, $other);
wait_equal($node, $id, $root, 'first sync');
wait_equal($node, $other_id, $other, 'first sync of the other');
$node->safe_psql($db, q(
CREATE TABLE released (name text);
CREATE TABLE refs (file_id bigint REFERENCES file_records ON DELETE CASCADE);
));
my $worker = worker_pid($node, $db);
my $position = log_position($node);
my $holders = 0;

# A transaction that stays open until it is released, and then ends by that.
sub hold
{
	my ($sql, $end) = @_;
	my $name = 'holder' . ++$holders;
	my $session = start_sql($node, $db, $name, "
BEGIN;
$sql;
DO \$\$ BEGIN
	PERFORM set_config('application_name', '$name holds', false);
	WHILE NOT EXISTS (SELECT FROM released WHERE name = '$name') LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
END \$\$;
" . ($end // 'ROLLBACK'));

	wait_for_backend($node, "$name holds", 'true');
	my $pid = $node->safe_psql($db,
		"SELECT pid FROM pg_stat_activity WHERE application_name = '$name holds'");
	return { name => $name, pid => $pid, session => $session };
}

sub release
{
	my ($holder) = @_;

	$node->safe_psql($db, "INSERT INTO released VALUES ('$holder->{name}')");
	my ($rc, $out, $err) = finish_sql($holder->{session});
	diag($err) if $rc != 0;
}

sub problems
{
	return $node->safe_psql($db,
		"SELECT file_path, problem FROM fsync_problems ORDER BY file_path COLLATE \"C\"");
}

# The barrier is over in spite of the lock, all other files are as on disk, and
# these paths are the problems.  absent: paths to be left out, too.
sub all_but
{
	my ($name, $holder, $paths, @absent) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	wait_ok($node, $id, $name) or return;
	cmp_ok(time - $start, '<', 20, "$name: nobody waits for the lock");
	my ($disk, $table) = (disk_files($root), table_files($node, $id));
	delete $disk->{$_}, delete $table->{$_} foreach @$paths, @absent;
	is(differences($disk, $table), '', "$name: all others are written");
	is(problems(), join("\n", map { "$_|row is locked" } sort @$paths),
		"$name: what is held is a problem");
	is( $node->safe_psql($db, "SELECT DISTINCT message FROM fsync_problems"),
		"process $holder->{pid} (application \"$holder->{name} holds\") holds it",
		"$name: which says by whom") if $holder;
	isnt(status_of($node, $id, 'state'), 'degraded', "$name: the repository is not degraded");
	write_file("$other/new", $name);
	wait_equal($node, $other_id, $other, "$name: the other repository");
	is($node->safe_psql($db, "SELECT max(state) FROM fsync_status('$other_id')"),
		'watching', "$name: and its state");
}

# It comes right by itself when the row is free.
sub comes_back
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { problems() eq '' }, "$name: the problem goes by itself");
	is_equal($node, $id, $root, "$name: by itself");
	wait_equal($node, $id, $root, "$name: after a barrier");
}

# ---- a row that is locked ----

foreach my $mode ('UPDATE', 'NO KEY UPDATE', 'SHARE')
{
	my $holder = hold("SELECT 1 FROM file_records WHERE file_path = 'f1' AND repository_id = '$id' FOR $mode");

	write_file("$root/f1", "changed, FOR $mode");
	write_file("$root/new $_", $mode) foreach 1 .. 10;
	all_but("FOR $mode", $holder, ['f1']);
	is($node->safe_psql($db, "SELECT count(*) FROM file_records WHERE file_path LIKE 'new %'"),
		'10', "FOR $mode: ten new files");
	release($holder);
	comes_back("FOR $mode");
	unlink glob("$root/new\\ *");
	wait_equal($node, $id, $root, 'ten files removed');
}

# A lock that does not forbid to write is none.
{
	my $holder = hold("SELECT 1 FROM file_records WHERE file_path = 'f1' FOR KEY SHARE");

	write_file("$root/f1", 'changed, FOR KEY SHARE');
	wait_equal($node, $id, $root, 'FOR KEY SHARE');
	is(problems(), '', 'FOR KEY SHARE forbids nothing');
	release($holder);
}

# A short one is waited for.
{
	my $holder = hold("SELECT 1 FROM file_records WHERE file_path = 'f2' FOR UPDATE", 'COMMIT');

	write_file("$root/f2", 'changed');
	is($node->safe_psql($db, "SELECT fsync_wait('$id', timeout => '300 ms')"),
		'f', 'a barrier gives the holder a moment');
	my $waiter = start_sql($node, $db, 'waiter', "SELECT fsync_wait('$id');");
	wait_for_backend($node, 'waiter', "state = 'active' AND wait_event_type IS NOT NULL");
	release($holder);
	my ($rc, $out) = finish_sql($waiter);
	is($out, 't', 'and returns when it is done');
	is_equal($node, $id, $root, 'a short lock');
	is(problems(), '', 'a short lock is no problem');
}

# ---- renames and removals ----

foreach my $case (
	[ 'FOR UPDATE', "SELECT 1 FROM file_records WHERE file_path = '%s' AND repository_id = '$id' FOR UPDATE" ],
	[ 'an uncommitted reference', "INSERT INTO refs SELECT id FROM file_records WHERE file_path = '%s' AND repository_id = '$id'" ])
{
	my ($name, $sql) = @$case;
	my $before = ids_of($node, $id);
	my $holder = hold(sprintf($sql, 'f3'));

	rename("$root/f3", "$root/e/f3 renamed") or die "rename: $!";
	rename("$root/f4", "$root/e/f4 renamed") or die "rename: $!";
	all_but("$name, renamed", $holder, ['e/f3 renamed'], 'f3');
	release($holder);
	comes_back("$name, renamed");
	my $after = ids_of($node, $id);
	is($after->{'e/f3 renamed'}, $before->{f3}, "$name, renamed: the id");
	is($after->{'e/f4 renamed'}, $before->{f4}, "$name, renamed: the other's id");
	rename("$root/e/$_ renamed", "$root/$_") or die "rename: $!" foreach 'f3', 'f4';
	wait_equal($node, $id, $root, 'renamed back');

	$holder = hold(sprintf($sql, 'f5'));
	unlink("$root/f5", "$root/f6") == 2 or die "unlink: $!";
	all_but("$name, removed", $holder, ['f5']);
	release($holder);
	comes_back("$name, removed");
	write_file("$root/$_", 'there again') foreach 'f5', 'f6';
	wait_equal($node, $id, $root, 'there again');

	$holder = hold(sprintf($sql, 'd/7'));
	$before = ids_of($node, $id);
	rename("$root/d", "$root/D") or die "rename: $!";
	write_file("$root/D/new", $name);
	all_but("$name, in a directory that is renamed", $holder, ['D/7'], 'd/7');
	$after = ids_of($node, $id);
	is(join(' ', map { $after->{"D/$_"} } 1 .. 6, 8 .. 20),
		join(' ', map { $before->{"d/$_"} } 1 .. 6, 8 .. 20), "$name, in a directory: ids");
	release($holder);
	comes_back("$name, in a directory that is renamed");
	is(ids_of($node, $id)->{'D/7'}, $before->{'d/7'}, "$name, in a directory: its own id");
	rename("$root/D", "$root/d") or die "rename: $!";
	wait_equal($node, $id, $root, 'the directory renamed back');

	# a rename whose old name is a new file's, and one onto the held file
	$before = ids_of($node, $id);
	$holder = hold(sprintf($sql, 'f7'));
	rename("$root/f7", "$root/e/f7 renamed") or die "rename: $!";
	write_file("$root/f7", 'another file of this name');
	all_but("$name, and another file", $holder, [ 'e/f7 renamed', 'f7' ]);
	release($holder);
	comes_back("$name, and another file");
	is(ids_of($node, $id)->{'e/f7 renamed'}, $before->{f7}, "$name, and another file: the id");
	unlink("$root/e/f7 renamed");
	wait_equal($node, $id, $root, 'and removed');

	$holder = hold(sprintf($sql, 'f8'));
	rename("$root/f9", "$root/f8") or die "rename: $!";
	wait_ok($node, $id, "$name, overwritten");
	release($holder);
	comes_back("$name, overwritten");
	write_file("$root/f9", 'there again');
	wait_equal($node, $id, $root, 'there again');

	# names exchanged
	$holder = hold(sprintf($sql, 'f10'));
	rename("$root/f10", "$root/x") or die "rename: $!";
	rename("$root/f11", "$root/f10") or die "rename: $!";
	rename("$root/x", "$root/f11") or die "rename: $!";
	$before = ids_of($node, $id);
	wait_ok($node, $id, "$name, exchanged");
	release($holder);
	comes_back("$name, exchanged");
	$after = ids_of($node, $id);
	is("$after->{f10} $after->{f11}", "$before->{f11} $before->{f10}", "$name, exchanged: ids");
}

# ---- a row that somebody writes ----

{
	my $holder = hold("UPDATE file_records SET last_scanned = now() WHERE file_path = 'f12'", 'COMMIT');

	write_file("$root/f12", 'changed');
	all_but('an uncommitted UPDATE', $holder, ['f12']);
	release($holder);
	comes_back('an uncommitted UPDATE');

	$holder = hold("DELETE FROM file_records WHERE file_path = 'f13'", 'COMMIT');
	unlink("$root/f13") or die "unlink: $!";
	all_but('an uncommitted DELETE', $holder, ['f13']);
	release($holder);
	comes_back('an uncommitted DELETE');

	$holder = hold("
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
VALUES ('$id', 'mine', 1, now(), now(), 1, now(), now(), 1, 1, 1)", 'COMMIT');
	write_file("$root/mine", 'on disk');
	write_file("$root/new with mine", 'on disk');
	all_but('an uncommitted INSERT', $holder, ['mine']);
	release($holder);
	comes_back('an uncommitted INSERT');
}

# a savepoint, two holders at once, a prepared transaction
{
	my $holder = hold("SAVEPOINT s; SELECT 1 FROM file_records WHERE file_path = 'f14' FOR UPDATE");

	write_file("$root/f14", 'changed');
	all_but('locked in a subtransaction', $holder, ['f14']);
	release($holder);
	comes_back('locked in a subtransaction');

	my @two = map { hold("SELECT 1 FROM file_records WHERE file_path = 'f15' FOR SHARE") } 1 .. 2;
	write_file("$root/f15", 'changed');
	all_but('two holders', undef, ['f15']);
	like($node->safe_psql($db, 'SELECT message FROM fsync_problems'),
		qr/^process ($two[0]{pid}|$two[1]{pid}) \(application "holder\d+ holds"\) holds it$/,
		'two holders: it names one of them');
	release($_) foreach @two;
	comes_back('two holders');

	$node->safe_psql($db, "
BEGIN; SELECT 1 FROM file_records WHERE file_path = 'f16' FOR UPDATE; PREPARE TRANSACTION 'mine'");
	write_file("$root/f16", 'changed');
	all_but('a prepared transaction', undef, ['f16']);
	is($node->safe_psql($db, 'SELECT message FROM fsync_problems'),
		'the prepared transaction "mine" holds it', 'a prepared transaction is named');
	$node->safe_psql($db, "COMMIT PREPARED 'mine'");
	comes_back('a prepared transaction');
}

# ---- what foreign keys and triggers need ----

{
	$node->safe_psql($db,
		"INSERT INTO refs SELECT id FROM file_records WHERE file_path IN ('f17', 'f18') AND repository_id = '$id'");
	my $holder = hold("SELECT 1 FROM refs r JOIN file_records f ON f.id = r.file_id
WHERE f.file_path = 'f17' FOR UPDATE OF r");

	unlink("$root/f$_") foreach 17 .. 20;
	write_file("$root/new with a cascade", 'x');
	all_but('a row that a cascade would delete', undef, ['f17']);
	release($holder);
	comes_back('a row that a cascade would delete');
}

# ---- many rows at once ----

{
	my $holder = hold("SELECT 1 FROM file_records WHERE repository_id = '$id' FOR UPDATE");

	append_file("$root/f$_", 'more') foreach 21 .. 40;
	write_file("$root/new with all held", 'x');
	all_but('all rows', $holder, [ map { "f$_" } 21 .. 40 ]);
	is($node->safe_psql($db, "SELECT status FROM fsync_reconcile('$id')"),
		'completed', 'all rows: a reconciliation runs to its end');
	all_but('all rows, reconciled', $holder, [ map { "f$_" } 21 .. 40 ]);
	unlink("$root/f21") or die "unlink: $!";
	wait_ok($node, $id, 'one of them removed');
	release($holder);
	comes_back('all rows');
}

# the caller itself holds it
is( $node->safe_psql($db, "
BEGIN;
SELECT 1 FROM file_records WHERE file_path = 'f22' FOR UPDATE;
\\! echo changed >'$root/f22'
SELECT fsync_wait('$id');
SELECT count(*) FROM fsync_problems;
COMMIT"), "1\nt\n1", 'a caller that holds a row itself has its answer');
comes_back('a caller that held a row');

# ---- rows of other tables ----

{
	chmod 0, "$root/f23" or die "chmod: $!";
	wait_ok($node, $id, 'an unreadable file');
	my $holder = hold('SELECT 1 FROM fsync_problems FOR UPDATE');
	chmod 0644, "$root/f23" or die "chmod: $!";
	append_file("$root/f23", 'readable');
	write_file("$root/new with a problem held", 'x');
	wait_equal($node, $id, $root, 'the row of a problem is held');
	chmod 0, "$root/f24" or die "chmod: $!";
	append_file("$root/f25", 'more');
	write_file("$root/f24", 'unreadable') if 0;
	is($node->safe_psql($db, "SELECT status FROM fsync_reconcile('$id')"),
		'completed', 'the row of a problem is held: a reconciliation');
	chmod 0644, "$root/f24" or die "chmod: $!";
	release($holder);
	is($node->safe_psql($db, "SELECT status FROM fsync_reconcile('$id')"),
		'completed', 'the row of a problem was held: a reconciliation');
	comes_back('the row of a problem was held');

	$node->safe_psql($db, "SELECT fsync_verify('$id')");
	$holder = hold('SELECT 1 FROM fsync_verifications FOR UPDATE');
	write_file("$root/new with verifications held", 'x');
	append_file("$root/f25", 'more');
	unlink("$root/f26") or die "unlink: $!";
	is($node->safe_psql($db, "SELECT status FROM fsync_verify('$id')"),
		'completed', 'rows of fsync_verifications are held: a verification');
	wait_equal($node, $id, $root, 'rows of fsync_verifications are held');
	release($holder);

	$holder = hold("SELECT 1 FROM sync_operations FOR UPDATE");
	write_file("$root/new with operations held", 'x');
	wait_equal($node, $id, $root, 'rows of sync_operations are held');
	is($node->safe_psql($db, "SELECT status FROM fsync_reconcile('$id')"),
		'completed', 'rows of sync_operations are held: a reconciliation');
	release($holder);
}

# ---- several names, several repositories, a directory that goes away ----

{
	link("$root/f27", "$root/f27 too") or die "link: $!";
	wait_equal($node, $id, $root, 'a second name');
	my $holder = hold("SELECT 1 FROM file_records WHERE file_path = 'f27' FOR UPDATE");
	append_file("$root/f27", 'more');
	all_but('one name of two', $holder, ['f27']);
	release($holder);
	comes_back('one name of two');

	$holder = hold("SELECT 1 FROM file_records WHERE file_path IN ('f28', 'f2')
AND repository_id IN ('$id', '$other_id') FOR UPDATE");
	append_file("$_/f2", 'more') foreach $root, $other;
	append_file("$root/f28", 'more');
	is($node->safe_psql($db, "SELECT fsync_wait(timeout => '1 min')"),
		't', 'a barrier for all repositories is over');
	is(problems(), join("\n", map { "$_|row is locked" } 'f2', 'f2', 'f28'), 'rows of both are held');
	release($holder);
	comes_back('rows of two repositories');
	wait_equal($node, $other_id, $other, 'rows of two repositories: the other');

	$holder = hold("SELECT 1 FROM file_records WHERE file_path = 'f29' FOR UPDATE");
	append_file("$root/f29", 'more');
	all_but('before the directory goes away', $holder, ['f29']);
	rename($root, "$root.away") or die "rename: $!";
	wait_for_state($node, $id, 'unavailable', 'the directory has gone away');
	is($node->safe_psql($db, "SELECT fsync_wait('$id')"), 'f', 'nobody waits for it');
	is(problems(), 'f29|row is locked', 'what was held is still said to be');
	rename("$root.away", $root) or die "rename: $!";
	all_but('the directory has come back', $holder, ['f29']);
	release($holder);
	comes_back('the directory has come back');
}

is(worker_pid($node, $db), $worker, 'all that by the same worker');
all_is_well($node, $id, $root, 'in the end', $position);
reconcile_finds_nothing($node, $other_id, 'the other repository');
$node->stop;
done_testing();
