"""Which files of the environment a layer does not have, as its runtime tells whoever asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.layer.file_index import BY_COLD_KEEP, BY_GPU_KEEP, FileRow
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Cold, Decision, KeepPlan, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Another layer has them, or the environment does not show them either.
_ELSEWHERE = (Reason.PROVIDED, Reason.SHADOWED)
# Not even --cold keep includes them.
_NEVER_COLD = (Reason.DEVELOPMENT, Reason.EXCLUDED)


def left_out(
    plan: KeepPlan, placed: Collection[str], versions: Mapping[str, str], cold: Cold, for_gpu: Collection[str]
) -> list[FileRow]:
    """Return the files of the environment that are not among those ``placed`` in the layer, in place or cold.

    ``for_gpu`` are the files that only ``--gpu keep`` includes, unless the run used them.
    """
    # With --cold keep, those of distributions that the layer contains, or that its code names, would be in it.
    included = distributions(plan) if cold is not Cold.KEEP else frozenset()
    return [
        FileRow(
            decision.path,
            owner(decision, versions),
            offset=BY_GPU_KEEP if decision.path in for_gpu else _remedy(decision, included),
        )
        for decision in plan.decisions
        if decision.path not in placed and decision.reason not in _ELSEWHERE
    ]


def _remedy(decision: Decision, included: Collection[str]) -> int:
    """Return which option includes a file that was left out; ``included``: what ``--cold keep`` has files of."""
    return BY_COLD_KEEP if decision.distribution in included and decision.reason not in _NEVER_COLD else 0


def distributions(plan: KeepPlan) -> frozenset[str]:
    """Return the distributions of which the layer contains something, in place, cold, or as a stand-in."""
    return frozenset(
        decision.distribution
        for decision in plan.decisions
        if decision.verdict is not Verdict.DROPPED or decision.reason is Reason.STAND_IN
    )


def owner(decision: Decision, versions: Mapping[str, str]) -> str:
    """Return the name and version of a file's distribution, for messages."""
    name = decision.distribution
    return f"{name} {versions.get(name, '')}".strip() if name else "no distribution"


def dropped_modules(plan: KeepPlan) -> dict[str, str]:
    """Return the top-level modules of distributions of which nothing is in the layer, with their distributions."""
    in_layer = (Reason.STAND_IN, Reason.PROVIDED)
    present = {d.distribution for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason in in_layer}
    return {
        d.path.split("/", 1)[0].removesuffix(".py"): d.distribution
        for d in plan.decisions
        if d.distribution not in present and modules.module_name(d.path) and d.reason is not Reason.PROVIDED
    }
