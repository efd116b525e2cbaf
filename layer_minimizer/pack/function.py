"""The function beside the layer: the entry, the local modules that it can import, the files that it used, its models.

A function has no way back, and what only another event needs must be there, too. So the imports of local modules are
followed as far as they lead, whatever the run did, and a folder of data goes in with all that lies beside a used file.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.model.workload import Workload

_USED = {Use.OPEN, Use.MAP, Use.STAT, Use.SPEC}


@dataclass(frozen=True, slots=True)
class Function:
    """The files of a function: where each lies on this machine, by its name below /var/task.

    ``models`` are the names of those that the user named as models, ``left_out`` what lies beside the entry and is no
    part of the function.
    """

    files: Mapping[str, Path]
    models: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def beside(self) -> budget.ReservedBytes:
        """The bytes by which it shares a limit with the layer."""
        sizes = {name: source.stat().st_size for name, source in self.files.items()}
        models = sum(sizes[name] for name in self.models)
        return budget.ReservedBytes(code=sum(sizes.values()) - models, models=models)


def select(trace: Trace, avoid: Iterable[str], *, whole: bool = False) -> Function:
    """Choose the files of the traced entry's function; ``whole``: all that lies beside the entry.

    ``avoid`` are folders that are no part of it although they may lie below the entry's.
    """
    source = trace.workload
    models = {model.name: model for model in source.models}
    beside = {**dict(task_root.files_beside(source.entry, avoid)), **models}
    wanted = set(beside) if whole or not trace.task else _wanted(trace, beside)
    wanted |= {source.entry.name, *models}
    return Function(
        files={name: beside[name] for name in sorted(wanted)},
        models=tuple(models),
        left_out=tuple(sorted(beside.keys() - wanted)),
    )


def _wanted(trace: Trace, beside: Mapping[str, Path]) -> set[str]:
    used = {file.path for file in trace.task if file.uses & _USED}
    reached = local_modules.local_modules(trace, beside)
    data = {_folder(path) for path in used & beside.keys() if not modules.module_name(path)} - {""}
    return {path for path in beside if path in used or path in reached or _folder(path) in data}


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class PackedFunction:
    """A function's zip that exists; ``whole`` says that all is in it that lies beside the entry.

    ``workload`` is the one in its unpacked copy, from which the attempts to verify the layer run the function.
    """

    archive: LayerArchive
    workload: Workload
    whole: bool
    reserved: budget.ReservedBytes
    left_out: tuple[str, ...]

    def finished(self, path: Path) -> FunctionArchive:
        """Return what there is to say of the zip, which lies at ``path`` by now."""
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
    # Handlers are told the name of the entry's folder as the function's.
    folder = scratch / (trace.workload.entry.parent.name or "function")
    unzip(archive.path, folder)
    return PackedFunction(
        archive=archive,
        workload=task_root.moved(trace.workload, folder),
        whole=whole,
        reserved=function.beside,
        left_out=function.left_out,
    )


def _copy(function: Function, folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
        for name, source in function.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
            place.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    except OSError as exc:
        raise PackError(f"cannot copy {exc.filename} into {folder}: {exc.strerror}; TMPDIR sets another place") from exc
