"""Makes the environment in which a handler sees what it will see above other layers: theirs, and the user's beside it.

A copy, and no links: a handler may write into a package's folder, and the user's environment stays as it is.

Of a layer that this tool has made, the environment's own files are laid out where it has them: whole libraries instead
of compacted ones, modules instead of their stand-ins, files instead of a store. So what is traced does not depend on
what another layer's runtime does; the run on the merged layers themselves proves the result.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import TraceError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.environment.base_layers import BaseLayers, Held, is_compacted, matters
from layer_minimizer.environment.interpreter import describe_interpreter, make_virtual, site_of
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.layer import cold_store, layout
from layer_minimizer.layer.layout import FOLDER
from layer_minimizer.model import modules
from layer_minimizer.model.base_layer import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.installed import InstalledFile
    from layer_minimizer.model.interpreter import Interpreter

# From here on bytecode can lie elsewhere than beside its source, and a run's own cache serves all runs.
_CACHE_ELSEWHERE = (3, 8)
_HERE = "the environment"


@dataclass(frozen=True, slots=True)
class MergedSite:
    """An interpreter that sees the merge, and what is of two versions or has two contents."""

    interpreter: Interpreter
    conflicts: tuple[Conflict, ...]


def make(interpreter: Interpreter, below: BaseLayers, folder: Path) -> MergedSite:
    """Make the environment below ``folder``; the user's is only read.

    Raises:
        PlanError: the user's environment cannot be read, or is empty.
        TraceError: there is no room.
    """
    installed = take_inventory(interpreter)
    conflicts = [
        Conflict("version", each.name, f"{version} in {layer}", f"{each.version} in {_HERE}", layer)
        for each in installed.distributions
        for layer, version in [below.versions.get(each.name, ("", ""))]
        if version and version != each.version
    ]
    theirs = {conflict.name for conflict in conflicts}
    own = {file.path: file for file in installed.files if file.distribution not in theirs}
    python = make_virtual(interpreter, folder)
    site = site_of(interpreter, folder)
    with scratch_errors(TraceError, f"cannot copy the environment and the layers below ours into {folder}"):
        site.mkdir(parents=True)
        placed = dict(_from_layers(below, own))
        for path, held in placed.items():
            _copy(held.source, site / path)
            if path in own and matters(path) and not filecmp.cmp(held.source, own[path].source, shallow=False):
                conflicts.append(Conflict("content", path, held.layer, _HERE, held.layer))
        for path, file in own.items():
            if path not in placed and (path in below.cold or path in below.held or path not in below.provided):
                _place(file, site, "" if interpreter.version >= _CACHE_ELSEWHERE else interpreter.cache_tag)
    made = describe_interpreter(str(python))
    hidden = [path for path in interpreter.avoid if path not in made.hidden_dirs]
    library = below.library_folder
    made = replace(
        made,
        base_executable=interpreter.base_executable,
        hidden_dirs=(*made.hidden_dirs, *hidden),
        library_dir=str(library) if library else "",
    )
    return MergedSite(made, tuple(conflicts))


def _from_layers(below: BaseLayers, own: dict[str, InstalledFile]) -> Iterator[tuple[str, Held]]:
    """Yield the layers' files that are laid out, by their paths."""
    names = modules.by_name(own)
    serving: list[tuple[str, Held]] = []
    served = bool(below.cold.keys() - own.keys())
    for path, held in below.held.items():
        if path.startswith(f"{cold_store.PACKAGE}/{layout.SUMS}/"):
            continue  # of what lies in this folder much is ours, and nothing is as in the layer
        if held.flat and "/" not in path and path.endswith(".pth"):
            continue  # Python reads them in site-packages alone
        if _serves(path, held):
            serving.append((path, held))
            continue
        if path in below.stubs and modules.module_name(path) in names:
            continue
        if path.endswith(".pyc") and path.removesuffix("c") in below.cold and path.removesuffix("c") in own:
            continue
        compacted = ".so" in path and is_compacted(held.source)
        if compacted and path in own:
            continue
        served |= compacted or path in below.stubs
        yield path, held
    if served:
        yield from serving


def _serves(path: str, held: Held) -> bool:
    """Return whether a file belongs to what this tool puts into its layers to serve the others."""
    if path == cold_store.CUSTOMIZE:
        return cold_store.PACKAGE.encode() in held.source.read_bytes()
    return path.partition("/")[0] in (cold_store.PACKAGE, FOLDER, cold_store.PTH)


def _place(file: InstalledFile, site: Path, cache_tag: str) -> None:
    target = site / file.path
    if file.link:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file.link)
        return
    source = Path(file.source)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    bytecode = f"__pycache__/{source.stem}.{cache_tag}.pyc"
    if cache_tag and source.suffix == ".py" and (source.parent / bytecode).is_file():
        _copy(source.parent / bytecode, target.parent / bytecode)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        # Within a layer; where it leads there, it leads here.
        target.symlink_to(os.readlink(source))
    else:
        shutil.copy2(source, target)
