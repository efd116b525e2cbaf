"""A layer that was run and gives the expected results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.model.outcome import Proof

if TYPE_CHECKING:
    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.model.plan import KeepPlan
    from layer_minimizer.pack.builder import Packed
    from layer_minimizer.pack.function import PackedFunction
    from layer_minimizer.verify.alone import Attempt


@dataclass(frozen=True, slots=True)
class VerifiedLayer:
    """A layer that gives the expected results.

    Attributes:
        plan: the verdict for every installed file.
        packed: the zip, and what was packed into it.
        attempt: the result of the last run on the layer.
        adjustments: what earlier attempts taught.
        runs: how often the workload ran on the layer.
        function: the zip of the function, if one was requested.
    """

    plan: KeepPlan
    packed: Packed
    attempt: Attempt
    adjustments: Adjustments
    runs: int
    function: PackedFunction | None

    @property
    def proof(self) -> Proof:
        """The part of the report about packing and verification."""
        return Proof(
            events=self.attempt.events,
            repaired=tuple(sorted(self.adjustments.repaired)),
            isolated=self.attempt.isolated,
            runs=self.runs,
            cold_faults=self.attempt.cold_faults,
            shipped=self.packed.shipped,
            libraries=self.packed.library_sizes,
            bundled=self.packed.bundled,
            warnings=self.packed.warnings,
            brought=self.packed.brought,
            put_back=self.packed.put_back,
            standard=self.packed.standard,
        )
