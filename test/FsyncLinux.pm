#
# FsyncLinux.pm
#		System calls that Perl has no function for: mappings, exchanged names,
#		namespaces and mounts.

package FsyncLinux;

use strict;
use warnings;

use Errno;
use Exporter 'import';
use FsyncTest;
use Test::More;

our @EXPORT = qw(
  enter_namespace mount_at unmount exchange
  map_file store_mapped unmap_file
);

sub call_number
{
	my ($name) = @_;

	return eval { require 'syscall.ph'; no strict 'refs'; &{"main::SYS_$name"}() }
	  // do { no strict 'refs'; &{"FsyncLinux::SYS_$name"}() };
}

sub system_call
{
	my ($name, @args) = @_;

	return syscall(call_number($name), @args) != -1;
}

# Maps the first page of a file, shared; for store_mapped() and unmap_file().
sub map_file
{
	my ($path) = @_;

	open my $file, '+<', $path or die "open: $!";

	# PROT_READ | PROT_WRITE, MAP_SHARED
	my $address = syscall(call_number('mmap'), 0, 4096, 3, 1, fileno($file), 0);
	die "mmap: $!" if $address == -1;
	return { file => $file, address => $address };
}

# A store, made by the kernel, which reads a pipe into the mapping.
sub store_mapped
{
	my ($map, $bytes) = @_;

	pipe my $reader, my $writer or die "pipe: $!";
	syswrite($writer, $bytes) == length $bytes or die "write: $!";
	system_call('read', fileno($reader), $map->{address}, length $bytes) or die "read: $!";
}

sub unmap_file
{
	my ($map) = @_;

	system_call('munmap', $map->{address}, 4096) or die "munmap: $!";
	close $map->{file};
}

# Swaps two names (RENAME_EXCHANGE).
sub exchange
{
	my ($one, $other) = @_;

	# AT_FDCWD is -100
	system_call('renameat2', -100, $one, -100, $other, 2)
	  or die "could not exchange $one and $other: $!";
}

# Runs the whole test in a user and a mount namespace of its own, where it can
# mount what it likes and has limits of its own, and which the kernel clears
# away however the test ends.  Call it in a BEGIN block.  Only the test has the
# rights that come with it: programs that it starts, the server among them,
# are ordinary processes.
sub enter_namespace
{
	my @unshare = (
		'unshare', '--user', '--map-current-user', '--keep-caps',
		'--mount', '--propagation', 'private');

	if (!$ENV{FSYNC_TEST_NAMESPACE})
	{
		my $said = `@unshare true 2>&1`;

		plan skip_all => "no user namespace is to be had: $said" if $? != 0;
		$ENV{FSYNC_TEST_NAMESPACE} = 1;
		exec(@unshare, $^X, (map { "-I$_" } @INC), $0, @ARGV)
		  or die "could not run unshare: $!";
	}

	# PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL: nothing is inherited
	system_call('prctl', 47, 4, 0, 0, 0) or die "prctl: $!";
}

# Mounts a file system; options is what mount(8) calls -o, or bind => directory.
sub mount_at
{
	my ($type, $target, %opt) = @_;

	# MS_BIND is 4096, MS_NOSUID | MS_NODEV is 6
	($opt{bind}
		? system_call('mount', "$opt{bind}", "$target", "$type", 4096, '')
		: system_call('mount', "$type", "$target", "$type", $opt{flags} // 6, $opt{options} // ''))
	  or die "could not mount $target: $!";
}

# Unmounts; a file system that is busy is tried again for a while, since an
# answer may be on its way.  False if it stays so.
sub unmount
{
	my ($target) = @_;

	return wait_until(
		sub {
			return 1 if system_call('umount2', "$target", 0);
			die "could not unmount $target: $!" unless $!{EBUSY};
			return 0;
		});
}

1;
