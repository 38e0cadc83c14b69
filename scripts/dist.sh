#!/bin/bash
#
# dist.sh: the tarball of a release, fsync-VERSION.tar.gz, of what is committed.
#
# VERSION is META.json's; fsync.control, the install script, debian/changelog and
# CHANGELOG.md have to agree with it.

set -euo pipefail
cd "$(dirname "$0")/.."

die()
{
	echo "dist: $*" >&2
	exit 1
}

version=$(sed -n 's/^    "version": "\(.*\)",$/\1/p' META.json)
short=${version%.*}

[ "$(sed -n "s/^default_version = '\(.*\)'$/\1/p" fsync.control)" = "$short" ] ||
	die "fsync.control is not of version $short"
[ -e "fsync--$short.sql" ] || die "there is no fsync--$short.sql"
grep -q "\"file\": \"fsync--$short.sql\"" META.json || die "META.json provides another script"
grep -q "EXTENSION_VERSION	\"$short\"" src/fsync.h || die "src/fsync.h is not of version $short"
head -n 1 CHANGELOG.md | grep -q "^## $short " || die "CHANGELOG.md does not begin with $short"
head -n 1 debian/changelog | grep -q "($version-" || die "debian/changelog does not begin with $version"

git archive --format=tar --prefix="fsync-$version/" HEAD | gzip -n9 >"fsync-$version.tar.gz"
echo "fsync-$version.tar.gz"
