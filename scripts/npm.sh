#!/usr/bin/env bash
# Prints the directory that holds a package of npm's, by name and exact version,
# for tests that hold Keystile against it; installs it there when it is missing.
# It is in the user's cache, never in the repository.
set -euo pipefail

if [ $# -ne 2 ]; then
	echo "usage: scripts/npm.sh NAME VERSION" >&2
	exit 2
fi
name=$1 version=$2
if ! command -v npm >/dev/null 2>&1; then
	echo "npm is missing: run scripts/tools.sh" >&2
	exit 1
fi
dir=${XDG_CACHE_HOME:-$HOME/.cache}/keystile-tests/npm/${name//\//-}-$version
if [ ! -e "$dir/done" ]; then
	mkdir -p "$dir"
	# Two tests may ask at once; the second waits and finds it done.
	exec 9>"$dir/lock"
	flock 9
	if [ ! -e "$dir/done" ]; then
		npm install --prefix "$dir" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error "$name@$version" >&2
		touch "$dir/done"
	fi
fi
echo "$dir/node_modules/$name"
