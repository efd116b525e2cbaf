"""``minimize`` without a command: run one job of the command line, and return its report or answer."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer import pipeline
from layer_minimizer.cli import session
from layer_minimizer.cli.commands.explain import explain_case, read_plan
from layer_minimizer.cli.commands.traces import save_stages, summary
from layer_minimizer.container.run import check_local, minimize_in_container
from layer_minimizer.core import files
from layer_minimizer.core.errors import UsageError
from layer_minimizer.report.explain import explain
from layer_minimizer.report.files import REPORT_FILES, write_report, write_report_folder

if TYPE_CHECKING:
    from layer_minimizer.cli.jobs import Job
    from layer_minimizer.report.report import Report
    from layer_minimizer.settings import Outputs, Request

_OUTPUT = "layer.zip"


def make(command: str, run: Job, *, colored: bool) -> tuple[int, Report | str]:
    """Do a run of ``minimize`` or ``minimize trace``; return its exit code and what is to be said about it.

    Raises:
        MinimizeError: as `pipeline.minimize`, and as `container.minimize`.
    """
    request, outputs = run.request, run.request.outputs
    said: Report | str
    with session.watched(map(Path, _written(outputs))):
        if outputs.report and outputs.makes_layer:
            files.check_folder(Path(outputs.report).absolute(), "--report", new_levels=2 if run.name else 1)
        if outputs.report:
            request = replace(request, settings=replace(request.settings, time_imports=True))
        if request.container.local:
            code, said = 0, _act(request)
        else:
            messages = replace(request.messages, color="always" if colored else "never")
            outcome = minimize_in_container(replace(request, messages=messages))
            code, said = outcome.code, outcome.output
    if command == "trace" and not code:
        return code, f"{said}{summary(outputs.save_trace)}"
    return code, said


def output_of(outputs: Outputs) -> str:
    """Return the layer's file."""
    return outputs.output or _OUTPUT


def _written(outputs: Outputs) -> list[str]:
    """Return the files that the command may write."""
    named = (outputs.save_trace, outputs.save_plan, outputs.function_zip, outputs.report_json)
    report = [os.path.join(outputs.report, name) for name in REPORT_FILES] if outputs.report else []
    return [output_of(outputs), *(name for name in named if name), *report]


def _act(request: Request) -> Report | str:
    check_local(request.container)
    inputs, outputs, settings = request.inputs, request.outputs, request.settings
    if outputs.plan:
        if not outputs.explain:
            raise UsageError("--plan goes with --explain")
        return explain(read_plan(Path(outputs.plan)), outputs.explain) + "\n"
    workload: dict[str, Any] = asdict(inputs)
    traces = workload.pop("traces")
    if outputs.makes_layer:
        return _minimize(request)
    source = pipeline.load(**workload)
    if outputs.explain:
        save_plan = outputs.save_plan or None
        return explain_case(source, traces, settings, outputs.explain, save_plan) + "\n"
    save_stages(source, traces, settings, outputs.save_trace or None, outputs.save_plan or None)
    return ""


def _minimize(request: Request) -> Report:
    outputs = request.outputs
    if outputs.report_json:
        files.check_output(Path(outputs.report_json).absolute(), "--report-json")
    report = pipeline.minimize(
        output=output_of(outputs),
        save_trace=outputs.save_trace or None,
        save_plan=outputs.save_plan or None,
        function_zip=outputs.function_zip or None,
        settings=request.settings,
        **asdict(request.inputs),
    )
    if outputs.report_json:
        write_report(report, Path(outputs.report_json))
    if outputs.report:
        write_report_folder(report.to_json(), Path(outputs.report))
    return report
