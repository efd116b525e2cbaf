"""Where the tool keeps between its runs what can be had again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return the folder for one kind of thing; it need not exist. LAYER_MINIMIZER_CACHE names another place for all."""
    if own := os.environ.get("LAYER_MINIMIZER_CACHE"):
        return Path(own) / name
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "layer_minimizer" / name
