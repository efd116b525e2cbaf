"""The file from which an environment is made: a lock, or a requirements file, and what is chosen from it."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PYPROJECT = "pyproject.toml"
# Options of requirements files that name another one: https://pip.pypa.io/en/stable/reference/requirements-file-format/
NESTED = re.compile(r"(?P<option>-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(?P<file>[^\s#]+)")
# A line that names a file or a folder of this machine.
LOCAL = re.compile(
    r"""(?:(?:-e|--editable|-f|--find-links)[\s=]+)?   # options whose value may be a URL
        (?:[\w.\[\],-]+\s*@\s*)?                       # name @ URL
        (?:file:|\.{0,2}/|\.\.?(?:\s|$|\[)|(?![a-z+]+://)[^\s;]+\.(?:whl|zip|tar\.gz|tar\.bz2)(?:\s|$))""",
    re.VERBOSE,
)
# The names of locks that PEP 751 allows: https://packaging.python.org/en/latest/specifications/pylock-toml/
_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")


class SourceKind(StrEnum):
    """The kind of a file that lists packages; the value is its usual name."""

    UV = "uv.lock"
    POETRY = "poetry.lock"
    PDM = "pdm.lock"
    PYLOCK = "pylock.toml"
    REQUIREMENTS = "requirements.txt"


# The command that brings a lock up to date.
RELOCK = {
    SourceKind.UV: "uv lock",
    SourceKind.POETRY: "poetry lock",
    SourceKind.PDM: "pdm lock",
    SourceKind.PYLOCK: "the command that made it",
}


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A lock or a requirements file, and what is chosen from it.

    Attributes:
        file: its absolute path.
        kind: what wrote it.
        groups: dependency groups to install, besides the project's own dependencies.
        extras: optional dependencies to install.
        package: a member of uv's workspace; empty for the project itself.
    """

    file: Path
    kind: SourceKind
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    package: str = ""

    @classmethod
    def of(
        cls, *, lock: str, requirements: str, groups: Iterable[str], extras: Iterable[str], package: str
    ) -> PackageSource | None:
        """Return what the options name; None if no environment is to be made.

        Raises:
            UsageError: a file does not exist, or the options contradict each other.
        """
        if lock and requirements:
            raise UsageError("--lock and --requirements name two lists of packages: choose one")
        chosen = {"--group": tuple(groups), "--extra": tuple(extras), "--package": (package,) if package else ()}
        if not (lock or requirements):
            for option, values in chosen.items():
                if values:
                    raise UsageError(f"{option} {values[0]} chooses from a lock: name it with --lock")
            return None
        kind = lock_kind(lock) if lock else SourceKind.REQUIREMENTS
        file = Path(lock or requirements).absolute()
        option = "--lock" if lock else "--requirements"
        if not file.is_file():
            raise UsageError(f"{option} {lock or requirements}: no such file")
        if kind is SourceKind.UV and file.name != SourceKind.UV:
            raise UsageError(f"{option} {lock}: uv reads only a file of the name {SourceKind.UV}")
        for name, values in chosen.items():
            if values and (kind is SourceKind.REQUIREMENTS or (name == "--package" and kind is not SourceKind.UV)):
                raise UsageError(f"{name} {values[0]}: {file.name} has nothing to choose from by that; drop it")
        return cls(file, kind, chosen["--group"], chosen["--extra"], package)

    @property
    def folder(self) -> Path:
        """The folder of the file; a lock's has the project's ``pyproject.toml``."""
        return self.file.parent

    @property
    def option(self) -> str:
        """The option that names the file, with its value, for messages."""
        return f"{'--requirements' if self.kind is SourceKind.REQUIREMENTS else '--lock'} {self.file}"

    @property
    def choice(self) -> tuple[str, ...]:
        """The options of uv for what is chosen from a lock."""
        chosen = (
            ("--group", self.groups),
            ("--extra", self.extras),
            ("--package", (self.package,) * bool(self.package)),
        )
        return tuple(word for option, names in chosen for name in names for word in (option, name))

    def read(self) -> dict[str, Any]:
        """Return the content of a lock.

        Raises:
            UsageError: it is not valid TOML.
        """
        return read_toml(self.file, self.option)

    def pyproject(self) -> dict[str, Any]:
        """Return the project's ``pyproject.toml``; empty if there is none.

        Raises:
            UsageError: it is not valid TOML.
        """
        file = self.folder / PYPROJECT
        return read_toml(file, self.option) if file.is_file() else {}


def lock_kind(name: str) -> SourceKind:
    """Return the kind of a lock, by its file's name.

    Raises:
        UsageError: no known tool gives a lock this name.
    """
    base = os.path.basename(name)
    if _PYLOCK.fullmatch(base):
        return SourceKind.PYLOCK
    kinds = [kind for kind in RELOCK if kind == base]
    if not kinds:
        raise UsageError(f"--lock {name}: the name of a lock is {', '.join(RELOCK)} or pylock.NAME.toml")
    return kinds[0]


def find_lock(folder: Path) -> Path | None:
    """Return the lock of a project's folder, if it has one beside its ``pyproject.toml``."""
    if not os.path.isfile(folder / PYPROJECT):
        return None
    return next((folder / kind for kind in RELOCK if os.path.isfile(folder / kind)), None)


def read_toml(file: Path, option: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it cannot be read, or is not valid TOML.
    """
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise UsageError(f"{option}: {file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"{option}: {file} is not valid TOML: {exc}") from exc


def read_requirements(file: Path) -> str:
    """Return the text of a requirements file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return file.read_text("utf-8-sig")
    except OSError as exc:
        raise UsageError(f"--requirements {file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"--requirements {file}: not valid UTF-8") from exc


def requirement_lines(file: Path, seen: frozenset[Path] = frozenset()) -> Iterator[tuple[Path, str]]:
    """Yield the lines of a requirements file and of those that it includes, each with its file.

    Raises:
        UsageError: a file cannot be read.
    """
    file = Path(os.path.normpath(file))
    for line in read_requirements(file).splitlines():
        yield file, line.strip()
        nested = NESTED.match(line.strip())
        if nested and "://" not in nested["file"] and file not in seen:
            yield from requirement_lines(file.parent / nested["file"], seen | {file})
