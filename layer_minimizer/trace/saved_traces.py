"""Reads the traces of earlier runs and of deployed functions, and unites them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import read_saved
from layer_minimizer.model.trace import Trace, TracedDistribution
from layer_minimizer.trace import production_log
from layer_minimizer.trace.merge import merge_traces
from layer_minimizer.trace.restore_log import RestoreLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from layer_minimizer.model.installed import Inventory
    from layer_minimizer.model.interpreter import Interpreter


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier runs have left: saved traces and logs of traced functions by name, and what layers restored.

    A function's log becomes a trace once it is known which environment it is to be one of.
    """

    traces: tuple[tuple[str, Trace], ...] = ()
    logs: tuple[tuple[str, production_log.ProductionTrace], ...] = ()
    restored: RestoreLog = field(default_factory=lambda: RestoreLog.read(()))


def read_traces(files: Iterable[Path]) -> Earlier:
    """Read saved traces, and logs: of traced functions, and of layers that tell what they restored.

    Raises:
        UsageError: one cannot be read, or is neither.
    """
    traces: list[tuple[str, Trace]] = []
    seen: list[tuple[str, production_log.ProductionTrace]] = []
    logs: list[str] = []
    for file in files:
        try:
            traces.append((str(file), read_saved(file, "--trace", Trace.from_json)))
        except UsageError as exc:
            said = file.read_text("utf-8", errors="replace") if file.is_file() else ""
            found = production_log.read_production_log(said)
            if not found and not RestoreLog.read([said]):
                raise UsageError(f"{exc}; nor is it the log of a function that was traced, or of a layer") from exc
            seen += [(str(file), each) for each in found]
            logs.append(said)
    return Earlier(tuple(traces), tuple(seen), RestoreLog.read(logs))


def merge_saved(saved: Sequence[tuple[str, Trace]]) -> Trace:
    """Make one trace of all; what deployed functions have imported is judged by what the others know of it.

    Raises:
        UsageError: there is none, or they cannot be united.
    """
    if not saved:
        raise UsageError(
            "there is nothing to trace: name the handler or script with --entry, or a saved --trace; "
            "minimize init finds them, and writes them down"
        )
    local = [trace for _, trace in saved if trace.observers != (production_log.OBSERVER,)]
    others = [trace for _, trace in saved if trace.observers == (production_log.OBSERVER,)]
    if not local:
        return merge_traces(others)
    trace = merge_traces(local)
    return merge_traces([trace, *(production_log.without_idle(trace, other) for other in others)])


def with_stock(trace: Trace, interpreter: Interpreter, stock: Inventory) -> Trace:
    """Note in a trace what it was taken of, so that it can be told later whether it fits another environment."""
    tops: dict[str, set[str]] = {}
    for file in stock.files:
        tops.setdefault(file.distribution, set()).add(file.path.split("/", 1)[0])
    touched = {file.path for file in trace.files}
    used = {file.distribution for file in stock.files if file.path in touched}
    found = [d for d in stock.distributions if d.name in used]
    listed = (TracedDistribution(d.name, d.version, tuple(sorted(tops[d.name]))) for d in found)
    return replace(trace, machine=interpreter.machine, distributions=tuple(listed))
