"""Lambda's Python runtimes: operating systems, architectures and deprecation dates, read from ``runtimes.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
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
class Runtime:
    """A Lambda runtime; from the day ``deprecated`` on it gets no security updates."""

    name: str
    system: str
    versions: Mapping[str, Version]
    provides: frozenset[str]
    architectures: tuple[str, ...]
    deprecated: date

    @property
    def python(self) -> tuple[int, int]:
        """The Python version."""
        major, minor = self.name.removeprefix("python").split(".")
        return int(major), int(minor)


@cache
def load_runtimes() -> dict[str, Runtime]:
    """Return the runtimes in ``runtimes.toml``, the newest first."""
    data = tomllib.loads(resources.files("layer_minimizer.aws").joinpath("runtimes.toml").read_text("utf-8"))
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
        )
    return runtimes


def deprecation_warnings(runtime: Runtime, today: date) -> tuple[str, ...]:
    """Return a warning if the runtime is deprecated on the day ``today``."""
    if today < runtime.deprecated:
        return ()
    newest = next(iter(load_runtimes()))
    state = f"{runtime.name} is deprecated since {runtime.deprecated}: it gets no more security updates"
    return (f"{state}, and AWS forbids new functions some time later; the newest runtime is {newest}",)
