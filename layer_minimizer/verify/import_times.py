"""Measure how long imports take in the full environment and on the layer."""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import MinimizeError, TraceError
from layer_minimizer.execution.observed_run import RunOptions, run_observed
from layer_minimizer.layer import cold_store
from layer_minimizer.model import modules
from layer_minimizer.model.outcome import ImportTimes, LayerArchive, Start, Starts
from layer_minimizer.verify import alone, place

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.model.plan import KeepPlan
    from layer_minimizer.model.workload import Workload

log = logging.getLogger(__name__)
# The fastest of these runs counts, since other programs may slow a run down.
_RUNS = 2


@dataclass(frozen=True, slots=True)
class ImportTiming:
    """The times of imports.

    Attributes:
        times: seconds by distribution; None if they could not be measured.
        starts: cold starts before and after; None if they could not be measured, and for a script.
        warnings: why they could not be measured.
    """

    times: ImportTimes | None = None
    starts: Starts | None = None
    warnings: tuple[str, ...] = ()


def measure_imports(
    context: place.RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path, bytecode: Path
) -> ImportTiming:
    """Measure the imports of the workload in the full environment and on the layer; return a warning if that fails.

    ``bytecode`` is a cache that earlier runs may have filled, so that no module is compiled while it is measured.
    """
    if context.interpreter.machine != platform.machine():
        return ImportTiming(warnings=(f"imports were not timed: {platform.machine()} emulates their processor",))
    cache = bytecode if bytecode.is_dir() else None
    try:
        return _measure(context, plan, archive, scratch, cache)
    except MinimizeError as exc:
        # The layer is verified: missing times are no reason to fail.
        warning = f"imports were not timed: {exc}"
        log.warning("%s", warning)
        return ImportTiming(warnings=(warning,))


def _measure(
    context: place.RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path, bytecode: Path | None
) -> ImportTiming:
    owners = {decision.path: decision.distribution for decision in plan.decisions}
    names = {name: owners[path] for name, path in modules.by_name(owners).items()}
    full = alone.full_environment_options(context)
    layer, _ = place.prepare_run(context, plan, archive, scratch / "unpacked")
    before, start_before = _fastest(
        replace(full, bytecode=bytecode, time_imports=True), context.trace.workload, names, scratch / "full"
    )
    after, start_after = _fastest(
        replace(layer, time_imports=True), context.function or context.trace.workload, names, scratch / "layer"
    )
    cold_store.remove_restored(scratch.resolve())
    starts = Starts(start_before, start_after) if start_before.seconds and start_after.seconds else None
    return ImportTiming(ImportTimes(before, after), starts)


def _fastest(
    settings: RunOptions, workload: Workload, names: dict[str, str], scratch: Path
) -> tuple[dict[str, float], Start]:
    """Return the seconds of each distribution in the fastest run, and the least that a start took."""
    runs: list[dict[str, float]] = []
    starts: list[Start] = []
    for number in range(_RUNS):
        folder = scratch.with_name(f"{scratch.name}-{number}")
        record = run_observed(workload, settings, folder)
        if record.import_times is None or record.outcome is None or record.outcome.error:
            why = (record.outcome.error if record.outcome else "") or record.output
            last = why.rstrip().rpartition("\n")[2]
            raise TraceError(f"{workload.entry.name} {record.ended.ending}{f' ({last})' if last else ''}")
        seconds = Counter[str]()
        for module, taken in json.loads(record.import_times.read_bytes()).items():
            seconds[names.get(module, "")] += taken
        runs.append({name: round(taken, 4) for name, taken in seconds.most_common()})
        starts.append(Start(record.outcome.init_seconds, record.outcome.peak_bytes))
        shutil.rmtree(folder, ignore_errors=True)
    least = Start(min(each.seconds for each in starts), min(each.peak_bytes for each in starts))
    return min(runs, key=lambda run: sum(run.values())), least
