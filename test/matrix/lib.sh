#!/bin/bash
#
# lib.sh: trees of other releases of Debian, as machines to test on.  Sourced by
# scripts/matrix.sh, as root, from the checkout.
#
# A machine is a directory made by debootstrap below $machines, entered by
# pivot_root in namespaces of its own: in a plain chroot the kernel refuses user
# namespaces, and tests that want them skip themselves.  It has its own /proc,
# /dev and processes; what is committed in the checkout is there as a bundle to
# clone, and the directory of downloaded packages is shared by all machines of a
# release.
#
# Archives are those of this machine's own apt, so none is named here.

machines=${MACHINES:-$PWD/build/matrix}

checkout=$PWD

# The archive of this machine's release, and that of its security updates.
main_archive()
{
	apt-get indextargets --format '$(REPO_URI) $(SUITE) $(COMPONENT)' 'Identifier: Packages' |
		awk '$2 !~ /security|updates|backports/ && $3 == "main" { print $1; exit }'
}

security_archive()
{
	apt-get indextargets --format '$(REPO_URI) $(SUITE) $(COMPONENT)' 'Identifier: Packages' |
		awk '$2 ~ /security/ && $3 == "main" { print $1; exit }'
}

# make_machine NAME SUITE: a new one, with nothing but what debootstrap needs and
# an ordinary user "newcomer" who may use sudo.
make_machine()
{
	local root=$machines/$1 suite=$2 mirror security

	mirror=$(main_archive)
	security=$(security_archive)
	mkdir -p "$machines/downloads/$suite/partial"
	rm -rf "$root"
	if [ ! -e "$machines/base-$suite.tar" ]; then
		debootstrap --variant=minbase --include=sudo,ca-certificates "$suite" "$root" "$mirror" \
			>"$machines/debootstrap-$suite.log" 2>&1 || return 1
		rm -f "$root"/var/cache/apt/archives/*.deb
		tar -C "$root" -cf "$machines/base-$suite.tar" .
	else
		mkdir -p "$root"
		tar -C "$root" -xf "$machines/base-$suite.tar"
	fi
	cp /etc/resolv.conf /etc/hosts "$root/etc/"
	echo machine >"$root/etc/hostname"
	echo "deb $mirror $suite main" >"$root/etc/apt/sources.list"
	if [ "$suite" != sid ]; then
		echo "deb $security $suite-security main" >"$root/etc/apt/sources.list.d/security.list"
	fi
	# An archive that is a snapshot of some day.
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/snapshot"
	chroot "$root" useradd -m -s /bin/bash newcomer
	echo 'newcomer ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/newcomer"
	mkdir -p "$root/.old"
	git bundle create -q "$root/fsync.bundle" HEAD $(git symbolic-ref -q --short HEAD)
}

# in_machine NAME USER COMMAND…: runs it there, in the user's home.
in_machine()
{
	local root=$machines/$1 user=$2 suite
	shift 2

	suite=$(sed -n 's/^deb [^ ]* \([a-z]*\) main$/\1/p' "$root/etc/apt/sources.list" | head -n 1)
	unshare --mount --pid --ipc --fork --kill-child --propagation private \
		bash "$checkout/test/matrix/enter.sh" "$root" "$machines/downloads/$suite" \
		"$user" "$@" </dev/null
}
