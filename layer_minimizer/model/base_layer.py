"""Base layers: other layers of the same function, and conflicts between their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """A base layer.

    Attributes:
        name: the name that the user gave.
        archive: its zip.
        sha256: the digest of the zip.
        files: the number of files in it.
        unzipped_bytes: the size of the files.
    """

    name: str
    archive: Path
    sha256: str
    files: int
    unzipped_bytes: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file with different contents, or a distribution with different versions, in two layers.

    Attributes:
        kind: ``content`` for a file, ``version`` for a distribution.
        name: the path of the file, or the name of the distribution.
        first: the first layer, with the version.
        second: the second layer, with the version.
        winner: the layer whose file or distribution the function will use.
    """

    kind: str
    name: str
    first: str
    second: str
    winner: str

    def __str__(self) -> str:
        """Return a sentence for messages."""
        what = "is of two versions" if self.kind == "version" else "has two contents"
        return f"{self.name} {what}: {self.first} and {self.second}; {self.winner} wins"
