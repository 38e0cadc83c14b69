#!/usr/bin/perl
#
# torture.pl - is the table equal to the disk, however wild it was?
#
#	torture.pl [--seed N] [--ops N] [--rounds N] [--processes N] [--moves]
#	           [--debounce MS] [--stop] [--limited] [--settings] [--program PATH]
#	           [--storm PATH] [--dir PATH] [--keep]
#
# Runs "fsync-tree watch" and then, round after round: a storm with a seed of
# its own, "flush", "dump", every row against an independent walk with SHA-256
# (find, Digest::SHA, and the rule which names are ignored written once more);
# then "scan", which must report nothing, and a second dump, equal to the
# first.  With --moves a tree is made and then only renamed about: ids must
# follow inode numbers.  With --stop fsync-tree is stopped by SIGSTOP during
# the storm, so that the kernel's queue fills up.  With --limited only what the
# scan makes of the table is compared: for runs with too few watches.  With
# --settings the settings change all the time, and a scan goes on meanwhile.
#
# Exit status 0 if there was no difference.  On one, all that fsync-tree said of
# the path is printed, and the tree is kept.
#
use strict;
use warnings;

use Cwd qw(abs_path);
use Digest::SHA;
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use Getopt::Long;
use IO::Select;
use IPC::Open2;
use Time::HiRes qw(time);

my $here = dirname(abs_path($0));
my %o = (
	seed => 1, ops => 2000, rounds => 5, processes => 1, debounce => 500,
	program => "$here/../../fsync-tree", storm => "$here/../../build/torture/storm",
	timeout => 900);

GetOptions(\%o, 'seed=i', 'ops=i', 'rounds=i', 'processes=i', 'debounce=i', 'moves!', 'stop!',
	'program=s', 'storm=s', 'dir=s', 'keep!', 'limited!', 'settings!', 'timeout=i', 'quiet!', 'pause=f')
  or exit 2;

my $base = $o{dir} // tempdir('fsync-torture-XXXXXX', TMPDIR => 1);
my $tree = "$base/tree";
my ($out, $in, $pid);
my (@trace, $buffer);
my ($differences, $comparisons) = (0, 0);
my %counts;

# ---- fsync-tree ----

sub start
{
	mkdir $tree;
	$pid = open2($out, $in, $o{program}, 'watch', $tree, $o{debounce});
	$in->autoflush(1);
	$buffer = '';
	wait_for(qr/^scanned /);
}

# Lines up to the one that matches, which is the last of them.
sub wait_for
{
	my ($pattern) = @_;
	my $until = time + $o{timeout};
	my $select = IO::Select->new($out);
	my @lines;

	for (;;)
	{
		while ($buffer =~ s/^(.*)\n//)
		{
			push @lines, $1;
			push @trace, $1;
			splice(@trace, 0, 100_000) if @trace > 400_000;
			return @lines if $lines[-1] =~ $pattern;
		}
		my $left = $until - time;
		if ($left <= 0 || !$select->can_read($left))
		{
			print "not ok: fsync-tree did not answer within $o{timeout} s\n",
			  map { "\t$_\n" } @trace > 5 ? @trace[-5 .. -1] : @trace;
			system('gdb', '-batch', '-x', $ENV{TORTURE_GDB}, '-p', engine()) if $ENV{TORTURE_GDB};
			kill_all();
			exit 3;
		}
		my $n = sysread($out, $buffer, 1 << 20, length $buffer);
		if (!$n)
		{
			print "not ok: fsync-tree ended\n", map { "\t$_\n" } @trace > 5 ? @trace[-5 .. -1] : @trace;
			waitpid($pid, 0);
			print "\tstatus $?\n";
			exit 3;
		}
	}
}

sub command
{
	my ($text, $pattern) = @_;

	push @trace, ">>> $text";
	print $in "$text\n";
	return wait_for($pattern);
}

# Other settings, at random.
sub configure
{
	my @limits = (0, 0, 50_000, 400_000);

	command(sprintf('configure %d %d %d', 1 + rand 8, $limits[ rand @limits ], (0, 20, 500)[ rand 3 ]),
		qr/^configured$/);
}

# The process that has the engine.
sub engine
{
	open(my $f, '<', "/proc/$pid/task/$pid/children") or return;
	my ($child) = split ' ', (<$f> // '');
	return $child;
}

sub kill_all
{
	my $engine = engine();

	kill 'CONT', $engine if $engine;
	kill 'KILL', $pid;
	waitpid($pid, 0);
}

# ---- the disk ----

sub ignored
{
	my ($path) = @_;

	for my $name (split m{/}, $path)
	{
		return 1 if $name =~ /^\./s || $name =~ /(?:~|\.tmp|\.bak|\.swp)\z/s ||
		  $name eq 'Thumbs.db';
	}
	return 0;
}

sub walk
{
	my %files;

	open(my $find, '-|', 'find', $tree, '-type', 'f', '-printf', '%s %T@ %i %P\0') or die $!;
	local $/ = "\0";
	while (my $line = <$find>)
	{
		chomp $line;
		my ($size, $mtime, $inode, $path) = split ' ', $line, 4;
		$path = substr($line, length("$size $mtime $inode "));
		next if ignored($path);
		$mtime =~ s/^(-?\d+\.\d{9})\d*$/$1/;
		my $sha = Digest::SHA->new(256);
		$sha->addfile("$tree/$path", 'b');
		$files{$path} = { size => $size, mtime => $mtime, inode => $inode, sha => $sha->hexdigest };
	}
	close $find;
	return \%files;
}

sub unescape
{
	my ($path) = @_;

	$path =~ s/\\([0-7]{3})/chr oct $1/ge;
	return $path;
}

sub dump_table
{
	my %rows;
	my @lines = command('dump', qr/^end$/);

	pop @lines;
	for (@lines)
	{
		my ($sha, $size, $mtime, $path) = /^(\S+)  (-?\d+)  (\S+)  (.*)$/ or next;
		$rows{ unescape($path) } = { sha => $sha, size => $size, mtime => $mtime };
	}
	return \%rows;
}

sub dump_ids
{
	my %ids;
	my @lines = command('ids', qr/^end$/);

	pop @lines;
	for (@lines)
	{
		my ($id, $inode, $path) = /^(\d+)  (\d+)  (.*)$/ or next;
		$ids{ unescape($path) } = [ $id, $inode ];
	}
	return \%ids;
}

# ---- comparing ----

sub say_row
{
	my ($r) = @_;

	return $r ? "$r->{size} $r->{mtime} $r->{sha}" : '(none)';
}

sub escape
{
	my ($path) = @_;

	$path =~ s/([\\\x00-\x1f\x7f])/sprintf '\\%03o', ord $1/ge;
	return $path;
}

sub difference
{
	my ($round, $what, $path, @more) = @_;
	my $shown = escape($path);

	return if $differences++ >= 5;
	print "not ok: round $round: $what: $shown\n", map { "\t$_\n" } @more;

	# what was said of it and of the directories above it
	my $n = 0;
	my @said = grep { index($_, $shown) >= 0 || /^(?:>>>|#|flushed|scanned)/ } @trace;
	splice(@said, 0, @said - 40) if @said > 40;
	print map { "\t| $_\n" } @said;
}

sub compare
{
	my ($round, $when, $disk, $rows) = @_;
	my %all = (%$disk, %$rows);

	for my $path (sort keys %all)
	{
		$comparisons++;
		difference($round, $when, $path, 'disk ' . say_row($disk->{$path}),
			'row  ' . say_row($rows->{$path}))
		  if say_row($disk->{$path}) ne say_row($rows->{$path});
	}
}

sub storm
{
	my ($seed, $ops, $mode) = @_;
	my $engine = $o{stop} ? engine() : undef;

	kill 'STOP', $engine if $engine;
	open(my $s, '-|', $o{storm}, $tree, $seed, $ops, $o{processes}, $mode) or die "$o{storm}: $!";
	if ($o{settings})
	{
		my $over = IO::Select->new($s);

		until ($over->can_read(0.02))
		{
			configure();
			command('scan', qr/^scanned /) if rand() < 0.2;
		}
		configure();
	}
	my $line = <$s> // '';
	close $s or die "storm failed\n";
	kill 'CONT', $engine if $engine;
	my %n = $line =~ /(\S+) (\d+)/g;
	$counts{$_} += $n{$_} for keys %n;
}

$SIG{INT} = $SIG{TERM} = sub { kill_all(); exit 3 };
srand($o{seed});
my $began = time;
my ($slowest, $ids) = (0, undef);

start();
if ($o{moves})
{
	storm($o{seed}, $o{ops}, 'make');
	command('flush', qr/^flushed$/);
	$ids = dump_ids();
}
for my $round (1 .. $o{rounds})
{
	push @trace, "=== round $round";
	storm($o{seed} * 1000 + $round, $o{ops}, $o{moves} ? 'moves' : 'all');
	select(undef, undef, undef, $o{pause}) if $o{pause};
	my $t = time;
	command('flush', qr/^flushed$/);
	$slowest = time - $t if time - $t > $slowest;
	my $rows = dump_table();
	my $disk = walk();
	compare($round, 'after flush', $disk, $rows) unless $o{limited};
	if ($o{moves})
	{
		my $now = dump_ids();
		my %before = map { $_->[1] => $_->[0] } values %$ids;
		for my $path (sort keys %$now)
		{
			my ($id, $inode) = @{ $now->{$path} };
			$comparisons++;
			difference($round, 'identity', $path, "inode $inode had id $before{$inode}, has $id")
			  if $before{$inode} != $id;
		}
		$ids = $now;
	}
	my @found = grep { /^[AUMR] / } command('scan', qr/^scanned /);
	if (!$o{limited})
	{
		difference($round, 'scan found', substr($_, 2), $_) for map { unescape($_) } @found;
	}
	compare($round, 'after scan', $disk, dump_table());
	last if $differences;
}
close $in;
waitpid($pid, 0);
my $status = $?;
my $sum = 0;
$sum += $_ for values %counts;
printf "%s: seed %d, %d rounds, %d processes%s, debounce %d: %d operations, %d comparisons, "
  . "slowest flush %.1f s, %.0f s%s\n",
  $differences || $status ? 'not ok' : 'ok', @o{qw(seed rounds processes)},
  join('', map { $o{$_} ? ", $_" : '' } qw(moves stop settings limited)), $o{debounce},
  $sum, $comparisons, $slowest, time - $began,
  $differences ? ", $differences differences, kept in $base" : $status ? ", exit status $status" : '';
system('rm', '-rf', $base) unless $differences || $o{keep} || $o{dir};
exit($differences || $status ? 1 : 0);
