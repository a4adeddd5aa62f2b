"""The storage of the examples: an SQLite database.

The message id is a primary key, and is inserted in the same transaction as the rows. So a crash leaves both or neither,
and a duplicate message changes nothing. The state of a drop is its ending with the highest sequence number, whatever the
order in which the endings arrive.

The people of an import of survey attributes are kept until the import is complete; then they replace those of the cycle's
earlier import. An import that is older than a deletion, or than a newer import of its cycle, is ignored.

As a program, it prints the stored rows, the states of the drops, or the attributes of people:

    python3 store.py messages.db
    python3 store.py messages.db states
    python3 store.py messages.db attributes
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
CREATE TABLE IF NOT EXISTS import_people (
    import_id TEXT NOT NULL, person TEXT NOT NULL, attributes TEXT NOT NULL, PRIMARY KEY (import_id, person)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imports (
    import_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, program TEXT NOT NULL, cycle TEXT NOT NULL, sequence INTEGER NOT NULL,
    people INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cycles (
    tenant TEXT NOT NULL, program TEXT NOT NULL, cycle TEXT NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (tenant, program, cycle)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attributes (
    tenant TEXT NOT NULL, program TEXT NOT NULL, cycle TEXT NOT NULL, person TEXT NOT NULL, attribute TEXT NOT NULL,
    value TEXT NOT NULL, PRIMARY KEY (tenant, program, cycle, person, attribute)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletions (tenant TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
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
        """Inserts a message, or adds it to the dead letters if it cannot be read. Such a message would fail in the same way
        again, so it is reported and kept for a person, and the caller acknowledges it. `identity` is the message's id in the
        transport. Returns whether the message was new. Any exception is a failure of the database: a retry can succeed."""
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
        is_about_attributes = message["type"].startswith("viva.insights.attributes")
        if "drop" not in data and not is_about_attributes:
            # A check, or a message type of a later version: there is nothing to store.
            return False
        rows = data.pop("rows", []) if message["type"] == "viva.insights.rows" else []
        # One transaction: committed at the end of the block, rolled back if a statement fails.
        with self._lock, self._database:
            new = self._database.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (message["id"], message["type"], data.get("drop", {}).get("path", ""), json.dumps(data)),
            )
            if new.rowcount == 0:
                return False
            if is_about_attributes:
                self._store_attributes(message["type"], data)
                return True
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

    def _store_attributes(self, kind, data):
        """Stores a message about survey attributes. The caller has begun a transaction."""
        if kind == "viva.insights.attributes":
            people = ((data["importId"], one["ObjectId"], json.dumps(one["attributes"])) for one in data["people"])
            self._database.executemany("INSERT OR REPLACE INTO import_people VALUES (?, ?, ?)", people)
            self._apply(data["importId"])
        elif kind == "viva.insights.attributes.completed":
            names = ("importId", "tenantId", "program", "cycle", "sequence", "people")
            values = [data[name] for name in names]
            self._database.execute("INSERT OR REPLACE INTO imports VALUES (?, ?, ?, ?, ?, ?)", values)
            self._apply(data["importId"])
        elif kind == "viva.insights.attributes.deleted":
            self._delete(data["tenantId"], data["attribute"], data["sequence"])

    def _apply(self, import_id):
        """Applies an import if all of its people are there: messages may arrive in another order."""
        execute = self._database.execute
        found = execute("SELECT tenant, program, cycle, sequence, people FROM imports WHERE import_id = ?", (import_id,))
        end = found.fetchone()
        count = execute("SELECT count(*) FROM import_people WHERE import_id = ?", (import_id,)).fetchone()[0]
        if end is None or end[4] != count:
            return
        tenant, program, cycle, sequence, _ = end
        newer = execute(
            "SELECT 1 FROM cycles WHERE tenant = ? AND program = ? AND cycle = ? AND sequence > ?"
            " UNION SELECT 1 FROM deletions WHERE tenant = ? AND sequence > ?",
            (tenant, program, cycle, sequence, tenant, sequence),
        )
        if newer.fetchone() is None:
            where = (tenant, program, cycle)
            execute("DELETE FROM attributes WHERE tenant = ? AND program = ? AND cycle = ?", where)
            people = execute("SELECT person, attributes FROM import_people WHERE import_id = ?", (import_id,)).fetchall()
            self._database.executemany(
                "INSERT INTO attributes VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (*where, person, name, json.dumps(value))
                    for person, attributes in people
                    for name, value in json.loads(attributes).items()
                ),
            )
            execute("INSERT OR REPLACE INTO cycles VALUES (?, ?, ?, ?)", (*where, sequence))
        execute("DELETE FROM import_people WHERE import_id = ?", (import_id,))
        execute("DELETE FROM imports WHERE import_id = ?", (import_id,))

    def _delete(self, tenant, attribute, sequence):
        """Deletes an attribute from everything that was imported before the deletion."""
        self._database.execute(
            "DELETE FROM attributes WHERE tenant = ? AND attribute = ? AND EXISTS (SELECT 1 FROM cycles"
            " WHERE cycles.tenant = attributes.tenant AND cycles.program = attributes.program"
            " AND cycles.cycle = attributes.cycle AND cycles.sequence < ?)",
            (tenant, attribute, sequence),
        )
        self._database.execute(
            "INSERT INTO deletions VALUES (?, ?) ON CONFLICT (tenant) DO UPDATE"
            " SET sequence = max(deletions.sequence, excluded.sequence)",
            (tenant, sequence),
        )

    def attributes(self):
        """Yields the attributes of every person, as JSON text: tenant, program, cycle, person, attribute and value."""
        query = "SELECT * FROM attributes ORDER BY tenant, program, cycle, person, attribute"
        for *names, value in self._database.execute(query):
            yield json.dumps([*names, json.loads(value)])

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
    views = {"states": database.states, "attributes": database.attributes}
    for stored in views.get("".join(sys.argv[2:]), database.rows)():
        print(stored)
