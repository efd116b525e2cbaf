"""A traced workload beside what is installed: all that a layer is decided from, and the decisions."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import (
    base_layers,
    comparison,
    copies,
    elf,
    environment,
    evidence,
    inventory,
    lambda_rules,
    merged_site,
    modules,
    pickles,
    planner,
    rules,
    static_imports,
    system_libraries,
)
from layer_minimizer.errors import UsageError
from layer_minimizer.model import (
    FINAL_REASONS,
    KeepPlan,
    Reason,
    Size,
    Trace,
    Use,
    Verdict,
)
from layer_minimizer.native.shrink import Cold, shared_by_copies
from layer_minimizer.observation import choose_observers
from layer_minimizer.opened_in_c import OpenedInC
from layer_minimizer.planner import Wishes
from layer_minimizer.reach import Reach, own_code
from layer_minimizer.saved import read_traces, unite, unwatched, with_stock
from layer_minimizer.settings import Clock, Settings

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model import Bundled, Decision, Interpreter, Inventory, NotExercised, Workload
    from layer_minimizer.observation import Observer

    StrPath = str | os.PathLike[str]

log = logging.getLogger(__name__)
# Reasons to keep a module that say nothing of what it imports.
_UNTRACED = (Reason.RULE, Reason.PICKLED, Reason.INCLUDED)


def _needed_to_run(statement: static_imports.ImportStatement) -> bool:
    """Say whether a module that is used will need an import: at once, or later from its own package."""
    own = statement.name.split(".")[0] == statement.importer.split(".")[0]
    return not statement.conditional and (own or not statement.function)


@dataclass(slots=True)
class Case:
    """A traced workload, and what is installed beside it: all that a plan is made from.

    ``below`` are the layers below this one in the same function. ``reach`` knows which distributions code names,
    ``aside`` are those among them that there is no room for; ``lays_out`` says that there is room for files that only
    code in C could open (``opened_in_c``). ``unwatched`` are libraries that a run has loaded without
    anybody watching their pages, ``differences`` those between the traces. ``sources`` tells where each installed file
    lies, by its path in the site, ``copies`` which libraries are copies of another one beside them.
    """

    trace: Trace
    interpreter: Interpreter
    inventory: Inventory
    pickled: tuple[tuple[str, str, str], ...]
    settings: Settings
    observers: tuple[Observer, ...]
    warnings: tuple[str, ...]
    clock: Clock
    target: lambda_rules.Target | None = None
    below: base_layers.BaseLayers = field(default_factory=base_layers.BaseLayers)
    reach: Reach | None = None
    aside: set[str] = field(default_factory=set)
    lays_out: bool = True
    unwatched: frozenset[str] = frozenset()
    differences: tuple[comparison.Difference, ...] = ()
    sources: dict[str, Path] = field(init=False)
    copies: dict[str, str] = field(init=False)
    opened_in_c: OpenedInC = field(init=False)

    def __post_init__(self) -> None:
        """Note once where the files lie: there are many, and it is asked for again for every library."""
        self.sources = {file.path: Path(file.source) for file in self.inventory.files}
        files = [file.path for file in self.inventory.files if elf.is_elf_name(file.path) and not file.link]
        self.copies = copies.of_libraries(files, self.sources)
        self.opened_in_c = OpenedInC(self.sources, self.copies, self.library_closure)

    def plan(self, repaired: frozenset[str] = frozenset()) -> KeepPlan:
        """Decide about every installed file; ``repaired`` are files that an attempt to verify has missed.

        Raises:
            PlanError: no sound decision is possible.
        """
        wishes = Wishes(
            include=self.settings.include,
            exclude=self.settings.exclude,
            provided=self.settings.provided,
            keep=self.settings.keep,
            cold=self.settings.cold is not Cold.DROP,
            repaired=repaired,
            below=self.below.provided,
        )
        plan = self._plan(wishes)
        if wishes.cold:
            wishes = replace(wishes, reachable=self._reachable(plan))
            plan = self._plan(wishes)
            if self.lays_out:
                wishes = replace(wishes, loadable=self.opened_in_c.files(plan))
                plan = self._plan(wishes)
        if companions := self._companions(plan):
            wishes = replace(wishes, companions=companions)
            plan = self._plan(wishes)
        if self.settings.closure == "static":
            reached = static_imports.closure(sorted(self._modules(plan, kept=True)), self._modules(plan))
            plan = self._plan(replace(wishes, static_modules=reached))
        return plan

    def _plan(self, wishes: Wishes) -> KeepPlan:
        return planner.plan(
            self.trace,
            self.inventory,
            # Who drops what the events did not need has said that there will be no other inputs.
            () if self.settings.cold is Cold.DROP else rules.load_rules(),
            wishes,
            pickled=self.pickled,
            library_needs=self.library_closure,
        )

    def _reachable(self, plan: KeepPlan) -> dict[str, str]:
        """Give the distributions that nothing touched and that the layer's code names, each with the file that does."""
        if self.reach is None:
            self.reach = Reach.of(self.inventory)
        named = self.reach.beyond(planner.used_distributions(plan), own_code(self.trace, self.interpreter.avoid))
        return {name: by for name, by in named.items() if name not in self.aside}

    def put_aside(self, plan: KeepPlan, shipped: Mapping[str, int], excess: int) -> bool:
        """Let the next plan be smaller than ``plan`` by what no event asked for; say whether there is any of that.

        The largest of the distributions that code merely names go first, until ``excess`` bytes are saved; ``shipped``
        are the bytes that each file has in the layer. If that is too little, what only C could open becomes cold.
        """
        merely = {d.distribution for d in plan.decisions if d.reason is Reason.REACHABLE}
        sizes = Counter[str]()
        for decision in plan.decisions:
            if decision.distribution in merely:
                sizes[decision.distribution] += shipped.get(decision.path, 0)
        for name, size in sizes.most_common():
            if excess > 0:
                self.aside.add(name)
                excess -= size
        if excess > 0:
            self.lays_out = False
        return bool(sizes) or any(d.reason is Reason.LOADABLE for d in plan.decisions)

    def library_closure(self, paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Give the installed libraries that ``paths`` need, each with one that needs it."""
        sources = self.sources
        return elf.library_closure(paths, lambda path: elf.read_dynamic(sources[path]), sources.__contains__)

    def obey_lambda(self, plan: KeepPlan) -> tuple[tuple[Bundled, ...], tuple[str, ...]]:
        """Give the libraries of this machine that the layer must bring because the runtime lacks them, and warnings.

        Raises:
            PackError: the layer would not work in the runtime.
        """
        if self.target is None:
            return (), ()
        target = lambda_rules.with_libraries(self.target, self.below.libraries)
        beside = {d.path for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason is Reason.PROVIDED}
        kept, cold = (
            lambda_rules.examine(target, self._libraries(decisions), beside.__contains__, self._system_library)
            for decisions in (plan.kept, plan.cold)
        )
        lambda_rules.refuse(target, kept)
        return kept.bundled, lambda_rules.warnings(target, kept, cold)

    def _libraries(self, decisions: Iterable[Decision]) -> Iterator[lambda_rules.Library]:
        """Give the shared libraries and programs among files, with what their headers say."""
        files = {file.path: file for file in self.inventory.files}
        loaded = {file.path for file in self.trace.files if Use.MAP in file.uses}
        if self.trace.libraries:
            # More exact: of a library that cannot be loaded, since something is missing, no page is touched.
            loaded = {library.path for library in self.trace.libraries if library.runs}
        for decision in decisions:
            file = files[decision.path]
            if not file.link and (elf.is_elf_name(file.path) or file.executable):
                found = _library(file.path, Path(file.source), file.distribution, loaded=file.path in loaded)
                if found:
                    yield found

    def _system_library(self, owner: lambda_rules.Library, name: str) -> lambda_rules.Library | None:
        """Give the library that the loader takes on this machine when ``owner`` needs ``name``."""
        source = self.sources.get(owner.path, Path(owner.path))
        for path in system_libraries.candidates(name, elf.own_folders(source, owner.dynamic)):
            found = _library(str(path), path)
            if found and found.dynamic.machine == owner.dynamic.machine:
                return found
        return None

    def _modules(self, plan: KeepPlan, *, kept: bool = False) -> dict[str, tuple[Path, bool]]:
        """Give the installed modules, or the kept ones, by name: their file, and whether they are packages."""
        sources = self.sources
        paths = [
            d.path for d in plan.decisions if (d.verdict is Verdict.KEPT if kept else d.reason not in FINAL_REASONS)
        ]
        return {name: (sources[path], modules.is_package(path)) for name, path in modules.by_name(paths).items()}

    def _companions(self, plan: KeepPlan) -> tuple[str, ...]:
        """Give what modules import that are kept although they did not run: of those the trace knows nothing."""
        traced: set[str] = set()
        untraced: set[str] = set()
        for decision in plan.kept:
            if name := modules.module_name(decision.path):
                (untraced if decision.reason in _UNTRACED else traced).add(name)
        available = {name: file for name, file in self._modules(plan).items() if name not in traced}
        return static_imports.closure(sorted(untraced), available, _needed_to_run)

    def hot_pages(self) -> dict[str, frozenset[int]]:
        """Give the touched pages of the libraries that may be shipped without the others, by path."""
        files = {file.path: file for file in self.inventory.files}
        # Pages of another build of a library mean nothing for this one.
        traced = [lib for lib in self.trace.libraries if lib.path in files and files[lib.path].size == lib.size]
        hot = shared_by_copies({lib.path: lib.pages() for lib in traced}, self.sources)
        if self.settings.cold is not Cold.DROP:
            return hot
        # A library that the run did not load is whole or useless: without a way back nothing of it may go.
        used = {file.path for file in self.trace.files}
        return {path: pages for path, pages in hot.items() if pages or path in used - self.unwatched}

    def not_exercised(self, plan: KeepPlan) -> tuple[NotExercised, ...]:
        """Give the modules that kept code could import and that are not in the layer."""
        kept = self._modules(plan, kept=True)
        source = {name: file for name, file in kept.items() if file[0].suffix == ".py"}
        return static_imports.not_exercised(static_imports.scan(source), self._modules(plan), kept)

    def widen(self, missed: Iterable[str], plan: KeepPlan, earlier: frozenset[str]) -> frozenset[str]:
        """Give what to put back when ``missed`` were missed, after ``earlier`` had been put back already.

        A missed module brings what it imports; a second miss in the same distribution brings all of it.
        """
        owner = {d.path: d.distribution for d in plan.decisions}
        ours = {path for path in missed if path not in self.below.provided}
        again = {owner[path] for path in earlier - self.below.provided.keys()} & {owner[path] for path in ours} - {""}
        available = self._modules(plan)
        names = [name for path in missed if (name := modules.module_name(path)) in available]
        files = {file: path for path, file in self.sources.items()}
        reached = {files[available[name][0]] for name in static_imports.closure(names, available)}
        whole = {path for path, name in owner.items() if name in again and path not in self.below.provided}
        return earlier | set(missed) | reached | whole

    def touched_but_dropped(self, plan: KeepPlan) -> set[str]:
        """Give the files that the trace saw used in some way and that the plan judged to be of no use."""
        used = {f.path for f in self.trace.files if f.uses - {Use.LIST}}
        return {
            d.path
            for d in plan.decisions
            if d.verdict is Verdict.DROPPED and d.path in used and d.reason not in FINAL_REASONS
        }

    @property
    def before(self) -> Size:
        """The size of the environment without what only installs packages."""
        files = [f for f in self.inventory.files if f.distribution not in inventory.INSTALLERS]
        names = {d.name for d in self.inventory.distributions} - inventory.INSTALLERS
        return Size(len(files), sum(f.size for f in files), len(names))


def _library(path: str, source: Path, distribution: str = "", *, loaded: bool = True) -> lambda_rules.Library | None:
    dynamic = elf.read_dynamic(source)
    if dynamic is None:
        return None
    size = source.stat().st_size
    return lambda_rules.Library(path, size, distribution, dynamic, elf.read_versions(source), loaded)


def prepare(
    source: Workload | None,
    traces: Iterable[StrPath],
    settings: Settings,
    scratch: Path,
) -> Case:
    """Trace ``source``, unite the trace with the saved ``traces``, and take stock of what is installed.

    Raises:
        MinimizeError: the workload does not run, or one of the inputs cannot be used.
    """
    clock = Clock()
    saved, seen, restored = read_traces(map(Path, traces))
    named = [_model_names(model) for model in (source.models if source else ())]
    interpreter = environment.describe(settings.python or sys.executable)
    target = lambda_rules.choose_target(settings.runtime, settings.architecture, interpreter)
    observers = choose_observers(settings.observe)
    warnings: list[str] = []
    interpreter, below = _above(settings.base_layers, interpreter, scratch / "base", clock)
    if source is not None:
        real = {*settings.keep, *restored.modules}
        own = evidence.gather(
            source,
            interpreter,
            observers,
            settings,
            scratch,
            real=real,
            below=below.provided,
            warnings=warnings,
            clock=clock,
        )
        saved.insert(0, ("this run", own))
    saved += [(name, told.trace(interpreter, scratch / f"seen{n}")) for n, (name, told) in enumerate(seen)]
    trace = unite(saved)
    if source is None:
        named = [_model_names(model) for model in trace.workload.models]
        if not trace.workload.entry.is_file():
            raise UsageError(f"{trace.workload.entry}, the traced entry, is gone; name it with --entry")
    installed = _same_version(trace, interpreter)
    with clock.stage("plan", "taking stock of what is installed"):
        stock = inventory.take_inventory(installed, trace.foreign)
        trace = restored.added_to(with_stock(trace, interpreter, stock), stock)
        misfits = tuple(comparison.misfits(saved[1:] if source else saved, stock, interpreter))
        owners = {file.path: file.distribution for file in stock.files}
        differences = comparison.compare(saved, owners) if len(saved) > 1 else ()
    for difference in differences:
        log.info("%s", difference)
    problems = [names.problem for _, names in named if names.problem]
    deprecated = lambda_rules.warn_of(target.runtime, datetime.now(UTC).date()) if target else ()
    outside = [f"{path} was imported from outside of the site and cannot go into a layer" for path in trace.unplaced]
    return Case(
        trace=trace,
        interpreter=interpreter,
        inventory=stock,
        pickled=tuple((model, *pair) for model, names in named for pair in names.globals),
        settings=settings,
        observers=observers,
        warnings=(*stock.warnings, *problems, *outside, *warnings, *misfits, *deprecated),
        clock=clock,
        target=target,
        below=below,
        unwatched=frozenset[str]().union(*(unwatched(each) for _, each in saved)),
        differences=differences,
    )


def _above(
    names: tuple[str, ...], interpreter: Interpreter, scratch: Path, clock: Clock
) -> tuple[Interpreter, base_layers.BaseLayers]:
    """Give an interpreter that sees the layers ``names`` and what is installed, as a function will see it."""
    if not names:
        return interpreter, base_layers.BaseLayers()
    with clock.stage("trace", f"merging what is installed with {', '.join(names)}"):
        below = base_layers.read(names, interpreter.folder, scratch)
        merged = merged_site.make(interpreter, below, scratch / "env")
    return merged.interpreter, replace(below, conflicts=(*below.conflicts, *merged.conflicts))


def _model_names(model: Path) -> tuple[str, pickles.PickledNames]:
    return model.name, pickles.named_globals(model)


def _same_version(trace: Trace, interpreter: Interpreter) -> Interpreter:
    if trace.python.split(".")[:2] != [str(part) for part in interpreter.version[:2]]:
        version = ".".join(map(str, interpreter.version))
        raise UsageError(f"the trace is of Python {trace.python}, and --python is {version}: name the same interpreter")
    return interpreter
