"""Collects the licence texts of the software in the binary: crates, libraries of the operator's page, and of the linker.

The texts are the files that the crates were published with, including notices and the licences of C sources in them. Tools that
render licences from SPDX identifiers, such as cargo-about, leave out notices, and choose one of several licences.
"""

import re
import sys
from pathlib import Path

from crates import ROOT, linked

# Names of files with a licence or a notice, at any depth in a crate.
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|unlicense)([-._].*)?", re.IGNORECASE)
NOTICE_FILE = re.compile(r"(notices?|copyright|authors|patents)(\.(md|txt))?", re.IGNORECASE)
SOURCE_FILE = re.compile(r".*\.(rs|c|h|py|html|json)", re.IGNORECASE)

# Texts for crates that were published without their licence, by repository: the licence that the crates must have, and a file
# in `infra/licences/`, which is a copy of the repository's licence file.
REPOSITORIES = {
    "https://github.com/azure/azure-sdk-for-rust": ("MIT", "azure-sdk-for-rust.txt"),
    "https://github.com/nugine/simd": ("MIT", "simd.txt"),
    "https://github.com/open-telemetry/opentelemetry-rust": ("Apache-2.0", "apache-2.0.txt"),
    "https://github.com/standard-webhooks/standard-webhooks": ("MIT", "standard-webhooks.txt"),
}

# What zig links into a binary besides the crates: the name, and a file in `infra/licences/`.
OF_THE_LINKER = {"libunwind of LLVM": "libunwind.txt", "compiler-rt of zig": "zig.txt"}


class NoLicence(Exception):
    """The licence of a crate is unknown, so it cannot be distributed. The message names the crate."""


def own_texts(crate):
    """The licence and notice files in the crate's sources: pairs of path and text. Empty if there is no licence."""
    names = sorted(path for path in crate.folder.rglob("*") if path.is_file() and not SOURCE_FILE.fullmatch(path.name))
    licences = [path for path in names if LICENCE_FILE.fullmatch(path.name)]
    notices = [path for path in names if NOTICE_FILE.fullmatch(path.name)]
    # A licence of vendored sources in a subfolder is not that of the crate.
    if not any(path.parent == crate.folder for path in licences):
        return []
    return [(path.relative_to(crate.folder).as_posix(), read(path)) for path in licences + notices]


def read(path):
    """The text of a file, without differences in line ends and in white space at the end."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def texts(crate, root=ROOT):
    """The licence texts of `crate`: pairs of file name and text. Raises `NoLicence` if there are none."""
    found = own_texts(crate)
    if found:
        return found
    for repository, (licence, file) in REPOSITORIES.items():
        if re.fullmatch(re.escape(repository) + r"(\.git|/.*)?", crate.repository.lower()):
            if crate.licence != licence:
                raise NoLicence(f"{crate.name} {crate.version} has the licence `{crate.licence}`: expected `{licence}`")
            return [(file, read(root / "infra/licences" / file))]
    raise NoLicence(
        f"{crate.name} {crate.version} ({crate.licence}) has no licence file: "
        f"add a copy of the one in {crate.repository or 'its repository'} to infra/licences/ and infra/licences.py"
    )


def third_party(crates, target, root=ROOT):
    """One document with the licence texts of `crates`, and of the libraries of the operator's page. Equal texts occur once."""
    numbers, users, index = {}, {}, []
    for crate in crates:
        if not crate.published:
            continue
        used = []
        for _, text in texts(crate, root):
            number = numbers.setdefault(text, len(numbers) + 1)
            users.setdefault(number, []).append(f"{crate.name} {crate.version}")
            used.append(number)
        index.append(f"{crate.name} {crate.version}: {crate.licence} {''.join(f'[{n}]' for n in sorted(set(used)))}")
    page = read(root / "web/vendor/LICENSES.txt")
    parts = [
        f"Licences of the third-party software in vivadrop for {target}.\n\n"
        "Crates that are linked into the binary, with their SPDX licence expressions, and the numbers of the texts below.\n"
        "The licences of the Rust standard library are in rust-standard-library.html.\n\n" + "\n".join(index) + "\n",
        "Libraries of the operator's page, in the binary: preact and htm\n\n" + page,
        *(f"{name}, in the binary\n\n{read(root / 'infra/licences' / file)}" for name, file in OF_THE_LINKER.items()),
        *(f"[{number}] {', '.join(dict.fromkeys(users[number]))}\n\n{text}" for text, number in numbers.items()),
    ]
    return f"\n{'=' * 120}\n\n".join(parts)


if __name__ == "__main__":
    print(third_party(linked(sys.argv[1]), sys.argv[1]), end="")
