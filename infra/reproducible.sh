#!/usr/bin/env bash
# Builds a package of the current commit twice, in two clones with different paths and cargo folders, and compares the zips:
#
#   infra/reproducible.sh x86_64 2.28 release
#
# Arguments: processor, oldest glibc version, profile. Needs the tools of `make package`; cargo's downloads are copied.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1 glibc=$2 profile=$3
target=$arch-unknown-linux-gnu
venv=$PWD/.venv/package/bin
downloads=${CARGO_HOME:-$HOME/.cargo}/registry
commit=$(git rev-parse HEAD)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The second path has another length and depth than the first.
places=("$work/a" "$work/another/place")
for place in "${places[@]}"; do
  mkdir -p "$place/cargo/registry"
  cp -r "$downloads/cache" "$downloads/index" "$place/cargo/registry/"
  git clone --quiet --no-checkout . "$place/checkout"
  git -C "$place/checkout" checkout --quiet --detach "$commit"
  CARGO_HOME=$place/cargo CARGO_TARGET_DIR=$place/checkout/target PATH=$venv:$PATH \
    "$place/checkout/infra/build.sh" "$target" "$glibc" "$profile"
  CARGO_HOME=$place/cargo "$venv/python" "$place/checkout/infra/package.py" --arch "$arch" --largest 50000000 \
    "$place/checkout/target/$target/$profile/vivadrop"
  "$venv/python" -m zipfile --extract "$place/checkout/dist/vivadrop-linux-$arch.zip" "$place/unpacked"
  mv "$place/checkout/dist/vivadrop-linux-$arch.zip" "$place/package.zip"
  rm -rf "$place/checkout" "$place/cargo"
done

if cmp --quiet "${places[0]}/package.zip" "${places[1]}/package.zip"; then
  echo "both zips have the SHA-256 $(sha256sum < "${places[0]}/package.zip" | cut -d ' ' -f 1)"
  exit 0
fi
echo 'the zips differ:' >&2
diff --recursive --brief "${places[0]}/unpacked" "${places[1]}/unpacked" >&2 || true
(cd "${places[0]}/unpacked" && find . -type f | sort) | while read -r file; do
  cmp "${places[0]}/unpacked/$file" "${places[1]}/unpacked/$file" >&2 || break
done
exit 1
