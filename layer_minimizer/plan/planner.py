"""Decide for every installed file whether it is kept, cold or dropped. The planner itself reads no files.

Evidence is applied in this order:

1. files that the run used, modules that are named in models;
2. metadata, and files that Python reads when it starts;
3. static imports, the user's ``--keep`` and ``--include``, files that a run on the layer missed;
4. files that are dropped: provided by another layer, or excluded by the user.

After steps 1 and 3, what the kept files need is added: packages, shared libraries, targets of links.

Some evidence is found by analyses of the draft: distributions that its code refers to, modules that it could import.
Each result is added at its step, and only the steps from there on are repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.core.errors import PlanError
from layer_minimizer.model import modules
from layer_minimizer.model.plan import KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import Trace, TracedModule, Use
from layer_minimizer.plan import globs, licenses
from layer_minimizer.plan.draft import Draft, Justification, decision_for, folders_of, in_metadata
from layer_minimizer.plan.metadata import keep_metadata, keep_startup, start_only

if TYPE_CHECKING:
    from layer_minimizer.model.installed import Inventory

# Returns the installed libraries that the given ones need, directly or indirectly, as pairs (needed, needed by).
LibraryNeeds = Callable[[Iterable[str]], Iterable[tuple[str, str]]]
_USES = {
    Use.OPEN: "read by the run",
    Use.TEXT: "its text was read by the run",
    Use.MAP: "loaded by the run as a shared library",
    Use.NATIVE: "code in C read it",
    Use.SPEC: "found as a module by the run",
    Use.STAT: "the run asked whether it exists",
    Use.LIST: "listed by the run",
}


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to keep and to drop in addition to what the trace shows; each field is an option or a kind of evidence.

    Attributes:
        include: globs of files to keep (``--include``).
        exclude: globs of files to drop (``--exclude``).
        keep: modules that must be importable (``--keep``).
        provided: distributions that another layer provides (``--provided``).
        static_modules: modules that kept code could import.
        cold: whether unused files of distributions in the layer go into its cold store.
        companions: modules that are imported by kept modules which did not run.
        reachable: unused distributions that go into the cold store, each with the evidence.
        repaired: files that earlier runs on the layer missed.
        base_files: files that the base layers provide, each with the name of its layer.
        copies: libraries that are copies of another one, each with the original: links to it in the layer.
        imported_tests: test folders whose packages import test modules.
        licenses: whether license texts and ``METADATA`` of what is in the layer are kept (``--licenses``).
        gpu: files for a GPU that are not shipped unless the run used them, each with the evidence.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    static_modules: tuple[str, ...] = ()
    cold: bool = False
    companions: tuple[str, ...] = ()
    reachable: Mapping[str, str] = field(default_factory=dict)
    repaired: frozenset[str] = frozenset()
    base_files: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    imported_tests: frozenset[str] = frozenset()
    licenses: bool = True
    gpu: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Analyses:
    """Functions that read installed files to find more evidence. An analysis that is None is skipped.

    Attributes:
        references: returns the unused distributions that used ones require or code refers to, with the evidence.
        companions: returns the modules that are imported by kept modules which did not run.
        static: returns all modules that kept modules could import.
    """

    references: Callable[[Draft], Mapping[str, str]] | None = None
    companions: Callable[[Draft], tuple[str, ...]] | None = None
    static: Callable[[Draft], tuple[str, ...]] | None = None


_NO_ANALYSES = Analyses()


def plan(  # noqa: PLR0913 - each is one kind of evidence
    trace: Trace,
    inventory: Inventory,
    request: PlanRequest,
    *,
    pickled: Iterable[tuple[str, str, str]] = (),
    library_needs: LibraryNeeds,
    analyses: Analyses = _NO_ANALYSES,
) -> KeepPlan:
    """Return the plan: a verdict with a reason for every file of ``inventory``.

    ``pickled`` has the names in models, as triples (model, module, name).

    Raises:
        PlanError: a glob, module or distribution that the user named matches nothing, or no file would be kept.
    """
    _reject_unknown_names(inventory, request)
    phases = _Phases(trace, inventory, _Dependencies(inventory, library_needs))
    return _to_plan(phases.draft(pickled, request, analyses), trace, inventory, request)


@dataclass(frozen=True, slots=True)
class _Phases:
    """Apply the evidence in order: each phase extends a copy of the previous draft, so that it can be repeated."""

    trace: Trace
    inventory: Inventory
    needs: _Dependencies

    def draft(self, pickled: Iterable[tuple[str, str, str]], request: PlanRequest, analyses: Analyses) -> Draft:
        """Return the draft with all evidence, including that of the analyses."""
        traced = self._with_traced(pickled)
        described = self._with_metadata(traced, request)
        draft = self._with_requests(described, request)
        if not draft.stand_ins and not draft.kept:
            raise PlanError(f"{self.trace.workload.entry.name} uses no installed file: it needs no layer")
        if analyses.references and (reachable := analyses.references(draft)):
            request = replace(request, reachable=reachable)
            described = self._with_metadata(traced, request)
            draft = self._with_requests(described, request)
        if analyses.companions and (companions := analyses.companions(draft)):
            request = replace(request, companions=companions)
            draft = self._with_requests(described, request)
        if analyses.static:
            draft = self._with_requests(described, replace(request, static_modules=analyses.static(draft)))
        return draft

    def _with_traced(self, pickled: Iterable[tuple[str, str, str]]) -> Draft:
        """Return a draft that keeps what the run used, what models name, and what that needs."""
        files = {file.path: file for file in self.inventory.files}
        draft = Draft(
            files,
            stand_ins={module.path: module for module in self.trace.stand_ins if module.path in files},
            asleep={module.path: module for module in self.trace.asleep if module.path in files},
        )
        _keep_traced(draft, self.trace, self.inventory, self.needs.resolve)
        _keep_pickled(draft, pickled)
        self.needs.keep_needed(draft)
        return draft

    def _with_metadata(self, traced: Draft, request: PlanRequest) -> Draft:
        """Return the draft with metadata and with files that Python reads when it starts."""
        draft = traced.copy()
        keep_metadata(draft, self.trace, self.inventory, request.reachable)
        keep_startup(draft, self.trace, self.inventory, request.reachable)
        return draft

    def _with_requests(self, described: Draft, request: PlanRequest) -> Draft:
        """Return the draft with what is requested and what that needs, without what is provided or excluded."""
        draft = described.copy()
        _keep_requested(draft, request)
        self.needs.keep_needed(draft)
        if request.cold:
            _keep_copies(draft, request.copies)
        _drop_unwanted(draft, request)
        if request.cold:
            draft.add_cold_owners(request.reachable)
            draft.imported_tests = request.imported_tests
        draft.gpu = request.gpu
        return draft


def _to_plan(draft: Draft, trace: Trace, inventory: Inventory, request: PlanRequest) -> KeepPlan:
    """Return the plan for a draft with all evidence."""
    decisions = [*draft.decisions({module.name: module.importer for module in trace.modules})]
    shadow = Justification(Reason.SHADOWED, "a folder earlier on sys.path has a file of this name")
    decisions += [decision_for(file, Verdict.DROPPED, shadow) for file in inventory.shadowed]
    decide = licenses.with_licenses if request.licenses else licenses.without_licenses
    decisions = decide(decisions, inventory)
    return KeepPlan(
        python=trace.python,
        decisions=tuple(decisions),
        folders=_empty_folders(draft, trace, inventory),
        chains=_chains(draft, trace),
        stand_ins=tuple(
            replace(module, table={})
            for path, module in draft.stand_ins.items()
            if path not in draft.kept.keys() | draft.dropped.keys()
        ),
    )


def _reject_unknown_names(inventory: Inventory, request: PlanRequest) -> None:
    names = {d.name for d in inventory.distributions}
    for name in request.provided:
        if canonicalize_name(name) not in names:
            raise PlanError(f"--provided {name}: no such distribution is installed; pip list shows their names")
    paths = [file.path for file in inventory.files]
    importable = modules.with_packages(modules.by_name(paths))
    for name in request.keep:
        if name not in importable and name.partition(".")[0] not in sys.stdlib_module_names:
            raise PlanError(f"--keep {name}: no installed module has that name; it takes names as in import statements")
    for option, patterns in (("--include", request.include), ("--exclude", request.exclude)):
        for pattern in patterns:
            if not globs.matching(pattern, paths):
                raise PlanError(
                    f"{option} {pattern} matches no installed file; patterns are relative to site-packages, "
                    "for instance 'PIL/*.py' or 'scipy/**'"
                )


# ---- evidence -----------------------------------------------------------------------------------------------------


def _keep_traced(draft: Draft, trace: Trace, inventory: Inventory, resolve: Callable[[str], Iterable[str]]) -> None:
    importers = {m.path: m for m in trace.modules if m.path}
    skipped = start_only(trace) | {pth.path for pth in inventory.pth} | set(draft.stand_ins)
    for traced in trace.files:
        for path in resolve(traced.path):
            if path not in draft.files or path in skipped or in_metadata(path):
                continue
            module = importers.get(traced.path)
            use = next(use for use in _USES if use in traced.uses)
            if module is not None and module.importer:
                evidence = f"imported as {module.name} by {module.importer}, line {module.line}"
                draft.keep(path, Reason.TRACED, evidence, module.importer)
            else:
                draft.keep(path, Reason.TRACED, _USES[use])


def _link_resolver(inventory: Inventory) -> Callable[[str], Iterable[str]]:
    """Return a function that yields a path, every symbolic link on the way to it, and its resolved targets."""
    links = {file.path: file.link for file in inventory.files if file.link}

    def resolve(path: str) -> Iterable[str]:
        yield path
        for _ in range(40):  # the kernel's limit
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


def _keep_requested(draft: Draft, request: PlanRequest) -> None:
    names = modules.by_name(draft.files)
    for module in request.static_modules:
        if module in names:
            draft.keep(names[module], Reason.STATIC, "kept code could import it", "")
    for module in request.companions:
        if module in names:
            draft.keep(names[module], Reason.STATIC, "imported by a module that is kept although it did not run", "")
    for module in request.keep:
        if module in names:
            draft.keep(names[module], Reason.INCLUDED, f"--keep {module}")
    for pattern in request.include:
        for path in globs.matching(pattern, draft.files):
            draft.keep(path, Reason.INCLUDED, f"--include {pattern}")
    for path in sorted(request.repaired):
        draft.keep(path, Reason.REPAIRED, "the run on the layer alone asked for it")


def _keep_copies(draft: Draft, copies: Mapping[str, str]) -> None:
    """Keep the copies of kept libraries: a link takes less space than a file in the cold store."""
    for path, original in copies.items():
        if original in draft.kept:
            draft.keep(path, Reason.LINKED, f"a copy of {original}, and a link to it in the layer", original)


# ---- dependencies -------------------------------------------------------------------------------------------------


class _Dependencies:
    """What installed files need: packages, targets of links, shared libraries."""

    def __init__(self, inventory: Inventory, libraries: LibraryNeeds) -> None:
        self.resolve = _link_resolver(inventory)
        self._libraries = libraries
        self._inits = _inits(file.path for file in inventory.files)

    def keep_needed(self, draft: Draft) -> None:
        """Keep what the kept files need, directly or indirectly."""
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
                        if init not in draft.stand_ins:
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


def _drop_unwanted(draft: Draft, request: PlanRequest) -> None:
    provided = {canonicalize_name(name) for name in request.provided}
    for path, file in draft.files.items():
        if file.distribution in provided:
            draft.drop(path, Reason.PROVIDED, f"--provided {file.distribution}")
        elif path in request.base_files and path not in request.repaired:
            draft.drop(path, Reason.PROVIDED, f"--base-layer {request.base_files[path]}")
    for pattern in request.exclude:
        for path in globs.matching(pattern, draft.files):
            draft.drop(path, Reason.EXCLUDED, f"--exclude {pattern}")


def _empty_folders(draft: Draft, trace: Trace, inventory: Inventory) -> tuple[str, ...]:
    """Return the folders that the run listed or looked up and that contain no kept file.

    Without them a program that lists a folder of data would fail, although it reads none of the data.
    """
    made = folders_of(draft.kept)
    looked = {f.path for f in trace.files if f.uses & {Use.LIST, Use.STAT}}
    provided = {path for path, why in draft.dropped.items() if why.reason in (Reason.PROVIDED, Reason.EXCLUDED)}
    gone = folders_of(provided) - folders_of(draft.files.keys() - provided)
    return tuple(
        sorted(
            folder
            for folder in looked & inventory.folders
            # An empty top-level folder could be imported as a namespace package.
            if folder not in made and folder.split("/", 1)[0] in made and folder not in gone and not in_metadata(folder)
        )
    )


def _chains(draft: Draft, trace: Trace) -> tuple[TracedModule, ...]:
    """Return the traced modules that are kept, replaced by stand-ins or asleep, and their importers up to the entry."""
    by_name = {m.name: m for m in (*trace.asleep, *trace.modules)}
    wanted: dict[str, TracedModule] = {}
    todo = [m for m in by_name.values() if m.path in {*draft.kept, *draft.stand_ins, *draft.asleep}]
    while todo:
        module = todo.pop()
        if module.name not in wanted:
            wanted[module.name] = module
            if module.importer in by_name:
                todo.append(by_name[module.importer])
    return tuple(m for m in by_name.values() if m.name in wanted)
