"""Tests of the corrections to the SBOM that cargo-cyclonedx creates."""

import copy
import json
import tempfile
import unittest
from pathlib import Path

from .scripts import module

sbom = module("sbom")
crates = module("crates")


def component(name, version, reference):
    """A crate as cargo-cyclonedx describes it."""
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{"expression": "MIT"}],
        "purl": f"pkg:cargo/{name}@{version}",
    }


AES, SYN = "registry+https://example.com/index#aes@0.9.4", "registry+https://example.com/index#syn@3.0.9"
APP, OWN = "path+file:///home/me/checkout#vivadrop@0.1.0", "path+file:///home/me/checkout/crates/inflate#0.1.0"
# As cargo-cyclonedx writes it: everything is required, and references have paths.
RAW = {
    "bomFormat": "CycloneDX",
    "metadata": {
        "component": {
            **component("vivadrop", "0.1.0", APP),
            "components": [{"bom-ref": f"{APP} bin-target-0", "purl": "pkg:cargo/vivadrop@0.1.0?download_url=file://."}],
        }
    },
    "components": [component("inflate", "0.1.0", OWN), component("aes", "0.9.4", AES), component("syn", "3.0.9", SYN)],
    "dependencies": [{"ref": APP, "dependsOn": [OWN, AES, SYN]}, {"ref": OWN}, {"ref": AES}, {"ref": SYN}],
}


class Sbom(unittest.TestCase):
    def completed(self):
        """The SBOM after the corrections, for a binary that links `inflate` and `aes` only."""
        with tempfile.TemporaryDirectory() as folder:
            binary = Path(folder) / "vivadrop"
            binary.write_bytes(b"abc")
            linked = [
                crates.Crate("inflate", "0.1.0", "MIT", "", Path(folder), False),
                crates.Crate("aes", "0.9.4", "MIT", "", Path(folder), True),
            ]
            return sbom.completed(copy.deepcopy(RAW), linked, binary, "1.90.0")

    def test_only_linked_crates_are_required(self):
        scopes = {each["name"]: each["scope"] for each in self.completed()["components"]}
        self.assertEqual(scopes["syn"], "excluded")
        self.assertEqual({name for name, scope in scopes.items() if scope == "required"}, set(scopes) - {"syn"})

    def test_it_contains_no_paths(self):
        text = json.dumps(self.completed())
        self.assertNotIn("file:", text)
        self.assertNotIn("checkout", text)

    def test_crates_of_the_repository_are_not_taken_for_those_of_the_registry_with_the_same_name(self):
        (inflate,) = [each for each in self.completed()["components"] if each["name"] == "inflate"]
        self.assertEqual(inflate["purl"], "pkg:generic/inflate@0.1.0")

    def test_it_names_the_binary_by_its_hash(self):
        described = self.completed()["metadata"]["component"]
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        self.assertEqual(described["hashes"], [{"alg": "SHA-256", "content": digest}])

    def test_it_lists_what_is_in_the_binary_besides_crates(self):
        completed = self.completed()
        found = {each["name"]: each for each in completed["components"]}
        self.assertLessEqual({"preact", "htm", "rust-std", "ziglang"}, set(found))
        self.assertRegex(found["preact"]["hashes"][0]["content"], "^[0-9a-f]{128}$")
        self.assertEqual(found["preact"]["hashes"][0]["alg"], "SHA-512")
        self.assertEqual(found["rust-std"]["cpe"], "cpe:2.3:a:rust-lang:rust:1.90.0:*:*:*:*:*:*:*")

    def test_every_reference_has_a_component(self):
        completed = self.completed()
        known = {each["bom-ref"] for each in [completed["metadata"]["component"], *completed["components"]]}
        self.assertEqual({each["ref"] for each in completed["dependencies"]}, known)
        (root,) = [each for each in completed["dependencies"] if each["ref"] == "pkg:generic/vivadrop@0.1.0"]
        self.assertEqual(set(root["dependsOn"]), known - {"pkg:generic/vivadrop@0.1.0"})


if __name__ == "__main__":
    unittest.main()
