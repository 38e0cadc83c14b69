#
# fsync_wait(): what it waits for, and what it says when that does not come.
#
# All repositories are waited for at once.  One whose directory cannot be used,
# or that nobody takes care of, is not waited out; one that is paused was asked
# to be left out.  When the time is over a warning says what was outstanding.
# Where rows are compared with no disk, nobody says that they equal one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# Far less than a waiter's time, and far more than an answer takes.
my $at_once = 60;
my $long = '10 minutes';

my $node = new_node('main', conf => "fsync.max_repositories = 4\n");

sub wait_says
{
	my ($args, $db) = @_;
	my $start = time();
	my ($rc, $out, $err) = $node->psql($db // 'postgres', "SELECT fsync_wait($args)");

	return ($out, $err, time() - $start);
}

# Of several lines, those that begin a warning.
sub warnings_in
{
	my ($err) = @_;

	return scalar(() = $err =~ /\bWARNING: /g);
}

#-----------------------------------------------------------------------
# Nothing to wait for
#-----------------------------------------------------------------------

is((wait_says('')) [0], 't', 'a fresh database has nothing that could differ');

#-----------------------------------------------------------------------
# What is outstanding
#-----------------------------------------------------------------------

my $root = new_root('good');
my $id = add_repository($node, $root);
write_file("$root/small", 'x');
wait_equal($node, $id, $root, 'first sync');

open my $huge, '>', "$root/huge" or die "open: $!";
my $is_huge = truncate($huge, 15 * 1024**4);
truncate($huge, 8 * 1024**4) or die "truncate: $!" unless $is_huge;
close $huge;
write_file("$root/later", 'y');

my ($out, $err) = wait_says("'$id', timeout => '3 s'");
is($out, 'f', 'a file that is not read in time: false');
like($err, qr/WARNING: .*\Q$root\E.* outstanding/, 'a warning names the repository');
like($err, qr/DETAIL: .*"watching".*"huge", .*(?:MB|GB|kB|bytes) of (?:15|8192|8) TB are read/s,
	'and the state, the file, and how much of it is read')
  or diag($err);
like($err, qr/HINT: .*max_size/, 'and what can be done');
($out, $err) = wait_says("timeout => '3 s'");
is($out, 'f', 'the same when all are waited for');
like($err, qr/"huge"/, 'which names it as well');
is(warnings_in($err), 1, 'once');
my ($first) = $err =~ /"huge", (\d+ \S+) of/;
wait_until(
	sub {
		($out, $err) = wait_says("timeout => '1 s'");
		return $err =~ /"huge", (\d+ \S+) of/ && $1 ne $first;
	},
	'what is read becomes more');

# other changes are in the table all the same
is($node->safe_psql('postgres', "SELECT count(*) FROM file_records WHERE file_path = 'later'"),
	'1', 'other changes are written meanwhile');

# one that waits already gets its answer when the file goes
my $waiter = start_sql($node, 'postgres', 'waiter', "SELECT fsync_wait('$id', timeout => '$long')");
wait_for_backend($node, 'waiter', "state = 'active'");
unlink("$root/huge") or die "unlink: $!";
my ($rc, $said, $complaint) = finish_sql($waiter);
is($said, 't', 'the file is gone: true');
is($complaint, '', 'and nothing to be said');
($out, $err) = wait_says("'$id'");
is("$out$err", 't', 'also for who comes later');

# a first sync that takes its time
my $first_root = new_root('first');
open $huge, '>', "$first_root/huge" or die "open: $!";
truncate($huge, 8 * 1024**4) or die "truncate: $!";
close $huge;
my $first_id = add_repository($node, $first_root);
($out, $err) = wait_says("'$first_id', timeout => '3 s'");
is($out, 'f', 'a first sync with such a file: false');
like($err, qr/"syncing".*"huge"/s, 'and says the same');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$first_id')");
unlink("$first_root/huge") or die "unlink: $!";

#-----------------------------------------------------------------------
# One that cannot be had
#-----------------------------------------------------------------------

my $stick = new_root('stick');
write_file("$stick/f", 'x');
my $stick_id = add_repository($node, $stick);
wait_equal($node, $stick_id, $stick, 'a second repository');
rename($stick, "$stick.away") or die "rename: $!";
wait_for_state($node, $stick_id, 'unavailable', 'its directory is gone');

write_file("$root/meanwhile", 'z');
($out, $err, my $took) = wait_says("timeout => '$long'");
is($out, 'f', 'all, one of them unavailable: false');
cmp_ok($took, '<', $at_once, 'at once');
is(warnings_in($err), 1, 'with one warning') or diag($err);
like($err, qr/WARNING: .*\Q$stick\E" is unavailable and was not waited for.*DETAIL: .*No such file.*HINT:/s,
	'which names it and says why');
is_equal($node, $id, $root, 'the other one was waited for');
($out, $err, $took) = wait_says("'$stick_id', timeout => '$long'");
is($out, 'f', 'that one alone: false');
cmp_ok($took, '<', $at_once, 'at once, too');
is(warnings_in($err), 1, 'and one warning');
($out, $err) = wait_says("'$id'");
is("$out$err", 't', 'the other one alone: true');

# the others' time counts, not that of the one that is given up
open $huge, '>', "$root/huge" or die "open: $!";
truncate($huge, 8 * 1024**4) or die "truncate: $!";
close $huge;
($out, $err) = wait_says("timeout => '3 s'");
is($out, 'f', 'one unavailable, one that takes long: false');
is(warnings_in($err), 2, 'with a warning for each') or diag($err);
unlink("$root/huge") or die "unlink: $!";

# paused: as it was asked to be
$node->safe_psql('postgres', "SELECT fsync_pause('$stick_id')");
($out, $err) = wait_says("timeout => '$long'");
is("$out$err", 't', 'one that is paused is left out');
$node->safe_psql('postgres', "SELECT fsync_resume('$stick_id')");

# back, and at once: who waits lets it be looked at
rename("$stick.away", $stick) or die "rename: $!";
($out, $err) = wait_says("timeout => '$long'");
is($out, 't', 'the directory is back: true') or diag($err);
is_equal($node, $stick_id, $stick, 'and it is equal');

# one is removed while it is waited for
open $huge, '>', "$stick/huge" or die "open: $!";
truncate($huge, 8 * 1024**4) or die "truncate: $!";
close $huge;
$waiter = start_sql($node, 'postgres', 'waiter', "SELECT fsync_wait(timeout => '$long')");
wait_for_backend($node, 'waiter', "state = 'active'");
wait_until(sub { status_of($node, $stick_id, 'pending_changes') > 0 }, 'one has something to do');
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$stick_id')");
($rc, $said, $complaint) = finish_sql($waiter);
is("$said$complaint", 't', 'one is removed meanwhile: the others count');

#-----------------------------------------------------------------------
# More of them than one, at once
#-----------------------------------------------------------------------

# Each has a file that takes its time; the times do not add up.
my %others = map { my $r = new_root("other$_"); ($r => add_repository($node, $r)) } 1 .. 3;
wait_equal($node, $others{$_}, $_, 'another repository') foreach sort keys %others;
foreach my $r (keys %others)
{
	open $huge, '>', "$r/huge" or die "open: $!";
	truncate($huge, 8 * 1024**4) or die "truncate: $!";
	close $huge;
}
($out, $err, $took) = wait_says("timeout => '3 s'");
is($out, 'f', 'three that take long: false');
is(warnings_in($err), 3, 'with a warning for each') or diag($err);

# the barrier was sent to all of them, not to the first alone
my $told = () = $err =~ /"huge"/g;
is($told, 3, 'which tell of the file of each');
unlink("$_/huge") or die "unlink: $!" foreach keys %others;
($out, $err) = wait_says("timeout => '$long'");
is("$out$err", 't', 'the files are gone: true');

# no place for one more
my $over = new_root('over');
my $over_id = add_repository($node, $over);
write_file("$root/with others", 'x');
($out, $err, $took) = wait_says("timeout => '$long'");
is($out, 'f', 'one for which there is no place: false');
cmp_ok($took, '<', $at_once, 'it is not waited out');
is(warnings_in($err), 1, 'with one warning') or diag($err);
like($err, qr/WARNING: .*\Q$over\E" is not watched.*HINT: .*fsync\.max_repositories/s,
	'which says what limits it');
is_equal($node, $id, $root, 'the others were waited for');
($out, $err, $took) = wait_says("'$over_id', timeout => '$long'");
is($out, 'f', 'it alone: false');
cmp_ok($took, '<', $at_once, 'at once');

#-----------------------------------------------------------------------
# Rows that are compared with no disk
#-----------------------------------------------------------------------

# a copy of the database, as a dump or a replicated table: rows, and none active
$node->safe_psql('postgres', 'CREATE DATABASE hub');
$node->safe_psql('hub', 'CREATE EXTENSION fsync');
is((wait_says('', 'hub'))[0], 't', 'an empty hub: true');
$node->safe_psql('hub', qq(
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
VALUES (gen_random_uuid(), 'f', 1, now(), now(), 1, now(), now(), 1, 1, 1)));
($out, $err) = wait_says('', 'hub');
is($out, '', 'files and no repository: not true');
like($err, qr/ERROR: .*no repository is active in this database.*HINT: /s, 'but an error');
$node->safe_psql('hub', 'DELETE FROM file_records');
$node->safe_psql('hub', qq(
INSERT INTO fsync_repositories (repository_id, path, watch_root)
VALUES (gen_random_uuid(), '/srv/elsewhere', '/srv/elsewhere')));
($rc, $out, $err) = $node->psql('hub', "\\set VERBOSITY verbose\nSELECT fsync_wait()");
is($out, '', 'a repository that is not active here: not true');
like($err, qr/ERROR:  55000: no repository is active/, 'but 55000');

$node->stop;

#-----------------------------------------------------------------------
# No worker at all
#-----------------------------------------------------------------------

# the launcher takes the only place
$node->append_conf('postgresql.conf',
	"max_worker_processes = 1\nmax_logical_replication_workers = 0\n");
$node->start;
foreach my $args ("timeout => '$long'", "'$id', timeout => '$long'")
{
	($out, $err, $took) = wait_says($args);
	is($out, 'f', "no place for a worker, $args: false");
	cmp_ok($took, '<', $at_once, 'at once');
	like($err, qr/WARNING: .*\Q$root\E" is not watched.*HINT: .*max_worker_processes/s,
		'and what limits it');
}

$node->stop;
done_testing();
