"""Tests of the licence texts of a release: every crate has one, and a crate without one is an error."""

import tempfile
import unittest
from pathlib import Path

from .arm import ROOT
from .scripts import module

licences = module("licences")
crates = module("crates")


class Licences(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def crate(self, name, files, licence="MIT", repository="https://example.com/x"):
        """A crate with `files`: texts by path."""
        folder = self.folder / name
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return crates.Crate(name, "1.2.3", licence, repository, folder, True)

    def names(self, crate):
        """The names of the licence texts of a crate."""
        return [name for name, _ in licences.texts(crate)]

    def test_licences_and_notices_are_found_at_any_depth(self):
        files = ["LICENSE-MIT", "UNLICENSE", "COPYING.md", "NOTICE", "c/third_party/LICENSE", "src/license.rs", "README.md"]
        crate = self.crate("a", dict.fromkeys(files, "text"))
        self.assertEqual(sorted(self.names(crate)), ["COPYING.md", "LICENSE-MIT", "NOTICE", "UNLICENSE", "c/third_party/LICENSE"])

    def test_a_crate_without_a_licence_text_is_an_error(self):
        for name, files in {"a": {"README.md": "MIT"}, "b": {"NOTICE": "by me"}, "c": {"vendored/LICENSE": "of another"}}.items():
            with self.subTest(files), self.assertRaisesRegex(licences.NoLicence, rf"{name} 1\.2\.3 \(MIT\) has no licence file"):
                licences.texts(self.crate(name, files))

    def test_the_text_of_a_known_repository_is_used_for_its_licence_only(self):
        repository = "https://github.com/Azure/azure-sdk-for-rust"
        crate = self.crate("azure_core", {"README.md": ""}, repository=repository)
        self.assertEqual(self.names(crate), ["azure-sdk-for-rust.txt"])
        self.assertEqual(self.names(crate._replace(repository=repository + "/tree/main/sdk")), ["azure-sdk-for-rust.txt"])
        with self.assertRaisesRegex(licences.NoLicence, "`Apache-2.0`: expected `MIT`"):
            licences.texts(crate._replace(licence="Apache-2.0"))
        with self.assertRaisesRegex(licences.NoLicence, "has no licence file"):
            licences.texts(crate._replace(repository=repository + "-fork"))

    def test_every_text_in_the_folder_is_used(self):
        used = {file for _, file in licences.REPOSITORIES.values()} | set(licences.OF_THE_LINKER.values())
        self.assertEqual(used, {path.name for path in (ROOT / "infra/licences").iterdir()})

    def test_equal_texts_occur_once(self):
        first = self.crate("a", {"LICENSE": "the same text\r\n"})
        second = self.crate("b", {"LICENSE": "the same text  \n\n", "NOTICE": "another text"})
        document = licences.third_party([first, second], "x86_64-unknown-linux-gnu")
        self.assertEqual(document.count("the same text"), 1)
        self.assertIn("a 1.2.3: MIT [1]\nb 1.2.3: MIT [1][2]\n", document)
        self.assertIn("\n[1] a 1.2.3, b 1.2.3\n\nthe same text\n", document)
        self.assertIn("\n[2] b 1.2.3\n\nanother text\n", document)


if __name__ == "__main__":
    unittest.main()
