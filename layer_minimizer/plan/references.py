"""Find the unused distributions that code in the layer refers to, so that another event may need them.

Code refers to a distribution with an import, with a name in a string (``import_module("openpyxl")``,
``engine="pyarrow"``), or with the name of an entry point group. Whether such code will run is unknown. A distribution
that the metadata of a used one requires is needed without a name in code, too: ``zoneinfo`` reads tzdata, which pandas
requires. Development tools, which say so by a classifier, are needed only where a used distribution requires them or
kept code imports them.
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
from layer_minimizer.plan.requirements import Requirements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from layer_minimizer.model.installed import Distribution, Inventory
    from layer_minimizer.model.trace import Trace

_Code = list[tuple[str, Path]]
_IMPORT = re.compile(r"(?m)(?:^|[;:])[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b([^\n#;]*)|import[ \t]+([^\n#;]+))")
_NAME = re.compile(r"[\w.]+")
# A name in a string, also "package.module:name" as in entry points, and "package[extra]".
_STRING = re.compile(r"[\"']([\w.-]+)(?=[\"':\[])")


@dataclass(frozen=True, slots=True)
class DistributionReferences:
    """The source files and packages of all distributions, and the names by which other code may refer to them."""

    _code: Mapping[str, _Code]
    _packages: Mapping[str, set[str]]
    _owners: Mapping[str, frozenset[str]]
    _groups: frozenset[str]  # the names that are groups of entry points
    _tools: frozenset[str]  # the distributions that a classifier calls development tools
    _requirements: Requirements

    @classmethod
    def of(cls, inventory: Inventory, environment: Mapping[str, str]) -> DistributionReferences:
        """Read the names from an inventory; ``environment`` is that of markers."""
        code: dict[str, _Code] = defaultdict(list)
        packages: dict[str, set[str]] = defaultdict(set)
        for file in inventory.files:
            if modules.module_name(file.path):
                packages[file.distribution].add(modules.top_level(file.path))
            if file.path.endswith(".py") and not development_files.is_test(file.path):
                code[file.distribution].append((file.path, Path(file.source)))
        groups = frozenset(group for each in inventory.distributions for group in each.groups)
        tools = _tools(inventory)
        requirements = Requirements(inventory.distributions, environment)
        return cls(dict(code), packages, _owners(inventory), groups, tools, requirements)

    def referenced_distributions(self, used: Collection[str], own: _Code, kept: Collection[str] = ()) -> dict[str, str]:
        """Return the unused distributions that used ones require or other code refers to, each with the evidence.

        Args:
            used: the used distributions; their code is searched.
            own: the user's code, which is searched too.
            kept: the files in the layer: development tools that they import are needed.
        """
        used = frozenset(used)
        found = {name: f"{by} requires it" for name, by in self._requirements.of(used).items()}
        needed = {*self._requirements.possible(used), *self._imported_tools(own, kept)}
        newest: Collection[str] = used | found.keys()
        waiting = [*own, *self._code_of(newest)]
        while waiting:
            left_out = used | found.keys() | (self._tools - needed)
            names = {name for name, owners in self._owners.items() if owners - left_out}
            referenced = [(name, f"{shown} names it") for shown, path in waiting for name in _names_in(path, names)]
            packages = set[str]().union(*(self._packages.get(name, ()) for name in newest))
            groups = self._groups & names
            referenced += [
                (name, f"it may extend {extended}")
                for name in sorted(groups)
                for extended in sorted(_prefixes(name) & packages)
            ]
            fresh: dict[str, str] = {}
            for name, why in referenced:
                for owner in self._owners[name] - left_out:
                    fresh.setdefault(owner, why)
            required = {name: f"{by} requires it" for name, by in self._requirements.of(fresh).items()}
            fresh |= {name: why for name, why in required.items() if name not in used | found.keys()}
            needed |= self._requirements.possible(fresh).keys()
            found |= fresh
            newest = sorted(fresh)
            waiting = self._code_of(newest)
        return found

    def _code_of(self, distributions: Iterable[str]) -> _Code:
        return [file for name in sorted(distributions) for file in self._code.get(name, ())]

    def _imported_tools(self, own: _Code, kept: Collection[str]) -> set[str]:
        """Return the development tools that kept code, or the user's, has import statements for."""
        names = {name for name, owners in self._owners.items() if owners & self._tools}
        if not names:
            return set()
        in_layer = frozenset(kept)
        code = [*own, *(file for files in self._code.values() for file in files if file[0] in in_layer)]
        imported = set[str]().union(*(_names_in(path, names, strings=False) for _, path in code))
        return {owner for name in imported for owner in self._owners[name] & self._tools}


def own_code(trace: Trace, avoid: Iterable[str]) -> _Code:
    """Return the traced entry file and the user's modules next to it that it could import."""
    entry = trace.workload.entry
    if not entry.is_file():
        return []
    files = dict(task_root.workload_files(entry, avoid))
    return [(name, files[name]) for name in sorted(local_modules(trace, files))]


def _owners(inventory: Inventory) -> dict[str, frozenset[str]]:
    """Return the distributions by the names with which code may refer to them: of modules and of entry point groups."""
    named: dict[str, set[str]] = defaultdict(set)
    for file in inventory.files:
        if file.distribution and (module := modules.module_name(file.path)):
            for package in modules.with_parents(module):
                named[package].add(file.distribution)
    # In a package that several distributions share, only the names of parts with one owner identify it.
    names = {
        name: owners
        for name, owners in named.items()
        if len(owners) == 1 and len(named.get(name.rpartition(".")[0], ())) != 1
    }
    for each in inventory.distributions:
        for group in each.groups:
            names.setdefault(group, set()).add(each.name)
    return {name: frozenset(owners) for name, owners in names.items()}


def _tools(inventory: Inventory) -> frozenset[str]:
    """Return the distributions that a classifier calls development tools."""
    metadata: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in inventory.files:
        folder, _, name = file.path.partition("/")
        metadata[folder][name] = Path(file.source)
    return frozenset(each.name for each in inventory.distributions if _is_tool(each, metadata))


def _is_tool(distribution: Distribution, metadata: Mapping[str, Mapping[str, Path]]) -> bool:
    files = metadata[distribution.metadata]
    metadata_file = files.get("METADATA") or files.get("PKG-INFO")
    if metadata_file is None:
        return False
    with metadata_file.open("rb") as source:
        return development_files.is_tool(BytesHeaderParser().parse(source).get_all("Classifier", ()))


def _prefixes(name: str) -> set[str]:
    """Return the packages that an entry point group may be named after: "xarray" for "xarray.backends"."""
    return {name[: found.start()] for found in re.finditer(r"[._-]", name)}


def _names_in(source: Path, names: set[str], *, strings: bool = True) -> set[str]:
    """Return those of ``names`` that a source file imports or, with ``strings``, has at the beginning of a string."""
    content = source.read_bytes()
    # Most files contain none of the names: skip the expensive search.
    if not any(name.rpartition(".")[2].encode() in content for name in names):
        return set()
    text = content.decode("utf-8", "replace")
    referenced = set(_STRING.findall(text)) if strings else set()
    for package, listed, imported in _IMPORT.findall(text):
        parts = _NAME.findall(listed or imported)
        referenced.update(f"{package}.{part}" if package else part for part in parts)
    return {part for name in referenced for part in modules.with_parents(name)} & names
