"""The installed files of an environment by path, and which libraries are copies of each other."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.environment import base_layers, inventory, merged_site
from layer_minimizer.environment.base_layers import BaseLayers
from layer_minimizer.model.installed import InstalledFile, Inventory, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.trace import ForeignRoot


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter as a function will have it: it sees what is installed merged with the layers below ours."""

    interpreter: Interpreter
    base: BaseLayers = field(default_factory=BaseLayers)


def above(interpreter: Interpreter, names: Iterable[str], scratch: Path) -> Python:
    """Return an interpreter that sees the layers ``names``, as a function will.

    Raises:
        UsageError, PublishError, PackError, PlanError, TraceError: a layer cannot be had, read or merged.
    """
    base = base_layers.read(names, interpreter.folder, scratch)
    merged = merged_site.make(interpreter, base, scratch / "env")
    return Python(merged.interpreter, replace(base, conflicts=(*base.conflicts, *merged.conflicts)))


@dataclass(frozen=True, eq=False)
class Site:
    """An environment, and what is installed there; ``base`` are the layers below ours in the same function.

    Its indices are made when they are first asked for: there are many files, and they are asked for for every library.
    """

    interpreter: Interpreter
    inventory: Inventory
    base: BaseLayers = field(default_factory=BaseLayers)

    @classmethod
    def of(cls, python: Python, foreign: Iterable[ForeignRoot] = ()) -> Site:
        """Take stock of what is installed, and of the ``foreign`` packages that a run imported from elsewhere.

        Raises:
            PlanError: the environment cannot be read, or is empty.
        """
        return cls(python.interpreter, inventory.take_inventory(python.interpreter, tuple(foreign)), python.base)

    @cached_property
    def files(self) -> Mapping[str, InstalledFile]:
        """The installed files by their paths in the site."""
        return {file.path: file for file in self.inventory.files}

    @cached_property
    def sources(self) -> Mapping[str, Path]:
        """Where each installed file lies, by its path in the site."""
        return {file.path: Path(file.source) for file in self.inventory.files}

    @cached_property
    def copies(self) -> Mapping[str, str]:
        """Libraries that are copies of another one beside them, each with that other."""
        paths = [file.path for file in self.inventory.files if elf.is_elf_name(file.path) and not file.link]
        return of_libraries(paths, self.sources)

    def library_closure(self, paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return the installed libraries that ``paths`` need, each with one that needs it."""
        return elf.library_closure(paths, self._dynamic, self.sources.__contains__)

    @cached_property
    def named_files(self) -> Callable[[str], frozenset[str]]:
        """Returns the names of files that a library has among its texts; each is read once."""
        sources = self.sources
        return cache(lambda path: elf.named_files(sources[path]))

    @cached_property
    def _dynamic(self) -> Callable[[str], elf.Dynamic | None]:
        sources = self.sources
        return cache(lambda path: elf.read_dynamic(sources[path]))

    @cached_property
    def before(self) -> Size:
        """The size of the environment without what only installs packages."""
        files = [f for f in self.inventory.files if f.distribution not in inventory.INSTALLERS]
        names = {d.name for d in self.inventory.distributions} - inventory.INSTALLERS
        return Size(len(files), sum(f.size for f in files), len(names))


def of_libraries(paths: Iterable[str], sources: Mapping[str, Path]) -> dict[str, str]:
    """Return the libraries that are copies of another one in their folder, each with that other.

    That is the one whose file has the name by which the loader knows all of them (DT_SONAME).
    """
    alike: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for path in paths:
        alike[path.rpartition("/")[0], sources[path].stat().st_size].add(path)
    found = {}
    for (folder, _size), group in alike.items():
        for path in sorted(group) if len(group) > 1 else ():
            dynamic = elf.read_dynamic(sources[path])
            original = f"{folder}/{dynamic.soname}".lstrip("/") if dynamic else path
            if original in group - {path} and filecmp.cmp(sources[path], sources[original], shallow=False):
                found[path] = original
    return found
