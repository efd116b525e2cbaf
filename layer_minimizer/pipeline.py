"""The whole way from a workload to a verified layer: trace, plan, pack, verify, and again where a file was missed."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer import deployed, emulator, environment, packager, picture, runners, workload
from layer_minimizer.case import Case, prepare
from layer_minimizer.comparison import Difference, compare, summary
from layer_minimizer.errors import PackError, UsageError
from layer_minimizer.explain import explain
from layer_minimizer.function import FunctionZip, select
from layer_minimizer.model import KeepPlan, Trace
from layer_minimizer.proving import Proving, emulation
from layer_minimizer.report import Report, json_text
from layer_minimizer.saved import read_saved, read_traces
from layer_minimizer.settings import Settings, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.model import FunctionArchive, LayerArchive, Workload

    StrPath = str | os.PathLike[str]

# What --report writes.
REPORT_FILES = ("report.json", "report.html")


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
        emulator.check(emulation(chosen))
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
    # No longer than it must be: sockets of the handler's may lie below it, whose names have at most 107 characters.
    prefix = "" if runners.SESSION_VARIABLE in os.environ else "layer_minimizer-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(os.path.realpath(folder))


def read_plan(file: Path) -> KeepPlan:
    """Read a plan that was saved with ``--save-plan``.

    Raises:
        UsageError: it cannot be read, or is no plan.
    """
    return read_saved(file, "--plan", KeepPlan.from_json)


def _write_text(file: Path, text: str, option: str) -> None:
    try:
        with packager.unfinished(file.absolute()) as part:
            part.write_text(text, "utf-8")
            part.replace(file)
    except OSError as exc:
        raise PackError(f"{option} {file}: {exc.strerror}") from exc


def _save(file: StrPath | None, value: Trace | KeepPlan, option: str) -> None:
    if file is not None:
        _write_text(Path(file), json.dumps(value.to_json(), indent=1), option)


def write_report(report: Report, file: Path) -> None:
    """Write the report's JSON into ``file``.

    Raises:
        PackError: it cannot be written.
    """
    _write_text(file, json_text(report.to_json()), "--report-json")


def write_report_folder(report: dict[str, Any], folder: Path) -> None:
    """Write a report's JSON and its page into ``folder``, which is made if need be.

    Raises:
        PackError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PackError(f"--report {folder}: {exc.strerror}") from exc
    for name, text in zip(REPORT_FILES, (json_text(report), picture.render(report)), strict=True):
        _write_text(folder / name, text, "--report")


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


def compare_traces(files: Iterable[StrPath], settings: Settings) -> tuple[Difference, ...]:
    """Give what some of the saved traces have and others lack; see `comparison.compare`.

    Logs of traced functions are read with the eyes of the environment of ``settings.python``.

    Raises:
        UsageError: one of them is no trace, or there is only one.
        RunnerError: the interpreter cannot be used.
    """
    saved, seen, _ = read_traces(map(Path, files))
    if seen:
        interpreter = environment.describe(settings.python or sys.executable)
        with scratch_folder() as scratch:
            saved += [(name, told.trace(interpreter, scratch / str(n))) for n, (name, told) in enumerate(seen)]
    if len(saved) < 2:  # noqa: PLR2004 - it takes two to differ
        raise UsageError("there is nothing to compare: name two traces, or more")
    return compare(saved)


def summarize(file: StrPath) -> str:
    """Say in a few words what a saved trace holds.

    Raises:
        UsageError: it cannot be read, or is no trace.
    """
    return summary(read_saved(Path(file), "--trace", lambda data: Trace.from_json(data, Path)))


def write_probe(output: StrPath) -> LayerArchive:
    """Write the layer that traces a deployed function.

    Raises:
        PackError: the zip cannot be written.
    """
    target = Path(output).absolute()
    packager.check_output(target)
    with scratch_folder() as scratch:
        return deployed.write_probe(target, scratch)


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
        proving = Proving.of(case, part, scratch, beside)
        plan, archive, proof = proving.prove()
        emulated = proving.emulate(plan, archive) if case.settings.verify == "lambda" else None
        times = proving.time_imports(plan, archive) if case.settings.time_imports else None
        _save(save_plan, plan, "--save-plan")
        with case.clock.stage("plan", "looking for imports that the run did not exercise"):
            unseen = case.not_exercised(plan)
        function = None
        if beside and function_target:
            _put_in_place(function_part, function_target)
            function = replace(beside.finished, archive=replace(beside.archive, path=function_target))
        _put_in_place(part, target)
    own = select(case.trace, case.interpreter.avoid).beside
    warnings = (*case.warnings, *proof.warnings, *(emulated.warnings if emulated else ()))
    return Report(
        trace=case.trace,
        plan=plan,
        before=case.before,
        archive=replace(archive, path=target),
        proof=proof,
        not_exercised=unseen,
        warnings=(*warnings, *packager.upload_warnings(archive), *_function_warnings(case, archive, function, own)),
        seconds=case.clock.seconds,
        function=function,
        emulated=emulated,
        below=case.below,
        differences=case.differences,
        limit=case.settings.budget.limit,
        imports=times,
        function_bytes=function.archive.unzipped_bytes if function else own.total,
    )


def _put_in_place(part: Path, target: Path) -> None:
    try:
        part.replace(target)
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc


def _function_warnings(
    case: Case, archive: LayerArchive, function: FunctionArchive | None, own: packager.Beside
) -> tuple[str, ...]:
    """Say what stands in the way of the function: of its zip, or of what it will have to be."""
    if function:
        return packager.upload_warnings(function.archive, "the function: ")
    beside = replace(own, layers=case.below.base_bytes)
    budget = case.settings.budget
    if archive.unzipped_bytes + beside.total <= budget.limit:
        return ()
    fits = packager.what_fits(budget, archive.unzipped_bytes, beside)
    return (f"the layer leaves no room for all of the function ({beside} bytes): {fits}",)
