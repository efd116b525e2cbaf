"""Read the base layers of a function and merge them in order, as Lambda does in /opt."""

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
# The bytes that identify the bytecode of a stand-in, and the size that it never reaches.
_STUB, _STUB_BYTES = b"_layer_minimizer.stubs", 2000


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A file in a site folder of the merged layers.

    Attributes:
        layer: the name of the layer that it comes from.
        source: where it is unpacked.
        flat: whether it is in ``python/`` and not in ``python/lib/…/site-packages/``.
        size: in bytes.
    """

    layer: str
    source: Path
    flat: bool
    size: int


@dataclass(frozen=True, slots=True)
class BaseLayers:
    """The merged base layers. All paths are site-relative.

    Attributes:
        layers: the layers in the order in which they are merged.
        opt: the folder into which they are unpacked.
        files: their files in site folders, without links that stand for cold files.
        links: these links.
        cold: the files in cold stores of layers that this tool has made, each with its layer.
        stubs: the modules that are stand-ins.
        versions: the distributions, each with its layer and its version.
        provided: all files that the new layer need not have, each with the layer that provides it.
        conflicts: different versions or contents in several layers.
        base_bytes: the unzipped size of the merged layers.
    """

    layers: tuple[BaseLayer, ...] = ()
    opt: Path = Path()
    files: Mapping[str, LayerFile] = field(default_factory=dict)
    links: Mapping[str, LayerFile] = field(default_factory=dict)
    cold: Mapping[str, str] = field(default_factory=dict)
    stubs: frozenset[str] = frozenset()
    versions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    provided: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    base_bytes: int = 0

    @property
    def library_folder(self) -> Path | None:
        """The folder ``lib`` that Lambda's loader searches, or None if no layer has one."""
        folder = self.opt / layout.LIBRARY_FOLDER
        return folder if self.layers and folder.is_dir() else None

    @property
    def libraries(self) -> frozenset[str]:
        """The names of the libraries in that folder."""
        return frozenset(path.name for path in self.library_folder.iterdir()) if self.library_folder else frozenset()

    @property
    def has_sitecustomize(self) -> bool:
        """Whether a layer has a ``sitecustomize`` module, which the new layer must not replace."""
        return not {"sitecustomize.py", "sitecustomize.pyc"}.isdisjoint(self.files)

    def unpack(self, folder: Path) -> None:
        """Unpack the layers in order, as Lambda does.

        Raises:
            PackError: the disk is full.
            UsageError: a layer's zip file is damaged.
        """
        for layer in self.layers:
            try:
                unzip(layer.archive, folder)
            except UNREADABLE_ZIP as exc:
                raise UsageError(f"--base-layer {layer.name}: not a readable zip file: {exc}") from exc


def read_base_layers(names: Iterable[str], python: str, scratch: Path) -> BaseLayers:
    """Read the layers ``names`` (zip files, or ARNs with a version) for ``python`` (``python3.11``), in their order.

    Raises:
        UsageError: a file is not a layer, or is for another Python.
        PublishError: a layer cannot be downloaded from AWS.
        PackError: the disk is full.
    """
    layers = []
    entries: dict[str, tuple[str, zipfile.ZipInfo]] = {}
    conflicts: list[Conflict] = []
    for name in names:
        layer, found = _open(name, python)
        layers.append(layer)
        for path, entry in found.items():
            if path in entries and entries[path][1].CRC != entry.CRC and counts_as_conflict(path):
                conflicts.append(Conflict("content", path, entries[path][0], layer.name, layer.name))
            entries[path] = (layer.name, entry)
    opt = scratch / "opt"
    BaseLayers(tuple(layers), opt).unpack(opt)
    placed = dict(_site_files(entries, opt, python))
    own = f"{cold_store.PACKAGE}/"
    links = {
        path: file for path, file in placed.items() if cold_store.is_cold_link(file.source) and not path.startswith(own)
    }
    files = {path: file for path, file in placed.items() if path not in links}
    cold = {path: layer for path, layer in _cold(files) if path not in files}
    stubs = frozenset(path for path, file in files.items() if _is_stub(path, file))
    versions, more = _versions(files)
    return BaseLayers(
        layers=tuple(layers),
        opt=opt,
        files=files,
        links=links,
        cold=cold,
        stubs=stubs,
        versions=versions,
        provided=_provided(files, cold, stubs),
        conflicts=(*more, *conflicts),
        base_bytes=sum(entry.file_size for _, entry in entries.values()),
    )


def counts_as_conflict(path: str) -> bool:
    """Return whether different contents of a path are reported: not those of bytecode and metadata."""
    path = path.rpartition("site-packages/")[2].removeprefix(_FLAT)
    top = path.partition("/")[0]
    return not (
        path.endswith((".pyc", ".pth", ".start"))
        or top.endswith(METADATA_FOLDERS)
        or top in (cold_store.PACKAGE, layout.NATIVE_FOLDER)
    )


def is_compacted(library: Path) -> bool:
    """Return whether a library was compacted by this tool: its unused pages are stored elsewhere."""
    dynamic = elf.read_dynamic(library)
    runtime = layout.RUNTIME.partition("{")[0]
    return dynamic is not None and any(runtime in needed for needed in dynamic.needed)


# ---- one layer ----------------------------------------------------------------------------------------------------


def _open(name: str, python: str) -> tuple[BaseLayer, dict[str, zipfile.ZipInfo]]:
    archive = layer_versions.fetch(name) if layer_versions.is_arn(name) else Path(name).absolute()
    try:
        with zipfile.ZipFile(archive) as source:
            entries = {entry.filename: entry for entry in source.infolist() if not entry.is_dir()}
            _reject_unusable(name, entries.values(), python)
            _reject_other_version(name, source, entries)
        digest = sha256_of(archive).hex()
    except UNREADABLE_ZIP as exc:
        raise UsageError(f"--base-layer {name}: not a readable zip file: {exc}") from exc
    size = sum(entry.file_size for entry in entries.values())
    return BaseLayer(name, archive, digest, len(entries), size), entries


def _reject_unusable(name: str, entries: Iterable[zipfile.ZipInfo], python: str) -> None:
    """Raise an error if the zip file is not a layer, or is for another Python."""
    files = [entry.orig_filename for entry in entries]
    for file in files:
        if lies_outside(file):
            raise UsageError(
                f"--base-layer {name}: its file {file!r} has a path outside of the layer; rebuild the layer"
            )
    if not any(file.startswith((_FLAT, f"{layout.LIBRARY_FOLDER}/")) for file in files):
        raise UsageError(
            f"--base-layer {name} has no folder python/ at its top level, so Python would find nothing in it: "
            "name the zip of a layer, or its ARN with a version"
        )
    versions = sorted({found[1] for found in map(limits.SITE_FOLDER.match, files) if found})
    flat = any(file.startswith(_FLAT) and not limits.SITE_FOLDER.match(file) for file in files)
    if versions and python not in versions and not flat:
        raise UsageError(
            f"--base-layer {name} is for {', '.join(versions)}, and --python is {python}: name a layer for {python}"
        )


def _reject_other_version(name: str, archive: zipfile.ZipFile, entries: Iterable[str]) -> None:
    """Raise an error for a layer of another version of this tool: all layers of a function share one runtime."""
    mark = f"/{cold_store.PACKAGE}/"
    own = [file for file in entries if mark in file]
    digests = {json.loads(archive.read(file))["runtime"] for file in own if file.endswith("/about.json")}
    if own and digests != {cold_store.runtime_digest()}:
        raise UsageError(
            f"--base-layer {name} was made by another version of this tool, and both would use one folder: "
            "rebuild it with this version"
        )


# ---- all of them --------------------------------------------------------------------------------------------------


def _site_files(
    entries: Mapping[str, tuple[str, zipfile.ZipInfo]], opt: Path, python: str
) -> Iterator[tuple[str, LayerFile]]:
    """Yield the files in site folders; those in ``python/lib/…/site-packages`` come last and take precedence."""
    site = f"{_FLAT}lib/{python}/site-packages/"
    for flat in (True, False):
        for path, (layer, entry) in entries.items():
            inside = path.startswith(_FLAT) and not path.startswith(f"{_FLAT}lib/python3.")
            if inside if flat else path.startswith(site):
                relative = path.removeprefix(_FLAT if flat else site)
                yield relative, LayerFile(layer, opt / path, flat, entry.file_size)


def _cold(files: Mapping[str, LayerFile]) -> Iterator[tuple[str, str]]:
    for path, file in files.items():
        if path.startswith(f"{cold_store.PACKAGE}/{cold_store.STORES}/") and path.endswith("/index"):
            for cold in cold_store.paths_in(file.source):
                yield cold, file.layer
        elif path.startswith(f"{packed_bytecode.CODE}/"):
            for stem in packed_bytecode.stems_in(file.source):
                yield f"{stem}.py", file.layer


def _is_stub(path: str, file: LayerFile) -> bool:
    return path.endswith(".pyc") and file.size < _STUB_BYTES and _STUB in file.source.read_bytes()


def _versions(files: Mapping[str, LayerFile]) -> tuple[dict[str, tuple[str, str]], list[Conflict]]:
    """Return the versions of distributions from their metadata and from this tool's own layers, and the conflicts."""
    found: dict[str, tuple[str, str]] = {}
    conflicts = []
    for path, file in sorted(files.items()):
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


def _provided(files: Mapping[str, LayerFile], cold: Mapping[str, str], stubs: Iterable[str]) -> dict[str, str]:
    """Return the files that the new layer need not have, and for bytecode without source the path of its source."""
    found = dict(cold)
    for path in files.keys() - set(stubs):
        found[path] = files[path].layer
        if path.endswith(".pyc") and "__pycache__/" not in path:
            found[path.removesuffix("c")] = files[path].layer
    return found
