"""Convert the raw facts of an observed run to modules, files and metadata of the environment."""

from __future__ import annotations

import json
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
    """Return the files with their uses, sorted by path."""
    return tuple(TracedFile(path, frozenset(used)) for path, used in sorted(uses.items()))


@dataclass(slots=True)
class Facts:
    """What a run used. Paths are relative to site-packages where nothing else is said.

    It has more than 12 fields because it has one for each kind of fact that the probe reports; the records of the
    probe are added one by one.

    Attributes:
        uses: what was done with each file.
        task: the same for files of the workload's own folder, by their paths in it.
        modules_by_name: the imported modules, in the order of their imports.
        metadata: normalized names of distributions whose metadata was read, and the module that read it.
        foreign: top-level packages and modules outside of site-packages, with their absolute paths.
        unplaced: absolute paths of modules that cannot go into a layer, since no import path leads to them.
        missing: names of modules and paths of files that were looked up and not found.
        absolute_paths: absolute paths of all files that were opened.
        stand_ins: modules that were replaced by stand-ins.
        loaded_originals: those of them whose original module had to be loaded, and why.
        implicit: modules that code expected to be loaded although it did not import them itself.
        members: (module, class, method) of each signature that was requested from a stand-in.
        touched: (attribute, kind) pairs that were read from each stand-in.
        not_replaceable: modules that a check found not to be replaceable, with the reason.
        filled_registries: modules that fill registries of other packages, with these packages.
        set_variables: environment variables that modules set, as in `SearchResult`.
        remaining_bytes: what is left of ``RunOptions.max_registry_bytes``.
        processes: number of processes in which the probe ran.
        checking: whether the records that follow come from the check after the run.
    """

    uses: dict[str, set[Use]] = field(default_factory=dict)
    task: dict[str, set[Use]] = field(default_factory=dict)
    modules_by_name: dict[str, TracedModule] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    unplaced: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    absolute_paths: set[str] = field(default_factory=set)
    stand_ins: set[str] = field(default_factory=set)
    loaded_originals: dict[str, str] = field(default_factory=dict)
    implicit: set[str] = field(default_factory=set)
    members: set[tuple[str, str, str]] = field(default_factory=set)
    touched: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    not_replaceable: dict[str, str] = field(default_factory=dict)
    filled_registries: dict[str, tuple[str, ...]] = field(default_factory=dict)
    set_variables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remaining_bytes: int = 0
    processes: int = 0
    checking: bool = False

    def use(self, path: str, use: Use) -> None:
        """Add a use of ``path``."""
        self.uses.setdefault(path, set()).add(use)

    def modules(self) -> tuple[TracedModule, ...]:
        """Return the modules in the order of their imports."""
        return tuple(self.modules_by_name.values())


def read_facts(
    probe_facts: Iterable[tuple[Any, ...]],
    interpreter: Interpreter,
    root: Path,
    *,
    calls: Iterable[tuple[str, Use, bool]] = (),
    site_dirs: Iterable[str] = (),
) -> Facts:
    """Return the facts about a workload that ran in the folder ``root``, with paths relative to site-packages.

    Args:
        probe_facts: the records that the probe wrote.
        interpreter: the interpreter that ran the workload.
        root: the folder in which the workload ran.
        calls: (absolute path, use, success) of the system calls.
        site_dirs: the folders that count as site-packages, by default the interpreter's; in a verifying run they are
            those of the layer.
    """
    mapper = _PathMapper(interpreter, tuple(site_dirs) or interpreter.site_dirs, str(root))
    facts = Facts()
    by_python: set[str] = set()
    for fact in probe_facts:
        _add_probe_fact(facts, fact, mapper)
        if fact[0] == "open":
            by_python.add(fact[1])
    for path, use, succeeded in calls:
        if succeeded:
            _add_use(facts, path, use, mapper)
            if use is Use.OPEN and path not in by_python:
                _add_use(facts, path, Use.NATIVE, mapper)
        elif use is Use.OPEN:
            for relative in mapper.in_site(path):
                facts.missing.add(relative)
    return facts


def _add_probe_fact(facts: Facts, fact: tuple[str, ...], mapper: _PathMapper) -> None:
    kind = fact[0]
    if facts.checking and kind != "note":
        return
    if kind in _PROBE_USES:
        _add_use(facts, fact[1], _PROBE_USES[kind], mapper)
    elif kind == "module":
        _add_module(facts, TracedModule(fact[1], fact[2], fact[3], int(fact[4])), mapper)
    elif kind in ("startup", "loaded"):
        if fact[1] not in facts.modules_by_name:
            _add_module(facts, TracedModule(fact[1], fact[2], "", 0, startup=kind == "startup"), mapper)
    elif kind == "distribution":
        facts.metadata.setdefault(canonicalize_name(fact[1]), fact[2])
    elif kind == "missing":
        facts.missing.add(fact[1])
    elif kind == "note":
        _add_note(facts, fact[1])
    elif kind == "process":
        facts.processes += 1


def _add_note(facts: Facts, text: str) -> None:
    what, _, rest = text.partition(" ")
    name, _, reason = rest.partition(" ")
    if what == "woke":
        facts.loaded_originals.setdefault(name, reason)
    elif what in ("stand-in", "implicit"):
        (facts.stand_ins if what == "stand-in" else facts.implicit).add(name)
    elif what == "member":
        attribute, _, method = reason.partition(" ")
        facts.members.add((name, attribute, method))
    elif what in ("late", "effect", "seen"):
        facts.not_replaceable.setdefault(name, f"{what}: {reason}")
    elif what == "fills":
        facts.filled_registries[name] = tuple(reason.split())
    elif what == "environ":
        facts.set_variables[name] = tuple(json.loads(reason))
    elif what == "room":
        facts.remaining_bytes = int(name)
    elif what == "check":
        facts.checking = True  # what follows was not done by the workload
    elif what == "touched":
        kind, _, attribute = reason.partition(" ")
        facts.touched.setdefault(name, set()).add((attribute, kind))


def _add_use(facts: Facts, path: str, use: Use, mapper: _PathMapper) -> None:
    if use in (Use.OPEN, Use.MAP):
        facts.absolute_paths.add(path)
    if name := mapper.in_task(path):
        facts.task.setdefault(name, set()).add(use)
    relatives = mapper.in_site(path)
    for relative in relatives or _in_foreign(facts, path):
        facts.use(relative, use)


def source_of(path: str) -> str:
    """Return the path of the source that a bytecode file in ``__pycache__`` belongs to; other paths unchanged."""
    cached = _BYTECODE.match(path)
    return f"{cached['folder']}{cached['name']}.py" if cached else path


def _in_foreign(facts: Facts, path: str) -> Iterator[str]:
    """Yield the path in a layer of a file that belongs to a package outside of site-packages."""
    for name, source in facts.foreign.items():
        if path == source or path.startswith(f"{source}/"):
            yield f"{name}{source_of(path).removeprefix(source)}"


def _add_module(facts: Facts, module: TracedModule, mapper: _PathMapper) -> None:
    """Add a module, with its file in site-packages, in a package outside of it, or in neither."""
    # The __file__ of modules that a program creates itself can be anything (torch.ops has "_ops.py").
    origin = module.path if module.path.startswith("/") else ""
    if name := mapper.in_task(origin):
        facts.task.setdefault(name, set()).add(Use.SPEC)
    relative = next(iter(mapper.in_site(origin)), "") if origin else ""
    if relative:
        facts.use(relative, Use.SPEC)
    elif origin and not mapper.is_known(origin) and os.path.isfile(origin):
        root = _foreign_root(module.name, origin)
        if root is None:
            facts.unplaced.add(origin)
        else:
            facts.foreign.setdefault(root.name, root.source)
            relative = f"{root.name}{origin.removeprefix(root.source)}"
            facts.use(relative, Use.SPEC)
    facts.modules_by_name[module.name] = TracedModule(
        module.name, relative, module.importer, module.line, module.startup
    )


def _foreign_root(name: str, origin: str) -> ForeignRoot | None:
    """Return the top-level package or module that the file ``origin`` of the module ``name`` belongs to, if any."""
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
    """Maps absolute paths to site-packages, the standard library, and the workload's folder."""

    def __init__(self, interpreter: Interpreter, site_dirs: tuple[str, ...], root: str) -> None:
        self._sites = tuple(f"{folder}/" for folder in site_dirs)
        scratch = os.path.dirname(root)
        self._task = f"{root}/"
        self._known = tuple(f"{os.path.realpath(f)}/" for f in (*interpreter.stdlib_dirs, root, scratch))
        self._real = cache(os.path.realpath)

    def _names(self, path: str) -> Iterator[str]:
        """Yield the path itself, and the path with the symbolic links of its folder resolved."""
        yield path
        folder, _, name = path.rpartition("/")
        if not folder.startswith("/"):
            return  # the root, or in a working directory that only the process knew
        real = self._real(folder)
        if real != folder:
            yield f"{real}/{name}"

    def in_site(self, path: str) -> list[str]:
        """Return ``path`` relative to site-packages; none if it is elsewhere. Bytecode counts as source."""
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
        """Return ``path`` relative to the workload's folder; empty if it is elsewhere."""
        return source_of(path[len(self._task) :]) if path.startswith(self._task) else ""

    def is_known(self, path: str) -> bool:
        """Return whether ``path`` is part of the standard library or of the run's own scratch folder."""
        return any(name.startswith(self._known) for name in self._names(path))
