#!/usr/bin/env bash
# Compares the speed of `vivadrop decode` with that of alternatives, on one drop: compare.sh VIVADROP DROP-FOLDER [ROUNDS]
#
# DROP-FOLDER is the output of `vivadrop simulate`. Needs openssl, python3 and GNU time. Alternatives whose program is missing
# are omitted: igzip (Debian: isal), node, Python's cryptography. Rounds are interleaved (A B C A B C), so that a machine that
# becomes slower affects all of them alike. Prints medians.
set -euo pipefail
python=$(realpath --no-symlinks "$(command -v "${PYTHON:-python3}")") binary=$(realpath "$1") folder=$(realpath "$2") rounds=${3:-3} peers=$(dirname "$(realpath "$0")")/peers
file=$folder/drop/part-0.json.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The keys of the drop, unwrapped by openssl, in hex as `openssl enc` and the peers need them.
python3 - "$folder" > "$work/keys.json" <<'PY'
import base64, json, subprocess, sys
folder, keys = sys.argv[1], {}
for key in json.load(open(f"{folder}/decryption-keys.json"))["DecryptionKeys"]:
    unwrap = ["openssl", "pkeyutl", "-decrypt", "-inkey", f"{folder}/private-key.pem", "-pkeyopt", "rsa_padding_mode:oaep"]
    plain = subprocess.run(unwrap, input=base64.b64decode(key["Value"]), stdout=subprocess.PIPE, check=True).stdout
    name = key["DecryptionKeyType"].lower()
    keys |= {f"{name}Key": plain.hex(), f"{name}Iv": base64.b64decode(key["IV"]).hex()}
print(json.dumps(keys))
PY
key() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/keys.json" "$1"; }

decrypt="openssl enc -d -aes-256-ctr -K $(key fileKey) -iv $(key fileIv) -in $file"
names=(vivadrop) commands=("$binary decode $folder/drop --private-key $folder/private-key.pem --decryption-keys $folder/decryption-keys.json")
add() { names+=("$1") commands+=("$2"); }
if command -v igzip > /dev/null; then add 'openssl | igzip' "$decrypt | igzip -dc"; fi
add 'openssl | gunzip' "$decrypt | gunzip -c"
if "$python" -c 'import cryptography' 2> /dev/null; then add 'Python' "$python $peers/peer.py $file $work/keys.json"; fi
if command -v node > /dev/null; then add 'Node' "node $peers/peer.mjs $file $work/keys.json"; fi

for _ in $(seq "$rounds"); do
  for at in "${!names[@]}"; do
    command time -o "$work/time" -f '%e %U %S %M' bash -c "set -o pipefail; ${commands[at]} > /dev/null 2> $work/errors" \
      || { echo "${names[at]} failed:"; cat "$work/errors"; exit 1; } >&2
    printf '%s\t%s\n' "${names[at]}" "$(tail -n 1 "$work/time")" >> "$work/times"
  done
done

python3 - "$work/times" <<'PY'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    name, figures = line.rstrip("\n").split("\t")
    wall, user, system, peak = map(float, figures.split())
    runs.setdefault(name, []).append((wall, user + system, peak / 1024))
medians = {name: [statistics.median(figures) for figures in zip(*rows)] for name, rows in runs.items()}
# Flex Consumption, on demand: the smallest instance that has about two cores has 2 GB, at $0.000026 per GB-second (2026).
GB, PRICE = 2, 0.000026
print(f"{'':17} {'best':>8} {'median':>8} {'CPU':>8} {'peak':>10} {'x vivadrop':>11} {'GB-seconds':>11} {'US cents':>9}")
for name, (wall, cpu, peak) in medians.items():
    best = min(run[0] for run in runs[name])
    print(f"{name:17} {best:6.2f} s {wall:6.2f} s {cpu:6.2f} s {peak:6.1f} MiB {wall / medians['vivadrop'][0]:10.2f}x "
          f"{wall * GB:11.1f} {wall * GB * PRICE * 100:9.4f}")
PY
