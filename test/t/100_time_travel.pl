#
# The past, as the disk was: what find and sha256sum said of the tree at each of
# many moments, between which files and directories are deleted, made, rewritten,
# renamed, exchanged and moved in rings, the worker is killed, the server is
# stopped and the repository paused, is what fsync_files_at() says afterwards;
# and fsync_diff() of any two of them is what differs between the two listings.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use File::Path qw(make_path remove_tree);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

srand($ENV{SEED} // 100);
my $node = new_node('main', conf => 'restart_after_crash = on');
my $root = new_root('tree');
my $other_root = new_root('other');

sub sql { return $node->safe_psql('postgres', $_[0]) }

make_tree($root, 600);
make_tree($other_root, 60);
my $id = add_repository($node, $root, args => 'change_feed => true');
my $other = add_repository($node, $other_root, args => 'change_feed => true');

my @moments;

# What the disk is now, with ids from the table; and when that is.
sub remember
{
	my ($name) = @_;

	wait_ok($node, $id, $name);
	my $disk = disk_files($root);
	my $ids = ids_of($node, $id);
	my $at = sql('SELECT clock_timestamp()');
	my %files = map { $_ => [ @{ $disk->{$_} }[ 0, 1, 3 ], $ids->{$_} // 'no id' ] } keys %$disk;

	push @moments, { name => $name, at => $at, files => \%files };
}

sub files
{
	return grep { length } split /\0/, run_program('find', $root, '-type', 'f', '!', '-path', '*/.*', '-print0');
}

sub directories
{
	return grep { length && $_ ne $root } split /\0/,
	  run_program('find', $root, '-mindepth', '1', '-type', 'd', '!', '-path', '*/.*', '-print0');
}

sub run_program
{
	my @command = @_;
	my $out;

	IPC::Run::run(\@command, '>', \$out) or die "@command failed";
	return $out;
}

sub some
{
	my ($n, @of) = @_;
	my @some;

	push @some, splice(@of, int(rand(@of)), 1) while @of && @some < $n;
	return @some;
}

# Names of several files go round: the first gets the second's, and so on.
sub ring
{
	my @ring = @_;

	rename $ring[0], "$root/ring" or die "rename: $!";
	rename $ring[$_], $ring[ $_ - 1 ] or die "rename: $!" foreach 1 .. $#ring;
	rename "$root/ring", $ring[-1] or die "rename: $!";
}

my $made = 0;
my %storm = (
	deletes => sub { unlink some(30, files()) },
	additions => sub {
		make_path("$root/made $made/b");
		write_file("$root/made $made/" . ($_ % 2 ? 'b/' : '') . "new $_", "new $made $_") foreach 1 .. 30;
		$made++;
	},
	writes => sub { append_file($_, 'more') foreach some(30, files()) },
	touches => sub { utime 1_100_000_000 + int(rand(1e6)), 1_200_000_000 + int(rand(1e6)), some(20, files()) },
	renames => sub { rename $_, "$_ renamed" or die "rename: $!" foreach grep { length($_) < length($root) + 200 && m{[^/]{1,200}\z} } some(30, files()) },
	moves_and_writes => sub {
		foreach my $file (some(20, files()))
		{
			my $new = "$root/moved " . $made++;
			rename $file, $new or die "rename: $!";
			append_file($new, 'and written');
		}
	},
	exchanges => sub {
		my @files = some(20, files());
		ring(splice(@files, 0, 2)) while @files > 1;
	},
	rings => sub {
		my @files = some(20, files());
		ring(splice(@files, 0, 5)) while @files > 4;
	},
	replacements => sub {
		my @files = some(20, files());
		while (my ($from, $to) = splice(@files, 0, 2)) { rename $from, $to if defined $to }
	},
	again => sub {
		foreach my $file (some(20, files()))
		{
			unlink $file;
			write_file($file, 'another at this path ' . $made++);
		}
	},
	directory_renames => sub {
		foreach my $dir (some(4, directories())) { rename $dir, "$root/dir " . $made++ if -d $dir }
	},
	directory_exchanges => sub {
		my @dirs = some(2, grep { m{^\Q$root\E/[^/]+\z} } directories());
		ring(@dirs) if @dirs == 2;
	},
	directory_deletes => sub { remove_tree(some(2, directories())) },
);

my %meanwhile = (
	3 => sub { kill 'KILL', worker_pid($node, 'postgres') },
	5 => sub { sql("SELECT fsync_pause('$id')") },
	7 => sub { kill 'KILL', status_of($node, $id, 'tree_pid') },
	9 => sub { $node->stop('immediate') },
);
my %afterwards = (
	3 => sub { $node->poll_query_until('postgres', "SELECT tree_pid > 0 FROM fsync_status('$id')") or die 'no worker' },
	5 => sub { sql("SELECT fsync_resume('$id')") },
	9 => sub { $node->start },
);

remember('first sync');
my $n = 0;
foreach my $round (1 .. 16)
{
	my @what = $round == 16 ? keys %storm : some(3, sort keys %storm);

	$meanwhile{$round}->() if $meanwhile{$round};
	foreach my $what (@what)
	{
		$storm{$what}->();
		append_file((some(1, map { "$other_root/$_" } keys %{ disk_files($other_root, hashes => 0) }))[0], 'x');
	}
	$afterwards{$round}->() if $afterwards{$round};
	remember("round $round: @what");
}
is_equal($node, $id, $root, 'in the end');
cmp_ok(sql("SELECT count(*) FROM file_changes WHERE repository_id = '$id'"), '>', 1500, 'much has happened');

# path => [size, mtime in µs, hash, id]
sub past
{
	my ($at) = @_;
	my %files;

	foreach my $row (split /\n/, sql("SELECT encode(convert_to(file_path, 'UTF8'), 'hex'), file_size,"
		. " (extract(epoch FROM mod_time) * 1000000)::bigint, encode(content_hash, 'hex'), id"
		. " FROM fsync_files_at('$id', '$at')"))
	{
		my ($path, @columns) = split /\|/, $row;

		die 'a path twice' if $files{ pack('H*', $path) };
		$files{ pack('H*', $path) } = \@columns;
	}
	return \%files;
}

sub lines
{
	my ($files) = @_;

	return join("\n", map { unpack('H*', $_) . " @{ $files->{$_} }" } sort keys %$files);
}

foreach my $moment (@moments)
{
	is(lines(past($moment->{at})), lines($moment->{files}), "$moment->{name}: as it was");
}

# What differs between two listings, by id.
sub expected_diff
{
	my ($from, $to) = @_;
	my %old = map { $from->{$_}->[3] => [ $_, @{ $from->{$_} } ] } keys %$from;
	my %new = map { $to->{$_}->[3] => [ $_, @{ $to->{$_} } ] } keys %$to;
	my @lines;

	foreach my $file (keys %{ { %old, %new } })
	{
		my ($o, $n) = ($old{$file}, $new{$file});
		my $what =
		    !$o ? 'added'
		  : !$n ? 'removed'
		  : $o->[0] ne $n->[0] ? 'moved'
		  : "@$o" ne "@$n" ? 'updated'
		  : next;

		push @lines, join('|', $what, $file, unpack('H*', ($n // $o)->[0]), $o ? unpack('H*', $o->[0]) : '',
			map { ($n ? $n->[$_] : '', $o ? $o->[$_] : '') } 1 .. 3);
	}
	return join("\n", sort @lines);
}

my %kinds;
foreach my $pair ([ 0, $#moments ], [ 3, 3 ], [ 0, 1 ], map { [ sort { $a <=> $b } int(rand(@moments)), int(rand(@moments)) ] } 1 .. 25)
{
	my ($from, $to) = map { $moments[$_] } @$pair;
	my $us = '(extract(epoch FROM %s) * 1000000)::bigint';
	my $hex = "encode(convert_to(%s, 'UTF8'), 'hex')";
	my $diff = sql("SELECT operation, id, " . sprintf("$hex, $hex, file_size, old_size, $us, $us,", 'file_path', 'old_path', 'mod_time', 'old_mod_time')
		. " encode(content_hash, 'hex'), encode(old_hash, 'hex') FROM fsync_diff('$id', '$from->{at}', '$to->{at}')");

	$kinds{$1}++ while $diff =~ /^(\w+)/mg;
	is(join("\n", sort split /\n/, $diff), expected_diff($from->{files}, $to->{files}), "from $pair->[0] to $pair->[1]: what differs");
}
is(join(' ', sort keys %kinds), 'added moved removed updated', 'of every kind');
is(sql("SELECT count(*) FROM (SELECT * FROM fsync_diff('$id', '$moments[2]{at}') EXCEPT SELECT * FROM fsync_diff('$id', '$moments[2]{at}', clock_timestamp())) d"),
	'0', 'to the present, unless it is said');

# The moment of a change is after it, the microsecond before is not.
is(sql(qq(
WITH c AS (SELECT changed_at, max(change_id) AS last FROM file_changes WHERE repository_id = '$id' AND changed_at > '$moments[0]{at}' GROUP BY 1),
	s AS (SELECT c.*, row_number() OVER (ORDER BY changed_at) AS n FROM c)
SELECT count(*) FROM (SELECT * FROM s WHERE n % 5 = 0 LIMIT 20) s
CROSS JOIN LATERAL (SELECT count(*) AS n FROM fsync_diff('$id', s.changed_at - interval '1 us', s.changed_at)) d
WHERE d.n <> (SELECT count(DISTINCT file_id) FROM file_changes f WHERE f.repository_id = '$id' AND f.changed_at = s.changed_at))),
	'0', 'at the time of a change the change is there');

# ---- what readers see meanwhile ----

# Transactions that look at the table while it changes, and when; what they saw is
# what is said of that moment, unless a commit was under way just then.
sql(q(CREATE TABLE seen (n int, before timestamptz, after timestamptz, files text)));
my $reader = start_sql($node, 'postgres', 'reader', qq(
SET client_min_messages = warning;
DO \$\$
BEGIN
	FOR i IN 1 .. 100000 LOOP
		INSERT INTO seen SELECT i, clock_timestamp(), NULL, NULL;
		UPDATE seen SET files = (SELECT md5(string_agg(concat_ws(' ', id, file_path, file_size, mod_time, content_hash), '/' ORDER BY id))
			FROM file_records WHERE repository_id = '$id') WHERE n = i;
		UPDATE seen SET after = clock_timestamp() WHERE n = i;
		COMMIT;
		PERFORM pg_sleep(0.01);
		EXIT WHEN EXISTS (SELECT FROM pg_class WHERE relname = 'enough');
	END LOOP;
END \$\$));
$node->poll_query_until('postgres', 'SELECT count(*) > 3 FROM seen') or die 'the reader does not come';
foreach my $what (qw(additions renames writes directory_renames deletes exchanges additions))
{
	$storm{$what}->();
	wait_ok($node, $id, $what);
	my $seen = sql('SELECT max(n) FROM seen WHERE before > clock_timestamp() - interval \'1 minute\'') + 30;
	$node->poll_query_until('postgres', "SELECT max(n) > $seen FROM seen") or die 'the reader is gone';
}
sql('CREATE TABLE enough ()');
finish_sql($reader);
my $said = sql(qq(
WITH p AS (SELECT s.*, md5(string_agg(concat_ws(' ', f.id, file_path, file_size, mod_time, content_hash), '/' ORDER BY f.id)) AS past
	FROM (SELECT * FROM seen WHERE after IS NOT NULL AND NOT EXISTS (SELECT FROM file_changes c
		WHERE c.changed_at BETWEEN seen.before - interval '200 ms' AND seen.after)) s
	CROSS JOIN LATERAL fsync_files_at('$id', s.before) f GROUP BY s.n, s.before, s.after, s.files)
SELECT count(*) > 3, count(*) FILTER (WHERE past <> files), count(DISTINCT past) > 1 FROM p));
is($said, 't|0|t', 'what readers saw is what is said of the moment when they looked');

$node->stop;
done_testing();
