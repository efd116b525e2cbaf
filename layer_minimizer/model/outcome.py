"""What packing and verifying a layer produced: archives, libraries, proofs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# ---- outcome ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerArchive:
    """A layer's zip that exists."""

    path: Path
    sha256: str
    files: int
    unzipped_bytes: int
    zipped_bytes: int


@dataclass(frozen=True, slots=True)
class FunctionArchive:
    """A function's zip that exists. ``model_bytes`` of it are models; ``left_out`` lies beside the entry, not in it."""

    archive: LayerArchive
    model_bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompactedLibrary:
    """What became of a shared library; all sizes in bytes.

    ``file`` is its original size, ``mapped`` what the loader maps of it, ``hot`` how much of that stays, ``shipped``
    the size in the layer, ``cold`` that of its compressed store, ``dropped`` what no store brings back, ``problem`` why
    it is shipped whole.
    """

    path: str
    file: int
    mapped: int
    hot: int
    shipped: int
    cold: int
    dropped: int
    problem: str


@dataclass(frozen=True, slots=True)
class Bundled:
    """A library of this machine in the layer's ``lib`` folder, since Lambda's runtime is not known to have it."""

    name: str
    source: str
    needed_by: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a runtime asks of a layer: libraries of this machine that must go into it, and what may fail there."""

    bundled: tuple[Bundled, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """What the verifying runs showed, of which there were ``runs``.

    ``isolated`` says that the original environment was out of reach by a mount. ``shipped`` are the bytes that each
    installed file has in the layer, in whatever form; ``bundled`` are files of this machine in it; ``warnings`` say
    what the runs could not show.
    """

    events: int
    repaired: tuple[str, ...]
    isolated: bool
    runs: int
    cold_faults: int = 0
    shipped: Mapping[str, int] = field(default_factory=dict)
    libraries: tuple[CompactedLibrary, ...] = ()
    bundled: tuple[Bundled, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportTimes:
    """Seconds that the imports of each distribution take, each module without what that imports.

    Under the empty name are the entry's own, those of the standard library and all else that no distribution owns.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the report's form of it."""
        return {
            name: {"seconds": round(sum(seconds.values()), 4), "distributions": dict(seconds)}
            for name, seconds in (("before", self.before), ("after", self.after))
        }


@dataclass(frozen=True, slots=True)
class Emulated:
    """What the emulated Lambda showed. ``memory`` and ``tmp_size`` are the limits in MB, ``where`` names the place.

    ``skipped`` are events that set fields of the context, which Lambda gives itself.
    """

    events: int
    init_seconds: float
    peak_bytes: int
    tmp_bytes: int
    memory: int
    tmp_size: int
    where: str
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
