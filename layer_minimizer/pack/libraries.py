"""Ships libraries compacted: decides for each one, writes it with its cold store, and says what became of it."""

from __future__ import annotations

import shutil
import zlib
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from layer_minimizer.environment.site import by_contents
from layer_minimizer.layer.layout import FOLDER, RUNTIME
from layer_minimizer.model.outcome import CompactedLibrary
from layer_minimizer.model.plan import Cold
from layer_minimizer.native import coldstore, compact
from layer_minimizer.native.elf_image import NotUnderstoodError, read_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# Less than this is not worth a table, a store file and a runtime.
_WORTH_BYTES = 64 * 1024
# What is shipped around an address that a run lacked, each time that it lacks one in the same library: code of one kind
# lies together. A library that lacks more than that is used in another way than it was in the traced run.
_AROUND_BYTES = (64 * 1024,) * 4 + (1024 * 1024,) * 2


@dataclass(frozen=True, slots=True)
class Evictable:
    """A chunk of a cold store that could be dropped: how likely it is to be needed (0 to 1), and its bytes."""

    likelihood: float
    size: int
    path: str
    chunk: int


@dataclass(slots=True)
class Shrinker:
    """Compacts the libraries of a layer. ``hot`` are the touched pages of those that the trace watched.

    What was made once is kept in ``scratch``, since a layer may be staged several times. ``whole`` are libraries that
    turned out to need more than was touched, where nothing else can come back; ``given`` counts for each library how
    often a run lacked some of it.
    """

    hot: dict[str, frozenset[int]]
    runtime: Path
    cold: Cold
    scratch: Path
    reports: dict[str, CompactedLibrary] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    given: Counter[str] = field(default_factory=Counter)
    _offers: dict[str, tuple[Evictable, ...]] = field(default_factory=dict)

    def place(self, path: str, source: Path, top: Path) -> int:
        """Write the library ``path`` compacted below ``top``; give its bytes, 0 when it must be shipped as it is.

        Raises:
            OSError: there is no room.
        """
        if path not in self.hot:
            return 0
        if path not in self.reports:
            self.sources[path] = source
            self._make(path)
        if path in self.whole and not self.reports[path].problem:
            made = self.reports[path]
            problem = "shipped whole: the layer's own run needed more of it than the traced run had touched"
            self.reports[path] = CompactedLibrary(path, made.file, made.mapped, made.mapped, made.file, 0, 0, problem)
            self._offers.pop(path, None)
        report = self.reports[path]
        if report.problem:
            return 0
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.scratch / path, top / path)
        (top / FOLDER).mkdir(exist_ok=True)
        if report.cold:
            shutil.copyfile(_store_of(self.scratch / path), top / FOLDER / _store_name(path))
        written = report.shipped + report.cold
        if not (top / FOLDER / self.runtime_name).exists():
            shutil.copyfile(self.runtime, top / FOLDER / self.runtime_name)
            written += self.runtime.stat().st_size
        return written

    @property
    def runtime_name(self) -> str:
        """Give the runtime's file name, which no other build has: layers of two versions may lie in one function."""
        return RUNTIME.format(digest=sha256(self.runtime.read_bytes()).hexdigest()[:16])

    def give(self, path: str, addresses: Iterable[int]) -> bool:
        """Ship more of a library that was placed: what lies around its own ``addresses``, and in the end all of it.

        Says whether there was more to ship.
        """
        if path not in self.sources:
            return False
        if path not in self.reports:
            return True  # it was given with a copy
        if self.reports[path].problem:
            return False
        copies = next(copies for copies in by_contents(self.sources) if path in copies)
        if self.given[path] == len(_AROUND_BYTES):
            self.whole |= set(copies)
            return True
        around, page = _AROUND_BYTES[self.given[path]], read_image(self.sources[path].read_bytes()).page_size
        starts = {address - address % around for address in addresses}
        more = frozenset(number for start in starts for number in range(start // page, (start + around) // page))
        for copy in copies:
            self.hot[copy] |= more
            self.given[copy] += 1
            del self.reports[copy]
        return True

    def offers(self) -> list[Evictable]:
        """Give the chunks that are in the stores now."""
        return [offer for path in sorted(self._offers) for offer in self._offers[path]]

    def drop(self, offers: Iterable[Evictable]) -> None:
        """Write the libraries of these chunks anew, without them."""
        gone: dict[str, set[int]] = {}
        for offer in offers:
            gone.setdefault(offer.path, set()).add(offer.chunk)
        for path, chunks in gone.items():
            stored = _store_of(self.scratch / path).read_bytes()
            parts = compact.split(self.sources[path].read_bytes(), self.hot[path])
            packed = coldstore.without_data(parts)
            at = 0
            for offer in self._offers[path]:
                if offer.chunk not in chunks:
                    raw = zlib.crc32(parts.raw(parts.chunks[offer.chunk]))
                    packed[offer.chunk] = compact.PackedChunk(
                        stored[at : at + offer.size], raw, coldstore.is_code(parts, parts.chunks[offer.chunk])
                    )
                at += offer.size
            self._write(path, parts, packed)

    def _make(self, path: str) -> None:
        data = self.sources[path].read_bytes()
        try:
            parts = compact.split(data, self.hot[path])
        except NotUnderstoodError as exc:
            self.reports[path] = CompactedLibrary(path, len(data), 0, 0, len(data), 0, 0, f"shipped whole: {exc}")
            return
        mapped = sum(s.memory_size for s in parts.image.loads)
        if len(data) - sum(s.file_size for s in parts.image.loads) + parts.cold_bytes < _WORTH_BYTES:
            problem = "shipped whole: there is little to leave out"
            self.reports[path] = CompactedLibrary(path, len(data), mapped, mapped, len(data), 0, 0, problem)
            return
        whole = self.cold is not Cold.DROP
        self._write(path, parts, coldstore.pack_chunks(parts, path) if whole else coldstore.without_data(parts))

    def _write(self, path: str, parts: compact.Split, packed: Sequence[compact.PackedChunk]) -> None:
        made = self.scratch / path
        store = b"".join(chunk.data for chunk in packed)
        up = "../" * path.count("/")
        small = compact.rewrite(
            parts,
            name=path,
            runtime=f"$ORIGIN/{up}{FOLDER}/{self.runtime_name}",
            store=f"{up}{FOLDER}/{_store_name(path)}" if store else "",
            packed=packed,
        )
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(small)
        _store_of(made).write_bytes(store)
        mapped = sum(s.memory_size for s in parts.image.loads)
        pages = sum(chunk.pages for chunk, kept in zip(parts.chunks, packed, strict=True) if not kept.data)
        dropped = pages * parts.image.page_size
        file = self.sources[path].stat().st_size
        self.reports[path] = CompactedLibrary(
            path, file, mapped, mapped - parts.cold_bytes, len(small), len(store), dropped, ""
        )
        likely = _likelihoods(parts, self.hot[path])
        self._offers[path] = tuple(
            Evictable(likely[i], len(chunk.data), path, i) for i, chunk in enumerate(packed) if chunk.data
        )


def _likelihoods(parts: compact.Split, hot: frozenset[int]) -> list[float]:
    """Guess for each chunk how likely it is that another input needs it.

    Code near code that ran belongs to what is used; the tables that are not code serve every exception in the library.
    Of a library that did not even load, nothing is likely.
    """
    pages = sorted(hot)
    likely = []
    for chunk in parts.chunks:
        near = 0.0
        for run in chunk.runs if pages else ():
            at = bisect_left(pages, run.page)
            distance = min(abs(page - run.page) for page in pages[max(0, at - 1) : at + 1])
            near = max(near, 1 / (1 + distance) if run.executable else 0.5)
        likely.append(near)
    return likely


def _store_of(made: Path) -> Path:
    return made.with_name(made.name + ".cold")


def _store_name(path: str) -> str:
    """Give a file name that no other library's store has."""
    return path.replace("%", "%25").replace("/", "%2F") + ".cold"
