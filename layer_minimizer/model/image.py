"""Container images: their blobs, and the results of making one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that an image refers to by their digest.

    Attributes:
        digest: ``sha256:`` and the digest in hexadecimal.
        size: the number of bytes.
        path: the file that contains them.
        offset: where they begin in that file.
    """

    digest: str
    size: int
    path: Path
    offset: int = 0

    @property
    def name(self) -> str:
        """The path of the blob in an OCI image layout."""
        return f"blobs/{self.digest.replace(':', '/')}"


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer of an image.

    Attributes:
        blob: the tar, as it is stored.
        media_type: how it is stored, as an OCI media type.
        diff_id: the digest of the tar when it is not compressed.
    """

    blob: Blob
    media_type: str
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """A container image.

    Attributes:
        name: how messages call it.
        config: the image's configuration, see https://github.com/opencontainers/image-spec/blob/main/config.md.
        layers: its layers, the lowest first.
        annotations: of its manifest.
    """

    name: str
    config: Mapping[str, Any]
    layers: tuple[ImageLayer, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def process(self) -> Mapping[str, Any]:
        """How a container of it is started: entry point, user, environment and the like."""
        return self.config.get("config") or {}

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a container."""
        pairs = (each.partition("=") for each in self.process.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def bytes(self) -> int:
        """The size of all layers as they are stored."""
        return sum(layer.blob.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class ImagePart:
    """What one part of an image costs.

    Attributes:
        name: ``base``, ``packages`` or ``function``.
        digests: the digests of its layers.
        bytes: the size of these layers as they are stored.
        unpacked_bytes: the size of the files in them.
    """

    name: str
    digests: tuple[str, ...]
    bytes: int
    unpacked_bytes: int


@dataclass(frozen=True, slots=True)
class ImageArchive:
    """The image that was written.

    Attributes:
        path: the OCI image layout, a tar or a folder.
        digest: the digest of its manifest.
        image_id: the digest of its configuration, which engines call the image's ID.
        tag: the name that it has once it is loaded.
        base: the base image.
        parts: what the base, the packages and the function cost.
        command: entry point and arguments of a container.
        verified: where it was verified: ``docker``, ``podman`` or ``namespaces``.
        seconds: the seconds until a container had the results of all events, with the start of Python.
    """

    path: Path
    digest: str
    image_id: str
    tag: str
    base: str
    parts: tuple[ImagePart, ...]
    command: tuple[str, ...]
    verified: str = ""
    seconds: float = 0.0
