"""Reads a workload from the user's files, and lays out the scratch task root in which it runs."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.errors import TraceError, UsageError
from layer_minimizer.model import Event, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Never part of a function: histories, caches, other programs' environments.
_NOT_LINKED = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".tox", ".nox", ".mypy_cache", ".pytest_cache"}
# Up to this size a file is copied, so that a handler that writes to it changes the copy; models are linked.
_COPIED_BYTES = 64 << 20


def load_workload(
    entry: str | os.PathLike[str],
    *,
    handler: str = "",
    models: Iterable[str | os.PathLike[str]] = (),
    events: Iterable[str | os.PathLike[str]] = (),
) -> Workload:
    """Read the files that make up a workload.

    Raises:
        UsageError: a file is missing, an event is no JSON, or two files would have the same name.
    """
    path = Path(entry).absolute()
    if not path.is_file():
        raise UsageError(f"{entry}: there is no such entry file; --entry takes a handler or a script, a .py file")
    if path.suffix != ".py":
        raise UsageError(f"{entry}: the entry must be a .py file")
    found = tuple(_model(model) for model in models)
    names = [path.name, *(model.name for model in found)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two files named {name} would lie beside the entry: rename one")
    loaded = [event for file in events for event in _events(Path(file))]
    return Workload(path, _function(handler, path), found, tuple(_uniquely_named(loaded)))


def _function(handler: str, entry: Path) -> str:
    """Accept Lambda's own notation ``file.function`` beside the bare function name."""
    module, _, function = handler.rpartition(".")
    if module not in ("", entry.stem):
        raise UsageError(f"--handler {handler} names the file {module}.py, but the entry is {entry.name}")
    return function


def _model(model: str | os.PathLike[str]) -> Path:
    path = Path(model).absolute()
    if not path.exists():
        raise UsageError(f"{model}: there is no such model file")
    if not path.is_file():
        raise UsageError(f"{model} is no regular file; name the files of a model one by one with --model")
    return path


def _events(file: Path) -> list[Event]:
    try:
        data = json.loads(file.read_bytes())
    except OSError as exc:
        raise UsageError(f"{file}: cannot read the event: {exc.strerror}") from exc
    except RecursionError as exc:
        raise UsageError(f"{file} is nested too deeply to be read") from exc
    except ValueError as exc:
        raise UsageError(f"{file} is no JSON: {exc}") from exc
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


def make_task_root(workload: Workload, root: Path, avoid: Iterable[str]) -> None:
    """Lay out ``root`` as /var/task would be: the entry's folder, and the models beside the entry.

    Small files are copied; larger ones are hard links where the file system allows it, else symbolic links. Folders
    named in ``avoid`` (site-packages) and other environments are left out.

    Raises:
        TraceError: the scratch folder cannot be written.
    """
    try:
        root.mkdir(parents=True)
        _place_folder(workload.entry.parent, root, {os.path.realpath(folder) for folder in (*avoid, str(root))})
        for model in workload.models:
            target = root / model.name
            target.unlink(missing_ok=True)
            _place(model, target)
    except OSError as exc:
        raise TraceError(
            f"cannot lay out the task root {root}: {exc.strerror} ({exc.filename}); TMPDIR sets another place"
        ) from exc


def files_beside(entry: Path, avoid: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Give what `make_task_root` lays out of the entry's folder: names below the task root, and where the files lie."""
    left_out = {os.path.realpath(folder) for folder in avoid}
    waiting, seen = [("", entry.parent)], set[str]()
    while waiting:
        prefix, folder = waiting.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue  # a link to a folder above
        seen.add(real)
        for path in sorted(folder.iterdir()):
            if path.name in _NOT_LINKED or os.path.realpath(path) in left_out:
                continue
            if path.is_file():
                yield f"{prefix}{path.name}", path
            elif path.is_dir() and not (path / "pyvenv.cfg").exists():
                waiting.append((f"{prefix}{path.name}/", path))


def moved(workload: Workload, folder: Path) -> Workload:
    """Give the workload as it is once its entry and models have been copied into ``folder``."""
    models = tuple(folder / model.name for model in workload.models)
    return replace(workload, entry=folder / workload.entry.name, models=models)


def _place_folder(source: Path, target: Path, avoid: set[str]) -> None:
    with os.scandir(source) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = Path(entry.path)
        if entry.name in _NOT_LINKED or os.path.realpath(path) in avoid:
            continue
        if entry.is_symlink() and not path.is_file():
            (target / entry.name).symlink_to(os.path.realpath(path))
        elif entry.is_dir():
            if not (path / "pyvenv.cfg").exists():
                (target / entry.name).mkdir()
                _place_folder(path, target / entry.name, avoid)
        elif entry.is_file():
            _place(path, target / entry.name)


def _place(source: Path, target: Path) -> None:
    if source.stat().st_size <= _COPIED_BYTES:
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
        return
    try:
        os.link(source, target, follow_symlinks=True)
    except OSError:
        target.symlink_to(source)
