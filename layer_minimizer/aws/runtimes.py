"""Lambda's Python runtimes: operating systems, architectures and deprecation dates, read from ``runtimes.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

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

    ``provides`` are shared libraries that it has, ``distributions`` the installed distributions that it has.
    """

    name: str
    system: str
    versions: Mapping[str, Version]
    provides: frozenset[str]
    architectures: tuple[str, ...]
    deprecated: date
    distributions: Mapping[str, Brought] = field(default_factory=dict)

    @property
    def python(self) -> tuple[int, int]:
        """The Python version."""
        major, minor = self.name.removeprefix("python").split(".")
        return int(major), int(minor)


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
        runtimes[name] = Runtime(
            name=name,
            system=system["name"],
            versions={family: Version(version) for family, version in system["versions"].items()},
            provides=frozenset([*system["provides"], row["libpython"]]),
            architectures=tuple(row["architectures"]),
            deprecated=row["deprecated"],
            distributions=distributions,
        )
    return runtimes


def deprecation_warnings(runtime: Runtime, today: date) -> tuple[str, ...]:
    """Return a warning if the runtime is deprecated on the day ``today``."""
    if today < runtime.deprecated:
        return ()
    newest = next(iter(load_runtimes()))
    state = f"{runtime.name} is deprecated since {runtime.deprecated}: it gets no more security updates"
    return (f"{state}, and AWS forbids new functions some time later; the newest runtime is {newest}",)
