#
# A database that is closed for a while, or is a template, and then is not: its
# worker comes back by itself, also when the server was restarted meanwhile.  A
# server whose statistics are read: what the worker did is there when it sleeps.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $other = new_root('other');

$node->safe_psql('postgres', "CREATE DATABASE $_") foreach 'lab', 'second';
$node->safe_psql($_, 'CREATE EXTENSION fsync') foreach 'lab', 'second';
write_file("$root/f$_", "file $_") foreach 1 .. 300;
write_file("$other/f$_", "file $_") foreach 1 .. 5;
my $id = add_repository($node, $root, db => 'lab');
my $other_id = add_repository($node, $other, db => 'second');
wait_equal($node, $id, $root, 'first sync', db => 'lab');
wait_equal($node, $other_id, $other, 'first sync of the other', db => 'second');
my $second = worker_pid($node, 'second');


# Nobody asks: the rows alone are looked at, from another session.
sub comes_back
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	write_file("$root/new", $name);
	wait_until(sub { worker_pid($node, 'lab') ne '' }, "$name: the worker comes back");
	ok( $node->poll_query_until('lab', "
SELECT count(*) = 1 FROM file_records WHERE file_path = 'new' AND file_size = " . length($name)),
		"$name: and writes, without being asked");
	wait_equal($node, $id, $root, $name, db => 'lab');
}

foreach my $restart (0, 1)
{
	foreach my $case (
		[ 'ALLOW_CONNECTIONS', 'ALTER DATABASE lab ALLOW_CONNECTIONS false',
			'ALTER DATABASE lab ALLOW_CONNECTIONS true' ],
		[ 'datallowconn', "UPDATE pg_database SET datallowconn = false WHERE datname = 'lab'",
			"UPDATE pg_database SET datallowconn = true WHERE datname = 'lab'" ],
		[ 'IS_TEMPLATE', 'ALTER DATABASE lab IS_TEMPLATE true',
			'ALTER DATABASE lab IS_TEMPLATE false' ])
	{
		my ($name, $close, $open) = @$case;

		$name .= ', with a restart' if $restart;
		$node->safe_psql('postgres', $close);
		$node->safe_psql('postgres',
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'lab'");
		$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE lab') if $name =~ /TEMPLATE/;
		wait_until(sub { worker_pid($node, 'lab') eq '' }, "$name: the worker ends");
		$node->restart if $restart;
		wait_until(sub { worker_pid($node, 'second') ne '' }, "$name: the other has one");
		my $pid = worker_pid($node, 'second');

		# the launcher has had its look when it starts one elsewhere
		write_file("$other/new", $name);
		wait_equal($node, $other_id, $other, "$name: the other", db => 'second');
		is(worker_pid($node, 'lab'), '', "$name: and stays away");
		$node->safe_psql('postgres', $open);
		comes_back($name);
		is(worker_pid($node, 'second'), $pid, "$name: the other's worker stayed");
		$node->safe_psql('postgres', 'DROP DATABASE copy') if $name =~ /TEMPLATE/;
	}
}

# ---- statistics ----

$node->safe_psql('lab', 'SELECT pg_stat_reset()');
my $before = $node->safe_psql('lab', "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'file_records'");
append_file("$root/f$_", 'more') foreach 1 .. 250;
wait_equal($node, $id, $root, '250 updates', db => 'lab');
ok( $node->poll_query_until('lab', "
SELECT n_tup_upd >= $before + 250 FROM pg_stat_user_tables WHERE relname = 'file_records'"),
	'250 updates: the statistics know of them while the worker sleeps');
$node->stop;
done_testing();
