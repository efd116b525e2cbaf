"""Verify a layer that was made in a container in an emulated Lambda: another container of the same engine."""

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
from layer_minimizer.verify.emulated import Emulation, EmulationInput

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.container.images import Recipe
    from layer_minimizer.execution.engine import Engine
    from layer_minimizer.model.outcome import Emulated
    from layer_minimizer.settings import Request


@dataclass(frozen=True, slots=True)
class ContainedEmulation:
    """How a layer that was made in a container is verified: by its zip and its trace.

    ``how`` are the options of the emulation, ``base`` is the image of the container that made the layer.
    """

    how: Emulation
    request: Request
    engine: Engine
    base: str

    def verify(self, copied: Path, scratch: Path) -> Emulated:
        """Run the events in an emulated Lambda. ``copied`` has the command's outputs, named by their options.

        Raises:
            MinimizeError: as `emulator.emulate`.
        """
        inputs, settings = self.request.inputs, self.request.settings
        trace = read_saved(copied / "save-trace", "--save-trace", Trace.from_json)
        if inputs.entry:  # on Windows, its path in the container is another one
            own = workload.load_workload(inputs.entry, handler=inputs.handler, models=inputs.models)
            trace = replace(trace, workload=replace(own, events=trace.workload.events))
        scratch.mkdir()
        how = self.how
        if self.request.outputs.function_zip:
            how = replace(how, function=scratch / "task")
            archive.unzip(copied / "function-zip", scratch / "task")
        major, minor, micro = map(int, trace.python.split("."))
        subject = EmulationInput(
            trace=trace,
            layer=copied / "output",
            layout=settings.layout,
            version=(major, minor, micro),
            machine=self._machine(),
            timeout=settings.timeout,
            tolerance=settings.tolerance,
            base=base_layers.read_base_layers(settings.base_layers, f"python{major}.{minor}", scratch / "base"),
        )
        return emulated.verify_in_emulated_lambda(subject, how, scratch / "run")

    def _machine(self) -> str:
        """Return the machine type of the image."""
        architecture = self.engine.read_output("image", "inspect", "--format", "{{.Architecture}}", self.base)
        return MACHINES.get(architecture, architecture)


def choose(request: Request, engine: Engine, recipe: Recipe) -> ContainedEmulation | None:
    """Return how the layer is verified in an emulated Lambda, or None if that was not requested.

    Raises:
        UsageError: the options contradict each other.
        RunnerError: the image or the emulator is not available.
    """
    settings, runner = request.settings, request.container.runner
    if settings.verify != "lambda":
        return None
    if settings.engine not in ("", runner):
        raise UsageError(f"--engine {settings.engine}: with --runner {runner} it must be {runner}")
    if settings.provided:
        raise UsageError(
            "--verify lambda in a container does not have the distributions of --provided: use --base-layer"
        )
    # The emulation needs an image without the packages: the base image, not the one they are installed in.
    image = "" if request.container.image or not request.settings.base_image else recipe.base
    how = Emulation(
        memory=settings.memory,
        tmp_size=settings.tmp_size,
        engine=runner,
        image=settings.verify_image or image,
        program=settings.emulator,
    )
    emulated.check_emulation(how)
    return ContainedEmulation(how, request, engine, recipe.base)
