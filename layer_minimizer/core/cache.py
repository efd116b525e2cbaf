"""The folder for data that is kept between runs and can be computed or downloaded again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return the cache folder for one kind of data, existing or not. LAYER_MINIMIZER_CACHE overrides its location."""
    if own := os.environ.get("LAYER_MINIMIZER_CACHE"):
        return Path(own) / name
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "layer_minimizer" / name
