#
# FsyncFeed.pm
#		What the tests of the change feed share: the feed, replayed from its
#		beginning, is file_records.

package FsyncFeed;

use strict;
use warnings;

use Exporter 'import';
use FsyncTest;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  replay_equals changes_since last_change new_file
);

# Follows the changes of a repository one by one, in the order of their ids, and
# compares what comes out with file_records, ids included.  Each change must
# fit what was there before it: a file is added once, and moved, updated and
# removed only where and as it was.
my $replay = q(
CREATE TEMP TABLE replayed (id bigint PRIMARY KEY, file_path text COLLATE "C",
	file_size bigint, mod_time timestamptz, content_hash bytea);
CREATE FUNCTION pg_temp.replay(which uuid) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	c file_changes;
	r replayed;
	fits boolean;
BEGIN
	FOR c IN SELECT * FROM file_changes WHERE repository_id = which ORDER BY change_id LOOP
		SELECT * INTO r FROM replayed WHERE id = c.file_id;
		CASE c.operation
			WHEN 'added' THEN
				fits := r.id IS NULL AND c.old_path IS NULL AND (c.old_hash, c.old_size, c.old_mod_time) IS NULL;
				INSERT INTO replayed VALUES (c.file_id, c.file_path, c.file_size, c.mod_time, c.content_hash)
					ON CONFLICT DO NOTHING;
			WHEN 'updated' THEN
				fits := c.file_path = r.file_path AND c.old_path IS NULL
					AND (c.old_size, c.old_mod_time) = (r.file_size, r.mod_time)
					AND c.old_hash IS NOT DISTINCT FROM r.content_hash
					AND (c.file_size, c.mod_time, c.content_hash)
						IS DISTINCT FROM (r.file_size, r.mod_time, r.content_hash);
				UPDATE replayed SET file_size = c.file_size, mod_time = c.mod_time,
					content_hash = c.content_hash WHERE id = c.file_id;
			WHEN 'moved' THEN
				fits := c.old_path = r.file_path AND c.file_path <> r.file_path
					AND (c.file_size, c.mod_time) = (r.file_size, r.mod_time)
					AND (c.old_size, c.old_mod_time) = (r.file_size, r.mod_time)
					AND c.content_hash IS NOT DISTINCT FROM r.content_hash
					AND c.old_hash IS NOT DISTINCT FROM r.content_hash;
				UPDATE replayed SET file_path = c.file_path WHERE id = c.file_id;
			WHEN 'removed' THEN
				fits := c.file_path = r.file_path AND c.content_hash IS NULL AND c.file_size IS NULL
					AND (c.old_size, c.old_mod_time) = (r.file_size, r.mod_time)
					AND c.old_hash IS NOT DISTINCT FROM r.content_hash;
				DELETE FROM replayed WHERE id = c.file_id;
		END CASE;
		IF fits IS NOT TRUE THEN
			RETURN NEXT format('%s does not fit %s', c, r);
		END IF;
	END LOOP;
	RETURN QUERY
	SELECT format('table: %s, replayed: %s', t, x) FROM
		(SELECT id, file_path, file_size, mod_time, content_hash FROM file_records
			WHERE repository_id = which AND missing_since IS NULL) t
		FULL JOIN replayed x ON x.id = t.id WHERE t::text IS DISTINCT FROM x::text LIMIT 10;
END $$;
);

sub replay_equals
{
	my ($node, $id, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# of one moment, for the worker may be at work
	my ($rc, $out, $err) = $node->psql($opt{db} // 'postgres',
		"SET client_min_messages = warning; $replay BEGIN ISOLATION LEVEL REPEATABLE READ;"
		  . "SELECT * FROM pg_temp.replay('$id') LIMIT 10; COMMIT");
	return is($out . $err, '', "$name: the feed, replayed, is the table");
}

# Id of the last change; 0: none.
sub last_change
{
	my ($node) = @_;

	return $node->safe_psql('postgres', 'SELECT coalesce(max(change_id), 0) FROM file_changes');
}

# Changes after this one, a line each: operation path [from old path].
sub changes_since
{
	my ($node, $change) = @_;

	return $node->safe_psql('postgres', qq(
SELECT operation || ' ' || file_path || coalesce(' from ' || old_path, '') FROM file_changes
WHERE change_id > $change ORDER BY change_id));
}

# A file that appears with its content, so that it is added and not updated
# after that, however slow the machine is.
sub new_file
{
	my ($path, $content) = @_;
	my $hidden = $path =~ s{([^/]*)\z}{.$1}r;

	write_file($hidden, $content);
	rename($hidden, $path) or die "could not rename $hidden: $!";
}

1;
