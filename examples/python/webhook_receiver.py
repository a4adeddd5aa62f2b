"""Receives the messages of vivadrop as a webhook: verifies signatures, deduplicates by id, stores messages in a database.

    WEBHOOK_SECRET=whsec_… python3 webhook_receiver.py 9000 messages.db
    DELIVER_TO=http://127.0.0.1:9000/ WEBHOOK_SECRET=whsec_… vivadrop deliver datasets/run/VivaInsights/tenant

It needs only Python's standard library. For production, run it behind an HTTPS proxy, and set DELIVER_TO to the URL of the
proxy. With WEBHOOK_GZIP=true, a receiver must decompress the body before it verifies the signature. This example does not.
"""

import base64
import hashlib
import hmac
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from store import Store

# Maximum age of a message in seconds, which limits replay attacks and allows for clock differences.
TOLERANCE = 5 * 60
# Maximum body size: a batch has at most BATCH_BYTES of rows (1 MiB), or one row of MAX_ROW_BYTES, and metadata.
MAX_BODY_BYTES = 4 << 20


def is_signed(key, headers, body):
    """Whether the signature over id, timestamp and body is valid (https://www.standardwebhooks.com)."""
    identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    digest = hmac.digest(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(digest)
    # The header has several signatures while the sender rotates the secret.
    signatures = headers.get("webhook-signature", "").encode().split()
    return any([hmac.compare_digest(expected, signature) for signature in signatures])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    timeout = 60

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            return self.respond(413)
        body = self.rfile.read(length)
        if not is_signed(self.server.key, self.headers, body):
            # After 401 the run ends, and a later run sends the message again: nothing is set aside. While you rotate the
            # secret, accept both secrets, so that nothing is delayed.
            return self.respond(401)
        try:
            # A 2xx response acknowledges the message, so it is sent only after the message is on disk.
            # This includes a message that cannot be read, which is kept with the dead letters: a retry would not help.
            self.respond(201 if self.server.store.store(self.headers["webhook-id"], body) else 200)
        except Exception as error:
            print(f"cannot store a message: {type(error).__name__}", file=sys.stderr)
            self.respond(503)  # vivadrop retries later

    def respond(self, status):
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
