#!/bin/bash
#
# postgres.sh [pg_config|explain PG_CONFIG|stamp PG_CONFIG|check PG_CONFIG]
#		Which PostgreSQL is meant.  Makefile, lib.sh and setup.sh all ask here.
#
#	pg_config			the pg_config of the server that "make" and "make install"
#						are for: $PG_CONFIG; else the newest installed server's; else
#						that of the newest installed headers; else the one in PATH
#	explain PG_CONFIG	why fsync cannot be built with it, and what to do
#	stamp PG_CONFIG		one word that differs where objects have to be made anew
#	check PG_CONFIG		fails, and says what to do, where its headers are newer
#						than its server
#
# Headers must never be newer than the server: a minor release can inline a
# call of a function that the server of the minor release before does not have
# (15.20's heap_getattr() calls heap_datum_check()), and the library does not
# load.  Where the archive has no headers that fit, setup.sh unpacks server and
# headers of one version below build/postgresql, for the private servers of
# "make check", "make try" and "make bench" alone.
#
# May be sourced: then it only defines functions.

# Debian's directory for each major version.
postgres_root=/usr/lib/postgresql

# postgres_newest FILE: the newest major version below postgres_root that has
# this file, if any.
postgres_newest()
{
	local found

	found=$(ls -d "$postgres_root"/*/"$1" 2>/dev/null | sort -V | tail -n 1)
	found=${found#"$postgres_root"/}
	echo "${found%%/*}"
}

# The pg_config of the server that is meant; nothing where there is none.
postgres_pg_config()
{
	local major

	if [ -n "${PG_CONFIG:-}" ]; then
		echo "$PG_CONFIG"
		return
	fi
	major=$(postgres_newest bin/postgres)
	[ -n "$major" ] || major=$(postgres_newest lib/pgxs/src/makefiles/pgxs.mk)
	if [ -n "$major" ]; then
		echo "$postgres_root/$major/bin/pg_config"
	else
		command -v pg_config || :
	fi
}

# postgres_number TEXT: the first version in it as PG_VERSION_NUM has it; a
# beta or release candidate comes before all releases.  0: there is none.
postgres_number()
{
	if [[ $1 =~ ([0-9]+)\.([0-9]+) ]]; then
		echo $((BASH_REMATCH[1] * 10000 + BASH_REMATCH[2]))
	elif [[ $1 =~ ([0-9]+)(devel|alpha|beta|rc) ]]; then
		echo $((BASH_REMATCH[1] * 10000))
	else
		echo 0
	fi
}

# postgres_major PG_CONFIG
postgres_major()
{
	echo $(($(postgres_number "$("$1" --version 2>/dev/null)") / 10000))
}

# postgres_debian_major PG_CONFIG: the major version of Debian's packages that it
# belongs to, whether they are installed or not; nothing if it is none of them.
postgres_debian_major()
{
	local bindir

	bindir=$("$1" --bindir 2>/dev/null) || bindir=${1%/pg_config}
	[[ $bindir =~ ^$postgres_root/([0-9]+)/bin$ ]] && echo "${BASH_REMATCH[1]}" || :
}

# postgres_headers PG_CONFIG, postgres_server PG_CONFIG: what the headers, and
# the server itself, call their version; nothing where they are not there.
postgres_headers()
{
	local headers

	headers=$("$1" --includedir-server 2>/dev/null) || return 0
	[ -e "$headers/postgres.h" ] && [ -e "$("$1" --pgxs)" ] || return 0
	sed -n 's/^#define PG_VERSION "\(.*\)"$/\1/p' "$headers/pg_config.h"
}

postgres_server()
{
	local bindir

	bindir=$("$1" --bindir 2>/dev/null) || return 0
	[ ! -x "$bindir/postgres" ] || "$bindir/postgres" --version
}

# postgres_fits PG_CONFIG: server and headers are there, and the headers are not
# the newer ones.
postgres_fits()
{
	local headers server

	headers=$(postgres_headers "$1")
	server=$(postgres_server "$1")
	[ -n "$headers" ] && [ -n "$server" ] &&
		[ "$(postgres_number "$headers")" -le "$(postgres_number "$server")" ]
}

# postgres_private MAJOR: the pg_config of the copy below build/, which need not
# be there.  In the checkout.
postgres_private()
{
	echo "$PWD/build/postgresql/$1$postgres_root/$1/bin/pg_config"
}

# postgres_for_tests: the pg_config of the PostgreSQL that private servers are
# copies of: the one that is meant, or the copy below build/ if that one's
# headers are missing or too new.
postgres_for_tests()
{
	local meant private

	meant=$(postgres_pg_config)
	[ -n "$meant" ] || return 0
	private=$(postgres_private "$(postgres_major "$meant")")
	if ! postgres_fits "$meant" && postgres_fits "$private"; then
		echo "$private"
	else
		echo "$meant"
	fi
}

# postgres_explain PG_CONFIG
postgres_explain()
{
	local major

	if [ -z "${1:-}" ]; then
		echo "there is no PostgreSQL here: run scripts/setup.sh, or name one with PG_CONFIG=/path/to/pg_config"
	elif ! "$1" --version >/dev/null 2>&1; then
		echo "\"$1\" is no pg_config: name one with PG_CONFIG=/path/to/pg_config"
	elif major=$(postgres_debian_major "$1") && [ -n "$major" ]; then
		echo "the headers of $(postgres_server "$1") are missing: run scripts/setup.sh, or apt-get install postgresql-server-dev-$major in the server's own version (where the archive no longer has that: upgrade the server, too)"
	else
		echo "the server headers or PGXS of \"$1\" are missing: install what your PostgreSQL calls its development files, or name another one with PG_CONFIG=/path/to/pg_config"
	fi
}

# postgres_check PG_CONFIG
postgres_check()
{
	local headers server major

	headers=$(postgres_headers "$1")
	server=$(postgres_server "$1")
	# A machine that only builds has no server.
	[ -n "$server" ] || return 0
	if [ "$(postgres_number "$headers")" -gt "$(postgres_number "$server")" ]; then
		major=$(postgres_major "$1")
		cat >&2 <<-END
			install: the headers ($headers) are newer than the server (${server#*) }):
			install: a library that is built with them may not load there.
			install: Upgrade the server when it suits (this restarts it):
			install:     apt-get install postgresql-$major postgresql-client-$major
			install: or take headers of its version, where the archive has them:
			install:     apt-get install postgresql-server-dev-$major=<version of postgresql-$major>
			install: and then: make clean, make, make install
		END
		return 1
	fi
}

# What the objects depend on: the server, its headers, its way to compile.
postgres_stamp()
{
	"$1" 2>/dev/null | cat - "$("$1" --includedir-server 2>/dev/null)/pg_config.h" 2>/dev/null |
		cksum | tr ' ' -
}

[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

set -euo pipefail

case "${1:-pg_config}" in
	pg_config) postgres_pg_config ;;
	explain) postgres_explain "${2:-}" ;;
	stamp) postgres_stamp "$2" ;;
	check) postgres_check "$2" ;;
	*) echo "usage: $0 [pg_config|explain PG_CONFIG|stamp PG_CONFIG|check PG_CONFIG]" >&2; exit 2 ;;
esac
