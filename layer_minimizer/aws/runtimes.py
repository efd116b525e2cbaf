"""Lambda's Python runtimes: operating systems, architectures and deprecation dates, read from ``runtimes.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

# Architectures: the name that AWS uses, and the name that ELF headers and the kernel use.
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Brought:
    """What a distribution of a runtime requires.

    ``narrow`` are distributions of which each release requires one minor version, ``ranges`` other requirements.
    """

    narrow: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Lambda runtime; from the day ``deprecated`` on it gets no security updates.

    ``python`` is the version of its Python, None if the function brings one.
    ``preview`` is the day from which it is there for trial, if it is no more than that.
    ``provides`` are shared libraries that it has, ``distributions`` the installed distributions that it has.
    """

    name: str
    python: tuple[int, int] | None
    system: str
    versions: Mapping[str, Version]
    provides: frozenset[str]
    architectures: tuple[str, ...]
    deprecated: date
    distributions: Mapping[str, Brought] = field(default_factory=dict)
    preview: date | None = None


@cache
def load_runtimes() -> dict[str, Runtime]:
    """Return the runtimes in ``runtimes.toml``, the newest first."""
    data = tomllib.loads(resources.files("layer_minimizer.aws").joinpath("runtimes.toml").read_text("utf-8"))
    distributions = {
        name: Brought(tuple(row.get("narrow", ())), tuple(row.get("ranges", ())))
        for name, row in data["distributions"].items()
    }
    runtimes = {}
    for name, row in data["runtimes"].items():
        system = data["systems"][row["system"]]
        libpython = row.get("libpython")
        runtimes[name] = Runtime(
            name=name,
            python=_python_version(name) if libpython else None,
            system=system["name"],
            versions={family: Version(version) for family, version in system["versions"].items()},
            provides=frozenset([*system["provides"], *([libpython] if libpython else [])]),
            architectures=tuple(row["architectures"]),
            deprecated=row.get("deprecated", date.max),
            distributions=distributions if libpython else {},
            preview=row.get("preview"),
        )
    return runtimes


def _python_version(name: str) -> tuple[int, int]:
    major, minor = name.removeprefix("python").split(".")
    return int(major), int(minor)


def python_of(runtime: str) -> str:
    """Return the version of a runtime's Python, such as 3.12; empty if it has none, or the runtime is not known."""
    found = load_runtimes().get(runtime)
    return "{}.{}".format(*found.python) if found and found.python else ""


def newest_runtime(*, os_only: bool = False) -> str:
    """Return the name of the newest runtime that is more than a preview; ``os_only``: of those without a Python."""
    found = load_runtimes().items()
    return next(name for name, each in found if (each.python is None) is os_only and each.preview is None)


def support_warnings(runtime: Runtime, today: date) -> tuple[str, ...]:
    """Return a warning if the runtime is a preview, or deprecated on the day ``today``."""
    newest = newest_runtime(os_only=runtime.python is None)
    if runtime.preview:
        state = f"{runtime.name} is a preview since {runtime.preview}: it is not for production"
        return (f"{state}, and AWS may change it without notice; the newest runtime is {newest}",)
    if today < runtime.deprecated:
        return ()
    state = f"{runtime.name} is deprecated since {runtime.deprecated}: it gets no more security updates"
    return (f"{state}, and AWS forbids new functions some time later; the newest runtime is {newest}",)
