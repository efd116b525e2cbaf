"""Compacts shared libraries: decides for each one, writes it with its cold store, and returns its sizes."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from bisect import bisect_left
from dataclasses import astuple, dataclass, replace
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.compression import Density
from layer_minimizer.layer.layout import NATIVE_FOLDER, RUNTIME
from layer_minimizer.model.outcome import LibrarySizes
from layer_minimizer.model.plan import Cold
from layer_minimizer.native import cold_index, coldstore, compact, parts
from layer_minimizer.native.elf_image import PAGE_SIZES, UnsupportedLibraryError
from layer_minimizer.payload.runtime.check import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.model.traced import Traced
    from layer_minimizer.settings import Settings

# Saving less than this is not worth an index, a store file and a runtime.
_WORTH_BYTES = 64 * 1024
_LONGEST_NAME = 240  # of a file, in bytes; Linux allows 255
_NOT_SMALLER = "shipped whole: what is added to compact it is as large as what is removed"
# Sizes of the areas that are added around a missing address, one for each time that a run lacks pages of the same
# library, because related code is stored together. After the last, the library is shipped whole.
REFILL_BYTES = (64 * 1024,) * 4 + (1024 * 1024,) * 2
_USED_DIFFERENTLY = "shipped whole: a run on the layer needed more of it than the traced run had used"


def native_runtime(settings: Settings, machine: str = "") -> Path | None:
    """Return the library that restores cold files and pages; None if that is disabled, or ``machine`` has none."""
    if settings.native != "on":
        return None
    return Path(settings.runtime_library) if settings.runtime_library else parts.runtime_library(machine)


def place_runtime(runtime: Path, top: Path) -> None:
    """Copy the native runtime below the site folder ``top``.

    Raises:
        OSError: a file cannot be written.
    """
    (top / NATIVE_FOLDER).mkdir(exist_ok=True)
    shutil.copyfile(runtime, top / NATIVE_FOLDER / runtime_name(runtime))


def mark_page_size(libraries: Iterable[PackedLibrary], machine: str, top: Path) -> None:
    """Write the size of the pages of compacted libraries, if kernels for ``machine`` may have larger ones.

    The name of an empty file says it: what starts a layer reads that folder anyway, and layers may share it.

    Raises:
        OSError: a file cannot be written.
    """
    for size in {library.page_size for library in libraries if library.file}:
        if size < max(PAGE_SIZES[machine]):
            (top / NATIVE_FOLDER / f"{PAGES}{size}").touch()


def runtime_name(runtime: Path) -> str:
    """Return a file name that is unique for each build: a function can have layers of several versions."""
    return RUNTIME.format(digest=sha256(runtime.read_bytes()).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class EvictableChunk:
    """A chunk of a library's cold store that could be omitted: its likelihood to be needed (0 to 1) and its bytes."""

    likelihood: float
    size: int
    path: str
    chunk: int


@dataclass(frozen=True, slots=True)
class PackedLibrary:
    """A library as it is shipped: its sizes and the files to copy into a layer.

    ``file`` is the compacted library, None if it is shipped whole; ``store`` has its cold pages, in ``chunks``.
    ``copies`` are all traced libraries with the same contents, this one included.
    """

    sizes: LibrarySizes
    copies: frozenset[str]
    page_size: int = 0
    file: Path | None = None
    store: Path | None = None
    chunks: tuple[EvictableChunk, ...] = ()

    def place(self, top: Path) -> int:
        """Copy the compacted library and its store below ``top``. Return their bytes, 0 if it is shipped whole.

        Raises:
            OSError: a file cannot be written.
        """
        if self.file is None:
            return 0
        path = self.sizes.path
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.file, top / path)
        if self.store:
            (top / NATIVE_FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(self.store, top / NATIVE_FOLDER / _store_name(path))
        return self.sizes.shipped + self.sizes.cold


@dataclass(frozen=True, slots=True)
class _Form:
    """How the cold pages of a library are compressed; ``large_chunks`` as in `Adjustments`."""

    density: Density
    large_chunks: bool


@dataclass(frozen=True, eq=False)
class Compactor:
    """Compacts libraries of one environment and caches the results.

    ``hot`` are the touched pages of each traced library, ``copies`` the traced libraries with the same contents;
    ``page_size`` are the bytes of a page.
    """

    hot: Mapping[str, frozenset[int]]
    copies: Mapping[str, frozenset[str]]
    sources: Mapping[str, Path]
    runtime: Path
    cold: Cold
    scratch: Path
    page_size: int

    @classmethod
    def of(cls, traced: Traced, site: Site, settings: Settings, scratch: Path) -> Compactor | None:
        """Return a compactor for the libraries of a site; None if that is disabled, unavailable or of no use."""
        runtime = native_runtime(settings, site.interpreter.machine)
        if not runtime:
            return None
        hot, copies = hot_pages(traced, site, settings.cold)
        if not hot:
            return None
        return cls(hot, copies, site.sources, runtime, settings.cold, scratch, site.interpreter.page_size)

    @cached_property
    def runtime_name(self) -> str:
        """The runtime's file name."""
        return runtime_name(self.runtime)

    def compacted(
        self, path: str, adjustments: Adjustments, *, whole: bool = False, sampled: bool = False
    ) -> PackedLibrary | None:
        """Return the library compacted according to ``adjustments``; None if its pages were not traced.

        ``whole``: ship it whole. ``sampled``: compress only a sample of its pages.
        """
        if path not in self.hot:
            return None
        hot = self.hot[path] | adjustments.extra_pages.get(path, frozenset())
        form = _Form(Density(adjustments.density, sampled), adjustments.large_chunks)
        made = self._made(path, hot, frozenset(), form)
        if made.file is None:
            return made
        if whole or path in adjustments.whole_libraries:
            file, mapped = made.sizes.file, made.sizes.mapped
            return PackedLibrary(LibrarySizes(path, file, mapped, mapped, file, 0, 0, _USED_DIFFERENTLY), made.copies)
        refills = adjustments.refills.get(path, 0)
        omitted = {each.chunk for each in adjustments.omitted_chunks if (each.path, each.refills) == (path, refills)}
        return self._made(path, hot, frozenset(omitted), form) if omitted else made

    @cached_property
    def _made(self) -> Callable[[str, frozenset[int], frozenset[int], _Form], PackedLibrary]:
        """A cached `_make`: path, hot pages, numbers of the chunks to omit, form -> library."""
        return cache(self._make)

    def _make(self, path: str, hot: frozenset[int], omitted: frozenset[int], form: _Form) -> PackedLibrary:
        data = self.sources[path].read_bytes()
        copies = self.copies[path]
        try:
            pages = compact.split(data, hot, large=form.large_chunks, page_size=self.page_size)
        except UnsupportedLibraryError as exc:
            return PackedLibrary(LibrarySizes(path, len(data), 0, 0, len(data), 0, 0, f"shipped whole: {exc}"), copies)
        mapped = sum(s.memory_size for s in pages.image.loads)
        if len(data) - sum(s.file_size for s in pages.image.loads) + pages.cold_bytes < _WORTH_BYTES:
            problem = "shipped whole: little of it is unused"
            return PackedLibrary(LibrarySizes(path, len(data), mapped, mapped, len(data), 0, 0, problem), copies)
        if self.cold is Cold.DROP:
            packed = coldstore.without_data(pages)
        elif omitted:
            packed = _without(pages, omitted, self._made(path, hot, frozenset(), form))
        else:
            packed = coldstore.pack_chunks(pages, path, form.density)
        key = json.dumps([path, sorted(hot), sorted(omitted), astuple(form)])
        written = self._written(path, pages, packed, _likelihoods(pages, hot), key)
        if not omitted and written.sizes.shipped + written.sizes.cold >= len(data):
            sizes = LibrarySizes(path, len(data), mapped, mapped, len(data), 0, 0, _NOT_SMALLER)
            return PackedLibrary(sizes, copies)
        return replace(written, copies=copies)

    def _written(
        self,
        path: str,
        pages: compact.Split,
        packed: Sequence[cold_index.PackedChunk],
        likely: Sequence[float],
        key: str,
    ) -> PackedLibrary:
        folder = self.scratch / sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        store = b"".join(chunk.data for chunk in packed)
        up = "../" * path.count("/")
        small = compact.rewrite(
            pages,
            name=path,
            runtime=f"$ORIGIN/{up}{NATIVE_FOLDER}/{self.runtime_name}",
            store=f"{up}{NATIVE_FOLDER}/{_store_name(path)}" if store else "",
            packed=packed,
        )
        (folder / "library").write_bytes(small)
        if store:
            (folder / "store").write_bytes(store)
        mapped = sum(s.memory_size for s in pages.image.loads)
        omitted = sum(chunk.pages for chunk, kept in zip(pages.chunks, packed, strict=True) if not kept.data)
        dropped = omitted * pages.image.page_size
        size = self.sources[path].stat().st_size
        return PackedLibrary(
            sizes=LibrarySizes(path, size, mapped, mapped - pages.cold_bytes, len(small), len(store), dropped, ""),
            copies=frozenset(),
            page_size=pages.image.page_size,
            file=folder / "library",
            store=folder / "store" if store else None,
            chunks=tuple(
                EvictableChunk(likely[i], len(chunk.data), path, i) for i, chunk in enumerate(packed) if chunk.data
            ),
        )


def _without(pages: compact.Split, omitted: frozenset[int], full: PackedLibrary) -> list[cold_index.PackedChunk]:
    """Return the chunks of a library with the omitted ones empty and the others from its full store."""
    stored = full.store.read_bytes() if full.store else b""
    packed = coldstore.without_data(pages)
    at = 0
    for each in full.chunks:
        if each.chunk not in omitted:
            chunk = pages.chunks[each.chunk]
            checksum = zlib.crc32(pages.raw(chunk))
            data = stored[at : at + each.size]
            packed[each.chunk] = cold_index.PackedChunk(data, checksum, coldstore.is_code(pages, chunk))
        at += each.size
    return packed


def refilled(
    adjustments: Adjustments, libraries: Mapping[str, PackedLibrary], lacking: Mapping[str, Iterable[int]]
) -> tuple[Adjustments, tuple[str, ...]]:
    """Return adjustments that ship more pages of libraries that lacked some, and the paths of these libraries.

    The pages around the ``lacking`` addresses are added; after several times the library is shipped whole.
    """
    extra, refills = dict(adjustments.extra_pages), dict(adjustments.refills)
    whole = set(adjustments.whole_libraries)
    found: list[str] = []
    adjusted: set[str] = set()
    for path, addresses in sorted(lacking.items()):
        library = libraries.get(path)
        if library is None or library.file is None:
            continue
        found.append(path)
        if path in adjusted:
            continue
        copies = library.copies & libraries.keys()
        times = refills.get(path, 0)
        if times == len(REFILL_BYTES):
            whole |= copies
            continue
        more = _around(addresses, REFILL_BYTES[times], library.page_size)
        for copy in copies:
            extra[copy] = extra.get(copy, frozenset()) | more
            refills[copy] = refills.get(copy, 0) + 1
        adjusted |= copies
    grown = replace(adjustments, extra_pages=extra, refills=refills, whole_libraries=frozenset(whole))
    return grown, tuple(found)


def _around(addresses: Iterable[int], size: int, page: int) -> frozenset[int]:
    """Return the page numbers of the areas of ``size`` bytes that contain the addresses."""
    starts = {address - address % size for address in addresses}
    return frozenset(number for start in starts for number in range(start // page, (start + size) // page))


def hot_pages(traced: Traced, site: Site, cold: Cold) -> tuple[dict[str, frozenset[int]], dict[str, frozenset[str]]]:
    """Return the touched pages of each library that can be compacted, and for each the libraries with equal contents.

    Wheels contain copies of one library. The loader treats them as one because of their SONAME and opens the copy that
    is needed first, which depends on the order of imports. Therefore each copy gets the hot pages of all.
    """
    # Page numbers of another build of a library, or for another kernel, are not valid for this one.
    known = traced.trace.libraries if traced.trace.page_size == site.interpreter.page_size else ()
    traced_libraries = [lib for lib in known if lib.path in site.files and site.files[lib.path].size == lib.size]
    hot = {lib.path: lib.pages() for lib in traced_libraries}
    copies: dict[str, frozenset[str]] = {}
    for paths in _by_contents({path: site.sources[path] for path in hot}):
        copies |= dict.fromkeys(paths, frozenset(paths))
    hot = {path: frozenset[int]().union(*(hot[copy] for copy in copies[path])) for path in hot}
    if cold is Cold.DROP:
        # A library that the run did not load has no touched pages. Compacted without a store it would be useless.
        used = {file.path for file in traced.trace.files}
        hot = {path: pages for path, pages in hot.items() if pages or path in used - traced.untraced_libraries}
    return hot, copies


def _by_contents(sources: Mapping[str, Path]) -> Iterator[list[str]]:
    """Yield groups of paths with equal contents. Files with a unique size are not read."""
    by_size: dict[int, list[str]] = {}
    for path, source in sources.items():
        by_size.setdefault(source.stat().st_size, []).append(path)
    for paths in by_size.values():
        if len(paths) == 1:
            yield paths
            continue
        by_contents: dict[bytes, list[str]] = {}
        for path in paths:
            by_contents.setdefault(sha256(sources[path].read_bytes()).digest(), []).append(path)
        yield from by_contents.values()


def _likelihoods(pages: compact.Split, hot: frozenset[int]) -> list[float]:
    """Return for each chunk an estimated likelihood that another input needs it.

    Code near code that ran is likely to be needed. Tables that are not code are read for every exception. Chunks
    of a library that was not loaded are not likely to be needed.
    """
    touched = sorted(hot)
    likely = []
    for chunk in pages.chunks:
        near = 0.0
        for run in chunk.runs if touched else ():
            at = bisect_left(touched, run.page)
            distance = min(abs(page - run.page) for page in touched[max(0, at - 1) : at + 1])
            near = max(near, 1 / (1 + distance) if run.executable else 0.5)
        likely.append(near)
    return likely


def _store_name(path: str) -> str:
    """Return the file name of a library's store, which is unique for each path; that of a long one is a digest."""
    name = path.replace("%", "%25").replace("/", "%2F")
    return (name if len(os.fsencode(name)) < _LONGEST_NAME else sha256(os.fsencode(path)).hexdigest()) + ".cold"
