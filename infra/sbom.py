"""Creates the software bill of materials (SBOM) of a release: CycloneDX, JSON.

cargo-cyclonedx writes the crates, with licences, hashes and dependencies. This module corrects what it cannot know: which
crates are linked into the binary, and what the binary contains besides crates. It removes the paths of this machine.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

from crates import ROOT

SPECIFICATION = "1.5"
# npm packages that `web/vendor/` has copies of.
PAGE_LIBRARIES = ("htm", "preact")


def commit_time(root=ROOT):
    """The time of the SBOM, in seconds since 1970: that of the commit, unless the environment has `SOURCE_DATE_EPOCH`."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return given or subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=root, text=True).strip()


def of_cargo_cyclonedx(target, root=ROOT):
    """The SBOM as cargo-cyclonedx creates it. It writes a file next to each Cargo.toml of the workspace; they are deleted."""
    name = f"sbom-{os.getpid()}"
    try:
        subprocess.run(
            ["cargo", "cyclonedx", "--quiet", "--format", "json", "--spec-version", SPECIFICATION]
            + ["--target", target, "--override-filename", name],
            cwd=root,
            env={**os.environ, "SOURCE_DATE_EPOCH": commit_time(root)},
            check=True,
        )
        return json.loads((root / f"{name}.json").read_text())
    finally:
        for file in [root / f"{name}.json", *root.glob(f"crates/*/{name}.json")]:
            file.unlink(missing_ok=True)


def completed(sbom, crates, binary, rust_version, root=ROOT):
    """`sbom` with corrected scopes and references, and with the components that are not crates.

    `crates` are those that are linked into `binary`, a path. Other crates run during the build only, or are optional
    dependencies of crates that are not enabled: their scope is `excluded`.
    """
    described = sbom["metadata"]["component"]
    components = sbom["components"]
    described.pop("components", None)  # the targets of the package, with paths
    described["hashes"] = [sha256(binary)]

    names = {}
    for component in [described, *components]:
        if component["bom-ref"].startswith("path+"):
            # Not `pkg:cargo`: crates.io has other crates with such names.
            component["purl"] = f"pkg:generic/{component['name']}@{component['version']}"
            names[component["bom-ref"]] = component["bom-ref"] = component["purl"]
    linked = {(crate.name, crate.version) for crate in crates}
    for component in components:
        component["scope"] = "required" if (component["name"], component["version"]) in linked else "excluded"
    for dependency in sbom["dependencies"]:
        dependency["ref"] = names.get(dependency["ref"], dependency["ref"])
        dependency["dependsOn"] = sorted(names.get(ref, ref) for ref in dependency.get("dependsOn", []))

    others = [*page_libraries(root), standard_library(rust_version), linker_libraries(root)]
    components.extend(others)
    sbom["dependencies"].extend({"ref": other["bom-ref"]} for other in others)
    for dependency in sbom["dependencies"]:
        if dependency["ref"] == described["bom-ref"]:
            dependency["dependsOn"] = sorted(dependency["dependsOn"] + [other["bom-ref"] for other in others])
    components.sort(key=lambda component: component["bom-ref"])
    sbom["dependencies"].sort(key=lambda dependency: dependency["ref"])
    return sbom


def page_libraries(root=ROOT):
    """The components of the operator's page, which is part of the binary."""
    locked = json.loads((root / "tests/browser/package-lock.json").read_text())["packages"]
    found = []
    for name in PAGE_LIBRARIES:
        package = locked[f"node_modules/{name}"]
        algorithm, digest = package["integrity"].split("-", 1)
        purl = f"pkg:npm/{name}@{package['version']}"
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": package["version"],
                "scope": "required",
                "hashes": [{"alg": algorithm.upper().replace("SHA", "SHA-"), "content": base64.b64decode(digest).hex()}],
                "licenses": [{"expression": package["license"]}],
                "purl": purl,
            }
        )
    return found


def standard_library(version):
    """The component for Rust's standard library, which is linked into every binary."""
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/rust-std@{version}",
        "name": "rust-std",
        "version": version,
        "scope": "required",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "purl": f"pkg:generic/rust-std@{version}",
        "cpe": f"cpe:2.3:a:rust-lang:rust:{version}:*:*:*:*:*:*:*",
    }


def linker_libraries(root=ROOT):
    """The component for the libraries that zig links into the binary: libunwind of LLVM, and its own compiler-rt."""
    pinned = (root / "infra/requirements-package.txt").read_text()
    version = re.search(r"^ziglang==(\S+) ", pinned, re.MULTILINE).group(1)
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/ziglang@{version}",
        "name": "ziglang",
        "version": version,
        "description": "libunwind and compiler-rt",
        "scope": "required",
        "licenses": [{"expression": "MIT AND Apache-2.0 WITH LLVM-exception"}],
        "purl": f"pkg:pypi/ziglang@{version}",
    }


def sha256(path):
    """The hash of a file, as a CycloneDX hash."""
    return {"alg": "SHA-256", "content": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
