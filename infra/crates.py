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


def tree(target, edges):
    """The crates that `cargo tree` lists along `edges`, those of this repository included: pairs of name and version."""
    lines = cargo(
        *("tree", "--locked", "--package", "vivadrop", "--edges", edges, "--target", target),
        *("--prefix", "none", "--no-dedupe", "--format", "{p}"),
    )
    pairs = (line.split()[:2] for line in lines.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version in pairs}


def linked(target):
    """The crates that are linked into the binary for `target`, sorted.

    Crates that only run during the build are not among them, nor are crates that only tests use. The list is that of
    `cargo tree`: `cargo metadata` also has optional dependencies that are not enabled.
    """
    wanted = tree(target, "normal,no-proc-macro")
    found = [
        Crate(
            package["name"],
            package["version"],
            package["license"] or "",
            package["repository"] or "",
            Path(package["manifest_path"]).parent,
            package["source"] is not None,
        )
        for package in metadata(target)["packages"]
        if (package["name"], package["version"]) in wanted
    ]
    if len(found) != len(wanted):
        raise ValueError("`cargo metadata` does not list the crates of `cargo tree`")
    return sorted(found)
