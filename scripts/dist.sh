#!/usr/bin/env bash
# Builds the release into dist/: one static binary for each system, packed with
# the licence and the files that run it, and their checksums. The same source
# and the same Go give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^const Version = "\(.*\)"$/\1/p' doc.go)
[ -n "$version" ] || {
	echo "doc.go names no Version" >&2
	exit 1
}
epoch=$(git log -1 --format=%ct)

rm -rf dist
mkdir dist
for system in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	name=keystile-$version-${system/\//-}
	mkdir "dist/$name"
	CGO_ENABLED=0 GOOS=${system%/*} GOARCH=${system#*/} go build -trimpath -ldflags '-s -w' -o "dist/$name/keystile" ./cmd/keystile
	cp -R LICENSE README.md CHANGELOG.md deploy examples "dist/$name/"
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C dist -cf - "$name" | gzip -9n >"dist/$name.tar.gz"
	rm -r "dist/$name"
	echo "dist/$name.tar.gz"
done
(cd dist && sha256sum -- *.tar.gz >SHA256SUMS)
echo "dist/SHA256SUMS"
