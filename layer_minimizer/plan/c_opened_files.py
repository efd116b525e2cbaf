"""Finds the cold files that code in C could open: nothing restores a file for that, so they must lie in place."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.model import modules
from layer_minimizer.model.plan import KeepPlan, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path


@dataclass(slots=True)
class COpenedFiles:
    """Knows where installed files lie, which libraries are ``copies`` of another one, and what libraries need."""

    sources: Mapping[str, Path]
    copies: Mapping[str, str]
    needs: Callable[[Iterable[str]], tuple[tuple[str, str], ...]]
    _named: dict[str, frozenset[str]] = field(default_factory=dict)

    def files(self, plan: KeepPlan) -> tuple[str, ...]:
        """Give the paths of the files that are cold in ``plan`` and may not be.

        Raises:
            PlanError: a library cannot be read, is cut short or is corrupt.
        """
        return tuple(sorted((*self._libraries(plan), *self._data(plan))))

    def _libraries(self, plan: KeepPlan) -> Iterable[str]:
        """Give the libraries that would not be found otherwise: neither modules nor needed by such alone."""
        used = [decision.path for decision in plan.cold if decision.reason is not Reason.REACHABLE]
        libraries = [path for path in used if elf.is_elf_name(path)]
        plain = {path for path in libraries if not elf.is_module(self.sources[path])}
        needed = {path for path, _by in self.needs(path for path in libraries if path not in plain)}
        found = plain - needed
        there = found | {decision.path for decision in plan.kept}
        # Under its other names a library is not asked for by itself.
        return (path for path in found if self.copies.get(path, path) in there)

    def _data(self, plan: KeepPlan) -> Iterator[str]:
        """Give the files of which a library of the same distribution has the name among its texts: PROJ's proj.db.

        Where such a file lies in a folder without modules, the others there count, too: GDAL puts the names of its
        tables together. Python itself may be what opens one of them; then it lies there in vain.
        """
        data: dict[str, list[str]] = defaultdict(list)
        for decision in plan.cold:
            if decision.distribution and not elf.is_elf_name(decision.path) and not modules.module_name(decision.path):
                data[decision.distribution].append(decision.path)
        libraries: dict[str, list[str]] = defaultdict(list)
        for decision in (*plan.kept, *plan.cold):
            if decision.distribution in data and elf.is_elf_name(decision.path):
                libraries[decision.distribution].append(decision.path)
        packages = {posixpath.dirname(d.path) for d in plan.decisions if modules.module_name(d.path)}
        for distribution, paths in libraries.items():
            names = frozenset[str]().union(*map(self._named_in, paths))
            named = {path for path in data[distribution] if posixpath.basename(path) in names}
            folders = {posixpath.dirname(path) for path in named} - packages
            yield from (path for path in data[distribution] if path in named or posixpath.dirname(path) in folders)

    def _named_in(self, library: str) -> frozenset[str]:
        if library not in self._named:
            self._named[library] = elf.named_files(self.sources[library])
        return self._named[library]
