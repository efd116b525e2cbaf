"""What of the environment is for a GPU, and how much of it the layer has."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from layer_minimizer.environment.gpu import cpu_builds
from layer_minimizer.layer.layout import NO_DISTRIBUTION
from layer_minimizer.model.plan import KeepPlan, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layer_minimizer.model.outcome import LibrarySizes


def gpu_json(plan: KeepPlan, libraries: Iterable[LibrarySizes]) -> dict[str, Any]:
    """Return the files for a GPU, their bytes as installed and in the layer, and where builds without them exist."""
    shipped = {library.path: library.shipped for library in libraries if library.gpu}
    found = [each for each in plan.decisions if each.reason is Reason.GPU or each.path in shipped]
    sizes = Counter[str]()
    for decision in found:
        sizes[decision.distribution or NO_DISTRIBUTION] += decision.size
    return {
        "files": len(found),
        "bytes": sizes.total(),
        "shipped": sum(shipped.values()),
        "distributions": dict(sizes.most_common()),
        "cpu_builds": cpu_builds(sizes),
    }
