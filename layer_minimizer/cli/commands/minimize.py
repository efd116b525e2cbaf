"""``minimize`` without a command: run one job of the command line, and return its report or answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer import pipeline
from layer_minimizer.cli import session
from layer_minimizer.cli.commands import traces
from layer_minimizer.cli.commands.explain import explain_case, read_plan
from layer_minimizer.container.run import LOCAL, check_local, minimize_in_container
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import check_folder, check_output
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.plan import Cold
from layer_minimizer.report import files
from layer_minimizer.report.explain import explain
from layer_minimizer.settings import Settings

if TYPE_CHECKING:
    import argparse

    from layer_minimizer.cli.jobs import Job
    from layer_minimizer.report.report import Report

_OUTPUT = "layer.zip"


def make(command: str, run: Job, *, colored: bool) -> tuple[int, Report | str]:
    """Do a run of ``minimize`` or ``minimize trace``; give its exit code and what is to be said about it.

    Raises:
        MinimizeError: as `pipeline.minimize`, and as `container.minimize`.
    """
    options = run.options
    said: Report | str
    with session.watched(map(Path, _outputs(options))):
        if options.report and makes_layer(options):
            check_folder(Path(options.report).absolute(), "--report", new_levels=2 if run.name else 1)
        if options.runner != LOCAL:
            color = "always" if colored else "never"
            outcome = minimize_in_container([*run.words, "--no-config", f"--color={color}"], options)
            code, said = outcome.code, outcome.output
        else:
            code, said = 0, _act(options)
    if command == "trace" and not code:
        return code, f"{said}{traces.summary(options.save_trace)}"
    return code, said


def output_of(options: argparse.Namespace) -> str:
    """Give the layer's file."""
    return str(getattr(options, "output", None) or _OUTPUT)


def makes_layer(options: argparse.Namespace) -> bool:
    """Say whether a layer is wanted, and not an answer or single stages."""
    return not (options.explain or options.plan or ((options.save_trace or options.save_plan) and not options.output))


def _outputs(options: argparse.Namespace) -> list[str]:
    """Give the files that the command may write."""
    named = (options.save_trace, options.save_plan, options.function_zip, options.report_json)
    report = [os.path.join(options.report, name) for name in files.REPORT_FILES] if options.report else []
    return [output_of(options), *(name for name in named if name), *report]


def _act(options: argparse.Namespace) -> Report | str:
    check_local(options)
    if options.plan:
        if not options.explain:
            raise UsageError("--plan goes with --explain")
        return explain(read_plan(Path(options.plan)), options.explain) + "\n"
    settings = _settings(options)
    workload = {"handler": options.handler, "models": options.model, "events": options.event}
    if options.explain:
        source = pipeline.load(options.entry, **workload)
        return explain_case(source, options.trace, settings, options.explain, options.save_plan) + "\n"
    if not makes_layer(options):
        source = pipeline.load(options.entry, **workload)
        traces.save_stages(source, options.trace, settings, options.save_trace, options.save_plan)
        return ""
    return _minimize(options, settings, workload)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        python=options.python,
        observe=options.observe,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
        provided=tuple(name for names in options.provided for name in names),
        base_layers=tuple(options.base_layer),
        closure=options.closure,
        layout=Layout(options.layout),
        max_size=options.max_size,
        tolerance=options.tolerance,
        runs=options.runs,
        timeout=options.timeout,
        keep=tuple(options.keep),
        effort=options.effort,
        bytecode=options.bytecode,
        strip_docstrings=options.strip_docstrings,
        native=options.native,
        cold=Cold(options.cold),
        runtime_library=options.runtime_library,
        runtime=options.runtime,
        architecture=options.architecture,
        verify=options.verify,
        memory=options.memory,
        tmp_size=options.tmp_size,
        engine=options.engine,
        verify_image=options.verify_image,
        emulator=options.emulator,
        time_imports=options.time_imports or bool(options.report),
    )


def _minimize(options: argparse.Namespace, settings: Settings, workload: dict[str, Any]) -> Report:
    if options.report_json:
        check_output(Path(options.report_json).absolute(), "--report-json")
    report = pipeline.minimize(
        entry=options.entry,
        output=output_of(options),
        traces=options.trace,
        save_trace=options.save_trace,
        save_plan=options.save_plan,
        function_zip=options.function_zip,
        settings=settings,
        **workload,
    )
    if options.report_json:
        files.write_report(report, Path(options.report_json))
    if options.report:
        files.write_report_folder(report.to_json(), Path(options.report))
    return report
