#!/usr/bin/env python3
"""Creates and checks a release package for Azure Functions on Linux.

    python3 infra/package.py target/x86_64-unknown-linux-gnu/release/vivadrop --arch x86_64

Output: `dist/linux-ARCH/`, for `func azure functionapp publish` and the Dockerfile, and `dist/vivadrop-linux-ARCH.zip`,
for a zip deployment. It does not depend on how the binary was built. It needs only Python's standard library.
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

# Files of a package besides the binary. `.funcignore` selects the same files for publishing from the repository.
FUNCTIONS = ["function", "manage", "notify", "page", "sweep", "view"]
HOST_FILES = ["host.json", *(f"{name}/function.json" for name in FUNCTIONS)]

# The oldest supported glibc version: that of Debian 10. Azure does not document which version Flex Consumption has; its
# container images have 2.31 (bullseye) and 2.36 (bookworm).
GLIBC_BASELINE = (2, 28)
LARGEST_BINARY = 15 * 1024 * 1024
MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine

# Libraries that every glibc system has.
LIBRARIES = ("libc.so.", "libm.so.", "libdl.so.", "libpthread.so.", "librt.so.", "ld-linux-")

# Timestamp of all zip entries, so that the same files result in the same bytes. Zip has no earlier date.
EPOCH = (1980, 1, 1, 0, 0, 0)


class Unfit(Exception):
    """The package would not run in Azure. The message has the reason."""


class Elf:
    """Reads the headers of a 64-bit little-endian ELF file."""

    def __init__(self, path):
        self.data = Path(path).read_bytes()
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise Unfit(f"{path} is not a 64-bit little-endian ELF file: was it built for Linux?")
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
        """The shared libraries that the file is linked to."""
        found = []
        for kind, offset, size, link in self.sections:
            if kind == 6:  # SHT_DYNAMIC
                for at in range(offset, offset + size, 16):
                    tag, value = struct.unpack_from("<qQ", self.data, at)
                    if tag == 1:  # DT_NEEDED
                        found.append(self._text(link, value))
        return found

    def needed_versions(self):
        """The symbol versions that the file needs, such as `GLIBC_2.28`."""
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
    """Returns the glibc version that the binary needs; raises `Unfit` if it would not run, or starts too slowly."""
    elf = Elf(path)
    if elf.machine != MACHINES[arch]:
        raise Unfit(f"{path} is not built for {arch} (e_machine {elf.machine})")
    foreign = [name for name in elf.needed_libraries() if not name.startswith(LIBRARIES)]
    if foreign:
        raise Unfit(f"{path} needs libraries that the host may not have: {', '.join(sorted(foreign))}")
    glibc = [version for version in elf.needed_versions() if version.startswith("GLIBC_")]
    numbers = [tuple(int(part) for part in version[6:].split(".")) for version in glibc if version[6:7].isdigit()]
    newest = max(numbers, default=(0,))
    if newest > baseline:
        needed = ".".join(map(str, newest))
        raise Unfit(f"{path} needs glibc {needed}: expected at most {'.'.join(map(str, baseline))}")
    size = os.path.getsize(path)
    if size > largest:
        raise Unfit(f"{path} has {size} bytes: expected at most {largest}; is it stripped?")
    return newest


def check_layout(folder):
    """Returns the name of the binary; raises `Unfit` if the Functions host would not find the files that it needs."""
    folder = Path(folder)
    host = json.loads((folder / "host.json").read_text())
    name = host["customHandler"]["description"]["defaultExecutablePath"]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {*HOST_FILES, name}
    if found != expected:
        raise Unfit(f"the package contains {sorted(found)}: expected {sorted(expected)}")
    # `func` makes the file with exactly this name executable: `./vivadrop` would work locally, but not in Azure.
    if "/" in name or "\\" in name:
        raise Unfit(f"defaultExecutablePath is `{name}`: expected a plain file name")
    if not (folder / name).stat().st_mode & stat.S_IXUSR:
        raise Unfit(f"{name} is not executable")
    for function in HOST_FILES[1:]:
        if not json.loads((folder / function).read_text())["bindings"]:
            raise Unfit(f"{function} has no binding")
    return name


def check_run(folder, name, arch):
    """Runs the binary with `--version` if this machine can; returns whether it did. Raises `Unfit` if the command fails."""
    if platform.system() != "Linux" or platform.machine() != arch:
        return False
    # The path is absolute, so that the check does not depend on the working directory.
    done = subprocess.run([(Path(folder) / name).resolve(), "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.startswith("vivadrop "):
        raise Unfit(f"{name} --version exits with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return True


def lay_out(binary, folder, root=ROOT):
    """Replaces `folder` with the files of a package."""
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
    """Zips `folder` with Unix file modes, and without timestamps, so that the same files result in the same bytes."""
    folder = Path(folder)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            entry.create_system = 3  # Unix: unzip ignores the modes of other systems
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def main(arguments):
    parser = argparse.ArgumentParser(description="Creates and checks a release package for Azure Functions on Linux.")
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
        print(f"no package was created: {error}", file=sys.stderr)
        return 1
    megabytes = (folder / name).stat().st_size / 1024 / 1024
    print(f"{archive}: {name} of {megabytes:.1f} MiB, needs glibc {'.'.join(map(str, newest))}")
    print(f"  {'`--version` works on this machine' if ran else 'not run: this machine has another system or processor'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
