#!/usr/bin/python3
"""A client of fsync in Python, with psycopg 3 (Debian: python3-psycopg).

    fsync_client.py wait DIRECTORY FILE     wait until FILE is in the table, and print its row
    fsync_client.py list DIRECTORY FOLDER   print what is directly in FOLDER ('' is the root), by pages
    fsync_client.py follow CONSUMER         print changes as they come, each at least once

DIRECTORY is a directory that is registered, FILE and FOLDER are paths below it.  Where to
connect to is said by PGHOST, PGDATABASE and so on, as for psql.
"""

import json
import select
import signal
import sys
import time

import psycopg

PAGE = 100          # rows of one page, and changes that are handed out at once
WAIT_S = 30         # how long wait() waits
ASK_AGAIN_S = 60    # how long follow() relies on being told


def connect():
    """Each statement is a transaction of its own: what fsync_wait() waited for is seen by the next one."""
    return psycopg.connect("", autocommit=True, client_encoding="UTF8")


def repository(connection, directory):
    """The id of the repository of a registered directory."""
    row = connection.execute(
        "SELECT repository_id FROM fsync_repositories WHERE path = %s OR watch_root = %s",
        (directory, directory)).fetchone()
    if row is None:
        raise SystemExit(f"{directory} is not registered: fsync_add_repository() does that")
    return row[0]


def wait(connection, directory, path):
    """The row of a file that was just written, or None where there is no such file.

    fsync_wait() returns when everything that happened before is in the table, so there is
    nothing to poll for.  The row is read by a statement that comes after it.
    """
    repository_id = repository(connection, directory)
    done, = connection.execute(
        "SELECT fsync_wait(%s, make_interval(secs => %s))", (repository_id, WAIT_S)).fetchone()
    if not done:
        raise SystemExit(f"{directory} is not up to date: fsync_status() says why")
    return connection.execute(
        "SELECT id, file_size, encode(content_hash, 'hex') FROM file_records"
        " WHERE repository_id = %s AND file_path = %s AND missing_since IS NULL",
        (repository_id, path)).fetchone()


def pages(connection, directory, folder):
    """What is directly in a folder, as (name, id, size), in the order of the names' bytes; folders
    have no id and no size.

    Steps through the unique index: from one name to the next, past all that is below a
    folder ("0" is the character after "/").  So a page costs what it shows, however much there
    is below, and however far one has come.
    """
    repository_id = repository(connection, directory)
    prefix = folder.strip("/") + "/" if folder.strip("/") else ""
    after = prefix
    while True:
        rows = connection.execute(
            """
            WITH RECURSIVE step AS (
                (SELECT file_path, id, file_size, 1 AS n FROM file_records
                 WHERE repository_id = %(repository)s AND file_path >= %(after)s AND file_path ^@ %(prefix)s
                   AND missing_since IS NULL
                 ORDER BY file_path LIMIT 1)
                UNION ALL
                SELECT f.file_path, f.id, f.file_size, step.n + 1
                FROM step CROSS JOIN LATERAL (
                    SELECT file_path, id, file_size FROM file_records
                    WHERE repository_id = %(repository)s AND file_path ^@ %(prefix)s AND missing_since IS NULL
                      AND file_path >= CASE
                        WHEN strpos(substr(step.file_path, length(%(prefix)s) + 1), '/') > 0
                        THEN %(prefix)s || split_part(substr(step.file_path, length(%(prefix)s) + 1), '/', 1) || '0'
                        ELSE step.file_path || chr(1) END COLLATE "C"
                    ORDER BY file_path LIMIT 1) f
                WHERE step.n < %(page)s)
            SELECT file_path, id, file_size FROM step
            """,
            {"repository": repository_id, "prefix": prefix, "after": after, "page": PAGE}).fetchall()
        page = []
        for path, file_id, size in rows:
            name, slash, _ = path[len(prefix):].partition("/")
            page.append((name + slash, None, None) if slash else (name, file_id, size))
        if page:
            yield page
        if len(rows) < PAGE:
            return
        last = rows[-1][0]
        name, slash, _ = last[len(prefix):].partition("/")
        after = prefix + name + "0" if slash else last + "\x01"


def handle(operation, path, old_path, file_id):
    """The work.  It may be done twice, so it must not matter if it is."""
    print(json.dumps({"operation": operation, "path": path, "old_path": old_path, "file_id": file_id}), flush=True)


def follow(connection, consumer):
    """Handles changes until the program is told to end.

    Changes are handed out until they are acknowledged: what this program was not done with when
    it was killed is handed out again.  A notification only says that it is worth asking now, and
    one that comes while asking is not forgotten.
    """
    ended, came = [], []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    connection.add_notify_handler(came.append)
    connection.execute("LISTEN fsync")
    while not ended:
        came.clear()
        changes = connection.execute(
            "SELECT change_id, operation, file_path, old_path, file_id FROM fsync_next_changes(%s, %s)",
            (consumer, PAGE)).fetchall()
        for change_id, *change in changes:
            handle(*change)
            connection.execute("SELECT fsync_ack(%s, %s)", (consumer, [change_id]))
            if ended:
                return
        if not changes and not came:
            sleep_until_notified(connection, ended)


def sleep_until_notified(connection, ended):
    """Returns when a notification has come, after ASK_AGAIN_S, or a second after SIGTERM."""
    deadline = time.monotonic() + ASK_AGAIN_S
    while not ended and time.monotonic() < deadline:
        ready, _, _ = select.select([connection], [], [], 1)
        if ready:
            connection.pgconn.consume_input()
            while connection.pgconn.notifies():
                pass
            return


def main(arguments):
    match arguments:
        case ["wait", directory, path]:
            with connect() as connection:
                row = wait(connection, directory, path)
            if row is None:
                raise SystemExit(f"{path} is not there, or not tracked: fsync_why() says which")
            print(*row)
        case ["list", directory, folder]:
            with connect() as connection:
                for page in pages(connection, directory, folder):
                    for name, _, size in page:
                        print(name if size is None else f"{name}\t{size}")
        case ["follow", consumer]:
            with connect() as connection:
                follow(connection, consumer)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
