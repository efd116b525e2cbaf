"""Lambda's prices, read from ``prices.toml``, and what cold starts cost."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MILLION = 1_000_000
_MB_PER_GB = 1024


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in US dollars per GB-second by architecture, where they are from, and of which day (ISO 8601)."""

    per_gb_second: Mapping[str, float]
    source: str
    as_of: str


@cache
def load_prices() -> Prices:
    """Return the prices in ``prices.toml``."""
    data = tomllib.loads(resources.files("layer_minimizer.aws").joinpath("prices.toml").read_text("utf-8"))
    return Prices(data["per_gb_second"], data["source"], data["as_of"].isoformat())


def million_starts(seconds: float, memory: int, price: float) -> float:
    """Return what the init phases of a million cold starts cost in US dollars, for a function with ``memory`` MB."""
    return MILLION * seconds * memory / _MB_PER_GB * price
