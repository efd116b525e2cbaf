"""``minimize`` without a command: make one layer, explain a decision, or save single stages."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer import pipeline
from layer_minimizer.cli import display, session
from layer_minimizer.cli.project import missing_entry
from layer_minimizer.container.run import check_local, minimize_in_container
from layer_minimizer.core import files
from layer_minimizer.core.errors import UsageError
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.plan import KeepPlan
from layer_minimizer.plan import planning
from layer_minimizer.report.explain import explain
from layer_minimizer.report.files import REPORT_FILES, write_report, write_report_folder

if TYPE_CHECKING:
    from layer_minimizer.model.workload import Workload
    from layer_minimizer.report.report import Report
    from layer_minimizer.settings import Messages, Request


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one job: what to print, and the exit code of the command in the container, if there was one."""

    output: Report | str
    exit_code: int = 0


def run(options: Request, messages: Messages, layer: str = "") -> Result:
    """Do what one request asks for, here or in a container; ``layer`` is the layer's name in the settings file.

    Raises:
        MinimizeError: as `pipeline.minimize` and `minimize_in_container`.
    """
    outputs = options.outputs
    if not (options.inputs.entry or options.inputs.traces or outputs.plan):
        raise UsageError(missing_entry(Path(os.path.curdir)))
    with session.cleaned_up(map(Path, _written_files(options))):
        if outputs.report and outputs.makes_layer:
            files.check_folder(Path(outputs.report).absolute(), "--report", new_levels=2 if layer else 1)
        if outputs.report:
            options = replace(options, settings=replace(options.settings, time_imports=True))
        if options.container.local:
            return Result(_run_here(options))
        color = "always" if display.is_colored(messages.color) else "never"
        contained = minimize_in_container(replace(options, messages=replace(messages, color=color)))
        return Result(contained.output, contained.code)


def output_file(request: Request) -> str:
    """Return the path of the layer, or of what is made instead."""
    return request.outputs.output or request.settings.format.file_name("layer")


def _written_files(request: Request) -> list[str]:
    """Return the paths of all files that the command may write."""
    outputs = request.outputs
    named = (outputs.save_trace, outputs.save_plan, outputs.function_zip, outputs.sbom, outputs.report_json)
    report = [os.path.join(outputs.report, name) for name in REPORT_FILES] if outputs.report else []
    return [output_file(request), *(name for name in named if name), *report]


def _run_here(request: Request) -> Report | str:
    check_local(request.container, request.settings)
    inputs, outputs = request.inputs, request.outputs
    if outputs.plan:
        if not outputs.explain:
            raise UsageError("--plan requires --explain")
        plan = files.read_saved(Path(outputs.plan), "--plan", KeepPlan.from_json)
        return explain(plan, outputs.explain) + "\n"
    if outputs.makes_layer:
        return _make_layer(request)
    workload: dict[str, Any] = asdict(inputs)
    del workload["traces"]
    source = pipeline.load(**workload)
    if outputs.explain:
        return _explain(source, request) + "\n"
    _save_stages(source, request)
    return ""


def _explain(source: Workload | None, request: Request) -> str:
    """Trace and plan; return why the subject would be kept or dropped. Nothing is packed."""
    settings, outputs = request.settings, request.outputs
    with files.scratch_folder() as scratch:
        traced, site = pipeline.trace_workload(source, request.inputs.traces, settings, scratch)
        plan = planning.make_plan(traced, site, settings, Adjustments())
        pipeline.save(outputs.save_plan or None, plan, "--save-plan")
        return explain(plan, outputs.explain)


def _save_stages(source: Workload | None, request: Request) -> None:
    """Trace, plan if a plan is to be saved, and save both. Nothing is packed."""
    settings, outputs = request.settings, request.outputs
    with files.scratch_folder() as scratch:
        traced, site = pipeline.trace_workload(source, request.inputs.traces, settings, scratch)
        pipeline.save(outputs.save_trace or None, traced.trace, "--save-trace")
        if outputs.save_plan:
            pipeline.save(outputs.save_plan, planning.make_plan(traced, site, settings, Adjustments()), "--save-plan")


def _make_layer(request: Request) -> Report:
    outputs = request.outputs
    if outputs.report_json:
        files.check_output(Path(outputs.report_json).absolute(), "--report-json")
    report = pipeline.minimize(
        output=output_file(request),
        save_trace=outputs.save_trace or None,
        save_plan=outputs.save_plan or None,
        function_zip=outputs.function_zip or None,
        sbom=outputs.sbom or None,
        settings=request.settings,
        **asdict(request.inputs),
    )
    if outputs.report_json:
        write_report(report, Path(outputs.report_json))
    if outputs.report:
        write_report_folder(report.to_json(), Path(outputs.report))
    return report
