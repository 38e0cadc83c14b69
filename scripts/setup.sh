#!/bin/bash
#
# setup.sh [build|check|bench|fuzz]
#		Installs the Debian packages that are missing, and nothing else.
#
# build is what "make" and "make try" need, check what the tests need as
# well, bench what fsync is compared with, fuzz adds clang's fuzzer.  Needs
# root, or sudo, only if something is missing.  Package lists are updated before
# anything is installed.
#
# An installed server is never upgraded, restarted or reconfigured.  Which one
# is meant is decided in postgres.sh; this script gets the headers that fit it:
#
#	server and headers are there		nothing
#	server, no headers					the headers of the server's own version
#	... which the archive has not, or	a copy of the archive's server and headers
#	headers newer than the server		below build/postgresql, unpacked as the user
#										who calls, for private servers only
#	no server							Debian's own for this release, or the one
#										that PG_CONFIG or installed headers name
#
# Installing a server normally creates and starts a cluster "main".  That is the
# administrator's choice and not ours, so it is switched off meanwhile.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/postgres.sh

packages=(gcc libc6-dev make libseccomp-dev libssl-dev pkg-config)
# What tests are skipped without: not every release has it for every server.
optional=()
postgres_wanted=yes

case "${1:-build}" in
	build) ;;
	check)
		packages+=(git libipc-run-perl perl valgrind)
		# file systems to test on
		optional+=(btrfs-progs dosfstools exfat-fuse exfatprogs mergerfs ntfs-3g xfsprogs)
		# for the examples
		optional+=(python3-psycopg) ;;
	bench) packages+=(inotify-tools openssl perl watchman) ;;
	fuzz) packages+=(clang libclang-rt-dev); postgres_wanted= ;;
	*) echo "usage: $0 [build|check|bench|fuzz]" >&2; exit 2 ;;
esac

log=$(mktemp)
no_cluster=/etc/postgresql-common/createcluster.d/zz-fsync-setup.conf
wrote_no_cluster=
as_root=()
updated=

cleanup()
{
	[ -z "$wrote_no_cluster" ] || "${as_root[@]}" rm -f "$no_cluster"
	rm -f "$log"
}
trap cleanup EXIT

fail()
{
	cat "$log" >&2
	echo "setup: $1" >&2
	exit 1
}

# The installed version of a package; nothing if it is not installed.
installed_version()
{
	{ dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null || :; } |
		sed -n 's/^installed //p'
}

# Those of the packages that are not installed, one a line.
missing()
{
	local package

	for package in "$@"; do
		[ -n "$(installed_version "${package%%=*}")" ] || echo "$package"
	done
}

# apt-get as root.  Without the option, whoever installs one package of a source
# upgrades all others of it: a server, where it was its headers that were asked
# for.
apt()
{
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
		apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
		-o APT::Get::Upgrade-By-Source-Package=false "$@" </dev/null >"$log" 2>&1
}

# Once, and before anything is decided by what the archive has.
update()
{
	[ -z "$updated" ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null ||
			fail "packages are missing and there is no sudo; as root: $0 ${1:-}"
		as_root=(sudo)
	fi
	echo "setup: updating the package lists"
	apt update || fail "apt-get update failed"
	updated=yes
}

# installable PACKAGE…: apt can install them, and leaves alone every server that
# is installed, and what belongs to it.
installable()
{
	apt -s install --no-install-recommends "$@" &&
		! grep -qE '^(Inst postgresql(-client|-contrib)?-[0-9.]+ \[|Remv postgresql)' "$log"
}

# The major version that Debian's own package "postgresql" stands for.
default_major()
{
	apt-cache depends postgresql | sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}

# A server and its headers, of the archive's version, below build/.  They run
# with the libraries of the installed server.
unpack_private()
{
	local major=$1 dir=build/postgresql/$1 package

	echo "setup: unpacking server and headers of PostgreSQL $major below $dir: $2"
	rm -rf "$dir"
	mkdir -p "$dir/packages"
	(cd "$dir/packages" && apt-get -qq download "postgresql-$major" "postgresql-client-$major" \
		"postgresql-server-dev-$major") >"$log" 2>&1 || fail "apt-get download failed"
	for package in "$dir"/packages/*.deb; do
		dpkg-deb -x "$package" "$dir" || fail "could not unpack $package"
	done
	rm -rf "$dir/packages"
	postgres_fits "$(postgres_private "$major")" ||
		fail "the copy of PostgreSQL $major does not find its own files"
}

# Debian's exporter and promtool, below build/: their packages would start services.
# What cannot be had is tried once, and its tests are skipped.
unpack_prometheus()
{
	local dir=build/prometheus package

	[ ! -e "$dir" ] || return 0
	echo "setup: unpacking prometheus and prometheus-postgres-exporter below $dir"
	mkdir -p "$dir/packages"
	if (cd "$dir/packages" && apt-get -qq download prometheus prometheus-postgres-exporter) >"$log" 2>&1; then
		for package in "$dir"/packages/*.deb; do
			dpkg-deb -x "$package" "$dir" || fail "could not unpack $package"
		done
	else
		echo "setup: without them, which cannot be had here; the tests that need them are skipped"
	fi
	rm -rf "$dir/packages"
}

# Where private servers are copies of what is below build/: pg_cron, which a test
# uses and a package has put beside the installed server, has to be there, too.
copy_pg_cron()
{
	local pg_config major file

	pg_config=$(postgres_for_tests)
	[[ $pg_config == "$PWD/build/postgresql/"* ]] || return 0
	major=$(postgres_major "$pg_config")
	for file in "/usr/share/postgresql/$major/extension"/pg_cron* \
		"$postgres_root/$major/lib/pg_cron.so"; do
		[ ! -e "$file" ] || [ -e "build/postgresql/$major$file" ] ||
			cp "$file" "build/postgresql/$major$file"
	done
}

# Adds what is missing of PostgreSQL to packages and optional, or unpacks it.
want_postgres()
{
	local pg_config major version headers

	pg_config=$(postgres_for_tests)
	if [ -n "$pg_config" ] && postgres_fits "$pg_config"; then
		major=$(postgres_major "$pg_config")
		[ "$1" != check ] || optional+=("postgresql-$major-cron")
		return
	fi
	pg_config=$(postgres_pg_config)
	if [ -n "$pg_config" ]; then
		major=$(postgres_debian_major "$pg_config")
		[ -n "$major" ] || fail "$(postgres_explain "$pg_config")"
		update "$1"
	else
		update "$1"
		major=$(default_major)
		[ -n "$major" ] || fail "this release has no package \"postgresql\": name a server with PG_CONFIG=/path/to/pg_config"
	fi

	[ "$1" != check ] || optional+=("postgresql-$major-cron")
	version=$(installed_version "postgresql-$major")
	headers=$(installed_version "postgresql-server-dev-$major")
	if [ -z "$version" ]; then
		packages+=("postgresql-$major" "postgresql-server-dev-$major")
	elif [ -n "$headers" ]; then
		unpack_private "$major" "the installed headers ($headers) are newer than the server ($version)"
	elif installable "postgresql-server-dev-$major=$version"; then
		packages+=("postgresql-server-dev-$major=$version")
	else
		unpack_private "$major" "the archive has no headers of the installed server's version ($version)"
	fi
}

if ! command -v dpkg-query >/dev/null; then
	echo "setup: not a Debian system; please install what corresponds to: ${packages[*]}, and a PostgreSQL server with its headers" >&2
	exit 0
fi

[ -z "$postgres_wanted" ] || want_postgres "${1:-build}"

mapfile -t wanted < <(missing "${packages[@]}")
mapfile -t optional < <(missing ${optional[@]+"${optional[@]}"})
if [ $((${#wanted[@]} + ${#optional[@]})) -eq 0 ]; then
	[ -z "$postgres_wanted" ] || copy_pg_cron
	[ "${1:-build}" != check ] || unpack_prometheus
	exit 0
fi

# Only what is optional, and it is known already that it cannot be had.
if [ ${#wanted[@]} -eq 0 ] && [ -e build/setup-without ] &&
	[ "$(cat build/setup-without)" = "${optional[*]}" ]; then
	[ "${1:-build}" != check ] || unpack_prometheus
	exit 0
fi
without=()

update "${1:-build}"
for package in ${optional[@]+"${optional[@]}"}; do
	if installable ${wanted[@]+"${wanted[@]}"} "$package"; then
		wanted+=("$package")
	else
		echo "setup: without $package, which cannot be had here; the tests that need it are skipped"
		without+=("$package")
	fi
done
mkdir -p build
echo "${without[*]}" >build/setup-without
[ "${1:-build}" != check ] || unpack_prometheus
[ ${#wanted[@]} -gt 0 ] || exit 0

installable "${wanted[@]}" ||
	fail "these packages cannot be installed, or not without changing an installed server: ${wanted[*]}"

echo "setup: installing ${wanted[*]}"

if [[ " ${wanted[*]} " =~ \ postgresql-[0-9]+(=[^ ]*)?\  && ! -e $no_cluster ]]; then
	"${as_root[@]}" mkdir -p "${no_cluster%/*}"
	wrote_no_cluster=yes
	echo "create_main_cluster = false" | "${as_root[@]}" tee "$no_cluster" >/dev/null
fi

apt install -y --no-install-recommends "${wanted[@]}" || fail "apt-get install failed"

mapfile -t wanted < <(missing "${packages[@]}")
[ ${#wanted[@]} -eq 0 ] || fail "still missing: ${wanted[*]}"
[ -z "$postgres_wanted" ] || copy_pg_cron
