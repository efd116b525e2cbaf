"""Writes libraries for a GPU: what the run used of them, or only what other libraries link to."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.layer.layout import NATIVE_FOLDER
from layer_minimizer.model.outcome import LibrarySizes
from layer_minimizer.model.plan import Cold, KeepPlan, Reason
from layer_minimizer.native import coldstore, compact
from layer_minimizer.native.elf_image import UnsupportedLibraryError, map_file
from layer_minimizer.native.hollow import hollow
from layer_minimizer.native.nameless import without_names
from layer_minimizer.native.used_pages import split_used
from layer_minimizer.pack import staging
from layer_minimizer.pack.libraries import PackedLibrary, hot_pages, native_runtime, runtime_name
from layer_minimizer.pack.links import owners, wanted_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.model.traced import Traced
    from layer_minimizer.settings import Settings

log = logging.getLogger(__name__)
# Of a library of which this much or less is in use, the used pages are shipped at once. Of others the first layer has
# the links alone: only a run on it shows whether anything but the library's own constructors used these pages.
_SMALL_BYTES = 512 * 1024
# Smaller libraries are packed as those that are not for a GPU. Programs ask these whether there is a GPU, and go on
# without it; libcudart has 0.8 MB.
_ORDINARY_BYTES = 1024 * 1024


@dataclass(frozen=True, eq=False)
class GpuLibraries:
    """The libraries for a GPU of one environment.

    ``hot`` are the touched pages of each library.
    """

    site: Site
    hot: Mapping[str, frozenset[int]]
    runtime: Path
    scratch: Path

    @classmethod
    def of(cls, traced: Traced, site: Site, settings: Settings, scratch: Path) -> GpuLibraries | None:
        """Return None if such libraries are shipped as all others."""
        runtime = native_runtime(settings, site.interpreter.machine)
        if not runtime or settings.gpu == "keep" or not site.gpu.libraries:
            return None
        return cls(site, hot_pages(traced, site, Cold.KEEP)[0], runtime, scratch)

    def packed(self, plan: KeepPlan, adjustments: Adjustments) -> dict[str, PackedLibrary]:
        """Return the form of each library for a GPU that the plan keeps, but for those that cannot be rewritten."""
        kept = {decision.path: decision for decision in plan.kept}
        wanted = [
            path
            for path in self.site.gpu.libraries
            if path in kept
            and kept[path].size > _ORDINARY_BYTES
            and kept[path].reason is not Reason.REPAIRED
            and path not in adjustments.whole_libraries
            and not staging.link_target(self.site.files[path], kept, self.site.copies)
        ]
        libraries = [d.path for d in (*plan.kept, *plan.cold) if elf.is_elf_name(d.path)]
        # A library to which no other links is loaded for its functions, by Python or by code.
        linked = {path for path, _by in self.site.library_closure(libraries)}
        found: dict[str, PackedLibrary] = {}
        empty: list[str] = []
        for path in wanted:
            pages = self._used(path, adjustments)
            called = path in adjustments.refills or path not in linked or self._is_part(path)
            if pages and (called or _kept_bytes(pages) <= _SMALL_BYTES):
                self._add(found, path, pages, self._tables(pages, path, libraries))
            else:
                empty.append(path)
        links = wanted_symbols(empty, libraries, self.site.sources, self.site.library_closure)
        for path in empty:
            try:
                bare = hollow(map_file(self.site.sources[path]), links[path], self.site.interpreter.page_size)
            except UnsupportedLibraryError as exc:
                log.debug("%s: %s", path, exc)
                if pages := self._used(path, adjustments):
                    self._add(found, path, pages, self._tables(pages, path, libraries))
                continue
            self._add(found, path, bare.parts, bare.tables)
        return found

    def _add(
        self, found: dict[str, PackedLibrary], path: str, pages: compact.Split, tables: compact.Tables | None
    ) -> None:
        """Add the form of a library, unless it is no smaller than the library."""
        written = self._written(path, pages, tables)
        if written.sizes.shipped < written.sizes.file:
            found[path] = written

    def _tables(self, pages: compact.Split, path: str, libraries: Iterable[str]) -> compact.Tables | None:
        """Return the tables of a library without the names that no other one knows."""
        known = {name for name, owner in self._owners(frozenset(libraries)).items() if owner != path}
        try:
            return without_names(pages.image, known)
        except UnsupportedLibraryError as exc:
            log.debug("%s: %s", path, exc)
            return None

    @cached_property
    def _owners(self) -> Callable[[frozenset[str]], dict[str, str]]:
        """A cached `links.owners`."""
        return cache(lambda libraries: owners(libraries, self.site.sources))

    def _is_part(self, path: str) -> bool:
        """Return whether a library belongs to others that are not for a GPU, and that call it when they are loaded."""
        return self.site.files[path].distribution not in self.site.gpu.distributions

    def _used(self, path: str, adjustments: Adjustments) -> compact.Split | None:
        """Return the pages of a library that are shipped; None if their use was not traced, or it cannot be split."""
        hot = self.hot.get(path, frozenset()) | adjustments.extra_pages.get(path, frozenset())
        return self._split(path, hot) if hot else None

    @cached_property
    def _split(self) -> Callable[[str, frozenset[int]], compact.Split | None]:
        """A cached function: path, hot pages -> the pages of the library."""

        @cache
        def split(path: str, hot: frozenset[int]) -> compact.Split | None:
            try:
                return split_used(map_file(self.site.sources[path]), hot, self.site.interpreter.page_size)
            except UnsupportedLibraryError as exc:
                log.debug("%s: %s", path, exc)
                return None

        return split

    def _written(self, path: str, pages: compact.Split, tables: compact.Tables | None) -> PackedLibrary:
        up = "../" * path.count("/")
        content = compact.rewrite(
            pages,
            name=path,
            runtime=f"$ORIGIN/{up}{NATIVE_FOLDER}/{runtime_name(self.runtime)}",
            store=self._message(path),
            packed=coldstore.without_data(pages),
            tables=tables,
        )
        folder = self.scratch / sha256(json.dumps([path, sha256(content).hexdigest()]).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "library").write_bytes(content)
        mapped = sum(s.memory_size for s in pages.image.loads)
        size = self.site.sources[path].stat().st_size
        hot = max(0, mapped - pages.cold_bytes)  # the last page of a segment is cold as a whole
        sizes = LibrarySizes(path, size, mapped, hot, len(content), 0, pages.cold_bytes, "", gpu=True)
        return PackedLibrary(sizes, frozenset({path}), pages.image.page_size, folder / "library")

    def _message(self, path: str) -> str:
        """Return what a use of a page says that is not there; the start is that of `messages.PAGE_DROPPED`."""
        name = self.site.files[path].distribution
        versions = {each.name: each.version for each in self.site.inventory.distributions}
        owner = f"{name} {versions.get(name, '')}".strip() or "no distribution"
        return f"it was dropped, because it is for a GPU ({owner}): build the layer with --gpu keep, or trace this use"


def _kept_bytes(pages: compact.Split) -> int:
    return sum(segment.file_size for segment in pages.image.loads) - pages.cold_bytes
