"""Finds out which observers of a run did not work: one that fails to start leaves a trace that only looks complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.execution import strace
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.model.trace import MissingObserver, Use
from layer_minimizer.native import pagetrace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.execution.facts import Facts
    from layer_minimizer.execution.observed_run import PageTracer, RunRecord

PAGES, CALLS = "pages", "calls"
# What the trace lacks without an observer, for warnings.
_CONSEQUENCES = {
    Observer.PROBE: "modules and files may be missing in the layer",
    Observer.STRACE: "files that only code in C opens may be missing in the layer",
    PAGES: "their unused pages are not known",
    CALLS: "every module that was imported counts as used",
}
_NAMES = {
    PAGES: "the tracer of shared libraries' pages",
    CALLS: "the record of called functions",
    Observer.PROBE: "the probe",
}


def unavailable(wanted: str) -> Iterator[MissingObserver]:
    """Yield what ``--observe`` asks for and this machine does not have."""
    if wanted != "probe" and (problem := strace.problem()):
        yield MissingObserver(Observer.STRACE, problem)


def silent(
    record: RunRecord, facts: Facts, tracer: PageTracer | None, libraries: Iterable[str]
) -> Iterator[MissingObserver]:
    """Yield the observers of a run that recorded nothing.

    Args:
        record: the run.
        facts: what the observers have recorded.
        tracer: records the pages of ``libraries``, if they were to be recorded.
        libraries: paths relative to site-packages.
    """
    if not facts.processes:
        yield MissingObserver(Observer.PROBE, "no process of the run has loaded it")
    if record.calls is not None and not (record.calls.exists() and record.calls.stat().st_size):
        yield MissingObserver(Observer.STRACE, "it recorded no system call of the run")
    if tracer is not None:
        processes, watched = pagetrace.read_use(tracer.table)
        loaded = {path for path, uses in facts.uses.items() if Use.MAP in uses}
        if not processes:
            yield MissingObserver(PAGES, "the dynamic loader of the interpreter did not load it (LD_AUDIT)")
        elif not watched and not loaded.isdisjoint(libraries):
            yield MissingObserver(PAGES, "the dynamic loader told it of no library that the run loaded (LD_AUDIT)")


def warnings_of(missing: Iterable[MissingObserver]) -> Iterator[str]:
    """Yield a warning for each of the observers: what it is, the cause, and what the trace lacks."""
    for each in dict.fromkeys(missing):
        name = _NAMES.get(each.observer, each.observer)
        yield f"{name} did not observe the run: {each.cause}; {_CONSEQUENCES[each.observer]}"
