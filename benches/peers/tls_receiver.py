"""A receiver with TLS for benches/sinks.py, in the place of Azure Service Bus: it reads and discards each request and answers 201.

    tls_receiver.py CERTIFICATE KEY

Prints its port. When its stdin ends, it prints the numbers of connections, messages and bytes. OpenSSL decrypts outside of
Python's lock, so the receiver costs little more CPU than the decryption.
"""

import socket
import ssl
import sys
import threading

ANSWER = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
connections = []


class Connection:
    """Answers the requests of one connection, one after the other."""

    def __init__(self, stream):
        self.stream, self.messages, self.bytes = stream, 0, 0
        threading.Thread(target=self.answer_all, daemon=True).start()

    def answer_all(self):
        buffer, filled = bytearray(256 << 10), 0
        while count := self.stream.recv_into(memoryview(buffer)[filled:]):
            filled += count
            head = buffer.find(b"\r\n\r\n", 0, filled)
            if head < 0:
                continue
            length = next(int(line.split(b":")[1]) for line in bytes(buffer[:head]).lower().split(b"\r\n")
                          if line.startswith(b"content-length:"))
            # The client sends no request before the last one is answered, so everything after the head is this body.
            left = length - (filled - head - 4)
            while left > 0:
                if not (count := self.stream.recv_into(buffer)):
                    return
                left -= count
            self.messages, self.bytes, filled = self.messages + 1, self.bytes + length, 0
            self.stream.sendall(ANSWER)


def accept(listener, context):
    while True:
        stream, _ = listener.accept()
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.append(Connection(context.wrap_socket(stream, server_side=True)))


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener, context), daemon=True).start()
    sys.stdin.read()
    print(len(connections), sum(one.messages for one in connections), sum(one.bytes for one in connections))


if __name__ == "__main__":
    main()
