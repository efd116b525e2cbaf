"""Reads the layers that will lie below ours in the same function, and merges them in order, as Lambda does in /opt."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.aws import layer_versions, limits
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import UNREADABLE_ZIP, lies_outside, sha256_of
from layer_minimizer.environment import inventory
from layer_minimizer.layer import cold_store, layout, packed_bytecode
from layer_minimizer.layer.archive import unzip
from layer_minimizer.model.base_layer import BaseLayer, Conflict
from layer_minimizer.model.installed import METADATA_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_FLAT = "python/"
# What marks bytecode as a stand-in that this tool has written, and how small such a file always is.
_STUB, _STUB_BYTES = b"_layer_minimizer.stubs", 2000


@dataclass(frozen=True, slots=True)
class Held:
    """A file of the merged layers, in a site folder: which layer it comes from, and where it lies unpacked."""

    layer: str
    source: Path
    flat: bool
    size: int


@dataclass(frozen=True, slots=True)
class BaseLayers:
    """The merged layers below ours. ``opt`` is where they are unpacked; all paths are site-relative.

    ``held`` are their files, ``cold`` what lies compressed in those that this tool has made, by the layer, ``stubs``
    the modules in them that merely stand in. ``versions`` are the distributions, each with its layer and version.
    ``provided`` is all that need not be in a layer above, by the layer that has it. ``base_bytes`` is what all take
    unzipped.
    """

    layers: tuple[BaseLayer, ...] = ()
    opt: Path = Path()
    held: Mapping[str, Held] = field(default_factory=dict)
    cold: Mapping[str, str] = field(default_factory=dict)
    stubs: frozenset[str] = frozenset()
    versions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    provided: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    base_bytes: int = 0

    @property
    def library_folder(self) -> Path | None:
        """The folder that Lambda's loader looks into, if the layers have one."""
        folder = self.opt / layout.LIBRARY_FOLDER
        return folder if self.layers and folder.is_dir() else None

    @property
    def libraries(self) -> frozenset[str]:
        """The names of the libraries in that folder."""
        return frozenset(path.name for path in self.library_folder.iterdir()) if self.library_folder else frozenset()

    @property
    def customized(self) -> bool:
        """Whether there is a ``sitecustomize`` that a layer above must not replace."""
        return not {"sitecustomize.py", "sitecustomize.pyc"}.isdisjoint(self.held)

    def unpack(self, folder: Path) -> None:
        """Unpack the layers in order, as Lambda does.

        Raises:
            PackError: there is no room.
            UsageError: a layer's zip is damaged.
        """
        for layer in self.layers:
            try:
                unzip(layer.archive, folder)
            except UNREADABLE_ZIP as exc:
                raise UsageError(f"--base-layer {layer.name}: it is no zip that can be read: {exc}") from exc


def read(names: Iterable[str], python: str, scratch: Path) -> BaseLayers:
    """Read the layers ``names`` (zip files, or ARNs with a version) for ``python`` (``python3.11``), the lowest first.

    Raises:
        UsageError: one is no layer, or is for another Python.
        PublishError: AWS does not give one.
        PackError: there is no room to unpack them.
    """
    layers = []
    entries: dict[str, tuple[str, zipfile.ZipInfo]] = {}
    conflicts: list[Conflict] = []
    for name in names:
        layer, found = _open(name, python)
        layers.append(layer)
        for path, entry in found.items():
            if path in entries and entries[path][1].CRC != entry.CRC and matters(path):
                conflicts.append(Conflict("content", path, entries[path][0], layer.name, layer.name))
            entries[path] = (layer.name, entry)
    opt = scratch / "opt"
    below = BaseLayers(tuple(layers), opt)
    below.unpack(opt)
    held = dict(_held(entries, opt, python))
    cold = {path: layer for path, layer in _cold(held) if path not in held}
    stubs = frozenset(path for path, file in held.items() if _is_stub(path, file))
    versions, more = _versions(held)
    return BaseLayers(
        layers=tuple(layers),
        opt=opt,
        held=held,
        cold=cold,
        stubs=stubs,
        versions=versions,
        provided=_provided(held, cold, stubs),
        conflicts=(*more, *conflicts),
        base_bytes=sum(entry.file_size for _, entry in entries.values()),
    )


def matters(path: str) -> bool:
    """Return whether it is worth a word that a path has two contents: not for bytecode and metadata."""
    path = path.rpartition("site-packages/")[2].removeprefix(_FLAT)
    top = path.partition("/")[0]
    return not (
        path.endswith((".pyc", ".pth")) or top.endswith(METADATA_FOLDERS) or top in (cold_store.PACKAGE, layout.FOLDER)
    )


def is_compacted(library: Path) -> bool:
    """Return whether this tool has shipped a library without the pages that were not in use."""
    dynamic = elf.read_dynamic(library)
    runtime = layout.RUNTIME.partition("{")[0]
    return dynamic is not None and any(runtime in needed for needed in dynamic.needed)


# ---- one layer ----------------------------------------------------------------------------------------------------


def _open(name: str, python: str) -> tuple[BaseLayer, dict[str, zipfile.ZipInfo]]:
    archive = layer_versions.fetch(name) if layer_versions.is_arn(name) else Path(name).absolute()
    try:
        with zipfile.ZipFile(archive) as source:
            entries = {entry.filename: entry for entry in source.infolist() if not entry.is_dir()}
            _refuse(name, entries.values(), python)
            _refuse_other_runtime(name, source, entries)
        digest = sha256_of(archive).hex()
    except UNREADABLE_ZIP as exc:
        raise UsageError(f"--base-layer {name}: it is no zip that can be read: {exc}") from exc
    size = sum(entry.file_size for entry in entries.values())
    return BaseLayer(name, archive, digest, len(entries), size), entries


def _refuse(name: str, entries: Iterable[zipfile.ZipInfo], python: str) -> None:
    """Refuse what is no layer, or none for this Python."""
    files = [entry.orig_filename for entry in entries]
    for file in files:
        if lies_outside(file):
            raise UsageError(f"--base-layer {name}: its file {file!r} would lie outside of the layer; make it anew")
    if not any(file.startswith((_FLAT, f"{layout.LIBRARY_FOLDER}/")) for file in files):
        raise UsageError(
            f"--base-layer {name} has no folder python/ at its top, so that Python finds nothing in such a layer: "
            "name the zip of a layer, or its ARN with a version"
        )
    versions = sorted({found[1] for found in map(limits.SITE_FOLDER.match, files) if found})
    flat = any(file.startswith(_FLAT) and not limits.SITE_FOLDER.match(file) for file in files)
    if versions and python not in versions and not flat:
        raise UsageError(
            f"--base-layer {name} is for {', '.join(versions)}, and --python is {python}: name a layer for {python}"
        )


def _refuse_other_runtime(name: str, archive: zipfile.ZipFile, entries: Iterable[str]) -> None:
    """Refuse a layer of another version of this tool: one runtime serves all layers of a function."""
    mark = f"/{cold_store.PACKAGE}/"
    made_here = [file for file in entries if mark in file]
    said = {json.loads(archive.read(file))["runtime"] for file in made_here if file.endswith("/about.json")}
    if made_here and said != {cold_store.runtime_digest()}:
        raise UsageError(
            f"--base-layer {name} was made by another version of this tool, and both would lie in one folder: "
            "make it anew with this version"
        )


# ---- all of them --------------------------------------------------------------------------------------------------


def _held(entries: Mapping[str, tuple[str, zipfile.ZipInfo]], opt: Path, python: str) -> Iterator[tuple[str, Held]]:
    """Yield the files that lie in a site folder; what ``python/lib/…/site-packages`` has comes last, and so wins."""
    site = f"{_FLAT}lib/{python}/site-packages/"
    for flat in (True, False):
        for path, (layer, entry) in entries.items():
            inside = path.startswith(_FLAT) and not path.startswith(f"{_FLAT}lib/python3.")
            if inside if flat else path.startswith(site):
                relative = path.removeprefix(_FLAT if flat else site)
                yield relative, Held(layer, opt / path, flat, entry.file_size)


def _cold(held: Mapping[str, Held]) -> Iterator[tuple[str, str]]:
    for path, file in held.items():
        if path.startswith(f"{cold_store.PACKAGE}/{cold_store.STORES}/") and path.endswith("/index"):
            for cold in cold_store.paths_in(file.source):
                yield cold, file.layer
        elif path.startswith(f"{packed_bytecode.CODE}/"):
            for stem in packed_bytecode.stems_in(file.source):
                yield f"{stem}.py", file.layer


def _is_stub(path: str, file: Held) -> bool:
    return path.endswith(".pyc") and file.size < _STUB_BYTES and _STUB in file.source.read_bytes()


def _versions(held: Mapping[str, Held]) -> tuple[dict[str, tuple[str, str]], list[Conflict]]:
    """Return the layers' distributions, by their metadata and by what this tool says of its own layers."""
    found: dict[str, tuple[str, str]] = {}
    conflicts = []
    for path, file in sorted(held.items()):
        listed: dict[str, str] = {}
        folder, _, name = path.partition("/")
        if folder.endswith(METADATA_FOLDERS) and name in ("", "METADATA", "PKG-INFO"):
            distribution = inventory.read_distribution(file.source.parents[path.count("/")], folder)
            listed = {distribution.name: distribution.version} if distribution else {}
        elif path.startswith(f"{cold_store.PACKAGE}/{cold_store.STORES}/") and name.endswith("/about.json"):
            listed = json.loads(file.source.read_bytes())["distributions"]
        for distribution_name, version in listed.items():
            layer, known = found.setdefault(distribution_name, (file.layer, version))
            if known != version:
                first, second = f"{known} in {layer}", f"{version} in {file.layer}"
                conflicts.append(Conflict("version", distribution_name, first, second, "the later layer"))
    return found, conflicts


def _provided(held: Mapping[str, Held], cold: Mapping[str, str], stubs: Iterable[str]) -> dict[str, str]:
    """Return what need not be in a layer above; bytecode in the place of its source stands for that."""
    found = dict(cold)
    for path in held.keys() - set(stubs):
        found[path] = held[path].layer
        if path.endswith(".pyc") and "__pycache__/" not in path:
            found[path.removesuffix("c")] = held[path].layer
    return found
