"""Reads the queue to which vivadrop delivers: deduplicates messages by id, stores them in a database, and deletes each
message from the queue after it has been stored. A message that cannot be read goes to the table `dead_letters`.

    python3 queue_reader.py 'https://account.queue.core.windows.net/rows?sv=…&sig=…' messages.db

It needs only Python's standard library, because the REST interface is small. The SAS needs the permissions *read* and
*process*. With a managed identity, use `QueueClient` of the package azure-storage-queue: receive_messages, delete_message.
"""

import base64
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree

from store import Store

# Default visibility timeout: for how many seconds a received message is hidden from other readers. After that, another
# reader receives the messages of a reader that crashed. If processing takes longer, a message is received again; its id
# makes this harmless.
VISIBILITY_TIMEOUT = 60
# Pause in seconds after the queue was empty or the service did not respond.
POLL_INTERVAL = 1


class Queue:
    def __init__(self, url):
        self._url = urllib.parse.urlsplit(url)

    def receive(self, visibility_timeout):
        """The next messages, each with its id, its pop receipt and its text."""
        query = {"numofmessages": 32, "visibilitytimeout": visibility_timeout}
        messages = ElementTree.fromstring(self._request("GET", "/messages", query))
        names = ("MessageId", "PopReceipt", "MessageText")
        return [[message.findtext(name) for name in names] for message in messages]

    def delete(self, identity, receipt):
        self._request("DELETE", f"/messages/{identity}", {"popreceipt": receipt})

    def _request(self, method, path, query):
        query = f"{urllib.parse.urlencode(query)}&{self._url.query}"
        url = self._url._replace(path=self._url.path + path, query=query).geturl()
        request = urllib.request.Request(url, method=method, headers={"x-ms-version": "2021-12-02"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read()


def handle(queue, store, message):
    """Stores one message, then deletes it from the queue. In the opposite order, a crash in between would lose it."""
    identity, receipt, text = message
    text = text or ""
    try:
        body = base64.b64decode(text, validate=True)
    except ValueError:
        body = text.encode()  # not a message of vivadrop
    # A message that cannot be read is kept with the dead letters. In the queue, it would be received again and again.
    store.store(identity, body)
    try:
        queue.delete(identity, receipt)
    except urllib.error.HTTPError as error:
        # 404: the visibility timeout ended, and another reader has received the message. That reader finds its id stored.
        if error.code != 404:
            raise


def main(url, path, visibility_timeout=VISIBILITY_TIMEOUT):
    queue, store = Queue(url), Store(path)
    while True:
        try:
            messages = queue.receive(int(visibility_timeout))
            for message in messages:
                handle(queue, store, message)
            if messages:
                continue
        except urllib.error.HTTPError as error:
            if error.code < 500:
                sys.exit(f"the queue responded with {error.code} {error.headers.get('x-ms-error-code', '')}")
        except (OSError, urllib.error.URLError):
            pass  # no response: messages that were not deleted are received again
        time.sleep(POLL_INTERVAL)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: queue_reader.py QUEUE_URL DATABASE [VISIBILITY_TIMEOUT_SECONDS]")
    main(*sys.argv[1:])
