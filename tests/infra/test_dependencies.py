"""Tests of the record of reviewed dependencies: a changed crate needs a review."""

import tempfile
import unittest
from pathlib import Path

from .scripts import module

dependencies = module("dependencies")

AES = dependencies.Row("aes", "0.9.4", "binary", "-", "60", "0", "github.com/rustcrypto", "")
URL = dependencies.Row("url", "2.5.8", "binary", "-", "0", "0", "github.com/servo", "")
OWNERS = {"github.com/rustcrypto", "github.com/servo"}


def by_name(*rows):
    """The rows by crate and version, as the script reads them."""
    return {(row.crate, row.version): row for row in rows}


class Record(unittest.TestCase):
    def problems(self, record, rows=(AES, URL), owners=frozenset(OWNERS)):
        """What the script reports about this record, if the crates in use are `rows`."""
        return list(dependencies.problems(by_name(*rows), by_name(*record), owners))

    def test_a_complete_record_has_no_problems(self):
        self.assertEqual(self.problems([AES._replace(review="initial"), URL._replace(review="notes")]), [])
        self.assertEqual(self.problems([AES._replace(review="diff"), URL._replace(review="diff")]), [])

    def test_a_new_version_is_a_problem(self):
        found = self.problems([AES._replace(version="0.9.3", review="diff"), URL._replace(review="diff")])
        self.assertEqual(found, ["aes 0.9.4 is not in crates.tsv", "aes 0.9.3 is in crates.tsv, but not used"])

    def test_a_row_without_a_review_is_a_problem(self):
        (found,) = self.problems([AES, URL._replace(review="notes")])
        self.assertIn("aes 0.9.4 has no review", found)

    def test_release_notes_are_not_enough_for_crates_with_unsafe_or_c_or_code_that_runs_during_the_build(self):
        for row in (AES, URL._replace(runs="script"), URL._replace(runs="macro"), URL._replace(c="1")):
            with self.subTest(row):
                other = URL if row is AES else AES
                (found,) = self.problems([row._replace(review="notes"), other._replace(review="diff")], [row, other])
                self.assertIn("expected the review `diff`", found)

    def test_other_facts_are_a_problem(self):
        (found,) = self.problems([AES._replace(unsafe="0", review="diff"), URL._replace(review="diff")])
        self.assertEqual(found, "aes 0.9.4: crates.tsv has other facts")

    def test_an_unknown_owner_is_a_problem(self):
        record = [AES._replace(review="diff"), URL._replace(review="diff")]
        found = self.problems(record, owners={"github.com/servo", "github.com/gone"})
        self.assertEqual(
            found,
            [
                "github.com/rustcrypto owns a crate, and is not in owners.tsv",
                "github.com/gone is in owners.tsv, but owns no crate",
            ],
        )

    def test_facts_come_from_the_sources(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for path, text in {
                "Cargo.toml": "",
                "src/lib.rs": "// unsafe\nunsafe fn f() { unsafe { g() } }\n#![forbid(unsafe_code)]\n",
                "tests/all.rs": "unsafe {}",
                "vendored/a.c": "",
                "vendored/a.S": "",
            }.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(text)
            package = {
                "name": "a",
                "version": "1.0.0",
                "manifest_path": str(folder / "Cargo.toml"),
                "repository": "https://GitHub.com/Owner/a",
                "targets": [{"kind": ["lib"]}, {"kind": ["custom-build"]}],
            }
            row = dependencies.facts(package, "build")
        self.assertEqual(row, dependencies.Row("a", "1.0.0", "build", "script", "2", "2", "github.com/owner", ""))


if __name__ == "__main__":
    unittest.main()
