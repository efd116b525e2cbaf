"""Turn the raw facts of an instrumented run into modules, files and metadata of the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from layer_minimizer.model.trace import ForeignRoot, TracedFile, TracedModule, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from layer_minimizer.model.interpreter import Interpreter

_BYTECODE = re.compile(r"^(?P<folder>(?:.*/)?)__pycache__/(?P<name>[^/]+?)\.[^./]+(?:\.opt-\d)?\.pyc$")
_PROBE_USES = {"open": Use.OPEN, "list": Use.LIST, "stat": Use.STAT, "library": Use.MAP}


def traced_files(uses: Mapping[str, set[Use]]) -> tuple[TracedFile, ...]:
    """Return what was done with each file, in the order of their names."""
    return tuple(TracedFile(path, frozenset(used)) for path, used in sorted(uses.items()))


@dataclass(slots=True)
class Facts:
    """What a run used, by site-relative paths; ``task``: files of the workload's own folder, by their names in it."""

    uses: dict[str, set[Use]] = field(default_factory=dict)
    task: dict[str, set[Use]] = field(default_factory=dict)
    found: dict[str, TracedModule] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    unplaced: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    absolute: set[str] = field(default_factory=set)
    stood_in: set[str] = field(default_factory=set)
    woken: dict[str, str] = field(default_factory=dict)
    implicit: set[str] = field(default_factory=set)
    members: set[tuple[str, str, str]] = field(default_factory=set)
    touched: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    fills: dict[str, tuple[str, ...]] = field(default_factory=dict)
    room: int = 0
    processes: int = 0
    checked: bool = False

    def use(self, path: str, use: Use) -> None:
        """Note that ``path`` was used."""
        self.uses.setdefault(path, set()).add(use)

    def modules(self) -> tuple[TracedModule, ...]:
        """Return the modules in the order in which they were found."""
        return tuple(self.found.values())


def read_facts(
    told: Iterable[tuple[Any, ...]],
    interpreter: Interpreter,
    root: Path,
    *,
    calls: Iterable[tuple[str, Use, bool]] = (),
    site_dirs: Iterable[str] = (),
) -> Facts:
    """Make facts about a workload that ran in the folder ``root`` site-relative.

    Those are what the probe has told, and system calls. ``site_dirs`` are the folders that count as the site where they
    are not the interpreter's own: a layer's, in a verifying run. `Facts.absolute` holds every path that was opened, for
    those who must know.
    """
    places = _PathMapper(interpreter, tuple(site_dirs) or interpreter.site_dirs, str(root))
    facts = Facts()
    for fact in told:
        _take_probe_fact(facts, fact, places)
    for path, use, succeeded in calls:
        if succeeded:
            _take_use(facts, path, use, places)
        elif use is Use.OPEN:
            for relative in places.in_site(path):
                facts.missing.add(relative)
    return facts


def _take_probe_fact(facts: Facts, fact: tuple[str, ...], places: _PathMapper) -> None:
    kind = fact[0]
    if facts.checked and kind != "note":
        return
    if kind in _PROBE_USES:
        _take_use(facts, fact[1], _PROBE_USES[kind], places)
    elif kind == "module":
        _take_module(facts, TracedModule(fact[1], fact[2], fact[3], int(fact[4])), places)
    elif kind in ("startup", "loaded"):
        if fact[1] not in facts.found:
            _take_module(facts, TracedModule(fact[1], fact[2], "", 0, startup=kind == "startup"), places)
    elif kind == "distribution":
        facts.metadata.setdefault(canonicalize_name(fact[1]), fact[2])
    elif kind == "missing":
        facts.missing.add(fact[1])
    elif kind == "note":
        _take_note(facts, fact[1])
    elif kind == "process":
        facts.processes += 1


def _take_note(facts: Facts, text: str) -> None:
    what, _, rest = text.partition(" ")
    name, _, reason = rest.partition(" ")
    if what == "woke":
        facts.woken.setdefault(name, reason)
    elif what == "stand-in":
        facts.stood_in.add(name)
    elif what == "implicit":
        facts.implicit.add(name)
    elif what == "member":
        attribute, _, method = reason.partition(" ")
        facts.members.add((name, attribute, method))
    elif what in ("late", "effect"):
        facts.unfit.setdefault(name, f"{what}: {reason}")
    elif what == "fills":
        facts.fills[name] = tuple(reason.split())
    elif what == "room":
        facts.room = int(name)
    elif what == "check":
        facts.checked = True  # what follows are the doings of a check
    elif what == "touched":
        kind, _, attribute = reason.partition(" ")
        facts.touched.setdefault(name, set()).add((attribute, kind))


def _take_use(facts: Facts, path: str, use: Use, places: _PathMapper) -> None:
    if use in (Use.OPEN, Use.MAP):
        facts.absolute.add(path)
    if name := places.in_task(path):
        facts.task.setdefault(name, set()).add(use)
    relatives = places.in_site(path)
    for relative in relatives or _in_foreign(facts, path):
        facts.use(relative, use)


def source_of(path: str) -> str:
    """Return the source of a file of bytecode, else the path itself."""
    cached = _BYTECODE.match(path)
    return f"{cached['folder']}{cached['name']}.py" if cached else path


def _in_foreign(facts: Facts, path: str) -> Iterator[str]:
    """Yield the layer's name of a file below a package that lies outside of the site."""
    for name, source in facts.foreign.items():
        if path == source or path.startswith(f"{source}/"):
            yield f"{name}{source_of(path).removeprefix(source)}"


def _take_module(facts: Facts, module: TracedModule, places: _PathMapper) -> None:
    """Place a module's file: in the site, in a package outside of it, or nowhere that a layer could have."""
    # Modules that a program makes up may claim any file (torch.ops says "_ops.py").
    origin = module.path if module.path.startswith("/") else ""
    if name := places.in_task(origin):
        facts.task.setdefault(name, set()).add(Use.SPEC)
    relative = next(iter(places.in_site(origin)), "") if origin else ""
    if relative:
        facts.use(relative, Use.SPEC)
    elif origin and not places.is_known(origin) and os.path.isfile(origin):
        root = _foreign_root(module.name, origin)
        if root is None:
            facts.unplaced.add(origin)
        else:
            facts.foreign.setdefault(root.name, root.source)
            relative = f"{root.name}{origin.removeprefix(root.source)}"
            facts.use(relative, Use.SPEC)
    facts.found[module.name] = TracedModule(module.name, relative, module.importer, module.line, module.startup)


def _foreign_root(name: str, origin: str) -> ForeignRoot | None:
    """Find the top-level package or module that ``origin`` belongs to, by walking up the module's dotted name."""
    folder, file = origin.rsplit("/", 1)
    parts = name.split(".")
    if file.startswith("__init__."):
        wanted = parts
    elif file.split(".", 1)[0] == parts[-1]:
        wanted = parts[:-1]
        if not wanted:
            return ForeignRoot(file, origin)
    else:
        return None
    if folder.split("/")[-len(wanted) :] != wanted:
        return None
    top = folder.rsplit("/", len(wanted) - 1)[0] if len(wanted) > 1 else folder
    return ForeignRoot(wanted[0], top)


class _PathMapper:
    """Tells where an absolute path lies: the site, the standard library, the workload itself."""

    def __init__(self, interpreter: Interpreter, site_dirs: tuple[str, ...], root: str) -> None:
        self._sites = tuple(f"{folder}/" for folder in site_dirs)
        scratch = os.path.dirname(root)
        self._task = f"{root}/"
        self._known = tuple(f"{os.path.realpath(f)}/" for f in (*interpreter.stdlib_dirs, root, scratch))
        self._real = cache(os.path.realpath)

    def _names(self, path: str) -> Iterator[str]:
        """Yield the path as it was used, and with its folder's links resolved."""
        yield path
        folder, _, name = path.rpartition("/")
        real = self._real(folder)
        if real != folder:
            yield f"{real}/{name}"

    def in_site(self, path: str) -> list[str]:
        """Return the site-relative names of ``path``, none when it lies elsewhere. Bytecode counts as its source."""
        found = []
        for name in self._names(path):
            for site in self._sites:
                if name.startswith(site) and len(name) > len(site):
                    relative = source_of(name[len(site) :])
                    if not relative.endswith("__pycache__") and relative not in found:
                        found.append(relative)
                    break
        return found

    def in_task(self, path: str) -> str:
        """Return the name of ``path`` in the workload's own folder, empty when it lies elsewhere."""
        return source_of(path[len(self._task) :]) if path.startswith(self._task) else ""

    def is_known(self, path: str) -> bool:
        """Return whether ``path`` is part of the standard library or of the run's own scratch folder."""
        return any(name.startswith(self._known) for name in self._names(path))
