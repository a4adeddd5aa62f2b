"""Where the examples keep what they take: an SQLite database.

The id of a message is a primary key, written in the same transaction as its rows: a crash leaves both or neither, and a
message that comes again changes nothing. Run by itself, it prints what was kept:

    python3 store.py messages.db
"""

import json
import sqlite3
import sys
import threading

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, drop_path TEXT NOT NULL, data TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    message_id TEXT NOT NULL REFERENCES messages (id), position INTEGER NOT NULL, row TEXT NOT NULL,
    PRIMARY KEY (message_id, position)
) WITHOUT ROWID;
"""


class Store:
    def __init__(self, path):
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        # A commit has to survive the machine, not just the process.
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(SCHEMA)

    def keep(self, text):
        """Keeps a message, unless it is there already; says whether it was new. Once this returns, it survives a crash."""
        message = json.loads(text)
        data = message["data"]
        if "drop" not in data:
            # A check, or a type of a later version: there is nothing in it to keep.
            return False
        rows = data.pop("rows", []) if message["type"] == "viva.insights.rows" else []
        # One transaction: committed at the end of the block, rolled back where anything in it fails.
        with self._lock, self._database:
            new = self._database.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (message["id"], message["type"], data["drop"]["path"], json.dumps(data)),
            )
            if new.rowcount == 0:
                return False
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)",
                ((message["id"], position, json.dumps(row)) for position, row in enumerate(rows)),
            )
            return True

    def rows(self):
        """Every row that was kept, as JSON text."""
        query = "SELECT row FROM rows JOIN messages ON id = message_id ORDER BY drop_path, message_id, position"
        return (row for (row,) in self._database.execute(query))


if __name__ == "__main__":
    for kept in Store(sys.argv[1]).rows():
        print(kept)
