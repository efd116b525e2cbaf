"""The whole way from a workload to a verified layer: trace, plan, pack, verify, and again where a file was missed."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import (
    elf,
    environment,
    inventory,
    modules,
    packager,
    pickles,
    planner,
    rules,
    static_imports,
    tracer,
    verifier,
    workload,
)
from layer_minimizer.errors import PackError, UsageError, VerifyError
from layer_minimizer.explain import explain
from layer_minimizer.model import KeepPlan, Proof, Reason, Size, Trace, Use, Verdict, merge_traces
from layer_minimizer.observation import DEFAULT_TIMEOUT, choose_observers
from layer_minimizer.packager import Budget, Layout
from layer_minimizer.planner import Wishes
from layer_minimizer.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from layer_minimizer.model import Interpreter, Inventory, LayerArchive, NotExercised, Workload
    from layer_minimizer.observation import Observer

    StrPath = str | os.PathLike[str]

log = logging.getLogger(__name__)
# Every round puts back more than the one before: the missed files, then their static closure, then distributions.
_ROUNDS = 8
_NOT_COUNTED = {"pip", "setuptools", "wheel"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a layer is made, beside the workload. Paths in ``include`` and ``exclude`` are site-relative globs."""

    python: str = ""
    observe: str = "auto"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    closure: str = "trace"
    layout: Layout = Layout.SITE
    max_size: int | None = None
    tolerance: float = 0.0
    timeout: float = DEFAULT_TIMEOUT

    @property
    def budget(self) -> Budget:
        """How large the layer may be."""
        return Budget() if self.max_size is None else Budget(self.max_size, chosen=True)


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("trace", "plan", "pack", "verify"), 0.0))

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        log.info("%s", what)
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds[name] + time.monotonic() - begun, 3)


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
    chosen = _settings(settings, options)
    target = Path(output).absolute()
    packager.check_output(target)
    source = load(entry, handler=handler, models=models, events=events)
    with scratch_folder() as scratch:
        case = prepare(source, traces, chosen, scratch, save_trace)
        return _minimize(case, target, scratch, save_plan)


def _settings(settings: Settings | None, options: dict[str, object]) -> Settings:
    if "layout" in options:
        options["layout"] = Layout(str(options["layout"]))
    for name in ("include", "exclude", "provided"):
        given = options.get(name)
        if isinstance(given, str | list):
            options[name] = (given,) if isinstance(given, str) else tuple(given)
    return replace(settings or Settings(), **options)  # type: ignore[arg-type]


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


@dataclass(slots=True)
class Case:
    """A traced workload, and what is installed beside it: all that a plan is made from."""

    trace: Trace
    interpreter: Interpreter
    inventory: Inventory
    pickled: tuple[tuple[str, str, str], ...]
    settings: Settings
    observers: tuple[Observer, ...]
    warnings: tuple[str, ...]
    clock: _Clock

    def plan(self, repaired: frozenset[str] = frozenset()) -> KeepPlan:
        """Decide about every installed file; ``repaired`` are files that an attempt to verify has missed.

        Raises:
            PlanError: no sound decision is possible.
        """
        wishes = Wishes(self.settings.include, self.settings.exclude, self.settings.provided, repaired=repaired)
        plan = self._plan(wishes)
        if self.settings.closure == "static":
            reached = static_imports.closure(sorted(self._modules(plan, kept=True)), self._modules(plan))
            plan = self._plan(replace(wishes, static_modules=reached))
        return plan

    def _plan(self, wishes: Wishes) -> KeepPlan:
        return planner.plan(
            self.trace,
            self.inventory,
            rules.load_rules(),
            wishes,
            pickled=self.pickled,
            library_needs=self._library_needs(),
        )

    def _library_needs(self) -> Callable[[Iterable[str]], Iterable[tuple[str, str]]]:
        sources = {file.path: Path(file.source) for file in self.inventory.files}

        def read(path: str) -> elf.Dynamic | None:
            return elf.read_dynamic(sources[path])

        return lambda paths: elf.library_closure(paths, read, sources.__contains__)

    def _modules(self, plan: KeepPlan, *, kept: bool = False) -> dict[str, tuple[Path, bool]]:
        """Give the installed modules, or the kept ones, by name: their file, and whether they are packages."""
        sources = {file.path: Path(file.source) for file in self.inventory.files}
        gone = (Reason.EXCLUDED, Reason.PROVIDED, Reason.SHADOWED)
        paths = [d.path for d in plan.decisions if (d.verdict is Verdict.KEPT if kept else d.reason not in gone)]
        return {name: (sources[path], modules.is_package(path)) for name, path in modules.by_name(paths).items()}

    def not_exercised(self, plan: KeepPlan) -> tuple[NotExercised, ...]:
        """Give the modules that kept code could import and that are not in the layer."""
        kept = self._modules(plan, kept=True)
        source = {name: file for name, file in kept.items() if file[0].suffix == ".py"}
        return static_imports.not_exercised(static_imports.scan(source), self._modules(plan), kept)

    def widen(self, missed: Iterable[str], plan: KeepPlan, earlier: frozenset[str]) -> frozenset[str]:
        """Give what to put back when ``missed`` were missed, after ``earlier`` had been put back already.

        A missed module brings what it imports; a second miss in the same distribution brings all of it.
        """
        owner = {d.path: d.distribution for d in plan.decisions}
        again = {owner[path] for path in earlier} & {owner[path] for path in missed} - {""}
        available = self._modules(plan)
        names = [name for path in missed if (name := modules.module_name(path)) in available]
        files = {str(file): path for path, file in self._sources().items()}
        reached = {files[str(available[name][0])] for name in static_imports.closure(names, available)}
        whole = {path for path, name in owner.items() if name in again}
        return earlier | set(missed) | reached | whole

    def _sources(self) -> dict[str, str]:
        return {file.path: file.source for file in self.inventory.files}

    def touched_but_dropped(self, plan: KeepPlan) -> set[str]:
        """Give the files that the trace saw used in some way and that the plan judged to be of no use."""
        used = {f.path for f in self.trace.files if f.uses - {Use.LIST}}
        final = (Reason.EXCLUDED, Reason.PROVIDED)
        return {
            d.path for d in plan.decisions
            if d.verdict is Verdict.DROPPED and d.path in used and d.reason not in final
        }  # fmt: skip

    @property
    def before(self) -> Size:
        """The size of the environment without what only installs packages."""
        files = [f for f in self.inventory.files if f.distribution not in _NOT_COUNTED]
        names = {d.name for d in self.inventory.distributions} - _NOT_COUNTED
        return Size(len(files), sum(f.size for f in files), len(names))


def prepare(
    source: Workload | None,
    traces: Iterable[StrPath],
    settings: Settings,
    scratch: Path,
    save_trace: StrPath | None = None,
) -> Case:
    """Trace ``source``, unite the trace with the saved ``traces``, and take stock of what is installed.

    Raises:
        MinimizeError: the workload does not run, or one of the inputs cannot be used.
    """
    clock = _Clock()
    saved = [_read_trace(Path(file)) for file in traces]
    named = [_model_names(model) for model in (source.models if source else ())]
    interpreter = environment.describe(settings.python or sys.executable)
    observers = choose_observers(settings.observe)
    if source is not None:
        with clock.stage("trace", f"tracing {source.entry.name} with {' and '.join(observers)}"):
            fresh = tracer.trace(source, interpreter, observers, scratch / "trace", timeout=settings.timeout)
        saved.insert(0, fresh)
    if not saved:
        raise UsageError("there is nothing to trace: name the handler or script with --entry, or a saved --trace")
    trace = merge_traces(saved)
    if save_trace is not None:
        _write_json(Path(save_trace), trace.to_json(), "--save-trace")
    if source is None:
        named = [_model_names(model) for model in trace.workload.models]
        if not trace.workload.entry.is_file():
            raise UsageError(f"{trace.workload.entry}, the traced entry, is gone; name it with --entry")
    installed = _same_version(trace, interpreter)
    with clock.stage("plan", "taking stock of what is installed"):
        stock = inventory.take_inventory(installed, trace.foreign)
    problems = [names.problem for _, names in named if names.problem]
    outside = [f"{path} was imported from outside of the site and cannot go into a layer" for path in trace.unplaced]
    return Case(
        trace=trace,
        interpreter=interpreter,
        inventory=stock,
        pickled=tuple((model, *pair) for model, names in named for pair in names.globals),
        settings=settings,
        observers=observers,
        warnings=(*stock.warnings, *problems, *outside),
        clock=clock,
    )


def _model_names(model: Path) -> tuple[str, pickles.PickledNames]:
    return model.name, pickles.named_globals(model)


def _same_version(trace: Trace, interpreter: Interpreter) -> Interpreter:
    if trace.python.split(".")[:2] != [str(part) for part in interpreter.version[:2]]:
        version = ".".join(map(str, interpreter.version))
        raise UsageError(f"the trace is of Python {trace.python}, and --python is {version}: name the same interpreter")
    return interpreter


def _read_trace(file: Path) -> Trace:
    try:
        return Trace.from_json(json.loads(file.read_bytes()), Path)
    except OSError as exc:
        raise UsageError(f"--trace {file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"--trace {file} is no JSON: {exc}") from exc
    except UsageError as exc:
        raise UsageError(f"--trace {file}: {exc}") from exc


def read_plan(file: Path) -> KeepPlan:
    """Read a plan that was saved with ``--save-plan``.

    Raises:
        UsageError: it cannot be read, or is no plan.
    """
    try:
        return KeepPlan.from_json(json.loads(file.read_bytes()))
    except OSError as exc:
        raise UsageError(f"--plan {file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"--plan {file} is no JSON: {exc}") from exc
    except UsageError as exc:
        raise UsageError(f"--plan {file}: {exc}") from exc


def _write_json(file: Path, data: object, option: str) -> None:
    try:
        with packager.unfinished(file.absolute()) as part:
            part.write_text(json.dumps(data, indent=1), "utf-8")
            part.replace(file)
    except OSError as exc:
        raise PackError(f"{option} {file}: {exc.strerror}") from exc


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
        if save_plan is not None:
            _write_json(Path(save_plan), plan.to_json(), "--save-plan")
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
        case = prepare(source, traces, settings, scratch, save_trace)
        if save_plan is not None:
            _write_json(Path(save_plan), case.plan().to_json(), "--save-plan")


def _minimize(case: Case, target: Path, scratch: Path, save_plan: StrPath | None) -> Report:
    with packager.unfinished(target) as part:
        plan, archive, proof = _prove(case, part, scratch)
        if save_plan is not None:
            _write_json(Path(save_plan), plan.to_json(), "--save-plan")
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
        warnings=(*case.warnings, *packager.upload_warnings(archive)),
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
    steady = False
    for number in range(_ROUNDS):
        with case.clock.stage("plan", "deciding about every file"):
            plan = case.plan(repaired)
            case.settings.budget.check(plan)
        archive = _pack(case, plan, part, scratch / f"stage{number}")
        with case.clock.stage("verify", f"running {case.trace.workload.entry.name} on the layer alone"):
            attempt = verifier.attempt(trial, plan, archive, scratch / f"verify{number}")
        if attempt.succeeded and not attempt.missed:
            names = tuple(sorted(repaired))
            return plan, archive, Proof(attempt.events, 0, names, attempt.isolated, attempt.seconds)
        more = set(case.widen(attempt.missed, plan, repaired)) - {d.path for d in plan.kept}
        if not more and not steady:
            steady = True
            with case.clock.stage("verify", "the result differs; running once more in the full environment"):
                _refuse_unsteady(trial, scratch / "again")
            more = case.touched_but_dropped(plan) - repaired
        if not more:
            raise VerifyError(attempt.explain())
        log.info("putting back %d files that the run on the layer asked for", len(more))
        log.debug("put back:\n  %s", "\n  ".join(sorted(more)))
        repaired |= more
    raise VerifyError(f"after {_ROUNDS} rounds of putting files back: {attempt.explain()}")


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


def _pack(case: Case, plan: KeepPlan, part: Path, folder: Path) -> LayerArchive:
    size = sum(d.size for d in plan.kept)
    with case.clock.stage("pack", f"packing {len(plan.kept):,} files, {size / 1e6:,.1f} MB"):
        packager.stage(plan, case.inventory, folder, case.settings.layout)
        return packager.write_zip(folder, part)
