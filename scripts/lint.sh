#!/usr/bin/env bash
# lint.sh         runs golangci-lint on the whole tree
# lint.sh fmt     formats it
#
# It takes the one version that .golangci.yml is written for. Where that is not
# installed it is built once, from the Go module proxy, and kept in the user's
# cache.
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.15.0
kept="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/keystile/golangci-lint-$version"

is_wanted() { [ -x "$1" ] && "$1" version 2>/dev/null | grep -q "version $version "; }

linter=
for candidate in "$kept/golangci-lint" "$(command -v golangci-lint || true)" "$(go env GOPATH)/bin/golangci-lint"; do
	if is_wanted "$candidate"; then
		linter=$candidate
		break
	fi
done
if [ -z "$linter" ]; then
	echo "building golangci-lint $version, once"
	GOBIN=$kept CGO_ENABLED=0 go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version"
	linter=$kept/golangci-lint
fi
case ${1:-run} in
run) exec "$linter" run ./... ;;
fmt) exec "$linter" fmt ./... ;;
*)
	echo "lint.sh knows run and fmt" >&2
	exit 2
	;;
esac
