"""What is published holds what the Functions host needs, and nothing else."""

import fnmatch
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

from .arm import ROOT
from .scripts import module


package = module("package")

# What `func` leaves out whatever .funcignore says.
ALWAYS_LEFT_OUT = {".funcignore", ".gitignore", "local.settings.json"}


def is_ignored(path, patterns):
    """Whether a path of the repository is named in `patterns`, in the part of gitignore's language that ours use."""
    parts = path.split("/")
    for pattern in patterns:
        assert "**" not in pattern and not pattern.startswith("!") and "/" not in pattern.strip("/"), pattern
        name = pattern.strip("/")
        places = parts[:1] if pattern.startswith("/") else parts
        # A pattern that ends in `/` names folders, and the last part is a file.
        places = places[: len(parts) - 1] if pattern.endswith("/") else places
        if any(fnmatch.fnmatchcase(place, name) for place in places):
            return True
    return False


def of_the_repository():
    """The files that are kept in git; without git, all that there are."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        return [name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        return [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]


class ThePackage(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def laid_out(self):
        binary = self.folder / "binary"
        binary.write_text("#!/bin/sh\necho vivadrop 1.2.3\n")
        package.lay_out(binary, self.folder / "app")
        return self.folder / "app"

    def test_holds_what_funcignore_lets_through(self):
        lines = (ROOT / ".funcignore").read_text().splitlines()
        patterns = [line for line in lines if line and not line.startswith("#")]
        # The binary is not in git; `make app` puts it beside host.json.
        let_through = {
            path
            for path in [*of_the_repository(), "vivadrop"]
            if not is_ignored(path, patterns) and path not in ALWAYS_LEFT_OUT
        }
        packed = {path.relative_to(self.laid_out()).as_posix() for path in self.laid_out().rglob("*") if path.is_file()}
        self.assertEqual(let_through, packed)

    def test_holds_every_function_that_there_is(self):
        functions = {path.parent.name + "/function.json" for path in ROOT.glob("*/function.json")}
        self.assertEqual(functions, set(package.HOST_FILES) - {"host.json"})

    def test_is_refused_where_the_host_would_not_find_the_binary(self):
        app = self.laid_out()
        self.assertEqual(package.check_layout(app), "vivadrop")
        for spoil, why in (
            (lambda: (app / "notes.txt").write_text("x"), "notes.txt"),
            (lambda: (app / "vivadrop").chmod(0o644), "run bit"),
            (lambda: (app / "vivadrop").rename(app / "handler"), "handler"),
            (lambda: shutil.rmtree(app / "sweep"), "sweep"),
            (lambda: (app / "notify/function.json").write_text('{"bindings": []}'), "no binding"),
            (lambda: self.rename_executable(app, "./vivadrop"), "holds"),
        ):
            self.laid_out()
            spoil()
            with self.subTest(why), self.assertRaisesRegex(package.Unfit, why):
                package.check_layout(app)

    def rename_executable(self, app, name):
        host = json.loads((app / "host.json").read_text())
        host["customHandler"]["description"]["defaultExecutablePath"] = name
        (app / "host.json").write_text(json.dumps(host))

    def test_has_the_same_bytes_whenever_it_is_made_and_keeps_the_run_bit(self):
        first, second = self.folder / "first.zip", self.folder / "second.zip"
        package.zip_folder(self.laid_out(), first)
        app = self.laid_out()
        os.utime(app / "host.json", (0, 0))
        package.zip_folder(app, second)
        self.assertEqual(first.read_bytes(), second.read_bytes())
        with zipfile.ZipFile(first) as archive:
            modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
            # Modes are looked at in archives of unix alone.
            self.assertEqual({entry.create_system for entry in archive.infolist()}, {3})
            self.assertEqual(archive.namelist(), sorted(archive.namelist()))
        self.assertEqual(modes.pop("vivadrop"), 0o100755)
        self.assertEqual(set(modes.values()), {0o100644})
        self.assertEqual(set(modes), set(package.HOST_FILES))

    @unittest.skipUnless(platform.libc_ver()[0] == "glibc", "Python stands for a binary, and is none for glibc here")
    def test_is_refused_where_the_binary_would_not_run(self):
        arch = platform.machine()
        if arch not in package.MACHINES:
            self.skipTest(f"packages are not made for {arch}")
        python = Path(sys.executable).resolve()
        elf = package.Elf(python)
        self.assertEqual(elf.machine, package.MACHINES[arch])
        self.assertTrue(any(version.startswith("GLIBC_") for version in elf.needed_versions()))
        other = next(each for each in package.MACHINES if each != arch)
        with self.assertRaisesRegex(package.Unfit, "another machine"):
            package.check_binary(python, other)
        original, package.LIBRARIES = package.LIBRARIES, ("lib",) + package.LIBRARIES
        self.addCleanup(setattr, package, "LIBRARIES", original)
        newest = package.check_binary(python, arch, baseline=(99,), largest=1 << 40)
        self.assertEqual(package.check_binary(python, arch, baseline=newest, largest=1 << 40), newest)
        with self.assertRaisesRegex(package.Unfit, r"needs glibc .* 2\.2 is promised"):
            package.check_binary(python, arch, baseline=(2, 2), largest=1 << 40)
        with self.assertRaisesRegex(package.Unfit, "is it stripped"):
            package.check_binary(python, arch, baseline=(99,), largest=1)
        package.LIBRARIES = ("nothing",)
        with self.assertRaisesRegex(package.Unfit, "needs libraries"):
            package.check_binary(python, arch, baseline=(99,), largest=1 << 40)
        script = self.folder / "script"
        script.write_text("#!/bin/sh\n")
        with self.assertRaisesRegex(package.Unfit, "no ELF file"):
            package.check_binary(script, arch)

    def test_is_refused_where_the_binary_cannot_say_its_version(self):
        if sys.platform != "linux":
            self.skipTest("the script stands for a Linux binary")
        app = self.laid_out()
        self.assertTrue(package.check_run(app, "vivadrop", platform.machine()))
        (app / "vivadrop").write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
        with self.assertRaisesRegex(package.Unfit, "no such library"):
            package.check_run(app, "vivadrop", platform.machine())
        self.assertFalse(package.check_run(app, "vivadrop", "another"))

    def test_runs_in_the_container_as_it_does_elsewhere(self):
        dockerfile = (ROOT / "Dockerfile").read_text()
        self.assertIn("COPY dist/linux-x86_64/ /home/site/wwwroot/", dockerfile)
        self.assertIn("FROM mcr.microsoft.com/azure-functions/dotnet:4\n", dockerfile)


if __name__ == "__main__":
    unittest.main()
