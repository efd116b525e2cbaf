"""Merge traces of several runs into one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError
from layer_minimizer.model.places import Places
from layer_minimizer.model.trace import LibraryPages, Trace, TracedFile, TracedModule, TracedStandIn, Use
from layer_minimizer.model.workload import NO_EVENT, Event, Result, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable


def merge_traces(traces: Iterable[Trace]) -> Trace:
    """Merge the facts of several runs: the result contains everything that any of them used.

    Events and results are those of the first trace's entry. A trace of another entry adds what that entry needs, for
    several functions that share a layer.

    Raises:
        UsageError: the runs have different Python versions, or different results for the same event.
    """
    first, *others = traces
    for other in others:
        first = _merge(first, other)
    return first


def _merge(one: Trace, two: Trace) -> Trace:
    if one.python.rsplit(".", 1)[0] != two.python.rsplit(".", 1)[0]:
        raise UsageError(f"the traces are of Python {one.python} and {two.python}: a layer is built for one version")
    same_entry = one.workload.entry.name == two.workload.entry.name
    if same_entry and one.kind != two.kind:
        raise UsageError(f"one trace is of a {one.kind}, another of a {two.kind}: they cannot be merged")
    events, results = _merge_events(one, two) if same_entry else (one.workload.events, one.results)
    models = (*one.workload.models, *two.workload.models) if same_entry else one.workload.models
    modules: dict[str, TracedModule] = {}
    for module in (*one.modules, *two.modules):
        known = modules.setdefault(module.name, module)
        # A module that the workload of one run imported is more than a part of the interpreter's startup.
        if (known.startup and not module.startup) or (module.path and not known.path):
            modules[module.name] = module
    metadata = {m.distribution: m for m in (*two.metadata, *one.metadata)}
    # Pages of two sizes have numbers that mean different addresses: those of the first run count.
    unit = one.page_size if one.libraries or not two.libraries else two.page_size
    return Trace(
        python=one.python,
        observers=tuple(sorted({*one.observers, *two.observers})),
        missing_observers=tuple(dict.fromkeys((*one.missing_observers, *two.missing_observers))),
        kind=one.kind,
        modules=tuple(modules.values()),
        files=_merge_files((*one.files, *two.files)),
        metadata=tuple(metadata[name] for name in sorted(metadata)),
        foreign=tuple({r.name: r for r in (*two.foreign, *one.foreign)}.values()),
        unplaced=tuple(sorted({*one.unplaced, *two.unplaced})),
        processes=one.processes + two.processes,
        results=results,
        seconds=one.seconds + two.seconds,
        workload=Workload(
            one.workload.entry,
            one.workload.handler,
            tuple(dict.fromkeys(models)),
            events,
        ),
        libraries=_merge_libraries([lib for trace in (one, two) if trace.page_size == unit for lib in trace.libraries]),
        page_size=unit,
        stand_ins=_merge_stand_ins(one, two),
        asleep=tuple({m.name: m for m in (*two.asleep, *one.asleep) if m.name not in modules}.values()),
        task=_merge_files((*one.task, *two.task)) if same_entry else one.task,
        machine=one.machine or two.machine,
        lazy_imports=one.lazy_imports or two.lazy_imports,
        places=tuple(dict.fromkeys((*one.places, *two.places))),
        listed=tuple({each.path: each for each in (*two.listed, *one.listed)}.values()),
        distributions=tuple({d.name: d for d in (*two.distributions, *one.distributions)}.values()),
    )


def _merge_files(files: Iterable[TracedFile]) -> tuple[TracedFile, ...]:
    uses: dict[str, frozenset[Use]] = {}
    for file in files:
        uses[file.path] = uses.get(file.path, frozenset()) | file.uses
    return tuple(TracedFile(path, used) for path, used in sorted(uses.items()))


def _merge_stand_ins(one: Trace, two: Trace) -> tuple[TracedStandIn, ...]:
    """Return the stand-ins whose real modules no run has loaded.

    A trace does not tell which modules of the standard library it has loaded: their stand-ins have to be in both.
    """
    both = {module.name for module in one.stand_ins} & {module.name for module in two.stand_ins}
    found = {module.name: module for module in (*two.stand_ins, *one.stand_ins) if module.path or module.name in both}
    for trace in (one, two):
        own = {module.name for module in trace.stand_ins}
        for module in trace.modules:
            if module.name not in own:
                found.pop(module.name, None)
    return tuple(found[name] for name in sorted(found))


def _merge_libraries(libraries: Iterable[LibraryPages]) -> tuple[LibraryPages, ...]:
    """Merge touched pages by library; omit a library of which the runs used different builds."""
    pages: dict[str, set[int]] = {}
    sizes: dict[str, set[int]] = {}
    for library in libraries:
        pages.setdefault(library.path, set()).update(library.pages())
        sizes.setdefault(library.path, set()).add(library.size)
    return tuple(
        LibraryPages.of(path, max(sizes[path]), pages[path]) for path in sorted(pages) if len(sizes[path]) == 1
    )


def _merge_events(one: Trace, two: Trace) -> tuple[tuple[Event, ...], tuple[Result, ...]]:
    """Merge events and their results; rename the second of two different events with the same name."""
    events = {event.name: event for event in one.workload.events}
    results = {result.event: result.value for result in one.results}
    others = {event.name: event for event in two.workload.events}
    for result in two.results:
        name, event = result.event, others.get(result.event)
        while name in results and events.get(name) != (event and replace(event, name=name)):
            name += "'"
        known = results.setdefault(name, result.value)
        if Places(one.places).rename(known) != Places(two.places).rename(result.value):
            raise UsageError(f"the traces have different results for {name!r}: has the entry changed? Trace both again")
        if event is not None:
            events[name] = replace(event, name=name)
    if events and NO_EVENT in results:
        # One run had no event: the harness then calls the handler with an empty one under this name.
        events.setdefault(NO_EVENT, Event(NO_EVENT, {}))
    return tuple(events.values()), tuple(Result(name, value) for name, value in results.items())
