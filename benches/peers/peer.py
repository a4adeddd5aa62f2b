#!/usr/bin/env python3
"""What a partner would write in a Python function: peer.py FILE KEYS -> rows on stdout.

FILE is AES-256-CTR over gzip over rows; KEYS is JSON with fileKey, fileIv, columnKey and columnIv, in hex.
Needs: pip install cryptography; orjson is used where it is installed, as whoever cares for speed would.
"""
import base64
import json
import sys
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

try:
    import orjson

    loads, dumps = orjson.loads, orjson.dumps
except ImportError:
    loads = json.loads

    def dumps(row):
        return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()

keys = {name: bytes.fromhex(value) for name, value in json.load(open(sys.argv[2])).items()}


def decryptor(name):
    return Cipher(algorithms.AES(keys[f"{name}Key"]), modes.CTR(keys[f"{name}Iv"])).decryptor()


def decoded(line):
    row = loads(line)
    row["ObjectId"] = decryptor("column").update(base64.b64decode(row["ObjectId"])).decode()
    return dumps(row) + b"\n"


file, gunzip, rest = decryptor("file"), zlib.decompressobj(31), b""
with open(sys.argv[1], "rb") as sealed:
    while chunk := sealed.read(1 << 20):
        *lines, rest = (rest + gunzip.decompress(file.update(chunk))).split(b"\n")
        sys.stdout.buffer.write(b"".join(map(decoded, lines)))
if rest:
    sys.stdout.buffer.write(decoded(rest))
if not gunzip.eof:
    sys.exit("the gzip stream is cut short")
