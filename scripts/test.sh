#!/usr/bin/env bash
# Everything that must hold before a change lands: `make test`, and nothing else,
# is what CI runs. All steps run, even after one has failed; the last line says
# how it went.
set -uo pipefail
cd "$(dirname "$0")/.."

begin=$SECONDS
failed=()

# step NAME COMMAND…: prints the name, and what the command prints only if it fails.
step() {
	local name=$1 out start=$SECONDS
	shift
	if out=$("$@" 2>&1 </dev/null); then
		printf '%-34s %4ds\n' "$name" $((SECONDS - start))
	else
		printf '%-34s %4ds  FAILED\n%s\n' "$name" $((SECONDS - start)) "$out"
		failed+=("$name")
	fi
}

formatted() {
	local files
	files=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 -r gofmt -l) || return 1
	[ -z "$files" ] || {
		printf 'not formatted; run make fmt:\n%s\n' "$files"
		return 1
	}
}

scripts_parse() {
	local file
	for file in scripts/*.sh .ci/run; do
		bash -n "$file" || return 1
	done
}

if ! scripts/tools.sh; then
	echo "make test: FAILED before it began: see what is missing above"
	exit 1
fi

step "scripts parse" scripts_parse
step "gofmt" formatted
step "go.mod is tidy" go mod tidy -diff
# All of these without cgo, as the program is released, and as the tests build
# it: with and without would be every package twice, from the standard library on.
export CGO_ENABLED=0
# The compiler, the linter and the tests end soon and have the memory: collecting
# garbage early is a tenth to a quarter of their time.
export GOGC=300
step "builds without cgo" go build ./...
step "golangci-lint, with go vet" scripts/lint.sh

start=$SECONDS
# SQLite is C translated to Go and keeps its data in memory of its own, which the
# race detector does not watch. Instrumenting it finds nothing and doubles the
# time. The others are parsers: they read a text, and share nothing. 15 minutes
# are for a machine with two cores and a cold build cache. What debuggers need is
# not made: a trace and the race detector's report read the program's own tables.
plain=(-ldflags=-w -gcflags=all=-dwarf=false)
for package in modernc.org/sqlite/lib modernc.org/libc/... modernc.org/memory \
	github.com/goccy/go-yaml/... golang.org/x/net/html text/template/parse; do
	plain+=("-gcflags=$package=-race=false -dwarf=false")
done
# Packages start in this order: the longest first, so that none is left alone at
# the end. The linter has vetted them.
longest=(./internal/dashboard ./internal/server ./internal/api ./cmd/keystile ./internal/keyring ./internal/cluster ./internal/store ./internal/courier)
if CGO_ENABLED=1 go test -race "${plain[@]}" -vet=off -count=1 -timeout 15m "$@" "${longest[@]}" ./... </dev/null; then
	printf '%-34s %4ds\n' "go test -race" $((SECONDS - start))
else
	printf '%-34s %4ds  FAILED\n' "go test -race" $((SECONDS - start))
	failed+=("go test -race")
fi

took=$((SECONDS - begin))
if [ ${#failed[@]} -gt 0 ]; then
	list=$(printf ', %s' "${failed[@]}")
	echo "make test: FAILED after ${took}s: ${list:2}"
	exit 1
fi
echo "make test: everything passed in ${took}s"
