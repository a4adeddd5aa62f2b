#!/usr/bin/env bash
# Builds the binary of a release, so that its bytes depend only on the sources and on the versions of compiler and linker:
#
#   infra/build.sh x86_64-unknown-linux-gnu 2.28 release
#
# Arguments: target, oldest glibc version on which the binary runs, profile of Cargo.toml. Needs cargo-auditable and
# cargo-zigbuild in PATH. The binary contains the list of its dependencies, in the section `.dep-v0`.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1 glibc=$2 profile=$3
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# The folders in `registry/src`, one per registry, exist only after this.
cargo fetch --quiet --locked --target "$target"

# Panic messages, and errors of C code, name source files: without these flags, with their paths on this machine. If several
# prefixes match, the last one is used.
prefixes=("$HOME=/home" "$cargo_home=/cargo")
for registry in "$cargo_home"/registry/src/*/; do
  prefixes+=("${registry%/}=/crates")
done
prefixes+=("$PWD=/vivadrop" "$(rustc --print sysroot)=/rust")
# Cargo expects this character between flags.
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf %s "${prefixes[*]/#/--remap-path-prefix=}")
CFLAGS="${prefixes[*]/#/-ffile-prefix-map=}"
export CARGO_ENCODED_RUSTFLAGS CFLAGS
cargo auditable zigbuild --locked --profile "$profile" --bin vivadrop --target "$target.$glibc"
