"""Find cold files that native code may open by path: they cannot be restored on demand, so they are kept."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Decision, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from layer_minimizer.environment.site import Site
    from layer_minimizer.plan.draft import Draft


def c_opened_files(draft: Draft, site: Site, opened: Collection[str] = ()) -> tuple[str, ...]:
    """Return the paths of the files that are cold in the draft and must be kept for native code.

    ``opened`` are the files that code in C opened in the traced run.

    Raises:
        PlanError: a library cannot be read, is truncated or is corrupt.
    """
    cold = [decision for decision in draft.decisions({}) if decision.verdict is Verdict.COLD]
    return tuple(sorted({*_libraries(draft, cold, site), *_data(draft, cold, site, opened)}))


def _libraries(draft: Draft, cold: Iterable[Decision], site: Site) -> Iterator[str]:
    """Return the cold libraries that are neither extension modules nor dependencies of extension modules only."""
    libraries = [d.path for d in cold if d.reason is not Reason.REACHABLE and elf.is_elf_name(d.path)]
    plain = {path for path in libraries if not elf.is_extension_module(site.sources[path])}
    needed = {path for path, _by in site.library_closure(path for path in libraries if path not in plain)}
    found = plain - needed
    # A copy of a library under another name is only needed where the original is available.
    available = found | draft.kept.keys()
    return (path for path in found if site.copies.get(path, path) in available)


def _data(draft: Draft, cold: Sequence[Decision], site: Site, opened: Collection[str]) -> Iterator[str]:
    """Return the data files whose names appear in the strings of a library of the same distribution: PROJ's proj.db.

    If such a file, or one of ``opened``, is in a folder without modules, the other files of that folder are returned
    too: GDAL assembles the names of its tables at run time, and an XSL file includes others of its folder. If only
    Python code opens such a file, keeping it was unnecessary.
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
    beside = {posixpath.dirname(path) for path in opened} - packages - {""}
    yield from (path for paths in data.values() for path in paths if posixpath.dirname(path) in beside)
    for distribution, paths in libraries.items():
        names = frozenset[str]().union(*map(site.named_files, paths))
        named = {path for path in data[distribution] if posixpath.basename(path) in names}
        folders = {posixpath.dirname(path) for path in named} - packages
        yield from (path for path in data[distribution] if path in named or posixpath.dirname(path) in folders)
