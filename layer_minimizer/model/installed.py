"""The installed files and distributions of an environment, and its ``.pth`` files."""

from __future__ import annotations

from dataclasses import dataclass

# Suffixes of folders (or files) with the metadata of a distribution, and the files that contain its name.
METADATA_FOLDERS = (".dist-info", ".egg-info")
ALWAYS_METADATA = ("METADATA", "PKG-INFO")


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """An installed file, which could go into a layer.

    Attributes:
        path: its path relative to site-packages.
        size: its size in bytes.
        distribution: the normalized name of its distribution; empty if no RECORD lists the file.
        source: its absolute path on this machine.
        executable: whether it has execute permission.
        link: the target of a symbolic link within site-packages, else empty.
        program: whether it is an executable file in machine code, or a script that names its interpreter (``#!``).
    """

    path: str
    size: int
    distribution: str
    source: str
    executable: bool = False
    link: str = ""
    program: bool = False


@dataclass(frozen=True, slots=True)
class DeclaredLicense:
    """What the metadata of a distribution says about its license.

    Attributes:
        expression: the SPDX expression (``License-Expression``, PEP 639), or empty.
        names: names of licenses, from older metadata: ``License`` and classifiers.
        files: the ``License-File`` entries: paths, relative to a folder that depends on the build tool.
    """

    expression: str = ""
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution.

    Attributes:
        name: its normalized name (PEP 503).
        version: its version.
        metadata: the path of its ``.dist-info`` or ``.egg-info``.
        editable: whether it is an editable install.
        groups: the groups of its entry points, except scripts.
        requires: its requirements (Requires-Dist), with their markers.
        programs: names of programs in machine code that it has outside of site-packages.
        data: folders of data that it has outside of site-packages, such as ``share/jupyter``.
        license: what its metadata says about its license.
    """

    name: str
    version: str
    metadata: str
    editable: bool = False
    groups: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    license: DeclaredLicense = DeclaredLicense()


@dataclass(frozen=True, slots=True)
class PthFile:
    """A ``.pth`` file, or the ``.start`` file that CPython runs in its place from 3.15 on (PEP 829).

    Attributes:
        path: its path relative to site-packages.
        runs_code: whether the interpreter executes something of it: lines with ``import``, or a ``.start`` file.
        folders: the folders in site-packages that it adds to ``sys.path``.
        leaves_site: whether it also adds folders outside of site-packages.
    """

    path: str
    runs_code: bool
    folders: tuple[str, ...] = ()
    leaves_site: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that is installed.

    Attributes:
        files: the installed files, sorted by path.
        distributions: the installed distributions.
        pth: the ``.pth`` files.
        folders: all folders in site-packages.
        shadowed: files of later site-packages folders with the same path as one in an earlier folder.
        warnings: problems of the environment, for the report.
    """

    files: tuple[InstalledFile, ...]
    distributions: tuple[Distribution, ...]
    pth: tuple[PthFile, ...]
    folders: frozenset[str]
    shadowed: tuple[InstalledFile, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Size:
    """A number of files, bytes and distributions."""

    files: int
    bytes: int
    distributions: int
