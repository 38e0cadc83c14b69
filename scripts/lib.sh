#!/bin/bash
#
# lib.sh: what check.sh, try.sh and bench.sh share.  Sourced by bash, from the
# checkout.
#
# All run a PostgreSQL of their own: a copy of the installed one in a private
# directory, since PostgreSQL 15 looks for extensions only beside itself.  Its
# programs find their files relative to themselves, so the copy works as long
# as it keeps the layout.  Nothing in the system is changed, and what is
# installed or running there is neither used nor disturbed.

. scripts/postgres.sh

MAKE=${MAKE:-make}

# A parent make's flags (a jobserver, above all) are not for ours; variables
# given on its command line are in the environment too.
unset MAKEFLAGS MFLAGS MAKELEVEL

say()
{
	echo "$*"
}

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

# setup WHAT: installs what is missing (see setup.sh); from then on PG_CONFIG is
# that of the PostgreSQL to copy.
setup()
{
	scripts/setup.sh "$1"
	PG_CONFIG=$(postgres_for_tests)
	postgres_fits "${PG_CONFIG:-none}" || die "$(postgres_explain "$PG_CONFIG")"
	export PG_CONFIG
}

# install_private DIR: builds, then copies PostgreSQL and installs fsync below
# DIR.  Sets pg_bin to the copy's programs.
install_private()
{
	local dir=$1 from
	local bindir pkglibdir sharedir

	bindir=$("$PG_CONFIG" --bindir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	sharedir=$("$PG_CONFIG" --sharedir)

	for from in "$bindir" "$pkglibdir" "$sharedir"; do
		mkdir -p "$dir$from"
		# bitcode is for the JIT's inlining only, man pages for nobody
		tar -C "$from" --exclude=./bitcode --exclude=./pgxs --exclude=./man -cf - . |
			tar -C "$dir$from" --no-same-owner -xf -
	done
	"$MAKE" -s PG_CONFIG="$PG_CONFIG" install DESTDIR="$dir"

	pg_bin=$dir$bindir
	[ "$("$pg_bin/pg_config" --pkglibdir)" = "$dir$pkglibdir" ] ||
		die "the copy of PostgreSQL in $dir does not find its own files"
}

build()
{
	"$MAKE" -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" "$@"
}
