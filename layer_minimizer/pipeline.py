"""The whole way from a workload to a verified layer: trace, plan, pack, verify, and again where a file was missed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import emulator, packager, verifier, workload
from layer_minimizer.builder import Builder
from layer_minimizer.case import Case, prepare, read_saved
from layer_minimizer.errors import PackError, VerifyError
from layer_minimizer.explain import explain
from layer_minimizer.function import FunctionZip, select
from layer_minimizer.model import KeepPlan, Proof
from layer_minimizer.report import Report
from layer_minimizer.settings import Settings, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.model import FunctionArchive, LayerArchive, Trace, Workload

    StrPath = str | os.PathLike[str]

log = logging.getLogger(__name__)
# Every round puts back more than the one before: the missed files, then their static closure, then distributions.
_ROUNDS = 8


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
    packager.check_output(target)
    for option, path in (("--save-trace", save_trace), ("--save-plan", save_plan), ("--function-zip", function_zip)):
        if path is not None:
            packager.check_output(Path(path).absolute(), option)
    if chosen.verify == "lambda":
        emulator.check(_emulation(chosen))
    source = load(entry, handler=handler, models=models, events=events)
    with scratch_folder() as scratch:
        case = prepare(source, traces, chosen, scratch)
        _save(save_trace, case.trace, "--save-trace")
        return _minimize(case, target, scratch, save_plan, Path(function_zip).absolute() if function_zip else None)


def load(
    entry: StrPath | None, *, handler: str, models: Iterable[StrPath], events: Iterable[StrPath]
) -> Workload | None:
    """Read the workload's files; None when there is no entry."""
    return workload.load_workload(entry, handler=handler, models=models, events=events) if entry else None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for everything that is written on the way; it is gone afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-", ignore_cleanup_errors=True) as folder:
        yield Path(os.path.realpath(folder))


def read_plan(file: Path) -> KeepPlan:
    """Read a plan that was saved with ``--save-plan``.

    Raises:
        UsageError: it cannot be read, or is no plan.
    """
    return read_saved(file, "--plan", KeepPlan.from_json)


def _write_json(file: Path, data: object, option: str) -> None:
    try:
        with packager.unfinished(file.absolute()) as part:
            part.write_text(json.dumps(data, indent=1), "utf-8")
            part.replace(file)
    except OSError as exc:
        raise PackError(f"{option} {file}: {exc.strerror}") from exc


def _save(file: StrPath | None, value: Trace | KeepPlan, option: str) -> None:
    if file is not None:
        _write_json(Path(file), value.to_json(), option)


def write_report(report: Report, file: Path) -> None:
    """Write the report's JSON into ``file``.

    Raises:
        PackError: it cannot be written.
    """
    _write_json(file, report.to_json(), "--report-json")


def explain_case(
    source: Workload | None,
    traces: Iterable[StrPath],
    settings: Settings,
    subject: str,
    save_plan: StrPath | None = None,
) -> str:
    """Trace and plan, and answer why ``subject`` would be kept or dropped; nothing is packed.

    Raises:
        MinimizeError: as `minimize`.
    """
    with scratch_folder() as scratch:
        plan = prepare(source, traces, settings, scratch).plan()
        _save(save_plan, plan, "--save-plan")
        return explain(plan, subject)


def save_stages(
    source: Workload | None,
    traces: Iterable[StrPath],
    settings: Settings,
    save_trace: StrPath | None,
    save_plan: StrPath | None,
) -> None:
    """Trace, and plan if wanted, and save them; nothing is packed.

    Raises:
        MinimizeError: as `minimize`.
    """
    with scratch_folder() as scratch:
        case = prepare(source, traces, settings, scratch)
        _save(save_trace, case.trace, "--save-trace")
        if save_plan is not None:
            _save(save_plan, case.plan(), "--save-plan")


def _minimize(
    case: Case, target: Path, scratch: Path, save_plan: StrPath | None, function_target: Path | None
) -> Report:
    with ExitStack() as stack:
        part = stack.enter_context(packager.unfinished(target))
        beside = None
        if function_target:
            with case.clock.stage("pack", f"packing the function of {case.trace.workload.entry.name}"):
                function_part = stack.enter_context(packager.unfinished(function_target))
                beside = FunctionZip(case.trace, case.interpreter.avoid, function_part, scratch / "function")
        proving = _Proving.of(case, part, scratch, beside)
        plan, archive, proof = proving.prove()
        emulated = proving.emulate(plan, archive) if case.settings.verify == "lambda" else None
        _save(save_plan, plan, "--save-plan")
        with case.clock.stage("plan", "looking for imports that the run did not exercise"):
            unseen = case.not_exercised(plan)
        function = None
        if beside and function_target:
            _put_in_place(function_part, function_target)
            function = replace(beside.finished, archive=replace(beside.archive, path=function_target))
        _put_in_place(part, target)
    warnings = (*case.warnings, *proof.warnings, *(emulated.warnings if emulated else ()))
    return Report(
        trace=case.trace,
        plan=plan,
        before=case.before,
        archive=replace(archive, path=target),
        proof=proof,
        not_exercised=unseen,
        warnings=(*warnings, *packager.upload_warnings(archive), *_function_warnings(case, archive, function)),
        seconds=case.clock.seconds,
        function=function,
        emulated=emulated,
        below=case.below,
    )


def _put_in_place(part: Path, target: Path) -> None:
    try:
        part.replace(target)
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc


def _function_warnings(case: Case, archive: LayerArchive, function: FunctionArchive | None) -> tuple[str, ...]:
    """Say what stands in the way of the function: of its zip, or of what it will have to be."""
    if function:
        return packager.upload_warnings(function.archive, "the function: ")
    beside = replace(select(case.trace, case.interpreter.avoid).beside, layers=case.below.base_bytes)
    budget = case.settings.budget
    if archive.unzipped_bytes + beside.total <= budget.limit:
        return ()
    fits = packager.what_fits(budget, archive.unzipped_bytes, beside)
    return (f"the layer leaves no room for all of the function ({beside} bytes): {fits}",)


def _emulation(chosen: Settings) -> emulator.Emulation:
    return emulator.Emulation(chosen.memory, chosen.tmp_size, chosen.engine, chosen.verify_image, chosen.emulator)


@dataclass(slots=True)
class _Proving:
    """A layer on its way: planned, packed, run, and repaired until a run on it alone gives the expected results.

    ``repaired`` are the files that such a run has missed; ``steady`` says that the workload was found to give the same
    results twice in the full environment.
    """

    case: Case
    part: Path
    scratch: Path
    function: FunctionZip | None
    building: Builder
    trial: verifier.Trial
    repaired: frozenset[str] = frozenset()
    steady: bool = False

    @classmethod
    def of(cls, case: Case, part: Path, scratch: Path, function: FunctionZip | None) -> _Proving:
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
            plan, archive, attempt = self._attempt(f"verify{left}")
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
        how, scratch = _emulation(self.case.settings), self.scratch / "lambda"
        if self.function:
            how = replace(how, function=self.scratch / "lambda-task")
            packager.unzip(self.function.archive.path, self.scratch / "lambda-task")
        with self.case.clock.stage("verify", f"running {self.case.trace.workload.entry.name} in an emulated Lambda"):
            return emulator.verify(self.trial, plan, archive, how, scratch)

    def _attempt(self, name: str) -> tuple[KeepPlan, LayerArchive, verifier.Attempt]:
        self.building.beside = packager.Beside(layers=self.case.below.base_bytes)
        if self.function:
            self.building.beside = replace(self.function.function.beside, layers=self.case.below.base_bytes)
            self.trial = replace(self.trial, function=self.function.workload)
        clock = self.case.clock
        with clock.stage("plan", "deciding about every file"):
            plan = self.case.plan(self.repaired)
        size = sum(d.size for d in plan.kept)
        with clock.stage("pack", f"packing {len(plan.kept):,} files, {size / 1e6:,.1f} MB"):
            archive = self.building.build(plan, self.part)
        with clock.stage("verify", f"running {self.case.trace.workload.entry.name} on the layer alone"):
            attempt = verifier.attempt(self.trial, plan, archive, self.scratch / name)
            shutil.rmtree(self.scratch / name, ignore_errors=True)
        return plan, archive, attempt

    def _proof(self, attempt: verifier.Attempt) -> Proof:
        building = self.building
        return Proof(
            events=attempt.events,
            mismatches=0,
            repaired=tuple(sorted(self.repaired)),
            isolated=attempt.isolated,
            seconds=attempt.seconds,
            cold_faults=attempt.cold_faults,
            shipped=dict(building.shipped),
            libraries=tuple(building.shrinker.reports.values()) if building.shrinker else (),
            bundled=building.bundled,
            warnings=building.warnings,
        )

    def _give_back(self, attempt: verifier.Attempt, plan: KeepPlan) -> bool:
        """Give back what was left out of files that are there, where that may be why the run failed."""
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
