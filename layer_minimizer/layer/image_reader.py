"""Read container images: OCI image layouts, as folders or tars, and what ``docker save`` and ``podman save`` write."""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer.oci import DOCKER_MANIFEST, INDEX, INDEX_TYPE, LAYER_TYPE
from layer_minimizer.model.image import Blob, Image, ImageLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_SMALL = 32 << 20  # no configuration or manifest is larger
_UNREADABLE = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, IndexError)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of an image by their names in it: (file of this machine, offset, size)."""

    source: Path
    places: Mapping[str, tuple[Path, int, int]]

    def blob(self, name: str) -> tuple[Path, int, int]:
        """Return where a file lies.

        Raises:
            UsageError: it is missing.
        """
        if (found := self.places.get(posixpath.normpath(name))) is None:
            raise UsageError(f"--base-image {self.source}: {name} is missing in it; it may be incomplete")
        return found

    def read(self, name: str) -> Any:
        """Return the contents of a JSON file."""
        path, offset, size = self.blob(name)
        with path.open("rb") as source:
            source.seek(offset)
            return json.loads(source.read(min(size, _SMALL)))


def read_image(source: Path, scratch: Path, architecture: str) -> Image:
    """Read the image in ``source``; of an image for several platforms, the one for ``architecture`` (``amd64``).

    Raises:
        UsageError: it is not an image, is damaged, or contains several images.
    """
    try:
        files = _open(source, scratch)
        if DOCKER_MANIFEST in files.places and not (INDEX in files.places and source.is_dir()):
            return _docker_image(files)
        if INDEX in files.places:
            return _oci_image(files, architecture)
    except _UNREADABLE as exc:
        raise UsageError(f"--base-image {source} cannot be read as an image: {exc}") from exc
    raise UsageError(
        f"--base-image {source} is neither an OCI image layout nor the output of docker save: it has no {INDEX} and no "
        f"{DOCKER_MANIFEST}"
    )


def _open(source: Path, scratch: Path) -> _Files:
    if source.is_dir():
        files = [path for path in source.rglob("*") if path.is_file()]
        return _Files(source, {path.relative_to(source).as_posix(): (path, 0, path.stat().st_size) for path in files})
    archive = source
    with source.open("rb") as opened:
        compressed = opened.read(2) == _GZIP
    if compressed:
        archive = scratch / "base.tar"
        scratch.mkdir(parents=True, exist_ok=True)
        with (
            scratch_errors(UsageError, f"cannot unpack {source}"),
            gzip.open(source) as packed,
            archive.open("wb") as sink,
        ):
            shutil.copyfileobj(packed, sink, 1 << 20)
    with tarfile.open(archive, "r:") as opened_tar:
        members = {posixpath.normpath(member.name): member for member in opened_tar}
    places = {}
    for name, member in members.items():
        target = _followed(member, members)
        if target is not None:
            places[name] = (archive, target.offset_data, target.size)
    return _Files(source, places)


def _followed(member: tarfile.TarInfo, members: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """Return the regular file that a member is or leads to: older versions of docker save links for equal layers."""
    for _ in range(8):
        if member.isreg():
            return member
        if not (member.issym() or member.islnk()):
            return None
        folder = posixpath.dirname(member.name) if member.issym() else ""
        following = members.get(posixpath.normpath(posixpath.join(folder, member.linkname)))
        if following is None:
            return None
        member = following
    return None


def _docker_image(files: _Files) -> Image:
    images = files.read(DOCKER_MANIFEST)
    if len(images) != 1:
        tags = ", ".join(tag for each in images for tag in each.get("RepoTags") or ())
        raise UsageError(f"--base-image {files.source} contains {len(images)} images ({tags}): save one of them")
    config = files.read(images[0]["Config"])
    names, diffs = images[0]["Layers"], config["rootfs"]["diff_ids"]
    layers = [_layer(files, name, "", diff) for name, diff in zip(names, diffs, strict=True)]
    return Image(str(files.source), config, tuple(layers))


def _oci_image(files: _Files, architecture: str) -> Image:
    entries = list(_manifests(files, files.read(INDEX)))
    if len(entries) > 1:
        entries = [each for each in entries if (each.get("platform") or {}).get("architecture") == architecture]
    if len(entries) != 1:
        raise UsageError(
            f"--base-image {files.source} has {len(entries) or 'no'} images for {architecture}: name a layout with one"
        )
    manifest = files.read(_name(entries[0]["digest"]))
    config = files.read(_name(manifest["config"]["digest"]))
    found = zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    layers = [_layer(files, _name(each["digest"]), each["digest"], diff) for each, diff in found]
    return Image(str(files.source), config, tuple(layers), manifest.get("annotations") or {})


def _manifests(files: _Files, index: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the manifests of an index and of the indexes in it, without signatures and the like."""
    for entry in index["manifests"]:
        if entry.get("mediaType") in (INDEX_TYPE, _DOCKER_INDEX):
            yield from _manifests(files, files.read(_name(entry["digest"])))
        elif (entry.get("platform") or {}).get("os") != "unknown":
            yield entry


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _layer(files: _Files, name: str, digest: str, diff_id: str) -> ImageLayer:
    path, offset, size = files.blob(name)
    with path.open("rb") as source:
        source.seek(offset)
        magic = source.read(4)
    if magic == _ZSTD:
        raise UsageError(
            f"--base-image {files.source}: its layers are compressed with zstd, which is not supported; load it into "
            "docker or podman, and name it there"
        )
    compressed = magic[:2] == _GZIP
    if not digest:
        digest = _digest(path, offset, size) if compressed else diff_id
    return ImageLayer(Blob(digest, size, path, offset), LAYER_TYPE + ("+gzip" if compressed else ""), diff_id)


def _digest(path: Path, offset: int, size: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as source:
        source.seek(offset)
        while size and (piece := source.read(min(size, 1 << 20))):
            found.update(piece)
            size -= len(piece)
    return f"sha256:{found.hexdigest()}"


# ---- the files in layers ------------------------------------------------------------------------------------------


class _Part:
    """Reads a part of a file, and hashes what was read."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._left, self._hash = source, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        while self.read(1 << 20):
            pass
        return f"sha256:{self._hash.hexdigest()}"


def each_member(layer: ImageLayer, visit: Callable[[tarfile.TarFile, tarfile.TarInfo], None]) -> None:
    """Call ``visit`` with every member of a layer's tar, in order.

    Raises:
        UsageError: the layer is damaged.
    """
    blob = layer.blob
    mode = "r|gz" if layer.media_type.endswith("+gzip") else "r|"
    try:
        with blob.path.open("rb") as source:
            source.seek(blob.offset)
            part = _Part(source, blob.size)
            with tarfile.open(fileobj=part, mode=mode) as archive:  # type: ignore[call-overload]
                for member in archive:
                    visit(archive, member)
            if part.digest() != blob.digest:
                raise UsageError(
                    f"a layer of the base image is damaged: its contents do not have the digest {blob.digest}"
                )
    except (tarfile.TarError, EOFError, zlib.error) as exc:
        raise UsageError(f"a layer of the base image is damaged ({blob.digest}): {exc}") from exc
