#
# examples/monitoring: Debian's prometheus-postgres-exporter takes the queries, as a
# role that is only a member of pg_monitor, and gives metrics of all that they
# promise; promtool takes these metrics and the rules, and each rule is raised by what
# it is for; the dashboard and the rules ask for nothing that is not measured, and
# show all that is.

use strict;
use warnings;

use CPAN::Meta::YAML;
use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "fsync.change_max_rows = 0\n");
my $db = 'postgres';
my $examples = "$FindBin::RealBin/../../examples/monitoring";

# Where Debian has them, or where its packages were unpacked.
sub program
{
	my ($name) = @_;

	foreach my $dir (split(/:/, $ENV{PATH}))
	{
		return "$dir/$name" if -x "$dir/$name";
	}
	return undef;
}

# ---- something to measure ----

my $odd = "odd \"name\\ \n\xC3\xBC";
my %roots = map { $_ => new_root($_) } ('photos', $odd);
my %ids;

foreach my $name (keys %roots)
{
	make_tree($roots{$name}, 30);
	write_file("$roots{$name}/closed", 'x');
	chmod 0, "$roots{$name}/closed";
	$ids{$name} = add_repository($node, $roots{$name}, args => 'change_feed => true');
	wait_ok($node, $ids{$name}, "$name: first sync");
}
$node->safe_psql($db, "SELECT fsync_create_consumer('slow', '$ids{photos}', from_start => true)");
write_file("$roots{photos}/new", 'x');
wait_ok($node, $ids{photos}, 'a change');
open(my $fh, '>', "$roots{photos}/endless") or die "open: $!";
truncate($fh, 1 << 40) or die "truncate: $!";
close($fh);
$node->safe_psql($db, "SELECT fsync_reconcile('$ids{photos}', wait => false)");
wait_until(sub { $node->safe_psql($db, 'SELECT count(*) FROM fsync_progress WHERE bytes_done > 0') }, 'a run goes on');

# ---- the queries ----

my ($grants) = slurp_file("$examples/README.md") =~ /^    (CREATE ROLE.*?)\n\n/ms;
$node->safe_psql($db, $grants);

my $queries = CPAN::Meta::YAML->read("$examples/queries.yml")->[0];
my %metrics;

foreach my $namespace (sort keys %$queries)
{
	my $query = $queries->{$namespace};
	my @columns = map { keys %$_ } @{ $query->{metrics} };
	my %usage = map { my ($name) = keys %$_; ($name => $_->{$name}{usage}) } @{ $query->{metrics} };
	my @labels = grep { $usage{$_} eq 'LABEL' } @columns;
	my $result = $node->safe_psql($db, "SET ROLE exporter; CREATE TEMPORARY TABLE q AS $query->{query}; RESET ROLE;
		SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'q'::regclass AND attnum > 0;
		SELECT count(*) > 0, count(*) = count(DISTINCT (" . join(', ', @labels) . ")) FROM q");
	my ($names, $rows) = split /\n/, $result;

	is($names, join(' ', @columns), "$namespace: the query has the columns that are described");
	is($rows, 't|t', "$namespace: it has rows, told apart by their labels");
	foreach my $column (grep { $usage{$_} ne 'LABEL' } @columns)
	{
		$metrics{"${namespace}_$column"} = { map { $_ => 1 } @labels };
		is($usage{$column}, $column =~ /total\z/ ? 'COUNTER' : 'GAUGE', "${namespace}_$column: its name says what it is");
	}
}

# ---- the dashboard and the rules ----

my %used;

sub asks_for
{
	my ($who, $expr) = @_;
	my @unknown;

	while ($expr =~ /\b(fsync_\w+)(?:\{([^}]*)\})?/g)
	{
		my ($metric, $labels) = ($1, $2 // '');

		$used{$metric} = 1;
		push(@unknown, $metric) unless $metrics{$metric};
		push(@unknown, grep { !$metrics{$metric}{$_} } $labels =~ /(\w+)\s*[=!]~?"/g);
	}
	return is_deeply(\@unknown, [], "$who asks for what is measured: $expr");
}

my $dashboard = decode_json(slurp_file("$examples/dashboard.json"));
foreach my $panel (@{ $dashboard->{panels} })
{
	asks_for("panel \"$panel->{title}\"", $_->{expr}) foreach @{ $panel->{targets} };
}
is_deeply([ grep { !$used{$_} } sort keys %metrics ], [], 'and all that is measured is shown');
my %ids_of_panels = map { $_->{id} => 1 } @{ $dashboard->{panels} };
is(scalar keys %ids_of_panels, scalar @{ $dashboard->{panels} }, 'panels have ids of their own');
foreach my $variable (grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} })
{
	my ($metric, $label) = $variable->{query} =~ /^label_values\((\w+), (\w+)\)$/;

	ok($metrics{$metric}{$label}, "variable $variable->{name} is a label that there is");
}
my $rules = slurp_file("$examples/rules.yml");
asks_for('a rule', $_) foreach $rules =~ /^\s+expr: (.*)$/mg;

# ---- promtool ----

sub run_tool
{
	my ($in, @command) = @_;
	my ($out, $err);

	IPC::Run::run(\@command, '<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return ($? >> 8, ($out // '') . ($err // ''));
}

my $promtool = program('promtool');
SKIP:
{
	skip 'promtool (Debian: prometheus) is not installed', 4 unless $promtool;

	my ($rc, $out) = run_tool('', $promtool, 'check', 'rules', "$examples/rules.yml");
	is($rc, 0, 'promtool takes the rules') or diag($out);
	my $tests = PostgreSQL::Test::Utils::tempdir() . '/rules_test.yml';
	my $cases = slurp_file("$FindBin::RealBin/../monitoring/rules_test.yml");
	write_file($tests, $cases =~ s/\bRULES$/$examples\/rules.yml/mr);
	($rc, $out) = run_tool('', $promtool, 'test', 'rules', $tests);
	is($rc, 0, 'each is raised by what it is for') or diag($out);
	is_deeply([ grep { $cases !~ /alertname: $_\b/ || $cases !~ /alertname="$_"/ } $rules =~ /- alert: (\w+)/g ], [],
		'each of them on a bad day, and not on a good one');
	write_file($tests, $cases =~ s/\bRULES$/$examples\/rules.yml/mr =~ s/alertname="FsyncProblems"/alertname="FsyncOther"/r);
	($rc, $out) = run_tool('', $promtool, 'test', 'rules', $tests);
	isnt($rc, 0, 'and promtool would say so');
}

# ---- the exporter ----

my $exporter = program('prometheus-postgres-exporter');
my $pid;
END { if ($pid) { my $status = $?; kill 'KILL', $pid; waitpid $pid, 0; $? = $status; } }

SKIP:
{
	skip 'prometheus-postgres-exporter is not installed', 3 unless $exporter;

	my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "socket: $!";
	my $port = $probe->sockport;
	close $probe;
	my $said = PostgreSQL::Test::Utils::tempdir() . '/exporter';
	$pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		$ENV{DATA_SOURCE_NAME} = "user=exporter host='" . $node->host . "' port=" . $node->port . " dbname=$db sslmode=disable";
		open STDOUT, '>', $said;
		open STDERR, '>&', \*STDOUT;
		exec $exporter, "--extend.query-path=$examples/queries.yml", "--web.listen-address=127.0.0.1:$port" or POSIX::_exit(1);
	}
	my $text = '';
	my $http = HTTP::Tiny->new(timeout => 60);
	wait_until(sub { my $answer = $http->get("http://127.0.0.1:$port/metrics");
		$text = $answer->{content} if $answer->{success}; return $text =~ /^fsync_/m || waitpid($pid, POSIX::WNOHANG()) == $pid }, 'it is asked')
	  or diag(slurp_file($said));
	my %seen = map { $_ => 1 } $text =~ /^(fsync_\w+)[{ ]/mg;
	is_deeply([ sort keys %seen ], [ sort keys %metrics ], 'it gives each metric') or diag(slurp_file($said));
	unlike(slurp_file($said), qr/level=(?:error|warn)[^\n]*fsync/, 'and complains about none');
	like($text, qr/^fsync_consumer_pending\{consumer="slow"[^\n]*\} [1-9]/m, 'the backlog of consumers among them');
	my ($label) = $text =~ /^fsync_state_current\{repository="([^\n]*odd (?:[^"\\]|\\.)*)"/m;
	is($label =~ s/\\(.)/$1 eq 'n' ? "\n" : $1/ger, $roots{$odd}, 'a name that is bad for labels is one');
	is(scalar(() = $text =~ /^fsync_problem_paths\{problem="permission denied"[^\n]*\} 1$/mg), 2, 'problems by kind');

	SKIP:
	{
		skip 'promtool (Debian: prometheus) is not installed', 1 unless $promtool;
		my $ours = join('', map { "$_\n" } grep { /^(?:# (?:HELP|TYPE) )?fsync_/ } split /\n/, $text);
		my ($rc, $out) = run_tool($ours, $promtool, 'check', 'metrics');
		is($out, '', 'promtool finds nothing wrong with the metrics');
	}
	kill 'TERM', $pid;
	waitpid $pid, 0;
	undef $pid;
}

my ($operation) = $node->safe_psql($db, 'SELECT operation_id FROM fsync_progress');
$node->safe_psql($db, "SELECT fsync_cancel($operation)");
unlink("$roots{photos}/endless");
$node->stop;
done_testing();
