"""What the layer is worth: the init phases of a million cold starts, before and after, at Lambda's prices."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from layer_minimizer.aws.prices import load_prices, million_starts
from layer_minimizer.aws.runtimes import ARCHITECTURES

if TYPE_CHECKING:
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.outcome import Start, Starts
    from layer_minimizer.settings import Settings

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of cold starts in the full environment and on the layer.

    Attributes:
        starts: seconds and memory, as measured on this machine.
        memory: the function's memory in MB.
        price: US dollars per GB-second.
        origin: where the price is from.
    """

    starts: Starts
    memory: int
    price: float
    origin: str

    def of(self, start: Start) -> float:
        """Return the cost of a million such starts; a function that needs more memory is given as much as it needs."""
        return million_starts(start.seconds, max(self.memory, math.ceil(start.peak_bytes / _MIB)), self.price)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form for the report."""
        sides = {"before": self.starts.before, "after": self.starts.after}
        return {
            "memory": self.memory,
            "price_per_gb_second": self.price,
            "origin": self.origin,
            **{
                name: {**asdict(start), "per_million_starts": round(self.of(start), 2)} for name, start in sides.items()
            },
        }

    def __str__(self) -> str:
        """Return the line of the report."""
        before, after = self.starts.before, self.starts.after
        return (
            f"Cost: init {before.seconds:.2f} → {after.seconds:.2f} s, memory {before.peak_bytes / _MIB:,.0f} → "
            f"{after.peak_bytes / _MIB:,.0f} MB, measured here; a million cold starts at {self.memory:,} MB: "
            f"${self.of(before):,.2f} → ${self.of(after):,.2f} ({self.price:.10f} per GB-second, {self.origin})."
        )


def cost_of(starts: Starts | None, settings: Settings, interpreter: Interpreter) -> Cost | None:
    """Return the cost of cold starts; None if they were not measured, or there is no price for this processor."""
    if starts is None:
        return None
    if settings.price_per_gb_second is not None:
        return Cost(starts, settings.memory, settings.price_per_gb_second, "--price-per-gb-second")
    prices = load_prices()
    architecture = {machine: name for name, machine in ARCHITECTURES.items()}.get(interpreter.machine, "")
    if architecture not in prices.per_gb_second:
        return None
    origin = f"Lambda on {architecture}, {prices.as_of}"
    return Cost(starts, settings.memory, prices.per_gb_second[architecture], origin)
