"""Differences between traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Difference:
    """Files and modules of a distribution that only some of the compared traces contain.

    Attributes:
        names: the traces that contain them.
        distribution: the distribution, or empty.
        modules: dotted names of modules.
        libraries: paths of shared libraries, relative to site-packages.
        files: paths of other files, relative to site-packages.
    """

    names: tuple[str, ...]
    distribution: str
    modules: tuple[str, ...]
    libraries: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def items(self) -> tuple[str, ...]:
        """All names and paths, modules first."""
        return (*self.modules, *self.libraries, *self.files)

    def __str__(self) -> str:
        """Return one line of text, shortened."""
        shown = ", ".join(self.items[:_SHOWN])
        more = f" and {len(self.items) - _SHOWN:,} more" if len(self.items) > _SHOWN else ""
        return f"only in {' and '.join(self.names)}: {self.distribution or '(no distribution)'}: {shown}{more}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "only_in": list(self.names),
            "distribution": self.distribution,
            "modules": list(self.modules),
            "libraries": list(self.libraries),
            "files": list(self.files),
        }
