"""Make a plan from a trace and an environment: the planner, with the analyses that it needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf, imports
from layer_minimizer.environment import base_layers, inventory, site, system_libraries
from layer_minimizer.environment.site import shared_by_copies
from layer_minimizer.model import comparison, modules
from layer_minimizer.model.installed import Inventory, Size
from layer_minimizer.model.plan import FINAL_REASONS, Cold, Decision, KeepPlan, NotExercised, Reason, Verdict
from layer_minimizer.model.trace import Trace, Use
from layer_minimizer.plan import compatibility, planner, rules
from layer_minimizer.plan.c_opened_files import COpenedFiles
from layer_minimizer.plan.compatibility import read_library
from layer_minimizer.plan.planner import PlanRequest
from layer_minimizer.plan.references import DistributionReferences, own_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.core.progress import Clock
    from layer_minimizer.execution.observed_run import Observer
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.outcome import Bundled
    from layer_minimizer.settings import Settings

# Reasons to keep a module that say nothing of what it imports.
_UNTRACED = (Reason.RULE, Reason.PICKLED, Reason.INCLUDED)


def _needed_to_run(statement: imports.ImportStatement) -> bool:
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
    target: compatibility.Target | None = None
    below: base_layers.BaseLayers = field(default_factory=base_layers.BaseLayers)
    reach: DistributionReferences | None = None
    aside: set[str] = field(default_factory=set)
    lays_out: bool = True
    unwatched: frozenset[str] = frozenset()
    differences: tuple[comparison.Difference, ...] = ()
    sources: dict[str, Path] = field(init=False)
    copies: dict[str, str] = field(init=False)
    opened_in_c: COpenedFiles = field(init=False)

    def __post_init__(self) -> None:
        """Note once where the files lie: there are many, and it is asked for again for every library."""
        self.sources = {file.path: Path(file.source) for file in self.inventory.files}
        files = [file.path for file in self.inventory.files if elf.is_elf_name(file.path) and not file.link]
        self.copies = site.of_libraries(files, self.sources)
        self.opened_in_c = COpenedFiles(self.sources, self.copies, self.library_closure)

    def plan(self, repaired: frozenset[str] = frozenset()) -> KeepPlan:
        """Decide about every installed file; ``repaired`` are files that an attempt to verify has missed.

        Raises:
            PlanError: no sound decision is possible.
        """
        wishes = PlanRequest(
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
            reached = imports.closure(sorted(self._modules(plan, kept=True)), self._modules(plan))
            plan = self._plan(replace(wishes, static_modules=reached))
        return plan

    def _plan(self, wishes: PlanRequest) -> KeepPlan:
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
            self.reach = DistributionReferences.of(self.inventory)
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
        target = compatibility.with_libraries(self.target, self.below.libraries)
        beside = {d.path for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason is Reason.PROVIDED}
        kept, cold = (
            compatibility.examine(target, self._libraries(decisions), beside.__contains__, self._system_library)
            for decisions in (plan.kept, plan.cold)
        )
        compatibility.refuse_violations(target, kept)
        return kept.bundled, compatibility.compatibility_warnings(target, kept, cold)

    def _libraries(self, decisions: Iterable[Decision]) -> Iterator[compatibility.CheckedLibrary]:
        """Give the shared libraries and programs among files, with what their headers say."""
        files = {file.path: file for file in self.inventory.files}
        loaded = {file.path for file in self.trace.files if Use.MAP in file.uses}
        if self.trace.libraries:
            # More exact: of a library that cannot be loaded, since something is missing, no page is touched.
            loaded = {library.path for library in self.trace.libraries if library.runs}
        for decision in decisions:
            file = files[decision.path]
            if not file.link and (elf.is_elf_name(file.path) or file.executable):
                found = read_library(file.path, Path(file.source), file.distribution, loaded=file.path in loaded)
                if found:
                    yield found

    def _system_library(self, owner: compatibility.CheckedLibrary, name: str) -> compatibility.CheckedLibrary | None:
        """Give the library that the loader takes on this machine when ``owner`` needs ``name``."""
        source = self.sources.get(owner.path, Path(owner.path))
        for path in system_libraries.candidates(name, elf.own_folders(source, owner.dynamic)):
            found = read_library(str(path), path)
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
        return imports.closure(sorted(untraced), available, _needed_to_run)

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
        return imports.not_exercised(imports.scan(source), self._modules(plan), kept)

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
        reached = {files[available[name][0]] for name in imports.closure(names, available)}
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
