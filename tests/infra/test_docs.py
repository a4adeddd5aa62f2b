"""Checks that links, file names, make targets and tables in the documents match the repository."""

import re
import unittest

from . import given
from .arm import ROOT, Template
from .test_settings import in_the_readme
from .test_templates import GRANTED, ROLES

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(path):
    """The anchors of a document: its headings as GitHub names them, and its `<a id>` elements."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    names = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return names | set(re.findall(r'<a id="([^"]+)">', text))


def section(path, heading, end):
    """The text below `heading`, up to the next line that starts with `end`."""
    return path.read_text().split(f"\n{heading}\n", 1)[1].split(f"\n{end} ", 1)[0]


class Documents(unittest.TestCase):
    def test_links_have_a_target(self):
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

    def test_named_files_exist(self):
        folders = "src|crates|fuzz|benches|examples|schema|infra|tests|docs"
        for document in DOCUMENTS:
            for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", document.read_text()):
                with self.subTest(f"{document.name}: {name}"):
                    self.assertTrue((ROOT / name).exists())

    def test_named_make_targets_exist(self):
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for document in DOCUMENTS:
            for name in re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE):
                with self.subTest(f"{document.name}: make {name}"):
                    self.assertIn(name, targets)

    def test_every_reason_has_a_remedy(self):
        reasons = set(re.findall(r'=> "([a-z-]+)"', (ROOT / "src/verdict.rs").read_text()))
        self.assertGreater(len(reasons), 8)
        table = section(ROOT / "docs/partner.md", "### Drops that are set aside", "###")
        self.assertEqual(set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)), reasons)

    def test_named_parameters_exist_in_the_template(self):
        table = section(ROOT / "docs/partner.md", "### The parameters", "###")
        rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        self.assertGreater(len(named), 8)
        self.assertLessEqual(named, set(Template(given.PARTNER).parameters))

    def test_roles_are_those_of_the_templates(self):
        table = section(ROOT / "docs/security.md", "## Roles", "##")
        granted = {role for roles in GRANTED.values() for _, _, role in roles}
        listed = {role for role in ROLES.values() if role in table}
        self.assertEqual(listed, granted)

    def test_every_limit_is_a_constant_of_the_named_file_or_a_setting(self):
        limits = section(ROOT / "docs/security.md", "## Limits", "##")
        rows = re.findall(r"^\| (?!what|-)(.+?) \| (.+?) \| (.+?) \|$", limits, re.MULTILINE)
        self.assertGreater(len(rows), 40)
        settings = in_the_readme()
        for what, value, where in rows:
            names = re.findall(r"`([A-Z_]+)`", where)
            files = re.findall(r"`(src/[\w/.]+)`", where)
            with self.subTest(what):
                self.assertTrue(names)
                if files:
                    source = "".join((ROOT / file).read_text() for file in files)
                    for name in names:
                        self.assertRegex(source, rf"const {name}: ")
                else:
                    for name, default in zip(names, re.findall(r"`([^`]+)`", value), strict=True):
                        self.assertEqual(settings[name], default)

    def test_directory_columns_are_those_of_the_template(self):
        customer = (ROOT / "docs/customer.md").read_text()
        (row,) = re.findall(r"^\| basic facts.*$", customer, re.MULTILINE)
        columns = {column["name"] for column in Template(given.MANAGED_APP).variables["directoryColumns"]}
        self.assertEqual(set(re.findall(r"`(\w+)`", row)), columns)


if __name__ == "__main__":
    unittest.main()
