#!/bin/sh
#
# disks.sh DIRECTORY USER COMMAND...
#		Runs a command in a mount namespace of its own, in which there are file
#		systems for t/094_file_systems.pl: each at DIRECTORY/<type>, most on a loop
#		device, and USER's.  As root.
#
# What the machine lacks is left out; the test says what it did not find.  All
# is gone when the command has ended, however it ended.

set -u

[ "$#" -ge 3 ] && [ "$(id -u)" -eq 0 ] ||
	{ echo "usage (as root): disks.sh DIRECTORY USER COMMAND..." >&2; exit 2; }
directory=$1
user=$2
if [ -z "${FSYNC_TEST_DISKS:-}" ]; then
	if unshare --mount --propagation private true 2>/dev/null; then
		FSYNC_TEST_DISKS=$directory exec unshare --mount --propagation private "$0" "$@"
	fi

	# a container that may mount nothing
	shift 2
	exec "$@"
fi
shift 2
uid=$(id -u "$user") && gid=$(id -g "$user") || exit 2
mkdir -p "$directory"

# Servers of FUSE end when what they serve is unmounted.
clear_away()
{
	for place in "$directory"/*; do
		if mountpoint -q "$place"; then
			umount -l "$place"
		fi
	done
}
trap clear_away EXIT
trap 'exit 130' INT TERM

# type, megabytes, options of mount, and what makes it
disk()
(
	type=$1 size=$2 options=$3 maker=$4
	image=$directory/$type.image
	place=$directory/$type

	shift 3
	command -v "$maker" >/dev/null || return
	truncate -s "${size}M" "$image" && "$@" "$image" >/dev/null 2>&1 || return
	mkdir -p "$place"
	if [ -n "${server:-}" ]; then
		# of FUSE: it wants the device itself
		loop=$(losetup --find --show "$image") || return
		"$server" -o "$options" "$loop" "$place" >/dev/null 2>&1
		losetup --detach "$loop"
	else
		mount -o "loop,$options" "$image" "$place" 2>/dev/null
	fi
	if mountpoint -q "$place"; then
		chown "$user": "$place" 2>/dev/null
	else
		rmdir "$place"
	fi
	rm -f "$image"
)

owner="uid=$uid,gid=$gid,umask=022"

disk ext4 64 nosuid mkfs.ext4 -q -F
disk ext2 32 nosuid mkfs.ext2 -q -F
disk xfs 320 nosuid mkfs.xfs -q -f
disk btrfs 128 nosuid,user_subvol_rm_allowed mkfs.btrfs -q -f
disk vfat 32 "$owner" mkfs.vfat
server=mount.exfat-fuse disk exfat 32 "$owner,allow_other" mkfs.exfat
server=lowntfs-3g disk ntfs 32 "$owner,allow_other,ignore_case" mkntfs -Q -F

if command -v mergerfs >/dev/null; then
	mkdir -p "$directory/branches/a" "$directory/branches/b" "$directory/mergerfs"
	mergerfs -o allow_other "$directory/branches/a:$directory/branches/b" \
		"$directory/mergerfs" >/dev/null 2>&1 || rmdir "$directory/mergerfs"
	chown -R "$user": "$directory/branches"
fi

"$@"
