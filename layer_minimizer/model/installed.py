"""What is installed in an environment: files, distributions, and what ``.pth`` files add."""

from __future__ import annotations

from dataclasses import dataclass

# What the names of folders (or files) end in that hold a distribution's metadata.
METADATA_FOLDERS = (".dist-info", ".egg-info")


# ---- what is installed --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file that could go into a layer.

    ``source`` is its absolute path on this machine; ``link`` the target of a symbolic link that stays within the
    site, else empty; ``distribution`` the normalised name of the owner, empty when no RECORD claims the file.
    """

    path: str
    size: int
    distribution: str
    source: str
    executable: bool = False
    link: str = ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution: ``name`` is normalised (PEP 503), ``metadata`` its dist-info or egg-info path.

    ``groups`` are those of its entry points, without the programs that it brings.
    """

    name: str
    version: str
    metadata: str
    editable: bool = False
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PthFile:
    """What a ``.pth`` file does: code it runs, and the site-relative folders that it puts on ``sys.path``."""

    path: str
    runs_code: bool
    folders: tuple[str, ...]
    leaves_site: bool


@dataclass(frozen=True, slots=True)
class Inventory:
    """All there is to choose from, in the order of paths."""

    files: tuple[InstalledFile, ...]
    distributions: tuple[Distribution, ...]
    pth: tuple[PthFile, ...]
    folders: frozenset[str]
    shadowed: tuple[InstalledFile, ...] = ()
    warnings: tuple[str, ...] = ()


# The folders in a site that tell of a distribution, and the file without which it has no name.
METADATA_FOLDERS = (".dist-info", ".egg-info")
ALWAYS_METADATA = ("METADATA", "PKG-INFO")


@dataclass(frozen=True, slots=True)
class Size:
    """A number of files, bytes and distributions."""

    files: int
    bytes: int
    distributions: int
