"""Merge traces of several runs into one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError
from layer_minimizer.model.trace import LibraryPages, Trace, TracedFile, TracedModule, TracedStandIn, Use
from layer_minimizer.model.workload import NO_EVENT, Event, Result, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable


def merge_traces(traces: Iterable[Trace]) -> Trace:
    """Unite the facts of several runs: what one of them used, the union uses.

    Events and results are those of the first trace's entry. A trace of another entry says what else must be there,
    when several functions share a layer.

    Raises:
        UsageError: the runs are of different Python versions, or gave different results for the same event.
    """
    first, *others = traces
    for other in others:
        first = _merge(first, other)
    return first


def _merge(one: Trace, two: Trace) -> Trace:
    if one.python.rsplit(".", 1)[0] != two.python.rsplit(".", 1)[0]:
        raise UsageError(f"the traces are of Python {one.python} and {two.python}: a layer is for one version")
    same_entry = one.workload.entry.name == two.workload.entry.name
    if same_entry and one.kind != two.kind:
        raise UsageError(f"one trace is of a {one.kind}, another of a {two.kind}: they have no common entry")
    events, results = _merge_events(one, two) if same_entry else (one.workload.events, one.results)
    models = (*one.workload.models, *two.workload.models) if same_entry else one.workload.models
    modules: dict[str, TracedModule] = {}
    for module in (*one.modules, *two.modules):
        known = modules.setdefault(module.name, module)
        # A module that one run imported for its own sake is not a mere companion of the interpreter's start.
        if (known.startup and not module.startup) or (module.path and not known.path):
            modules[module.name] = module
    asked = {m.distribution: m for m in (*two.metadata, *one.metadata)}
    return Trace(
        python=one.python,
        observers=tuple(sorted({*one.observers, *two.observers})),
        kind=one.kind,
        modules=tuple(modules.values()),
        files=_merge_files((*one.files, *two.files)),
        metadata=tuple(asked[name] for name in sorted(asked)),
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
        libraries=_merge_libraries((*one.libraries, *two.libraries)),
        stand_ins=_merge_stand_ins(one, two),
        asleep=tuple({m.name: m for m in (*two.asleep, *one.asleep) if m.name not in modules}.values()),
        task=_merge_files((*one.task, *two.task)) if same_entry else one.task,
        machine=one.machine or two.machine,
        distributions=tuple({d.name: d for d in (*two.distributions, *one.distributions)}.values()),
    )


def _merge_files(files: Iterable[TracedFile]) -> tuple[TracedFile, ...]:
    uses: dict[str, frozenset[Use]] = {}
    for file in files:
        uses[file.path] = uses.get(file.path, frozenset()) | file.uses
    return tuple(TracedFile(path, used) for path, used in sorted(uses.items()))


def _merge_stand_ins(one: Trace, two: Trace) -> tuple[TracedStandIn, ...]:
    """Return the modules that no run has needed: what one run has stood in for, another may have imported for real."""
    found = {module.name: module for module in (*two.stand_ins, *one.stand_ins)}
    for trace in (one, two):
        own = {module.name for module in trace.stand_ins}
        for module in trace.modules:
            if module.name not in own:
                found.pop(module.name, None)
    return tuple(found[name] for name in sorted(found))


def _merge_libraries(libraries: Iterable[LibraryPages]) -> tuple[LibraryPages, ...]:
    """Unite touched pages by library; of one that was there in two builds the pages mean nothing together."""
    pages: dict[str, set[int]] = {}
    sizes: dict[str, set[int]] = {}
    for library in libraries:
        pages.setdefault(library.path, set()).update(library.pages())
        sizes.setdefault(library.path, set()).add(library.size)
    return tuple(
        LibraryPages.of(path, max(sizes[path]), pages[path]) for path in sorted(pages) if len(sizes[path]) == 1
    )


def _merge_events(one: Trace, two: Trace) -> tuple[tuple[Event, ...], tuple[Result, ...]]:
    """Unite events and their results; of two different events with one name the second is renamed."""
    events = {event.name: event for event in one.workload.events}
    results = {result.event: result.value for result in one.results}
    others = {event.name: event for event in two.workload.events}
    for result in two.results:
        name, event = result.event, others.get(result.event)
        while name in results and events.get(name) != (event and replace(event, name=name)):
            name += "'"
        if results.setdefault(name, result.value) != result.value:
            raise UsageError(f"the traces disagree on the result of {name!r}: has the entry changed? Trace both again")
        if event is not None:
            events[name] = replace(event, name=name)
    if events and NO_EVENT in results:
        # One of the runs was given no event, which the runner makes up only where there is no other.
        events.setdefault(NO_EVENT, Event(NO_EVENT, {}))
    return tuple(events.values()), tuple(Result(name, value) for name, value in results.items())
