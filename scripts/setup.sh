#!/bin/bash
#
# setup.sh [build|check|bench|fuzz]
#		Installs the Debian packages that are missing, and nothing else.
#
# build is what "make" and "make try" need, check what the tests need as
# well, bench what fsync is compared with, fuzz adds clang's fuzzer.  Needs
# root, or sudo, only if something is missing.
#
# Installing postgresql-15 normally creates and starts a cluster "main".  That
# is the administrator's choice and not ours, so it is switched off while this
# script installs the package; clusters that exist are never touched, and an
# installation that would upgrade (and so restart) a server is refused.

set -euo pipefail

packages=(gcc libc6-dev make libssl-dev postgresql-15 postgresql-server-dev-15)

case "${1:-build}" in
	build) ;;
	check) packages+=(git postgresql-15-cron libipc-run-perl perl valgrind) ;;
	bench) packages+=(inotify-tools openssl perl watchman) ;;
	fuzz) packages+=(clang libclang-rt-dev) ;;
	*) echo "usage: $0 [build|check|bench|fuzz]" >&2; exit 2 ;;
esac

# Which of the packages are not installed, one a line.
missing_packages()
{
	local package

	for package in "${packages[@]}"; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null |
			grep -q '^installed$' || echo "$package"
	done
}

if ! command -v dpkg-query >/dev/null; then
	echo "setup: not a Debian system; please install what corresponds to: ${packages[*]}" >&2
	exit 0
fi

mapfile -t missing < <(missing_packages)
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "setup: packages are missing and there is no sudo; as root: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi

echo "setup: installing ${missing[*]}"

log=$(mktemp)
no_cluster=/etc/postgresql-common/createcluster.d/zz-fsync-setup.conf
wrote_no_cluster=

cleanup()
{
	[ -z "$wrote_no_cluster" ] || "${as_root[@]}" rm -f "$no_cluster"
	rm -f "$log"
}
trap cleanup EXIT

apt()
{
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
		apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
		-o Acquire::Retries=3 "$@" </dev/null >"$log" 2>&1
}

fail()
{
	cat "$log" >&2
	echo "setup: $1" >&2
	exit 1
}

# The lists may be absent (a fresh machine, a container) or too old.
apt -s install --no-install-recommends "${missing[@]}" ||
	apt update || fail "apt-get update failed"
apt -s install --no-install-recommends "${missing[@]}" ||
	fail "these packages cannot be installed: ${missing[*]}"

if grep -q '^Inst postgresql-15 \[' "$log"; then
	echo "setup: this would upgrade the installed server and restart its clusters;" >&2
	echo "setup: please do that yourself when it suits: apt-get install postgresql-15 ${missing[*]}" >&2
	exit 1
fi

if [[ " ${missing[*]} " == *" postgresql-15 "* && ! -e $no_cluster ]]; then
	"${as_root[@]}" mkdir -p "${no_cluster%/*}"
	echo "create_main_cluster = false" | "${as_root[@]}" tee "$no_cluster" >/dev/null
	wrote_no_cluster=yes
fi

apt install -y --no-install-recommends "${missing[@]}" ||
	{ apt update && apt install -y --no-install-recommends "${missing[@]}"; } ||
	fail "apt-get install failed"

mapfile -t missing < <(missing_packages)
[ ${#missing[@]} -eq 0 ] || fail "still missing: ${missing[*]}"
