#!/usr/bin/env python3
"""Creates the zip of the managed application that a customer installs.

It contains `mainTemplate.json` and `createUiDefinition.json` at its root, as Azure Marketplace and service catalogs require.
The same input results in the same bytes.
"""

import json
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ["createUiDefinition.json", "mainTemplate.json"]
EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(source, target):
    """Zips the two files of `source` into `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            text = (source / name).read_bytes()
            json.loads(text)  # rejects invalid JSON before a customer sees it
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text)


if __name__ == "__main__":
    TARGET = ROOT / "dist" / "vivadrop-managed-app.zip"
    pack(ROOT / "infra" / "customer", TARGET)
    print(f"{TARGET}: {', '.join(FILES)}")
    sys.exit(0)
