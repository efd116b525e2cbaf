"""All stages from a workload to a verified layer: trace, plan, pack, verify, learn, and again from the plan on."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.aws import runtimes
from layer_minimizer.core.files import check_output, write_text
from layer_minimizer.core.progress import Clock
from layer_minimizer.core.workspace import Workspace
from layer_minimizer.environment import workload
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.environment.site import Python, Site, with_base_layers
from layer_minimizer.execution.observed_run import choose_observers
from layer_minimizer.layer.archive import unzip
from layer_minimizer.pack import budget
from layer_minimizer.pack.budget import Budget, Oversized
from layer_minimizer.pack.builder import Builder, Packed
from layer_minimizer.pack.function import PackedFunction, pack_function, select
from layer_minimizer.plan import compatibility, planning
from layer_minimizer.plan.compatibility import check_runtime_compatibility
from layer_minimizer.plan.unusable import unusable_warnings
from layer_minimizer.report.cost import cost_of
from layer_minimizer.report.report import Report
from layer_minimizer.report.sbom import check_library, write_sbom
from layer_minimizer.settings import Settings, choose
from layer_minimizer.trace.collect import collect_trace
from layer_minimizer.trace.packages import with_packages
from layer_minimizer.trace.saved_traces import read_traces
from layer_minimizer.verify import alone, import_times, place, repair
from layer_minimizer.verify.emulated import Emulation, EmulationInput, check_emulation, verify_in_emulated_lambda
from layer_minimizer.verify.import_times import ImportTiming
from layer_minimizer.verify.products import Verified, Written, choose_product, size_warnings
from layer_minimizer.verify.verified_layer import VerifiedLayer

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from layer_minimizer.model import outcome
    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.model.plan import KeepPlan, NotExercised
    from layer_minimizer.model.trace import Trace
    from layer_minimizer.model.traced import Traced
    from layer_minimizer.model.workload import Workload
    from layer_minimizer.plan.compatibility import Target

    StrPath = str | os.PathLike[str]

log = logging.getLogger(__name__)
# How often a layer has to run successfully if some of its parts were dropped and cannot be restored. Which pages a run
# touches depends on chance, such as on addresses in hash tables: a page that one run in four touches is missed by ten
# runs in one case of twenty.
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
    sbom: StrPath | None = None,
    settings: Settings | None = None,
    **options: object,
) -> Report:
    """Write the smallest layer that still runs ``entry``, verified by running it on that layer; or what is made of it.

    Args:
        entry: a Lambda handler or a script; can be omitted if ``traces`` are given.
        output: the zip, folder or image to write; it is created only after it was verified.
        handler: the handler function's name; default ``handler``, else ``lambda_handler``.
        models: files that are copied next to the entry while it runs.
        events: JSON files, each one event, a list of events, or ``{"tests": [...]}``.
        traces: saved traces, merged with the one of ``entry``.
        save_trace: where to write the trace.
        save_plan: where to write the plan.
        function_zip: where to write the zip of the function: the entry, its local modules, files that it read, models.
        sbom: where to write the software bill of materials (CycloneDX JSON 1.6).
        settings: the options of the layer.
        options: single fields of `Settings`, which override ``settings``.

    Raises:
        MinimizeError: the subclass names the stage that failed, the message what to do.
    """
    settings = choose(settings, options)
    product = choose_product(settings, Path(output).absolute())
    product.check(Path(output).absolute())
    outputs = {"--save-trace": save_trace, "--save-plan": save_plan, "--function-zip": function_zip, "--sbom": sbom}
    for option, path in outputs.items():
        if path is not None:
            check_output(Path(path).absolute(), option)
    if sbom is not None:
        check_library()
    if settings.verify == "lambda":
        check_emulation(_emulation(settings))
    source = load(entry, handler=handler, models=models, events=events)
    with Workspace.open(output, function_zip, is_zip=product.is_zip, with_function=product.with_function) as workspace:
        settings = with_packages(settings)
        product = product.prepare(workspace, settings.python)
        traced, site = trace_workload(source, traces, settings, workspace.scratch, workspace.clock)
        save(save_trace, traced.trace, "--save-trace")
        layer = prove(traced, site, settings, workspace, product.target(site.interpreter))
        emulated = emulate(layer, traced, site, settings, workspace) if settings.verify == "lambda" else None
        timing = time_imports(layer, traced, site, settings, workspace) if settings.time_imports else ImportTiming()
        save(save_plan, layer.plan, "--save-plan")
        with workspace.clock.stage("plan", "looking for imports that the run did not exercise"):
            not_exercised = planning.not_exercised(layer.plan, site)
            unusable = unusable_warnings(layer.plan, site)  # reads files of an environment merged in the workspace
        written = product.write(Verified(layer.packed.archive, layer.function, traced.trace), workspace)
        if sbom is not None:
            name = Path(output).name
            write_sbom(Path(sbom), name, layer.packed.archive, layer.plan, layer.proof, site)
        reserved = select(traced.trace, site.interpreter.avoid).reserved
        workspace.commit()
    return _report(
        traced,
        site,
        settings,
        workspace,
        layer,
        written=written,
        reserved=replace(reserved, layers=site.base.base_bytes),
        emulated=emulated,
        timing=timing,
        not_exercised=not_exercised,
        unusable=unusable,
    )


def prove(
    traced: Traced, site: Site, settings: Settings, workspace: Workspace, target: Target | None = None
) -> VerifiedLayer:
    """Plan, pack and verify; learn from each attempt, until the layer gives the expected results.

    ``target`` is the platform that the layer is for, by default the runtime in the settings.

    Raises:
        PlanError: no installed file is used, or an option matches nothing.
        PackError: the layer cannot be written, is too large, or would not work in the runtime.
        VerifyError: no attempt gives the expected results.
    """
    adjustments, function = planning.first_adjustments(traced, site, settings), None
    target = target or compatibility.choose_target(settings.runtime, settings.architecture, site.interpreter)
    builder = Builder.of(traced, site, settings, workspace.layer, workspace.scratch / "build")
    while True:
        function = _pack_function(adjustments, function, traced, site, workspace)
        reserved = replace(function.reserved if function else budget.NOTHING_RESERVED, layers=site.base.base_bytes)
        with workspace.clock.stage("plan", "deciding about every file"):
            plan = planning.make_plan(traced, site, settings, adjustments)
        size = sum(decision.size for decision in plan.kept)
        with workspace.clock.stage("pack", f"packing {len(plan.kept):,} files, {size / 1e6:,.1f} MB"):
            required = check_runtime_compatibility(plan, traced.trace, site, target)
            packed = builder.pack(plan, adjustments, required, reserved)
        if isinstance(packed, Oversized):
            adjustments = budget.adjust_to_limit(adjustments, plan, packed, settings, reserved)
            continue
        runs = settings.runs or (RUNS if packed.lossy else 2 if packed.put_back else 1)
        context = _run_context(traced, site, settings, function)
        until_missed = repair.is_repairable(adjustments)
        attempt = _verify(context, plan, packed, workspace, runs=runs, until_missed=until_missed)
        if repair.is_verified(adjustments, attempt):
            return VerifiedLayer(plan, packed, attempt, adjustments, runs, function)
        failed = _failed_attempt(plan, packed, function, context, site, settings, workspace)
        adjustments = repair.learn(adjustments, attempt, failed)


def trace_workload(
    source: Workload | None,
    traces: Iterable[StrPath],
    settings: Settings,
    scratch: Path,
    clock: Clock | None = None,
) -> tuple[Traced, Site]:
    """Trace ``source``, merge the trace with the saved ``traces``, and list what is installed.

    Raises:
        MinimizeError: the workload does not run, or one of the inputs is not valid.
    """
    clock, saved = clock or Clock(), read_traces(map(Path, traces))
    interpreter = describe_interpreter(with_packages(settings).python)
    compatibility.choose_target(settings.runtime, settings.architecture, interpreter)
    choose_observers(settings.observe)
    python = Python(interpreter)
    if settings.base_layers:
        with clock.stage("trace", f"merging what is installed with {', '.join(settings.base_layers)}"):
            python = with_base_layers(interpreter, settings.base_layers, scratch / "base")
    return collect_trace(source, saved, python, settings, scratch, clock)


def emulate(
    layer: VerifiedLayer, traced: Traced, site: Site, settings: Settings, workspace: Workspace
) -> outcome.Emulated:
    """Verify the layer in emulated Lambda. Failures there are reported and not repaired: the layer is not their cause.

    Raises:
        VerifyError: an event fails in emulated Lambda.
    """
    emulation, entry = _emulation(settings), traced.trace.workload.entry
    if layer.function:
        emulation = replace(emulation, function=workspace.scratch / "lambda-task")
        unzip(layer.function.archive.path, workspace.scratch / "lambda-task")
    emulated = EmulationInput(
        trace=traced.trace,
        layer=layer.packed.archive.path,
        layout=settings.layout,
        version=site.interpreter.version,
        machine=site.interpreter.machine,
        timeout=settings.timeout,
        tolerance=settings.tolerance,
        base=site.base,
        interpreter=site.interpreter,
        provided=place.provided_sources(_run_context(traced, site, settings, layer.function), layer.plan),
    )
    with workspace.clock.stage("verify", f"running {entry.name} in an emulated Lambda"):
        return verify_in_emulated_lambda(emulated, emulation, workspace.scratch / "lambda")


def time_imports(
    layer: VerifiedLayer, traced: Traced, site: Site, settings: Settings, workspace: Workspace
) -> ImportTiming:
    """Measure how long imports take in the full environment and on the layer; return a warning if that fails."""
    context, scratch = _run_context(traced, site, settings, layer.function), workspace.scratch
    with workspace.clock.stage("verify", f"timing the imports of {traced.trace.workload.entry.name}"):
        return import_times.measure_imports(
            context, layer.plan, layer.packed.archive, scratch / "timed", scratch / "bytecode"
        )


def _emulation(settings: Settings) -> Emulation:
    """Return the options for emulated Lambda."""
    return Emulation(settings.memory, settings.tmp_size, settings.engine, settings.verify_image, settings.emulator)


def _pack_function(
    adjustments: Adjustments, previous: PackedFunction | None, traced: Traced, site: Site, workspace: Workspace
) -> PackedFunction | None:
    """Return the function's zip, if one is requested: the ``previous`` one, unless more files have to be added."""
    if workspace.function is None or (previous and previous.whole == adjustments.whole_function):
        return previous
    scratch, avoid = workspace.scratch / "function", site.interpreter.avoid
    with workspace.clock.stage("pack", f"packing the function of {traced.trace.workload.entry.name}"):
        return pack_function(traced.trace, avoid, workspace.function, scratch, whole=adjustments.whole_function)


def _run_context(traced: Traced, site: Site, settings: Settings, function: PackedFunction | None) -> place.RunContext:
    return place.RunContext(
        trace=traced.trace,
        interpreter=site.interpreter,
        inventory=site.inventory,
        layout=settings.layout,
        observers=choose_observers(settings.observe),
        timeout=settings.timeout,
        tolerance=settings.tolerance,
        base=site.base,
        function=function.workload if function else None,
    )


def _verify(  # noqa: PLR0913 - what is run, and how often
    context: place.RunContext, plan: KeepPlan, packed: Packed, workspace: Workspace, *, runs: int, until_missed: bool
) -> alone.Attempt:
    """Run the workload on the layer alone, once or several times."""
    times = f", {runs} times" if runs > 1 else ""
    what = f"running {context.trace.workload.entry.name} on the layer alone{times}"
    scratch = workspace.scratch / "alone"
    with workspace.clock.stage("verify", what, expected=context.trace.seconds * runs):
        attempt = alone.run_repeatedly(context, plan, packed.archive, scratch, runs=runs, until_missed=until_missed)
    log.debug("the run missed: %s", ", ".join(attempt.missed) or "nothing")
    if attempt.error:
        log.debug("the run failed: %s", attempt.error)
    return attempt


def _failed_attempt(  # noqa: PLR0913, PLR0917 - everything that the attempt consisted of
    plan: KeepPlan,
    packed: Packed,
    function: PackedFunction | None,
    context: place.RunContext,
    site: Site,
    settings: Settings,
    workspace: Workspace,
) -> repair.FailedAttempt:
    """Return the inputs of an attempt that failed, from which `repair.learn` decides what to add."""

    def check_deterministic() -> None:
        what = "the result differs; running once more in the full environment"
        with workspace.clock.stage("verify", what):
            alone.check_deterministic(context, workspace.scratch / "again")

    return repair.FailedAttempt(
        plan=plan,
        trace=context.trace,
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
    """Read the workload's files; return None if there is no entry."""
    return workload.load_workload(entry, handler=handler, models=models, events=events) if entry else None


def save(file: StrPath | None, value: Trace | KeepPlan, option: str) -> None:
    """Write a trace or a plan as JSON, if the option names a file."""
    if file is not None:
        write_text(Path(file), json.dumps(value.to_json(), indent=1), option)


def _report(  # noqa: PLR0913 - the results of the stages
    traced: Traced,
    site: Site,
    settings: Settings,
    workspace: Workspace,
    layer: VerifiedLayer,
    *,
    written: Written,
    reserved: budget.ReservedBytes,
    emulated: outcome.Emulated | None,
    timing: ImportTiming,
    not_exercised: tuple[NotExercised, ...],
    unusable: tuple[str, ...],
) -> Report:
    """Return the report of a layer that was moved to its destination."""
    (_, output), *_ = workspace.targets
    to = workspace.function_target
    function = layer.function.finished(to) if layer.function and to else None
    target = compatibility.choose_target(settings.runtime, settings.architecture, site.interpreter)
    warnings = [
        site.inventory.warnings,
        traced.warnings,
        runtimes.support_warnings(target.runtime, datetime.now(UTC).date()) if target else (),
        timing.warnings,
        layer.packed.warnings,
        unusable,
        emulated.warnings if emulated else (),
        size_warnings(settings, written, function, reserved),
    ]
    return Report(
        trace=traced.trace,
        plan=layer.plan,
        before=site.installed_size,
        archive=replace(written.archive, path=output),
        proof=layer.proof,
        not_exercised=not_exercised,
        warnings=tuple(warning for part in warnings for warning in part),
        seconds=workspace.clock.seconds,
        function=function,
        emulated=emulated,
        base_layers=site.base,
        differences=traced.differences,
        limit=Budget.of(settings).limit,
        imports=timing.times,
        cost=cost_of(timing.starts, settings, site.interpreter),
        search=traced.search,
        function_bytes=function.archive.unzipped_bytes if function else reserved.total - reserved.layers,
        image=written.image,
        format=settings.format,
        site=settings.layout.prefix(layer.plan.python),
        runtime=settings.runtime,
    )
