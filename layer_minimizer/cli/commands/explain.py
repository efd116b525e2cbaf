"""``minimize --explain``: why a file, a module or a distribution is kept or dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.core.files import read_saved, scratch_folder
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.plan import KeepPlan
from layer_minimizer.pipeline import prepare, save
from layer_minimizer.plan import planning
from layer_minimizer.report.explain import explain

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from pathlib import Path

    from layer_minimizer.model.workload import Workload
    from layer_minimizer.settings import Settings

    StrPath = str | os.PathLike[str]


def read_plan(file: Path) -> KeepPlan:
    """Read a plan that was saved with ``--save-plan``.

    Raises:
        UsageError: it cannot be read, or is no plan.
    """
    return read_saved(file, "--plan", KeepPlan.from_json)


def explain_case(
    source: Workload | None,
    traces: Iterable[StrPath],
    settings: Settings,
    subject: str,
    save_plan: StrPath | None = None,
) -> str:
    """Trace and plan, and answer why ``subject`` would be kept or dropped; nothing is packed.

    Raises:
        MinimizeError: as `minimize`.
    """
    with scratch_folder() as scratch:
        plan = planning.make(*prepare(source, traces, settings, scratch), settings, Adjustments())
        save(save_plan, plan, "--save-plan")
        return explain(plan, subject)
