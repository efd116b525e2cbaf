"""Verify a layer in emulated Lambda: with AWS's emulator and runtime client, and Lambda's folders and limits."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis.handler_names import handler_name
from layer_minimizer.aws import programs
from layer_minimizer.aws.limits import INIT_SECONDS, MAX_TIMEOUT_SECONDS
from layer_minimizer.core.errors import RunnerError, UsageError
from layer_minimizer.environment.base_layers import BaseLayers
from layer_minimizer.environment.processor import chosen_code
from layer_minimizer.execution import process
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
    """How Lambda is emulated.

    Attributes:
        memory: the memory limit in MB (MiB, as in Lambda's settings).
        tmp_size: the size of /tmp in MB.
        engine: ``docker`` or ``podman``; if empty, the function runs in namespaces of this machine.
        image: the image for the engine; by default Lambda's image for the layer's version of Python.
        program: the path of the Runtime Interface Emulator; by default it is searched for and downloaded.
        function: the folder for /var/task; links and permissions in it are changed. By default it is created like that
            of the traced run.
    """

    memory: int
    tmp_size: int
    engine: str = ""
    image: str = ""
    program: str = ""
    function: Path | None = None


def check_emulation(emulation: Emulation) -> None:
    """Check the engine, its image and the emulator before any work begins.

    Raises:
        UsageError: the emulator does not exist, or an image is given without an engine.
        RunnerError: the engine does not respond, or the image is not available.
    """
    if emulation.program:
        programs.given_emulator(emulation.program)
    if emulation.image and not emulation.engine:
        raise UsageError(
            f"--verify-image {emulation.image} requires a container engine: add --engine docker or --engine podman"
        )
    if emulation.engine:
        engine = Engine.find(emulation.engine)
        if emulation.image:
            emulated_place.ensure_image(engine, emulation.image)


@dataclass(frozen=True, slots=True)
class EmulationInput:
    """What runs in emulated Lambda: a layer, and a workload with its expected results.

    Attributes:
        trace: the workload and its expected results.
        layer: the layer's zip.
        layout: the layout of the layer.
        version: the version of Python.
        machine: the architecture, as in ``platform.machine()``.
        timeout: the time limit for one event, in seconds.
        tolerance: by how much numbers in results may differ.
        base: the base layers of the function.
        interpreter: the interpreter that runs the function; only needed without an engine.
        provided: paths in site-packages that other layers will provide, and the files on this machine.
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
        """Folders of the interpreter that do not belong to the function."""
        return self.interpreter.avoid if self.interpreter else ()


def verify_in_emulated_lambda(emulated_input: EmulationInput, emulation: Emulation, scratch: Path) -> Emulated:
    """Run the workload's events on a layer in emulated Lambda, and compare the results.

    Raises:
        VerifyError: an event fails there, or its result differs from that of the traced run.
        UsageError: all events set fields of the context.
        RunnerError: Lambda cannot be emulated here, or one of AWS's programs is not available.
    """
    events, skipped = _events(emulated_input.trace.workload)
    engine = Engine.find(emulation.engine) if emulation.engine else None
    image = emulation.image or _IMAGE.format(*emulated_input.version[:2])
    scratch.mkdir(parents=True)
    mounts = _function_mounts(emulated_input, emulation, scratch)
    rows = [(event.name, json.dumps(event.payload)) for event in events]
    if engine:
        where, run = image, emulated_place.in_engine(mounts, rows, scratch, engine, image)
    elif emulated_input.interpreter:
        where, run = "namespaces", emulated_place.in_namespaces(mounts, rows, scratch, emulated_input.interpreter)
    else:
        raise RunnerError("--verify lambda: the function needs an interpreter or a container engine to run")
    emulated_results.check_results(
        emulated_results.ExpectedResults(
            trace=emulated_input.trace,
            tolerance=emulated_input.tolerance,
            memory=emulation.memory,
            tmp_size=emulation.tmp_size,
            where=image if engine else "this machine's system",
        ),
        run,
        len(rows),
    )
    init = run.init[0] / 1000 if run.init else 0.0
    return Emulated(
        events=len(events),
        init_seconds=init,
        peak_bytes=run.peak,
        tmp_bytes=run.tmp_peak,
        memory=emulation.memory,
        tmp_size=emulation.tmp_size,
        where=where,
        skipped=skipped,
        # How long an emulated processor took says nothing.
        warnings=tuple(_warnings(init if emulated_input.machine == platform.machine() else 0.0, skipped)),
    )


def _events(workload: Workload) -> tuple[tuple[Event, ...], tuple[str, ...]]:
    every = workload.events or (_DEFAULT_EVENT,)
    events = tuple(event for event in every if not event.context)
    if not events:
        raise UsageError(
            '--verify lambda: every event sets fields of the "context", which Lambda sets itself: add one without it'
        )
    return events, tuple(event.name for event in every if event.context)


def _warnings(init: float, skipped: Sequence[str]) -> Iterator[str]:
    if init > INIT_SECONDS:
        yield (
            f"the init phase took {init:.1f} s here; after {INIT_SECONDS:.0f} s Lambda stops it and repeats it with "
            "the first event, where it counts for the function's timeout and is billed"
        )
    if skipped:
        yield (
            f"not verified in emulated Lambda, because they set fields of the context: {', '.join(skipped[:5])}"
            f"{', …' if len(skipped) > 5 else ''}"  # noqa: PLR2004 - the number of listed names
        )


# ---- the function's folders and variables -------------------------------------------------------------------------


def _function_mounts(
    emulated_input: EmulationInput, emulation: Emulation, scratch: Path
) -> emulated_place.FunctionMounts:
    task, layer = scratch / "task", scratch / "opt"
    emulated_input.base.unpack(layer)
    archive.unzip(emulated_input.layer, layer)
    layer.mkdir(exist_ok=True)
    if emulation.function is None:
        make_task_root(emulated_input.trace.workload, task, emulated_input.avoid)
    else:
        task = emulation.function
    binds = [*_provided(emulated_input, layer), *_external_links(task)]
    # Lambda's own images contain the runtime client.
    client_in_image = bool(emulation.engine) and not emulation.image
    timeout = max(1, min(MAX_TIMEOUT_SECONDS, round(emulated_input.timeout)))
    return emulated_place.FunctionMounts(
        task=task,
        layer=layer,
        binds=tuple(binds),
        emulator=programs.find_emulator(emulation.program, emulated_input.machine),
        client=None if client_in_image else programs.find_client(emulated_input.version, emulated_input.machine),
        version=emulated_input.version,
        hidden=emulated_input.avoid,
        memory=emulation.memory,
        tmp_size=emulation.tmp_size,
        timeout=timeout,
        environment=_environment(emulated_input, emulation, timeout),
    )


def _environment(emulated_input: EmulationInput, emulation: Emulation, timeout: int) -> dict[str, str]:
    """Return the variables of Lambda: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html."""
    workload = emulated_input.trace.workload
    function = workload.entry.parent.name or "function"
    environment = chosen_code(os.environ) | function_variables(function, emulation.memory)
    environment |= {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python{}.{}".format(*emulated_input.version[:2]),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": emulated_place.TASK,
        "TZ": ":UTC",
    }
    name = "" if emulated_input.trace.kind == "script" else workload.handler or handler_name(workload.entry)
    environment |= emulated_place.handler_variables(workload.entry.stem, name)
    if emulated_input.trace.lazy_imports:
        environment[process.LAZY_IMPORTS_VARIABLE] = emulated_input.trace.lazy_imports
    if workload.models:
        environment["MODEL_PATH"] = f"{emulated_place.TASK}/{workload.models[0].name}"
    return environment


def _provided(emulated_input: EmulationInput, layer: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, path) of what another layer will provide; Lambda merges all layers in /opt."""
    prefix = emulated_input.layout.prefix(emulated_input.trace.python)
    for path, source in emulated_input.provided.items():
        real = os.path.realpath(source)
        _mount_point(layer / prefix / path, real)
        yield real, f"{emulated_place.LAYER}/{prefix}/{path}"


def _external_links(task: Path) -> Iterator[tuple[str, str]]:
    """Replace links to files outside of the function's folder by mount points, and yield (file, path) for each.

    A zip of the function would contain the files themselves.
    """
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
