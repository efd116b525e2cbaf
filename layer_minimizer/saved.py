"""Reads the traces of earlier runs and of deployed functions, and unites them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from layer_minimizer import deployed
from layer_minimizer.errors import UsageError
from layer_minimizer.model import Trace, TracedDistribution, Use, merge_traces
from layer_minimizer.production import Restored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from layer_minimizer.model import Interpreter, Inventory

_Value = TypeVar("_Value")


def read_traces(
    files: Iterable[Path],
) -> tuple[list[tuple[str, Trace]], list[tuple[str, deployed.Seen]], Restored]:
    """Read saved traces, and logs: of traced functions, and of layers that tell what they restored.

    Each comes with its name. A function's log becomes a trace once it is known which environment it is to be one of.

    Raises:
        UsageError: one cannot be read, or is neither.
    """
    traces: list[tuple[str, Trace]] = []
    seen: list[tuple[str, deployed.Seen]] = []
    logs: list[str] = []
    for file in files:
        try:
            traces.append((str(file), read_saved(file, "--trace", lambda data: Trace.from_json(data, Path))))
        except UsageError as exc:
            said = file.read_text("utf-8", errors="replace") if file.is_file() else ""
            found = deployed.read(said)
            if not found and not Restored.read([said]):
                raise UsageError(f"{exc}; nor is it the log of a function that was traced, or of a layer") from exc
            seen += [(str(file), each) for each in found]
            logs.append(said)
    return traces, seen, Restored.read(logs)


def read_saved(file: Path, option: str, parse: Callable[[Any], _Value]) -> _Value:
    """Read the JSON form of a value that an earlier run has saved.

    Raises:
        UsageError: it cannot be read, or is something else.
    """
    try:
        return parse(json.loads(file.read_bytes()))
    except OSError as exc:
        raise UsageError(f"{option} {file}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{option} {file} is no JSON: {exc}") from exc
    except UsageError as exc:
        raise UsageError(f"{option} {file}: {exc}") from exc


def unite(saved: Sequence[tuple[str, Trace]]) -> Trace:
    """Make one trace of all; what deployed functions have imported is judged by what the others know of it.

    Raises:
        UsageError: there is none, or they cannot be united.
    """
    if not saved:
        raise UsageError(
            "there is nothing to trace: name the handler or script with --entry, or a saved --trace; "
            "minimize init finds them, and writes them down"
        )
    local = [trace for _, trace in saved if trace.observers != (deployed.OBSERVER,)]
    others = [trace for _, trace in saved if trace.observers == (deployed.OBSERVER,)]
    if not local:
        return merge_traces(others)
    trace = merge_traces(local)
    return merge_traces([trace, *(deployed.without_idle(trace, other) for other in others)])


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


def unwatched(trace: Trace) -> set[str]:
    """Give the libraries that a run has loaded without anybody watching which of their pages it needs."""
    return set() if trace.libraries else {file.path for file in trace.files if Use.MAP in file.uses}
