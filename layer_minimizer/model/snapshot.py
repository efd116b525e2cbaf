"""What is put back before a snapshot of the function (Lambda SnapStart)."""

from __future__ import annotations

from dataclasses import dataclass

# The first page, the number of pages, and the library's path in site-packages.
Pages = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a deployed layer restored or loaded, according to its log, each once and in the order of the log.

    Attributes:
        modules: names of modules.
        files: site-relative paths.
        pages: parts of shared libraries.
    """

    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    pages: tuple[Pages, ...] = ()


@dataclass(frozen=True, slots=True)
class PutBack:
    """The part of these needs that a layer does not have in place.

    Attributes:
        stand_ins: modules that are replaced by stand-ins, and loaded before the snapshot.
        modules: other modules, whose code is read before the snapshot, and run where it is imported.
        files: files that are restored.
        pages: pages of shared libraries that are restored.
    """

    stand_ins: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    pages: tuple[Pages, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything to put back."""
        return bool(self.stand_ins or self.modules or self.files or self.pages)
