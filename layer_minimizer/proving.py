"""Makes a layer and proves it, and puts back what its own run asks for until it gives the expected results."""

from __future__ import annotations

import itertools
import logging
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer import emulator, import_times, packager, verifier
from layer_minimizer.builder import Builder
from layer_minimizer.errors import MinimizeError, VerifyError
from layer_minimizer.model import Proof

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.case import Case
    from layer_minimizer.function import FunctionZip
    from layer_minimizer.model import ImportTimes, KeepPlan, LayerArchive
    from layer_minimizer.settings import Settings

log = logging.getLogger(__name__)
# Every round puts back more than the one before: the missed files, then their static closure, then distributions.
_ROUNDS = 8
# How often a layer has to work from which something cannot come back. Pages that only one start in four touches
# (addresses, and with them the places in hash tables, are random) stay unseen in one case of twenty.
RUNS = 10


def emulation(chosen: Settings) -> emulator.Emulation:
    """Give how Lambda is to be emulated."""
    return emulator.Emulation(chosen.memory, chosen.tmp_size, chosen.engine, chosen.verify_image, chosen.emulator)


@dataclass(slots=True)
class Proving:
    """A layer on its way: planned, packed, run, and repaired until a run on it alone gives the expected results.

    ``repaired`` are the files that such a run has missed; ``steady`` says that the workload was found to give the same
    results twice in the full environment; ``runs`` is how often the last layer was to work.
    """

    case: Case
    part: Path
    scratch: Path
    function: FunctionZip | None
    building: Builder
    trial: verifier.Trial
    repaired: frozenset[str] = frozenset()
    steady: bool = False
    runs: int = 1

    @classmethod
    def of(cls, case: Case, part: Path, scratch: Path, function: FunctionZip | None) -> Proving:
        """Begin with a case, and its function's zip if there is to be one."""
        building = Builder.of(case, scratch / "build")
        trial = verifier.Trial(
            case.trace,
            case.interpreter,
            case.inventory,
            case.settings.layout,
            case.observers,
            case.settings.timeout,
            case.settings.tolerance,
            case.below,
        )
        return cls(case, part, scratch, function, building, trial)

    def prove(self) -> tuple[KeepPlan, LayerArchive, Proof]:
        """Plan, pack and verify; put back what the layer's own run asked for, until it gives the expected results.

        Raises:
            VerifyError: it never does.
        """
        for left in reversed(range(_ROUNDS)):
            plan, archive, attempt = self._attempt(left)
            while more := self.building.give_pages(attempt.lacking):
                log.info("a run touched pages that the traced run had not; more is shipped of %s", ", ".join(more))
                plan, archive, attempt = self._attempt(left)
            log.debug("the run missed: %s; %s", ", ".join(attempt.missed), attempt.error)
            # A run that asks for something else each time, and does well without, is not followed for ever.
            if attempt.succeeded and not (attempt.missed and left):
                return plan, archive, self._proof(attempt)
            if not self._give_back(attempt, plan):
                self._put_back(plan, attempt)
        raise VerifyError(f"after {_ROUNDS} rounds of putting files back: {attempt.explain()}")

    def emulate(self, plan: KeepPlan, archive: LayerArchive) -> emulator.Emulated:
        """Prove the layer in an emulated Lambda, too; what fails there is not repaired: the layer is not to blame.

        Raises:
            VerifyError: an event fails there.
        """
        how, scratch = emulation(self.case.settings), self.scratch / "lambda"
        if self.function:
            how = replace(how, function=self.scratch / "lambda-task")
            packager.unzip(self.function.archive.path, self.scratch / "lambda-task")
        with self.case.clock.stage("verify", f"running {self.case.trace.workload.entry.name} in an emulated Lambda"):
            return emulator.verify(self.trial, plan, archive, how, scratch)

    def time_imports(self, plan: KeepPlan, archive: LayerArchive) -> ImportTimes | None:
        """Measure how long imports take in the full environment and on the layer; None, and a warning, if it fails."""
        case, scratch = self.case, self.scratch / "timed"
        bytecode = self.scratch / "bytecode"
        try:
            with case.clock.stage("verify", f"timing the imports of {case.trace.workload.entry.name}"):
                return import_times.measure(self.trial, plan, archive, scratch, bytecode if bytecode.is_dir() else None)
        except MinimizeError as exc:
            # The layer is proved, and worth more than its times.
            warning = f"imports were not timed: {exc}"
            log.warning("%s", warning)
            case.warnings += (warning,)
            return None

    def _attempt(self, left: int) -> tuple[KeepPlan, LayerArchive, verifier.Attempt]:
        self.building.beside = packager.Beside(layers=self.case.below.base_bytes)
        if self.function:
            self.building.beside = replace(self.function.function.beside, layers=self.case.below.base_bytes)
            self.trial = replace(self.trial, function=self.function.workload)
        clock = self.case.clock
        archive = None
        while archive is None:
            with clock.stage("plan", "deciding about every file"):
                plan = self.case.plan(self.repaired)
            size = sum(d.size for d in plan.kept)
            with clock.stage("pack", f"packing {len(plan.kept):,} files, {size / 1e6:,.1f} MB"):
                archive = self.building.build(plan, self.part)
        self.runs = self.case.settings.runs or (RUNS if self.building.final else 1)
        often = f", {self.runs} times" if self.runs > 1 else ""
        running = f"running {self.case.trace.workload.entry.name} on the layer alone{often}"
        with clock.stage("verify", running, expected=self.case.trace.seconds * self.runs):
            scratch = self.scratch / "alone"
            for attempt in itertools.islice(verifier.attempts(self.trial, plan, archive, scratch), self.runs):
                if (attempt.missed and left) or not attempt.succeeded:
                    break
            shutil.rmtree(scratch, ignore_errors=True)
        return plan, archive, attempt

    def _proof(self, attempt: verifier.Attempt) -> Proof:
        building = self.building
        return Proof(
            events=attempt.events,
            mismatches=0,
            repaired=tuple(sorted(self.repaired)),
            isolated=attempt.isolated,
            runs=self.runs,
            seconds=attempt.seconds,
            cold_faults=attempt.cold_faults,
            shipped=dict(building.shipped),
            libraries=tuple(building.shrinker.reports.values()) if building.shrinker else (),
            bundled=building.bundled,
            warnings=building.warnings,
        )

    def _give_back(self, attempt: verifier.Attempt, plan: KeepPlan) -> bool:
        """Give back what was left out of modules that are there, where that may be why the run failed."""
        building = self.building
        if attempt.error and building.documented is not None:
            building.give_docstrings(attempt.error)
            which = "all" if building.documented is None else ", ".join(sorted(building.documented))
            log.warning("without docstrings the entry does not run: those of %s stay", which)
            return True
        if attempt.missed or attempt.succeeded:
            return False
        if attempt.error and self.case.settings.bytecode == "auto" and not building.sources:
            # Somebody may have read the text of a module.
            building.give_sources(attempt.error, [d.path for d in plan.kept if d.path.endswith(".py")])
            return True
        if self.function and not self.function.whole and self.function.give_all():
            log.warning("with the files that it used alone the function does not work: all of its folder goes in")
            return True
        return False

    def _put_back(self, plan: KeepPlan, attempt: verifier.Attempt) -> None:
        """Let the next plan keep more files, or give up.

        Raises:
            VerifyError: there is nothing more to keep.
        """
        case = self.case
        more = set(case.widen(attempt.missed, plan, self.repaired)) - {d.path for d in plan.kept}
        if not more and not self.steady:
            self.steady = True
            with case.clock.stage("verify", "the result differs; running once more in the full environment"):
                _refuse_unsteady(self.trial, self.scratch / "again")
            more = case.touched_but_dropped(plan) - self.repaired
        if not more:
            raise VerifyError(attempt.explain() + _left_out_on_purpose(case.settings))
        log.info("putting back %d files that the run on the layer asked for", len(more))
        log.debug("put back:\n  %s", "\n  ".join(sorted(more)))
        self.repaired |= more


def _left_out_on_purpose(settings: Settings) -> str:
    names = {"exclude": "exclude", "provided": "provided", "base_layers": "base-layer"}
    options = [f"--{option} {value}" for name, option in names.items() for value in getattr(settings, name)]
    return f"\nNothing is put back against {', '.join(options)}: is it needed after all?" if options else ""


def _refuse_unsteady(trial: verifier.Trial, scratch: Path) -> None:
    """Tell a workload that never gives the same result twice from a layer that does not work.

    Raises:
        VerifyError: the workload is nondeterministic.
    """
    differing = verifier.differing_again(trial, scratch)
    if differing:
        listed = "\n  ".join(map(str, differing))
        raise VerifyError(
            "the entry is nondeterministic: run twice in the full environment it gave different results, so that no "
            f"layer can be proved right by them:\n  {listed}\n"
            "Seed its random numbers, leave times and ids out of its result, or allow for noise with --tolerance"
        )
