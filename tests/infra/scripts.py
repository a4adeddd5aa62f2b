"""Loads the scripts of `infra/` as modules."""

import importlib
import sys

from .arm import ROOT

# The scripts import each other.
sys.path.insert(0, str(ROOT / "infra"))


def module(name):
    """The script `infra/{name}.py` as a module."""
    return importlib.import_module(name)
