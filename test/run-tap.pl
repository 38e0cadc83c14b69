#!/usr/bin/perl
#
# run-tap.pl COUNTS JOBS TEST...
#		Runs TAP tests and writes "passed failed skipped" to the file COUNTS.
#
# What prove(1) does, but with numbers for a summary: a test file that dies,
# or runs another number of tests than it planned, counts as a failure even if
# each of its checks passed.

use strict;
use warnings;

use TAP::Harness;

my ($counts, $jobs, @tests) = @ARGV;

my $harness = TAP::Harness->new(
	{ jobs => $jobs, timer => 1, failures => 1, color => 0, merge => 0 });
my $aggregate = $harness->runtests(@tests);

my ($passed, $failed, $skipped) = (0, 0, 0);

foreach my $test (@tests)
{
	my ($parser) = $aggregate->parsers($test);
	my $bad = scalar($parser->failed);

	$bad = 1 if $bad == 0 && ($parser->has_problems || $parser->parse_errors);
	$failed += $bad;
	$passed += scalar($parser->passed) - scalar($parser->skipped);
	$skipped += scalar($parser->skipped);
	$skipped++ if $parser->skip_all;
}

open my $out, '>', $counts or die "could not write $counts: $!";
print $out "$passed $failed $skipped\n";
close $out or die "could not write $counts: $!";

exit($failed ? 1 : 0);
