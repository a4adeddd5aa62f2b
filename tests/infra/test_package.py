"""Tests of the release package: it contains the files that the Functions host needs, and no others."""

import fnmatch
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zipfile
import zlib
from pathlib import Path

from .arm import ROOT
from .scripts import module


package = module("package")
elf = module("elf")
crates = module("crates")

# Files that `func` never uploads.
ALWAYS_LEFT_OUT = {".funcignore", ".gitignore", "local.settings.json"}


def is_ignored(path, patterns):
    """Whether `patterns` match a path. Supports only the gitignore syntax that .funcignore uses."""
    parts = path.split("/")
    for pattern in patterns:
        assert "**" not in pattern and not pattern.startswith("!") and "/" not in pattern.strip("/"), pattern
        name = pattern.strip("/")
        places = parts[:1] if pattern.startswith("/") else parts
        # A pattern that ends with `/` matches folders only; the last part of the path is a file.
        places = places[: len(parts) - 1] if pattern.endswith("/") else places
        if any(fnmatch.fnmatchcase(place, name) for place in places):
            return True
    return False


def of_the_repository():
    """The files that git tracks; without git, all files."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        return [name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        return [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]


class Package(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def laid_out(self):
        """A folder with the layout of a package; its binary is a script."""
        binary = self.folder / "binary"
        binary.write_text("#!/bin/sh\necho vivadrop 1.2.3\n")
        package.lay_out(binary, self.folder / "app", {name: b"text" for name in package.DOCUMENTS})
        return self.folder / "app"

    def test_contains_the_files_that_funcignore_selects(self):
        lines = (ROOT / ".funcignore").read_text().splitlines()
        patterns = [line for line in lines if line and not line.startswith("#")]
        # git does not track the binary; `make app` copies it next to host.json.
        selected = {
            path
            for path in [*of_the_repository(), "vivadrop"]
            if not is_ignored(path, patterns) and path not in ALWAYS_LEFT_OUT
        }
        packed = {path.relative_to(self.laid_out()).as_posix() for path in self.laid_out().rglob("*") if path.is_file()}
        self.assertEqual(selected | set(package.DOCUMENTS), packed)

    def test_contains_every_function(self):
        functions = {path.parent.name + "/function.json" for path in ROOT.glob("*/function.json")}
        self.assertEqual(functions, set(package.HOST_FILES) - {"host.json"})

    def test_no_route_is_reserved_by_the_host_and_reading_needs_no_key_that_can_change(self):
        triggers = {}
        for path in ROOT.glob("*/function.json"):
            trigger = json.loads(path.read_text())["bindings"][0]
            if trigger["type"] == "httpTrigger":
                triggers[path.parent.name] = trigger
        for name, trigger in triggers.items():
            with self.subTest(name):
                self.assertFalse(trigger["route"].lower().startswith(("admin", "runtime")))
                self.assertEqual(trigger["route"].split("/")[0], name)
                self.assertEqual(trigger["authLevel"], "anonymous" if name == "page" else "function")
        for name in ("page", "view"):
            self.assertEqual(triggers[name]["methods"], ["get", "head"])

    def test_a_wrong_layout_is_an_error(self):
        app = self.laid_out()
        self.assertEqual(package.check_layout(app), "vivadrop")
        for spoil, why in (
            (lambda: (app / "notes.txt").write_text("x"), "notes.txt"),
            (lambda: (app / "vivadrop").chmod(0o644), "not executable"),
            (lambda: (app / "vivadrop").rename(app / "handler"), "handler"),
            (lambda: shutil.rmtree(app / "sweep"), "sweep"),
            (lambda: (app / package.SBOM).unlink(), package.SBOM),
            (lambda: (app / "notify/function.json").write_text('{"bindings": []}'), "no binding"),
            (lambda: self.rename_executable(app, "./vivadrop"), "contains"),
        ):
            self.laid_out()
            spoil()
            with self.subTest(why), self.assertRaisesRegex(package.Unfit, why):
                package.check_layout(app)

    def rename_executable(self, app, name):
        """Changes the path of the handler in host.json."""
        host = json.loads((app / "host.json").read_text())
        host["customHandler"]["description"]["defaultExecutablePath"] = name
        (app / "host.json").write_text(json.dumps(host))

    def test_is_reproducible_and_keeps_file_modes(self):
        first, second = self.folder / "first.zip", self.folder / "second.zip"
        package.zip_folder(self.laid_out(), first)
        app = self.laid_out()
        os.utime(app / "host.json", (0, 0))
        package.zip_folder(app, second)
        self.assertEqual(first.read_bytes(), second.read_bytes())
        with zipfile.ZipFile(first) as archive:
            modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
            # unzip reads modes only in archives that were created on Unix.
            self.assertEqual({entry.create_system for entry in archive.infolist()}, {3})
            self.assertEqual(archive.namelist(), sorted(archive.namelist()))
        self.assertEqual(modes.pop("vivadrop"), 0o100755)
        self.assertEqual(set(modes.values()), {0o100644})
        self.assertEqual(set(modes), {*package.HOST_FILES, *package.DOCUMENTS})

    @unittest.skipUnless(platform.libc_ver()[0] == "glibc", "the test uses Python as the binary, which is not linked to glibc here")
    def test_an_unsuitable_binary_is_an_error(self):
        arch = platform.machine()
        if arch not in package.MACHINES:
            self.skipTest(f"there are no packages for {arch}")
        python = Path(sys.executable).resolve()
        file = elf.Elf(python)
        self.assertEqual(file.machine, package.MACHINES[arch])
        self.assertTrue(any(version.startswith("GLIBC_") for version in file.needed_versions()))
        other = next(each for each in package.MACHINES if each != arch)
        with self.assertRaisesRegex(package.Unfit, "not built for"):
            package.check_binary(python, other)
        original, package.LIBRARIES = package.LIBRARIES, ("lib",) + package.LIBRARIES
        self.addCleanup(setattr, package, "LIBRARIES", original)
        newest = package.check_binary(python, arch, baseline=(99,), largest=1 << 40)
        self.assertEqual(package.check_binary(python, arch, baseline=newest, largest=1 << 40), newest)
        with self.assertRaisesRegex(package.Unfit, r"needs glibc .*: expected at most 2\.2"):
            package.check_binary(python, arch, baseline=(2, 2), largest=1 << 40)
        with self.assertRaisesRegex(package.Unfit, "is it stripped"):
            package.check_binary(python, arch, baseline=(99,), largest=1)
        package.LIBRARIES = ("nothing",)
        with self.assertRaisesRegex(package.Unfit, "needs libraries"):
            package.check_binary(python, arch, baseline=(99,), largest=1 << 40)
        script = self.folder / "script"
        script.write_text("#!/bin/sh\n")
        with self.assertRaisesRegex(elf.NotElf, "not a 64-bit little-endian ELF file"):
            package.check_binary(script, arch)
        with self.assertRaisesRegex(elf.NotElf, "was it built with `cargo auditable`"):
            package.check_crates(python, [])

    def with_crates(self, packages):
        """The smallest ELF file with a list of crates."""
        packed = zlib.compress(json.dumps({"packages": packages}).encode())
        names = b"\0.dep-v0\0.shstrtab\0"
        table = 64 + len(packed) + len(names)
        header = b"\x7fELF\x02\x01\x01" + bytes(9)
        header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
        sections = [(0, 0, 0, 0), (1, 1, 64, len(packed)), (9, 3, 64 + len(packed), len(names))]
        rows = b"".join(struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0) for name, kind, at, size in sections)
        path = self.folder / "binary.elf"
        path.write_bytes(header + packed + names + rows)
        return path

    def test_a_binary_of_other_sources_is_an_error(self):
        path = self.with_crates(
            [
                {"name": "vivadrop", "version": "0.1.0", "source": "local", "root": True},
                {"name": "aes", "version": "0.9.3", "source": "crates.io"},
                {"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"},
            ]
        )
        self.assertEqual(elf.Elf(path).crates(), {("vivadrop", "0.1.0"), ("aes", "0.9.3")})
        aes = crates.Crate("aes", "0.9.3", "MIT", "", self.folder, True)
        package.check_crates(path, [aes])
        with self.assertRaisesRegex(package.Unfit, "does not have aes 0.9.4, cc 1.0.0"):
            package.check_crates(path, [aes._replace(version="0.9.4"), aes._replace(name="cc", version="1.0.0")])

    def test_a_binary_with_a_path_of_this_machine_is_an_error(self):
        binary = self.folder / "binary"
        binary.write_bytes(b"\0/crates/aes-0.9.4/src/lib.rs\0/home/")
        package.check_paths(binary, [self.folder, Path.home()])
        binary.write_bytes(b"\0" + bytes(self.folder / "src/main.rs") + b"\0")
        with self.assertRaisesRegex(package.Unfit, "contains a path of this machine, `.*/src/main.rs`"):
            package.check_paths(binary, [self.folder])

    def test_no_source_of_the_binary_uses_the_path_of_the_checkout(self):
        for path in [*ROOT.glob("src/**/*.rs"), *ROOT.glob("crates/*/src/**/*.rs")]:
            if path.stem != "tests" and "tests" not in path.parts:
                code = path.read_text().split("#[cfg(test)]")[0]
                with self.subTest(path.relative_to(ROOT)):
                    self.assertNotRegex(code, r"env!\(\"(CARGO_MANIFEST_DIR|OUT_DIR|CARGO_HOME)\"\)")

    def test_a_binary_that_cannot_print_its_version_is_an_error(self):
        if sys.platform != "linux":
            self.skipTest("the test uses a script as the Linux binary")
        app = self.laid_out()
        self.assertTrue(package.check_run(app, "vivadrop", platform.machine()))
        (app / "vivadrop").write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
        with self.assertRaisesRegex(package.Unfit, "no such library"):
            package.check_run(app, "vivadrop", platform.machine())
        self.assertFalse(package.check_run(app, "vivadrop", "another"))

    def test_the_dockerfile_copies_the_package(self):
        dockerfile = (ROOT / "Dockerfile").read_text()
        self.assertIn("COPY dist/linux-x86_64/ /home/site/wwwroot/", dockerfile)
        self.assertIn("ARG BASE_IMAGE=mcr.microsoft.com/azure-functions/base:4\nFROM ${BASE_IMAGE}\n", dockerfile)


if __name__ == "__main__":
    unittest.main()
