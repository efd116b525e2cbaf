"""The installed files of an environment by path, their dependencies, and libraries that are copies of each other."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.environment import base_layers, gpu, inventory, merged_site
from layer_minimizer.environment.base_layers import BaseLayers
from layer_minimizer.model.installed import InstalledFile, Inventory, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.trace import ForeignRoot


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter whose environment is merged with the base layers, as a function will have it."""

    interpreter: Interpreter
    base: BaseLayers = field(default_factory=BaseLayers)


def with_base_layers(interpreter: Interpreter, names: Iterable[str], scratch: Path) -> Python:
    """Return an interpreter whose environment includes the base layers ``names``.

    Raises:
        UsageError, PublishError, PackError, PlanError, TraceError: a layer cannot be downloaded, read or merged.
    """
    base = base_layers.read_base_layers(names, interpreter.folder, scratch)
    merged = merged_site.make_merged_site(interpreter, base, scratch / "env")
    return Python(merged.interpreter, replace(base, conflicts=(*base.conflicts, *merged.conflicts)))


@dataclass(frozen=True, eq=False)
class Site:
    """An environment, its installed files, and the base layers of the function.

    The mappings are computed on first access and cached: there are many files, and they are used for every library.
    """

    interpreter: Interpreter
    inventory: Inventory
    base: BaseLayers = field(default_factory=BaseLayers)

    @classmethod
    def of(cls, python: Python, foreign: Iterable[ForeignRoot] = ()) -> Site:
        """Return the site with all installed files, and with ``foreign`` packages that a run imported from elsewhere.

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
        """The absolute path of each installed file, by its path in the site."""
        return {file.path: Path(file.source) for file in self.inventory.files}

    @cached_property
    def copies(self) -> Mapping[str, str]:
        """Libraries that are copies of another library in the same folder, each with the original."""
        paths = [file.path for file in self.inventory.files if elf.is_elf_name(file.path) and not file.link]
        return library_copies(paths, self.sources)

    @cached_property
    def gpu(self) -> gpu.GpuParts:
        """What of it is for a GPU."""
        return gpu.find_gpu_parts(self.inventory.files)

    def for_gpu(self, chosen: str) -> dict[str, str]:
        """Return the files for a GPU, with the evidence; none if ``chosen``, the value of ``--gpu``, keeps them."""
        found = {} if chosen == "keep" else {file.path: self.gpu.reason(file) for file in self.inventory.files}
        return {path: why for path, why in found.items() if why}

    def library_closure(self, paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return the installed libraries that ``paths`` need, each with one of the libraries that need it."""
        return elf.library_closure(paths, self._dynamic, self.sources.__contains__)

    @cached_property
    def _dynamic(self) -> Callable[[str], elf.Dynamic | None]:
        sources = self.sources
        return cache(lambda path: elf.read_dynamic(sources[path]))

    @cached_property
    def installed_size(self) -> Size:
        """The size of the environment, without distributions that only install packages."""
        files = [f for f in self.inventory.files if f.distribution not in inventory.INSTALLERS]
        names = {d.name for d in self.inventory.distributions} - inventory.INSTALLERS
        return Size(len(files), sum(f.size for f in files), len(names))


def library_copies(paths: Iterable[str], sources: Mapping[str, Path]) -> dict[str, str]:
    """Return the libraries that are copies of another library in the same folder, each with the original.

    The original is the one whose file name is the soname (DT_SONAME) of all of them.
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
