"""A layer's folder before it is zipped: what lies in it, and what of it could be smaller."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.layer import layout
from layer_minimizer.pack.budget import Oversized, evictable_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layer_minimizer.model.outcome import Requirements
    from layer_minimizer.model.plan import KeepPlan
    from layer_minimizer.model.snapshot import PutBack
    from layer_minimizer.pack.contents import Contents
    from layer_minimizer.pack.libraries import PackedLibrary


@dataclass(frozen=True, slots=True)
class Staged:
    """A layer's folder before it is zipped.

    ``written`` are all its bytes, ``shipped`` those of each installed file, ``shares`` those of each cold file in the
    cold store, ``packed`` those of packed bytecode. ``put_back`` is what is put back before a snapshot,
    ``standard`` the modules of the standard library that stand-ins replace.
    """

    contents: Contents
    libraries: Mapping[str, PackedLibrary]
    written: int
    shipped: Mapping[str, int]
    shares: Mapping[str, int]
    packed: int
    put_back: PutBack
    standard: tuple[str, ...]

    def oversized(
        self, excess: int, plan: KeepPlan, required: Requirements, *, dense: bool, estimated: bool = False
    ) -> Oversized:
        """Return this layer as one that is ``excess`` bytes too large; see `Oversized`.

        ``dense``: its bytecode is compressed.
        """
        chunks = [chunk for _path, each in sorted(self.libraries.items()) for chunk in each.chunks]
        return Oversized(
            excess=excess,
            sizes=self._by_distribution(plan, required),
            shipped=self.shipped,
            bytecode_only=self.contents.bytecode_only,
            evictable=(*chunks, *evictable_files(plan, self.shares)),
            stored=sum(chunk.size for chunk in chunks) + sum(self.shares.values()),
            uncompressed=0 if dense else self.packed,
            estimated=estimated,
        )

    def _by_distribution(self, plan: KeepPlan, required: Requirements) -> Counter[str]:
        """Return the bytes of each distribution in the layer. The layer's own runtime counts as part of none."""
        owners = {decision.path: decision.distribution for decision in (*plan.kept, *plan.cold)}
        sizes = Counter[str]()
        for path, size in self.shipped.items():
            sizes[owners[path] or layout.NO_DISTRIBUTION] += size
        for library in required.bundled:
            sizes[layout.SYSTEM_LIBRARIES] += library.bytes
        sizes[layout.NO_DISTRIBUTION] += self.written - sizes.total()
        return sizes


def shipped_bytes(top: Path, path: str, libraries: Mapping[str, PackedLibrary]) -> int:
    """Return the bytes of an installed file in the staged layer: as a file, a link, bytecode or a compacted library."""
    file = top / path
    compiled = [file.with_suffix(".pyc"), *(file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")]
    candidates = [file, *(compiled if path.endswith(".py") else ())]
    found = [each for each in candidates if each.is_symlink() or each.exists()]
    size = libraries[path].sizes.cold if path in libraries else 0
    for each in found:
        size += each.lstat().st_size
    return size


def bytes_below(folder: Path) -> int:
    """Return the bytes of all files and links below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_symlink() or file.is_file())
