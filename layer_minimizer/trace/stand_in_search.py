"""Find the modules that a workload imports but does not need, so that stand-ins can replace them.

The first candidates are all modules of which no function ran while the events were handled. One run replaces them all.
Stand-ins that had to load their real module are removed and the rest is tried again, until a run needs no other real
module and returns the expected results. If a run fails, the groups of modules are tried by bisection.

The search is bounded by an amount of work that does not depend on how fast this machine is at the moment, so that equal
inputs result in equal layers. What each run has shown is cached: a search that a time limit ended is continued later.
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core import progress
from layer_minimizer.model import modules
from layer_minimizer.model.results import compare_results
from layer_minimizer.model.search import SearchResult, Trial
from layer_minimizer.trace.module_groups import without
from layer_minimizer.trace.search_cache import SearchCache
from layer_minimizer.trace.stand_in_tables import expected_submodules, with_members
from layer_minimizer.trace.tracer import Study, Tracer, mark_read_sources

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from layer_minimizer.model.trace import Trace, TracedModule

log = logging.getLogger(__name__)
# Each round removes stand-ins; more rounds than this have not been useful.
_MAX_ROUNDS = 12
# Used packages have many unused parts, most of them too small to be worth a run.
_MIN_PART_BYTES = 16 * 1024
_WORK_SHARE_OF_PARTS = 0.6
# The work of a run: about its seconds on an ordinary machine. It depends on what the handler imports, and on nothing
# that changes from run to run.
_WORK_PER_RUN, _WORK_PER_MODULE = 0.3, 0.004
# How the reason begins for which an import statement wakes a module of which another one of its group is real.
_WOKEN_BY_IMPORT = "for __spec__ "


@dataclass(slots=True)
class Search:
    """Searches for modules that stand-ins can replace, by running the workload with stand-ins.

    It has many fields because it holds the inputs of the search and its state between runs.

    ``tracer``: runs the workload.
    ``first``, ``study``: trace and study of a run without stand-ins.
    ``groups``: modules that are replaced together, by group name; half-replaced packages often break.
    ``tolerance``: permitted difference of numbers in the results, relative and absolute.
    ``scratch``: folder for the runs.
    ``work``: the limit for the work of all runs (see `_WORK_PER_RUN`); the final check may exceed it.
    ``seconds``: a time limit for the same, for machines that are much slower than expected.
    ``cache``: stores what each run has shown; None: nothing is stored.
    ``restores``: stand-ins can load the real module after deployment, when a package does something new.
    ``max_registry_bytes``: source size of modules that fill registries and are therefore not replaced.
    ``_also``, ``_bound``, ``_fills``, ``_environ``, ``_refused``, ``_complete``: its state; see `SearchResult`.
    ``_trials``: what each run has shown; ``_groups``: ``groups`` without the refused modules.
    """

    tracer: Tracer
    first: Trace
    study: Study
    groups: Mapping[str, frozenset[str]]
    tolerance: float
    scratch: Path
    work: float
    seconds: float
    cache: SearchCache | None = None
    restores: bool = True
    max_registry_bytes: int = 1_500_000
    _runs: int = 0
    _complete: bool = True
    _begun: float = field(default_factory=time.monotonic)
    _also: dict[str, list[str]] = field(default_factory=dict)
    _bound: dict[str, list[str]] = field(default_factory=dict)
    _fills: dict[str, list[str]] = field(default_factory=dict)
    _environ: dict[str, list[str]] = field(default_factory=dict)
    _refused: frozenset[str] = frozenset()
    _trials: dict[str, Trial] = field(default_factory=dict)
    _groups: Mapping[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with all modules of the groups."""
        self._groups = self.groups

    def find(self) -> SearchResult:
        """Return the groups that can be replaced together.

        Try whole packages first, then unused parts of used packages, then whole packages again: without those parts,
        more packages may be unused. Then check the result: modules whose import affects others, and modules that
        cannot be loaded later, are not replaced.
        """
        whole = [name for name in self._groups if "." not in name]
        parts = [name for name in self._groups if "." in name and self._bytes([name]) >= _MIN_PART_BYTES]
        good: frozenset[str] = frozenset()
        for together, share in ((whole, 1.0), (parts, _WORK_SHARE_OF_PARTS), (whole, 1.0)):
            good = self._extend(together, good, share)
        return self._result(self._check(good))

    def _result(self, groups: frozenset[str]) -> SearchResult:
        """Return the current state of the search for these groups."""
        state = (self._also, self._bound, self._fills, self._environ)
        also, bound, fills, environ = ({name: (*some,) for name, some in each.items()} for each in state)
        return SearchResult(groups, also, bound, fills, environ, self._refused, self._runs, self._complete)

    def _check(self, good: frozenset[str]) -> frozenset[str]:
        """Remove stand-ins of modules with import side effects; add stand-ins for submodules that packages need."""
        while good:
            good = self._with_submodules(good)
            self._fills, self._environ = {}, {}  # the check loads every module individually
            trial = self._try(good, check=True)
            self._environ = {name: list(variables) for name, variables in trial.environ}
            self._fills = {name: list(packages) for name, packages in trial.fills}
            self.max_registry_bytes = trial.remaining_bytes
            if not trial.same:
                log.warning(
                    "a run to check that replaced modules can be loaded later has failed: they are used unchecked"
                )
                return good
            unfit = {name for name, _ in trial.unfit} & self._modules(good)
            if not unfit:
                return good
            log.debug("not replaceable:\n  %s", _listed(trial.unfit))
            good = self._without(good, unfit)
        return good

    def _with_submodules(self, good: frozenset[str]) -> frozenset[str]:
        """Add the stand-ins for submodules that packages need."""
        while added := self._bind_submodules(self._try(good)):
            good = self._extend([name for name in self._groups if name in added], good, 1.0)
        return good

    def _without(self, good: frozenset[str], unfit: Collection[str]) -> frozenset[str]:
        """Return what of ``good`` still works if the ``unfit`` modules are real.

        Only these, and what they wake, are taken out of their groups: what imports something from a large package that
        became real as a whole would often wake, too.
        """
        good = self._refuse(good, unfit)
        for _ in range(_MAX_ROUNDS):  # as they are part of the check, no limit ends them
            trial = self._try(good) if good else None
            if trial is None or (trial.same and not trial.woken and not trial.implicit):
                return good
            log.debug("needs the real module:\n  %s", _listed(trial.woken))
            if trial.woken:
                good = self._refuse(good, _first_woken(trial))
            elif not trial.same or not self._import_all(trial):
                break
        return self._extend([name for name in self._groups if name in good], frozenset(), 1.0)

    def _refuse(self, good: frozenset[str], refused: Collection[str]) -> frozenset[str]:
        """Take modules out of their groups; return the groups that are left of ``good``.

        A stand-in whose real module imported one of them imports it, so that its effects are there from the start.
        """
        importers = {module.name: module.importer for module in self.first.modules}
        left = self._modules(good) - modules.with_packages(refused)
        for name in sorted(refused):
            if (importer := importers.get(name, "")) in left:
                self._import_with(importer, name)
        self._refused |= frozenset(refused)
        self._groups = without(self.groups, self._refused)
        return frozenset(name for name, members in self._groups.items() if members <= left)

    def _extend(self, names: list[str], good: frozenset[str], share: float) -> frozenset[str]:
        """Add as many groups of ``names`` to ``good`` as the limit allows.

        All at once; if that fails, without those that woke; if none of them did, by bisection.
        """
        waiting = [[name for name in names if name not in good]]
        begun = self._runs
        while waiting and self._may_go_on(share, begun):
            some = waiting.pop()
            tried, woken = self._settle(good.union(some), self._bytes(good)) if some else (None, frozenset())
            others = [name for name in some if not self._groups[name] & woken]
            if tried is not None:
                good = tried
            elif 0 < len(others) < len(some):
                waiting.append(others)
            elif len(some) > 1:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]
        return good

    def confirm(self, found: SearchResult, tracer: Tracer) -> Trace | None:
        """Run with these stand-ins and ``tracer``; return the trace, or None if a stand-in no longer works."""
        groups = without(self.groups, found.refused)
        found = replace(found, groups=found.groups & groups.keys())
        trace, study = self._run_with(found, tracer)
        if trace is None or study.woken or study.implicit:
            return None
        trace = mark_read_sources(trace) if tracer.bytecode else trace
        tables = with_members(self._tables(found), study.members, self.study.classes)
        return replace(
            trace,
            asleep=self._asleep(trace),
            stand_ins=tuple(
                replace(
                    module,
                    table=tables[module.name],
                    touched=study.touched.get(module.name, ()),
                    seconds=round(self.study.seconds.get(module.name, 0.0), 4),
                )
                for module in trace.stand_ins
            ),
        )

    def _asleep(self, trace: Trace) -> tuple[TracedModule, ...]:
        loaded = {module.name for module in trace.modules}
        return tuple(module for module in self.first.modules if module.path and module.name not in loaded)

    def _may_go_on(self, share: float, begun: int) -> bool:
        """Return whether this share of the work is left, or no run has followed on run ``begun``."""
        if time.monotonic() - self._begun >= self.seconds:
            self._complete = False
            return False
        work = self._runs * (_WORK_PER_RUN + _WORK_PER_MODULE * len(self.first.modules))
        return self._runs == begun or work < self.work * share

    def _modules(self, groups: Iterable[str]) -> frozenset[str]:
        return frozenset(name for group in groups for name in self._groups[group])

    def _bytes(self, groups: Iterable[str]) -> int:
        return sum(Path(self.study.tables[name]["file"]).stat().st_size for name in self._modules(groups))

    def _settle(self, chosen: frozenset[str], least: int) -> tuple[frozenset[str] | None, frozenset[str]]:
        """Remove woken stand-ins until a run wakes none; return the other groups, and the modules that woke.

        Return no groups if a run fails otherwise, or if fewer than ``least`` bytes are left: removing stand-ins on the
        way may cost more than the added groups gain.
        """
        all_woken: frozenset[str] = frozenset()
        for _ in range(_MAX_ROUNDS):
            if self._bytes(chosen) < least:
                break
            if not chosen:
                return chosen, all_woken
            trial = self._try(chosen)
            woken = frozenset(name for name, _ in trial.woken)
            all_woken |= woken
            if trial.same and not woken and not trial.implicit:
                return chosen, all_woken
            log.debug("needs the real module:\n  %s", _listed(trial.woken))
            left = frozenset(name for name in chosen if not self._groups[name] & woken)
            if not trial.same and left == chosen:
                break
            chosen = left
            if trial.same and not self._import_all(trial):
                break
        return None, all_woken

    def _bind_submodules(self, trial: Trial) -> set[str]:
        """Make stand-ins import the submodules that used packages would otherwise lack.

        Return the groups of these submodules, which must be replaced, too.
        """
        loaded, replaced = trial.loaded, trial.replaced
        group_of = {name: group for group, members in self._groups.items() for name in members}
        added = set()
        for package, names in expected_submodules(self.study.tables).items():
            # A package with a __getattr__ of its own imports them itself.
            if package in loaded - replaced and not self.study.tables[package]["dynamic"]:
                for name in (f"{package}.{last}" for last in names):
                    importer = self._importer(name, replaced) if name not in loaded and name in group_of else ""
                    if importer and name not in self._bound.setdefault(importer, []):
                        self._bound[importer].append(name)
                        added.add(group_of[name])
        return added

    def _importer(self, name: str, replaced: Collection[str]) -> str:
        """Return the stand-in whose real module imported ``name`` in the first run, directly or not; "" if none did."""
        importers = {module.name: module.importer for module in self.first.modules}
        visited = set()
        while name and name not in visited:
            visited.add(name)
            name = importers.get(name, "")
            if name in replaced:
                return name
        return ""

    def _import_all(self, trial: Trial) -> bool:
        """Make stand-ins import what is expected to be loaded; return False if there are none for some of it."""
        return all(self._import_with_stand_in(name, trial.replaced) for name in sorted(trial.implicit))

    def _import_with_stand_in(self, name: str, replaced: Collection[str]) -> bool:
        """Make the stand-in whose real module imported ``name`` import it; return False if there is none."""
        importer = self._importer(name, replaced)
        if not importer:
            log.debug("%s is expected to be loaded, but no stand-in's module imported it", name)
            return False
        self._import_with(importer, name)
        return True

    def _import_with(self, importer: str, name: str) -> None:
        """Make the stand-in of ``importer`` import another module."""
        listed = self._also.setdefault(importer, [])
        if name not in listed:
            listed.append(name)

    def _tables(self, found: SearchResult) -> dict[str, Mapping[str, Any]]:
        tables: dict[str, Mapping[str, Any]] = {}
        groups = without(self.groups, found.refused)
        replaced = {name for group in found.groups for name in groups[group]}
        for group in sorted(found.groups):
            for name in sorted(groups[group]):
                bound = [other for other in found.bound.get(name, ()) if other in replaced]
                table = {key: value for key, value in self.study.tables[name].items() if key != "file"}
                more = (("fills", found.fills), ("environ", found.environ))
                effects = {key: [*some[name]] for key, some in more if name in some}
                tables[name] = {**table, **effects, "group": group, "also": [*found.also.get(name, ()), *bound]}
        return tables

    def _try(self, chosen: frozenset[str], *, check: bool = False) -> Trial:
        """Run with stand-ins for these groups and the current state of the search, if no earlier search has done it."""
        found = self._result(chosen)
        name = SearchCache.trial_name(self._tables(found), check, self._registry_limit(check=check))
        if name in self._trials:
            return self._trials[name]
        self._runs += 1
        known = self.cache.read_trial(name) if self.cache else None
        if known is None:
            known = self._run_trial(found, check=check)
            if self.cache:
                self.cache.write_trial(known, name)
        self._trials[name] = known
        return known

    def _run_trial(self, found: SearchResult, *, check: bool) -> Trial:
        trace, study = self._run_with(found, self.tracer, check=check)
        return Trial(
            same=trace is not None,
            replaced=frozenset(module.name for module in trace.stand_ins) if trace else frozenset(),
            loaded=frozenset(module.name for module in trace.modules) if trace else frozenset(),
            woken=tuple(sorted(study.woken.items())),
            implicit=study.implicit,
            unfit=tuple(sorted(study.unfit.items())),
            fills=tuple(sorted((name, tuple(packages)) for name, packages in study.fills.items())),
            environ=tuple(sorted(study.environ.items())),
            remaining_bytes=study.remaining_bytes,
        )

    def _registry_limit(self, *, check: bool) -> int | None:
        return self.max_registry_bytes if check and self.restores else None

    def _run_with(self, found: SearchResult, tracer: Tracer, *, check: bool = False) -> tuple[Trace | None, Study]:
        """Run with stand-ins; the trace is None if the run fails or returns other results."""
        tables = self._tables(found)
        progress.note(f"run {self._runs}, with stand-ins for {len(tables):,} modules")
        folder = self.scratch / "run"
        try:
            trace, study = tracer.trace_with_stand_ins(
                self.first.workload,
                folder / "run",
                tables,
                expected=expected_submodules(self.study.tables),
                study=self.study,
                modules_only=tracer is self.tracer,  # only of the run that confirms the files are of interest
                check=check,
                max_registry_bytes=self._registry_limit(check=check),
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if trace is None:
            return None, study
        actual = {result.event: result.value for result in trace.named_results()}
        if differing := compare_results(self.first.named_results(), actual, self.tolerance):
            log.debug("with stand-ins for %d modules: %s", len(tables), "; ".join(map(str, differing)))
            return None, study
        return trace, study


def _first_woken(trial: Trial) -> frozenset[str]:
    """Return the modules that woke for themselves; all, if every one woke because another one of its group did."""
    own = frozenset(name for name, reason in trial.woken if not reason.startswith(_WOKEN_BY_IMPORT))
    return own or frozenset(name for name, _ in trial.woken)


def _listed(reasons: Iterable[tuple[str, str]]) -> str:
    return "\n  ".join(f"{name} {reason}" for name, reason in reasons)
