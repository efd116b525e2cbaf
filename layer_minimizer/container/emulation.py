"""Proves a layer that came out of a container in an emulated Lambda: another container of the same engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import read_saved
from layer_minimizer.environment import base_layers, workload
from layer_minimizer.execution.engine import ENGINES, Engine
from layer_minimizer.layer import archive
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.trace import Trace
from layer_minimizer.settings import DEFAULT_MEMORY, DEFAULT_TMP_SIZE
from layer_minimizer.verify import emulated
from layer_minimizer.verify.emulated import Emulation, Subject

if TYPE_CHECKING:
    import argparse

    from layer_minimizer.container.images import Recipe
    from layer_minimizer.model.outcome import Emulated

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a layer is proved in an emulated Lambda."""
    proof = parser.add_argument_group("the proof in an emulated Lambda")
    proof.add_argument(
        "--verify", choices=("local", "lambda"), default="local", help="lambda: in an emulated Lambda, too"
    )
    proof.add_argument(
        "--memory", type=int, default=DEFAULT_MEMORY, metavar="MB", help="of the function; default: %(default)s"
    )
    proof.add_argument(
        "--tmp-size", type=int, default=DEFAULT_TMP_SIZE, metavar="MB", help="of /tmp; default: %(default)s"
    )
    proof.add_argument("--engine", choices=ENGINES, default="", help="emulate in a container; default: namespaces")
    proof.add_argument("--verify-image", default="", metavar="NAME", help="with --engine; default: Lambda's own")
    proof.add_argument("--emulator", default="", metavar="FILE", help="aws-lambda-rie; default: found, or fetched")


@dataclass(frozen=True, slots=True)
class ContainedEmulation:
    """How a layer is proved that was made where this process cannot look: by its zip and its trace.

    ``base`` is the image that it was made on.
    """

    how: Emulation
    options: argparse.Namespace
    engine: Engine
    base: str

    def prove(self, brought: Path, scratch: Path) -> Emulated:
        """Run the events in an emulated Lambda. ``brought`` has the command's outputs by their options' names.

        Raises:
            MinimizeError: as `emulator.emulate`.
        """
        options = self.options
        trace = read_saved(brought / "save-trace", "--save-trace", lambda data: Trace.from_json(data, Path))
        if options.entry:  # it lies elsewhere in the container where this is Windows
            own = workload.load_workload(options.entry, handler=options.handler, models=options.model)
            trace = replace(trace, workload=replace(own, events=trace.workload.events))
        scratch.mkdir()
        how = self.how
        if options.function_zip:
            how = replace(how, function=scratch / "task")
            archive.unzip(brought / "function-zip", scratch / "task")
        major, minor, micro = map(int, trace.python.split("."))
        subject = Subject(
            trace=trace,
            layer=brought / "output",
            layout=Layout(options.layout),
            version=(major, minor, micro),
            machine=self._machine(),
            timeout=options.timeout,
            tolerance=options.tolerance,
            base=base_layers.read(options.base_layer, f"python{major}.{minor}", scratch / "base"),
        )
        return emulated.verify_in_emulated_lambda(subject, how, scratch / "run")

    def _machine(self) -> str:
        """Return the processor of the image."""
        architecture = self.engine.answer("image", "inspect", "--format", "{{.Architecture}}", self.base)
        return _MACHINES.get(architecture, architecture)


def choose(options: argparse.Namespace, engine: Engine, recipe: Recipe) -> ContainedEmulation | None:
    """Give how the layer is to be proved in an emulated Lambda, or None if the user does not want that.

    Raises:
        UsageError: it cannot be done as the options say.
        RunnerError: the image or the emulator cannot be had.
    """
    if options.verify != "lambda":
        return None
    if options.engine not in ("", options.runner):
        raise UsageError(f"--engine {options.engine}: with --runner {options.runner} it is {options.runner}")
    if options.provided:
        raise UsageError("--verify lambda in a container cannot see what --provided leaves out: use --base-layer")
    # An image with the packages in it would prove nothing; what they are installed on is without them.
    bare = "" if options.image or not options.base_image else recipe.base
    how = Emulation(
        memory=options.memory,
        tmp_size=options.tmp_size,
        engine=options.runner,
        image=options.verify_image or bare,
        program=options.emulator,
    )
    emulated.check(how)
    return ContainedEmulation(how, options, engine, recipe.base)
