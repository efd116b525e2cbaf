"""The whole way from a workload to a verified layer: trace, plan, pack, verify, and again where a file was missed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import packager, verifier, workload
from layer_minimizer.builder import Builder
from layer_minimizer.case import Case, prepare, read_saved
from layer_minimizer.errors import PackError, VerifyError
from layer_minimizer.explain import explain
from layer_minimizer.model import KeepPlan, Proof
from layer_minimizer.report import Report
from layer_minimizer.settings import Settings, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.model import LayerArchive, Trace, Workload

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
        settings: how to make the layer.
        options: single fields of `Settings`, which win over ``settings``.

    Raises:
        MinimizeError: one of its subclasses says which stage failed and what to do.
    """
    chosen = choose(settings, options)
    target = Path(output).absolute()
    packager.check_output(target)
    for option, path in (("--save-trace", save_trace), ("--save-plan", save_plan)):
        if path is not None:
            packager.check_output(Path(path).absolute(), option)
    source = load(entry, handler=handler, models=models, events=events)
    with scratch_folder() as scratch:
        case = prepare(source, traces, chosen, scratch)
        _save(save_trace, case.trace, "--save-trace")
        return _minimize(case, target, scratch, save_plan)


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


def _minimize(case: Case, target: Path, scratch: Path, save_plan: StrPath | None) -> Report:
    with packager.unfinished(target) as part:
        plan, archive, proof = _prove(case, part, scratch)
        _save(save_plan, plan, "--save-plan")
        with case.clock.stage("plan", "looking for imports that the run did not exercise"):
            unseen = case.not_exercised(plan)
        try:
            part.replace(target)
        except OSError as exc:
            raise PackError(f"cannot write {target}: {exc.strerror}") from exc
    return Report(
        trace=case.trace,
        plan=plan,
        before=case.before,
        archive=replace(archive, path=target),
        proof=proof,
        not_exercised=unseen,
        warnings=(*case.warnings, *proof.warnings, *packager.upload_warnings(archive)),
        seconds=case.clock.seconds,
    )


def _prove(case: Case, part: Path, scratch: Path) -> tuple[KeepPlan, LayerArchive, Proof]:
    """Plan, pack and verify; put back what the layer's own run asked for, until it gives the expected results."""
    trial = verifier.Trial(
        case.trace,
        case.interpreter,
        case.inventory,
        case.settings.layout,
        case.observers,
        case.settings.timeout,
        case.settings.tolerance,
    )
    repaired: frozenset[str] = frozenset()
    building = Builder.of(case, scratch / "build")
    steady = False
    for left in reversed(range(_ROUNDS)):
        with case.clock.stage("plan", "deciding about every file"):
            plan = case.plan(repaired)
        size = sum(d.size for d in plan.kept)
        with case.clock.stage("pack", f"packing {len(plan.kept):,} files, {size / 1e6:,.1f} MB"):
            archive = building.build(plan, part)
        with case.clock.stage("verify", f"running {case.trace.workload.entry.name} on the layer alone"):
            attempt = verifier.attempt(trial, plan, archive, scratch / f"verify{left}")
            shutil.rmtree(scratch / f"verify{left}", ignore_errors=True)
        log.debug("the run missed: %s; %s", ", ".join(attempt.missed), attempt.error)
        # A run that asks for something else each time, and does well without, is not followed for ever.
        if attempt.succeeded and not (attempt.missed and left):
            names = tuple(sorted(repaired))
            proof = Proof(attempt.events, 0, names, attempt.isolated, attempt.seconds, attempt.cold_faults)
            libraries = tuple(building.shrinker.reports.values()) if building.shrinker else ()
            proof = replace(proof, libraries=libraries, shipped=dict(building.shipped), bundled=building.bundled)
            return plan, archive, replace(proof, warnings=building.warnings)
        if attempt.error and building.documented is not None:
            building.give_docstrings(attempt.error)
            which = "all" if building.documented is None else ", ".join(sorted(building.documented))
            log.warning("without docstrings the entry does not run: those of %s stay", which)
            continue
        if attempt.error and not attempt.missed and case.settings.bytecode == "auto" and not building.sources:
            building.give_sources(attempt.error)  # somebody may have read the text of a module
            continue
        more = set(case.widen(attempt.missed, plan, repaired)) - {d.path for d in plan.kept}
        if not more and not steady:
            steady = True
            with case.clock.stage("verify", "the result differs; running once more in the full environment"):
                _refuse_unsteady(trial, scratch / "again")
            more = case.touched_but_dropped(plan) - repaired
        if not more:
            raise VerifyError(attempt.explain() + _left_out_on_purpose(case.settings))
        log.info("putting back %d files that the run on the layer asked for", len(more))
        log.debug("put back:\n  %s", "\n  ".join(sorted(more)))
        repaired |= more
    raise VerifyError(f"after {_ROUNDS} rounds of putting files back: {attempt.explain()}")


def _left_out_on_purpose(settings: Settings) -> str:
    options = [f"--{name} {value}" for name in ("exclude", "provided") for value in getattr(settings, name)]
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
