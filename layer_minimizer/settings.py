"""How a layer is made: what users may choose, and the clock that measures the stages."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layer_minimizer import progress
from layer_minimizer.engine import ENGINES
from layer_minimizer.errors import UsageError
from layer_minimizer.lambda_rules import ARCHITECTURES, load_runtimes
from layer_minimizer.native.shrink import Cold
from layer_minimizer.observation import DEFAULT_TIMEOUT
from layer_minimizer.packager import Budget, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

# With so much memory a function has one whole processor: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
DEFAULT_MEMORY = 1769
DEFAULT_TMP_SIZE = 512
_MEMORY, _TMP_SIZE = range(128, 10240 + 1), range(512, 10240 + 1)
_CHOICES: dict[str, tuple[str, ...]] = {
    "layout": tuple(Layout),
    "observe": ("auto", "probe", "strace"),
    "closure": ("trace", "static"),
    "bytecode": ("auto", "only", "both", "source"),
    "native": ("on", "off"),
    "cold": tuple(Cold),
    "runtime": ("", *load_runtimes()),
    "architecture": ("", *ARCHITECTURES),
    "verify": ("local", "lambda"),
    "engine": ("", *ENGINES),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a layer is made, beside the workload.

    Paths in ``include`` and ``exclude`` are site-relative globs; ``base_layers`` are zips or ARNs of the layers below
    this one, the lowest first; ``keep`` are modules that can be imported and that nothing stands in for, ``effort`` the
    minutes for which those that can be stood in for are searched. ``runtime`` is where the layer is to work; without it
    nothing of Lambda's systems is checked. ``verify`` is "lambda" for one more proof in an emulated Lambda with
    ``memory`` and ``tmp_size`` MB, in a container of ``verify_image`` where there is an ``engine``; ``emulator`` is the
    Runtime Interface Emulator to use. ``runs`` is how often the layer must give the right results; None: once, or
    `proving.RUNS` times where something that was left out cannot come back. ``time_imports`` measures imports before
    and after, in four more runs.
    """

    python: str = ""
    observe: str = "auto"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    base_layers: tuple[str, ...] = ()
    closure: str = "trace"
    layout: Layout = Layout.SITE
    max_size: int | None = None
    tolerance: float = 0.0
    runs: int | None = None
    timeout: float = DEFAULT_TIMEOUT
    keep: tuple[str, ...] = ()
    effort: float = 5.0
    bytecode: str = "auto"
    strip_docstrings: bool = False
    native: str = "on"
    cold: Cold = Cold.KEEP
    runtime_library: str = ""
    runtime: str = ""
    architecture: str = ""
    verify: str = "local"
    memory: int = DEFAULT_MEMORY
    tmp_size: int = DEFAULT_TMP_SIZE
    engine: str = ""
    verify_image: str = ""
    emulator: str = ""
    time_imports: bool = False

    @property
    def budget(self) -> Budget:
        """How large the layer may be."""
        return Budget() if self.max_size is None else Budget(self.max_size, chosen=True)


_STAGES = ("trace", "search", "plan", "pack", "verify")


@dataclass(slots=True)
class Clock:
    """Says what is being done, and measures how long each of the stages takes."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))

    @contextmanager
    def stage(self, name: str, what: str, *, expected: float = 0.0, limit: float = 0.0) -> Iterator[None]:
        """Announce a piece of work, and count its seconds as the stage's ``name``.

        ``expected`` and ``limit`` are those of a `progress.Step`.
        """
        begun = time.monotonic()
        try:
            with progress.step(what, expected=expected, limit=limit):
                yield
        finally:
            self.seconds[name] = round(self.seconds[name] + time.monotonic() - begun, 3)


def choose(settings: Settings | None, options: dict[str, object]) -> Settings:
    """Give ``settings`` with single fields replaced.

    Raises:
        UsageError: a field has a value that does not exist.
    """
    for name, choices in _CHOICES.items():
        if options.get(name, choices[0]) not in choices:
            raise UsageError(f"{name}={options[name]!r}: choose one of {', '.join(filter(None, choices))}")
    if "layout" in options:
        options["layout"] = Layout(str(options["layout"]))
    if "cold" in options:
        options["cold"] = Cold(str(options["cold"]))
    for name in ("include", "exclude", "provided", "base_layers", "keep"):
        given = options.get(name)
        if isinstance(given, str | list | os.PathLike):
            listed = given if isinstance(given, list) else [given]
            options[name] = tuple(map(os.fspath, listed))
    chosen = replace(settings or Settings(), **options)  # type: ignore[arg-type]
    for name, allowed in (("memory", _MEMORY), ("tmp_size", _TMP_SIZE)):
        if (given := getattr(chosen, name)) not in allowed:
            raise UsageError(f"{name}={given!r}: Lambda gives {allowed[0]} to {allowed[-1]:,} MB")
    if chosen.runs is not None and chosen.runs < 1:
        raise UsageError(f"runs={chosen.runs!r}: a layer must have been run at least once")
    return chosen
