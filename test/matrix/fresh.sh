#!/bin/bash
#
# fresh.sh: a newcomer's first hour.  Sourced by scripts/matrix.sh.
#
# On a machine where nothing was installed by hand, an ordinary user with sudo
# types what README's first lines say; then it is looked whether anything was
# done to a server that was there.  The ways to meet PostgreSQL:
#
#	nothing		there is none
#	older		a server runs that is older than what the archive offers now
#	gone		the same, and the archive has no headers of its version any more
#	newer		the same, and somebody installed the newer headers

# fresh KIND COMMAND…: true if all went well.  The commands are what make is
# called with in the clone, in turn.
fresh()
{
	local kind=$1 name=fresh-$1 before= after ok=yes command
	shift

	make_machine "$name" bookworm || { say "could not make the machine"; return 1; }
	if [ "$kind" != nothing ]; then
		fresh_older_server "$name" || { say "could not install an older server"; return 1; }
		before=$(fresh_server "$name")
		say "the server: $(head -n 1 <<<"$before")"
	fi
	case "$kind" in
		gone) fresh_forbid "$name" ;;
		newer) fresh_newer_headers "$name" || { say "could not install newer headers"; return 1; } ;;
	esac

	fresh_typed "$name" "$(newcomers_line)" || ok=no
	fresh_typed "$name" 'git clone -q /fsync.bundle fsync' || ok=no
	for command in "$@"; do
		fresh_typed "$name" "cd fsync && $command" || ok=no
	done

	if [ "$kind" = newer ]; then
		fresh_refused "$name" || ok=no
	fi
	if [ "$kind" != nothing ]; then
		after=$(fresh_server "$name")
		[ "$before" = "$after" ] || { say "the server was changed: $after"; ok=no; }
	fi
	[ "$ok" = yes ]
}

# What README says to type where git and make are missing.
newcomers_line()
{
	sed -n '/^## Try it/,/^## /{s/^    \(sudo apt-get.*\)$/\1/p}' README.md | head -n 1
}

# fresh_typed NAME COMMAND: as the newcomer, in his home.
fresh_typed()
{
	local status=0

	say "newcomer\$ $2"
	in_machine "$1" newcomer bash -c "$2" >"$machines/$1.out" 2>&1 || status=$?
	tail -n "${FRESH_LINES:-3}" "$machines/$1.out" | sed 's/^/    /'
	cat "$machines/$1.out" >>"$machines/$1.log"
	[ "$status" -eq 0 ] || say "    exit status $status"
	return "$status"
}

# The release's own server, from the time before the security suite had a newer
# one, with a cluster; the processes of a machine end with each command, so what
# would restart the cluster is seen by a line in its log.
fresh_older_server()
{
	mv "$machines/$1/etc/apt/sources.list.d/security.list" "$machines/$1/root/"
	in_machine "$1" root bash -c '
		export DEBIAN_FRONTEND=noninteractive
		printf "#!/bin/sh\necho \"\$@\" >>/root/services\nexit 101\n" >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
		apt-get -qq update && apt-get -qq -y --no-install-recommends install postgresql-15
		: >/root/services' >>"$machines/$1.log" 2>&1 || return 1
	mv "$machines/$1/root/security.list" "$machines/$1/etc/apt/sources.list.d/"
}

# Its version, that of its packages, its configuration, what services were asked
# to do, and the clusters.
fresh_server()
{
	in_machine "$1" root bash -c '
		/usr/lib/postgresql/15/bin/postgres --version
		dpkg-query -W "postgresql-15" "postgresql-client-15" "postgresql-common" | sort
		find /etc/postgresql /var/lib/postgresql -type f | sort | xargs cat | cksum
		cat /root/services
		ls /etc/postgresql/15 /etc/postgresql-common/createcluster.d 2>/dev/null'
}

# Somebody installed what the archive has now, and apt was told to leave the server.
fresh_newer_headers()
{
	in_machine "$1" root bash -c '
		apt-get -qq update && apt-get -qq -y -o APT::Get::Upgrade-By-Source-Package=false \
			--no-install-recommends install postgresql-server-dev-15
		[ "$(dpkg-query -W -f "\${Version}" postgresql-server-dev-15)" != \
			"$(dpkg-query -W -f "\${Version}" postgresql-15)" ]' >>"$machines/$1.log" 2>&1
}

# The archive no longer has what is installed.
fresh_forbid()
{
	printf 'Package: src:postgresql-15\nPin: version %s\nPin-Priority: -1\n' \
		"$(in_machine "$1" root dpkg-query -W -f '${Version}' postgresql-15)" \
		>"$machines/$1/etc/apt/preferences.d/gone"
}

# "make install" says that the headers are too new, and installs nothing.
fresh_refused()
{
	say "newcomer\$ make && sudo make install"
	if in_machine "$1" newcomer bash -c 'cd fsync && make -s && sudo make -s install' >"$machines/$1.out" 2>&1; then
		say "    was not refused"
		return 1
	fi
	sed 's/^/    /' "$machines/$1.out" | tail -n 7
	grep -q 'are newer than the server' "$machines/$1.out" &&
		[ ! -e "$machines/$1/usr/lib/postgresql/15/lib/fsync.so" ]
}
