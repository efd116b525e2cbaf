"""Collect what a workload needs: run it unchanged, then with stand-ins for modules that it may not need."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.analysis import class_factories, elf, pickles
from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment import base_layers, gpu, inventory, processor
from layer_minimizer.environment.site import Python, Site
from layer_minimizer.execution.observed_run import Observer, choose_observers
from layer_minimizer.layer import layout
from layer_minimizer.layer.snapshot_list import read_needs
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Cold
from layer_minimizer.model.trace import ListedFolder, MissingObserver, Trace, untraced_libraries
from layer_minimizer.model.traced import SearchSummary, Traced
from layer_minimizer.native import parts
from layer_minimizer.trace import comparison, module_groups, observers, repeatability, stand_in_search, tracer
from layer_minimizer.trace.saved_traces import SavedTraces, merge_saved, with_environment
from layer_minimizer.trace.search_cache import SearchCache

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from layer_minimizer.core.progress import Clock
    from layer_minimizer.model.installed import InstalledFile
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.workload import Workload
    from layer_minimizer.settings import Settings

log = logging.getLogger(__name__)
# Work that one minute of --effort allows, in seconds of an ordinary machine; and the minutes after which a search ends
# although it has not done that work, for each minute of --effort.
_WORK_PER_MINUTE, _MINUTES_PER_MINUTE = 60, 4
# The code that decides which modules a stand-in can replace: a cached search result is valid for this code only.
_SEARCH_CODE = (
    "trace/module_groups.py",
    "trace/stand_in_search.py",
    "trace/stand_in_tables.py",
    "trace/standard_modules.toml",
    "payload/runtime/standard.py",
    "payload/runtime/standin*.py",
    "payload/probe/**/*.py",
)

_INCOMPLETE = (
    "the search for unused imports reached its time limit after {runs} runs: the layer may contain modules that it "
    "does not need. The next run with the same inputs continues the search; --effort raises the limit"
)


def collect_trace(  # noqa: PLR0913, PLR0917 - the workload, earlier traces, the environment and the options
    source: Workload | None, earlier: SavedTraces, python: Python, settings: Settings, scratch: Path, clock: Clock
) -> tuple[Traced, Site]:
    """Run a workload, merge its trace with ``earlier`` traces, and read what is installed.

    Raises:
        MinimizeError: the workload fails, or an input cannot be used.
    """
    needs = read_needs(map(Path, settings.snapstart), "--snapstart")
    interpreter, found = python.interpreter, [*earlier.traces]
    problems: tuple[str, ...] = ()
    search: SearchSummary | None = None
    named = [(model.name, pickles.read_globals(model)) for model in (source.models if source else ())]
    if source is not None:
        real = {*settings.keep, *earlier.restored.modules}
        own, problems, search = _run(source, python, settings, scratch, real=real, clock=clock)
        found.insert(0, ("this run", own))
    found += [(name, log.trace(interpreter, scratch / f"production{n}")) for n, (name, log) in enumerate(earlier.logs)]
    trace = merge_saved(found)
    if source is None:
        named = [(model.name, pickles.read_globals(model)) for model in trace.workload.models]
        if not trace.workload.entry.is_file():
            raise UsageError(f"{trace.workload.entry}, the traced entry, no longer exists: pass --entry")
    _refuse_other_version(trace, interpreter)
    with clock.stage("plan", "reading what is installed"):
        site = Site.of(python, trace.foreign)
        trace = earlier.restored.add_to(with_environment(trace, interpreter, site.inventory), site.inventory)
        mismatches = comparison.find_mismatches(found[1:] if source else found, site.inventory, interpreter)
        owners = {file.path: file.distribution for file in site.inventory.files}
        differences = comparison.compare_traces(found, owners) if len(found) > 1 else ()
        unread = [
            f"model {model}: {names.problem}, so the layer may lack modules that it needs"
            for model, names in named
            if names.problem
        ]
        outside = [
            f"{path} was imported from outside site-packages and cannot go into the layer" for path in trace.unplaced
        ]
        loaded = [f.path for f in trace.files if f.path in site.sources and elf.is_elf_name(f.path)]
        chosen = processor.warn_of_chosen_code(os.environ, (site.sources[path] for path in loaded))
        unseen = observers.warnings_of(_unnamed(trace, problems))
        traced = Traced(
            trace=trace,
            pickled=tuple((model, *pair) for model, names in named for pair in names.globals),
            untraced_libraries=frozenset[str]().union(*(untraced_libraries(each) for _, each in found)),
            differences=differences,
            warnings=(*unread, *outside, *problems, *mismatches, *unseen, *chosen),
            search=search,
            needs=needs,
        )
    for difference in differences:
        log.info("%s", difference)
    return traced, site


def _run(  # noqa: PLR0913 - the parameters of a run
    source: Workload, python: Python, settings: Settings, scratch: Path, *, real: Collection[str], clock: Clock
) -> tuple[Trace, tuple[str, ...], SearchSummary | None]:
    """Run the workload unchanged, then with stand-ins, until the modules that it needs are known.

    ``real`` are modules that must not be replaced by stand-ins. Return the trace, warnings about what it may lack, and
    the summary of the search.
    """
    interpreter, chosen = python.interpreter, choose_observers(settings.observe)
    installed = inventory.take_inventory(interpreter).files
    libraries, problem = _traceable_libraries(installed, settings, python)
    # Python 3.8 and later can keep bytecode in another folder: later runs then do not read sources to compile them.
    bytecode = scratch / "bytecode" if interpreter.version >= (3, 8) else None
    missing = [*observers.unavailable(settings.observe), *(MissingObserver(observers.PAGES, each) for each in problem)]
    base = tracer.Tracer(interpreter, chosen, settings.timeout, bytecode=bytecode)
    name = source.entry.name
    with clock.stage("trace", f"tracing {name} with {' and '.join(chosen)}"):
        constants = frozenset(gpu.find_gpu_parts(installed).libraries) if libraries else frozenset()
        if settings.effort:
            first, study = base.study(source, scratch / "trace" / "run")
        else:
            first, study = (
                replace(base, libraries=libraries, constants=constants).trace(source, scratch / "trace" / "run"),
                None,
            )
    with clock.stage("trace", f"running {name} again, with the files of folders in another order"):
        probed = replace(base, observers=(Observer.PROBE,))
        ordered, again = repeatability.check_repeatable(
            first, probed, settings.tolerance, scratch / "repeated", studied=study is not None
        )
        restores = settings.cold is not Cold.DROP
        study = study.agreed_with(again, restores=restores) if study and again else study
    listed: tuple[ListedFolder, ...] = ()
    if ordered:
        problem = (*problem, repeatability.warn_of_order(ordered))
        log.warning("%s", problem[-1])
        listed = repeatability.listed_folders(first, interpreter)
    full = replace(base, libraries=libraries, constants=constants)
    if study is None:
        return _completed(first, listed, missing), problem, None
    with clock.stage("search", f"looking for modules that {name} imports and does not need"):
        provided = _provided_modules(installed, settings, python.base.provided)
        kept = {*real, *provided, *class_factories.base_class_modules(study.tables)}
        groups = module_groups.candidates(study, first, kept)
        options = (restores, settings.effort, settings.tolerance, first.lazy_imports)
        inputs = _search_inputs(first, groups, study, options)
        search = stand_in_search.Search(
            tracer=replace(base, observers=(Observer.PROBE,)),
            first=first,
            study=study,
            groups=groups,
            tolerance=settings.tolerance,
            scratch=scratch / "search",
            work=settings.effort * _WORK_PER_MINUTE,
            seconds=settings.effort * _MINUTES_PER_MINUTE * 60,
            cache=SearchCache.of(metadata.version("layer_minimizer"), *inputs),
            restores=restores,
        )
        found, summary = _run_search(search, full)
        if found is None:
            found = full.trace_with_bytecode(first.workload, scratch / "warm" / "run")
    if not summary.complete:
        problem = (*problem, _INCOMPLETE.format(runs=summary.runs))
        log.warning("%s", problem[-1])
    return _completed(found, listed, [*missing, *first.missing_observers]), problem, summary


def _completed(trace: Trace, listed: tuple[ListedFolder, ...], missing: Iterable[MissingObserver]) -> Trace:
    """Return the trace with what other runs than its own have shown."""
    return replace(trace, listed=listed, missing_observers=tuple(dict.fromkeys((*missing, *trace.missing_observers))))


def _unnamed(trace: Trace, problems: Iterable[str]) -> Iterator[MissingObserver]:
    """Yield the missing observers whose causes are no warnings themselves."""
    known = set(problems)
    yield from (each for each in trace.missing_observers if each.cause not in known)


def _run_search(search: stand_in_search.Search, full: tracer.Tracer) -> tuple[Trace | None, SearchSummary]:
    """Return the trace of a run with the stand-ins that this search, or an earlier one with the same inputs, found."""
    cached = search.cache
    if known := cached.read() if cached else None:
        found = search.confirm(known, full)
        if found is not None:
            return found, SearchSummary(known.runs, known.complete)
    chosen = search.find()
    found = search.confirm(chosen, full)
    if found is not None and chosen.complete and cached:
        cached.write(chosen)
    return found, SearchSummary(chosen.runs, chosen.complete)


def _search_inputs(
    first: Trace, groups: Mapping[str, frozenset[str]], study: tracer.Study, options: tuple[float | str, ...]
) -> Iterator[object]:
    """Yield the inputs of a search: its code, the workload, the interpreter, the candidates and the loaded modules."""
    yield _search_code_digest()
    workload = first.workload
    yield options
    yield from (first.python, workload.handler, [[e.name, e.payload, dict(e.context)] for e in workload.events])
    for file in (workload.entry, *workload.models):
        yield file.name
        yield sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    yield sorted((top, sorted(members)) for top, members in groups.items())
    yield [(table["file"], os.stat(table["file"]).st_size) for _, table in sorted(study.tables.items())]


@cache
def _search_code_digest() -> str:
    """Return one digest of the names and contents of all files that match `_SEARCH_CODE`."""
    package = Path(__file__).parents[1]
    digest = sha256()
    for file in sorted({file for pattern in _SEARCH_CODE for file in package.glob(pattern)}):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode())
        digest.update(sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _provided_modules(installed: Iterable[InstalledFile], settings: Settings, base_files: Collection[str]) -> set[str]:
    """Return the top-level modules that another layer provides."""
    provided = {canonicalize_name(name) for name in settings.provided}
    paths = [file.path for file in installed if file.distribution in provided or file.path in base_files]
    names = {modules.module_name(path).split(".")[0] for path in paths}
    return names - {""}


def _traceable_libraries(
    installed: Iterable[InstalledFile], settings: Settings, python: Python
) -> tuple[tuple[tuple[str, Path], ...], tuple[str, ...]]:
    """Return the libraries whose pages are traced: all installed ones, or none where libraries are shipped whole.

    The second value is the reason, if they cannot be traced.
    """
    if settings.native == "off":
        return (), ()
    runtime = f"{layout.NATIVE_FOLDER}/{layout.RUNTIME.partition('{')[0]}"
    libraries = [
        file for file in installed if elf.is_elf_name(file.path) and not file.link and not file.path.startswith(runtime)
    ]
    base_files = python.base.provided
    if problem := parts.unavailable_reason(python.interpreter.machine):
        problem = f"shared libraries are shipped whole, which can make a layer three times as large: {problem}"
    # A compacted library's runtime and the page tracer would both handle the page faults of one process.
    compacted = [f.path for f in libraries if f.path in base_files and base_layers.is_compacted(Path(f.source))]
    if compacted and not problem:
        problem = (
            f"shared libraries are shipped whole: a base layer contains {compacted[0]} without its unused pages, and "
            "the environment does not contain it; install it in the environment, too, to trace the pages of libraries"
        )
    if problem:
        log.warning("%s", problem)
        return (), (problem,)
    return tuple((file.path, Path(file.source)) for file in libraries), ()


def _refuse_other_version(trace: Trace, interpreter: Interpreter) -> None:
    if trace.python.split(".")[:2] != [str(part) for part in interpreter.version[:2]]:
        version = ".".join(map(str, interpreter.version))
        raise UsageError(
            f"the trace was taken with Python {trace.python}, but --python is {version}: use the same version for both"
        )
