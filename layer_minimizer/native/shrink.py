"""Ships libraries compacted: decides for each one, writes it with its cold store, and says what became of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from layer_minimizer.model import Library
from layer_minimizer.native import coldstore, compact
from layer_minimizer.native.elf_image import NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Beside the packages, as auditwheel's folders are.
FOLDER = "layer_minimizer.libs"
RUNTIME = "liblayercold.so"
# Less than this is not worth a table, a store file and a runtime.
_WORTH_BYTES = 64 * 1024


class Cold(StrEnum):
    """What becomes of the pages that no trace touched."""

    KEEP = "keep"  # compressed beside the library, put back on first touch
    DROP = "drop"  # left out; touching one ends the process with a message
    AUTO = "auto"  # kept as far as the size allows, those first that are likely to be needed for their bytes


def shared_by_copies(hot: Mapping[str, frozenset[int]], sources: Mapping[str, Path]) -> dict[str, frozenset[int]]:
    """Give each library the hot pages of all libraries with the same contents.

    Wheels bring copies of one library; the loader takes them for one (their SONAME) and opens the copy that is asked
    for first, which depends on the order of imports.
    """
    by_size: dict[int, list[str]] = {}
    for path in hot:
        by_size.setdefault(sources[path].stat().st_size, []).append(path)
    shared = dict(hot)
    for paths in by_size.values():
        by_contents: dict[bytes, list[str]] = {}
        for path in paths if len(paths) > 1 else ():
            by_contents.setdefault(sha256(sources[path].read_bytes()).digest(), []).append(path)
        for copies in by_contents.values():
            shared |= dict.fromkeys(copies, frozenset[int]().union(*(hot[path] for path in copies)))
    return shared


@dataclass(slots=True)
class Shrinker:
    """Compacts the libraries of a layer. ``hot`` are the touched pages of those that the trace watched.

    What was made once is kept in ``scratch``, since a layer may be staged several times.
    """

    hot: Mapping[str, frozenset[int]]
    runtime: Path
    cold: Cold
    scratch: Path
    reports: dict[str, Library] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)

    def place(self, path: str, source: Path, top: Path) -> int:
        """Write the library ``path`` compacted below ``top``; give its bytes, 0 when it must be shipped as it is.

        Raises:
            OSError: there is no room.
        """
        if path not in self.hot:
            return 0
        if path not in self.reports:
            self.sources[path] = source
            self.reports[path] = self._make(path, keep=self.cold is not Cold.DROP)
        report = self.reports[path]
        if report.problem:
            return 0
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.scratch / path, top / path)
        (top / FOLDER).mkdir(exist_ok=True)
        if report.cold:
            shutil.copyfile(_store_of(self.scratch / path), top / FOLDER / _store_name(path))
        written = report.shipped + report.cold
        if not (top / FOLDER / RUNTIME).exists():
            shutil.copyfile(self.runtime, top / FOLDER / RUNTIME)
            written += self.runtime.stat().st_size
        return written

    def give_up(self, excess: int) -> bool:
        """Drop cold stores of at least ``excess`` bytes; False when all of them together are less.

        Those of libraries that the run did not touch at all go first, then the largest: so most libraries stay whole.
        """
        stored = sorted((r for r in self.reports.values() if r.cold), key=lambda r: (bool(self.hot[r.path]), -r.cold))
        if sum(report.cold for report in stored) < excess:
            return False
        for report in stored:
            if excess > 0:
                excess -= report.cold
                self.reports[report.path] = self._make(report.path, keep=False)
        return True

    def _make(self, path: str, *, keep: bool) -> Library:
        made = self.scratch / path
        data = self.sources[path].read_bytes()
        try:
            parts = compact.split(data, self.hot[path])
        except NotUnderstoodError as exc:
            return Library(path, len(data), 0, 0, len(data), 0, f"shipped whole: {exc}")
        mapped = sum(s.memory_size for s in parts.image.loads)
        if len(data) - sum(s.file_size for s in parts.image.loads) + parts.cold_bytes < _WORTH_BYTES:
            return Library(path, len(data), mapped, mapped, len(data), 0, "shipped whole: there is little to leave out")
        up = "../" * path.count("/")
        packed = coldstore.pack_chunks(parts) if keep else coldstore.without_data(parts)
        small = compact.rewrite(
            parts,
            name=path,
            runtime=f"$ORIGIN/{up}{FOLDER}/{RUNTIME}",
            store=f"{up}{FOLDER}/{_store_name(path)}" if keep else "",
            packed=packed,
        )
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(small)
        store = b"".join(chunk.data for chunk in packed)
        if keep:
            _store_of(made).write_bytes(store)
        return Library(path, len(data), mapped, mapped - parts.cold_bytes, len(small), len(store), "")


def _store_of(made: Path) -> Path:
    return made.with_name(made.name + ".cold")


def _store_name(path: str) -> str:
    """Give a file name that no other library's store has."""
    return path.replace("%", "%25").replace("/", "%2F") + ".cold"
