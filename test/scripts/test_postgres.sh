#!/bin/bash
#
# Which PostgreSQL is meant (scripts/postgres.sh): servers and headers made up in
# a directory of the test's own, in each combination that a machine can have.

set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/postgres.sh

made=$(mktemp -d "${TMPDIR:-/tmp}/fsync-test.XXXXXX")
trap 'rm -rf "$made"' EXIT
unset PG_CONFIG
tests=0
failures=0

is()
{
	tests=$((tests + 1))
	if [ "$1" = "$2" ]; then
		echo "ok $tests - $3"
	else
		echo "not ok $tests - $3"
		echo "# got \"$1\", expected \"$2\""
		failures=$((failures + 1))
	fi
}

like()
{
	case "$1" in
		*"$2"*) is yes yes "$3" ;;
		*) is "$1" "…$2…" "$3" ;;
	esac
}

# make_server ROOT MAJOR SERVER HEADERS: PostgreSQL as Debian lays it out below
# ROOT; a version that is empty is not there.
make_server()
{
	local dir=$1/$2 server=$3 headers=$4

	mkdir -p "$dir/bin" "$dir/lib/pgxs/src/makefiles" "$dir/include"
	cat >"$dir/bin/pg_config" <<-END
		#!/bin/sh
		case "\$1" in
			--version) echo "PostgreSQL ${server:-$headers}" ;;
			--bindir) echo "$dir/bin" ;;
			--includedir-server) echo "$dir/include" ;;
			--pgxs) echo "$dir/lib/pgxs/src/makefiles/pgxs.mk" ;;
			*) echo "VERSION = PostgreSQL ${server:-$headers}"; echo "BINDIR = $dir/bin" ;;
		esac
	END
	chmod +x "$dir/bin/pg_config"
	if [ -n "$server" ]; then
		printf '#!/bin/sh\necho "postgres (PostgreSQL) %s"\n' "$server" >"$dir/bin/postgres"
		chmod +x "$dir/bin/postgres"
	fi
	if [ -n "$headers" ]; then
		touch "$dir/lib/pgxs/src/makefiles/pgxs.mk" "$dir/include/postgres.h"
		printf '#define PG_VERSION "%s"\n' "$headers" >"$dir/include/pg_config.h"
	fi
}

fits()
{
	postgres_fits "$1" && echo yes || echo no
}

# ---- numbers ----

is "$(postgres_number 'PostgreSQL 15.18 (Debian 15.18-0+deb12u1)')" 150018 'a release'
is "$(postgres_number 'postgres (PostgreSQL) 9.6')" 90006 'an old one'
is "$(postgres_number 'PostgreSQL 19rc1 (Debian 19~rc1-1)')" 190000 'a release candidate comes before all releases'
is "$(postgres_number 'PostgreSQL 20devel')" 200000 'a version in development'
is "$(postgres_number 'nonsense')" 0 'no version'

# ---- nothing ----

postgres_root=$made/none
mkdir "$made/path"
for program in ls sort tail; do
	ln -s "$(command -v "$program")" "$made/path/$program"
done
is "$(PATH=$made/path postgres_pg_config)" '' 'a machine without PostgreSQL'
like "$(postgres_explain '')" 'scripts/setup.sh' 'it is said what to do'
like "$(postgres_explain "$made/no such")" 'is no pg_config' 'PG_CONFIG that is none'

# ---- which one ----

postgres_root=$made/two
make_server "$postgres_root" 15 15.18 15.18
make_server "$postgres_root" 17 '' 17.6
is "$(postgres_pg_config)" "$postgres_root/15/bin/pg_config" 'a server comes before newer headers without one'
is "$(PG_CONFIG=/my/pg_config postgres_pg_config)" /my/pg_config 'PG_CONFIG comes before everything'
make_server "$postgres_root" 9.6 9.6.24 9.6.24
is "$(postgres_pg_config)" "$postgres_root/15/bin/pg_config" '9.6 is no newer than 15'
make_server "$postgres_root" 16 16.2 16.2
is "$(postgres_pg_config)" "$postgres_root/16/bin/pg_config" 'the newest of several servers'
is "$(postgres_debian_major "$postgres_root/17/bin/pg_config")" 17 'headers of a package'
is "$(postgres_debian_major "$postgres_root/14/bin/pg_config")" 14 'a package that is not installed'
is "$(postgres_debian_major /opt/pg/bin/pg_config)" '' 'a PostgreSQL of the user'"'"'s own'

postgres_root=$made/headers
make_server "$postgres_root" 13 '' 13.16
make_server "$postgres_root" 14 '' 14.13
is "$(postgres_pg_config)" "$postgres_root/14/bin/pg_config" 'without a server: the newest headers'
is "$(fits "$postgres_root/14/bin/pg_config")" no 'headers alone do not do for tests'

# ---- headers and server ----

postgres_root=$made/versions
make_server "$postgres_root" 15 15.18 15.20
is "$(fits "$postgres_root/15/bin/pg_config")" no 'headers of a later minor release do not fit'
is "$(postgres_check "$postgres_root/15/bin/pg_config" 2>/dev/null && echo installed)" '' 'and make install refuses'
like "$(postgres_check "$postgres_root/15/bin/pg_config" 2>&1 || :)" '(15.20) are newer than the server (15.18)' \
	'and says which'
make_server "$postgres_root" 15 15.20 15.18
is "$(fits "$postgres_root/15/bin/pg_config")" yes 'those of an earlier one do'
is "$(postgres_check "$postgres_root/15/bin/pg_config" && echo installed)" installed 'and are installed'
make_server "$postgres_root" 18 18.6 ''
is "$(fits "$postgres_root/18/bin/pg_config")" no 'a server without headers'
like "$(postgres_explain "$postgres_root/18/bin/pg_config")" 'postgresql-server-dev-18' 'names their package'

# ---- the copy below build/ ----

cd "$made"
make_server "$postgres_root" 15 15.18 15.20
is "$(PG_CONFIG="$postgres_root/15/bin/pg_config" postgres_for_tests)" "$postgres_root/15/bin/pg_config" \
	'there is no copy: nothing better'
make_server "$made/build/postgresql/15$postgres_root" 15 15.20 15.20
is "$(PG_CONFIG="$postgres_root/15/bin/pg_config" postgres_for_tests)" \
	"$made/build/postgresql/15$postgres_root/15/bin/pg_config" 'tests use the copy where the headers do not fit'
make_server "$postgres_root" 15 15.20 15.20
is "$(PG_CONFIG="$postgres_root/15/bin/pg_config" postgres_for_tests)" "$postgres_root/15/bin/pg_config" \
	'and the installed one as soon as they do'

# ---- objects ----

first=$(postgres_stamp "$postgres_root/15/bin/pg_config")
is "$(postgres_stamp "$postgres_root/15/bin/pg_config")" "$first" 'the same server: the same objects'
[ "$(postgres_stamp "$postgres_root/18/bin/pg_config")" != "$first" ] && other=yes || other=no
is "$other" yes 'another server: other objects'
make_server "$postgres_root" 15 15.20 15.21
[ "$(postgres_stamp "$postgres_root/15/bin/pg_config")" != "$first" ] && other=yes || other=no
is "$other" yes 'other headers of the same server: other objects'

echo "1..$tests"
[ "$failures" -eq 0 ]
