"""A stand-in for the package azure-servicebus 7: the same names, but messages are files in the folder STAND_IN_MESSAGES.

A file is called `{position}-{message id}` and has the body. Completing a message deletes its file. The first message that is
completed has lost its lock.
"""

import os
import time
from pathlib import Path

from .exceptions import MessageLockLostError, OperationTimeoutError

NEXT_AVAILABLE_SESSION = object()


class _Message:
    def __init__(self, file):
        self._file = file
        position, _, self.message_id = file.name.partition("-")
        self.sequence_number = int(position)

    @property
    def body(self):
        body = self._file.read_bytes()
        return (body[start : start + 1000] for start in range(0, len(body), 1000))


class _Receiver:
    lost_a_lock = False

    def __init__(self, name):
        # One file names the entity, so that a test can check it.
        (_folder() / "entity").write_text(name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def receive_messages(self, max_message_count=1, max_wait_time=None):
        files = sorted(file for file in _folder().iterdir() if file.name != "entity")
        if not files:
            time.sleep(0.05)
        return [_Message(file) for file in files[:max_message_count]]

    def complete_message(self, message):
        if not _Receiver.lost_a_lock:
            _Receiver.lost_a_lock = True
            raise MessageLockLostError()
        message._file.unlink()


class ServiceBusClient:
    def __init__(self, fully_qualified_namespace, credential, **kwargs):
        raise NotImplementedError("the tests use a connection string")

    @classmethod
    def from_connection_string(cls, conn_str, **kwargs):
        assert conn_str.startswith("Endpoint=sb://")
        return object.__new__(cls)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def get_queue_receiver(self, queue_name, *, session_id=None, max_wait_time=None):
        return self._receiver(queue_name, session_id)

    def get_subscription_receiver(self, topic_name, subscription_name, *, session_id=None, max_wait_time=None):
        return self._receiver(f"{topic_name} {subscription_name}", session_id)

    def _receiver(self, name, session_id):
        if session_id is NEXT_AVAILABLE_SESSION and len(list(_folder().iterdir())) <= 1:
            raise OperationTimeoutError()
        return _Receiver(name)


def _folder():
    return Path(os.environ["STAND_IN_MESSAGES"])
