# PostgreSQL's official image with fsync in it:
#
#	docker build --build-arg PG_MAJOR=17 -t fsync .
#
# compose.yaml shows how to run it.  The headers are those of the image's own
# server: if the archive no longer has them, pull a newer image.

ARG PG_MAJOR=17

FROM postgres:${PG_MAJOR} AS build
ARG PG_MAJOR
RUN apt-get update && \
	apt-get install -y --no-install-recommends gcc libc6-dev make libssl-dev libseccomp-dev pkg-config \
		postgresql-server-dev-${PG_MAJOR}=$(dpkg-query -W -f '${Version}' postgresql-${PG_MAJOR})
COPY . /fsync
RUN export PG_CONFIG=/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config && \
	make -C /fsync clean && make -C /fsync -j2 && make -C /fsync install DESTDIR=/installed

FROM postgres:${PG_MAJOR}
RUN apt-get update && \
	apt-get install -y --no-install-recommends libseccomp2 libssl3 && \
	rm -rf /var/lib/apt/lists/*
COPY --from=build /installed /
CMD ["postgres", "-c", "shared_preload_libraries=fsync"]
