"""Write container images as OCI image layouts, reproducibly and without an engine.

A layout that is written as a tar also has docker's ``manifest.json``, so that ``docker load`` and ``podman load`` take
it: https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.model.image import Blob, Image, ImageLayer

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

INDEX, LAYOUT, DOCKER_MANIFEST = "index.json", "oci-layout", "manifest.json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
# The time of all files in the layers: the earliest that a zip can store, since programs zip what they find.
TIME = 315532800
_LEVEL = 6
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to ``target``."""

    target: str


Source = Path | bytes | Link


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON, the same bytes for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(content: bytes) -> str:
    """Return the digest of bytes, as images name it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# ---- a layer ------------------------------------------------------------------------------------------------------


def write_layer(
    files: Mapping[str, Source], target: Path, present: Container[str] = (), level: int = _LEVEL
) -> ImageLayer:
    """Write ``files`` (by their paths in the image) as a compressed layer; equal files result in equal bytes.

    All files belong to root, and everybody can read them. The folders above them are added, except those ``present``.
    ``level`` is that of gzip.

    Raises:
        PackError: a file cannot be read, or the layer cannot be written.
    """
    with scratch_errors(PackError, f"cannot write {target}: {{file}}"):
        with target.open("wb") as sink:
            stored = _Hashing(sink)
            with gzip.GzipFile("", "wb", level, stored, mtime=0) as packed:
                plain = _Hashing(packed)
                with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    _add_files(archive, files, present)
        blob = Blob(stored.digest, target.stat().st_size, target)
    return ImageLayer(blob, f"{LAYER_TYPE}+gzip", plain.digest)


def _add_files(archive: tarfile.TarFile, files: Mapping[str, Source], present: Container[str]) -> None:
    known = set[str]()
    for name in sorted(files):
        for folder in _folders_above(name):
            if folder not in known and folder not in present:
                archive.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
            known.add(folder)
        source = files[name]
        if isinstance(source, bytes):
            _add(archive, name, io.BytesIO(source), len(source))
        elif isinstance(source, Link) or source.is_symlink():
            member = _member(name, tarfile.SYMTYPE, 0o777)
            member.linkname = source.target if isinstance(source, Link) else os.fsdecode(source.readlink())
            archive.addfile(member)
        elif source.is_dir():
            if name not in known and name not in present:
                archive.addfile(_member(name, tarfile.DIRTYPE, 0o755))
            known.add(name)
        else:
            with source.open("rb") as content:
                status = os.fstat(content.fileno())
                _add(archive, name, content, status.st_size, 0o755 if status.st_mode & 0o100 else 0o644)


def _folders_above(name: str) -> Iterator[str]:
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int, mode: int = 0o644) -> None:
    member = _member(name, tarfile.REGTYPE, mode)
    member.size = size
    archive.addfile(member, content)


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, TIME
    return member


class _Hashing(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, sink: IO[bytes] | gzip.GzipFile) -> None:
        self._sink, self._hash = sink, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        self._sink.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


# ---- the layout ---------------------------------------------------------------------------------------------------


class Layout:
    """The files of an image's layout: small ones as bytes, and the blobs of its layers."""

    def __init__(self, image: Image, tag: str) -> None:
        """Describe ``image``, which will be called ``tag`` once it is loaded."""
        config = json_bytes(image.config)
        manifest = json_bytes(_manifest(image, config))
        self.digest, self.image_id = digest_of(manifest), digest_of(config)
        self.blobs = {layer.blob.name: layer.blob for layer in image.layers}
        self.files = {
            LAYOUT: json_bytes({"imageLayoutVersion": "1.0.0"}),
            INDEX: json_bytes(_index(image, self.digest, len(manifest), tag)),
            DOCKER_MANIFEST: json_bytes([_docker_manifest(image, self.image_id, tag)]),
            _blob_name(self.digest): manifest,
            _blob_name(self.image_id): config,
        }

    def write_tar(self, target: Path) -> None:
        """Write the layout as a tar.

        Raises:
            PackError: it cannot be written.
        """
        try:
            with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
                for folder in ("blobs", "blobs/sha256"):
                    archive.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
                for name, content in sorted(self.files.items()):
                    _add(archive, name, io.BytesIO(content), len(content))
                for name, blob in sorted(self.blobs.items()):
                    with blob.path.open("rb") as source:
                        source.seek(blob.offset)
                        _add(archive, name, source, blob.size)
        except OSError as exc:
            raise _cannot_write(target, exc) from exc

    def write_folder(self, target: Path) -> None:
        """Write the layout into an empty folder.

        Raises:
            PackError: it cannot be written.
        """
        try:
            (target / "blobs" / "sha256").mkdir(parents=True)
            for name, content in self.files.items():
                if name != DOCKER_MANIFEST:
                    (target / name).write_bytes(content)
            for name, blob in self.blobs.items():
                with blob.path.open("rb") as source, (target / name).open("wb") as sink:
                    source.seek(blob.offset)
                    _copy(source, sink, blob.size)
        except OSError as exc:
            raise _cannot_write(target, exc) from exc


def _cannot_write(target: Path, error: OSError) -> PackError:
    return PackError(f"cannot write {target.parent}/: {error.strerror}; make room or choose another --output")


def _copy(source: IO[bytes], sink: IO[bytes], size: int) -> None:
    while size and (piece := source.read(min(size, _PIECE))):
        sink.write(piece)
        size -= len(piece)


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _manifest(image: Image, config: bytes) -> dict[str, Any]:
    layers = [_descriptor(each.media_type, each.blob.digest, each.blob.size) for each in image.layers]
    found: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": layers}
    found["config"] = _descriptor(_CONFIG_TYPE, digest_of(config), len(config))
    return found | ({"annotations": dict(image.annotations)} if image.annotations else {})


def _index(image: Image, digest: str, size: int, tag: str) -> dict[str, Any]:
    platform = {name: image.config[name] for name in ("architecture", "os", "variant") if image.config.get(name)}
    # The first is the annotation of the specification, the other that of containerd.
    names = {"org.opencontainers.image.ref.name": tag.rpartition(":")[2], "io.containerd.image.name": _qualified(tag)}
    entry = _descriptor(MANIFEST_TYPE, digest, size) | {"platform": platform, "annotations": names}
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}


def _qualified(tag: str) -> str:
    """Return the name of an image with its registry, as containerd requires it."""
    first = tag.split("/", maxsplit=1)[0]
    if "/" not in tag:
        return f"docker.io/library/{tag}"
    return tag if "." in first or ":" in first or first == "localhost" else f"docker.io/{tag}"


def _docker_manifest(image: Image, image_id: str, tag: str) -> dict[str, Any]:
    layers: Iterable[ImageLayer] = image.layers
    return {"Config": _blob_name(image_id), "RepoTags": [tag], "Layers": [each.blob.name for each in layers]}
