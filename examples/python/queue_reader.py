"""A reader of the queue that vivadrop delivers to: drops doubles by their id, keeps the rest in a database, and deletes a
message from the queue once it is kept.

    python3 queue_reader.py 'https://account.queue.core.windows.net/rows?sv=…&sig=…' messages.db

Nothing but Python's own library: the service is four lines of REST. The SAS needs *read* and *process*. With a managed
identity, `QueueClient` of the package azure-storage-queue does the same: receive_messages, keep, delete_message.
"""

import base64
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree

from store import Store

# How long a message is hidden from other readers, in seconds. A reader that dies leaves what it had to the next one after
# that; one that takes longer sees it again, which the ids make harmless.
HIDDEN = 60
# How long a reader waits that found nothing, or that the service did not answer.
PAUSE = 1


class Queue:
    def __init__(self, url):
        self._url = urllib.parse.urlsplit(url)

    def receive(self, hidden):
        """The next messages, each as its id, its receipt and its text."""
        query = {"numofmessages": 32, "visibilitytimeout": hidden}
        messages = ElementTree.fromstring(self._ask("GET", "/messages", query))
        names = ("MessageId", "PopReceipt", "MessageText")
        return [[message.findtext(name) for name in names] for message in messages]

    def delete(self, identity, receipt):
        self._ask("DELETE", f"/messages/{identity}", {"popreceipt": receipt})

    def _ask(self, method, path, query):
        query = f"{urllib.parse.urlencode(query)}&{self._url.query}"
        url = self._url._replace(path=self._url.path + path, query=query).geturl()
        request = urllib.request.Request(url, method=method, headers={"x-ms-version": "2021-12-02"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


def take(queue, store, message):
    """Keeps one message, and then deletes it. The other way round a crash between the two would lose it."""
    identity, receipt, text = message
    try:
        store.keep(base64.b64decode(text, validate=True))
    except (ValueError, KeyError, TypeError) as error:
        # Not one of vivadrop's. It is left to whoever put it there, and keeps nobody from what comes behind it.
        print(f"passed over the message {identity}: {error!r}", file=sys.stderr)
        return
    try:
        queue.delete(identity, receipt)
    except urllib.error.HTTPError as error:
        # 404: it was visible again, and another reader has it now. To them it is a double.
        if error.code != 404:
            raise


def main(url, path, hidden=HIDDEN):
    queue, store = Queue(url), Store(path)
    while True:
        try:
            messages = queue.receive(int(hidden))
            for message in messages:
                take(queue, store, message)
            if messages:
                continue
        except urllib.error.HTTPError as error:
            if error.code < 500:
                sys.exit(f"the queue answers {error.code} {error.headers.get('x-ms-error-code', '')}")
        except (OSError, urllib.error.URLError):
            pass  # no answer: what was not deleted is seen again
        time.sleep(PAUSE)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: queue_reader.py QUEUE_URL DATABASE [SECONDS_HIDDEN]")
    main(*sys.argv[1:])
