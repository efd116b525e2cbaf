"""Decides about every installed file. Pure: what it needs to know of a file's contents is handed in.

The order of evidence: what the run used, metadata that it asked for, names in the models, rules, static imports,
the user's own globs; then what all of these need (packages, shared libraries, link targets); then what is taken out
again because the user, another layer, or the lack of any real use says so.

Some evidence follows from the draft itself: what code in it names, what its libraries could open, what modules import
that did not run. It takes its place in that order, and only what comes behind it is decided again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.core.errors import PlanError
from layer_minimizer.model import modules
from layer_minimizer.model.plan import KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import Trace, TracedModule, Use
from layer_minimizer.plan import rules
from layer_minimizer.plan.draft import Because, Draft, folders_of, in_metadata, verdict
from layer_minimizer.plan.metadata import keep_metadata, keep_startup, start_only

if TYPE_CHECKING:
    from layer_minimizer.model.installed import Inventory
    from layer_minimizer.plan.rules import Rule

# Of the given libraries, the installed ones that they need, directly or not: (needed, needed by) pairs.
LibraryNeeds = Callable[[Iterable[str]], Iterable[tuple[str, str]]]
_SAID = {
    Use.OPEN: "read by the run",
    Use.TEXT: "its text was read by the run",
    Use.MAP: "loaded by the run as a shared library",
    Use.SPEC: "found as a module by the run",
    Use.STAT: "the run asked whether it exists",
    Use.LIST: "listed by the run",
}


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What the user says beside the evidence, and what earlier attempts to verify have taught.

    ``keep`` are modules that are to be importable, ``cold`` says that what nothing touched goes into the layer's cold
    store. ``reachable`` are the distributions that go there although nothing touched them, each with the
    reason, ``loadable`` the libraries that are laid out although nothing loaded them. ``below`` are the files that
    layers below this one have, each with its layer.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    static_modules: tuple[str, ...] = ()
    cold: bool = False
    companions: tuple[str, ...] = ()
    reachable: Mapping[str, str] = field(default_factory=dict)
    loadable: tuple[str, ...] = ()
    repaired: frozenset[str] = frozenset()
    below: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Analyses:
    """What is found by reading files, once the draft has all evidence that comes before. None: nobody looks.

    ``references`` gives the distributions that code in the layer names, for those in use, each with the reason;
    ``c_opened`` the cold files that code in C could open, ``companions`` the modules that those import which are kept
    and did not run, ``static`` all that kept modules could import.
    """

    references: Callable[[frozenset[str]], Mapping[str, str]] | None = None
    c_opened: Callable[[Draft], tuple[str, ...]] | None = None
    companions: Callable[[Draft], tuple[str, ...]] | None = None
    static: Callable[[Draft], tuple[str, ...]] | None = None


_NOBODY_LOOKS = Analyses()


def plan(  # noqa: PLR0913 - each is one kind of evidence
    trace: Trace,
    inventory: Inventory,
    known_rules: Iterable[Rule],
    wishes: PlanRequest,
    *,
    pickled: Iterable[tuple[str, str, str]] = (),
    library_needs: LibraryNeeds,
    analyses: Analyses = _NOBODY_LOOKS,
) -> KeepPlan:
    """Return a verdict with a reason for every file of ``inventory``.

    ``pickled`` are (model, module, name) triples.

    Raises:
        PlanError: a glob or a distribution's name fits nothing, or nothing at all would be kept.
    """
    _refuse_unknown(inventory, wishes)
    phases = _Phases(trace, inventory, _Needs(inventory, library_needs))
    return _finished(phases.draft(known_rules, pickled, wishes, analyses), trace, inventory)


@dataclass(frozen=True, slots=True)
class _Phases:
    """The order of evidence: each phase goes on from a copy of the draft that the one before has left."""

    trace: Trace
    inventory: Inventory
    needs: _Needs

    def draft(
        self,
        known_rules: Iterable[Rule],
        pickled: Iterable[tuple[str, str, str]],
        wishes: PlanRequest,
        analyses: Analyses,
    ) -> Draft:
        """Return the draft with all evidence, that of the analyses too."""
        traced = self._traced(known_rules, pickled)
        closed = self._closed(traced, wishes.loadable)
        placed = self._placed(closed, wishes)
        draft = self._decided(placed, wishes)
        if not draft.stood_in and not draft.kept:
            raise PlanError(f"{self.trace.workload.entry.name} uses no installed file: it needs no layer")
        if analyses.references and (reachable := analyses.references(draft.used_distributions())):
            wishes = replace(wishes, reachable=reachable)
            placed = self._placed(closed, wishes)
            draft = self._decided(placed, wishes)
        if analyses.c_opened and (loadable := analyses.c_opened(draft)):
            closed = self._closed(traced, loadable)
            placed = self._placed(closed, wishes)
            draft = self._decided(placed, wishes)
        if analyses.companions and (companions := analyses.companions(draft)):
            wishes = replace(wishes, companions=companions)
            draft = self._decided(placed, wishes)
        if analyses.static:
            draft = self._decided(placed, replace(wishes, static_modules=analyses.static(draft)))
        return draft

    def _traced(self, known_rules: Iterable[Rule], pickled: Iterable[tuple[str, str, str]]) -> Draft:
        """What the run used, what models name, what rules say."""
        files = {file.path: file for file in self.inventory.files}
        draft = Draft(
            files,
            stood_in={module.path: module for module in self.trace.stand_ins if module.path in files},
            asleep={module.path: module for module in self.trace.asleep if module.path in files},
        )
        _keep_traced(draft, self.trace, self.inventory, self.needs.resolve)
        _keep_pickled(draft, pickled)
        _keep_ruled(draft, self.trace, known_rules)
        return draft

    def _closed(self, traced: Draft, loadable: Iterable[str]) -> Draft:
        """What code in C could open, and what all of it needs."""
        draft = traced.copy()
        for path in loadable:
            draft.keep(path, Reason.LOADABLE, "code in C could open it by its path")
        self.needs.close(draft)
        return draft

    def _placed(self, closed: Draft, wishes: PlanRequest) -> Draft:
        """What distributions have beside their code."""
        draft = closed.copy()
        keep_metadata(draft, self.trace, self.inventory, wishes.reachable)
        keep_startup(draft, self.trace, self.inventory)
        return draft

    def _decided(self, placed: Draft, wishes: PlanRequest) -> Draft:
        """What is wished for, what that needs, and what is taken out again."""
        draft = placed.copy()
        _keep_wished(draft, wishes)
        self.needs.close(draft)
        _take_out(draft, wishes)
        if wishes.cold:
            draft.warm(wishes.reachable)
        return draft


def _finished(draft: Draft, trace: Trace, inventory: Inventory) -> KeepPlan:
    """Return the plan that a draft with all evidence comes to."""
    decisions = [*draft.decisions({module.name: module.importer for module in trace.modules})]
    shadow = Because(Reason.SHADOWED, "a folder earlier on sys.path has a file of this name")
    decisions += [verdict(file, Verdict.DROPPED, shadow) for file in inventory.shadowed]
    return KeepPlan(
        python=trace.python,
        decisions=tuple(decisions),
        folders=_empty_folders(draft, trace, inventory),
        chains=_chains(draft, trace),
        stand_ins=tuple(
            replace(module, table={})
            for path, module in draft.stood_in.items()
            if path not in draft.kept.keys() | draft.dropped.keys()
        ),
    )


def _refuse_unknown(inventory: Inventory, wishes: PlanRequest) -> None:
    names = {d.name for d in inventory.distributions}
    for name in wishes.provided:
        if canonicalize_name(name) not in names:
            raise PlanError(f"--provided {name}: no such distribution is installed; pip list shows their names")
    paths = [file.path for file in inventory.files]
    importable = modules.with_packages(modules.by_name(paths))
    for name in wishes.keep:
        if name not in importable:
            raise PlanError(f"--keep {name}: no installed module has that name; it takes names as in import statements")
    for option, patterns in (("--include", wishes.include), ("--exclude", wishes.exclude)):
        for pattern in patterns:
            if not rules.matching(pattern, paths):
                raise PlanError(
                    f"{option} {pattern} fits no installed file; patterns are relative to site-packages, "
                    "for instance 'PIL/*.py' or 'scipy/**'"
                )


# ---- evidence -----------------------------------------------------------------------------------------------------


def _keep_traced(draft: Draft, trace: Trace, inventory: Inventory, resolve: Callable[[str], Iterable[str]]) -> None:
    importers = {m.path: m for m in trace.modules if m.path}
    skipped = start_only(trace) | {pth.path for pth in inventory.pth} | set(draft.stood_in)
    for traced in trace.files:
        for path in resolve(traced.path):
            if path not in draft.files or path in skipped or in_metadata(path):
                continue
            module = importers.get(traced.path)
            use = next(use for use in _SAID if use in traced.uses)
            if module is not None and module.importer:
                said = f"imported as {module.name} by {module.importer}, line {module.line}"
                draft.keep(path, Reason.TRACED, said, module.importer)
            else:
                draft.keep(path, Reason.TRACED, _SAID[use])


def _link_resolver(inventory: Inventory) -> Callable[[str], Iterable[str]]:
    """Return a function that names a path, every link on the way to it, and what it leads to."""
    links = {file.path: file.link for file in inventory.files if file.link}

    def resolve(path: str) -> Iterable[str]:
        yield path
        for _ in range(40):  # as many links as the kernel follows
            parts = path.split("/")
            prefix = next((p for n in range(1, len(parts) + 1) if (p := "/".join(parts[:n])) in links), None)
            if prefix is None:
                return
            yield prefix
            path = _join(prefix.rpartition("/")[0], links[prefix]) + path[len(prefix) :]
            yield path

    return resolve if links else lambda path: (path,)


def _join(folder: str, relative: str) -> str:
    parts = folder.split("/") if folder else []
    for part in relative.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _keep_pickled(draft: Draft, pickled: Iterable[tuple[str, str, str]]) -> None:
    names = modules.by_name(draft.files)
    for model, module, name in pickled:
        path = names.get(module)
        if path is not None:
            draft.keep(path, Reason.PICKLED, f"{model} names {module}.{name}", module)


def _keep_ruled(draft: Draft, trace: Trace, known_rules: Iterable[Rule]) -> None:
    imported = {m.name for m in trace.modules if not m.startup}
    loaded = imported | {name.rsplit(".", n)[0] for name in imported for n in range(1, name.count(".") + 1)}
    for rule in known_rules:
        if rule.when in loaded:
            for pattern in rule.files:
                for path in rules.matching(pattern, draft.files):
                    draft.keep(path, Reason.RULE, rule.because, rule.when)


def _keep_wished(draft: Draft, wishes: PlanRequest) -> None:
    names = modules.by_name(draft.files)
    for module in wishes.static_modules:
        if module in names:
            draft.keep(names[module], Reason.STATIC, "kept code could import it", "")
    for module in wishes.companions:
        if module in names:
            draft.keep(names[module], Reason.STATIC, "imported by a module that is kept although it did not run", "")
    for module in wishes.keep:
        if module in names:
            draft.keep(names[module], Reason.INCLUDED, f"--keep {module}")
    for pattern in wishes.include:
        for path in rules.matching(pattern, draft.files):
            draft.keep(path, Reason.INCLUDED, f"--include {pattern}")
    for path in sorted(wishes.repaired):
        draft.keep(path, Reason.REPAIRED, "the run on the layer alone asked for it")


# ---- what follows -------------------------------------------------------------------------------------------------


class _Needs:
    """Knows what installed files need: packages, link targets, shared libraries."""

    def __init__(self, inventory: Inventory, libraries: LibraryNeeds) -> None:
        self.resolve = _link_resolver(inventory)
        self._libraries = libraries
        self._inits = _inits(file.path for file in inventory.files)

    def close(self, draft: Draft) -> None:
        """Add what the kept files need, until nothing is added."""
        done: set[str] = set()
        while todo := sorted(draft.kept.keys() - done):
            done.update(todo)
            for path in todo:
                for target in self.resolve(path):
                    draft.keep(target, Reason.LINKED, f"{path} leads to it", path)
                    draft.keep(f"{target}/__init__.py", Reason.LINKED, f"{path} leads to it", path)
                folder = path.rpartition("/")[0]
                while folder:
                    for init in self._inits.get(folder, ()):
                        if init not in draft.stood_in:
                            draft.keep(init, Reason.PACKAGE, f"package of {path}", path)
                    folder = folder.rpartition("/")[0]
            for needed, by in self._libraries(path for path in todo if ".so" in path):
                draft.keep(needed, Reason.NEEDED, f"{by} is linked against it (DT_NEEDED)", by)


def _inits(files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in files:
        if modules.is_package(path) and modules.module_name(path):
            found.setdefault(path.rpartition("/")[0], []).append(path)
    return found


def _take_out(draft: Draft, wishes: PlanRequest) -> None:
    provided = {canonicalize_name(name) for name in wishes.provided}
    for path, file in draft.files.items():
        if file.distribution in provided:
            draft.drop(path, Reason.PROVIDED, f"--provided {file.distribution}")
        elif path in wishes.below and path not in wishes.repaired:
            draft.drop(path, Reason.PROVIDED, f"--base-layer {wishes.below[path]}")
    for pattern in wishes.exclude:
        for path in rules.matching(pattern, draft.files):
            draft.drop(path, Reason.EXCLUDED, f"--exclude {pattern}")


def _empty_folders(draft: Draft, trace: Trace, inventory: Inventory) -> tuple[str, ...]:
    """Return the folders that the run looked into or asked for and that no kept file makes.

    Without them a program that lists a folder of data would fail, though it uses none of the data.
    """
    made = folders_of(draft.kept)
    looked = {f.path for f in trace.files if f.uses & {Use.LIST, Use.STAT}}
    provided = {path for path, why in draft.dropped.items() if why.reason in (Reason.PROVIDED, Reason.EXCLUDED)}
    gone = folders_of(provided) - folders_of(draft.files.keys() - provided)
    return tuple(
        sorted(
            folder
            for folder in looked & inventory.folders
            # A top-level folder of its own could be imported: it would be a namespace package.
            if folder not in made and folder.split("/", 1)[0] in made and folder not in gone and not in_metadata(folder)
        )
    )


def _chains(draft: Draft, trace: Trace) -> tuple[TracedModule, ...]:
    """Return the modules of kept files and those that others stand in for, and all on the way from them to the entry."""
    by_name = {m.name: m for m in (*trace.asleep, *trace.modules)}
    wanted: dict[str, TracedModule] = {}
    todo = [m for m in by_name.values() if m.path in {*draft.kept, *draft.stood_in, *draft.asleep}]
    while todo:
        module = todo.pop()
        if module.name not in wanted:
            wanted[module.name] = module
            if module.importer in by_name:
                todo.append(by_name[module.importer])
    return tuple(m for m in by_name.values() if m.name in wanted)
