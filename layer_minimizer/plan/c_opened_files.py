"""Finds the cold files that code in C could open: nothing restores a file for that, so they must lie in place."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Decision, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from layer_minimizer.environment.site import Site
    from layer_minimizer.plan.draft import Draft


def c_opened_files(draft: Draft, site: Site) -> tuple[str, ...]:
    """Return the paths of the files that are cold in the draft and may not be.

    Raises:
        PlanError: a library cannot be read, is cut short or is corrupt.
    """
    cold = [decision for decision in draft.decisions({}) if decision.verdict is Verdict.COLD]
    return tuple(sorted((*_libraries(draft, cold, site), *_data(draft, cold, site))))


def _libraries(draft: Draft, cold: Iterable[Decision], site: Site) -> Iterator[str]:
    """Return the libraries that would not be found otherwise: neither modules nor needed by such alone."""
    libraries = [d.path for d in cold if d.reason is not Reason.REACHABLE and elf.is_elf_name(d.path)]
    plain = {path for path in libraries if not elf.is_module(site.sources[path])}
    needed = {path for path, _by in site.library_closure(path for path in libraries if path not in plain)}
    found = plain - needed
    # Under its other names a library is not asked for by itself.
    there = found | draft.kept.keys()
    return (path for path in found if site.copies.get(path, path) in there)


def _data(draft: Draft, cold: Sequence[Decision], site: Site) -> Iterator[str]:
    """Return the files of which a library of the same distribution has the name among its texts: PROJ's proj.db.

    Where such a file lies in a folder without modules, the others there count, too: GDAL puts the names of its
    tables together. Python itself may be what opens one of them; then keeping it was unnecessary.
    """
    data: dict[str, list[str]] = defaultdict(list)
    for decision in cold:
        if decision.distribution and not elf.is_elf_name(decision.path) and not modules.module_name(decision.path):
            data[decision.distribution].append(decision.path)
    libraries: dict[str, list[str]] = defaultdict(list)
    for path in (*draft.kept, *(decision.path for decision in cold)):
        distribution = draft.files[path].distribution
        if distribution in data and elf.is_elf_name(path):
            libraries[distribution].append(path)
    installed = (*site.inventory.files, *site.inventory.shadowed)
    packages = {posixpath.dirname(file.path) for file in installed if modules.module_name(file.path)}
    for distribution, paths in libraries.items():
        names = frozenset[str]().union(*map(site.named_files, paths))
        named = {path for path in data[distribution] if posixpath.basename(path) in names}
        folders = {posixpath.dirname(path) for path in named} - packages
        yield from (path for path in data[distribution] if path in named or posixpath.dirname(path) in folders)
