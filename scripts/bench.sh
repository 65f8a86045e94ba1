#!/usr/bin/env bash
# Measures what a check, memory, starts and writes cost with a growing number of
# keys, beside the least they could cost, and prints which goals are reached.
# Draws plots into docs/ and writes samples to bench/latest.txt, which benchstat
# compares with those of another run.
#
#   KEYS=1000,100000        numbers of keys, the smallest first
#   QUICK=1                 everything once, for a look
#   DATABASE=postgres://…   measures starts on PostgreSQL too
#   PLOTS=DIR, SAMPLES=FILE where the results go
set -euo pipefail
cd "$(dirname "$0")/.."

: "${KEYS:=1000,10000,100000,1000000,10000000}"
: "${PLOTS:=docs}"
: "${SAMPLES:=bench/latest.txt}"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
go build -trimpath -o "$build/keystile" ./cmd/keystile
args=(--keys "$KEYS" --plots "$PLOTS" --baseline "$SAMPLES")
[ -z "${QUICK:-}" ] || args+=(--quick)
[ -z "${DATABASE:-}" ] || args+=(--database "$DATABASE")
"$build/keystile" bench "${args[@]}"
if [ -f bench/baseline.txt ] && command -v benchstat >/dev/null; then
	benchstat bench/baseline.txt "$SAMPLES"
fi
