#!/bin/bash
#
# matrix.sh [NAME…]
#		The tests on fresh machines and on every PostgreSQL that Debian has.
#
#	fresh-nothing fresh-older fresh-gone fresh-newer
#				a machine where nothing was installed by hand: README's two
#				commands, as an ordinary user with sudo (test/matrix/fresh.sh)
#	13 15 17 18 19
#				make check, as an ordinary user, with that PostgreSQL on its release
#				of Debian (13: its binaries from bullseye, on bookworm)
#	later		make check's server side as it is made for a PostgreSQL newer than any
#				that was tested: without writes below SQL
#	packages	Debian packages, and PGXN's (test/matrix/packages.sh)
#	docker		the steps of the Dockerfile (test/matrix/docker.sh)
#
# Without names all of them.  Needs root, and the package debootstrap.  Machines
# are made in build/matrix (or $MACHINES, which needs some 2 GB for each) from the
# archives of this machine's apt; what was downloaded is kept for the next time.
# The table at the end says what each gave; the exit status is zero if nothing
# failed.  Where a release has no such PostgreSQL it says so.
#
#	MATRIX_CHECK="make regress"		instead of make check

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. test/matrix/lib.sh
. test/matrix/fresh.sh
. test/matrix/docker.sh
. test/matrix/packages.sh

check=${MATRIX_CHECK:-make check}
table=()
failed=0

[ "$(id -u)" -eq 0 ] || die "needs root, to make machines and enter them"
command -v debootstrap >/dev/null || die "needs the package debootstrap"
mkdir -p "$machines"

# Releases for each version.
release_of()
{
	case "$1" in
		13 | 15) echo bookworm ;;
		17) echo trixie ;;
		18 | 19) echo sid ;;
	esac
}

# The suite in which a version is, where that is not its release's own.
suite_of()
{
	case "$1" in
		13) echo bullseye ;;
		19) echo experimental ;;
	esac
}

# version N: make check with PostgreSQL N, on a machine of its own.
version()
{
	local name=pg$1 major=$1 suite status=0 target=

	make_machine "$name" "$(release_of "$major")" || { result="no machine"; return 1; }
	suite=$(suite_of "$major")
	: >"$machines/$name.log"
	if [ -n "$suite" ]; then
		echo "deb $(main_archive) $suite main" \
			>"$machines/$name/etc/apt/sources.list.d/$suite.list"
		printf 'Package: *\nPin: release n=%s\nPin-Priority: 50\n' "$suite" \
			>"$machines/$name/etc/apt/preferences.d/$suite"
		# Its libraries come from there, where the release has none.
		in_machine "$name" root bash -c "
			export DEBIAN_FRONTEND=noninteractive
			apt-get -qq update
			apt-cache show postgresql-$major >/dev/null 2>&1 || exit 3
			mkdir -p /etc/postgresql-common/createcluster.d
			echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf
			apt-get -qq -y --no-install-recommends install postgresql-$major \
				postgresql-server-dev-$major ||
			apt-get -qq -y --no-install-recommends -t $suite install postgresql-$major \
				postgresql-server-dev-$major" >>"$machines/$name.log" 2>&1 || status=$?
		if [ "$status" -eq 3 ]; then
			result="not in Debian's $suite"
			return 0
		elif [ "$status" -ne 0 ]; then
			result="could not be installed"
			return 1
		fi
		target="PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config "
	fi
	fresh_typed "$name" "$(newcomers_line)" || { result="README's first line fails"; return 1; }
	fresh_typed "$name" 'git clone -q /fsync.bundle fsync' || return 1
	CI=true fresh_typed "$name" "cd fsync && export $target CI=true; ${check/make /make }" || status=$?
	result=$(tail -n 1 "$machines/$name.out")
	result="$(in_machine "$name" root bash -c "/usr/lib/postgresql/$major/bin/postgres --version" |
		sed 's/^postgres (PostgreSQL) //'): $result"
	return "$status"
}

# As on a PostgreSQL that is newer than RECORDS_NEWEST_TESTED of src/records.h.
later()
{
	make_machine later bookworm || { result="no machine"; return 1; }
	: >"$machines/later.log"
	fresh_typed later "$(newcomers_line)" && fresh_typed later 'git clone -q /fsync.bundle fsync' &&
		fresh_typed later "cd fsync && COPT=-DRECORDS_NEWEST_TESTED=12 make regress && COPT=-DRECORDS_NEWEST_TESTED=12 TESTS='test/t/001_basic.pl test/t/023_identity.pl test/t/032_user_objects.pl test/t/041_oracle.pl' make tap" ||
		return 1
	result=$(tail -n 1 "$machines/later.out")
}

# one NAME: runs it, and adds a line to the table.
one()
{
	local name=$1 start=$SECONDS ok=ok

	result=
	say ""
	say "== $name"
	case "$name" in
		fresh-*)
			: >"$machines/$name.log"
			fresh "${name#fresh-}" 'TRY_ONCE=1 make try' "$check" || ok=FAILED
			result=${result:-$(tail -n 1 "$machines/$name.out")} ;;
		docker) docker_steps || ok=FAILED ;;
		packages) packages_steps || ok=FAILED ;;
		later) later || ok=FAILED ;;
		13 | 15 | 17 | 18 | 19) version "$name" || ok=FAILED ;;
		*) die "unknown: $name" ;;
	esac
	[ "$ok" = ok ] || failed=$((failed + 1))
	table+=("$(printf '%-14s %-7s %4d s   %s' "$name" "$ok" $((SECONDS - start)) "$result")")
	[ -n "${KEEP:-}" ] || rm -rf "${machines:?}/$name" "${machines:?}/pg$name"
}

names=("$@")
[ $# -gt 0 ] || names=(fresh-nothing fresh-older fresh-gone fresh-newer 13 15 17 18 19 later
	packages docker)
for name in "${names[@]}"; do
	one "$name"
done

say ""
printf '%s\n' "${table[@]}"
[ "$failed" -eq 0 ]
