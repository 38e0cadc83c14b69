# Random messages to the worker, of files written, removed and moved in every
# order, also such as no fsync-tree would send together: after each of them the
# rows are those of a table to which the same was done step by step.
#
# ORACLE_SEED, ORACLE_MESSAGES
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{ORACLE_SEED} || 20;
my $messages = $ENV{ORACLE_MESSAGES} || 3000;
my $oracle = $ENV{APPLY_ORACLE} or die 'APPLY_ORACLE does not name the program oracle';
my $flushes = 10;

my $node = new_node('main', conf => "fsync.helper_path = '$oracle'");
my $root = new_root('oracle');
write_file("$root/oracle", "$seed " . int($messages / $flushes) . "\n");
my $id = add_repository($node, $root);

# What the program found out so far; it says nothing before the first flush.
sub result
{
	return -e "$root/result" ? slurp_file("$root/result") : '';
}

foreach my $i (1 .. $flushes)
{
	my $waiter = start_sql($node, 'postgres', 'waiter', "SELECT fsync_wait('$id', timeout => '1 hour');");
	my $before = $i == 1 ? '' : result();
	my $after;

	wait_until(sub { ($after = result()) ne $before });
	last if $after !~ /^\d+ messages/;
	my ($rc, $out, $err) = finish_sql($waiter);
	is($out, 't', "flush $i: answered") or diag($err);
}
my $made = int($messages / $flushes) * $flushes;
like(result(), qr/^$made messages, \d+ observations$/, "seed $seed: each message came to what it says");
note(result());

is($node->safe_psql('postgres', 'SELECT count(*) FROM fsync_problems'), '0', 'no row was refused');
is($node->safe_psql('postgres', "SELECT count(*) FROM sync_operations WHERE status = 'failed'"),
	'0', 'and no operation failed');
$node->stop;
done_testing();
