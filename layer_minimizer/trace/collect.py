"""Gathers what a workload needs: runs it as it is, then with stand-ins for what it may not need."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.analysis import class_factories, elf
from layer_minimizer.environment import base_layers, inventory
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Cold
from layer_minimizer.native import parts
from layer_minimizer.trace import stand_in_search, tracer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from layer_minimizer.core.progress import Clock
    from layer_minimizer.model.installed import InstalledFile
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.trace import Trace
    from layer_minimizer.model.workload import Workload
    from layer_minimizer.settings import Settings

log = logging.getLogger(__name__)
# What decides which modules can be stood in for: a search that another version made means nothing.
_SEARCHERS = (
    "trace/stand_in_search.py",
    "payload/runtime/standin.py",
    *(f"payload/runtime/standin_{name}.py" for name in ("finding", "placeholders", "replacing", "state", "waking")),
    *(f"payload/probe/{name}.py" for name in ("registries", "signatures", "standins", "study", "tables")),
)


def collect_trace(  # noqa: PLR0913 - all that a run takes
    source: Workload,
    interpreter: Interpreter,
    observers: tuple[Observer, ...],
    settings: Settings,
    scratch: Path,
    *,
    real: Collection[str],
    below: Collection[str],
    warnings: list[str],
    clock: Clock,
) -> Trace:
    """Run the workload until it is known what it needs: once as it is, then with stand-ins for what it may not need.

    ``real`` are modules that nothing is to stand in for, ``below`` the files that layers below this one have.
    """
    installed = inventory.take_inventory(interpreter).files
    watched = _watched_libraries(installed, settings, below, warnings)
    # Where bytecode can lie elsewhere than beside its source, the runs after the first do not read sources for it.
    cache = scratch / "bytecode" if interpreter.version >= (3, 8) else None
    base = tracer.Tracer(interpreter, observers, settings.timeout, bytecode=cache)
    full = replace(base, libraries=tuple(watched))
    name = source.entry.name
    what = f"tracing {name} with {' and '.join(observers)}"
    if not settings.effort:
        with clock.stage("trace", what):
            return full.trace(source, scratch / "trace" / "run")
    with clock.stage("trace", what):
        first, study = base.study(source, scratch / "trace" / "run")
    looking = f"looking for modules that {name} imports and does not need"
    with clock.stage("search", looking, limit=settings.effort * 60):
        kept = {*real, *_brought_along(installed, settings, below), *class_factories.derived_from(study.tables)}
        groups = stand_in_search.candidates(study, first, kept)
        trials = stand_in_search.Search(
            tracer=replace(base, observers=(Observer.PROBE,)),
            first=first,
            study=study,
            groups=groups,
            tolerance=settings.tolerance,
            scratch=scratch / "search",
            seconds=settings.effort * 60,
            restores=settings.cold is not Cold.DROP,
        )
        memory = stand_in_search.cache_file(
            metadata.version("layer_minimizer"), *_identity(first, groups, study, restores=trials.restores)
        )
        found = None
        if known := stand_in_search.remembered(memory):
            chosen, (trials.also, trials.bound, trials.fills) = known
            found = trials.confirm(chosen & groups.keys(), full)
        if found is None:
            trials.also, trials.bound, trials.fills = {}, {}, {}
            chosen = trials.find()
            found = trials.confirm(chosen, full)
            if found is not None:
                stand_in_search.remember(memory, chosen, trials)
        return found if found is not None else full.warm(first.workload, scratch / "warm" / "run")


def _identity(
    first: Trace, groups: Mapping[str, frozenset[str]], study: tracer.Study, *, restores: bool
) -> Iterator[object]:
    """Give what a search depends on: the workload, the interpreter, what was loaded, and what can be later."""
    for part in _SEARCHERS:
        yield sha256((Path(__file__).parents[1] / part).read_bytes()).hexdigest()
    workload = first.workload
    yield restores
    yield from (first.python, workload.handler, [[e.name, e.payload, dict(e.context)] for e in workload.events])
    for file in (workload.entry, *workload.models):
        yield file.name
        yield sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    yield sorted((top, sorted(members)) for top, members in groups.items())
    yield [(table["file"], os.stat(table["file"]).st_size) for _, table in sorted(study.tables.items())]


def _brought_along(installed: Iterable[InstalledFile], settings: Settings, below: Collection[str]) -> set[str]:
    """Give the top-level modules that another layer brings."""
    provided = {canonicalize_name(name) for name in settings.provided}
    brought = [file.path for file in installed if file.distribution in provided or file.path in below]
    names = {modules.module_name(path).split(".")[0] for path in brought}
    return names - {""}


def _watched_libraries(
    installed: Iterable[InstalledFile], settings: Settings, below: Collection[str], warnings: list[str]
) -> list[tuple[str, Path]]:
    """Give the libraries whose pages are to be traced: all that are installed, none where they are shipped whole."""
    if settings.native == "off":
        return []
    libraries = [file for file in installed if elf.is_elf_name(file.path) and not file.link]
    problem = parts.missing()
    # Such a library's runtime and the observer of pages would both answer for the faults of one process.
    compacted = [f.path for f in libraries if f.path in below and base_layers.is_compacted(Path(f.source))]
    if compacted and not problem:
        problem = (
            f"shared libraries are shipped whole: a layer below has {compacted[0]} without the pages that were not in "
            "use, and the environment lacks it; install it there, too, and the others are shipped so as well"
        )
    if problem:
        log.warning("%s", problem)
        warnings.append(problem)
        return []
    return [(file.path, Path(file.source)) for file in libraries]
