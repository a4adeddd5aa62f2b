"""What the documents name is there."""

import re
import unittest

from . import given
from .arm import ROOT, Template
from .test_templates import GRANTED, ROLES

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(path):
    """What a link may jump to: the headings as GitHub names them, and named anchors."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    names = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return names | set(re.findall(r'<a id="([^"]+)">', text))


class TheDocuments(unittest.TestCase):
    def test_link_to_what_there_is(self):
        for document in DOCUMENTS:
            for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
                if target.startswith("http"):
                    continue
                path, _, anchor = target.partition("#")
                file = (document.parent / path).resolve() if path else document
                with self.subTest(f"{document.name}: {target}"):
                    self.assertTrue(file.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(file))

    def test_name_files_that_there_are(self):
        for document in DOCUMENTS:
            for name in re.findall(r"`((?:src|infra|tests|docs)/[\w./-]+)`", document.read_text()):
                with self.subTest(f"{document.name}: {name}"):
                    self.assertTrue((ROOT / name).exists())

    def test_name_targets_that_the_makefile_has(self):
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for document in DOCUMENTS:
            for name in re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE):
                with self.subTest(f"{document.name}: make {name}"):
                    self.assertIn(name, targets)

    def test_say_what_to_do_about_every_reason(self):
        reasons = set(re.findall(r'=> "([a-z-]+)"', (ROOT / "src/verdict.rs").read_text()))
        self.assertGreater(len(reasons), 8)
        partner = (ROOT / "docs/partner.md").read_text()
        table = partner.split("### What was set aside", 1)[1].split("\n### ", 1)[0]
        self.assertEqual(set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)), reasons)

    def test_name_parameters_that_the_template_has(self):
        partner = (ROOT / "docs/partner.md").read_text()
        table = partner.split("### The parameters", 1)[1].split("\n### ", 1)[0]
        named = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
        self.assertGreater(len(named), 8)
        self.assertLessEqual(named, set(Template(given.PARTNER).parameters))

    def test_list_the_roles_that_the_templates_give(self):
        security = (ROOT / "docs/security.md").read_text()
        table = security.split("## Roles", 1)[1].split("\n## ", 1)[0]
        granted = {role for roles in GRANTED.values() for _, _, role in roles}
        listed = {role for role in ROLES.values() if role in table}
        self.assertEqual(listed, granted)

    def test_list_the_columns_of_the_directory_that_leave_the_tenant(self):
        customer = (ROOT / "docs/customer.md").read_text()
        (row,) = re.findall(r"^\| basic facts.*$", customer, re.MULTILINE)
        columns = {column["name"] for column in Template(given.MANAGED_APP).variables["directoryColumns"]}
        self.assertEqual(set(re.findall(r"`(\w+)`", row)), columns)


if __name__ == "__main__":
    unittest.main()
