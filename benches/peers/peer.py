#!/usr/bin/env python3
"""What a partner would write in a Python function: peer.py FILE KEYS -> rows on stdout, as rows.py reads them."""
import sys

from rows import dumps, rows

for row in rows(sys.argv[1], sys.argv[2]):
    sys.stdout.buffer.write(dumps(row) + b"\n")
