#
# The server's clock is set, by a day ahead and back, while repositories are
# watched: what is due is due by the time that has passed, so no scan begins that
# nobody asked for, and none that is due is put off.  A visibility timeout is a
# time of the clock, as it stands in a table.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncFaults;
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $day = 86400;
my $tmp = PostgreSQL::Test::Utils::tempdir();

# A clock that is ahead by what stands in a file.  fsync-tree has the kernel's,
# as the files that it looks at.
write_file("$tmp/clock.c", q(
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *ahead;

__attribute__((constructor)) static void
begin(void)
{
	char		exe[4096] = {0};
	int			fd = open(getenv("FSYNC_TEST_CLOCK"), O_RDONLY);

	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0 && strstr(exe, "fsync-tree") == NULL && fd >= 0)
		ahead = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int			rc = syscall(SYS_clock_gettime, clock, ts);

	if (rc == 0 && ahead != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += *ahead;
	return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t != NULL)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
));
plan skip_all => 'no compiler'
  if system("cc -shared -fPIC -o $tmp/clock.so $tmp/clock.c >$tmp/cc.log 2>&1") != 0;

# In place: the file is mapped.
sub set_clock
{
	my ($ahead) = @_;

	open my $fh, '+<:raw', "$tmp/ahead" or die "open: $!";
	syswrite($fh, pack('l!', $ahead)) == length(pack('l!', 0)) or die "write: $!";
	close $fh;
}

my $node = new_node('main');
my $root = new_root('root');
my $other = new_root('other');

write_file("$tmp/ahead", pack('l!', 0));
$node->stop;
{
	local $ENV{LD_PRELOAD} = "$tmp/clock.so";
	local $ENV{FSYNC_TEST_CLOCK} = "$tmp/ahead";
	$node->start;
}
write_file("$root/f$_", $_) foreach 1 .. 20;
write_file("$other/f$_", $_) foreach 1 .. 20;
my $id = add_repository($node, $root, args => 'change_feed => true');
my $other_id = add_repository($node, $other);
wait_equal($node, $id, $root, 'first sync');
wait_equal($node, $other_id, $other, 'first sync of the other');
$node->safe_psql($db, "SELECT fsync_create_consumer('c', '$id', from_start => true)");

sub clock { return $node->safe_psql($db, 'SELECT floor(extract(epoch FROM clock_timestamp()))') }

sub scans
{
	return $node->safe_psql($db, q(SELECT count(*) FROM sync_operations WHERE operation_type IN ('startup', 'reconciliation')));
}

sub handed_out
{
	return $node->safe_psql($db, "SELECT count(*) FROM fsync_next_changes('c', 1000, visibility_timeout => '1 hour')");
}

my $scans = scans();
my $trees = join ' ', tree_pid($node, $id), tree_pid($node, $other_id);
is(handed_out(), '20', 'changes are handed out for an hour');
is(handed_out(), '0', 'and no others');

# ---- ahead ----

foreach my $case ([ 'two days ahead', 2 * $day ], [ 'back', 0 ], [ 'two days back', -2 * $day ], [ 'and forth', 0 ])
{
	my ($name, $ahead) = @$case;

	set_clock($ahead);
	cmp_ok(abs(clock() - time() - $ahead), '<=', 60, "$name: the server has that time");
	write_file("$root/new $name", $name);
	append_file("$root/f1", $name);
	unlink("$other/f" . (substr($name, 0, 1) eq 't' ? 2 : 3));
	wait_equal($node, $id, $root, $name);
	wait_equal($node, $other_id, $other, "$name, the other");
	ok($node->poll_query_until($db, "SELECT count(*) = 0 FROM sync_operations WHERE status = 'running'"), "$name: bursts end");
	write_file("$root/unasked $name", $name);
	ok($node->poll_query_until($db, "SELECT count(*) = 1 FROM file_records WHERE file_path = 'unasked $name'"),
		"$name: a change is written without a barrier");
	is(scans(), $scans, "$name: no scan begins for it");
	is(join(' ', tree_pid($node, $id), tree_pid($node, $other_id)), $trees, "$name: no fsync-tree is taken for hung");
	is(status_of($node, $id, 'state'), 'watching', "$name: the state");
	cmp_ok(handed_out(), '>=', 20, "$name: the hour of those that were handed out is over") if $ahead > 0;
}

# ---- what is due ----

set_clock(-$day);
$node->append_conf('postgresql.conf', 'fsync.reconciliation_interval = 1s');
$node->reload;
ok($node->poll_query_until($db, "SELECT count(*) >= 2 FROM sync_operations WHERE repository_id = '$id' AND reason = 'scheduled' AND status = 'completed'"),
	'scans that are due come, though the clock was set back');
set_clock(-2 * $day);
my $last = latest_operation($node, $id);
ok($node->poll_query_until($db, "SELECT count(*) >= 2 FROM sync_operations WHERE repository_id = '$id' AND reason = 'scheduled' AND status = 'completed' AND id > $last"),
	'and go on when it is set back once more');
$node->stop;
done_testing();
