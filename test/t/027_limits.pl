#
# No inotify instance is to be had, or too few watches: the state says so and
# what to do, the table is right after each reconciliation, what is watched is
# kept right as ever, the user's other programs are left some watches, and when
# the limits are raised the worker heals without help.
#
# In a namespace of its own, which has limits of its own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncLinux;
use FsyncTest;
BEGIN { enter_namespace(); }
use File::Path qw(make_path remove_tree);
use PostgreSQL::Test::Utils;
use Test::More;

sub limit
{
	my ($what, $value) = @_;

	open my $fh, '>', "/proc/sys/user/max_inotify_$what"
	  or return 0;
	print $fh $value;
	return close $fh;
}

plan skip_all => 'the limits of a namespace cannot be set'
  unless limit('watches', 60) && limit('instances', 128);

# Watches that a process has.
sub watches_of
{
	my ($pid) = @_;
	my $n = 0;

	foreach my $file (glob("/proc/$pid/fdinfo/*"))
	{
		open my $fh, '<', $file or next;
		$n += grep { /^inotify/ } <$fh>;
	}
	return $n;
}

my $node = new_node('main');
my $root = new_root('photos');
foreach my $d (1 .. 100)
{
	my $dir = sprintf("$root/%03d", $d);

	mkdir($dir) or die "mkdir: $!";
	write_file("$dir/$_.txt", "$d/$_") foreach 1 .. 3;
}

# ---- too few watches ----

my $offset = -s $node->logfile;
my $id = add_repository($node, $root);
wait_for_state($node, $id, 'degraded', 'too few watches: degraded');
like(status_of($node, $id, 'reason'), qr/\d+ directories.*not watched/, 'too few watches: the reason');
like(status_of($node, $id, 'hint'), qr/max_user_watches/, 'too few watches: the hint says what to raise');
$node->poll_query_until('postgres',
	"SELECT count(*) > 0 FROM sync_operations WHERE repository_id = '$id' AND status = 'completed'");
is_equal($node, $id, $root, 'too few watches: first sync');
my $watches = watches_of(tree_pid($node, $id));
diag("$watches watches of 60");
cmp_ok($watches, '>', 30, 'too few watches: most of them are used');

# What is watched is kept right in real time: at least the root.
write_file("$root/in the root.txt", 'x');
ok(wait_until(sub { ids_of($node, $id)->{'in the root.txt'} }), 'too few watches: the rest is watched');
append_file("$root/$_/1.txt", 'more') foreach map { sprintf('%03d', $_) } 1 .. 100;
mkdir("$root/new") or die "mkdir: $!";
write_file("$root/new/1.txt", 'new');
ok(wait_until(sub { ids_of($node, $id)->{'new/1.txt'} }),
	'too few watches: a new directory below a watched one is found');
like(reconcile($node, $id), qr/^completed/, 'too few watches: a reconciliation runs');
is_equal($node, $id, $root, 'too few watches: and finds everything');

# A store into a page that is dirty already leaves no trace in the times, and
# here no event either when the mapping ends.
my @maps = map { map_file(sprintf("$root/%03d/3.txt", $_)) } 1 .. 100;
store_mapped($_, 'one') foreach @maps;
like(reconcile($node, $id), qr/^completed/, 'too few watches: mapped files are hashed');
store_mapped($_, 'two') foreach @maps;
unmap_file($_) foreach @maps;
like(reconcile($node, $id), qr/^completed/, 'too few watches: they are hashed again');
is_equal($node, $id, $root, 'too few watches: what was stored without a trace is found');

# ---- more of them: without help ----

limit('watches', 10_000) or die "could not set the limit: $!";
wait_for_state($node, $id, 'watching', 'enough watches: heals without help');
append_file("$root/$_/2.txt", 'more') foreach map { sprintf('%03d', $_) } 1 .. 100;
rename("$root/050", "$root/051/050") or die "rename: $!";
wait_equal($node, $id, $root, 'enough watches: all is watched');
my @said = said($node, $offset, qr/^WARNING:.*repository/);
is(scalar(@said), 1, 'enough watches: the log said once what was wrong') or diag(join("\n", @said));
@said = said($node, $offset, qr/^LOG:.*watched again/);
is(scalar(@said), 1, 'enough watches: and once that it is over') or diag(join("\n", @said));

# ---- no instance, from the start ----

limit('instances', 0) or die "could not set the limit: $!";
$offset = -s $node->logfile;
$node->stop;
append_file("$root/001/1.txt", 'while down');
$node->start;
wait_for_state($node, $id, 'degraded', 'no instance: degraded');
like(status_of($node, $id, 'hint'), qr/max_user_instances/, 'no instance: the hint says what to raise');
like(reconcile($node, $id), qr/^completed/, 'no instance: a reconciliation runs');
is_equal($node, $id, $root, 'no instance: and finds everything');
remove_tree("$root/002");
rename("$root/003", "$root/004/003") or die "rename: $!";
like(reconcile($node, $id), qr/^completed\|0\|0\|3\|3$/, 'no instance: renames are found');
is_equal($node, $id, $root, 'no instance: the table');

@maps = map { map_file("$root/$_/3.txt") } '010' .. '019';
store_mapped($_, 'three') foreach @maps;
like(reconcile($node, $id), qr/^completed/, 'no instance: mapped files are hashed');
store_mapped($_, 'four!') foreach @maps;
unmap_file($_) foreach @maps;
limit('instances', 128) or die "could not set the limit: $!";
append_file("$root/005/1.txt", 'not seen');
wait_for_state($node, $id, 'watching', 'an instance: heals without help');
wait_equal($node, $id, $root, 'an instance: what was not seen is made good');
append_file("$root/006/1.txt", 'seen');
wait_equal($node, $id, $root, 'an instance: all is watched');

# ---- the others are left some ----

# A limit of 100 as fsync-tree reads it; the kernel would give more.
my $fake = new_root('fake') . '/limit';
write_file($fake, "100\n");
mount_at('', '/proc/sys/fs/inotify/max_user_watches', bind => $fake);
$node->restart;
wait_for_state($node, $id, 'degraded', 'a limit of 100: degraded');
wait_ok($node, $id, 'a limit of 100');
is_equal($node, $id, $root, 'a limit of 100: the table');
$watches = watches_of(tree_pid($node, $id));
cmp_ok($watches, '<=', 80, "a limit of 100: $watches watches, the others are left twenty");
cmp_ok($watches, '>=', 60, 'a limit of 100: not less than needed');
reconcile_finds_nothing($node, $id, 'in the end');

# ---- all repositories together, also of another database ----

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION fsync');
write_file($fake, "300\n");
$node->restart;
my %watched;
foreach my $n (1 .. 3)
{
	my $more = new_root("more$n");
	my $db = $n == 3 ? 'other' : 'postgres';

	make_path(map { "$more/$_/below" } 1 .. 50);
	$watched{ add_repository($node, $more, db => $db) } = [ $more, $db ];
}
foreach my $one (sort keys %watched)
{
	my ($dir, $db) = @{ $watched{$one} };

	$node->poll_query_until($db, "SELECT state IN ('watching', 'degraded') FROM fsync_status('$one')");
	wait_equal($node, $one, $dir, 'together', db => $db);
}
my @trees = map { $node->safe_psql($_, 'SELECT tree_pid FROM fsync_status()') } qw(postgres other);
my $sum = 0;
$sum += watches_of($_) foreach split(' ', join(' ', @trees));
cmp_ok($sum, '<=', 240, "together: $sum watches of 300, the others are left a fifth");
cmp_ok($sum, '>=', 200, 'together: not less than there are');

# What one gives back the others get.
my ($first) = grep { $watched{$_}[1] eq 'postgres' } sort keys %watched;
$node->safe_psql('postgres', "SELECT fsync_remove_repository('$_')")
  foreach $id, grep { $watched{$_}[1] eq 'postgres' && $_ ne $first } keys %watched;
foreach my $one ($first, grep { $watched{$_}[1] eq 'other' } keys %watched)
{
	ok( $node->poll_query_until($watched{$one}[1],
			"SELECT state = 'watching' FROM fsync_status('$one')"),
		'together: what is given back goes to the others');
}

$node->stop;
done_testing();
