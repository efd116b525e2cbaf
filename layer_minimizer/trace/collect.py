"""Collects what a workload needs: runs it as it is, then with stand-ins for what it may not need."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.analysis import class_factories, elf, pickles
from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment import base_layers, inventory
from layer_minimizer.environment.site import Python, Site
from layer_minimizer.execution.observed_run import Observer, choose_observers
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Cold
from layer_minimizer.model.trace import Trace, unwatched
from layer_minimizer.model.traced import Traced
from layer_minimizer.native import parts
from layer_minimizer.trace import comparison, stand_in_search, tracer
from layer_minimizer.trace.saved_traces import Earlier, merge_saved, with_stock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from layer_minimizer.core.progress import Clock
    from layer_minimizer.model.installed import InstalledFile
    from layer_minimizer.model.interpreter import Interpreter
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


def collect_trace(  # noqa: PLR0913, PLR0917 - what is run, what was run earlier, and how
    source: Workload | None, earlier: Earlier, python: Python, settings: Settings, scratch: Path, clock: Clock
) -> tuple[Traced, Site]:
    """Run a workload, unite what that shows with ``earlier`` traces, and take stock of what is installed.

    Raises:
        MinimizeError: the workload does not run, or one of the inputs cannot be used.
    """
    interpreter, found = python.interpreter, [*earlier.traces]
    doubts: tuple[str, ...] = ()
    named = [(model.name, pickles.named_globals(model)) for model in (source.models if source else ())]
    if source is not None:
        real = {*settings.keep, *earlier.restored.modules}
        own, doubts = _run(source, python, settings, scratch, real=real, clock=clock)
        found.insert(0, ("this run", own))
    found += [(name, log.trace(interpreter, scratch / f"seen{n}")) for n, (name, log) in enumerate(earlier.logs)]
    trace = merge_saved(found)
    if source is None:
        named = [(model.name, pickles.named_globals(model)) for model in trace.workload.models]
        if not trace.workload.entry.is_file():
            raise UsageError(f"{trace.workload.entry}, the traced entry, is gone; name it with --entry")
    _refuse_other_version(trace, interpreter)
    with clock.stage("plan", "taking stock of what is installed"):
        site = Site.of(python, trace.foreign)
        trace = earlier.restored.added_to(with_stock(trace, interpreter, site.inventory), site.inventory)
        misfits = comparison.misfits(found[1:] if source else found, site.inventory, interpreter)
        owners = {file.path: file.distribution for file in site.inventory.files}
        differences = comparison.compare_traces(found, owners) if len(found) > 1 else ()
        problems = [names.problem for _, names in named if names.problem]
        outside = [
            f"{path} was imported from outside of the site and cannot go into a layer" for path in trace.unplaced
        ]
        traced = Traced(
            trace=trace,
            pickled=tuple((model, *pair) for model, names in named for pair in names.globals),
            unwatched=frozenset[str]().union(*(unwatched(each) for _, each in found)),
            differences=differences,
            warnings=(*problems, *outside, *doubts, *misfits),
        )
    for difference in differences:
        log.info("%s", difference)
    return traced, site


def _run(  # noqa: PLR0913 - all that a run takes
    source: Workload, python: Python, settings: Settings, scratch: Path, *, real: Collection[str], clock: Clock
) -> tuple[Trace, tuple[str, ...]]:
    """Run the workload until it is known what it needs: once as it is, then with stand-ins for what it may not need.

    ``real`` are modules that nothing is to stand in for. Returns its trace, and what that may lack.
    """
    interpreter, observers = python.interpreter, choose_observers(settings.observe)
    installed = inventory.take_inventory(interpreter).files
    libraries, problem = _watched_libraries(installed, settings, python.base.provided)
    # Where bytecode can lie elsewhere than beside its source, the runs after the first do not read sources for it.
    cache = scratch / "bytecode" if interpreter.version >= (3, 8) else None
    base = tracer.Tracer(interpreter, observers, settings.timeout, bytecode=cache)
    full = replace(base, libraries=libraries)
    name = source.entry.name
    what = f"tracing {name} with {' and '.join(observers)}"
    if not settings.effort:
        with clock.stage("trace", what):
            return full.trace(source, scratch / "trace" / "run"), problem
    with clock.stage("trace", what):
        first, study = base.study(source, scratch / "trace" / "run")
    looking = f"looking for modules that {name} imports and does not need"
    with clock.stage("search", looking, limit=settings.effort * 60):
        brought = _brought_along(installed, settings, python.base.provided)
        kept = {*real, *brought, *class_factories.derived_from(study.tables)}
        trials = stand_in_search.Search(
            tracer=replace(base, observers=(Observer.PROBE,)),
            first=first,
            study=study,
            groups=stand_in_search.candidates(study, first, kept),
            tolerance=settings.tolerance,
            scratch=scratch / "search",
            seconds=settings.effort * 60,
            restores=settings.cold is not Cold.DROP,
        )
        found = _searched(trials, full)
        return found if found is not None else full.warm(first.workload, scratch / "warm" / "run"), problem


def _searched(trials: stand_in_search.Search, full: tracer.Tracer) -> Trace | None:
    """Return the trace of a run with all stand-ins that were found, now or by an earlier search of the same."""
    version = metadata.version("layer_minimizer")
    identity = _identity(trials.first, trials.groups, trials.study, restores=trials.restores)
    memory = stand_in_search.cache_file(version, *identity)
    if known := stand_in_search.remembered(memory):
        found = trials.confirm(replace(known, groups=known.groups & trials.groups.keys()), full)
        if found is not None:
            return found
    chosen = trials.find()
    found = trials.confirm(chosen, full)
    if found is not None:
        stand_in_search.remember(memory, chosen)
    return found


def _identity(
    first: Trace, groups: Mapping[str, frozenset[str]], study: tracer.Study, *, restores: bool
) -> Iterator[object]:
    """Yield what a search depends on: the workload, the interpreter, what was loaded, and what can be later."""
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
    """Return the top-level modules that another layer brings."""
    provided = {canonicalize_name(name) for name in settings.provided}
    brought = [file.path for file in installed if file.distribution in provided or file.path in below]
    names = {modules.module_name(path).split(".")[0] for path in brought}
    return names - {""}


def _watched_libraries(
    installed: Iterable[InstalledFile], settings: Settings, below: Collection[str]
) -> tuple[tuple[tuple[str, Path], ...], tuple[str, ...]]:
    """Return the libraries whose pages are to be traced: all that are installed, none where they are shipped whole.

    With them comes the reason why they cannot be traced, if there is one.
    """
    if settings.native == "off":
        return (), ()
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
        return (), (problem,)
    return tuple((file.path, Path(file.source)) for file in libraries), ()


def _refuse_other_version(trace: Trace, interpreter: Interpreter) -> None:
    if trace.python.split(".")[:2] != [str(part) for part in interpreter.version[:2]]:
        version = ".".join(map(str, interpreter.version))
        raise UsageError(f"the trace is of Python {trace.python}, and --python is {version}: name the same interpreter")
