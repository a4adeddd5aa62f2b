"""Loads the scripts of `infra/` as modules."""

import importlib.util

from .arm import ROOT


def module(name):
    """The script `infra/{name}.py` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "infra" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
