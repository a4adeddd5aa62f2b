"""Tests of `make advisories` with a database in a folder: a vulnerable dependency fails, without network."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

ADVISORY = """```toml
[advisory]
id = "RUSTSEC-2099-0001"
package = "{package}"
date = "2099-01-01"
url = "https://example.com/advisory"

[versions]
patched = [">= {patched}"]
```

# The title of the advisory

Its description.
"""


class Advisories(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.database = Path(folder.name) / "advisory-db"

    def check(self, patched):
        """Runs the check with a database that has one advisory, about `url`, for versions before `patched`."""
        file = self.database / "crates/url/RUSTSEC-2099-0001.md"
        file.parent.mkdir(parents=True)
        file.write_text(ADVISORY.format(package="url", patched=patched))
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "Add an advisory"]):
            subprocess.run(["git", "-C", self.database, *command], check=True)
        return subprocess.run(
            ["make", "--no-print-directory", "advisories", f"ADVISORY_DB={self.database}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_vulnerable_dependency_is_named(self):
        done = self.check("999.0.0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("RUSTSEC-2099-0001", done.stderr)
        self.assertRegex(done.stderr, r"url v?\d")

    def test_a_patched_dependency_passes(self):
        locked = (ROOT / "Cargo.lock").read_text()
        version = re.search(r'name = "url"\nversion = "([^"]+)"', locked).group(1)
        done = self.check(version)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_folder_without_a_database_is_an_error(self):
        self.database.mkdir()
        done = subprocess.run([ROOT / "infra/advisories.sh", self.database], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is not a clone of", done.stderr)


if __name__ == "__main__":
    unittest.main()
