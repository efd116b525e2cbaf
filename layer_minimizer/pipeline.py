"""The whole way from a workload to a verified layer: trace, plan, pack, verify, learn, and again."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.aws import runtimes
from layer_minimizer.core.files import check_output, write_text
from layer_minimizer.core.progress import Clock
from layer_minimizer.core.workspace import Workspace
from layer_minimizer.environment import workload
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.environment.site import Python, Site, above
from layer_minimizer.execution.observed_run import choose_observers
from layer_minimizer.layer.archive import unzip
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.outcome import FunctionArchive, LayerArchive, Proof
from layer_minimizer.pack import budget
from layer_minimizer.pack.budget import Oversized
from layer_minimizer.pack.builder import Builder, Packed
from layer_minimizer.pack.function import PackedFunction, pack_function, select
from layer_minimizer.plan import compatibility, planning
from layer_minimizer.plan.compatibility import check_runtime_compatibility
from layer_minimizer.report.report import Report
from layer_minimizer.settings import Settings, choose
from layer_minimizer.trace.collect import collect_trace
from layer_minimizer.trace.saved_traces import read_traces
from layer_minimizer.verify import alone, import_times, place, repair
from layer_minimizer.verify.emulated import Emulation, Subject, check, verify_in_emulated_lambda
from layer_minimizer.verify.import_times import Timed

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from layer_minimizer.model import outcome
    from layer_minimizer.model.plan import KeepPlan, NotExercised
    from layer_minimizer.model.trace import Trace
    from layer_minimizer.model.traced import Traced
    from layer_minimizer.model.workload import Workload

    StrPath = str | os.PathLike[str]

# How often a layer has to work from which something cannot come back. Pages that only one start in four touches
# (addresses, and with them the places in hash tables, are random) stay unseen in one case of twenty.
RUNS = 10


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
    outputs = {"--output": output, "--save-trace": save_trace, "--save-plan": save_plan, "--function-zip": function_zip}
    for option, path in outputs.items():
        if path is not None:
            check_output(Path(path).absolute(), option)
    if chosen.verify == "lambda":
        check(_emulation(chosen))
    source = load(entry, handler=handler, models=models, events=events)
    with Workspace.open(output, function_zip) as workspace:
        traced, site = prepare(source, traces, chosen, workspace.scratch, workspace.clock)
        save(save_trace, traced.trace, "--save-trace")
        proven = prove(traced, site, chosen, workspace)
        emulated = emulate(proven, traced, site, chosen, workspace) if chosen.verify == "lambda" else None
        timed = time_imports(proven, traced, site, chosen, workspace) if chosen.time_imports else Timed()
        save(save_plan, proven.plan, "--save-plan")
        with workspace.clock.stage("plan", "looking for imports that the run did not exercise"):
            unseen = planning.not_exercised(proven.plan, site)
        workspace.commit()
    return _report(traced, site, chosen, workspace, proven, emulated=emulated, timed=timed, not_exercised=unseen)


def prove(traced: Traced, site: Site, settings: Settings, workspace: Workspace) -> Proven:
    """Plan, pack and verify; learn from each attempt until the layer gives the expected results.

    Raises:
        PlanError: no sound decision is possible.
        PackError: the layer cannot be written, is too large, or would not work in the runtime.
        VerifyError: it never gives the expected results.
    """
    lessons, function = Adjustments(), None
    target = compatibility.choose_target(settings.runtime, settings.architecture, site.interpreter)
    builder = Builder.of(traced, site, settings, workspace.layer, workspace.scratch / "build")
    while True:
        function = _function(lessons, function, traced, site, workspace)
        reserved = replace(function.reserved if function else budget.NOTHING_RESERVED, layers=site.base.base_bytes)
        with workspace.clock.stage("plan", "deciding about every file"):
            plan = planning.make(traced, site, settings, lessons)
        size = sum(decision.size for decision in plan.kept)
        with workspace.clock.stage("pack", f"packing {len(plan.kept):,} files, {size / 1e6:,.1f} MB"):
            required = check_runtime_compatibility(plan, traced.trace, site, target)
            packed = builder.pack(plan, lessons, required, reserved)
        if isinstance(packed, Oversized):
            lessons = budget.reduced(lessons, plan, packed, settings, reserved)
            continue
        runs = settings.runs or (RUNS if packed.final else 1)
        trial = _trial(traced, site, settings, function)
        attempt = _attempt(trial, plan, packed, workspace, runs=runs, until_missed=repair.is_repairable(lessons))
        if repair.is_proved(lessons, attempt):
            return Proven(plan, packed, attempt, lessons, runs, function)
        tried = _tried(plan, packed, function, trial, site, settings, workspace)
        lessons = repair.learned(lessons, attempt, tried)


@dataclass(frozen=True, slots=True)
class Proven:
    """A layer that gives the expected results: its plan, its zip, the last of ``runs`` runs on it, its function."""

    plan: KeepPlan
    packed: Packed
    attempt: alone.Attempt
    adjustments: Adjustments
    runs: int
    function: PackedFunction | None

    @property
    def proof(self) -> Proof:
        """What there is to report of it."""
        return Proof(
            events=self.attempt.events,
            repaired=tuple(sorted(self.adjustments.repaired)),
            isolated=self.attempt.isolated,
            runs=self.runs,
            cold_faults=self.attempt.cold_faults,
            shipped=self.packed.shipped,
            libraries=self.packed.reports,
            bundled=self.packed.bundled,
            warnings=self.packed.warnings,
        )


def prepare(
    source: Workload | None,
    traces: Iterable[StrPath],
    settings: Settings,
    scratch: Path,
    clock: Clock | None = None,
) -> tuple[Traced, Site]:
    """Trace ``source``, unite the trace with the saved ``traces``, and take stock of what is installed.

    Raises:
        MinimizeError: the workload does not run, or one of the inputs cannot be used.
    """
    clock, earlier = clock or Clock(), read_traces(map(Path, traces))
    interpreter = describe_interpreter(settings.python or sys.executable)
    compatibility.choose_target(settings.runtime, settings.architecture, interpreter)
    choose_observers(settings.observe)
    python = Python(interpreter)
    if settings.base_layers:
        with clock.stage("trace", f"merging what is installed with {', '.join(settings.base_layers)}"):
            python = above(interpreter, settings.base_layers, scratch / "base")
    return collect_trace(source, earlier, python, settings, scratch, clock)


def emulate(proven: Proven, traced: Traced, site: Site, settings: Settings, workspace: Workspace) -> outcome.Emulated:
    """Prove the layer in an emulated Lambda, too; what fails there is not repaired: the layer is not to blame.

    Raises:
        VerifyError: an event fails there.
    """
    how, entry = _emulation(settings), traced.trace.workload.entry
    if proven.function:
        how = replace(how, function=workspace.scratch / "lambda-task")
        unzip(proven.function.archive.path, workspace.scratch / "lambda-task")
    trial = _trial(traced, site, settings, proven.function)
    subject = Subject(
        trace=traced.trace,
        layer=proven.packed.archive.path,
        layout=settings.layout,
        version=site.interpreter.version,
        machine=site.interpreter.machine,
        timeout=settings.timeout,
        tolerance=settings.tolerance,
        base=site.base,
        interpreter=site.interpreter,
        provided=place.provided_sources(trial, proven.plan),
    )
    with workspace.clock.stage("verify", f"running {entry.name} in an emulated Lambda"):
        return verify_in_emulated_lambda(subject, how, workspace.scratch / "lambda")


def time_imports(proven: Proven, traced: Traced, site: Site, settings: Settings, workspace: Workspace) -> Timed:
    """Measure how long imports take in the full environment and on the layer; a warning says if that fails."""
    trial, scratch = _trial(traced, site, settings, proven.function), workspace.scratch
    with workspace.clock.stage("verify", f"timing the imports of {traced.trace.workload.entry.name}"):
        return import_times.measure(trial, proven.plan, proven.packed.archive, scratch / "timed", scratch / "bytecode")


def _emulation(settings: Settings) -> Emulation:
    """Return how Lambda is to be emulated."""
    return Emulation(settings.memory, settings.tmp_size, settings.engine, settings.verify_image, settings.emulator)


def _function(
    lessons: Adjustments, made: PackedFunction | None, traced: Traced, site: Site, workspace: Workspace
) -> PackedFunction | None:
    """Return the function's zip if there is to be one: the one that was ``made``, unless it has to have more."""
    if workspace.function is None or (made and made.whole == lessons.whole_function):
        return made
    scratch, avoid = workspace.scratch / "function", site.interpreter.avoid
    with workspace.clock.stage("pack", f"packing the function of {traced.trace.workload.entry.name}"):
        return pack_function(traced.trace, avoid, workspace.function, scratch, whole=lessons.whole_function)


def _trial(traced: Traced, site: Site, settings: Settings, function: PackedFunction | None) -> place.RunContext:
    return place.RunContext(
        trace=traced.trace,
        interpreter=site.interpreter,
        inventory=site.inventory,
        layout=settings.layout,
        observers=choose_observers(settings.observe),
        timeout=settings.timeout,
        tolerance=settings.tolerance,
        below=site.base,
        function=function.workload if function else None,
    )


def _attempt(  # noqa: PLR0913 - what is run, and how often
    trial: place.RunContext, plan: KeepPlan, packed: Packed, workspace: Workspace, *, runs: int, until_missed: bool
) -> alone.Attempt:
    """Run the workload on the layer alone."""
    often = f", {runs} times" if runs > 1 else ""
    what = f"running {trial.trace.workload.entry.name} on the layer alone{often}"
    scratch = workspace.scratch / "alone"
    with workspace.clock.stage("verify", what, expected=trial.trace.seconds * runs):
        return alone.try_out(trial, plan, packed.archive, scratch, runs=runs, until_missed=until_missed)


def _tried(  # noqa: PLR0913, PLR0917 - all that an attempt was made of
    plan: KeepPlan,
    packed: Packed,
    function: PackedFunction | None,
    trial: place.RunContext,
    site: Site,
    settings: Settings,
    workspace: Workspace,
) -> repair.Tried:
    """Return what there is to know of an attempt that failed."""

    def check_deterministic() -> None:
        what = "the result differs; running once more in the full environment"
        with workspace.clock.stage("verify", what):
            alone.check_deterministic(trial, workspace.scratch / "again")

    return repair.Tried(
        plan=plan,
        trace=trial.trace,
        settings=settings,
        provided=site.base.provided,
        libraries=packed.libraries,
        left_out=bool(function and function.left_out),
        imports=lambda paths: planning.imported_files(plan, site, paths),
        check_deterministic=check_deterministic,
    )


def load(
    entry: StrPath | None, *, handler: str, models: Iterable[StrPath], events: Iterable[StrPath]
) -> Workload | None:
    """Read the workload's files; None when there is no entry."""
    return workload.load_workload(entry, handler=handler, models=models, events=events) if entry else None


def save(file: StrPath | None, value: Trace | KeepPlan, option: str) -> None:
    """Write a trace or a plan as JSON, if an option names a file for it."""
    if file is not None:
        write_text(Path(file), json.dumps(value.to_json(), indent=1), option)


def _report(  # noqa: PLR0913 - what has come of the stages
    traced: Traced,
    site: Site,
    settings: Settings,
    workspace: Workspace,
    proven: Proven,
    *,
    emulated: outcome.Emulated | None,
    timed: Timed,
    not_exercised: tuple[NotExercised, ...],
) -> Report:
    """Return the report of a layer that is in its place."""
    (_, layer), *others = workspace.targets
    function = proven.function.finished(others[0][1]) if proven.function else None
    archive = proven.packed.archive
    own = select(traced.trace, site.interpreter.avoid).beside
    target = compatibility.choose_target(settings.runtime, settings.architecture, site.interpreter)
    warnings = [
        site.inventory.warnings,
        traced.warnings,
        runtimes.deprecation_warnings(target.runtime, datetime.now(UTC).date()) if target else (),
        timed.warnings,
        proven.packed.warnings,
        emulated.warnings if emulated else (),
        budget.upload_warnings(archive),
        _function_warnings(site, settings, archive, function, own),
    ]
    return Report(
        trace=traced.trace,
        plan=proven.plan,
        before=site.before,
        archive=replace(archive, path=layer),
        proof=proven.proof,
        not_exercised=not_exercised,
        warnings=tuple(warning for some in warnings for warning in some),
        seconds=workspace.clock.seconds,
        function=function,
        emulated=emulated,
        below=site.base,
        differences=traced.differences,
        limit=settings.budget.limit,
        imports=timed.times,
        function_bytes=function.archive.unzipped_bytes if function else own.total,
    )


def _function_warnings(
    site: Site, settings: Settings, archive: LayerArchive, function: FunctionArchive | None, own: budget.ReservedBytes
) -> tuple[str, ...]:
    """Say what stands in the way of the function: of its zip, or of what it will have to be."""
    if function:
        return budget.upload_warnings(function.archive, "the function: ")
    beside = replace(own, layers=site.base.base_bytes)
    if archive.unzipped_bytes + beside.total <= settings.budget.limit:
        return ()
    fits = budget.what_fits(settings.budget, archive.unzipped_bytes, beside)
    return (f"the layer leaves no room for all of the function ({beside} bytes): {fits}",)
