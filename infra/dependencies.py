#!/usr/bin/env python3
"""The record of reviewed dependencies in `supply-chain/`: compares it with Cargo.lock, or updates it.

    python3 infra/dependencies.py            # fails if a crate of the binary, or of its build, has no review
    python3 infra/dependencies.py --update   # writes the facts again; changed crates then need a review

`crates.tsv` has a row per crate: facts that this script computes from its sources, and the review, which a person enters.
`owners.tsv` says why we trust the owner of each repository.
"""

import argparse
import re
import sys
from collections import namedtuple
from pathlib import Path

from crates import ROOT, metadata, tree

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
FOLDER = ROOT / "supply-chain"

# part: `binary` or `build`, for crates whose code is in the binary, or only runs while it is built.
# runs: what of the crate runs on the machine that builds: `script`, `macro`, both, or `-`.
# unsafe: how often the keyword occurs outside of comments and tests. c: number of C and assembler sources.
Row = namedtuple("Row", "crate version part runs unsafe c owner review")

# kind: organisation or person.
Owner = namedtuple("Owner", "owner kind why")

# The reviews that count, in `crates.tsv`.
# initial: the version that was in use when the record was started. notes: release notes were read. diff: so were the changes.
REVIEWS = ("initial", "notes", "diff")

NATIVE = {".c", ".cc", ".cpp", ".h", ".s", ".asm", ".a", ".o"}
NOT_BUILT = {"tests", "benches", "examples", "fuzz"}


def owner(repository):
    """The host and the first folder of a repository's address. crates.io does not verify the address."""
    return "/".join(re.sub(r"^https?://", "", repository.lower()).split("/")[:2]) or "-"


def facts(package, part):
    """The row of a crate, without a review."""
    folder = Path(package["manifest_path"]).parent
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in NOT_BUILT]
    sources = (path.read_text(encoding="utf-8", errors="replace") for path in files if path.suffix == ".rs")
    unsafe = sum(len(re.findall(r"\bunsafe\b", re.sub(r"//.*", "", source))) for source in sources)
    native = sum(path.suffix.lower() in NATIVE for path in files)
    kinds = {kind for target in package["targets"] for kind in target["kind"]}
    runs = "+".join(word for kind, word in (("custom-build", "script"), ("proc-macro", "macro")) if kind in kinds) or "-"
    return Row(package["name"], package["version"], part, runs, str(unsafe), str(native), owner(package["repository"] or ""), "")


def current():
    """The rows of all crates of the binary and of its build, without reviews, by name and version."""
    found = {}
    for target in TARGETS:
        linked, built = tree(target, "normal,no-proc-macro"), tree(target, "normal,build")
        for package in metadata(target)["packages"]:
            name = (package["name"], package["version"])
            if package["source"] and name in built and name not in found:
                found[name] = facts(package, "binary" if name in linked else "build")
    return found


def read(name, kind):
    """The rows of a table, after the line with the names of its columns."""
    return [kind(*line.split("\t")) for line in (FOLDER / name).read_text().splitlines()[1:]]


def recorded():
    """The rows of `crates.tsv`, by name and version."""
    return {(row.crate, row.version): row for row in read("crates.tsv", Row)}


def needs_diff(row):
    """Whether the changes of a crate must be read, not only its release notes."""
    return row.runs != "-" or row.unsafe != "0" or row.c != "0"


def problems(rows, record, owners):
    """What is wrong with the record: one line per problem."""
    for key, row in sorted(rows.items()):
        entry = record.get(key)
        name = f"{row.crate} {row.version}"
        if entry is None:
            yield f"{name} is not in crates.tsv"
        elif entry._replace(review="") != row:
            yield f"{name}: crates.tsv has other facts"
        elif entry.review not in REVIEWS:
            yield f"{name} has no review: expected one of {', '.join(REVIEWS)}"
        elif needs_diff(row) and entry.review == "notes":
            yield f"{name} has unsafe, C or code that runs during the build: expected the review `diff`"
    for crate, version in sorted(record.keys() - rows.keys()):
        yield f"{crate} {version} is in crates.tsv, but not used"
    used = {row.owner for row in rows.values()}
    for name in sorted(used - owners):
        yield f"{name} owns a crate, and is not in owners.tsv"
    for name in sorted(owners - used):
        yield f"{name} is in owners.tsv, but owns no crate"


def update(rows, record):
    """Writes `crates.tsv` again. Crates with the same version keep their review."""
    lines = ["\t".join(Row._fields)]
    for key, row in sorted(rows.items()):
        lines.append("\t".join(row._replace(review=record[key].review if key in record else "")))
    (FOLDER / "crates.tsv").write_text("\n".join(lines) + "\n")


def main(arguments):
    parser = argparse.ArgumentParser(description="Compares the record of reviewed dependencies with Cargo.lock, or updates it.")
    parser.add_argument("--update", action="store_true", help="write the facts again")
    options = parser.parse_args(arguments)
    rows = current()
    if options.update:
        update(rows, recorded())
    found = list(problems(rows, recorded(), {entry.owner for entry in read("owners.tsv", Owner)}))
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        print("see `How to update dependencies` in CONTRIBUTING.md", file=sys.stderr)
        return 1
    print(f"{len(rows)} crates are recorded in supply-chain/crates.tsv")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
