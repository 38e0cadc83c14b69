#
# FsyncFuse.pm
#		A small file system of the test's own, served over /dev/fuse in a
#		namespace of its own (enter_namespace()): a directory with a few files, of
#		which the test decides what reading them gives, and whether anything is
#		answered at all.
#
# However the test ends, the kernel ends the requests that hang when the
# descriptor is closed.

package FsyncFuse;

use strict;
use warnings;

use Exporter 'import';
use Fcntl qw(:DEFAULT);
use FsyncLinux;
use FsyncTest;
use POSIX ();

our @EXPORT = qw(fuse_device serve_files is_served end_server);

my %servers;

# The device, or undef where it cannot be used.  /dev/fuse is root's on some
# systems; check.sh then makes a node for us.
sub fuse_device
{
	my ($device) = grep { -r $_ && -w $_ && sysopen(my $fh, $_, O_RDWR) }
	  (($ENV{TESTDIR} ? "$ENV{TESTDIR}/fuse" : ()), '/dev/fuse');

	return $device;
}

# ---- a root (node 1) and its files (nodes 2, 3, ...) ----

sub attributes
{
	my ($self, $node) = @_;
	my $size = $node == 1 ? 0 : length($self->{content}{ $self->{names}[ $node - 2 ] });
	my $time = 1_600_000_000 + $node;

	return pack('Q6L10', $node, $size, 0, $time, $time, $time, 0, 0, 0,
		$node == 1 ? 040755 : 0100644, 1, $>, $) + 0, 0, 4096, 0);
}

# The answer to a request: error number and data; nothing where none is due.
sub answer
{
	my ($self, $opcode, $node, $data) = @_;
	my @names = @{ $self->{names} };

	# LOOKUP, GETATTR
	if ($opcode == 1)
	{
		my ($name) = $data =~ /^([^\0]*)/;
		my ($i) = grep { $names[$_] eq $name } 0 .. $#names;

		return (POSIX::ENOENT) unless defined $i;
		return (0, pack('Q4L2', $i + 2, 0, 0, 0, 0, 0) . attributes($self, $i + 2));
	}
	return (0, pack('QL2', 0, 0, 0) . attributes($self, $node)) if $opcode == 3;

	# OPEN, with FOPEN_KEEP_CACHE, as on a disk; OPENDIR, READ, STATFS
	return (0, pack('QL2', 0, 2, 0)) if $opcode == 14;
	return (0, pack('QL2', 0, 0, 0)) if $opcode == 27;
	if ($opcode == 15)
	{
		my (undef, $offset, $size) = unpack('QQL', $data);
		my $name = $names[ $node - 2 ];
		my ($error, $content) = $self->{read}->($name, $self->{content}{$name}, $self);

		return ($error) if $error;
		return (0, $offset < length $content ? substr($content, $offset, $size) : '');
	}
	return (0, pack('Q5L10', 1000, 1000, 1000, 1000, 1000, 4096, 255, 4096, (0) x 7))
	  if $opcode == 17;

	# RELEASE, FLUSH, RELEASEDIR, ACCESS, DESTROY
	return (0, '') if grep { $opcode == $_ } 18, 25, 29, 34, 38;

	# INIT, of protocol 7.31
	return (0, pack('L4S2L2S2L8', 7, 31, 65536, 0, 16, 12, 65536, 1, 1, 0, (0) x 8))
	  if $opcode == 26;

	# READDIR
	if ($opcode == 28)
	{
		my (undef, $offset) = unpack('QQ', $data);
		my $list = '';

		foreach my $i ($offset .. $#names)
		{
			my $name = $names[$i];

			$list .= pack('QQLL', $i + 2, $i + 1, length $name, 8) . $name
			  . "\0" x (-length($name) % 8);
		}
		return (0, $list);
	}

	# FORGET, INTERRUPT, BATCH_FORGET: no answer is due
	return if grep { $opcode == $_ } 2, 36, 42;
	return (POSIX::ENOSYS);
}

# Mounts and serves files (name => content) at the directory; returns the
# server's pid.  read: in the server, a function of name, content and the file
# system, whose names and content it may change; it returns an error number and
# what is to be read.  SIGUSR1 makes the server take
# requests and answer none.
sub serve_files
{
	my ($device, $target, $content, %opt) = @_;
	my $self = {
		content => {%$content},
		names => [ sort keys %$content ],
		read => $opt{read} // sub { return (0, $_[1]) },
	};

	sysopen(my $fuse, $device, O_RDWR) or die "could not open $device: $!";
	mount_at('fuse', $target,
		options => sprintf('fd=%d,rootmode=40000,user_id=%d,group_id=%d', fileno($fuse), $>, $) + 0));

	my $pid = fork() // die "fork: $!";
	if ($pid)
	{
		$servers{$pid} = 1;
		return $pid;
	}

	my $hangs = 0;

	$SIG{USR1} = sub { $hangs = 1; };
	$SIG{TERM} = 'DEFAULT';
	while (1)
	{
		my $n = sysread($fuse, my $request, 1 << 20);

		next if !defined $n && ($!{EINTR} || $!{ENOENT});
		last unless $n;
		my (undef, $opcode, $unique, $node) = unpack('LLQQ', $request);
		next if $hangs;
		my ($error, $data) = answer($self, $opcode, $node, substr($request, 40));
		next unless defined $error;
		$data = '' if $error;
		syswrite($fuse, pack('LlQ', 16 + length $data, -$error, $unique) . $data);
	}
	POSIX::_exit(0);
}

# Whether so many files can be listed there; it may be that nothing answers.
sub is_served
{
	my ($target, $n) = @_;

	my @listed = eval {
		local $SIG{ALRM} = sub { die };
		alarm(10);
		my @names = glob("'$target'/*");
		alarm(0);
		@names;
	};
	return @listed == $n;
}

# Kills a server: requests that wait for it fail.
sub end_server
{
	my ($pid) = @_;

	kill('KILL', $pid);
	waitpid($pid, 0);
	delete $servers{$pid};
}

# None outlives the test.
END { kill('KILL', keys %servers) if %servers; }

1;
