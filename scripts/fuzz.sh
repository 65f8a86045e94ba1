#!/usr/bin/env bash
# Runs every fuzz target of the tree, one after the other, for FUZZTIME each.
# What one finds stays in its testdata/ and is from then on a test.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${FUZZTIME:=10s}"
count=0
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$package"
		count=$((count + 1))
	done
done
[ "$count" -gt 0 ] || {
	echo "no fuzz target found" >&2
	exit 1
}
echo "make fuzz: $count targets, $FUZZTIME each, nothing found"
