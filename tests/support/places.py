"""Where things lie: the checkout, the installed package and its command, the cache."""

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
# The start of the command line, in words that do not depend on PATH.
TOOL = (sys.executable, "-m", "layer_minimizer")


def cache() -> Path:
    """Return the folder that lasts from one run of the tests to another, as examples/common.sh finds it."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "layer_minimizer")
    return Path(os.environ.get("LAYER_MINIMIZER_CACHE") or default)
