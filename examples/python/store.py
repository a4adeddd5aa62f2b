"""The storage of the examples: an SQLite database.

The message id is a primary key, and is inserted in the same transaction as the rows. So a crash leaves both or neither,
and a duplicate message changes nothing. The state of a drop is its ending with the highest sequence number, whatever the
order in which the endings arrive. As a program, it prints the stored rows, or the states of the drops:

    python3 store.py messages.db
    python3 store.py messages.db states
"""

import json
import sqlite3
import sys
import threading

ENDINGS = ("viva.insights.drop.completed", "viva.insights.drop.failed")

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, drop_path TEXT NOT NULL, data TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    message_id TEXT NOT NULL REFERENCES messages (id), position INTEGER NOT NULL, row TEXT NOT NULL,
    PRIMARY KEY (message_id, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drops (
    path TEXT PRIMARY KEY, sequence INTEGER NOT NULL, message_id TEXT NOT NULL REFERENCES messages (id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letters (
    id TEXT PRIMARY KEY, message BLOB NOT NULL, error TEXT NOT NULL
) WITHOUT ROWID;
"""

# Why a message cannot be read: it is not one of vivadrop, or it has a value beyond the limits of Python's parser, such as deep
# nesting, a number of thousands of digits, or 1e999.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Store:
    def __init__(self, path):
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        # A commit must survive a crash of the machine, not only of the process.
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(SCHEMA)

    def store(self, identity, text):
        """Inserts a message, or adds it to the dead letters if it cannot be read: it would fail in the same way again, so it is
        reported and kept for a person, and the caller acknowledges it. `identity` is its id in the transport. Returns whether
        the message was new. Any exception is a failure of the database: a retry can succeed."""
        try:
            return self.insert(text)
        except UNREADABLE as error:
            # The error's text could quote the message.
            reason = type(error).__name__
            with self._lock, self._database:
                insert = "INSERT INTO dead_letters VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING"
                new = self._database.execute(insert, (identity, text, reason)).rowcount > 0
            print(f"cannot read the message {identity!r}: {reason}; it is in the table dead_letters", file=sys.stderr)
            return new

    def insert(self, text):
        """Inserts a message, unless its id exists; returns whether it was new. After the return it survives a crash."""
        message = json.loads(text)
        data = message["data"]
        if "drop" not in data:
            # A check, or a message type of a later version: there is nothing to store.
            return False
        rows = data.pop("rows", []) if message["type"] == "viva.insights.rows" else []
        # One transaction: committed at the end of the block, rolled back if a statement fails.
        with self._lock, self._database:
            new = self._database.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (message["id"], message["type"], data["drop"]["path"], json.dumps(data)),
            )
            if new.rowcount == 0:
                return False
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)",
                # Without allow_nan, 1e999 would be stored as Infinity, which is not JSON.
                ((message["id"], position, json.dumps(row, allow_nan=False)) for position, row in enumerate(rows)),
            )
            if message["type"] in ENDINGS:
                # An ending with a lower sequence number is late, and changes nothing. Messages of vivadrop 0.1.0 have none.
                self._database.execute(
                    "INSERT INTO drops VALUES (?, ?, ?) ON CONFLICT (path) DO UPDATE"
                    " SET sequence = excluded.sequence, message_id = excluded.message_id"
                    " WHERE excluded.sequence >= drops.sequence",
                    (data["drop"]["path"], data.get("sequence", 0), message["id"]),
                )
            return True

    def rows(self):
        """Yields every stored row as JSON text."""
        query = "SELECT row FROM rows JOIN messages ON id = message_id ORDER BY drop_path, message_id, position"
        return (row for (row,) in self._database.execute(query))

    def states(self):
        """Yields the state of every drop that has ended, as JSON text: the type and the data of its newest ending."""
        query = "SELECT type, data FROM drops JOIN messages ON id = message_id ORDER BY path"
        for kind, data in self._database.execute(query):
            yield json.dumps({"type": kind, "data": json.loads(data)})


if __name__ == "__main__":
    database = Store(sys.argv[1])
    for stored in database.states() if sys.argv[2:] == ["states"] else database.rows():
        print(stored)
