#!/usr/bin/perl
#
# memory.pl PID…
#		Looks at the processes each 5 ms until it is sent SIGTERM, and prints
#		the largest RssAnon of all of them together, in MB.

use strict;
use warnings;
use Time::HiRes qw(usleep);

my $asked = 0;
my $largest = 0;
my $parent = getppid();

$SIG{TERM} = sub { $asked = 1 };
while (!$asked && getppid() == $parent)
{
	my $sum = 0;

	foreach my $pid (@ARGV)
	{
		open my $f, '<', "/proc/$pid/status" or die "process $pid: $!";
		$sum += $_ foreach map { /^RssAnon:\s*(\d+)/ ? $1 : () } <$f>;
	}
	$largest = $sum if $sum > $largest;
	usleep(5000);
}
printf "%.1f\n", $largest / 1024;
