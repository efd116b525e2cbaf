"""The contents of a software bill of materials."""

from __future__ import annotations

from dataclasses import dataclass

from layer_minimizer.model.installed import DeclaredLicense


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library in the layer that is no extension module: its path or name, SHA-256, and where it is from."""

    path: str
    sha256: str
    source: str = ""
    needed_by: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A distribution of the environment, and what became of it.

    Attributes:
        name: its normalized name.
        version: its version; empty for packages without metadata.
        license: what its metadata declares.
        requires: the installed distributions that it requires.
        shipped: the number of its files in the layer.
        installed: the number of its installed files.
        sha256: the digest of the list of shipped files, see `sbom.list_digest`; empty if none is shipped.
        left_out: why nothing of it is in the layer, or empty.
        editable: whether it is an editable install.
        libraries: the shared libraries of others that it brings.
    """

    name: str
    version: str
    license: DeclaredLicense
    requires: tuple[str, ...]
    shipped: int
    installed: int
    sha256: str
    left_out: str
    editable: bool
    libraries: tuple[Library, ...]


@dataclass(frozen=True, slots=True)
class Bill:
    """The contents of a layer's bill of materials.

    Attributes:
        archive: the name and digest of the layer's zip.
        python: the version of Python.
        parts: all distributions of the environment.
        system: libraries of this machine in the layer.
        unowned: the number of shipped files that belong to no distribution.
        has_runtime: whether this tool's own runtime is in the layer.
    """

    archive: tuple[str, str]
    python: str
    parts: tuple[Part, ...]
    system: tuple[Library, ...]
    unowned: int
    has_runtime: bool
