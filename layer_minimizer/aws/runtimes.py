"""Lambda's Python runtimes: their systems, processors and dates of deprecation, read from ``runtimes.toml``."""

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

# What AWS and what ELF headers and the kernel call the processors.
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime of Lambda's; ``deprecated`` is the day from which AWS repairs nothing in it any more."""

    name: str
    system: str
    versions: Mapping[str, Version]
    provides: frozenset[str]
    architectures: tuple[str, ...]
    deprecated: date

    @property
    def python(self) -> tuple[int, int]:
        """Its version of Python."""
        major, minor = self.name.removeprefix("python").split(".")
        return int(major), int(minor)


@cache
def load_runtimes() -> dict[str, Runtime]:
    """Read the table of runtimes that comes with this tool, the newest first."""
    data = tomllib.loads(resources.files("layer_minimizer.aws").joinpath("runtimes.toml").read_text("utf-8"))
    found = {}
    for name, said in data["runtimes"].items():
        system = data["systems"][said["system"]]
        found[name] = Runtime(
            name=name,
            system=system["name"],
            versions={family: Version(version) for family, version in system["versions"].items()},
            provides=frozenset([*system["provides"], said["libpython"]]),
            architectures=tuple(said["architectures"]),
            deprecated=said["deprecated"],
        )
    return found


def deprecation_warnings(runtime: Runtime, today: date) -> tuple[str, ...]:
    """Say that a runtime is deprecated, if it is."""
    if today < runtime.deprecated:
        return ()
    newest = next(iter(load_runtimes()))
    said = f"{runtime.name} is deprecated since {runtime.deprecated}: it gets no more security updates"
    return (f"{said}, and AWS forbids new functions some time later; the newest runtime is {newest}",)
