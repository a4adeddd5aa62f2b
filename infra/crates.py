"""The crates of a release: which ones are linked into the binary, and where their sources are."""

import json
import subprocess
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# `folder` has the crate's sources. `published` is false for the crates of this repository.
Crate = namedtuple("Crate", "name version licence repository folder published")


def cargo(*arguments):
    """The output of a cargo command. After `cargo fetch`, it needs no network."""
    return subprocess.run(["cargo", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def metadata(target):
    """Cargo's description of all packages that may be used for `target`."""
    return json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))


def linked(target):
    """The crates that are linked into the binary for `target`, sorted.

    Crates that only run during the build are not among them, nor are crates that only tests use. The list is that of
    `cargo tree`, which has exactly the features of a build; `cargo metadata` also resolves features that only tests enable.
    """
    tree = cargo(
        *("tree", "--locked", "--package", "vivadrop", "--edges", "normal,no-proc-macro"),
        *("--target", target, "--prefix", "none", "--no-dedupe", "--format", "{p}"),
    )
    names = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    packages = metadata(target)["packages"]
    found = [
        Crate(
            package["name"],
            package["version"],
            package["license"] or "",
            package["repository"] or "",
            Path(package["manifest_path"]).parent,
            package["source"] is not None,
        )
        for package in packages
        if (package["name"], "v" + package["version"]) in names
    ]
    if len(found) != len(names):
        raise ValueError("`cargo metadata` does not list the crates of `cargo tree`")
    return sorted(found)
