#!/usr/bin/env python3
"""Delivery as a partner might write it in Python: deliver.py FILE KEYS URL [SECRET] posts the rows of FILE to URL.

rows.py describes FILE and KEYS. Sends batches of 500 rows one after the other over one connection, signed if there is a
secret. Does not retry and keeps no state.
"""
import base64
import hashlib
import hmac
import http.client
import itertools
import sys
import time
import urllib.parse
import uuid

from rows import dumps, rows

file, url = sys.argv[1], urllib.parse.urlsplit(sys.argv[3])
secret = base64.b64decode(sys.argv[4].removeprefix("whsec_")) if len(sys.argv) > 4 else None
connection = http.client.HTTPConnection(url.netloc)


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


source, first_row = rows(file, sys.argv[2]), 0
while batch := list(itertools.islice(source, 500)):
    post(first_row, batch)
    first_row += len(batch)
