"""A webhook for vivadrop's messages: checks signatures, drops doubles by their id, keeps the rest in a database.

    WEBHOOK_SECRET=whsec_… python3 webhook_receiver.py 9000 messages.db
    DELIVER_TO=http://127.0.0.1:9000/ WEBHOOK_SECRET=whsec_… vivadrop deliver datasets/run/VivaInsights/tenant

Nothing but Python's own library. Behind a proxy that speaks https it can be what DELIVER_TO names. With WEBHOOK_GZIP=true a
body is to be unzipped before it is verified; this one takes it as it comes.
"""

import base64
import hashlib
import hmac
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from store import Store

# How far the sender's clock may be from ours, in seconds: an older message may be somebody else's copy.
TOLERANCE = 5 * 60
# A batch has at most BATCH_BYTES of rows (1 MiB), or one row of MAX_ROW_BYTES, and what is said of them.
LONGEST_MESSAGE = 4 << 20


def is_signed(key, headers, body):
    """Whether a message is signed as https://www.standardwebhooks.com says: over id, timestamp and the bytes as they came."""
    identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    digest = hmac.digest(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(digest)
    # There may be several, while the sender changes secrets.
    signatures = headers.get("webhook-signature", "").encode().split()
    return any([hmac.compare_digest(expected, signature) for signature in signatures])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are used again
    timeout = 60

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > LONGEST_MESSAGE:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length)
        if not is_signed(self.server.key, self.headers, body):
            # Final for vivadrop: it sets the file aside. While you change secrets, try both.
            return self.answer(401)
        try:
            # 2xx says that the message is ours, so it is said once the message is on disk.
            self.answer(201 if self.server.store.keep(body) else 200)
        except Exception as error:
            print(f"cannot keep a message: {type(error).__name__}", file=sys.stderr)
            self.answer(503)  # it comes again, later

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main(port, path):
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.key = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
    server.store = Store(path)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: webhook_receiver.py PORT DATABASE")
    main(*sys.argv[1:])
