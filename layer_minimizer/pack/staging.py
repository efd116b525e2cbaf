"""Copy the kept files of a plan into a staged layer."""

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

    PlaceLibrary = Callable[[str, Path, Path], int]


def stage(  # noqa: PLR0913, PLR0917 - what is copied, where to, and in which form
    plan: KeepPlan,
    inventory: Inventory,
    folder: Path,
    layout: Layout,
    place: PlaceLibrary | None = None,
    copies: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Copy the kept files into ``folder`` as the layer will have them; the originals are only read.

    ``place`` may write a shared library in another form; what it adds beside it counts as that distribution's.
    ``copies`` of another kept file beside them become links to it. Gives the staged bytes by distribution.

    Raises:
        PackError: a file cannot be copied, or its name cannot stand in a zip.
    """
    top = folder / layout.prefix(plan.python)
    kept = {decision.path for decision in plan.kept}
    sizes: Counter[str] = Counter()
    with scratch_errors(PackError, f"cannot copy {{file}} into {folder}"):
        top.mkdir(parents=True)
        for path in plan.folders:
            _refuse_name(path)
            (top / path).mkdir(parents=True, exist_ok=True)
        files = [file for file in inventory.files if file.path in kept]
        total = sum(file.size for file in files)
        with progress.step("laying the layer out", total=total, in_bytes=True) as step:
            for file in files:
                _refuse_name(file.path)
                link = link_of(file, kept, copies or {})
                sizes[file.distribution or NO_DISTRIBUTION] += _stage_file(file, top, link, place)
                step.advance(file.size)
    return sizes


def link_of(file: InstalledFile, kept: Collection[str], copies: Mapping[str, str]) -> str:
    """Return what a file is a link to in a layer with the ``kept`` files, or an empty text."""
    original = copies.get(file.path, "")
    return file.link or (original in kept and original.rpartition("/")[2]) or ""


def _stage_file(file: InstalledFile, top: Path, link: str, place: PlaceLibrary | None) -> int:
    """Put one file, or a link in its place, below ``top``; give its bytes there."""
    target = top / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(link)
        return len(link)
    size = place(file.path, Path(file.source), top) if place is not None and ".so" in file.path else 0
    if not size:
        shutil.copyfile(file.source, target)
        size = file.size
    target.chmod(0o755 if file.executable else 0o644)
    return size


def add_libraries(bundled: Iterable[Bundled], folder: Path) -> Counter[str]:
    """Copy libraries of this machine to where Lambda's loader finds them; give their bytes.

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


def _refuse_name(path: str) -> None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise PackError(
            f"{os.fsencode(path)!r} is kept, but its name is no UTF-8 and cannot stand in a zip: "
            "rename it, or leave it away with --exclude"
        ) from exc
