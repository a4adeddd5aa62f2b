#!/usr/bin/env python3
"""Decoding as a partner might write it in Python: peer.py FILE KEYS prints the rows. rows.py describes FILE and KEYS."""
import sys

from rows import dumps, rows

for row in rows(sys.argv[1], sys.argv[2]):
    sys.stdout.buffer.write(dumps(row) + b"\n")
