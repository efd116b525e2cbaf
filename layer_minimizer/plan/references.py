"""Finds the distributions that no event touched and that another event may ask for.

Code asks for one with an import, with a name in a text (``import_module("openpyxl")``, ``engine="pyarrow"``), or by
listing the entry points of a group. Whether it ever will is not known; what nothing even names, nothing can ask for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis.local_modules import local_modules
from layer_minimizer.execution import task_root
from layer_minimizer.model import modules
from layer_minimizer.plan import development_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from layer_minimizer.model.installed import Distribution, Inventory
    from layer_minimizer.model.trace import Trace

_Code = list[tuple[str, Path]]
_IMPORT = re.compile(r"(?m)^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b([^\n#]*)|import[ \t]+([^\n#]+))")
_NAME = re.compile(r"[\w.]+")
# Also "package.module:name", as entry points are written, and "package[extra]".
_TEXT = re.compile(r"[\"']([\w.-]+)(?=[\"':\[])")


@dataclass(frozen=True, slots=True)
class DistributionReferences:
    """Knows the code and the packages of every distribution, and the names by which others may ask for it."""

    _code: Mapping[str, _Code]
    _packages: Mapping[str, set[str]]
    _owners: Mapping[str, frozenset[str]]
    _groups: frozenset[str]  # those of the names that are groups of entry points

    @classmethod
    def of(cls, inventory: Inventory) -> DistributionReferences:
        """Take stock of an environment. Tools for development count as asked for by nobody."""
        code: dict[str, _Code] = defaultdict(list)
        packages: dict[str, set[str]] = defaultdict(set)
        for file in inventory.files:
            if modules.module_name(file.path):
                packages[file.distribution].add(modules.top_level(file.path))
            if file.path.endswith(".py") and not development_files.is_test(file.path):
                code[file.distribution].append((file.path, Path(file.source)))
        groups = frozenset(group for each in inventory.distributions for group in each.groups)
        return cls(dict(code), packages, _owners(inventory), groups)

    def beyond(self, used: Collection[str], own: _Code) -> dict[str, str]:
        """Return the distributions that are not ``used``, but named by their code, by ``own`` code, or by each other.

        Each comes with the reason.
        """
        used = frozenset(used)
        waiting = [*own, *(file for name in sorted(used) for file in self._code.get(name, ()))]
        found: dict[str, str] = {}
        newest: Collection[str] = used
        while waiting:
            names = {name for name, owners in self._owners.items() if owners - used - found.keys()}
            asked = [(name, f"{shown} names it") for shown, path in waiting for name in _asked_for(path, names)]
            packages = set[str]().union(*(self._packages.get(name, ()) for name in newest))
            groups = self._groups & names
            asked += [
                (name, f"it may extend {whom}") for name in sorted(groups) for whom in sorted(_starts(name) & packages)
            ]
            fresh: dict[str, str] = {}
            for name, why in asked:
                for owner in self._owners[name] - used - found.keys():
                    fresh.setdefault(owner, why)
            found |= fresh
            newest = sorted(fresh)
            waiting = [file for owner in newest for file in self._code.get(owner, ())]
        return found


def own_code(trace: Trace, avoid: Iterable[str]) -> _Code:
    """Return the traced entry and the modules beside it that it could import."""
    entry = trace.workload.entry
    if not entry.is_file():
        return []
    beside = dict(task_root.files_beside(entry, avoid))
    return [(name, beside[name]) for name in sorted(local_modules(trace, beside))]


def _owners(inventory: Inventory) -> dict[str, frozenset[str]]:
    """Return the distributions by the names under which code may ask for them: of modules, and of entry point groups."""
    metadata: dict[str, dict[str, Path]] = defaultdict(dict)
    named: dict[str, set[str]] = defaultdict(set)
    for file in inventory.files:
        folder, _, name = file.path.partition("/")
        metadata[folder][name] = Path(file.source)
        if file.distribution and (module := modules.module_name(file.path)):
            for package in modules.with_parents(module):
                named[package].add(file.distribution)
    tools = {each.name for each in inventory.distributions if _is_tool(each, metadata)}
    # Of a package that several distributions share, the name of the part that is its alone.
    names = {
        name: owners - tools
        for name, owners in named.items()
        if len(owners) == 1 and len(named.get(name.rpartition(".")[0], ())) != 1
    }
    for each in inventory.distributions:
        for group in each.groups if each.name not in tools else ():
            names.setdefault(group, set()).add(each.name)
    return {name: frozenset(owners) for name, owners in names.items() if owners}


def _is_tool(distribution: Distribution, metadata: Mapping[str, Mapping[str, Path]]) -> bool:
    files = metadata[distribution.metadata]
    said = files.get("METADATA") or files.get("PKG-INFO")
    if said is None:
        return False
    with said.open("rb") as source:
        return development_files.is_tool(BytesHeaderParser().parse(source).get_all("Classifier", ()))


def _starts(name: str) -> set[str]:
    """Return what a group of entry points may be named after: "xarray" for "xarray.backends" or "xarray_backends"."""
    return {name[: found.start()] for found in re.finditer(r"[._-]", name)}


def _asked_for(source: Path, names: set[str]) -> set[str]:
    """Return those of ``names`` that a source imports, or has at the beginning of a text."""
    content = source.read_bytes()
    # Most sources name none of them, and need not be looked at closely.
    if not any(name.rpartition(".")[2].encode() in content for name in names):
        return set()
    text = content.decode("utf-8", "replace")
    asked = set(_TEXT.findall(text))
    for package, listed, imported in _IMPORT.findall(text):
        parts = _NAME.findall(listed or imported)
        asked.update(f"{package}.{part}" if package else part for part in parts)
    return {part for name in asked for part in modules.with_parents(name)} & names
