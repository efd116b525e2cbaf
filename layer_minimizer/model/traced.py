"""The result of the trace stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layer_minimizer.model.snapshot import Needs

if TYPE_CHECKING:
    from layer_minimizer.model.comparison import Difference
    from layer_minimizer.model.trace import Trace


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """The search for unused modules: its number of trial runs, and whether it ended before its time limit."""

    runs: int
    complete: bool


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A traced workload: the facts of its runs, saved traces and logs.

    Attributes:
        trace: the merged trace.
        pickled: (model, module, name) of the classes and functions in models.
        untraced_libraries: libraries that a run loaded without recording the pages that it touched.
        differences: differences between the merged traces.
        warnings: what the trace may lack.
        search: the search for unused modules, None if there was none.
        needs: what logs of a deployed layer say that it restored, to be put back before a snapshot.
    """

    trace: Trace
    pickled: tuple[tuple[str, str, str], ...] = ()
    untraced_libraries: frozenset[str] = frozenset()
    differences: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()
    search: SearchSummary | None = None
    needs: Needs = field(default_factory=Needs)
