#!/bin/bash
#
# packages.sh: Debian packages, and PGXN's.  Sourced by scripts/matrix.sh.
#
# Built twice, in different directories: byte-identical; lintian finds no error;
# autopkgtest, on the installed package, passes; "pgxn install ./" installs.

packages_steps()
{
	local name=packages

	make_machine "$name" bookworm || return 1
	: >"$machines/$name.log"
	result="a step fails"
	in_machine "$name" root bash -ec '
		export DEBIAN_FRONTEND=noninteractive
		apt-get -qq update
		apt-get -qq -y --no-install-recommends install autopkgtest build-essential debhelper \
			dpkg-dev fakeroot git libseccomp-dev libssl-dev lintian pgxnclient pkg-config \
			postgresql-server-dev-all
		cd /root
		mkdir -p one another/one/deeper
		for place in one another/one/deeper; do
			git clone -q /fsync.bundle $place/fsync
			(cd $place/fsync && pg_buildext updatecontrol && git diff --exit-code &&
				dpkg-buildpackage -us -uc -b)
		done
		for package in one/*.deb; do
			cmp $package another/one/deeper/${package#one/}
			echo "identical: $package"
		done
		readelf -d one/fsync/debian/*/usr/lib/postgresql/*/lib/fsync-tree | grep -q BIND_NOW
		lintian --fail-on error one/*.changes
		autopkgtest one/fsync one/*.deb -- null
		cd one/fsync && make dist && PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config pgxn install --yes ./
		test -e /usr/share/postgresql/15/extension/fsync.control' \
		>>"$machines/$name.log" 2>&1 || { tail -n 15 "$machines/$name.log"; return 1; }
	result=$(grep -c '^identical: ' "$machines/$name.log")
	result="$result packages byte-identical, lintian without errors, autopkgtest passes"
}
