#
# The loaded extension under valgrind: launcher, worker and sessions touch no
# memory that is not theirs, and decide nothing on what was never written.  Only
# errors count that have fsync.so in their stack: PostgreSQL has its own, since
# it is not built for valgrind.  FSYNC_TEST_VALGRIND=0 skips this test.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'FSYNC_TEST_VALGRIND is 0' if ($ENV{FSYNC_TEST_VALGRIND} // '') eq '0';
plan skip_all => 'valgrind is not installed' if system('valgrind --version >/dev/null 2>&1') != 0;

my $db = 'postgres';
my $logs = PostgreSQL::Test::Utils::tempdir() . '/valgrind';
my $node = new_node('main', extension => 0, conf => q(
restart_after_crash = on
autovacuum = off
jit = off
fsync.helper_timeout = 1200s
));
my $root = new_root('photos');

mkdir $logs or die "mkdir: $!";
make_tree("$root/steady", 60);

# A server whose postmaster, and so every process of it, runs under valgrind;
# fsync-tree is exec'd and does not: it has sanitizers.
$node->stop;
my $postgres = server_bindir() . '/postgres';
my $valgrind = "$logs/postgres";
open my $script, '>', $valgrind or die "could not write $valgrind: $!";
print $script <<"END";
#!/bin/sh
exec valgrind --quiet --error-limit=no --num-callers=50 --xml=yes --xml-file='$logs/%p.xml' \\
	--trace-children=yes '--trace-children-skip=*fsync-tree*,*/sh' '$postgres' "\$@"
END
close $script;
chmod 0755, $valgrind or die "chmod: $!";

my $position = log_position($node);
system_or_bail('pg_ctl', '-w', '-t', 900, '-D', $node->data_dir, '-l', $node->logfile,
	'-p', $valgrind, '-o', '--cluster-name=main', 'start');
$node->_update_pid(1);

# A little of everything.
$node->safe_psql($db, 'CREATE EXTENSION fsync');
my $id = add_repository($node, $root, args => "exclude => ARRAY['*.raw', 'no/**']");
my $storm = start_storm("$root/storm", 1);
storm_goes_on($storm);
stop_storm($storm);
wait_equal($node, $id, $root, 'a storm');
rename("$root/steady", "$root/steady too") or die "rename: $!";
write_file("$root/bad\xFFname", 'x');
$node->safe_psql($db, q(
CREATE TABLE album (file_id bigint REFERENCES file_records);
INSERT INTO album SELECT min(id) FROM file_records;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN IF new.file_path ~ 'poison' THEN RAISE 'no'; END IF; RETURN new; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON file_records FOR EACH ROW EXECUTE FUNCTION refuse();
));
write_file("$root/$_", 'x') foreach 'harmless', map { "poison $_" } 1 .. 40;
my $tree = tree_pid($node, $id);
kill 'KILL', $tree or die "kill: $!";
unlink $_ foreach glob("$root/steady\\ too/*.txt");
$node->safe_psql($db, "SELECT fsync_wait('$id', timeout => '10 minutes'); SELECT * FROM fsync_status(); SELECT * FROM fsync_reconcile()");
$node->safe_psql($db, 'CALL fsync_reconcile_all()');
$node->psql($db, $_) foreach (
	"SELECT fsync_add_repository('/no/such')", "SELECT fsync_add_repository('$root')",
	"SELECT fsync_add_repository('/tmp', include => ARRAY['['])",
	"SELECT fsync_wait('99999999-9999-4999-8999-999999999999')",
	"BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT fsync_wait()");
$node->safe_psql($db, "DELETE FROM album; DROP TRIGGER refuse ON file_records; SELECT fsync_reconcile('$id')");
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template1');
$node->safe_psql($db, "SELECT pg_reload_conf()");
unlink("$root/bad\xFFname", glob("$root/poison*"));
all_is_well($node, $id, $root, 'a little of everything', $position, lines => 60);
$node->safe_psql($db, "SELECT fsync_remove_repository('$id')");
$node->safe_psql($db, 'DROP EXTENSION fsync CASCADE');
$node->stop;

# ---- what valgrind said ----

my @logs = glob("$logs/*.xml");
my ($errors, @ours) = (0);

foreach my $log (@logs)
{
	foreach my $error (slurp_file($log) =~ m{<error>(.*?)</error>}gs)
	{
		$errors++;
		push @ours, in_words($error) if is_ours($error);
	}
}
cmp_ok(scalar(@logs), '>', 5, 'valgrind watched the processes');
cmp_ok($errors, '>', 0, 'and its reports can be read: PostgreSQL has some of its own');
is(join("\n\n", @ours), '', 'no process of the server misuses memory on behalf of fsync.so');

# The innermost stack of an error: [object, function] of each frame.
sub frames
{
	my ($error) = @_;
	my ($stack) = $error =~ m{<stack>(.*?)</stack>}s;

	return map {
		my ($object) = m{<obj>(?:.*/)?(.*?)</obj>};
		my ($function) = m{<fn>(.*?)</fn>};
		[ $object // '', $function // '?' ]
	} ($stack // '') =~ m{<frame>(.*?)</frame>}gs;
}

# One that a function of ours called for.  That PostgreSQL writes out padding
# of its own pages and messages is none: the write is not ours then.
sub is_ours
{
	my ($error) = @_;
	my @objects = grep { $_ eq 'postgres' || $_ eq 'fsync.so' } map { $_->[0] } frames($error);

	# asked for or not, XML output has leaks: what a process keeps to its end
	return 0 if $error =~ m{<kind>Leak_};
	return 0 unless grep { $_ eq 'fsync.so' } @objects;
	return !($error =~ m{<kind>SyscallParam</kind>} && $objects[0] eq 'postgres');
}

sub in_words
{
	my ($error) = @_;
	my ($what) = $error =~ m{<(?:what|text)>(.*?)</};

	return join("\n", $what // 'error', map { "    $_->[1] ($_->[0])" } frames($error));
}

done_testing();
