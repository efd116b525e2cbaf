"""Proves a layer that came out of a container in an emulated Lambda: another container of the same engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.container.build_context import MACHINES
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import read_saved
from layer_minimizer.environment import base_layers, workload
from layer_minimizer.layer import archive
from layer_minimizer.model.trace import Trace
from layer_minimizer.verify import emulated
from layer_minimizer.verify.emulated import Emulation, Subject

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.container.images import Recipe
    from layer_minimizer.execution.engine import Engine
    from layer_minimizer.model.outcome import Emulated
    from layer_minimizer.settings import Request


@dataclass(frozen=True, slots=True)
class ContainedEmulation:
    """How a layer is proved that was made where this process cannot look: by its zip and its trace.

    ``base`` is the image that it was made on.
    """

    how: Emulation
    request: Request
    engine: Engine
    base: str

    def prove(self, brought: Path, scratch: Path) -> Emulated:
        """Run the events in an emulated Lambda. ``brought`` has the command's outputs by their options' names.

        Raises:
            MinimizeError: as `emulator.emulate`.
        """
        inputs, settings = self.request.inputs, self.request.settings
        trace = read_saved(brought / "save-trace", "--save-trace", Trace.from_json)
        if inputs.entry:  # it lies elsewhere in the container where this is Windows
            own = workload.load_workload(inputs.entry, handler=inputs.handler, models=inputs.models)
            trace = replace(trace, workload=replace(own, events=trace.workload.events))
        scratch.mkdir()
        how = self.how
        if self.request.outputs.function_zip:
            how = replace(how, function=scratch / "task")
            archive.unzip(brought / "function-zip", scratch / "task")
        major, minor, micro = map(int, trace.python.split("."))
        subject = Subject(
            trace=trace,
            layer=brought / "output",
            layout=settings.layout,
            version=(major, minor, micro),
            machine=self._machine(),
            timeout=settings.timeout,
            tolerance=settings.tolerance,
            base=base_layers.read(settings.base_layers, f"python{major}.{minor}", scratch / "base"),
        )
        return emulated.verify_in_emulated_lambda(subject, how, scratch / "run")

    def _machine(self) -> str:
        """Return the processor of the image."""
        architecture = self.engine.answer("image", "inspect", "--format", "{{.Architecture}}", self.base)
        return MACHINES.get(architecture, architecture)


def choose(request: Request, engine: Engine, recipe: Recipe) -> ContainedEmulation | None:
    """Return how the layer is to be proved in an emulated Lambda, or None if the user does not want that.

    Raises:
        UsageError: it cannot be done as the options say.
        RunnerError: the image or the emulator cannot be had.
    """
    settings, runner = request.settings, request.container.runner
    if settings.verify != "lambda":
        return None
    if settings.engine not in ("", runner):
        raise UsageError(f"--engine {settings.engine}: with --runner {runner} it is {runner}")
    if settings.provided:
        raise UsageError("--verify lambda in a container cannot see what --provided leaves out: use --base-layer")
    # An image with the packages in it would prove nothing; what they are installed on is without them.
    bare = "" if request.container.image or not request.container.base_image else recipe.base
    how = Emulation(
        memory=settings.memory,
        tmp_size=settings.tmp_size,
        engine=runner,
        image=settings.verify_image or bare,
        program=settings.emulator,
    )
    emulated.check(how)
    return ContainedEmulation(how, request, engine, recipe.base)
