"""Read a workload from the user's files: entry, models and events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import UsageError
from layer_minimizer.model.workload import Event, Workload

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


def load_workload(
    entry: str | os.PathLike[str],
    *,
    handler: str = "",
    models: Iterable[str | os.PathLike[str]] = (),
    events: Iterable[str | os.PathLike[str]] = (),
) -> Workload:
    """Read the files that make up a workload.

    Raises:
        UsageError: a file is missing, an event is not valid JSON, or two files have the same name.
    """
    path = Path(entry).absolute()
    if not path.is_file():
        raise UsageError(f"{entry}: no such entry file; --entry takes a handler or a script, a .py file")
    if path.suffix != ".py":
        raise UsageError(f"{entry}: the entry must be a .py file")
    found = tuple(_model(model) for model in models)
    names = [path.name, *(model.name for model in found)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two files named {name} would be placed next to the entry: rename one")
    loaded = [event for file in events for event in _events(Path(file))]
    return Workload(path, _function(handler, path), found, tuple(_uniquely_named(loaded)))


def _function(handler: str, entry: Path) -> str:
    """Return the function's name; ``handler`` may also have Lambda's notation ``file.function``."""
    module, _, function = handler.rpartition(".")
    if module not in ("", entry.stem):
        raise UsageError(f"--handler {handler} names the file {module}.py, but the entry is {entry.name}")
    return function


def _model(model: str | os.PathLike[str]) -> Path:
    path = Path(model).absolute()
    if not path.exists():
        raise UsageError(f"{model}: no such model file")
    if not path.is_file():
        raise UsageError(f"{model} is not a regular file; name the files of a model one by one with --model")
    return path


def _events(file: Path) -> list[Event]:
    try:
        data = json.loads(file.read_bytes())
    except OSError as exc:
        raise UsageError(f"{file}: cannot read the event: {exc.strerror}") from exc
    except RecursionError as exc:
        raise UsageError(f"{file} is nested too deeply to be read") from exc
    except ValueError as exc:
        raise UsageError(f"{file} is not valid JSON: {exc}") from exc
    if isinstance(data, dict) and isinstance(data.get("tests"), list):
        return [_test(file, number, test) for number, test in enumerate(data["tests"])]
    if isinstance(data, list):
        return [Event(f"{file.name}[{number}]", payload) for number, payload in enumerate(data)]
    return [Event(file.name, data)]


def _test(file: Path, number: int, test: Any) -> Event:
    if not isinstance(test, dict) or "event" not in test:
        raise UsageError(f'{file}: test {number} has no "event"; a test is {{"name", "event", "context"}}')
    context = test.get("context", {})
    if not isinstance(context, dict):
        raise UsageError(f'{file}: the "context" of test {number} must be an object')
    return Event(str(test.get("name", f"{file.name}[{number}]")), test["event"], context)


def _uniquely_named(events: list[Event]) -> list[Event]:
    seen: dict[str, int] = {}
    named = []
    for event in events:
        name = event.name
        while name in seen:
            seen[event.name] += 1
            name = f"{event.name} #{seen[event.name]}"
        seen[name] = 1
        named.append(Event(name, event.payload, event.context))
    return named
