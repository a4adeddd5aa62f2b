"""Checks a package that `make package-test` has built: its documents describe exactly the binary in it.

Needs the package of `requirements.txt`, and VIVADROP_PACKAGE, the path of the zip.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
import time
import unittest
import zipfile
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "infra"))

import licences  # noqa: E402
import package  # noqa: E402
import sbom  # noqa: E402
from crates import linked  # noqa: E402
from elf import Elf  # noqa: E402

ARCHIVE = Path(os.environ["VIVADROP_PACKAGE"])
ARCH = re.fullmatch(r"vivadrop-linux-(\w+)\.zip", ARCHIVE.name).group(1)


class Contents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        with zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(cls.folder)
        cls.binary = cls.folder / "vivadrop"
        cls.sbom = json.loads((cls.folder / package.SBOM).read_text())
        cls.linked = linked(f"{ARCH}-unknown-linux-gnu")

    def required(self, prefix):
        """The components of the SBOM that are part of the binary and whose package URL starts with `prefix`."""
        return {
            (component["name"], component["version"])
            for component in self.sbom["components"]
            if component["scope"] == "required" and component["purl"].startswith(prefix)
        }

    def test_the_sbom_is_valid_cyclonedx(self):
        text = (self.folder / package.SBOM).read_text()
        error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
        self.assertIsNone(error, error)
        self.assertEqual((ARCHIVE.with_suffix(".cdx.json")).read_text(), text)

    def test_the_sbom_describes_this_binary(self):
        described = self.sbom["metadata"]["component"]
        self.assertEqual(described["name"], "vivadrop")
        digest = hashlib.sha256(self.binary.read_bytes()).hexdigest()
        self.assertEqual(described["hashes"], [{"alg": "SHA-256", "content": digest}])
        own = {(crate.name, crate.version) for crate in self.linked if not crate.published}
        published = {(crate.name, crate.version) for crate in self.linked if crate.published}
        self.assertEqual(self.required("pkg:cargo/"), published)
        self.assertLessEqual(own - {("vivadrop", described["version"])}, self.required("pkg:generic/"))
        self.assertEqual({name for name, _ in self.required("pkg:npm/")}, {"htm", "preact"})

    def test_every_component_of_the_sbom_has_a_licence_and_a_hash(self):
        for component in self.sbom["components"]:
            with self.subTest(component["bom-ref"]):
                self.assertTrue(component["licenses"])
                # The other components are parts of this repository or of the toolchain.
                if component["purl"].startswith(("pkg:cargo/", "pkg:npm/")):
                    self.assertRegex(component["hashes"][0]["content"], "^([0-9a-f]{64}|[0-9a-f]{128})$")

    def test_the_sbom_depends_on_the_commit_only(self):
        self.assertNotIn("serialNumber", self.sbom)
        seconds = int(sbom.commit_time())
        expected = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        self.assertEqual(self.sbom["metadata"]["timestamp"][:19], expected)
        text = (self.folder / package.SBOM).read_text()
        for folder in package.build_folders():
            self.assertNotIn(f"{folder}/", text)

    def test_the_binary_lists_the_crates_that_are_linked(self):
        listed = Elf(self.binary).crates()
        self.assertLessEqual({(crate.name, crate.version) for crate in self.linked}, listed)
        # The binary also lists optional dependencies that are not enabled. All of them are in the SBOM.
        known = {(component["name"], component["version"]) for component in self.sbom["components"]}
        described = self.sbom["metadata"]["component"]
        self.assertLessEqual(listed, known | {(described["name"], described["version"])})

    def test_every_linked_crate_has_a_licence_text(self):
        index, *texts = re.split(r"\n={120}\n\n", (self.folder / package.THIRD_PARTY_LICENCES).read_text())
        entries = dict(re.findall(r"^(\S+ \S+): (.+)$", index, re.MULTILINE))
        numbers = {number for text in texts for number in re.findall(r"^\[(\d+)\] ", text)}
        for crate in self.linked:
            if crate.published:
                with self.subTest(crate.name):
                    licence, *named = re.split(r" ?\[|\]\[|\]$", entries[f"{crate.name} {crate.version}"])
                    self.assertEqual(licence, crate.licence)
                    self.assertLessEqual(set(filter(None, named)), numbers)
        for name in ("preact and htm", "libunwind of LLVM", "compiler-rt of zig"):
            self.assertTrue(any(name in text.splitlines()[0] for text in texts), name)
        self.assertIn("MIT", (self.folder / package.OWN_LICENCE).read_text())
        self.assertIn("The Rust Standard Library", (self.folder / package.RUST_LICENCES).read_text())

    def test_every_crate_has_a_licence_text_on_each_processor(self):
        for arch in package.MACHINES:
            target = f"{arch}-unknown-linux-gnu"
            self.assertIn("\ntokio ", licences.third_party(linked(target), target))

    def test_the_binary_has_no_path_of_this_machine(self):
        package.check_paths(self.binary, package.build_folders())

    def test_the_hash_file_is_that_of_the_zip(self):
        line = ARCHIVE.with_suffix(".zip.sha256").read_text()
        self.assertEqual(line, f"{hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()}  {ARCHIVE.name}\n")


if __name__ == "__main__":
    unittest.main()
