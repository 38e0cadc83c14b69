#
# examples/migrate: from the tables of an application that synchronised files
# itself.  The ids of its rows, and what refers to them, are kept; it reads on by
# the old names and types.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";
use Digest::SHA qw(sha256_hex);
use File::Path qw(make_path);
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0);
my $base = new_root('library');
my @repositories = ('11111111-1111-1111-1111-111111111111', '22222222-2222-2222-2222-222222222222',
	'33333333-3333-3333-3333-333333333333');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as_application { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'lumilio' ]) }

make_path("$base/one/user/trip", "$base/two/user");
write_file("$base/one/user/$_", "content of $_") foreach ('a.jpg', 'b.jpg', 'trip/c.jpg');
write_file("$base/two/user/$_", "content of $_") foreach ('a.jpg', 'd.jpg');

# The application's tables, as it makes them.
sql(q(CREATE ROLE lumilio LOGIN; GRANT ALL ON SCHEMA public TO lumilio));
as_application(qq(
CREATE TABLE repositories (repo_id uuid PRIMARY KEY, path text NOT NULL);
CREATE TABLE file_records (
	id BIGSERIAL PRIMARY KEY,
	repository_id UUID NOT NULL REFERENCES repositories (repo_id) ON DELETE CASCADE,
	file_path TEXT NOT NULL,
	file_size BIGINT NOT NULL,
	mod_time TIMESTAMPTZ NOT NULL,
	content_hash VARCHAR(64),
	last_scanned TIMESTAMPTZ NOT NULL DEFAULT now(),
	scan_generation BIGINT NOT NULL DEFAULT 0,
	created_at TIMESTAMPTZ DEFAULT now(),
	updated_at TIMESTAMPTZ DEFAULT now(),
	UNIQUE (repository_id, file_path));
CREATE INDEX file_records_content_hash_idx ON file_records (content_hash);
CREATE TABLE sync_operations (
	id BIGSERIAL PRIMARY KEY, repository_id UUID NOT NULL, operation_type VARCHAR(20) NOT NULL,
	files_scanned INT DEFAULT 0, files_added INT DEFAULT 0, files_updated INT DEFAULT 0, files_removed INT DEFAULT 0,
	start_time TIMESTAMPTZ NOT NULL, end_time TIMESTAMPTZ, duration_ms BIGINT, status VARCHAR(20) NOT NULL, error_message TEXT);
INSERT INTO repositories VALUES ('$repositories[0]', '$base/one'), ('$repositories[1]', '$base/two'), ('$repositories[2]', '$base/not mounted');
INSERT INTO file_records (id, repository_id, file_path, file_size, mod_time, content_hash)
VALUES (101, '$repositories[0]', 'a.jpg', 1, now(), '@{[ sha256_hex('content of a.jpg') ]}'),
	(102, '$repositories[0]', 'b.jpg', 1, now(), NULL),
	(205, '$repositories[0]', 'trip/c.jpg', 1, now(), 'not a hash'),
	(206, '$repositories[0]', 'gone.jpg', 1, now(), NULL),
	(307, '$repositories[1]', 'a.jpg', 1, now(), NULL),
	(308, '$repositories[2]', 'far.jpg', 1, now(), NULL);
CREATE TABLE assets (asset_id int, file_id bigint REFERENCES file_records ON DELETE CASCADE);
CREATE TABLE covers (file_id bigint REFERENCES file_records);
INSERT INTO assets SELECT 1, id FROM file_records;
INSERT INTO covers VALUES (205);));
my $columns = q(SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'file_records' ORDER BY ordinal_position);
my $before = sql($columns);
my ($rc, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION fsync');
isnt($rc, 0, 'beside these tables the extension cannot be made');

$node->command_ok([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-v', 'ON_ERROR_STOP=1', '-f',
		"$FindBin::RealBin/../../examples/migrate/migrate.sql" ], 'the script');
sql('SET search_path = fsync, public; SELECT fsync_wait(repository_id) FROM fsync_repositories');

is(as_application('SELECT id, file_path FROM file_records WHERE id <= 308 ORDER BY id'),
	"101|a.jpg\n102|b.jpg\n205|trip/c.jpg\n307|a.jpg", 'the files that are there have their ids');
is(as_application("SELECT id > 308, content_hash FROM file_records WHERE file_path = 'd.jpg'"),
	't|' . sha256_hex('content of d.jpg'), 'a new one has a new id, and its hash as text');
is(as_application('SELECT string_agg(content_hash, \',\' ORDER BY id) FROM file_records WHERE id < 300'),
	join(',', map { sha256_hex("content of $_") } ('a.jpg', 'b.jpg', 'trip/c.jpg')), 'all have their hashes');
is(sql('SELECT count(*) FROM assets JOIN fsync.file_records ON id = file_id'), '6', 'what refers to files refers to them, to those that are gone as well');
is(sql('SELECT file_path, missing_reason FROM fsync.file_records WHERE missing_since IS NOT NULL'), 'gone.jpg|missing', 'the row of one that is gone is marked');
is(sql("SELECT count(*) FROM fsync.file_records WHERE repository_id = '$repositories[2]'"), '1', 'rows of a repository whose disk is absent wait for it');
is(sql($columns) =~ s/character varying/text/gr, $before =~ s/character varying/text/gr, 'the view has the columns and types of the table');
cmp_ok(as_application("SELECT count(*) FROM sync_operations WHERE operation_type = 'startup' AND status = 'completed'"), '==', 2, 'its operations, too');
like(sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'covers'::regclass"), qr/REFERENCES fsync\.file_records\(id\)/, 'references go to the new table');

# the one whose disk comes later
make_path("$base/not mounted/user");
write_file("$base/not mounted/user/far.jpg", 'far');
sql("SELECT fsync.fsync_add_repository('$base/not mounted', '$repositories[2]', 'user')");
is(sql("SELECT fsync.fsync_wait('$repositories[2]')"), 't', 'registered later');
is(as_application("SELECT id FROM file_records WHERE file_path = 'far.jpg'"), '308', 'its row has its id');

# the application goes on
write_file("$base/two/user/e.jpg", 'e');
is(as_application('SELECT fsync.fsync_wait()'), 't', 'the application waits');
is(as_application("SELECT count(*) FROM file_records WHERE file_path = 'e.jpg'"), '1', 'and reads');
as_application("DELETE FROM assets; DELETE FROM repositories WHERE repo_id = '$repositories[1]'");
is(sql("SELECT count(*) FROM fsync.fsync_repositories WHERE repository_id = '$repositories[1]'"), '0', 'a repository that the application deletes is removed');
is(as_application("SELECT count(*) FROM file_records WHERE repository_id = '$repositories[1]'"), '0', 'with its rows');

$node->stop;
done_testing();
