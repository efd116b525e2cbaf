"""Read and merge the traces of earlier runs and of deployed functions."""

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
class SavedTraces:
    """Traces and logs of earlier runs.

    ``traces``: saved traces by file name.
    ``logs``: logs of traced functions by file name; they become traces of the environment once it is known.
    ``restored``: what earlier layers restored, according to their logs.
    """

    traces: tuple[tuple[str, Trace], ...] = ()
    logs: tuple[tuple[str, production_log.ProductionTrace], ...] = ()
    restored: RestoreLog = field(default_factory=lambda: RestoreLog.read(()))


def read_traces(files: Iterable[Path]) -> SavedTraces:
    """Read saved traces, logs of traced functions, and logs of layers that restored files.

    Raises:
        UsageError: a file cannot be read, or is none of these.
    """
    traces: list[tuple[str, Trace]] = []
    production: list[tuple[str, production_log.ProductionTrace]] = []
    texts: list[str] = []
    for file in files:
        try:
            traces.append((str(file), read_saved(file, "--trace", Trace.from_json)))
        except UsageError as exc:
            if isinstance(exc.__cause__, OSError):
                raise
            text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
            found = production_log.read_production_log(text)
            if not found and not RestoreLog.read([text]):
                raise UsageError(f"{exc}; it is not the log of a traced function or of a layer, either") from exc
            production += [(str(file), each) for each in found]
            texts.append(text)
    return SavedTraces(tuple(traces), tuple(production), RestoreLog.read(texts))


def merge_saved(saved: Sequence[tuple[str, Trace]]) -> Trace:
    """Merge all traces; imports that other traces show to be unused are dropped from those of deployed functions.

    Raises:
        UsageError: there is no trace, or the traces cannot be merged.
    """
    if not saved:
        raise UsageError(
            "there is nothing to trace: name the handler or script with --entry, or a saved --trace; "
            "minimize init finds them and writes a settings file"
        )
    local = [trace for _, trace in saved if trace.observers != (production_log.OBSERVER,)]
    others = [trace for _, trace in saved if trace.observers == (production_log.OBSERVER,)]
    if not local:
        return merge_traces(others)
    trace = merge_traces(local)
    return merge_traces([trace, *(production_log.drop_unused_imports(trace, other) for other in others)])


def with_environment(trace: Trace, interpreter: Interpreter, inventory: Inventory) -> Trace:
    """Add the machine and the used distributions to a trace, so that it can be compared with another environment."""
    tops: dict[str, set[str]] = {}
    for file in inventory.files:
        tops.setdefault(file.distribution, set()).add(file.path.split("/", 1)[0])
    touched = {file.path for file in trace.files}
    used = {file.distribution for file in inventory.files if file.path in touched}
    found = [d for d in inventory.distributions if d.name in used]
    listed = (TracedDistribution(d.name, d.version, tuple(sorted(tops[d.name]))) for d in found)
    return replace(trace, machine=interpreter.machine, distributions=tuple(listed))
