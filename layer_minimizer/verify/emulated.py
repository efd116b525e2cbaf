"""Proves a layer once more in an emulated Lambda: AWS's emulator and runtime client, Lambda's folders and limits."""

from __future__ import annotations

import json
import os
import symtable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.aws import programs
from layer_minimizer.aws.limits import INIT_SECONDS, LONGEST_SECONDS
from layer_minimizer.core.errors import RunnerError, UsageError
from layer_minimizer.environment.base_layers import BaseLayers
from layer_minimizer.execution.engine import Engine
from layer_minimizer.execution.task_root import make_task_root
from layer_minimizer.layer import archive
from layer_minimizer.model.function_variables import function_variables
from layer_minimizer.model.outcome import Emulated
from layer_minimizer.model.workload import NO_EVENT, Event, Workload
from layer_minimizer.verify import emulated_place, emulated_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from layer_minimizer.layer.layout import Layout
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.trace import Trace

# The images that AWS publishes: https://gallery.ecr.aws/lambda/python
_IMAGE = "public.ecr.aws/lambda/python:{}.{}"
_DEFAULT_EVENT = Event(NO_EVENT, {})


@dataclass(frozen=True, slots=True)
class Emulation:
    """How Lambda is emulated: limits in MB (MiB, as Lambda counts), and where.

    Without an ``engine`` it is this machine's own system in namespaces; with one, a container of ``image``, by default
    Lambda's for the layer's version of Python. ``program`` is the Runtime Interface Emulator.
    ``function`` is a folder to be /var/task, made for this alone: links and permissions in it are changed. Without it
    the task root is laid out as for the first run.
    """

    memory: int
    tmp_size: int
    engine: str = ""
    image: str = ""
    program: str = ""
    function: Path | None = None


def check(how: Emulation) -> None:
    """Make sure, before the work begins, of what can be known by then: the engine, its image, and the program.

    Raises:
        UsageError: there is no such program, or an image without an engine.
        RunnerError: the engine does not answer, or the image cannot be had.
    """
    if how.program:
        programs.given_emulator(how.program)
    if how.image and not how.engine:
        raise UsageError(f"--verify-image {how.image} is for an engine: name it with --engine docker")
    if how.engine:
        engine = Engine.find(how.engine)
        if how.image:
            emulated_place.need_image(engine, how.image)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is run in an emulated Lambda: a layer's zip, and a workload with the results that it is to give.

    ``base`` are the layers below, ``provided`` the files that other layers bring, by their paths in the site, and where
    they lie here. ``version`` and ``machine`` are those of Python; its ``interpreter`` is needed where there is no
    engine.
    """

    trace: Trace
    layer: Path
    layout: Layout
    version: tuple[int, ...]
    machine: str
    timeout: float
    tolerance: float
    base: BaseLayers = field(default_factory=BaseLayers)
    interpreter: Interpreter | None = None
    provided: Mapping[str, str] = field(default_factory=dict)

    @property
    def avoid(self) -> tuple[str, ...]:
        """Folders of the interpreter's that are no part of the function."""
        return self.interpreter.avoid if self.interpreter else ()


def verify_in_emulated_lambda(subject: Subject, how: Emulation, scratch: Path) -> Emulated:
    """Run the workload's events in an emulated Lambda with a layer, and compare the results.

    Raises:
        VerifyError: an event fails there, or gives another result; the text says how that differs from the first run.
        UsageError: all events set fields of the context.
        RunnerError: the place or one of AWS's programs cannot be had.
    """
    events, skipped = _events(subject.trace.workload)
    engine = Engine.find(how.engine) if how.engine else None
    image = how.image or _IMAGE.format(*subject.version[:2])
    scratch.mkdir(parents=True)
    place = _place(subject, how, scratch)
    rows = [(event.name, json.dumps(event.payload)) for event in events]
    if engine:
        where, ran = image, emulated_place.in_engine(place, rows, scratch, engine, image)
    elif subject.interpreter:
        where, ran = "namespaces", emulated_place.in_namespaces(place, rows, scratch, subject.interpreter)
    else:
        raise RunnerError("--verify lambda: without an engine there is no interpreter to run the function with")
    emulated_results.check_results(
        emulated_results.ExpectedResults(
            trace=subject.trace,
            tolerance=subject.tolerance,
            memory=how.memory,
            tmp_size=how.tmp_size,
            where=image if engine else "this machine's system",
        ),
        ran,
        len(rows),
    )
    init = ran.init[0] / 1000 if ran.init else 0.0
    return Emulated(
        events=len(events),
        init_seconds=init,
        peak_bytes=ran.peak,
        tmp_bytes=ran.tmp,
        memory=how.memory,
        tmp_size=how.tmp_size,
        where=where,
        skipped=skipped,
        warnings=tuple(_warnings(init, skipped)),
    )


def _events(workload: Workload) -> tuple[tuple[Event, ...], tuple[str, ...]]:
    every = workload.events or (_DEFAULT_EVENT,)
    events = tuple(event for event in every if not event.context)
    if not events:
        raise UsageError(
            '--verify lambda: every event sets fields of the "context", which Lambda gives itself: add one without'
        )
    return events, tuple(event.name for event in every if event.context)


def _warnings(init: float, skipped: Sequence[str]) -> Iterator[str]:
    if init > INIT_SECONDS:
        yield (
            f"the init phase took {init:.1f} s here; after {INIT_SECONDS:.0f} s Lambda ends it and begins it anew "
            "with the first event, where it counts against the function's timeout and is paid for"
        )
    if skipped:
        yield (
            f"not verified in emulated Lambda, which gives the context itself: {', '.join(skipped[:5])}"
            f"{', …' if len(skipped) > 5 else ''}"  # noqa: PLR2004 - as many as can be read
        )


# ---- the place ----------------------------------------------------------------------------------------------------


def _place(subject: Subject, how: Emulation, scratch: Path) -> emulated_place.FunctionMounts:
    task, layer = scratch / "task", scratch / "opt"
    subject.base.unpack(layer)
    archive.unzip(subject.layer, layer)
    layer.mkdir(exist_ok=True)
    if how.function is None:
        make_task_root(subject.trace.workload, task, subject.avoid)
    else:
        task = how.function
    binds = [*_provided(subject, layer), *_linked(task)]
    # Lambda's own images bring the client.
    bare = bool(how.engine) and not how.image
    timeout = max(1, min(LONGEST_SECONDS, round(subject.timeout)))
    return emulated_place.FunctionMounts(
        task=task,
        layer=layer,
        binds=tuple(binds),
        rie=programs.find_emulator(how.program, subject.machine),
        client=None if bare else programs.find_client(subject.version, subject.machine),
        version=subject.version,
        hidden=subject.avoid,
        memory=how.memory,
        tmp=how.tmp_size,
        timeout=timeout,
        environment=_environment(subject, how, timeout),
    )


def _environment(subject: Subject, how: Emulation, timeout: int) -> dict[str, str]:
    """Return the variables that Lambda sets: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html."""
    workload = subject.trace.workload
    function = workload.entry.parent.name or "function"
    environment = function_variables(function, how.memory) | {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python{}.{}".format(*subject.version[:2]),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": emulated_place.TASK,
        "TZ": ":UTC",
    }
    name = "" if subject.trace.kind == "script" else workload.handler or handler_name(workload.entry)
    environment |= emulated_place.handler_of(workload.entry.stem, name)
    if workload.models:
        environment["MODEL_PATH"] = f"{emulated_place.TASK}/{workload.models[0].name}"
    return environment


def handler_name(entry: Path) -> str:
    """Return the handler that an entry defines under one of the usual names, or an empty text."""
    try:
        table = symtable.symtable(entry.read_text("utf-8"), str(entry), "exec")
    except (OSError, SyntaxError, ValueError):
        return ""
    bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return next((name for name in ("handler", "lambda_handler") if name in bound), "")


def _provided(subject: Subject, layer: Path) -> Iterator[tuple[str, str]]:
    """Yield what another layer brings, and where; Lambda merges all layers in /opt."""
    prefix = subject.layout.prefix(subject.trace.python)
    for path, source in subject.provided.items():
        real = os.path.realpath(source)
        _mount_point(layer / prefix / path, real)
        yield real, f"{emulated_place.LAYER}/{prefix}/{path}"


def _linked(task: Path) -> Iterator[tuple[str, str]]:
    """Turn links that lead out of the function's folder into what they lead to, as whoever zips it would."""
    for folder, folders, names in os.walk(task):
        for name in (*folders, *names):
            path = Path(folder, name)
            if not path.is_symlink():
                continue
            real = os.path.realpath(path)
            if os.path.exists(real) and not real.startswith(f"{os.path.realpath(task)}/"):
                path.unlink()
                _mount_point(path, real)
                yield real, f"{emulated_place.TASK}/{path.relative_to(task)}"


def _mount_point(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.isdir(source):
        path.mkdir(exist_ok=True)
    else:
        path.touch()
