"""Create the scratch folder in which a workload runs, arranged like ``/var/task`` in Lambda."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import TraceError
from layer_minimizer.core.files import scratch_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.model.workload import Workload

# Never part of a function: version control, caches, dependencies of other tools.
_IGNORED = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".tox", ".nox", ".mypy_cache", ".pytest_cache"}
# Smaller files are copied, so that a handler that writes to them changes only the copy; larger ones are linked.
_COPIED_BYTES = 64 << 20


def make_task_root(workload: Workload, root: Path, avoid: Iterable[str]) -> None:
    """Create ``root`` with the contents of the entry's folder, and the models next to the entry.

    Small files are copied; larger ones are hard links where the file system allows it, else symbolic links. Folders
    in ``avoid`` (site-packages) and other virtual environments are ignored.

    Raises:
        TraceError: a file cannot be read, or the scratch folder cannot be written.
    """
    with scratch_errors(TraceError, f"cannot create the task root {root}: {{file}}"):
        root.mkdir(parents=True)
        _copy_folder(workload.entry.parent, root, {os.path.realpath(folder) for folder in (*avoid, str(root))})
        for model in workload.models:
            target = root / model.name
            target.unlink(missing_ok=True)
            _copy_or_link(model, target)


def workload_files(entry: Path, avoid: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files of the entry's folder that `make_task_root` copies: (path in the task root, file).

    Raises:
        TraceError: a folder cannot be read.
    """
    ignored = {os.path.realpath(folder) for folder in avoid}
    waiting = [("", entry.parent, frozenset[str]())]
    while waiting:
        prefix, folder, parents = waiting.pop()
        if (real := os.path.realpath(folder)) in parents:
            continue  # a link to a parent folder
        try:
            for path in sorted(folder.iterdir()):
                if path.name in _IGNORED or os.path.realpath(path) in ignored:
                    continue
                if path.is_file():
                    yield f"{prefix}{path.name}", path
                elif path.is_dir() and not (path / "pyvenv.cfg").exists():
                    waiting.append((f"{prefix}{path.name}/", path, parents | {real}))
        except OSError as exc:
            raise _unreadable(exc) from exc


def relocated(workload: Workload, folder: Path) -> Workload:
    """Return the workload with the paths that its entry and models have in ``folder``."""
    models = tuple(folder / model.name for model in workload.models)
    return replace(workload, entry=folder / workload.entry.name, models=models)


def _copy_folder(source: Path, target: Path, avoid: set[str]) -> None:
    with os.scandir(source) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = Path(entry.path)
        if entry.name in _IGNORED or os.path.realpath(path) in avoid:
            continue
        if entry.is_symlink() and not path.is_file():
            (target / entry.name).symlink_to(os.path.realpath(path))
        elif entry.is_dir():
            if not (path / "pyvenv.cfg").exists():
                (target / entry.name).mkdir()
                _copy_folder(path, target / entry.name, avoid)
        elif entry.is_file():
            _copy_or_link(path, target / entry.name)


def _unreadable(error: OSError) -> TraceError:
    return TraceError(f"cannot read {error.filename}: {error.strerror}; make it readable, or move it elsewhere")


def _copy_or_link(source: Path, target: Path) -> None:
    if source.stat().st_size <= _COPIED_BYTES:
        try:
            source.open("rb").close()
        except OSError as exc:
            raise _unreadable(exc) from exc
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
        return
    try:
        os.link(source, target, follow_symlinks=True)
    except OSError:
        target.symlink_to(source)
