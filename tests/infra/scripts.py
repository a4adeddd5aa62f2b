"""The scripts of infra/."""

import importlib.util

from .arm import ROOT


def module(name):
    """A script of infra/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "infra" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
