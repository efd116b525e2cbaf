"""Decides about every installed file. Pure: what it needs to know of a file's contents is handed in.

The order of evidence: what the run used, metadata that it asked for, names in the models, rules, static imports,
the user's own globs; then what all of these need (packages, shared libraries, link targets); then what is taken out
again because the user, another layer, or the lack of any real use says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.core.errors import PlanError
from layer_minimizer.model import modules
from layer_minimizer.model.installed import ALWAYS_METADATA, METADATA_FOLDERS, InstalledFile, Inventory
from layer_minimizer.model.plan import Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import Trace, TracedModule, TracedStandIn, Use
from layer_minimizer.plan import development_files, rules

if TYPE_CHECKING:
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
class _Because:
    reason: Reason
    evidence: str
    cause: str = ""


@dataclass(slots=True)
class _Draft:
    """The verdicts so far. The first reason for which a file is kept stands.

    ``stood_in`` are the modules that others stand in for, ``asleep`` those that only they would import, by their files.
    ``used_tests`` are folders of tests that the program itself uses.
    """

    files: dict[str, InstalledFile]
    stood_in: Mapping[str, TracedStandIn]
    asleep: Mapping[str, TracedModule]
    kept: dict[str, _Because] = field(default_factory=dict)
    dropped: dict[str, _Because] = field(default_factory=dict)
    used_tests: frozenset[str] = frozenset()

    def keep(self, path: str, reason: Reason, evidence: str, cause: str = "") -> None:
        if path in self.files:
            self.kept.setdefault(path, _Because(reason, evidence, cause))

    def drop(self, path: str, reason: Reason, evidence: str) -> None:
        self.kept.pop(path, None)
        self.dropped[path] = _Because(reason, evidence)

    def used(self) -> set[str]:
        """Give the distributions of which a kept file is more than metadata or a companion of Python's start."""
        kept = {path for path, why in self.kept.items() if why.reason is not Reason.STARTUP and not _in_metadata(path)}
        return {self.files[path].distribution for path in {*kept, *self.stood_in, *self.asleep}}


def plan(  # noqa: PLR0913 - each is one kind of evidence
    trace: Trace,
    inventory: Inventory,
    known_rules: Iterable[Rule],
    wishes: PlanRequest,
    *,
    pickled: Iterable[tuple[str, str, str]] = (),
    library_needs: LibraryNeeds,
) -> KeepPlan:
    """Give a verdict with a reason for every file of ``inventory``.

    ``pickled`` are (model, module, name) triples.

    Raises:
        PlanError: a glob or a distribution's name fits nothing, or nothing at all would be kept.
    """
    files = {file.path: file for file in inventory.files}
    draft = _Draft(
        files,
        stood_in={module.path: module for module in trace.stand_ins if module.path in files},
        asleep={module.path: module for module in trace.asleep if module.path in files},
    )
    _refuse_unknown(inventory, wishes)
    _keep_traced(draft, trace, inventory)
    _keep_pickled(draft, pickled)
    _keep_ruled(draft, trace, known_rules)
    for path in wishes.loadable:
        draft.keep(path, Reason.LOADABLE, "code in C could open it by its path")
    _close(draft, inventory, library_needs)
    _keep_metadata(draft, trace, inventory, wishes.reachable)
    _keep_startup(draft, trace, inventory)
    _keep_wished(draft, wishes)
    _close(draft, inventory, library_needs)
    _take_out(draft, wishes)
    if not draft.stood_in and not any(file.path in draft.kept for file in inventory.files):
        raise PlanError(f"{trace.workload.entry.name} uses no installed file: it needs no layer")
    warm = dict.fromkeys(draft.used(), "") if wishes.cold else {}
    warm = {**wishes.reachable, **warm}
    draft.used_tests = development_files.used_test_folders(draft.kept)
    importers = {module.name: module.importer for module in trace.modules}
    decisions = [_decision(file, draft, importers, warm) for file in inventory.files]
    shadow = _Because(Reason.SHADOWED, "a folder earlier on sys.path has a file of this name")
    decisions += [_verdict(file, Verdict.DROPPED, shadow) for file in inventory.shadowed]
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


def used_distributions(plan: KeepPlan) -> set[str]:
    """Give the distributions of which the run needed more than metadata."""
    idle = (Reason.METADATA, Reason.STARTUP)
    return {
        d.distribution
        for d in plan.decisions
        if d.reason in (Reason.STAND_IN, Reason.ASLEEP) or (d.verdict is Verdict.KEPT and d.reason not in idle)
    }


def _decision(file: InstalledFile, draft: _Draft, importers: Mapping[str, str], warm: Mapping[str, str]) -> Decision:
    """Give a file's verdict; if not kept it goes into the store where its owner is in ``warm``, for the reason there.

    An empty reason stands for the use of other files.
    """
    if file.path in draft.kept:
        return _verdict(file, Verdict.KEPT, draft.kept[file.path])
    if file.path in draft.dropped:
        return _verdict(file, Verdict.DROPPED, draft.dropped[file.path])
    stay = Verdict.COLD if file.distribution in warm and not file.link else Verdict.DROPPED
    why = _why_not_kept(file, draft, importers, warm.get(file.distribution))
    return _verdict(file, Verdict.DROPPED if why.reason is Reason.DEVELOPMENT else stay, why)


def _why_not_kept(
    file: InstalledFile, draft: _Draft, importers: Mapping[str, str], reachable_from: str | None
) -> _Because:
    path = file.path
    if path in draft.stood_in:
        said = "imported, and needed by nothing after that"
        return _Because(Reason.STAND_IN, said, importers.get(draft.stood_in[path].name, ""))
    if path in draft.asleep:
        by = draft.asleep[path].importer
        said = f"imported by {by} alone, which nothing needed" if by else "imported by what nothing needed"
        return _Because(Reason.ASLEEP, said, by)
    if development_files.is_for_development(file, draft.used_tests):
        return _Because(Reason.DEVELOPMENT, "only a compiler, a shell or a test runner reads it")
    if reachable_from:
        return _Because(Reason.REACHABLE, f"nothing asked for {file.distribution}, but {reachable_from}")
    if reachable_from is not None:
        return _Because(Reason.UNTOUCHED, "nothing asked for it, but for others of its distribution")
    return _Because(Reason.UNUSED, "nothing asked for it")


def _verdict(file: InstalledFile, verdict: Verdict, why: _Because) -> Decision:
    return Decision(file.path, file.size, file.distribution, verdict, why.reason, why.evidence, why.cause)


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


def _keep_traced(draft: _Draft, trace: Trace, inventory: Inventory) -> None:
    importers = {m.path: m for m in trace.modules if m.path}
    resolve = _link_resolver(inventory)
    skipped = _start_only(trace) | {pth.path for pth in inventory.pth} | set(draft.stood_in)
    for traced in trace.files:
        for path in resolve(traced.path):
            if path not in draft.files or path in skipped or _in_metadata(path):
                continue
            module = importers.get(traced.path)
            use = next(use for use in _SAID if use in traced.uses)
            if module is not None and module.importer:
                said = f"imported as {module.name} by {module.importer}, line {module.line}"
                draft.keep(path, Reason.TRACED, said, module.importer)
            else:
                draft.keep(path, Reason.TRACED, _SAID[use])


def _start_only(trace: Trace) -> set[str]:
    """Give the files of modules that only the interpreter's start imported."""
    start = {m.path for m in trace.modules if m.startup and m.path}
    return start - {m.path for m in trace.modules if not m.startup}


def _link_resolver(inventory: Inventory) -> Callable[[str], Iterable[str]]:
    """Give a function that names a path, every link on the way to it, and what it leads to."""
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


def _keep_pickled(draft: _Draft, pickled: Iterable[tuple[str, str, str]]) -> None:
    names = modules.by_name(draft.files)
    for model, module, name in pickled:
        path = names.get(module)
        if path is not None:
            draft.keep(path, Reason.PICKLED, f"{model} names {module}.{name}", module)


def _keep_ruled(draft: _Draft, trace: Trace, known_rules: Iterable[Rule]) -> None:
    imported = {m.name for m in trace.modules if not m.startup}
    loaded = imported | {name.rsplit(".", n)[0] for name in imported for n in range(1, name.count(".") + 1)}
    for rule in known_rules:
        if rule.when in loaded:
            for pattern in rule.files:
                for path in rules.matching(pattern, draft.files):
                    draft.keep(path, Reason.RULE, rule.because, rule.when)


def _keep_wished(draft: _Draft, wishes: PlanRequest) -> None:
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


def _keep_metadata(draft: _Draft, trace: Trace, inventory: Inventory, reachable: Collection[str]) -> None:
    """Keep metadata of distributions that the run asked for by name, and what it read of those that it used.

    ``entry_points()`` and ``distributions()`` read every distribution's files; that alone is no use of them.
    """
    asked = {m.distribution: m.asked_by for m in trace.metadata}
    used = draft.used()
    folders = {d.metadata: d for d in inventory.distributions}
    touched = {f.path for f in trace.files if f.uses & {Use.OPEN, Use.STAT}}
    for path in draft.files:
        owner = folders.get(path.split("/", 1)[0])
        if owner is None:
            continue
        name = path.rpartition("/")[2]
        wanted = path in touched or name in ALWAYS_METADATA or path == owner.metadata
        if owner.name in asked and wanted:
            asker = asked[owner.name]
            draft.keep(path, Reason.METADATA, f"{asker or 'the run'} asked for the distribution {owner.name}", asker)
        elif owner.name in used and path in touched:
            draft.keep(path, Reason.METADATA, f"the run read it, and uses {owner.name}")
        elif owner.name in reachable and path in touched:
            draft.keep(path, Reason.METADATA, f"the run read it, and {owner.name} is in the layer")
        elif path in touched:
            draft.drop(path, Reason.SCANNED, "read only because all installed distributions were listed")
    # A dist-info folder without METADATA would make importlib.metadata find a distribution without a name.
    present = {path.split("/", 1)[0] for path in draft.kept if path.split("/", 1)[0] in folders}
    for path in draft.files:
        if path.split("/", 1)[0] in present and path.rpartition("/")[2] in ALWAYS_METADATA:
            draft.keep(path, Reason.METADATA, "every distribution that can be found must say its name")


def _keep_startup(draft: _Draft, trace: Trace, inventory: Inventory) -> None:
    """Keep a ``.pth`` file, and what it imported, where its distribution is used; one that leads elsewhere never."""
    used = draft.used()
    editable = {d.name for d in inventory.distributions if d.editable}
    alive = _parents(draft.kept)
    for pth in inventory.pth:
        owner = draft.files[pth.path].distribution
        if owner in editable or (pth.leaves_site and not pth.folders):
            draft.drop(pth.path, Reason.IDLE, "it names folders of this machine; their packages are in the layer")
        elif (pth.runs_code and owner in used) or any(folder in alive for folder in pth.folders):
            draft.keep(pth.path, Reason.STARTUP, "read when Python starts, and its distribution is used")
        else:
            draft.drop(pth.path, Reason.IDLE, "read when Python starts, but nothing of its distribution is used")
    for path in _start_only(trace):
        if path in draft.files and path not in draft.kept:
            owner = draft.files[path].distribution
            if not owner or (owner in used and owner not in editable):
                draft.keep(path, Reason.STARTUP, "imported when Python starts")
            else:
                draft.drop(path, Reason.IDLE, "imported when Python starts, but nothing else of it is used")


def _parents(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


# ---- what follows -------------------------------------------------------------------------------------------------


def _close(draft: _Draft, inventory: Inventory, library_needs: LibraryNeeds) -> None:
    """Add what the kept files need, until nothing is added: packages, link targets, shared libraries."""
    resolve = _link_resolver(inventory)
    inits = _inits(draft.files)
    done: set[str] = set()
    while todo := sorted(draft.kept.keys() - done):
        done.update(todo)
        for path in todo:
            for target in resolve(path):
                draft.keep(target, Reason.LINKED, f"{path} leads to it", path)
                draft.keep(f"{target}/__init__.py", Reason.LINKED, f"{path} leads to it", path)
            folder = path.rpartition("/")[0]
            while folder:
                for init in inits.get(folder, ()):
                    if init in draft.stood_in:
                        continue
                    draft.keep(init, Reason.PACKAGE, f"package of {path}", path)
                folder = folder.rpartition("/")[0]
        for needed, by in library_needs(path for path in todo if ".so" in path):
            draft.keep(needed, Reason.NEEDED, f"{by} is linked against it (DT_NEEDED)", by)


def _inits(files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in files:
        if modules.is_package(path) and modules.module_name(path):
            found.setdefault(path.rpartition("/")[0], []).append(path)
    return found


def _take_out(draft: _Draft, wishes: PlanRequest) -> None:
    provided = {canonicalize_name(name) for name in wishes.provided}
    for path, file in draft.files.items():
        if file.distribution in provided:
            draft.drop(path, Reason.PROVIDED, f"--provided {file.distribution}")
        elif path in wishes.below and path not in wishes.repaired:
            draft.drop(path, Reason.PROVIDED, f"--base-layer {wishes.below[path]}")
    for pattern in wishes.exclude:
        for path in rules.matching(pattern, draft.files):
            draft.drop(path, Reason.EXCLUDED, f"--exclude {pattern}")


def _in_metadata(path: str) -> bool:
    return path.split("/", 1)[0].endswith(METADATA_FOLDERS)


def _empty_folders(draft: _Draft, trace: Trace, inventory: Inventory) -> tuple[str, ...]:
    """Give the folders that the run looked into or asked for and that no kept file makes.

    Without them a program that lists a folder of data would fail, though it uses none of the data.
    """
    made = _parents(draft.kept)
    looked = {f.path for f in trace.files if f.uses & {Use.LIST, Use.STAT}}
    provided = {path for path, why in draft.dropped.items() if why.reason in (Reason.PROVIDED, Reason.EXCLUDED)}
    gone = _parents(provided) - _parents(draft.files.keys() - provided)
    return tuple(
        sorted(
            folder
            for folder in looked & inventory.folders
            # A top-level folder of its own could be imported: it would be a namespace package.
            if folder not in made
            and folder.split("/", 1)[0] in made
            and folder not in gone
            and not _in_metadata(folder)
        )
    )


def _chains(draft: _Draft, trace: Trace) -> tuple[TracedModule, ...]:
    """Give the modules of kept files and those that others stand in for, and all on the way from them to the entry."""
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
