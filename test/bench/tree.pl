#!/usr/bin/perl
#
# tree.pl DIR FILES MIN MAX [PER_DIRECTORY]
#		Makes a tree of FILES files of MIN to MAX bytes below DIR, 50 (or
#		PER_DIRECTORY) in a directory, the same each time.

use strict;
use warnings;
use File::Path qw(make_path);

my ($dir, $files, $min, $max, $per) = @ARGV;
$per ||= 50;
srand(20);
my $noise = join '', map { pack 'L', rand 2**32 } 1 .. $max / 4 + 16_384;

for my $n (0 .. $files - 1)
{
	my $leaf = int($n / $per);
	my $path = sprintf '%s/%03d/%03d', $dir, $leaf / 50, $leaf % 50;

	make_path($path) if $n % $per == 0;
	open my $f, '>:raw', sprintf('%s/IMG_%07d.jpg', $path, $n) or die "$path: $!";
	print $f substr $noise, int(rand 65_536), $min + int(rand($max - $min + 1));
	close $f or die "$path: $!";
}
