#!/usr/bin/env bash
# Checks the dependencies against the RustSec database, which cargo-deny fetches from GitHub:
#
#   infra/advisories.sh
#   infra/advisories.sh FOLDER    # a git clone of the database, at most 90 days old; needs no network
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  exec cargo deny check advisories
fi
[ -d "$1/crates" ] || { echo "$1 is not a clone of https://github.com/RustSec/advisory-db" >&2; exit 1; }
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
# cargo-deny looks for a folder with this name, which has a hash of the database's address.
ln -s "$(realpath "$1")" "$cache/advisory-db-3157b0e258782691"
sed "s|^\[advisories\]$|&\ndb-path = \"$cache\"|" deny.toml > "$cache/deny.toml"
cargo deny --offline --config "$cache/deny.toml" check advisories
