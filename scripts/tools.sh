#!/usr/bin/env bash
# Installs what the tests need beside Go, where that is allowed: as root or with
# sudo that asks for no password, on a system with apt-get. Elsewhere it says
# what to install and ends with 1.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() {
	[ -n "${KEYSTILE_TEST_POSTGRES:-}" ] && return 0
	have initdb && return 0
	local dir
	for dir in /usr/lib/postgresql/*/bin; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && return 0
	done
	return 1
}
have_libc() { echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1; }

missing() {
	have_postgres || echo postgresql # the store runs on it; a server of our own, see internal/pgtest
	have nginx || [ -x /usr/sbin/nginx ] || echo nginx # forward-auth is proved behind it
	have gcc || echo gcc # the race detector needs cgo
	have_libc || echo libc6-dev
	have git || echo git # keystile scan reads what is staged
	have curl || echo curl # the lines that serve prints are run as they are
	have make || echo make
	have node || echo nodejs # an OpenID provider to sign in with: npm's oidc-provider
	have npm || echo npm     # which installs it, see scripts/npm.sh
	have chromium || [ -x "${KEYSTILE_TEST_CHROMIUM:-}" ] || echo chromium # the manuals are followed in a browser
}

if ! have go; then
	echo "Go is missing: install the version that go.mod names, or newer, from https://go.dev/dl/" >&2
	exit 1
fi

# npm's packages: the provider's go into the user's cache, once; the others are
# the ones that the lock files name, for the browser's walks and for the
# libraries that webhooks are held against.
npm_packages() {
	"$(dirname "$0")/npm.sh" oidc-provider 8.8.1 >/dev/null
	local dir
	for dir in internal/dashboard/browser testdata/webhook; do
		dir=$(dirname "$0")/../$dir
		[ "$dir/node_modules/.package-lock.json" -nt "$dir/package-lock.json" ] ||
			npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
	done
}

wanted=$(missing | tr '\n' ' ')
if [ -z "$wanted" ]; then
	npm_packages
	exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	as_root=(sudo -n)
fi
if ! have apt-get || { [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; }; then
	echo "The tests need programs that are not installed. Install them, for example with" >&2
	echo "    sudo apt-get install -y --no-install-recommends $wanted" >&2
	echo "(A PostgreSQL elsewhere serves as well: set KEYSTILE_TEST_POSTGRES to its URL.)" >&2
	exit 1
fi

echo "installing for the tests: $wanted"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# RUNLEVEL=1 keeps the packages from starting services of their own: the tests
# start what they need. apt may fail on lists that are old, so those come first.
# shellcheck disable=SC2086 # a list of words
if ! { "${as_root[@]}" apt-get update &&
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends $wanted; } >"$log" 2>&1 </dev/null; then
	tail -n 20 "$log" >&2
	echo "apt-get could not install: $wanted" >&2
	exit 1
fi
left=$(missing | tr '\n' ' ')
if [ -n "$left" ]; then
	echo "still missing after apt-get: $left" >&2
	exit 1
fi
npm_packages
