#
# FsyncTest.pm
#		What the TAP tests share: servers with fsync, trees of files, and the
#		comparison of a table with a disk.
#
# The comparison is made independently of the extension: find(1) lists the
# files with size and time, sha256sum(1) or Digest::SHA reads them, and the
# rule which names are ignored is written once more here.  Paths are byte
# strings everywhere and cross psql as hexadecimal, so that any name will do.
#
# Nothing here waits a fixed time: fsync_wait() is a barrier, and what is not
# covered by it is polled for.

package FsyncTest;

use strict;
use warnings;

use Digest::SHA;
use Exporter 'import';
use Fcntl qw(:mode);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  server_version server_bindir new_node add_repository new_root
  make_tree write_file append_file read_all_names @nasty_names
  disk_files table_files differences
  is_equal wait_equal wait_ok reconcile_finds_nothing
  sql_path ids_of wait_for_state wait_for_status status_of
  worker_pid launcher_pid tree_pid wait_until process_is_gone
  start_sql finish_sql wait_for_backend
  log_is_quiet latest_operation wait_for_operation
  rows_of problems_of reconcile said
);

my $sha_program = 'sha256sum';

# Names that break what was written carelessly.  All are valid UTF-8 and none
# is ignored.
our @nasty_names = (
	"with space.txt", " leading and trailing ",
	"it's.txt", "say \"hello\".txt",
	"two\nlines.txt", "tab\there.txt",
	"back\\slash.txt", "\\x41.txt",
	"\$HOME `id` \$(id)", "percent%s%n.txt",
	"*?[a-z].txt", "-rf",
	"--", "semi;colon & ampersand",
	"Fotos \xC3\xBC\xC3\xB6\xC3\xA4\xC3\x9F.jpg",
	"\xE5\x86\x99\xE7\x9C\x9F.jpg",
	"\xF0\x9F\x93\xB7 camera.jpg",
	"combining e\xCC\x81.txt",
	"bell\x07 and del\x7F", "NULL",
	"{curly,braces}", "comma,and'quote\"both",
	"~tilde first", "#hash",
	"a" x 255);

#-----------------------------------------------------------------------
# Servers
#-----------------------------------------------------------------------

# The major version of the server that is tested.
sub server_version
{
	my ($version) = `pg_config --version` =~ /^PostgreSQL (\d+)/;

	return $version // die 'pg_config does not say its version';
}

# Where its programs are.
sub server_bindir
{
	my ($dir) = `pg_config --bindir` =~ /^(.+)$/;

	return $dir // die 'pg_config does not say where it is';
}

# A running server with fsync loaded, and the extension in the database
# "postgres" unless extension => 0.  conf: lines for postgresql.conf.
sub new_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(extra => [ '--encoding=UTF8', '--no-locale' ], %{ $opt{init} || {} });
	$node->append_conf(
		'postgresql.conf', qq(
shared_preload_libraries = '@{[ $opt{preload} // 'fsync' ]}'
fsync.debounce_interval = 50ms
fsync.helper_timeout = 120s
log_line_prefix = '%m [%p] %b '
));
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION fsync')
	  unless defined $opt{extension} && !$opt{extension};
	return $node;
}

# An empty directory to be watched, outside every data directory.
sub new_root
{
	my ($name) = @_;
	my $root = PostgreSQL::Test::Utils::tempdir() . "/" . ($name // 'root');

	mkdir $root or die "could not create $root: $!";
	return $root;
}

# Adds a repository and returns its id.  args: further arguments as SQL.
sub add_repository
{
	my ($node, $root, %opt) = @_;
	my $db = $opt{db} // 'postgres';
	my $args = $opt{args} ? ", $opt{args}" : '';

	return $node->safe_psql($db,
		"SELECT fsync_add_repository(" . sql_path($root) . "$args)");
}

#-----------------------------------------------------------------------
# Files
#-----------------------------------------------------------------------

sub write_file
{
	my ($path, $content) = @_;

	open my $fh, '>:raw', $path or die "could not write $path: $!";
	print $fh $content;
	close $fh or die "could not write $path: $!";
}

sub append_file
{
	my ($path, $content) = @_;

	open my $fh, '>>:raw', $path or die "could not append to $path: $!";
	print $fh $content;
	close $fh or die "could not append to $path: $!";
}

# Makes a tree of about n files below the directory, nested, with nasty names
# and with names that are ignored, and returns the number of files that are to
# be tracked.  Contents follow from the names, except that some are alike.
sub make_tree
{
	my ($root, $n) = @_;
	my $count = 0;
	my $directories = int(sqrt($n)) + 1;
	my @made;

	make_path($root);

	# in the root, and in directories that are called like that themselves
	foreach my $name (@nasty_names)
	{
		last if $count >= $n;
		write_file("$root/$name", "nasty: $name");
		$count++;
	}
	for (my $d = 0; $d < $directories && $count < $n; $d++)
	{
		# each hangs below one made before, so that some are deep
		my $parent = $d % 4 == 0 || !@made ? $root : $made[ ($d * 7) % @made ];
		my $name = $nasty_names[ $d % @nasty_names ];
		my $dir = "$parent/" . ($d % 3 == 0 ? "dir $d" : "$d " . substr($name, 0, 100));

		mkdir $dir or die "could not create $dir: $!";
		push @made, $dir;
		for (my $i = 0; $i < $n / $directories && $count < $n; $i++)
		{
			my $file = "$dir/" . ($i == 0 ? $name : "IMG_$i.jpg");
			my $content =
			    $i % 10 == 9 ? ''
			  : $i % 10 == 8 ? 'the same in many files'
			  :                "$d/$i " x (($d * 31 + $i * 17) % 2000);

			write_file($file, $content);
			if ($i % 5 == 1)
			{
				my $time = 1_000_000_000 + $d * 1000 + $i + 0.123456;
				Time::HiRes::utime($time, $time, $file);
			}
			$count++;
		}
	}

	# ignored, each for another reason
	write_file("$root/.hidden", "x");
	write_file("$root/draft.tmp", "x");
	write_file("$root/old.bak", "x");
	write_file("$root/edited~", "x");
	write_file("$root/.edited.swp", "x");
	write_file("$root/edited.swp", "x");
	write_file("$root/Thumbs.db", "x");
	make_path("$root/.git/objects", "$root/save.bak");
	write_file("$root/.git/objects/data", "x");
	write_file("$root/save.bak/data", "x");
	return $count;
}

# The default rule, in words of our own.
sub is_ignored
{
	my ($path) = @_;

	foreach my $name (split m{/}, $path)
	{
		return 1 if $name =~ /^\./s;
		return 1 if $name =~ /(?:~|\.tmp|\.bak|\.swp)\z/s;
		return 1 if $name eq 'Thumbs.db';
	}
	return 0;
}

# The tracked files below a directory: path => [size, mtime in µs, mtime in ns,
# hash].  Options: accept, a function of the path, in addition to the default
# rule; program, to hash with sha256sum; hashes => 0.
sub disk_files
{
	my ($root, %opt) = @_;
	my %files;
	my $listing = run_bytes('find', $root, '-type', 'f', '-printf', '%P\0%s\0%T@\0');
	my @fields = split /\0/, $listing, -1;

	pop @fields;
	while (@fields)
	{
		my ($path, $size, $time) = splice(@fields, 0, 3);
		my ($sec, $nsec) = $time =~ /^(-?\d+)\.(\d{9})/ or die "find said \"$time\"";

		next if is_ignored($path);
		next if $opt{accept} && !$opt{accept}->($path);
		die "a time before 1970 needs more care here" if $sec < 0;
		$files{$path} =
		  [ $size, $sec * 1_000_000 + int($nsec / 1000), "$sec$nsec" + 0, undef ];
	}
	return \%files if defined $opt{hashes} && !$opt{hashes};

	if ($opt{program})
	{
		my @paths = map { "$root/$_" } sort keys %files;

		while (my @some = splice(@paths, 0, 200))
		{
			foreach my $line (split /\0/, run_bytes($sha_program, '--zero', '--', @some))
			{
				my ($hash, $path) = $line =~ /^\\?([0-9a-f]{64}) [ *](.*)\z/s
				  or die "$sha_program said \"$line\"";
				$files{ substr($path, length($root) + 1) }->[3] = $hash;
			}
		}
	}
	else
	{
		foreach my $path (keys %files)
		{
			$files{$path}->[3] =
			  Digest::SHA->new(256)->addfile("$root/$path", 'b')->hexdigest;
		}
	}
	return \%files;
}

# Standard output of a program, which must succeed.
sub run_bytes
{
	my @command = @_;
	my ($out, $err) = ('', '');

	local $ENV{LC_ALL} = 'C';
	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err)
	  or die "$command[0] failed: $err";
	return $out;
}

# The rows of a repository's files in the same form, with the id as a fifth
# value; those of missing files are left out.
sub table_files
{
	my ($node, $id, %opt) = @_;
	my %files;
	my $rows = $node->safe_psql(
		$opt{db} // 'postgres', qq(
SELECT encode(convert_to(file_path, getdatabaseencoding()), 'hex'), file_size,
	   (extract(epoch FROM mod_time) * 1000000)::bigint, mtime_ns,
	   coalesce(encode(content_hash, 'hex'), 'NULL'), id
FROM file_records WHERE repository_id = '$id' AND missing_since IS NULL));

	foreach my $row (split /\n/, $rows)
	{
		my ($hex, $size, $us, $ns, $hash, $row_id) = split /\|/, $row;
		$files{ pack('H*', $hex) } =
		  [ $size, $us, $ns, $hash eq 'NULL' ? undef : $hash, $row_id ];
	}
	return \%files;
}

# A readable form of a path.
sub show
{
	my ($path) = @_;

	$path =~ s/([^ -~])/sprintf('\\x%02x', ord $1)/ge;
	$path = substr($path, 0, 80) . '…' if length($path) > 80;
	return "\"$path\"";
}

# What differs between disk and table, at most ten lines of it; empty: nothing.
sub differences
{
	my ($disk, $table, %opt) = @_;
	my @lines;
	my @what = ('size', 'mod_time', 'mtime_ns', 'content_hash');

	foreach my $path (sort keys %$disk)
	{
		my ($d, $t) = ($disk->{$path}, $table->{$path});

		if (!$t)
		{
			push @lines, "no row for " . show($path);
			next;
		}
		foreach my $i (0 .. $#what)
		{
			my $expected = $d->[$i];

			$expected = undef if $i == 3 && defined $opt{hashes} && !$opt{hashes};
			next if ($expected // 'NULL') eq ($t->[$i] // 'NULL');
			push @lines, sprintf('%s of %s is %s and should be %s',
				$what[$i], show($path), $t->[$i] // 'NULL', $expected // 'NULL');
		}
	}
	foreach my $path (sort keys %$table)
	{
		push @lines, "a row for " . show($path) . ", which is not there"
		  unless $disk->{$path};
	}

	my $more = @lines - 10;
	@lines = (@lines[ 0 .. 9 ], "… and $more more") if $more > 0;
	return join("\n", @lines);
}

#-----------------------------------------------------------------------
# Checks
#-----------------------------------------------------------------------

# The table is equal to the disk now.  Options as for disk_files(), and db.
sub is_equal
{
	my ($node, $id, $root, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $disk = disk_files($root, %opt);
	my $table = table_files($node, $id, %opt);
	return is(differences($disk, $table, %opt), '', "$name: table equals disk");
}

# fsync_wait() returns true.
sub wait_ok
{
	my ($node, $id, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $timeout = $PostgreSQL::Test::Utils::timeout_default;
	my ($rc, $out, $err) = $node->psql($opt{db} // 'postgres',
		"SELECT fsync_wait('$id', timeout => '$timeout s')");
	return 1 if $rc == 0 && $out eq 't';
	fail("$name: fsync_wait() returns true");
	diag("it returned \"$out\" $err");
	return 0;
}

# The barrier, then the comparison: at once, since that is the promise.
sub wait_equal
{
	my ($node, $id, $root, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_ok($node, $id, $name, %opt)
	  && is_equal($node, $id, $root, $name, %opt);
}

# A reconciliation finds that nothing was missed.
sub reconcile_finds_nothing
{
	my ($node, $id, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc, $out, $err) = $node->psql(
		$opt{db} // 'postgres', qq(
SELECT status, files_added, files_updated, files_moved, files_removed, error_message
FROM fsync_reconcile('$id')));
	return is($out . $err, 'completed|0|0|0|0|',
		"$name: a reconciliation adds, updates, moves and removes nothing");
}

# An SQL expression that is the text of a path.
sub sql_path
{
	my ($path) = @_;

	return sprintf("convert_from('\\x%s', 'UTF8')", unpack('H*', $path));
}

# path => id, of all rows of a repository.
sub ids_of
{
	my ($node, $id, %opt) = @_;
	my $table = table_files($node, $id, %opt);

	return { map { $_ => $table->{$_}->[4] } keys %$table };
}

# A column of fsync_status().
sub status_of
{
	my ($node, $id, $column, %opt) = @_;

	return $node->safe_psql($opt{db} // 'postgres',
		"SELECT $column FROM fsync_status('$id')");
}

# Waits until the state is one of these (a regular expression).
sub wait_for_state
{
	my ($node, $id, $states, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $reached = $node->poll_query_until($opt{db} // 'postgres',
		"SELECT state ~ '^($states)\$' FROM fsync_status('$id')");
	ok($reached, $name);
	diag(
		"the status is "
		  . $node->safe_psql(
			$opt{db} // 'postgres',
			"SELECT state, reason, hint FROM fsync_status('$id')"))
	  unless $reached;
	return $reached;
}

# Waits until a column of fsync_status() matches.
sub wait_for_status
{
	my ($node, $id, $column, $pattern, $name) = @_;
	my $value = '';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { ($value = status_of($node, $id, $column)) =~ $pattern });
	return like($value, $pattern, $name);
}

# Waits until a function returns true; polled every tenth of a second.
sub wait_until
{
	my ($condition, $name) = @_;
	my $tries = 10 * $PostgreSQL::Test::Utils::timeout_default;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for (my $i = 0; $i < $tries; $i++)
	{
		if ($condition->())
		{
			return defined $name ? pass($name) : 1;
		}
		usleep(100_000);
	}
	return defined $name ? fail($name) : 0;
}

#-----------------------------------------------------------------------
# Processes
#-----------------------------------------------------------------------

# Pid of the worker of a database; empty: none.
sub worker_pid
{
	my ($node, $db) = @_;

	return $node->safe_psql('postgres', qq(
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'fsync worker' AND datname = '$db'));
}

sub launcher_pid
{
	my ($node) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'fsync launcher'");
}

# Waits until a repository has a fsync-tree, other than the given one.
sub tree_pid
{
	my ($node, $id, %opt) = @_;
	my $not = $opt{not} // 0;
	my $db = $opt{db} // 'postgres';

	$node->poll_query_until($db,
		"SELECT tree_pid > 0 AND tree_pid <> $not FROM fsync_status('$id')")
	  or return undef;
	return status_of($node, $id, 'tree_pid', db => $db);
}

# Neither running nor stopped; a zombie counts as gone.
sub process_is_gone
{
	my ($pid) = @_;
	my $stat;

	open(my $fh, '<', "/proc/$pid/stat") or return 1;
	$stat = <$fh>;
	close $fh;
	return !defined $stat || $stat =~ /\) Z /;
}

# A psql that goes on by itself; finish_sql() waits for it and returns its exit
# code, output and errors.
sub start_sql
{
	my ($node, $db, $name, $sql) = @_;
	my $self = { out => '', err => '', file => PostgreSQL::Test::Utils::tempdir() . "/$name.sql" };

	# from a file: nobody is there to feed a pipe until finish_sql()
	write_file($self->{file}, $sql);
	$self->{run} = IPC::Run::start(
		[
			'psql', '-X', '-A', '-t', '-q',
			'-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-d',
			$node->connstr($db) . " application_name='$name'", '-f', $self->{file}
		],
		'<', \undef, '>', \$self->{out}, '2>', \$self->{err},
		IPC::Run::timeout(2 * $PostgreSQL::Test::Utils::timeout_default));
	return $self;
}

sub finish_sql
{
	my ($self) = @_;

	$self->{run}->finish;
	chomp $self->{out};
	return ($self->{run}->result(0), $self->{out}, $self->{err});
}

# Waits until the session of start_sql() meets a condition on pg_stat_activity.
sub wait_for_backend
{
	my ($node, $name, $condition) = @_;

	return $node->poll_query_until('postgres', qq(
SELECT count(*) = 1 FROM pg_stat_activity
WHERE application_name = '$name' AND ($condition)))
	  || die "session \"$name\" never was \"$condition\"";
}

#-----------------------------------------------------------------------
# Runs and logs
#-----------------------------------------------------------------------

# Id of the latest operation of a repository; 0: none.
sub latest_operation
{
	my ($node, $id, %opt) = @_;

	return $node->safe_psql($opt{db} // 'postgres',
		"SELECT coalesce(max(id), 0) FROM sync_operations WHERE repository_id = '$id'");
}

# Waits until an operation of this type, begun after the given one, has ended,
# and returns its status, counts (added|updated|moved|removed) and error.
sub wait_for_operation
{
	my ($node, $id, $type, $after, %opt) = @_;
	my $db = $opt{db} // 'postgres';
	my $which = qq(
FROM sync_operations
WHERE repository_id = '$id' AND operation_type = '$type' AND id > $after
	AND status <> 'running');

	$node->poll_query_until($db, "SELECT count(*) > 0 $which")
	  or return ('none', '', '');
	return split /\n/, $node->safe_psql(
		$db, qq(
SELECT status || E'\\n' ||
	   concat_ws('|', files_added, files_updated, files_moved, files_removed) ||
	   E'\\n' || coalesce(error_message, '')
$which ORDER BY id LIMIT 1)), 3;
}

# Nothing above LOG in the server's log from this offset on, but for lines that
# match one of the expressions.
sub log_is_quiet
{
	my ($node, $offset, $name, @allowed) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @loud;
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset);

	foreach my $line (split /\n/, $log)
	{
		next unless $line =~ /\b(?:WARNING|ERROR|FATAL|PANIC):/;

		# DROP DATABASE ends autovacuum's workers like that.
		next if $line =~ /autovacuum worker FATAL:  terminating autovacuum process/;

		# A psql that is done may still have its session when the server stops.
		next if $line =~ /client backend FATAL:  terminating connection due to administrator command/;
		next if grep { $line =~ $_ } @allowed;
		push @loud, $line;
	}
	return is(join("\n", @loud), '', $name);
}

# The lines of the server's log from this offset on that match, each cut down
# to its message.
sub said
{
	my ($node, $offset, $pattern) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset);

	return grep { $_ =~ $pattern } map { s/^.*?\b(?=(?:LOG|WARNING|ERROR|HINT):)//r } split /\n/, $log;
}

# Number of rows of a repository; those of missing files too.
sub rows_of
{
	my ($node, $id, %opt) = @_;

	return $node->safe_psql($opt{db} // 'postgres',
		"SELECT count(*) FROM file_records WHERE repository_id = '$id'");
}

# path in hexadecimal => problem
sub problems_of
{
	my ($node, $id, %opt) = @_;
	my $rows = $node->safe_psql(
		$opt{db} // 'postgres', qq(
SELECT encode(path, 'hex'), problem FROM fsync_problems WHERE repository_id = '$id'));

	return { map { my ($hex, $problem) = split /\|/; (pack('H*', $hex) => $problem) }
		  split /\n/, $rows };
}

# A reconciliation: "completed|added|updated|moved|removed", or "failed: why".
# args: further arguments as SQL.
sub reconcile
{
	my ($node, $id, %opt) = @_;
	my $args = $opt{args} ? ", $opt{args}" : '';
	my ($rc, $out, $err) = $node->psql(
		$opt{db} // 'postgres', qq(
SELECT status, files_added, files_updated, files_moved, files_removed
FROM fsync_reconcile('$id'$args)));

	return $rc == 0 ? $out : "failed: $err";
}

1;
