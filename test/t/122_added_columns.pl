#
# A column that somebody adds to a table of the extension makes a dump that
# cannot be restored: a warning says so at once, however it is added, and what
# doc/your-own-data.md says works: the table of one's own, and the dump that was
# already made.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $root = new_root('photos');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/lab.dump';

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

# What a statement says; it must succeed.
sub said_by
{
	my ($statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement);

	is($rc, 0, "succeeds: $statement") or diag($err);
	return $err;
}

write_file("$root/$_.jpg", $_) foreach 1 .. 3;
my $id = add_repository($node, $root);
wait_ok($node, $id, 'first sync');

# ---- the warning ----

my $warning = qr/WARNING:  a column was added to table "file_records", which belongs to extension "fsync"\nDETAIL:  A dump of this database cannot be restored: .*\nHINT:  Drop the column, /;

foreach my $statement ('ALTER TABLE file_records ADD COLUMN note text',
	'ALTER TABLE IF EXISTS public.file_records ADD note text, ADD other int',
	q(DO $$ BEGIN EXECUTE 'ALTER TABLE file_records ADD note text'; END $$),
	'ALTER TABLE file_records ADD name text GENERATED ALWAYS AS (upper(file_path)) STORED',
	'SET ROLE fsync_owner; ALTER TABLE file_records ADD note text; RESET ROLE')
{
	my $err = said_by("BEGIN; $statement; ROLLBACK");

	like($err, $warning, "a warning: $statement");
	is(scalar(() = $err =~ /WARNING/g), $statement =~ /other/ ? 2 : 1, 'one for each column');
}
like(said_by("BEGIN; ALTER TABLE $_ ADD COLUMN note text; ROLLBACK"), qr/WARNING:  a column was added to table "$_".*cannot be restored/s, "a warning: $_")
  foreach ('fsync_repositories', 'file_changes', 'fsync_consumer_positions', 'fsync_consumer_deliveries');
like(said_by("BEGIN; ALTER TABLE $_ ADD COLUMN note text; ROLLBACK"), qr/WARNING:  a column was added to table "$_".*DETAIL:  The column is not in a dump/s, "a warning: $_")
  foreach ('sync_operations', 'fsync_problems', 'fsync_verifications');
unlike(said_by($_), qr/WARNING/, "no warning: $_")
  foreach ('BEGIN; ALTER TABLE file_records ADD COLUMN IF NOT EXISTS inode bigint; ROLLBACK',
	'BEGIN; ALTER TABLE file_records ALTER inode SET STATISTICS 10; CREATE INDEX ON file_records (updated_at); ROLLBACK',
	'BEGIN; CREATE SCHEMA s; CREATE TABLE s.file_records (id int); ALTER TABLE s.file_records ADD note text; ROLLBACK',
	'BEGIN; CREATE TABLE mine (id int); ALTER TABLE mine ADD note text; ROLLBACK',
	'BEGIN; DROP EXTENSION fsync CASCADE; CREATE EXTENSION fsync; ROLLBACK');

# ---- the cure ----

sub restore
{
	my ($db, @steps) = @_;

	sql("CREATE DATABASE $db TEMPLATE template0");
	foreach my $step (@steps)
	{
		if (ref $step)
		{
			run_log([ 'pg_restore', '-d', $node->connstr($db), @$step, $dump ]);
		}
		else
		{
			sql($step, $db);
		}
	}
	return sql('SELECT count(*) FROM file_records', $db);
}
sub dump_database
{
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], "a dump $_[0]");
}

said_by('ALTER TABLE file_records ADD COLUMN note text');
sql("UPDATE file_records SET note = 'mine: ' || file_path");
dump_database('with a column');
is(restore('lost', []), '0', 'restored as it is, it has no rows: that is what the warning is about');
is(restore('saved', [ '--section=pre-data' ], 'ALTER TABLE file_records ADD COLUMN note text', [ '--section=data' ], [ '--section=post-data' ]),
	'3', 'a dump that was made with it is restored in three steps');
is(sql('SELECT count(*) FROM file_records WHERE note LIKE \'mine: %\'', 'saved'), '3', 'with what the column has');

# to a table of one's own
sql(q(
CREATE TABLE file_note (
	file_id bigint PRIMARY KEY REFERENCES file_records ON DELETE CASCADE,
	note text);
INSERT INTO file_note SELECT id, note FROM file_records WHERE note IS NOT NULL;
ALTER TABLE file_records DROP COLUMN note;));
dump_database('without it');
is(restore('cured', []), '3', 'with a table of one\'s own the dump is restored');
is(sql('SELECT count(*) FROM file_note JOIN file_records ON id = file_id', 'cured'), '3', 'and that table');

$node->stop;
done_testing();
