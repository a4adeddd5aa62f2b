#!/usr/bin/env python3
"""Packs a release for Azure Functions on Linux: lays it out, checks it, zips it.

    python3 infra/package.py target/x86_64-unknown-linux-gnu/release/vivadrop --arch x86_64

What comes out: `dist/linux-ARCH/`, for `func azure functionapp publish` and the Dockerfile, and
`dist/vivadrop-linux-ARCH.zip`, for a zip deployment. Knows what the Functions host needs of a package, and nothing of
how the binary was built. Python's own library is all it takes.
"""

import argparse
import json
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What goes into a package beside the binary. `.funcignore` says the same for publishing from the repository.
HOST_FILES = ["host.json", "function/function.json", "notify/function.json", "sweep/function.json"]

# The oldest glibc that is promised: that of Debian 10. Azure does not say what Flex Consumption runs on; its images for
# containers have 2.31 (bullseye) and 2.36 (bookworm).
GLIBC_BASELINE = (2, 28)
LARGEST_BINARY = 15 * 1024 * 1024
MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine

# What a glibc system has without installing anything.
LIBRARIES = ("libc.so.", "libm.so.", "libdl.so.", "libpthread.so.", "librt.so.", "ld-linux-")

# Zip's own beginning of time: the same files make the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


class Unfit(Exception):
    """The package would not run in Azure; the message says why."""


class Elf:
    """What an ELF file of 64 bits, little-endian, says of itself."""

    def __init__(self, path):
        self.data = Path(path).read_bytes()
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise Unfit(f"{path} is no ELF file of 64 bits, little-endian: was it built for Linux?")
        (self.machine,) = struct.unpack_from("<H", self.data, 18)
        (table,) = struct.unpack_from("<Q", self.data, 40)
        size, count = struct.unpack_from("<HH", self.data, 58)
        self.sections = [self._section(table + size * i) for i in range(count)]

    def _section(self, at):
        kind, _flags, _address, offset, size, link = struct.unpack_from("<IQQQQI", self.data, at + 4)
        return kind, offset, size, link

    def _text(self, strings, at):
        start = self.sections[strings][1] + at
        return self.data[start : self.data.index(b"\0", start)].decode()

    def needed_libraries(self):
        """The shared libraries that it is linked to."""
        found = []
        for kind, offset, size, link in self.sections:
            if kind == 6:  # SHT_DYNAMIC
                for at in range(offset, offset + size, 16):
                    tag, value = struct.unpack_from("<qQ", self.data, at)
                    if tag == 1:  # DT_NEEDED
                        found.append(self._text(link, value))
        return found

    def needed_versions(self):
        """The symbol versions that it needs of them, such as `GLIBC_2.28`."""
        found = set()
        for kind, offset, _size, link in self.sections:
            if kind != 0x6FFFFFFE:  # SHT_GNU_verneed
                continue
            library = offset
            while True:
                _version, _count, _file, first, following = struct.unpack_from("<HHIII", self.data, library)
                version = library + first
                while True:
                    _hash, _flags, _other, name, after = struct.unpack_from("<IHHII", self.data, version)
                    found.add(self._text(link, name))
                    if after == 0:
                        break
                    version += after
                if following == 0:
                    break
                library += following
        return found


def check_binary(path, arch, baseline=GLIBC_BASELINE, largest=LARGEST_BINARY):
    """Raises `Unfit` where the binary would not run, or not start in time; returns the newest glibc that it needs."""
    elf = Elf(path)
    if elf.machine != MACHINES[arch]:
        raise Unfit(f"{path} is for another machine than {arch} (e_machine {elf.machine})")
    foreign = [name for name in elf.needed_libraries() if not name.startswith(LIBRARIES)]
    if foreign:
        raise Unfit(f"{path} needs libraries that the host may not have: {', '.join(sorted(foreign))}")
    glibc = [version for version in elf.needed_versions() if version.startswith("GLIBC_")]
    numbers = [tuple(int(part) for part in version[6:].split(".")) for version in glibc if version[6:7].isdigit()]
    newest = max(numbers, default=(0,))
    if newest > baseline:
        told = ".".join(map(str, newest))
        raise Unfit(f"{path} needs glibc {told}, and {'.'.join(map(str, baseline))} is promised")
    size = os.path.getsize(path)
    if size > largest:
        raise Unfit(f"{path} has {size} bytes, and no more than {largest} are promised: is it stripped?")
    return newest


def check_layout(folder):
    """Raises `Unfit` where the Functions host would not find what it looks for."""
    folder = Path(folder)
    host = json.loads((folder / "host.json").read_text())
    name = host["customHandler"]["description"]["defaultExecutablePath"]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {*HOST_FILES, name}
    if found != expected:
        raise Unfit(f"the package holds {sorted(found)}: expected {sorted(expected)}")
    # `func` gives the run bit to the one entry that is named exactly so: `./vivadrop` would do locally, and not in Azure.
    if "/" in name or "\\" in name:
        raise Unfit(f"defaultExecutablePath is `{name}`: expected a plain file name")
    if not (folder / name).stat().st_mode & stat.S_IXUSR:
        raise Unfit(f"{name} lacks its run bit")
    for function in HOST_FILES[1:]:
        if not json.loads((folder / function).read_text())["bindings"]:
            raise Unfit(f"{function} has no binding")
    return name


def check_run(folder, name, arch):
    """Runs `--version`, where this machine can; says whether it did."""
    if platform.system() != "Linux" or platform.machine() != arch:
        return False
    # The path is absolute, so that the check does not depend on where it is started.
    said = subprocess.run([(Path(folder) / name).resolve(), "--version"], capture_output=True, text=True, check=False)
    if said.returncode != 0 or not said.stdout.startswith("vivadrop "):
        raise Unfit(f"{name} --version ends with {said.returncode}: {said.stderr.strip() or said.stdout.strip()}")
    return True


def lay_out(binary, folder, root=ROOT):
    """Copies what belongs to a package into the empty `folder`."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for file in HOST_FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, folder / file)
        (folder / file).chmod(0o644)
    name = json.loads((root / "host.json").read_text())["customHandler"]["description"]["defaultExecutablePath"]
    shutil.copyfile(binary, folder / name)
    (folder / name).chmod(0o755)


def zip_folder(folder, target):
    """Zips `folder` with unix modes kept and nothing in it of when or where that was."""
    folder = Path(folder)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            entry.create_system = 3  # unix: what else is a mode to whoever unpacks it
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def main(arguments):
    parser = argparse.ArgumentParser(description="Packs a release for Azure Functions on Linux.")
    parser.add_argument("binary", type=Path)
    parser.add_argument("--arch", choices=MACHINES, default="x86_64")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args(arguments)
    folder = options.out / f"linux-{options.arch}"
    archive = options.out / f"vivadrop-linux-{options.arch}.zip"
    try:
        newest = check_binary(options.binary, options.arch)
        lay_out(options.binary, folder)
        name = check_layout(folder)
        ran = check_run(folder, name, options.arch)
        zip_folder(folder, archive)
    except (Unfit, OSError) as error:
        print(f"no package was made: {error}", file=sys.stderr)
        return 1
    megabytes = (folder / name).stat().st_size / 1024 / 1024
    print(f"{archive}: {name} of {megabytes:.1f} MiB, needs glibc {'.'.join(map(str, newest))}")
    print(f"  {'its `--version` runs here' if ran else 'it was not run: this machine is none of its kind'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
