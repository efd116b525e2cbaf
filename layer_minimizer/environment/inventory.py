"""List every installed file of an environment and the distribution that it belongs to."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import io
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.core.errors import PlanError
from layer_minimizer.environment.declared_license import declared_license
from layer_minimizer.model.installed import METADATA_FOLDERS, Distribution, InstalledFile, Inventory, PthFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.trace import ForeignRoot

_NO_PROGRAMS = (".py", ".pyc", ".so", ".pyi", ".h", ".txt")
# Of the folders beside site-packages: those whose contents programs read, and what in them only people and desktops do.
_DATA_FOLDERS = ("share", "etc")
_DOCUMENTATION = {
    f"share/{name}"
    for name in (
        "applications",
        "bash-completion",
        "doc",
        "fish",
        "icons",
        "info",
        "licenses",
        "man",
        "pkgconfig",
        "zsh",
    )
}
# Distributions that only install packages are not counted in the size of an environment.
INSTALLERS = frozenset({"pip", "setuptools", "wheel"})
# Metadata files that list file names, which may not be valid UTF-8.
_LISTS = ("RECORD", "installed-files.txt", "top_level.txt")


def take_inventory(interpreter: Interpreter, foreign: Iterable[ForeignRoot] = ()) -> Inventory:
    """List what ``interpreter`` has installed, and the ``foreign`` packages that a run found outside of its folders.

    Raises:
        PlanError: a folder cannot be read, or nothing is installed.
    """
    sites = [_Site(Path(folder)) for folder in interpreter.site_dirs]
    for site in sites:
        site.read()
    distributions = _first_of_each(d for site in sites for d in site.distributions)
    found: dict[str, InstalledFile] = {}
    all_files = [file for site in sites for file in site.files]
    shadowed = tuple(file for file in all_files if found.setdefault(file.path, file) is not file)
    for file in _foreign_files(foreign, distributions):
        found.setdefault(file.path, file)
    if not found:
        folders = ", ".join(interpreter.site_dirs) or "it has no site-packages folder"
        raise PlanError(
            f"{interpreter.executable} has no packages installed ({folders}): there is nothing to put into a layer"
        )
    return Inventory(
        files=tuple(found[path] for path in sorted(found)),
        distributions=tuple(distributions),
        pth=tuple(pth for site in sites for pth in site.pth),
        folders=frozenset(folder for site in sites for folder in site.folders),
        shadowed=shadowed,
        warnings=tuple(warning for site in sites for warning in site.warnings),
    )


def _first_of_each(distributions: Iterable[Distribution]) -> list[Distribution]:
    """Return each distribution once: the one from the first folder on sys.path."""
    found: dict[str, Distribution] = {}
    for distribution in distributions:
        found.setdefault(distribution.name, distribution)
    return [found[name] for name in sorted(found)]


@dataclass(slots=True)
class _Site:
    """The contents of one site-packages folder; `read` fills the fields."""

    root: Path
    files: list[InstalledFile] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    distributions: list[Distribution] = field(default_factory=list)
    pth: list[PthFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self) -> None:
        listed = list(_walk(self.root, "", self.folders))
        owners = self._owners(listed)
        folders = _owned_folders(owners) | {path: owner for path, owner in owners.items() if path in self.folders}
        self.files = [replace(file, distribution=owners.get(file.path, "")) for file in listed]
        self.files = [file if file.distribution else _by_folder(file, folders) for file in self.files]
        names = [file.path for file in listed if "/" not in file.path]
        self.pth = [_read_pth(self.root, name) for name in names if name.endswith(".pth")]
        self.pth += [PthFile(name, runs_code=True) for name in names if name.endswith(".start")]

    def _owners(self, listed: list[InstalledFile]) -> dict[str, str]:
        """Read the metadata of each distribution; map the files that it lists and its metadata folder to its name."""
        owners: dict[str, str] = {}
        paths = {file.path for file in listed}
        for name in sorted(os.listdir(self.root)):
            if not name.endswith(METADATA_FOLDERS):
                continue
            distribution = read_distribution(self.root, name)
            if distribution is None:
                self.warnings.append(f"{self.root / name} has no readable METADATA: an installation may be incomplete")
                continue
            self.distributions.append(distribution)
            owners[name] = distribution.name
            listed_files = _Installed(self.root / name).listed_files()
            if listed_files is None:
                self.warnings.append(
                    f"{distribution.name} {distribution.version} has no RECORD: its files are identified by "
                    "the names of its folders, and are kept only where the run used them"
                )
                listed_files = _top_level_names(self.root, name, distribution)
            owners.update((path, distribution.name) for path in listed_files if path in paths or path in self.folders)
        return owners


def _owned_folders(owners: dict[str, str]) -> dict[str, str]:
    """Map each folder that directly contains listed files to their distribution, or to "" if they have several."""
    found: dict[str, str] = {}
    for path, owner in owners.items():
        folder = path.rpartition("/")[0]
        if found.setdefault(folder, owner) != owner:
            found[folder] = ""
    return found


def _by_folder(file: InstalledFile, folders: dict[str, str]) -> InstalledFile:
    """Set the owner of a file that no RECORD lists to that of the nearest folder that has one.

    Such files were added after the installation, such as downloaded data and compiled catalogs: the code of the
    distribution that the folder belongs to finds them there.
    """
    folder = file.path
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        if folder in folders:
            return replace(file, distribution=folders[folder])
    return file


def _walk(root: Path, prefix: str, folders: set[str]) -> Iterator[InstalledFile]:
    """Yield every file in ``root`` and its subfolders, without bytecode caches."""
    todo = [prefix]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(root / folder) as entries:
                listed = list(entries)
        except OSError as exc:
            raise PlanError(f"cannot list {root / folder}: {exc.strerror}") from exc
        for entry in listed:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink() and not os.path.exists(entry.path):
                continue  # a broken link, or a cycle of links
            link = _link_inside(root, entry.path) if entry.is_symlink() else ""
            if entry.is_dir() and not link:
                if entry.name != "__pycache__" and not _loops(root, entry):
                    folders.add(path)
                    todo.append(path)
            elif entry.is_file() or link:
                yield _installed(entry, path, link)


def _installed(entry: os.DirEntry[str], path: str, link: str) -> InstalledFile:
    try:
        status = entry.stat(follow_symlinks=not link)
    except OSError as exc:
        raise PlanError(f"cannot read {entry.path}: {exc.strerror}") from exc
    size = len(os.fsencode(link)) if link else status.st_size
    executable = bool(status.st_mode & 0o111) and not link
    # Some wheels call all of their files executable.
    program = (
        executable
        and not path.endswith(_NO_PROGRAMS)
        and ".so." not in path
        and _begins_with(entry.path, b"\x7fELF", b"#!")
    )
    return InstalledFile(path, size, "", entry.path, executable=executable, link=link, program=program)


def _begins_with(path: str | Path, *beginnings: bytes) -> bool:
    try:
        with open(path, "rb") as source:
            return source.read(4).startswith(beginnings)
    except OSError:
        return False


def _link_inside(root: Path, path: str) -> str:
    """Return the target of a symbolic link inside the site, or an empty string: other links are packed as copies."""
    target = os.path.realpath(path)
    if not os.path.exists(target) or not target.startswith(f"{os.path.realpath(root)}/"):
        return ""
    return os.path.relpath(target, os.path.realpath(os.path.dirname(path)))


def _loops(root: Path, entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is a symbolic link to one of its parents."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path) + "/"
    parents = [entry.path]
    while len(parents[-1]) > len(str(root)):
        parents.append(os.path.dirname(parents[-1]))
    return any(f"{os.path.realpath(parent)}/".startswith(target) for parent in parents[1:])


class _Installed(importlib.metadata.Distribution):
    """An installed distribution. Unlike the standard library, it can read metadata that is not valid UTF-8."""

    def __init__(self, metadata: Path) -> None:
        self._metadata = metadata

    def read_text(self, filename: str) -> str | None:
        """Return the text of a metadata file, or None; an empty ``filename`` stands for an egg-info file itself."""
        try:
            content = (self._metadata / filename).read_bytes()
        except IsADirectoryError:
            return ""  # a folder without metadata: some versions of importlib.metadata fail for None
        except OSError:
            return None
        return content.decode("utf-8", "surrogateescape" if filename in _LISTS else "replace")

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        """Return the path of a file of the distribution."""
        return self._metadata.parent / path

    @property
    def is_editable(self) -> bool:
        """Whether it is an editable install (PEP 610)."""
        try:
            origin = json.loads(self.read_text("direct_url.json") or "")
        except ValueError:
            return False
        return isinstance(origin, dict) and bool((origin.get("dir_info") or {}).get("editable"))

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of its entry point groups, without those for programs."""
        try:
            groups = dict.fromkeys(entry.group.strip() for entry in self.entry_points)
        except (TypeError, ValueError):  # the file is malformed
            return ()
        return tuple(name for name in groups if name not in ("console_scripts", "gui_scripts"))

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of its programs outside of site-packages, in machine code: scripts only call its functions."""
        outside = [self.locate_file(path) for path in self.listed_files() or () if path.startswith("../")]
        return tuple(
            sorted(path.name for path in outside if path.parent.name == "bin" and _begins_with(path, b"\x7fELF"))
        )

    @property
    def data(self) -> tuple[str, ...]:
        """Its folders of data outside of site-packages, in share and etc, without documentation."""
        outside = (path for path in self.listed_files() or () if path.startswith("../"))
        parents = (PurePosixPath(path.replace("../", "")).parent.parts for path in outside)
        folders = {"/".join(parts[:2]) for parts in parents if parts[1:] and parts[0] in _DATA_FOLDERS}
        return tuple(sorted(folders - _DOCUMENTATION))

    @property
    def requirements(self) -> tuple[str, ...]:
        """Its requirements, from METADATA or an egg's requires.txt; none if they are malformed."""
        try:
            return tuple(self.requires or ())
        except (TypeError, ValueError):
            return ()

    def listed_files(self) -> list[str] | None:
        """Return the site-relative files that RECORD or an egg's installed-files.txt lists; None without such a file.

        ``importlib.metadata`` would look up each of them on disk, and fails for an empty line.
        """
        record, listed = self.read_text("RECORD"), self.read_text("installed-files.txt")
        if record is not None:
            with contextlib.suppress(csv.Error):
                rows = [row[0] for row in csv.reader(io.StringIO(record, newline="")) if row]
                return [os.path.normpath(row) for row in rows]
        if listed is None:
            return None
        return [os.path.normpath(f"{self._metadata.name}/{row}") for row in listed.splitlines()]


def read_distribution(root: Path, name: str) -> Distribution | None:
    """Read the metadata ``name`` (a folder, or an egg-info file) in ``root``; return None if it has no name."""
    installed = _Installed(root / name)
    headers = installed.metadata
    own_name, version = ((headers.get_all(key) or [""])[0] for key in ("Name", "Version"))
    if not own_name:
        return None
    return Distribution(
        name=canonicalize_name(own_name),
        version=version,
        metadata=name,
        editable=installed.is_editable,
        groups=installed.groups,
        requires=installed.requirements,
        programs=installed.programs,
        data=installed.data,
        license=declared_license(headers),
    )


def _top_level_names(root: Path, metadata: str, distribution: Distribution) -> list[str]:
    listed = _Installed(root / metadata).read_text("top_level.txt")
    names = [distribution.name.replace("-", "_")] if listed is None else listed.split()
    return [path for name in names for path in (name, f"{name}.py")]


def _read_pth(root: Path, name: str) -> PthFile:
    """Read a ``.pth`` file as the site module does: lines that begin with ``import`` are code, others are folders."""
    runs_code, leaves_site, folders = False, False, []
    top = os.path.realpath(root)
    for line in (root / name).read_text("utf-8", errors="surrogateescape").splitlines():
        if line.startswith(("import ", "import\t")):
            runs_code = True
        elif line.strip() and not line.startswith("#"):
            if "\0" in line:
                continue  # not a path: macOS creates binary files named "._x.pth"
            target = os.path.realpath(root / line.rstrip())
            if target.startswith(f"{top}/"):
                folders.append(os.path.relpath(target, top))
            elif target != top:
                leaves_site = True
    return PthFile(name, runs_code, tuple(folders), leaves_site)


def _foreign_files(foreign: Iterable[ForeignRoot], distributions: list[Distribution]) -> Iterator[InstalledFile]:
    """Yield the files of packages outside the site, with the paths that they will have in a layer."""
    editable = [d.name for d in distributions if d.editable]
    for root in foreign:
        owner: str = canonicalize_name(root.name.removesuffix(".py"))
        if owner not in editable and len(editable) == 1:
            owner = editable[0]
        source = Path(root.source)
        if source.is_file():
            size = source.stat().st_size
            yield InstalledFile(root.name, size, owner, str(source))
        elif source.is_dir():
            for file in _walk(source, "", set()):
                yield replace(file, path=f"{root.name}/{file.path}", distribution=owner)
