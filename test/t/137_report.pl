#
# fsync_report(): each key is documented and each documented key is there; what
# it says is what the tables say; names of files are only for who may read them;
# what could be a lot is counted up to a limit; no name, encoding, schema or lack of
# repositories breaks the document.  examples/top.sql shows it in a terminal.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use Encode ();
use FsyncTest;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => q(
fsync.max_repositories = 100
fsync.debounce_max_delay = 7s
max_wal_senders = 4
wal_level = replica
));
my $db = 'postgres';
my $examples = "$FindBin::RealBin/../../examples";
my $no_id = '00000000-0000-0000-0000-000000000000';

# The document, as a role sees it.
sub report
{
	my (%opt) = @_;
	my $on = $opt{node} // $node;
	my $of = ($opt{before} // '') . ' SELECT ' . ($opt{function} // 'fsync_report()');
	my $json = $on->safe_psql($opt{db} // $db, $of,
		$opt{role} ? (extra_params => [ '-U', $opt{role} ]) : ());

	return decode_json((split /\n/, $json)[-1]);
}

sub repository
{
	my ($report, $id) = @_;

	return (grep { $_->{repository_id} eq $id } @{ $report->{repositories} })[0];
}

$node->safe_psql($db, q(
CREATE ROLE operator LOGIN; GRANT pg_monitor TO operator;
CREATE ROLE reader LOGIN; GRANT EXECUTE ON FUNCTION fsync_report TO reader; GRANT SELECT ON file_records TO reader;
CREATE ROLE report_only LOGIN; GRANT EXECUTE ON FUNCTION fsync_report TO report_only;
CREATE ROLE outsider LOGIN));

# ---- nothing there ----

my $empty = report(role => 'operator');
is_deeply([ @{$empty}{qw(repositories consumers)} ], [ [], [] ], 'no repository');
is_deeply($empty->{summary}, { repositories => 0, watching => 0, need_attention => 0 }, 'and so it says');
is($empty->{duplicates}{known}, JSON::PP::true, 'no duplicates, known at once');

# ---- what it says ----

my $name = "phot\"o\\s\n\t\x01\xC3\xBC \xE2\x80\xAE'%s\\u0000";
my $root = new_root($name);
make_tree($root, 60);
write_file("$root/SECRET-$_", 'the same content') foreach 1 .. 4;
write_file("$root/SECRET-closed", 'x');
chmod 0, "$root/SECRET-closed";
my $away = new_root('away');
write_file("$away/f", 'x');

my $id = add_repository($node, $root, args => q(change_feed => true, on_missing => 'mark'));
my $gone = add_repository($node, $away);
wait_ok($node, $id, 'first sync');
wait_ok($node, $gone, 'of both');
$node->safe_psql($db, "SELECT fsync_create_consumer('slow', from_start => true); SELECT fsync_verify('$id')");
rename($away, "$away.else") or die "rename: $!";
wait_for_state($node, $gone, 'unavailable', 'one is away');
append_file("$root/SECRET-1", 'more');
wait_ok($node, $id, 'a change');
open(my $fh, '>', "$root/SECRET-endless") or die "open: $!";
truncate($fh, 1 << 40) or die "truncate: $!";
close($fh);
$node->safe_psql($db, "SELECT fsync_reconcile('$id', wait => false)");
my $full;
wait_until(sub { $full = report(); my $r = repository($full, $id)->{running};
	return $r && $r->{reading} && $r->{reading}{bytes_done} > 0; }, 'a run reads a large file');

my $r = repository($full, $id);
is($r->{watch_root}, Encode::decode('UTF-8', $root), 'a name that is bad for JSON is in it as it is');
foreach my $column (qw(total_files total_bytes problems directories_watched state worker_pid tree_pid sandbox))
{
	is($r->{$column}, $node->safe_psql($db, "SELECT $column FROM fsync_status('$id')"), "$column is that of fsync_status()");
}
is($r->{running}{operation_type}, 'reconciliation', 'a run goes on');
like($r->{running}{reading}{file}, qr/SECRET-endless/, 'and what it reads');
is($r->{running}{reading}{bytes_total}, 1 << 40, 'and how much there is');
is($r->{counters}{files_added}, $node->safe_psql($db, "SELECT files_added FROM fsync_stat WHERE repository_id = '$id'"),
	'counters are those of fsync_stat');
cmp_ok($r->{lag}{changes}, '>', 0, 'changes had a lag');
is_deeply($r->{settings}, { change_feed => JSON::PP::true, on_missing => 'mark' }, 'settings of the repository that differ');
is_deeply([ map { "$_->{problem} $_->{paths}" } @{ $r->{problem_kinds} } ], ['permission denied 1'], 'problems by kind');
is($r->{verification}{verified_files}, $node->safe_psql($db, 'SELECT count(last_verified) FROM fsync_verifications'), 'verified files');
ok($r->{verification}{oldest_read}, 'the oldest of them');
is(repository($full, $gone)->{state}, 'unavailable', 'the other is away');
ok(repository($full, $gone)->{hint}, 'and there is a hint');
is_deeply([ @{ $full->{summary} }{qw(repositories need_attention)} ], [ 2, 1 ], 'one of two needs somebody');
my ($problem) = grep { $_->{file_path} eq 'SECRET-closed' } @{ $full->{problems}{latest} };
is($problem->{problem}, 'permission denied', 'problems by name');
is($full->{duplicates}{contents}, $node->safe_psql($db, 'SELECT count(*) FROM fsync_duplicates'), 'duplicates');
is($full->{duplicates}{wasted_bytes}, $node->safe_psql($db, 'SELECT sum(wasted_bytes) FROM fsync_duplicates'), 'and what they waste');
my ($consumer) = @{ $full->{consumers} };
is(join(' ', @{$consumer}{qw(name pending in_flight complete)}),
	$node->safe_psql($db, "SELECT concat_ws(' ', name, pending, in_flight, 1) FROM fsync_consumers"), 'the consumer, as in fsync_consumers');
is_deeply($full->{settings}{'fsync.debounce_max_delay'}, { value => '7s', setting => '7000', default => '5000', unit => 'ms' },
	'settings that differ from the default');
is_deeply([ grep { !/^fsync\.(debounce_interval|debounce_max_delay|helper_timeout|max_repositories)$/ } sort keys %{ $full->{settings} } ], [],
	'and no others');
is($full->{limits}{repositories}{max}, 100, 'limits');
is($full->{limits}{repositories}{used}, 2, 'and what is used');
cmp_ok($full->{limits}{watches}{used}, '>', 0, 'watches');
is(scalar(grep { $_->{repository_id} eq $id && $_->{operation_type} eq 'startup' && $_->{status} eq 'completed' && $_->{runs} == 1 }
	@{ $full->{runs}{by_type} }), 1, 'runs by type');
my $runs = 0;
$runs += $_->{runs} foreach @{ $full->{runs}{by_hour} };
is($runs, $node->safe_psql($db, "SELECT count(*) FROM sync_operations WHERE start_time > now() - interval '1 day'"), 'runs by hour');

# A cancelled run is among the failed ones.
$node->safe_psql($db, "SELECT fsync_cancel($r->{running}{operation_id})");
unlink("$root/SECRET-endless");
wait_ok($node, $id, 'the file is gone');
is(scalar(grep { $_->{operation_id} == $r->{running}{operation_id} } @{ report()->{runs}{failed} }), 1,
	'a run that was cancelled');

# ---- who sees what ----

my $text = $node->safe_psql($db, 'SELECT fsync_report()', extra_params => [ '-U', 'operator' ]);
unlike($text, qr/SECRET/, 'who monitors sees no name of a file');
foreach my $role (qw(operator report_only))
{
	my $seen = report(role => $role);

	is($seen->{shows_file_names}, JSON::PP::false, "$role: and the document says so");
	is_deeply([ $seen->{problems}{latest}, $seen->{duplicates}{largest} ], [ undef, undef ], 'nor hashes');
	is($seen->{problems}{paths}, 1, 'but how many');
}
is(report(role => 'reader')->{problems}{latest}[0]{file_path}, 'SECRET-closed', 'who reads file_records does');
is(scalar @{ report(role => 'reader')->{duplicates}{largest} }, $full->{duplicates}{contents} > 10 ? 10 : $full->{duplicates}{contents},
	'and hashes');
$node->safe_psql($db, 'ALTER TABLE file_records ENABLE ROW LEVEL SECURITY');
is(report(role => 'reader')->{shows_file_names}, JSON::PP::false, 'unless row security limits that');
$node->safe_psql($db, 'ALTER TABLE file_records DISABLE ROW LEVEL SECURITY');
foreach my $query ('fsync_status()', 'fsync_progress', 'fsync_stat', 'fsync_consumers', "fsync_sync_history('$id')", 'fsync_report()')
{
	my ($rc) = $node->psql($db, "SELECT * FROM $query", extra_params => [ '-U', 'operator' ]);
	my ($no, $out, $err) = $node->psql($db, "SELECT * FROM $query", extra_params => [ '-U', 'outsider' ]);

	is($rc, 0, "pg_monitor reads $query");
	like($err, qr/permission denied/, 'others do not');
}
foreach my $table (qw(file_records fsync_problems file_changes fsync_files fsync_duplicates fsync_repositories sync_operations))
{
	my ($rc, $out, $err) = $node->psql($db, "SELECT * FROM $table", extra_params => [ '-U', 'operator' ]);

	like($err, qr/permission denied/, "pg_monitor does not read $table");
}

# ---- the documentation ----

# "repositories[].lag.p50_ms" for each key that there is.
sub keys_of
{
	my ($value, $path, $found) = @_;

	$found->{$path} = 1 if $path ne '';
	if (ref $value eq 'HASH')
	{
		foreach my $key (keys %$value)
		{
			my $below = $path eq 'settings' ? "settings.*" : $path eq 'limits' ? "limits.$key" : $path eq '' ? $key : "$path.$key";

			next if $path =~ /^limits\.\w+$/ && ($found->{"limits.*.$key"} = 1);
			next if $path =~ /\]\.settings$/;
			keys_of($value->{$key}, $below, $found);
		}
	}
	elsif (ref $value eq 'ARRAY')
	{
		keys_of($_, $path eq 'runs.failed' ? 'runs.latest[]' : "$path\[]", $found) foreach @$value;
	}
}

SKIP:
{
	my $file = "$FindBin::RealBin/../../doc/monitoring.md";
	my (%found, %documented);

	skip 'the documentation is not beside the tests', 2 unless -e $file;
	keys_of($full, '', \%found);
	delete $found{$_} foreach grep { /\[\]$/ || /\*$/ || ($_ !~ /\./ && ref $full->{$_}) && !/^(consumers|settings|limits)$/ } keys %found;
	delete $found{$_} foreach qw(repositories[].lag repositories[].verification);
	my ($part) = slurp_file($file) =~ /^## fsync_report\(\)\n(.*?)^## The log/ms;
	foreach my $line (grep { /^\| `/ } split /\n/, $part)
	{
		$documented{$1} = 1 while $line =~ /`((?:[a-z_]+(?:\[\])?\.|\*\.)*[a-z0-9_]+(?:\[\])?)`/g && index($line, "`$1`") >= 0;
	}
	is_deeply([ grep { !$documented{$_} } sort keys %found ], [], 'each key is documented');
	my %known = map { $_ => 1 } qw(degraded unavailable stopped inactive complete known);
	is_deeply([ grep { !$found{$_} && !$known{$_} && /\./ && !/^(fs|fsync|doc)\./ } sort keys %documented ], [], 'and each documented key is there');
}

# Every setting of a repository is told when it differs from the default.
my @settings = qw(include exclude calculate_hashes ignore_case include_hidden use_ignore_files min_size max_size
  on_missing missing_retention on_type_change change_feed on_overwrite on_excluded debounce_interval
  reconciliation_interval poll_interval);
my %other = map { $_ => 1 } qw(repository_id path user_area watch_root active database_oid state state_reason state_hint
  root_identity mounts scan_generation last_complete_generation last_complete_scan created_at paused);
is_deeply([ sort grep { !$other{$_} } split /\n/, $node->safe_psql($db,
	"SELECT attname FROM pg_attribute WHERE attrelid = 'fsync_repositories'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum") ],
	[ sort @settings ], 'a column of fsync_repositories that is a setting belongs into the report, and here');
$node->safe_psql($db, "SELECT fsync_configure_repository('$id', include => '{*}', exclude => '{*.x}', calculate_hashes => true,
	ignore_case => true, include_hidden => true, use_ignore_files => true, min_size => 0, max_size => 1000000, on_missing => 'mark',
	missing_retention => '1 year', on_type_change => 'delete', change_feed => true, on_overwrite => 'source',
	on_excluded => 'mark', debounce_interval => '1 second', reconciliation_interval => '1 day', poll_interval => '1 minute')");
is_deeply([ sort keys %{ repository(report(), $id)->{settings} } ], [ sort @settings ], 'all settings');

# ---- a lot ----

$node->safe_psql($db, qq(
INSERT INTO file_changes (repository_id, file_id, operation, file_path, changed_at)
SELECT '$id', n, 'added', n, now() FROM generate_series(1, 30000) n;
INSERT INTO fsync_problems SELECT '$id', n::text::bytea, n, 'I/O error', NULL, now(), now() FROM generate_series(1, 30000) n;
INSERT INTO sync_operations (repository_id, operation_type, start_time, end_time, status)
SELECT '$id', 'realtime', now(), now(), 'completed' FROM generate_series(1, 30000) n;
INSERT INTO fsync_verifications SELECT n + 1000000, '$id', now(), now() FROM generate_series(1, 30000) n;
ANALYZE));
my $large = report();
is($large->{consumers}[0]{complete}, JSON::PP::false, 'a consumer that is far behind is counted up to a limit');
cmp_ok($large->{consumers}[0]{pending}, '>=', 10000, 'that far');
is($large->{problems}{complete}, JSON::PP::false, 'so are problems');
is($large->{problems}{paths}, 10000, 'to that');
is(scalar @{ $large->{problems}{latest} }, 100, 'of which a hundred are shown');
is($large->{runs}{complete}, JSON::PP::false, 'and runs');
cmp_ok(length($node->safe_psql($db, 'SELECT fsync_report()')), '<', 200_000, 'the document stays small');
# The rows that it reads, but for those that fsync_status() does.
sub rows_read
{
	my ($function) = @_;

	return map { split /\|/ } grep { /\|/ } split /\n/, $node->safe_psql($db, qq(
BEGIN;
SELECT count(*) FROM $function;
SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
WHERE relname IN ('file_changes', 'fsync_problems', 'sync_operations');
COMMIT;));
}
my %read = rows_read('fsync_report()');
my %status = rows_read('fsync_status()');
$read{$_} -= $status{$_} foreach keys %read;
cmp_ok($read{file_changes}, '<=', 10_000, 'few changes are read');
cmp_ok($read{fsync_problems}, '<=', 20_000, 'few problems');
cmp_ok($read{sync_operations}, '<=', 3_000, 'few runs');

# Duplicates by many small steps are those of the view, also where one content has
# more rows than a step.
$node->safe_psql($db, qq(
SELECT fsync_pause('$gone');
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns, missing_since)
SELECT '$gone', n, n % 7, now(), sha256((CASE WHEN n <= 5000 THEN 0 ELSE n / 3 END)::text::bytea), now(), 1, now(), now(),
	n / 2 * 2, 0, 0, CASE WHEN n % 11 = 0 THEN now() END FROM generate_series(1, 100000) n;
UPDATE file_records SET file_size = 5 WHERE repository_id = '$gone' AND file_size > 0 AND file_path <> 'f';
INSERT INTO file_records (repository_id, file_path, file_size, mod_time, content_hash, last_scanned,
	scan_generation, created_at, updated_at, inode, mtime_ns, ctime_ns)
SELECT '$gone', 'odd ' || n, 3, now(), decode(repeat('00', n), 'hex'), now(), 1, now(), now(), n, 0, 0 FROM generate_series(0, 40) n;
ANALYZE file_records));
my $steps = $node->safe_psql($db, q(
CREATE TEMPORARY TABLE seen (n int, duplicates jsonb);
DO $$
BEGIN
	FOR i IN 1 .. 100000 LOOP
		INSERT INTO seen SELECT i, fsync_report()->'duplicates';
		EXIT WHEN (SELECT bool_or((duplicates->>'known')::boolean) FROM seen);
	END LOOP;
END $$;
SELECT count(*) || ' ' || (array_agg(duplicates->>'contents' ORDER BY n DESC))[1] || ' ' ||
	(array_agg(duplicates->>'superfluous_files' ORDER BY n DESC))[1] || ' ' ||
	(array_agg(duplicates->>'wasted_bytes' ORDER BY n DESC))[1] || ' ' ||
	(array_agg(duplicates->'largest'->0->>'copies' ORDER BY n DESC))[1] FROM seen));
my ($calls, $found) = split / /, $steps, 2;
is($found, $node->safe_psql($db, q(
SELECT concat_ws(' ', count(*), sum(copies - 1), sum(wasted_bytes), max(copies)) FROM fsync_duplicates)), "duplicates, found by $calls calls");
$node->safe_psql($db, "DELETE FROM file_records WHERE repository_id = '$gone'");

# ---- many consumers and patterns ----

$node->safe_psql($db, "SELECT fsync_create_consumer('c' || n) FROM generate_series(1, 120) n;
	UPDATE fsync_consumer_positions SET change_id = 0;
	SELECT fsync_configure_repository('$id', exclude => ARRAY(SELECT 'x' || n FROM generate_series(1, 9999) n))");
my $crowd = report();
is(scalar @{ $crowd->{consumers} }, 100, 'a hundred consumers are shown');
is(scalar @{ repository($crowd, $id)->{settings}{exclude} }, 100, 'and a hundred patterns');
%read = rows_read('fsync_report()');
cmp_ok($read{file_changes}, '<=', 60_000, 'and few changes are read for each');
$node->safe_psql($db, "SELECT fsync_drop_consumer(name) FROM fsync_consumers; SELECT fsync_configure_repository('$id', exclude => '{}')");

# ---- fifty repositories ----

$node->safe_psql($db, 'CREATE DATABASE fifty');
$node->safe_psql('fifty', 'CREATE SCHEMA "od d; %s"; CREATE EXTENSION fsync SCHEMA "od d; %s"');
my $many = new_root('many');
foreach my $i (1 .. 50)
{
	mkdir "$many/$i" or die "mkdir: $!";
	write_file("$many/$i/f", $i);
}
$node->safe_psql('fifty', "SET search_path = \"od d; %s\"; SELECT fsync_add_repository('$many/' || n) FROM generate_series(1, 50) n; SELECT fsync_wait(timeout => '5 minutes')");
my $fifty = report(db => 'fifty', function => "\"od d; %s\".fsync_report()");
is(scalar @{ $fifty->{repositories} }, 50, 'fifty repositories, in a schema with an odd name');
is($fifty->{summary}{watching}, 50, 'all of them are up to date');
is($fifty->{limits}{repositories}{used}, 51, 'limits are of all databases');

# ---- top.sql ----

my $top = $node->safe_psql($db, slurp_file("$examples/top.sql") =~ s/^\\watch.*//mr, extra_params => [ '-U', 'operator' ]);
like($top, qr/^\d of 2 up to date/m, 'examples/top.sql, as who monitors');
my ($out, $err) = ('', '');
my $psql = IPC::Run::start([ 'psql', '-XAt', '-d', $node->connstr($db), '-f', "$examples/top.sql" ], '<', \undef, '>', \$out,
	'2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
$psql->pump until (() = $out =~ /up to date/g) >= 2 || $err ne '';
$psql->kill_kill;
is($err, '', 'and again and again');

# ---- other encodings ----

foreach my $case ([ 'SQL_ASCII', "latin \xFC \xC3\xBC", 'latin \\374 ' . "\x{fc}" ], [ 'LATIN1', "latin \xFC", "latin \x{fc}" ])
{
	my ($encoding, $odd, $expected) = @$case;
	my $base = new_root($encoding);

	mkdir "$base/$odd" or die "mkdir: $!";
	write_file("$base/$odd/f\xE4", 'x');
	$node->safe_psql($db, "CREATE DATABASE \U$encoding\E_db TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	my $of = lc("${encoding}_db");
	my $add = 'convert_from(decode(\'' . unpack('H*', "$base/$odd") . "', 'hex'), '$encoding')";

	$node->safe_psql($of, "CREATE EXTENSION fsync; SELECT fsync_add_repository($add); SELECT fsync_wait()");
	my $seen = report(db => $of, before => "SET client_encoding = '" . ($encoding eq 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8') . "';");
	is($seen->{repositories}[0]{watch_root} =~ s/.*\///sr, $expected, "$encoding: the document is valid UTF-8, with the name");
}

# ---- the owner, the worker, a standby ----

$node->safe_psql($db, 'ALTER ROLE fsync_owner CREATEDB');
my $trouble = report(role => 'operator');
is_deeply([ map { $_->{state} } @{ $trouble->{repositories} } ], [ 'degraded', 'degraded' ], 'an owner that could do something: all is degraded');
is($trouble->{problems}, undef, 'and nothing is read as that role');
$node->safe_psql($db, 'ALTER ROLE fsync_owner NOCREATEDB');

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $there = report(node => $standby, role => 'operator');
is($there->{standby}, JSON::PP::true, 'a standby says that it is one');
is(scalar @{ $there->{repositories} }, 2, 'and what the primary has');
is(scalar(grep { $_->{state} eq 'watching' } @{ $there->{repositories} }), 0, 'of which nothing is watched there');
$standby->stop;

# ---- no library ----

my $conf = slurp_file($node->data_dir . '/postgresql.conf');
write_file($node->data_dir . '/postgresql.conf', $conf =~ s/^(?:shared_preload_libraries.*|fsync\..*)\n//mgr);
$node->restart;
my $without = report(role => 'operator');
is($without->{preloaded}, JSON::PP::false, 'without the library there is a document, and it says so');
is_deeply([ map { $_->{state} } grep { $_->{repository_id} eq $id } @{ $without->{repositories} } ], ['stopped'], 'and what that means');
like(repository($without, $id)->{hint}, qr/Add fsync to shared_preload_libraries/, 'and what to do');

$node->stop;
done_testing();
