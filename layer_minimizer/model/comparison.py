"""A difference between traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Difference:
    """What only the traces ``names`` have, of all that are compared: by kind of thing, of one distribution.

    ``libraries`` and ``files`` (data) are site-relative paths, ``modules`` names as in import statements.
    """

    names: tuple[str, ...]
    distribution: str
    modules: tuple[str, ...]
    libraries: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def items(self) -> tuple[str, ...]:
        """All of it, modules first."""
        return (*self.modules, *self.libraries, *self.files)

    def __str__(self) -> str:
        """Say it in a line that can be read."""
        shown = ", ".join(self.items[:_SHOWN])
        more = f" and {len(self.items) - _SHOWN:,} more" if len(self.items) > _SHOWN else ""
        return f"only in {' and '.join(self.names)}: {self.distribution or '(no distribution)'}: {shown}{more}"

    def to_json(self) -> dict[str, Any]:
        """Return the form in which programs read it."""
        return {
            "only_in": list(self.names),
            "distribution": self.distribution,
            "modules": list(self.modules),
            "libraries": list(self.libraries),
            "files": list(self.files),
        }
