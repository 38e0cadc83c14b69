#!/bin/bash
#
# enter.sh ROOT PACKAGES USER COMMAND…
#		Called by lib.sh in namespaces of its own: makes ROOT the root directory
#		and runs the command there as USER.

set -euo pipefail

root=$1 packages=$2 user=$3
shift 3

mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty fuse; do
	[ ! -e "/dev/$node" ] || { touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; }
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount --bind "$packages" var/cache/apt/archives
pivot_root . .old
umount -l /.old
cd /

home=/root
[ "$user" = root ] || home=/home/$user
# No "exec": the first process of the namespace stays, and reaps.
setpriv --reuid "$user" --regid "$user" --init-groups --inh-caps=-all \
	env -i HOME="$home" USER="$user" LOGNAME="$user" TERM=dumb LANG=C.UTF-8 \
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	${CI:+CI="$CI"} bash -c 'cd; exec "$@"' bash "$@"
