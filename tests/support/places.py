"""Paths: the checkout, the installed package and its command, the cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import layer_minimizer

TESTS = Path(__file__).resolve().parents[1]
CHECKOUT = TESTS.parent
EXAMPLES = CHECKOUT / "examples"
PACKAGE = Path(layer_minimizer.__file__).parent
PROGRAMS = Path(sys.executable).parent
MINIMIZE = PROGRAMS / "minimize"
# The command without PATH.
TOOL = (sys.executable, "-m", "layer_minimizer")


def cache() -> Path:
    """Return the cache folder, which is the one of examples/common.sh."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "layer_minimizer")
    return Path(os.environ.get("LAYER_MINIMIZER_CACHE") or default)
