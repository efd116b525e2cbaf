"""Selects and zips the files of the function: the entry, local modules that it can import, used files, models.

Nothing can be restored in a function's zip, so it also has to contain what other events need. Therefore imports of
local modules are followed whether or not the run executed them, and where a data file was used, its whole folder is
included.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.analysis import local_modules
from layer_minimizer.core.errors import PackError
from layer_minimizer.execution import task_root
from layer_minimizer.layer.archive import unzip, write_zip
from layer_minimizer.model import modules
from layer_minimizer.model.outcome import FunctionArchive, LayerArchive
from layer_minimizer.model.trace import Trace, Use
from layer_minimizer.pack import budget
from layer_minimizer.pack.staging import is_storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.model.workload import Workload

_USED = {Use.OPEN, Use.MAP, Use.STAT, Use.SPEC}


@dataclass(frozen=True, slots=True)
class Function:
    """The files of a function: names below /var/task, and their paths on this machine.

    ``models`` are the names of the files passed as models. ``left_out`` are files in the entry's folder that are not
    included.
    """

    files: Mapping[str, Path]
    models: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def reserved(self) -> budget.ReservedBytes:
        """The function's bytes, which count for the same limit as the layer."""
        sizes = {name: source.stat().st_size for name, source in self.files.items()}
        models = sum(sizes[name] for name in self.models)
        return budget.ReservedBytes(code=sum(sizes.values()) - models, models=models)


def select(trace: Trace, avoid: Iterable[str], *, whole: bool = False) -> Function:
    """Select the files of the traced entry's function. ``whole``: all files in the entry's folder.

    ``avoid`` are folders to leave out even where they are in the entry's folder. A file that no event used is not
    included if its name is not UTF-8.

    Raises:
        PackError: the name of a used file is not UTF-8.
    """
    source = trace.workload
    models = {model.name: model for model in source.models}
    candidates = {**dict(task_root.workload_files(source.entry, avoid)), **models}
    wanted = set(candidates) if whole or not trace.task else _wanted(trace, candidates)
    wanted |= {source.entry.name, *models}
    used = {file.path for file in trace.task if file.uses & _USED}
    if refused := sorted(name for name in wanted & (used | set(models)) if not is_storable(name)):
        raise PackError(f"a zip for Lambda cannot have the name of {refused[0]!r}, which is not UTF-8: rename the file")
    wanted = set(filter(is_storable, wanted))
    return Function(
        files={name: candidates[name] for name in sorted(wanted)},
        models=tuple(models),
        left_out=tuple(sorted(candidates.keys() - wanted)),
    )


def _wanted(trace: Trace, candidates: Mapping[str, Path]) -> set[str]:
    used = {file.path for file in trace.task if file.uses & _USED}
    reached = local_modules.local_modules(trace, candidates)
    data = {_folder(path) for path in used & candidates.keys() if not modules.module_name(path)} - {""}
    return {path for path in candidates if path in used or path in reached or _folder(path) in data}


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class PackedFunction:
    """A function's zip that has been written. ``whole``: it contains all files in the entry's folder.

    ``workload`` runs the function from an unpacked copy of the zip; the layer is verified with it.
    """

    archive: LayerArchive
    workload: Workload
    whole: bool
    reserved: budget.ReservedBytes
    left_out: tuple[str, ...]

    def finished(self, path: Path) -> FunctionArchive:
        """Return the result for the report, after the zip was moved to ``path``."""
        return FunctionArchive(replace(self.archive, path=path), self.reserved.models, self.left_out)


def pack_function(
    trace: Trace, avoid: Iterable[str], target: Path, scratch: Path, *, whole: bool = False
) -> PackedFunction:
    """Write a function's zip to ``target``, and unpack it below ``scratch``.

    Raises:
        PackError: a file cannot be copied, or the zip cannot be written.
    """
    function = select(trace, avoid, whole=whole)
    shutil.rmtree(scratch, ignore_errors=True)
    _copy(function, scratch / "stage")
    archive = write_zip(scratch / "stage", target)
    shutil.rmtree(scratch / "stage")
    # The folder's name becomes the function's name in the context of the handler.
    folder = scratch / (trace.workload.entry.parent.name or "function")
    unzip(archive.path, folder)
    return PackedFunction(
        archive=archive,
        workload=task_root.relocated(trace.workload, folder),
        whole=whole,
        reserved=function.reserved,
        left_out=function.left_out,
    )


def _copy(function: Function, folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
        for name, source in function.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    except OSError as exc:
        raise PackError(
            f"cannot copy {exc.filename} into {folder}: {exc.strerror}; set TMPDIR to use another folder"
        ) from exc
