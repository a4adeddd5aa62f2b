#!/usr/bin/env python3
"""Creates and checks a release package for Azure Functions on Linux.

    python3 infra/package.py target/x86_64-unknown-linux-gnu/release/vivadrop --arch x86_64

Output: `dist/linux-ARCH/`, for `func azure functionapp publish` and the Dockerfile; `dist/vivadrop-linux-ARCH.zip`, for a
zip deployment, and its hash; and a copy of the SBOM. The same binary and sources result in the same bytes. It needs
cargo-cyclonedx, and besides only Python's standard library.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import licences
import sbom
from crates import ROOT, linked
from elf import Elf, NotElf

# Files of a package that the Functions host reads, besides the binary. `.funcignore` selects the same files for publishing
# from the repository.
FUNCTIONS = ["function", "manage", "notify", "page", "sweep", "view"]
HOST_FILES = ["host.json", *(f"{name}/function.json" for name in FUNCTIONS)]

# Files of a package for people and for scanners.
SBOM = "vivadrop.cdx.json"
OWN_LICENCE = "licences/vivadrop.txt"
THIRD_PARTY_LICENCES = "licences/third-party.txt"
RUST_LICENCES = "licences/rust-standard-library.html"
DOCUMENTS = [SBOM, OWN_LICENCE, THIRD_PARTY_LICENCES, RUST_LICENCES]

# The oldest supported glibc version: that of Debian 10. Azure does not document which version Flex Consumption has; its
# container images have 2.31 (bullseye) and 2.36 (bookworm).
GLIBC_BASELINE = (2, 28)
# A release has 20 MiB. One with symbols, or without link-time optimization, is larger than this.
LARGEST_BINARY = 24 * 1024 * 1024
MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine

# Libraries that every glibc system has.
LIBRARIES = ("libc.so.", "libm.so.", "libdl.so.", "libpthread.so.", "librt.so.", "ld-linux-")

# Timestamp of all zip entries, so that the same files result in the same bytes. Zip has no earlier date.
EPOCH = (1980, 1, 1, 0, 0, 0)


class Unfit(Exception):
    """The package must not be released: it would not run in Azure, or was built from other sources. The message says why."""


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


def check_crates(path, crates):
    """Raises `Unfit` if the binary does not list `crates`, those that a build of these sources links."""
    missing = {(crate.name, crate.version) for crate in crates} - Elf(path).crates()
    if missing:
        names = ", ".join(sorted(f"{name} {version}" for name, version in missing))
        raise Unfit(f"{path} was built from other sources: its list of crates does not have {names}")


def check_paths(path, folders):
    """Raises `Unfit` if the binary contains the path of one of `folders`: a build elsewhere would result in other bytes."""
    data = Path(path).read_bytes()
    for folder in folders:
        at = data.find(os.fsencode(f"{folder}{os.sep}"))
        if at >= 0:
            found = data[at : at + 120].split(b"\0")[0].decode(errors="replace")
            raise Unfit(f"{path} contains a path of this machine, `{found}`: was it built by infra/build.sh?")


def build_folders(root=ROOT):
    """The folders whose paths the compiler may see: home, checkout, and those of cargo and rustup."""
    home = Path.home()
    cargo_home = Path(os.environ.get("CARGO_HOME", home / ".cargo"))
    return [folder for folder in (home, root, cargo_home, sysroot()) if folder != Path("/")]


def sysroot():
    """The folder of the Rust toolchain."""
    return Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip())


def documents(binary, triple, crates, root=ROOT):
    """The contents of `DOCUMENTS`, by name."""
    version = subprocess.check_output(["rustc", "--version"], text=True).split()[1]
    bill = sbom.completed(sbom.of_cargo_cyclonedx(triple, root), crates, binary, version, root)
    return {
        SBOM: (json.dumps(bill, indent=2) + "\n").encode(),
        OWN_LICENCE: (root / "LICENSE").read_bytes(),
        THIRD_PARTY_LICENCES: licences.third_party(crates, triple, root).encode(),
        RUST_LICENCES: (sysroot() / "share/doc/rust/COPYRIGHT-library.html").read_bytes(),
    }


def check_layout(folder):
    """Returns the name of the binary; raises `Unfit` if the Functions host would not find the files that it needs."""
    folder = Path(folder)
    host = json.loads((folder / "host.json").read_text())
    name = host["customHandler"]["description"]["defaultExecutablePath"]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {*HOST_FILES, *DOCUMENTS, name}
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


def lay_out(binary, folder, contents, root=ROOT):
    """Replaces `folder` with the files of a package. `contents` has the documents by name."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for file in HOST_FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, folder / file)
        (folder / file).chmod(0o644)
    for file, content in contents.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
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
    parser.add_argument("--largest", type=int, default=LARGEST_BINARY, help="largest size of the binary, in bytes")
    options = parser.parse_args(arguments)
    triple = f"{options.arch}-unknown-linux-gnu"
    folder = options.out / f"linux-{options.arch}"
    archive = options.out / f"vivadrop-linux-{options.arch}.zip"
    try:
        newest = check_binary(options.binary, options.arch, largest=options.largest)
        crates = linked(triple)
        check_crates(options.binary, crates)
        check_paths(options.binary, build_folders())
        contents = documents(options.binary, triple, crates)
        lay_out(options.binary, folder, contents)
        name = check_layout(folder)
        ran = check_run(folder, name, options.arch)
        zip_folder(folder, archive)
    except (Unfit, NotElf, licences.NoLicence, OSError, subprocess.CalledProcessError) as error:
        print(f"no package was created: {error}", file=sys.stderr)
        return 1
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    archive.with_suffix(".zip.sha256").write_text(f"{digest}  {archive.name}\n")
    archive.with_suffix(".cdx.json").write_bytes(contents[SBOM])
    megabytes = (folder / name).stat().st_size / 1024 / 1024
    print(f"{archive}: {name} of {megabytes:.1f} MiB, needs glibc {'.'.join(map(str, newest))}; {len(crates)} crates")
    print(f"  SHA-256 {digest}")
    print(f"  {'`--version` works on this machine' if ran else 'not run: this machine has another system or processor'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
