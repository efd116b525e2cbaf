"""Create an environment with the files of the base layers and of the user's environment, as a function will have them.

The files are copies and not links: a handler may write into a package's folder, and the user's environment must not
change.

If a base layer was made by this tool, files of the user's environment replace its compacted libraries, its stand-ins
and its cold stores. So the trace does not depend on the runtime of another layer; the verifying run uses the merged
layers themselves.
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
from layer_minimizer.environment.base_layers import BaseLayers, LayerFile, counts_as_conflict, is_compacted
from layer_minimizer.environment.interpreter import describe_interpreter, make_virtual_environment, site_of
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.layer import cold_store, layout
from layer_minimizer.layer.layout import NATIVE_FOLDER
from layer_minimizer.model import modules
from layer_minimizer.model.base_layer import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.installed import InstalledFile
    from layer_minimizer.model.interpreter import Interpreter

# Since this version bytecode can be stored in another folder than its source, so that all runs share one cache.
_CACHE_PREFIX = (3, 8)
_ENVIRONMENT = "the environment"
_OF_RUNTIME = (cold_store.PACKAGE, NATIVE_FOLDER, cold_store.PTH, cold_store.START, cold_store.STARTER)


@dataclass(frozen=True, slots=True)
class MergedSite:
    """The interpreter of the merged environment, and the conflicts between layers and the user's environment."""

    interpreter: Interpreter
    conflicts: tuple[Conflict, ...]


def make_merged_site(interpreter: Interpreter, base: BaseLayers, folder: Path) -> MergedSite:
    """Create the merged environment in ``folder``; the user's environment is only read.

    Raises:
        PlanError: the user's environment cannot be read, or is empty.
        TraceError: the disk is full.
    """
    installed = take_inventory(interpreter)
    conflicts = [
        Conflict("version", each.name, f"{version} in {layer}", f"{each.version} in {_ENVIRONMENT}", layer)
        for each in installed.distributions
        for layer, version in [base.versions.get(each.name, ("", ""))]
        if version and version != each.version
    ]
    outdated = {conflict.name for conflict in conflicts}
    own = {file.path: file for file in installed.files if file.distribution not in outdated}
    python = make_virtual_environment(interpreter, folder)
    site = site_of(interpreter, folder)
    with scratch_errors(TraceError, f"cannot copy the environment and the base layers into {folder}"):
        site.mkdir(parents=True)
        placed = dict(_from_layers(base, own))
        for path, file in placed.items():
            _copy(file.source, site / path)
            if (
                path in own
                and counts_as_conflict(path)
                and not filecmp.cmp(file.source, own[path].source, shallow=False)
            ):
                conflicts.append(Conflict("content", path, file.layer, _ENVIRONMENT, file.layer))
        for path in base.links.keys() - own.keys():
            cold_store.restore(base.links[path].source, site / path)
        for path, installed_file in own.items():
            if path not in placed and (path in base.cold or path in base.files or path not in base.provided):
                _place(installed_file, site, "" if interpreter.version >= _CACHE_PREFIX else interpreter.cache_tag)
    made = describe_interpreter(str(python))
    hidden = [path for path in interpreter.avoid if path not in made.hidden_dirs]
    library = base.library_folder
    made = replace(
        made,
        base_executable=interpreter.base_executable,
        hidden_dirs=(*made.hidden_dirs, *hidden),
        library_dir=str(library) if library else "",
    )
    return MergedSite(made, tuple(conflicts))


def _from_layers(base: BaseLayers, own: dict[str, InstalledFile]) -> Iterator[tuple[str, LayerFile]]:
    """Yield the files of the base layers that the merged environment has, with their paths."""
    names = modules.by_name(own)
    runtime_files: list[tuple[str, LayerFile]] = []
    needs_runtime = bool(base.cold.keys() - own.keys() - base.links.keys())
    for path, file in base.files.items():
        if path.startswith(f"{cold_store.PACKAGE}/{layout.CHECKSUMS}/"):
            continue  # the checksums are wrong for a merged environment
        if file.flat and "/" not in path and path.endswith((".pth", ".start")):
            continue  # Python reads them in site-packages only
        if _is_runtime_file(path, file):
            runtime_files.append((path, file))
            continue
        if path in base.stubs and (modules.module_name(path) in names or path.removesuffix("c") in base.links):
            continue
        if path.endswith(".pyc") and path.removesuffix("c") in base.cold and path.removesuffix("c") in own:
            continue
        compacted = ".so" in path and is_compacted(file.source)
        if compacted and path in own:
            continue
        needs_runtime |= compacted or path in base.stubs
        yield path, file
    if needs_runtime:
        yield from runtime_files


def _is_runtime_file(path: str, file: LayerFile) -> bool:
    """Return whether a file belongs to the runtime that this tool adds to its layers."""
    if path == cold_store.CUSTOMIZE:
        return cold_store.PACKAGE.encode() in file.source.read_bytes()
    return path.partition("/")[0] in _OF_RUNTIME


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
        # The target is in the same layer, so a relative link stays valid.
        target.symlink_to(os.readlink(source))
    else:
        shutil.copy2(source, target)
