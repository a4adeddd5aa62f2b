"""Reads the rows of a file as a partner might in Python: AES-256-CTR of gzip of JSON lines.

Needs: pip install cryptography. Uses orjson if it is installed, because it is faster.
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

    def dumps(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def rows(file, keys):
    """Yields the decoded rows of FILE. KEYS is a JSON file with fileKey, fileIv, columnKey and columnIv, in hex."""
    keys = {name: bytes.fromhex(value) for name, value in json.load(open(keys)).items()}

    def decryptor(name):
        return Cipher(algorithms.AES(keys[f"{name}Key"]), modes.CTR(keys[f"{name}Iv"])).decryptor()

    def decoded(line):
        row = loads(line)
        row["ObjectId"] = decryptor("column").update(base64.b64decode(row["ObjectId"])).decode()
        return row

    decrypt, gunzip, rest = decryptor("file"), zlib.decompressobj(31), b""
    with open(file, "rb") as encrypted:
        while chunk := encrypted.read(1 << 20):
            *lines, rest = (rest + gunzip.decompress(decrypt.update(chunk))).split(b"\n")
            yield from map(decoded, lines)
    if rest:
        yield decoded(rest)
    if not gunzip.eof:
        sys.exit("the gzip stream is truncated")
