#
# A consumer gives changes back, for now or for a while, or keeps them longer; and
# what fsync_ack() and its like do with nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main');
my $root = new_root('photos');
my $id = add_repository($node, $root, args => 'change_feed => true');
wait_equal($node, $id, $root, 'an empty repository');

sub sql
{
	return $node->safe_psql($db, $_[0]);
}

sub error_of
{
	my (undef, $out, $err) = $node->psql($db, $_[0], extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return $err =~ s/^psql:.*?ERROR: //sr;
}

sub next_changes
{
	my ($args) = @_;

	return sql("SELECT operation || ' ' || file_path FROM fsync_next_changes('c'" . ($args ? ", $args" : '') . ')');
}

sub deliveries
{
	return sql("SELECT string_agg(file_path || ' ' || attempts, ', ' ORDER BY change_id) FROM fsync_consumer_deliveries");
}

my $ids = "(SELECT array_agg(change_id) FROM file_changes WHERE file_path IN (%s))";
sub of { return sprintf($ids, join(', ', map { "'$_'" } @_)) }

sql("SELECT fsync_create_consumer('c', '$id')");
foreach my $name (qw(a b c))
{
	write_file("$root/$name", $name);
	wait_ok($node, $id);
}

# ---- nothing ----

foreach my $function ('ack', 'nack', 'extend')
{
	is(sql("SELECT fsync_$function('c', NULL)"), '0', "fsync_$function: NULL names nothing");
	is(sql("SELECT fsync_$function('c', '{}')"), '0', 'nor does an empty array');
	is(sql("SELECT fsync_$function('c', array_agg(change_id)) FROM file_changes WHERE false"), '0', 'nor array_agg() over nothing');
	is(sql("SELECT fsync_$function('c', '{NULL, 999999}')"), '0', 'nor do numbers of no change');
	like(error_of("SELECT fsync_$function('none', NULL)"), qr/^ 42704: consumer "none" does not exist/, 'there must be such a consumer');
	like(error_of("SELECT fsync_$function(NULL, NULL)"), qr/^ 22004: name must not be null/, 'and it must be named');
	is(sql("SELECT fsync_$function('c', " . of('a') . ")"), '0', 'what was not handed out is not met');
}
is(next_changes(), join("\n", 'added a', 'added b', 'added c'), 'nothing has been acknowledged');

# ---- nack ----

is(sql("SELECT fsync_nack('c', " . of('b') . ")"), '1', 'one is given back');
is(next_changes(), 'added b', 'and is handed out at once');
is(deliveries(), 'a 1, b 2, c 1', 'which is counted');
is(sql("SELECT fsync_nack('c', " . of('a', 'b') . ", '1 hour')"), '2', 'two are given back for a while');
is(next_changes(), '', 'and are not handed out');
is(sql('SELECT pending, in_flight FROM fsync_consumers'), '0|3', 'until the time is over');
append_file("$root/b", 'b');
wait_ok($node, $id);
is(next_changes(), '', 'nor is a later change of the same file');
write_file("$root/d", 'd');
wait_ok($node, $id);
is(next_changes(), 'added d', 'while others are');
is(sql("SELECT fsync_nack('c', " . of('b') . ", '0')"), '1', 'it is given back again, for now');
is(next_changes(), join("\n", 'added b', 'updated b'), 'then they come, in their order');
is(sql("SELECT fsync_nack('c', " . of('a') . ", '200 ms')"), '1', 'a short while');
wait_until(sub { next_changes() eq 'added a' }, 'is over by itself');
sql("UPDATE fsync_consumer_deliveries SET visible_at = now() - interval '1 minute' WHERE file_path = 'c'");
is(sql("SELECT fsync_nack('c', " . of('c') . ", '1 hour')"), '1', 'what comes back too late can be put off');
is(next_changes(), '', 'as nobody else has it');
is(sql("SELECT fsync_ack('c', " . of('c', 'd') . ")"), '2', 'they can be acknowledged meanwhile');
is(sql("SELECT fsync_nack('c', " . of('c') . ")"), '0', 'and then not given back');
is(next_changes(), '', 'nor handed out');
sql("BEGIN; SELECT fsync_nack('c', " . of('a') . "); ROLLBACK");
is(next_changes(), '', 'rolled back, it was not given back');

# ---- extend ----

is(sql("SELECT fsync_extend('c', " . of('a') . ", '2 hours')"), '1', 'kept for longer');
is(sql("SELECT visible_at - now() BETWEEN interval '119 minutes' AND interval '2 hours' FROM fsync_consumer_deliveries WHERE file_path = 'a'"),
	't', 'from now on');
is(sql("SELECT fsync_extend('c', " . of('a') . ", '1 minute')"), '1', 'a shorter time');
is(sql("SELECT visible_at - now() > interval '100 minutes' FROM fsync_consumer_deliveries WHERE file_path = 'a'"), 't', 'shortens nothing');
is(sql("SELECT fsync_extend('c', " . of('b') . ")"), '2', 'by default it is as long as it is handed out for');
sql("UPDATE fsync_consumer_deliveries SET visible_at = now() - interval '1 second' WHERE file_path = 'a'");
is(sql("SELECT fsync_extend('c', " . of('a') . ", '1 hour')"), '0', 'when the time is over it is too late');
is(next_changes(), 'added a', 'as somebody else may have it');
is(sql("SELECT attempts FROM fsync_consumer_deliveries WHERE file_path = 'a'"),
	sql("SELECT max(attempts) FROM fsync_consumer_deliveries WHERE file_path = 'a'"), 'once');

# Of files that were there before the consumer the ids are negative.
sql("SELECT fsync_create_consumer('all', '$id', from_start => true)");
is(sql("SELECT count(*) FROM fsync_next_changes('all')"), '4', 'files from before');
is(sql("SELECT fsync_nack('all', array_agg(-id), '1 hour') FROM file_records"), '4', 'are given back');
is(sql("SELECT count(*) FROM fsync_next_changes('all')"), '0', 'too');
is(sql("SELECT fsync_extend('all', array_agg(-id), '2 hours') FROM file_records"), '4', 'and kept');

# ---- what cannot be ----

like(error_of("SELECT fsync_nack('c', '{1}', '-1 second')"), qr/^ 22023: delay must not be negative/, 'a negative delay');
like(error_of("SELECT fsync_nack('c', '{1}', NULL)"), qr/^ 22004: delay must not be null/, 'none');
like(error_of("SELECT fsync_nack('c', '{1}', '300000 years')"), qr/^ 22008: /, 'one that is too long');
like(error_of("SELECT fsync_extend('c', '{1}', '0')"), qr/^ 22023: visibility_timeout must be greater than zero/, 'no time');
like(error_of("SELECT fsync_extend('c', '{1}', NULL)"), qr/^ 22004: visibility_timeout must not be null/, 'NULL');
like(error_of("SET default_transaction_read_only = on; SELECT fsync_nack('c', '{1}')"), qr/^ 25006: /, 'in a transaction that only reads');
like(error_of("SET default_transaction_read_only = on; SELECT fsync_extend('c', '{1}')"), qr/^ 25006: /, 'both');
sql('CREATE ROLE app LOGIN');
foreach my $function ('ack', 'nack', 'extend')
{
	my (undef, undef, $err) = $node->psql($db, "SELECT fsync_$function('c', NULL)", extra_params => [ '-U', 'app' ]);
	like($err, qr/permission denied for function fsync_$function/, 'who was granted nothing');
}

# ---- a change that is given back is not lost, whoever dies ----

write_file("$root/e", 'e');
wait_ok($node, $id);
is(next_changes(), 'added e', 'one more');
is(sql("SELECT fsync_nack('c', " . of('e') . ", '1 hour')"), '1', 'given back for a while');
$node->stop('immediate');
$node->start;
is(sql("SELECT fsync_nack('c', " . of('e') . ")"), '1', 'after a crash it is still there');
is(next_changes(), 'added e', 'and comes');

done_testing();
