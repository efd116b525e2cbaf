"""What tracing has found, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layer_minimizer.model.comparison import Difference
    from layer_minimizer.model.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A traced workload: all that its runs, saved traces and logs have shown.

    ``pickled`` are (model, module, name) triples. ``unwatched`` are libraries that a run has loaded without anybody
    watching their pages, ``differences`` those between the traces, ``warnings`` what the trace may lack.
    """

    trace: Trace
    pickled: tuple[tuple[str, str, str], ...] = ()
    unwatched: frozenset[str] = frozenset()
    differences: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()
