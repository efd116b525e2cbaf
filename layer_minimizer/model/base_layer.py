"""The layers below the new one in the same function, and the files that several of them bring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """A layer below ours: as the user named it, its zip, and what is in that. Sizes are bytes."""

    name: str
    archive: Path
    sha256: str
    files: int
    unzipped_bytes: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A path with other contents (``content``), or a distribution of another version (``version``), in two places.

    ``first`` and ``second`` say where, with the version; the ``winner`` is the one that a function will see.
    """

    kind: str
    name: str
    first: str
    second: str
    winner: str

    def __str__(self) -> str:
        """Say it in a sentence."""
        what = "is of two versions" if self.kind == "version" else "has two contents"
        return f"{self.name} {what}: {self.first} and {self.second}; {self.winner} wins"
