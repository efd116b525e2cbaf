"""The whole way from a workload to a verified layer: trace, plan, pack, verify, learn, and again."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis import pickles
from layer_minimizer.aws import runtimes
from layer_minimizer.core.errors import MinimizeError, UsageError, VerifyError
from layer_minimizer.core.files import check_output, put_in_place, scratch_folder, unfinished, write_text
from layer_minimizer.core.progress import Clock
from layer_minimizer.environment import base_layers, inventory, merged_site, workload
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.execution.observed_run import choose_observers
from layer_minimizer.layer.archive import unzip
from layer_minimizer.model.outcome import FunctionArchive, ImportTimes, LayerArchive, Proof
from layer_minimizer.model.trace import Trace, unwatched
from layer_minimizer.pack.budget import ReservedBytes, upload_warnings, what_fits
from layer_minimizer.pack.builder import Builder
from layer_minimizer.pack.function import FunctionZip, select
from layer_minimizer.plan import compatibility
from layer_minimizer.plan.planning import Case
from layer_minimizer.report.report import Report
from layer_minimizer.settings import Settings, choose
from layer_minimizer.trace import collect, comparison
from layer_minimizer.trace.saved_traces import merge_saved, read_traces, with_stock
from layer_minimizer.verify import alone, import_times, place
from layer_minimizer.verify.emulated import Emulation, check, verify
from layer_minimizer.verify.repair import left_out_on_purpose, refuse_nondeterministic

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from layer_minimizer.model import outcome
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.plan import KeepPlan
    from layer_minimizer.model.workload import Workload

    StrPath = str | os.PathLike[str]

log = logging.getLogger(__name__)


def minimize(  # noqa: PLR0913 - these are the command's options, by keyword only
    *,
    entry: StrPath | None = None,
    output: StrPath,
    handler: str = "",
    models: Iterable[StrPath] = (),
    events: Iterable[StrPath] = (),
    traces: Iterable[StrPath] = (),
    save_trace: StrPath | None = None,
    save_plan: StrPath | None = None,
    function_zip: StrPath | None = None,
    settings: Settings | None = None,
    **options: object,
) -> Report:
    """Write the smallest layer that still runs ``entry``, and prove that it does.

    Args:
        entry: a Lambda handler or a script; may be left away when ``traces`` are given.
        output: the zip file to write; it appears only once it is verified.
        handler: the handler function's name; default ``handler``, else ``lambda_handler``.
        models: files that lie beside the entry while it runs.
        events: JSON files, each one event, a list of events, or ``{"tests": [...]}``.
        traces: saved traces, united with the one of ``entry``.
        save_trace: where to write the trace.
        save_plan: where to write the plan.
        function_zip: where to write the function's own zip: the entry, its local modules, what it read, its models.
        settings: how to make the layer.
        options: single fields of `Settings`, which win over ``settings``.

    Raises:
        MinimizeError: one of its subclasses says which stage failed and what to do.
    """
    chosen = choose(settings, options)
    target = Path(output).absolute()
    check_output(target)
    for option, path in (("--save-trace", save_trace), ("--save-plan", save_plan), ("--function-zip", function_zip)):
        if path is not None:
            check_output(Path(path).absolute(), option)
    if chosen.verify == "lambda":
        check(emulation(chosen))
    source = load(entry, handler=handler, models=models, events=events)
    with scratch_folder() as scratch:
        case = prepare(source, traces, chosen, scratch)
        save(save_trace, case.trace, "--save-trace")
        return _minimize(case, target, scratch, save_plan, Path(function_zip).absolute() if function_zip else None)


def load(
    entry: StrPath | None, *, handler: str, models: Iterable[StrPath], events: Iterable[StrPath]
) -> Workload | None:
    """Read the workload's files; None when there is no entry."""
    return workload.load_workload(entry, handler=handler, models=models, events=events) if entry else None


def save(file: StrPath | None, value: Trace | KeepPlan, option: str) -> None:
    """Write a trace or a plan as JSON, if an option names a file for it."""
    if file is not None:
        write_text(Path(file), json.dumps(value.to_json(), indent=1), option)


def _minimize(
    case: Case, target: Path, scratch: Path, save_plan: StrPath | None, function_target: Path | None
) -> Report:
    with ExitStack() as stack:
        part = stack.enter_context(unfinished(target))
        beside = None
        if function_target:
            with case.clock.stage("pack", f"packing the function of {case.trace.workload.entry.name}"):
                function_part = stack.enter_context(unfinished(function_target))
                beside = FunctionZip(case.trace, case.interpreter.avoid, function_part, scratch / "function")
        proving = Proving.of(case, part, scratch, beside)
        plan, archive, proof = proving.prove()
        emulated = proving.emulate(plan, archive) if case.settings.verify == "lambda" else None
        times = proving.time_imports(plan, archive) if case.settings.time_imports else None
        save(save_plan, plan, "--save-plan")
        with case.clock.stage("plan", "looking for imports that the run did not exercise"):
            unseen = case.not_exercised(plan)
        function = None
        if beside and function_target:
            put_in_place(function_part, function_target)
            function = replace(beside.finished, archive=replace(beside.archive, path=function_target))
        put_in_place(part, target)
    own = select(case.trace, case.interpreter.avoid).beside
    warnings = (*case.warnings, *proof.warnings, *(emulated.warnings if emulated else ()))
    return Report(
        trace=case.trace,
        plan=plan,
        before=case.before,
        archive=replace(archive, path=target),
        proof=proof,
        not_exercised=unseen,
        warnings=(*warnings, *upload_warnings(archive), *_function_warnings(case, archive, function, own)),
        seconds=case.clock.seconds,
        function=function,
        emulated=emulated,
        below=case.below,
        differences=case.differences,
        limit=case.settings.budget.limit,
        imports=times,
        function_bytes=function.archive.unzipped_bytes if function else own.total,
    )


def _function_warnings(
    case: Case, archive: LayerArchive, function: FunctionArchive | None, own: ReservedBytes
) -> tuple[str, ...]:
    """Say what stands in the way of the function: of its zip, or of what it will have to be."""
    if function:
        return upload_warnings(function.archive, "the function: ")
    beside = replace(own, layers=case.below.base_bytes)
    budget = case.settings.budget
    if archive.unzipped_bytes + beside.total <= budget.limit:
        return ()
    fits = what_fits(budget, archive.unzipped_bytes, beside)
    return (f"the layer leaves no room for all of the function ({beside} bytes): {fits}",)


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
    interpreter = describe_interpreter(settings.python or sys.executable)
    target = compatibility.choose_target(settings.runtime, settings.architecture, interpreter)
    observers = choose_observers(settings.observe)
    warnings: list[str] = []
    interpreter, below = _above(settings.base_layers, interpreter, scratch / "base", clock)
    if source is not None:
        real = {*settings.keep, *restored.modules}
        own = collect.collect_trace(
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
    trace = merge_saved(saved)
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
        differences = comparison.compare_traces(saved, owners) if len(saved) > 1 else ()
    for difference in differences:
        log.info("%s", difference)
    problems = [names.problem for _, names in named if names.problem]
    deprecated = runtimes.deprecation_warnings(target.runtime, datetime.now(UTC).date()) if target else ()
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


# Every round puts back more than the one before: the missed files, then their static closure, then distributions.
_ROUNDS = 8
# How often a layer has to work from which something cannot come back. Pages that only one start in four touches
# (addresses, and with them the places in hash tables, are random) stay unseen in one case of twenty.
RUNS = 10


def emulation(chosen: Settings) -> Emulation:
    """Give how Lambda is to be emulated."""
    return Emulation(chosen.memory, chosen.tmp_size, chosen.engine, chosen.verify_image, chosen.emulator)


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
    trial: place.RunContext
    repaired: frozenset[str] = frozenset()
    steady: bool = False
    runs: int = 1

    @classmethod
    def of(cls, case: Case, part: Path, scratch: Path, function: FunctionZip | None) -> Proving:
        """Begin with a case, and its function's zip if there is to be one."""
        building = Builder.of(case, scratch / "build")
        trial = place.RunContext(
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

    def emulate(self, plan: KeepPlan, archive: LayerArchive) -> outcome.Emulated:
        """Prove the layer in an emulated Lambda, too; what fails there is not repaired: the layer is not to blame.

        Raises:
            VerifyError: an event fails there.
        """
        how, scratch = emulation(self.case.settings), self.scratch / "lambda"
        if self.function:
            how = replace(how, function=self.scratch / "lambda-task")
            unzip(self.function.archive.path, self.scratch / "lambda-task")
        with self.case.clock.stage("verify", f"running {self.case.trace.workload.entry.name} in an emulated Lambda"):
            return verify(self.trial, plan, archive, how, scratch)

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

    def _attempt(self, left: int) -> tuple[KeepPlan, LayerArchive, alone.Attempt]:
        self.building.beside = ReservedBytes(layers=self.case.below.base_bytes)
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
            for attempt in itertools.islice(alone.attempts(self.trial, plan, archive, scratch), self.runs):
                if (attempt.missed and left) or not attempt.succeeded:
                    break
            shutil.rmtree(scratch, ignore_errors=True)
        return plan, archive, attempt

    def _proof(self, attempt: alone.Attempt) -> Proof:
        building = self.building
        return Proof(
            events=attempt.events,
            repaired=tuple(sorted(self.repaired)),
            isolated=attempt.isolated,
            runs=self.runs,
            cold_faults=attempt.cold_faults,
            shipped=dict(building.shipped),
            libraries=tuple(building.shrinker.reports.values()) if building.shrinker else (),
            bundled=building.bundled,
            warnings=building.warnings,
        )

    def _give_back(self, attempt: alone.Attempt, plan: KeepPlan) -> bool:
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

    def _put_back(self, plan: KeepPlan, attempt: alone.Attempt) -> None:
        """Let the next plan keep more files, or give up.

        Raises:
            VerifyError: there is nothing more to keep.
        """
        case = self.case
        more = set(case.widen(attempt.missed, plan, self.repaired)) - {d.path for d in plan.kept}
        if not more and not self.steady:
            self.steady = True
            with case.clock.stage("verify", "the result differs; running once more in the full environment"):
                refuse_nondeterministic(self.trial, self.scratch / "again")
            more = case.touched_but_dropped(plan) - self.repaired
        if not more:
            raise VerifyError(attempt.explain() + left_out_on_purpose(case.settings))
        log.info("putting back %d files that the run on the layer asked for", len(more))
        log.debug("put back:\n  %s", "\n  ".join(sorted(more)))
        self.repaired |= more
