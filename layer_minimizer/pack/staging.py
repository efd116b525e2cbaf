"""Copies the kept files of a plan into the folder from which a layer is zipped."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core import progress
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer.layout import LIBRARY_FOLDER, NO_DISTRIBUTION, SYSTEM_LIBRARIES, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from layer_minimizer.model.installed import InstalledFile, Inventory
    from layer_minimizer.model.outcome import Bundled
    from layer_minimizer.model.plan import KeepPlan

    WriteLibrary = Callable[[str, Path, Path], int]


def stage(  # noqa: PLR0913, PLR0917 - source, destination and form of the copies
    plan: KeepPlan,
    inventory: Inventory,
    folder: Path,
    layout: Layout,
    write_library: WriteLibrary | None = None,
    copies: Mapping[str, str] | None = None,
    more: Collection[str] = (),
) -> Counter[str]:
    """Copy the kept files into ``folder`` in the layout of the layer. Return the bytes written, by distribution.

    ``write_library`` may write a shared library in another form. It returns the bytes written, which may include
    additional files and count for the library's distribution, or 0 to have the library copied. ``copies`` maps files to
    files with the same contents: where both are kept, the first becomes a link to the second. Files in ``more`` are
    copied, too.

    Raises:
        PackError: a file cannot be copied, or its name cannot be stored in a zip.
    """
    top = folder / layout.prefix(plan.python)
    kept = {decision.path for decision in plan.kept}.union(more)
    sizes: Counter[str] = Counter()
    with scratch_errors(PackError, f"cannot copy {{file}} into {folder}"):
        top.mkdir(parents=True)
        for path in plan.folders:
            _refuse_name(path)
            (top / path).mkdir(parents=True, exist_ok=True)
        files = [file for file in inventory.files if file.path in kept]
        total = sum(file.size for file in files)
        with progress.step("copying the files of the layer", total=total, in_bytes=True) as step:
            for file in files:
                _refuse_name(file.path)
                link = link_target(file, kept, copies or {})
                sizes[file.distribution or NO_DISTRIBUTION] += _stage_file(file, top, link, write_library)
                step.advance(file.size)
    return sizes


def link_target(file: InstalledFile, kept: Collection[str], copies: Mapping[str, str]) -> str:
    """Return the target if a file is a link in a layer with the ``kept`` files, else an empty string."""
    original = copies.get(file.path, "")
    return file.link or (original in kept and os.path.relpath(original, os.path.dirname(file.path))) or ""


def _stage_file(file: InstalledFile, top: Path, link: str, write_library: WriteLibrary | None) -> int:
    """Write one file, or a link in its place, below ``top``. Return the bytes written."""
    target = top / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(link)
        return len(link)
    size = write_library(file.path, Path(file.source), top) if write_library is not None and ".so" in file.path else 0
    if not size:
        shutil.copyfile(file.source, target)
        size = file.size
    target.chmod(0o755 if file.executable else 0o644)
    return size


def add_libraries(bundled: Iterable[Bundled], folder: Path) -> Counter[str]:
    """Copy libraries of this machine to the folder where Lambda's loader finds them. Return their bytes.

    Raises:
        PackError: one cannot be copied.
    """
    sizes: Counter[str] = Counter()
    for library in bundled:
        target = folder / LIBRARY_FOLDER / library.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(library.source, target)
            target.chmod(0o755)
        except OSError as exc:
            raise PackError(f"cannot copy {library.source} into {folder}: {exc.strerror}") from exc
        sizes[SYSTEM_LIBRARIES] += library.bytes
    return sizes


def is_storable(path: str) -> bool:
    """Return whether a zip can have a file of this name: whether it is valid UTF-8."""
    return path.encode("utf-8", "replace").decode() == path


def _refuse_name(path: str) -> None:
    if not is_storable(path):
        raise PackError(
            f"{os.fsencode(path)!r} is kept, but its name is not valid UTF-8 and cannot be stored in a zip: "
            "rename it, or exclude it with --exclude"
        )
