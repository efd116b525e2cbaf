"""Read from the logs of a deployed layer what it restored, so that the next layer contains these files in place."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.layer import log_messages
from layer_minimizer.model import modules
from layer_minimizer.model.trace import LibraryPages, Trace, TracedFile, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from layer_minimizer.model.installed import Inventory


@dataclass(frozen=True, slots=True)
class RestoreLog:
    """What layers restored.

    ``modules``: names of restored modules.
    ``files``: site-relative paths of restored files.
    ``pages``: numbers of restored pages by the library's path.
    """

    modules: frozenset[str]
    files: frozenset[str]
    pages: Mapping[str, frozenset[int]]

    @classmethod
    def read(cls, texts: Iterable[str]) -> RestoreLog:
        """Read the restored modules, files and pages from log texts; ignore all other lines."""
        names, files, pages = set(), set(), defaultdict[str, set[int]](set)
        for found in (match for text in texts for match in log_messages.RESTORED.finditer(text)):
            if name := found["module"] or found["woken"]:
                names.add(name)
            elif found["file"]:
                files.add(found["file"].strip())
            else:
                first = int(found["page"], 16)
                pages[found["library"].strip()].update(range(first, first + int(found["count"], 16)))
        return cls(frozenset(names), frozenset(files), {path: frozenset(numbers) for path, numbers in pages.items()})

    def __bool__(self) -> bool:
        """Return whether anything was restored."""
        return bool(self.modules or self.files or self.pages)

    def add_to(self, trace: Trace, inventory: Inventory) -> Trace:
        """Return the trace with everything that was restored marked as used."""
        installed = {file.path: file for file in inventory.files}
        names = modules.by_name(installed)
        uses = {file.path: file.uses for file in trace.files}
        for path in {names[module] for module in self.modules & names.keys()}:
            uses[path] = uses.get(path, frozenset()) | {Use.SPEC}
        for path in self.files & installed.keys():
            uses[path] = uses.get(path, frozenset()) | {Use.OPEN}
        return replace(
            trace,
            files=tuple(TracedFile(path, used) for path, used in sorted(uses.items())),
            libraries=tuple(
                LibraryPages.of(library.path, library.size, library.pages() | self.pages.get(library.path, frozenset()))
                for library in trace.libraries
            ),
            stand_ins=tuple(module for module in trace.stand_ins if module.name not in self.modules),
        )
