"""Compares how long imports take in the full environment and on the layer."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import MinimizeError, TraceError
from layer_minimizer.execution.observed_run import RunOptions, run_observed
from layer_minimizer.model import modules
from layer_minimizer.model.outcome import ImportTimes, LayerArchive
from layer_minimizer.verify import alone, place

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.model.plan import KeepPlan
    from layer_minimizer.model.workload import Workload

log = logging.getLogger(__name__)
# The machine may have other work: of so many runs the fastest counts.
_RUNS = 2


@dataclass(frozen=True, slots=True)
class Timed:
    """How long imports take, where that could be measured."""

    times: ImportTimes | None = None
    warnings: tuple[str, ...] = ()


def measure(trial: place.RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path, bytecode: Path) -> Timed:
    """Time the imports of the workload where everything is installed, and on the layer; a warning says if that fails.

    ``bytecode`` is a cache that earlier runs may have filled, so that no module of the environment is compiled.
    """
    known = bytecode if bytecode.is_dir() else None
    try:
        return Timed(_measured(trial, plan, archive, scratch, known))
    except MinimizeError as exc:
        # The layer is proved, and worth more than its times.
        warning = f"imports were not timed: {exc}"
        log.warning("%s", warning)
        return Timed(warnings=(warning,))


def _measured(
    trial: place.RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path, bytecode: Path | None
) -> ImportTimes:
    owners = {decision.path: decision.distribution for decision in plan.decisions}
    names = {name: owners[path] for name, path in modules.by_name(owners).items()}
    full = alone.in_full_environment(trial)
    layer, _ = place.on_layer(trial, plan, archive, scratch / "unpacked")
    before = _fastest(replace(full, bytecode=bytecode, timed=True), trial.trace.workload, names, scratch / "full")
    after = _fastest(replace(layer, timed=True), trial.function or trial.trace.workload, names, scratch / "layer")
    return ImportTimes(before, after)


def _fastest(settings: RunOptions, workload: Workload, names: dict[str, str], scratch: Path) -> dict[str, float]:
    """Return the seconds of each distribution in the fastest of some runs."""
    runs: list[dict[str, float]] = []
    for number in range(_RUNS):
        folder = scratch.with_name(f"{scratch.name}-{number}")
        observation = run_observed(workload, settings, folder)
        if observation.timed is None or observation.outcome is None or observation.outcome.error:
            why = (observation.outcome.error if observation.outcome else "") or observation.said
            last = why.rstrip().rpartition("\n")[2]
            raise TraceError(
                f"this time {workload.entry.name} {observation.ended.ending}{f' ({last})' if last else ''}"
            )
        seconds = Counter[str]()
        for module, taken in json.loads(observation.timed.read_bytes()).items():
            seconds[names.get(module, "")] += taken
        runs.append({name: round(taken, 4) for name, taken in seconds.most_common()})
        shutil.rmtree(folder, ignore_errors=True)
    return min(runs, key=lambda run: sum(run.values()))
