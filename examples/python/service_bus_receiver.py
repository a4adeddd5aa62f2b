"""Receives the messages that vivadrop delivers to Azure Service Bus: deduplicates them by id, stores them in a database, and
completes each message after it has been stored. A message that cannot be read goes to the table `dead_letters`.

    pip install azure-servicebus azure-identity
    python3 service_bus_receiver.py contoso.servicebus.windows.net rows messages.db
    python3 service_bus_receiver.py contoso.servicebus.windows.net topic/subscriptions/all messages.db
    python3 service_bus_receiver.py contoso.servicebus.windows.net rows messages.db --sessions

It uses Microsoft's SDK, because Service Bus delivers messages over AMQP. It authenticates with the environment's identity,
which needs the role Azure Service Bus Data Receiver; or with the connection string in SERVICE_BUS_CONNECTION_STRING, with the
right *Listen*. `--sessions` is for an entity that requires sessions (`?session=tenant`).

Duplicate detection of the entity drops most duplicates, but not those after its window, so ids are compared here as well.
"""

import os
import sys
import time

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
    SessionLockLostError,
)

from store import Store

# The number of messages that are received at once. All of them must be stored before their locks end (one minute by default).
MESSAGES = 20
# For how many seconds a request waits for the first message.
MAX_WAIT = 5
# Pause in seconds after the service did not respond, or no session had messages.
PAUSE = 1

# Errors that a person must fix.
MISCONFIGURED = (MessagingEntityNotFoundError, ServiceBusAuthenticationError, ServiceBusAuthorizationError)


def connect(namespace):
    connection_string = os.environ.get("SERVICE_BUS_CONNECTION_STRING")
    if connection_string:
        return ServiceBusClient.from_connection_string(connection_string)
    from azure.identity import DefaultAzureCredential

    return ServiceBusClient(namespace, DefaultAzureCredential())


def open_receiver(client, path, sessions):
    """A receiver for a queue, or for a subscription of a topic."""
    session = {"session_id": NEXT_AVAILABLE_SESSION} if sessions else {}
    topic, found, subscription = path.partition("/subscriptions/")
    if found:
        return client.get_subscription_receiver(topic, subscription, max_wait_time=MAX_WAIT, **session)
    return client.get_queue_receiver(path, max_wait_time=MAX_WAIT, **session)


def handle(receiver, store, message):
    """Stores one message, then completes it. In the opposite order, a crash in between would lose it."""
    try:
        body = b"".join(message.body)
    except TypeError:
        body = str(message).encode()  # not a message of vivadrop
    # A message that cannot be read is kept with the dead letters of the database. In the entity, it would be received again.
    store.store(message.message_id or str(message.sequence_number), body)
    try:
        receiver.complete_message(message)
    except (MessageLockLostError, SessionLockLostError):
        pass  # the lock ended, so the message is received again; its id is stored


def receive(client, store, path, sessions):
    """Receives messages. With sessions, receives those of one session, and returns when it has no more."""
    with open_receiver(client, path, sessions) as receiver:
        while True:
            messages = receiver.receive_messages(max_message_count=MESSAGES, max_wait_time=MAX_WAIT)
            for message in messages:
                handle(receiver, store, message)
            if sessions and not messages:
                return


def main(namespace, path, database, sessions=False):
    store = Store(database)
    while True:
        try:
            with connect(namespace) as client:
                while True:
                    receive(client, store, path, sessions)
        except MISCONFIGURED as error:
            sys.exit(f"cannot receive from {path}: {type(error).__name__}")
        except OperationTimeoutError:
            pass  # no session has messages
        except ServiceBusError as error:
            # Messages that were not completed are received again. The SDK has already repeated the request.
            print(f"{type(error).__name__}: connecting again", file=sys.stderr)
        time.sleep(PAUSE)


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--sessions"]
    if len(arguments) != 3:
        sys.exit("usage: service_bus_receiver.py NAMESPACE QUEUE_OR_SUBSCRIPTION DATABASE [--sessions]")
    main(*arguments, sessions="--sessions" in sys.argv)
