#
# Trees that nobody should have, but somebody has: long paths and deep ones,
# large directories, names that are no text, times outside of every calendar,
# files of a terabyte, files that somebody holds a lease on, and links that
# take a directory's place between two looks.  The rest is kept right, nothing
# is skipped silently, and nothing outside of the root is ever read.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use Cwd qw(getcwd);
use Digest::SHA qw(sha256_hex);
use Fcntl qw(:DEFAULT);
use File::Path qw(make_path remove_tree);
use File::Temp ();
use FsyncLinux;
use FsyncTest;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);

# The same each time.
srand(20);

my $node = new_node('main');

sub forget
{
	my ($id, %opt) = @_;

	$node->safe_psql($opt{db} // 'postgres', "SELECT fsync_remove_repository('$id')");
}

sub hash_of
{
	my ($id, $path) = @_;

	return $node->safe_psql('postgres', "SELECT encode(content_hash, 'hex') FROM file_records
WHERE repository_id = '$id' AND file_path = " . sql_path($path));
}

sub random_name
{
	my ($length) = @_;
	my @alphabet = ('a' .. 'z', 'A' .. 'Z', 0 .. 9, '_', ' ');

	# not ignored, whatever the rest is
	return 'n' . join('', map { $alphabet[ rand @alphabet ] } 2 .. $length - 1) . 'n';
}

# ---- long paths ----

# Makes a file at a path of exactly so many bytes, and returns the path.
sub write_long
{
	my ($root, $length) = @_;
	my $home = getcwd();
	my @names;
	my $left = $length;

	while ($left > 255)
	{
		my $n = $left > 511 ? 255 : int($left / 2);

		push @names, random_name($n);
		$left -= $n + 1;
	}
	chdir($root) or die "chdir: $!";
	foreach my $name (@names)
	{
		mkdir($name) or die "mkdir: $!";
		chdir($name) or die "chdir: $!";
	}
	my $last = random_name($left);
	write_file($last, "path of $length");
	chdir($home) or die "chdir: $!";
	return join('/', @names, $last);
}

# Whether the path, or a directory on the way to it, is a problem.
sub is_problem
{
	my ($path) = @_;
	my @problems = keys %{ problems_of($node, $main::id) };

	return scalar(grep { $path eq $_ || $path =~ m{^\Q$_\E/} } @problems);
}

my $root = new_root('long');
my %long = map { ($_ => write_long($root, $_)) } 2400, 2499, 2500, 2501, 3000, 3900;
write_file("$root/" . ('x' x 255), 'a name of 255');
our $id = add_repository($node, $root);
my %short_enough = (accept => sub { length($_[0]) <= 2500 });
my @too_long = map { $long{$_} } grep { $_ > 2500 } sort keys %long;

wait_equal($node, $id, $root, 'long paths', %short_enough);
is(rows_of($node, $id), 4, 'long paths: up to 2,500 bytes');
is(scalar(grep { is_problem($_) } @too_long), 3, 'long paths: longer ones are problems');
is_deeply([ grep { is_problem($_) } @long{ 2400, 2499, 2500 } ], [], 'long paths: others are not');

# the same under watch; a directory renamed makes longer what was short enough
$long{$_} = write_long($root, $_) foreach 2497, 4000;
mkdir("$root/parent") or die "mkdir: $!";
wait_equal($node, $id, $root, 'long paths under watch', %short_enough);
my ($top) = split m{/}, $long{2499};
rename("$root/$top", "$root/parent/$top") or die "rename: $!";
wait_equal($node, $id, $root, 'a path that became too long', %short_enough);
ok(is_problem("parent/$long{2499}"), 'a path that became too long is a problem');
ok(is_problem($long{4000}), 'long paths under watch: are problems');
rename("$root/parent/$top", "$root/$top") or die "rename: $!";
wait_equal($node, $id, $root, 'a path that is short enough again', %short_enough);
reconcile_finds_nothing($node, $id, 'long paths');

# ---- deep ones ----

my $home = getcwd();
my $levels = 4000;
chdir($root) or die "chdir: $!";
foreach my $i (1 .. $levels)
{
	mkdir('d') or die "mkdir: $!";
	chdir('d') or die "chdir: $!";
	write_file("f", $i) if $i % 500 == 0;
}
chdir($home) or die "chdir: $!";
wait_equal($node, $id, $root, 'deep', %short_enough);
is(scalar(grep { m{^d/} } keys %{ ids_of($node, $id) }), 2, 'deep: two files are not too deep');
ok(is_problem(('d/' x 2000) . 'f'), 'deep: the others are problems');
$node->restart;
wait_equal($node, $id, $root, 'deep, after a restart', %short_enough);
rename("$root/d", "$root/e") or die "rename: $!";
wait_equal($node, $id, $root, 'deep, renamed', %short_enough);
system('rm', '-rf', "$root/e") == 0 or die "rm failed";
wait_equal($node, $id, $root, 'deep, removed', %short_enough);
is(scalar(grep { m{^[de]/} } keys %{ problems_of($node, $id) }), 0, 'deep, removed: no problem remains');
forget($id);
system('rm', '-rf', $root) == 0 or die "rm failed";

# ---- a large directory ----

my $entries = $ENV{FSYNC_TEST_LARGE} ? 1_000_000 : 100_000;
$root = new_root('large');
mkdir("$root/dir") or die "mkdir: $!";
foreach my $i (1 .. $entries)
{
	sysopen(my $fh, "$root/dir/$i", O_WRONLY | O_CREAT | O_EXCL) or die "open: $!";
}
my $empty = sha256_hex('');
my $count_empty = "SELECT count(*) FROM file_records WHERE content_hash = '\\x$empty'";
$id = add_repository($node, $root);
wait_ok($node, $id, 'a large directory');
is($node->safe_psql('postgres', "$count_empty AND file_path LIKE 'dir/%'"), $entries,
	'a large directory: all entries');
my $last = latest_operation($node, $id);
rename("$root/dir", "$root/new") or die "rename: $!";
write_file("$root/new/one more", '1');
wait_ok($node, $id, 'a large directory, renamed');
is($node->safe_psql('postgres', "$count_empty AND file_path LIKE 'new/%'"), $entries,
	'a large directory, renamed: all entries');
is($node->safe_psql('postgres', "SELECT sum(files_moved) FROM sync_operations WHERE repository_id = '$id' AND id > $last"),
	$entries, 'a large directory, renamed: as moves');
reconcile_finds_nothing($node, $id, 'a large directory');
forget($id);
system('rm', '-rf', $root) == 0 or die "rm failed";

# ---- times outside of every calendar ----

SKIP:
{
	my $dir = eval { File::Temp->newdir('fsync-test-XXXXXX', DIR => '/dev/shm') };
	my %times = (
		'year -3000' => -156_800_000_000, 'before 1970' => -1, 'year 1' => -62_135_596_800,
		'year 9999' => 253_402_300_799, 'year 294000' => 9_215_000_000_000,
		'year 300000' => 9_405_000_000_000, 'the last' => 9_223_372_036_854_775_807);

	skip 'no /dev/shm to write to', 9 unless $dir;
	write_file("$dir/$_", $_) foreach keys %times;
	utime($times{$_}, $times{$_}, "$dir/$_") foreach keys %times;
	skip '/dev/shm does not keep such times', 9
	  if grep { (stat "$dir/$_")[9] != $times{$_} } keys %times;

	my $ask = q(
SELECT file_path || ': ' || (CASE WHEN isfinite(mod_time) THEN
	(extract(epoch FROM mod_time) * 1000000)::bigint::text ELSE mod_time::text END)
FROM file_records WHERE repository_id = '%s' ORDER BY 1);
	my $expected = join("\n", sort map {
		my $t = $times{$_};
		"$_: " . ($t > 9_224_318_015_999 ? 'infinity' : $t . '000000');
	} keys %times);

	$id = add_repository($node, "$dir");
	wait_ok($node, $id, 'strange times');
	is($node->safe_psql('postgres', sprintf($ask, $id)), $expected, 'strange times are recorded');
	is(join(',', keys %{ problems_of($node, $id) }), '', 'strange times are no problem');
	reconcile_finds_nothing($node, $id, 'strange times');
	# the same size, and a time that looks the same when it saturates
	foreach my $name ('year -3000', 'year 300000', 'the last')
	{
		write_file("$dir/$name", uc($name));
		utime($times{$name}, $times{$name}, "$dir/$name");
		wait_ok($node, $id, 'strange times');
		is( hash_of($id, $name), sha256_hex(uc($name)),
			"strange times: $name is written, under watch");
	}
	$node->stop;
	write_file("$dir/$_", $_) foreach keys %times;
	utime($times{$_}, $times{$_}, "$dir/$_") foreach keys %times;
	$node->start;
	wait_ok($node, $id, 'strange times');
	is(join(',', grep { hash_of($id, $_) ne sha256_hex($_) } sort keys %times), '',
		'strange times: written while down');
	is($node->safe_psql('postgres', sprintf($ask, $id)), $expected, 'strange times are still the same');
	forget($id);
}

# ---- no text, in databases of other encodings ----

my @bytes = (
	"latin \xE9\xE8.txt", "\xFF\xFE", "utf8 \xC3\xA9", "control \x80\x81\x9F",
	"cut \xE5\x86", join('', map { chr } 0xA0 .. 0xFF));
foreach my $encoding ('SQL_ASCII', 'LATIN1')
{
	my $db = lc $encoding;

	$node->safe_psql('postgres',
		"CREATE DATABASE $db ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql($db, 'CREATE EXTENSION fsync');
	$root = new_root($db);
	mkdir("$root/dir \xE4") or die "mkdir: $!";
	foreach my $name (@bytes)
	{
		write_file("$root/$name", $name);
		write_file("$root/dir \xE4/$name", "dir $name");
	}
	$id = add_repository($node, $root, db => $db);
	wait_equal($node, $id, $root, "$encoding: first sync", db => $db);
	is(rows_of($node, $id, db => $db), 2 * @bytes, "$encoding: all names are rows");
	rename("$root/dir \xE4", "$root/dir \xF6") or die "rename: $!";
	append_file("$root/\xFF\xFE", 'more');
	rename("$root/cut \xE5\x86", "$root/cut \xE5") or die "rename: $!";
	wait_equal($node, $id, $root, "$encoding: under watch", db => $db);
	$node->restart;
	wait_equal($node, $id, $root, "$encoding: after a restart", db => $db);
	reconcile_finds_nothing($node, $id, $encoding, db => $db);
	forget($id, db => $db);
}

# ---- a file of a terabyte ----

$root = new_root('sparse');
write_file("$root/small.txt", 'small');
write_file("$root/huge", '');
$id = add_repository($node, $root);
wait_equal($node, $id, $root, 'before the huge file');
SKIP:
{
	skip 'no file of a terabyte can be made', 10 unless truncate("$root/huge", 2**40);

	# others go on, as if it were not there: it takes longer to read than anybody
	# waits here
	foreach my $i (1 .. 3)
	{
		write_file("$root/small.txt", "small $i");
		write_file("$root/new $i.txt", "new $i");
		wait_until(sub {
			my $table = table_files($node, $id);
			return ($table->{'small.txt'}[3] // '') eq sha256_hex("small $i")
			  && defined $table->{"new $i.txt"} },
			"a huge file: others are recorded, $i");
	}

	# it moves, and goes, and comes
	rename("$root/huge", "$root/huge 2") or die "rename: $!";
	wait_until(sub { !ids_of($node, $id)->{huge} }, 'a huge file, renamed: its old name goes');
	unlink("$root/huge 2") or die "unlink: $!";
	wait_until(sub { !ids_of($node, $id)->{'huge 2'} }, 'a huge file, removed: its row goes');
	wait_equal($node, $id, $root, 'a huge file, removed');

	write_file("$root/huge", '');
	truncate("$root/huge", 2**40) or die "truncate: $!";
	wait_until(sub { $node->safe_psql('postgres',
		"SELECT count(*) > 0 FROM fsync_status('$id')") eq 't' });
	usleep(300_000);
	$node->restart;
	pass('a huge file: the server stops and starts');
	write_file("$root/after.txt", 'after');
	ok(wait_until(sub { defined ids_of($node, $id)->{'after.txt'} }),
		'a huge file, after a restart: others are recorded');
	forget($id);
	is(rows_of($node, $id), 0, 'a huge file: and has no rows left');
	unlink("$root/huge") or die "unlink: $!";
}

# ---- a lease ----

$root = new_root('lease');
write_file("$root/leased.txt", 'leased');
write_file("$root/other.txt", 'other');
$id = add_repository($node, $root);
wait_equal($node, $id, $root, 'before the lease');
SKIP:
{
	# F_SETLEASE is 1024; F_WRLCK: nobody else has it open
	local $SIG{IO} = 'IGNORE';
	open my $fh, '+<:raw', "$root/leased.txt" or die "open: $!";
	syswrite($fh, 'LEASED');
	skip "no lease is to be had: $!", 4 unless fcntl($fh, 1024, F_WRLCK);
	my $hashes = $node->safe_psql('postgres', "SELECT encode(content_hash, 'hex') FROM file_records WHERE file_path = 'leased.txt'");
	write_file("$root/other.txt", 'others are not held up');
	ok(wait_until(sub {
		(table_files($node, $id)->{'other.txt'}[3] // '') eq sha256_hex('others are not held up') }),
		'a lease: others are recorded');
	ok(wait_until(sub {
		(table_files($node, $id)->{'leased.txt'}[3] // '') eq sha256_hex('LEASED')
		  || defined problems_of($node, $id)->{'leased.txt'} }),
		'a lease: the file is read, or a problem');
	fcntl($fh, 1024, F_UNLCK) or die "fcntl: $!";
	close $fh;
	ok(wait_until(sub { differences(disk_files($root), table_files($node, $id)) eq '' }),
		'a lease: given up, the file is read without help');
	is(join(',', keys %{ problems_of($node, $id) }), '', 'a lease: and is no problem any more');
}
forget($id);

# ---- a link that takes a directory's place ----

$root = new_root('race');
my $outside = new_root('outside');
foreach my $d ($root, $outside)
{
	make_path("$d/swap/sub");
	my $what = $d eq $root ? 'inside' : 'OUTSIDE';
	write_file("$d/swap/$_.txt", "$what $_") foreach 1 .. 40;
	write_file("$d/swap/sub/$_.txt", "$what sub $_") foreach 1 .. 40;
	# one that is only there
	write_file("$d/swap/$what.txt", "only $what");
}
symlink("$outside/swap", "$root/link") or die "symlink: $!";
my %forbidden = map { (sha256_hex($_) => 1) } 'only OUTSIDE',
  (map { ("OUTSIDE $_", "OUTSIDE sub $_") } 1 .. 40);
$node->safe_psql(
	'postgres', q(
CREATE TABLE shown (file_path text, content_hash bytea);
GRANT INSERT ON shown TO fsync_owner;
CREATE FUNCTION show_row() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
	$$BEGIN INSERT INTO public.shown VALUES (NEW.file_path, NEW.content_hash); RETURN NULL; END$$;
CREATE TRIGGER show_row AFTER INSERT OR UPDATE ON file_records
	FOR EACH ROW EXECUTE FUNCTION show_row()));
$id = add_repository($node, $root);
wait_equal($node, $id, $root, 'before the race');
my $pid = fork() // die "fork: $!";
if ($pid == 0)
{
	my $stop = 0;

	$SIG{TERM} = sub { $stop = 1; };
	for (my $i = 0; !$stop; $i++)
	{
		eval { exchange("$root/swap", "$root/link"); 1 } or POSIX::_exit(1);
		usleep(rand(3000));
	}
	POSIX::_exit(0);
}
my $begin = time();
my $runs = 0;
while (time() < $begin + 5
	|| ($runs < 3 && time() < $begin + 2 * $PostgreSQL::Test::Utils::timeout_default))
{
	$runs++ if reconcile($node, $id) =~ /^completed/;
}
kill('TERM', $pid);
waitpid($pid, 0);
is($?, 0, 'a race: it went as it should');
note("$runs reconciliations in the race");
cmp_ok($runs, '>', 2, 'a race: reconciliations ran');
wait_equal($node, $id, $root, 'a race: afterwards');
my @shown = split /\n/, $node->safe_psql('postgres', "SELECT DISTINCT encode(content_hash, 'hex') FROM shown");
is(scalar(grep { $forbidden{$_} } @shown), 0, 'a race: no file outside of the root was ever read');
is( $node->safe_psql('postgres', "SELECT count(*) FROM shown WHERE file_path LIKE '%OUTSIDE%'"),
	'0', 'a race: nor listed');
reconcile_finds_nothing($node, $id, 'a race');

# ---- what is no file ----

foreach my $i (1 .. 20)
{
	my $path = "$root/odd $i";

	if ($i % 3 == 0) { POSIX::mkfifo($path, 0600) or die "mkfifo: $!" }
	elsif ($i % 3 == 1) { symlink('/etc', $path) or die "symlink: $!" }
	else { chdir($root); IO::Socket::UNIX->new(Local => "odd $i", Listen => 1) or die "socket: $!"; chdir($home) }
	chmod(0644, $path) unless -l $path;
	rename($path, "$path b") or die "rename: $!" if $i % 2;
	write_file("$path c", 'a file') if $i % 4 == 0;
	rename("$path c", $path) or die "rename: $!" if $i % 4 == 0;
}
wait_equal($node, $id, $root, 'FIFOs, sockets and links');
is(join(',', keys %{ problems_of($node, $id) }), '', 'FIFOs, sockets and links are no problems');
reconcile_finds_nothing($node, $id, 'FIFOs, sockets and links');

# (while the links were swapped a directory could be seen to be at neither name)
log_is_quiet($node, 0, 'nothing in the log',
	qr/WARNING:.*race" is degraded: .* are gone, which is more than/,
	qr/client backend FATAL:  terminating connection due to administrator command/);
$node->stop;
done_testing();
