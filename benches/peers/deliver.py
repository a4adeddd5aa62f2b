#!/usr/bin/env python3
"""What a partner would write in a Python function: deliver.py FILE KEYS URL [SECRET] posts the rows of FILE to URL.

FILE is AES-256-CTR over gzip over rows; KEYS is JSON with fileKey, fileIv, columnKey and columnIv, in hex. Batches of 500
rows go out one after the other over one connection, signed where there is a secret. Nothing is tried again, and nothing
is remembered.
Needs: pip install cryptography; orjson is used where it is installed, as whoever cares for speed would.
"""
import base64
import hashlib
import hmac
import http.client
import itertools
import json
import sys
import time
import urllib.parse
import uuid
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

try:
    import orjson

    loads, dumps = orjson.loads, orjson.dumps
except ImportError:
    loads = json.loads

    def dumps(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


file, url = sys.argv[1], urllib.parse.urlsplit(sys.argv[3])
keys = {name: bytes.fromhex(value) for name, value in json.load(open(sys.argv[2])).items()}
secret = base64.b64decode(sys.argv[4].removeprefix("whsec_")) if len(sys.argv) > 4 else None
connection = http.client.HTTPConnection(url.netloc)


def decryptor(name):
    return Cipher(algorithms.AES(keys[f"{name}Key"]), modes.CTR(keys[f"{name}Iv"])).decryptor()


def rows():
    decrypt, gunzip, rest = decryptor("file"), zlib.decompressobj(31), b""
    with open(file, "rb") as sealed:
        while chunk := sealed.read(1 << 20):
            *lines, rest = (rest + gunzip.decompress(decrypt.update(chunk))).split(b"\n")
            yield from map(decoded, lines)
    if rest:
        yield decoded(rest)
    if not gunzip.eof:
        sys.exit("the gzip stream is cut short")


def decoded(line):
    row = loads(line)
    row["ObjectId"] = decryptor("column").update(base64.b64decode(row["ObjectId"])).decode()
    return row


def post(first_row, batch):
    data = {"file": file, "firstRow": first_row, "endRow": first_row + len(batch), "rows": batch}
    body = dumps({"id": str(uuid.uuid4()), "type": "viva.insights.rows", "data": data})
    headers = {"content-type": "application/json", "webhook-id": str(uuid.uuid4()), "webhook-timestamp": str(int(time.time()))}
    if secret:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        headers["webhook-signature"] = "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    connection.request("POST", url.path or "/", body, headers)
    answer = connection.getresponse()
    answer.read()
    if answer.status // 100 != 2:
        sys.exit(f"the receiver answered {answer.status}")


source, first_row = rows(), 0
while batch := list(itertools.islice(source, 500)):
    post(first_row, batch)
    first_row += len(batch)
