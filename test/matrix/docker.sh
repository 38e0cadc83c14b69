#!/bin/bash
#
# docker.sh: the steps of the Dockerfile without an engine.  Sourced by
# scripts/matrix.sh.
#
# The official image is Debian with packages of the same names, so a machine with
# Debian's server takes its place: the RUN lines of the first stage are run on
# one, what they install is copied to a second one, where those of the last stage
# are run, and then its CMD, as user postgres, on a new cluster.

# docker_runs STAGE: the commands of its RUN lines, one a line.
docker_runs()
{
	sed -e ':join' -e '/\\$/{N;s/\\\n[ \t]*//;b join' -e '}' Dockerfile |
		awk -v stage="$1" '/^FROM/ { n++ } n == stage && sub(/^RUN /, "")'
}

docker_steps()
{
	local major=15 stage name command

	command=$(sed -n 's/^CMD \["\(.*\)"\]$/\1/p' Dockerfile | sed 's/", "/ /g')
	result="a step fails"
	for stage in 1 2; do
		name=docker-$stage
		make_machine "$name" bookworm || return 1
		: >"$machines/$name.log"
		in_machine "$name" root bash -c "
			export DEBIAN_FRONTEND=noninteractive PG_MAJOR=$major
			mkdir -p /etc/postgresql-common/createcluster.d
			echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf
			apt-get -qq update && apt-get -qq -y --no-install-recommends install postgresql-$major git
			git clone -q /fsync.bundle /fsync" >>"$machines/$name.log" 2>&1 || return 1
		[ "$stage" = 1 ] || cp -a "$machines/docker-1/installed/." "$machines/docker-2/"
		in_machine "$name" root bash -ec "export DEBIAN_FRONTEND=noninteractive PG_MAJOR=$major
			$(docker_runs $stage)" >>"$machines/$name.log" 2>&1 ||
			{ tail -n 5 "$machines/$name.log"; return 1; }
	done

	result=$(in_machine docker-2 root bash -c "
		mkdir -p /srv/photos && echo hello >/srv/photos/hello.jpg
		exec runuser -u postgres -- bash -c '
			cd /tmp && PATH=/usr/lib/postgresql/$major/bin:\$PATH && export PGHOST=/tmp PGDATA=/tmp/data
			initdb -A trust -E UTF8 >/dev/null
			$command -c unix_socket_directories=/tmp -c listen_addresses= >log 2>&1 & server=\$!
			for i in \$(seq 600); do pg_isready -q && break; sleep 0.1; done
			psql -XqAt -c \"CREATE EXTENSION fsync\"
			psql -XqAt -c \"SELECT fsync_add_repository(\\\$\\\$/srv/photos\\\$\\\$)\" >/dev/null
			psql -XqAt -c \"SELECT fsync_wait()\" >/dev/null
			psql -XqAt -c \"SELECT file_path FROM file_records\"
			kill -INT \$server; wait \$server'" 2>&1 | tail -n 1)
	rm -rf "${machines:?}"/docker-[12]
	[ "$result" = hello.jpg ]
}
