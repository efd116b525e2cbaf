"""The settings of a run: every option of the command and of `layer_minimizer.minimize`."""

from __future__ import annotations

import argparse
import math
import os
import re
from dataclasses import dataclass, replace

from layer_minimizer.aws.runtimes import ARCHITECTURES, load_runtimes
from layer_minimizer.core.errors import UsageError
from layer_minimizer.execution.engine import ENGINES
from layer_minimizer.execution.observed_run import DEFAULT_TIMEOUT
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.plan import Cold
from layer_minimizer.pack.budget import Budget

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
    `pipeline.RUNS` times where something that was left out cannot come back. ``time_imports`` measures imports before
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


# What stands for a value that is the name of a file: it is completed so, and in a settings file it is relative to that.
FILES = ("FILE", "DIR", "PATH", "ZIP|ARN")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size(text: str) -> int:
    """Read a number of bytes, for instance 250MB.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not found or found[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write for instance 250MB, 0.9GB or 262144000")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def names(text: str) -> list[str]:
    """Read names with commas or spaces in between."""
    return [name for name in re.split(r"[,\s]+", text) if name]


def tolerance(text: str) -> float:
    """Read a relative difference.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no tolerance; write a number from 0 to 1, for instance 1e-6")
    return value


def runs(text: str) -> int:
    """Read a number of runs.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; write a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """Read a time that passes.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 < value < 10**7:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def minutes(text: str) -> float:
    """Read a time that may be nothing.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes; write 0 or more")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# What a settings file may have for an option, by the function that reads its text on the command line.
KINDS: dict[object, tuple[tuple[type, ...], str]] = {
    None: ((str,), "a text"),
    int: ((int,), "a whole number"),
    size: ((str, int), "a size: 250MB, 0.9GB or a whole number of bytes"),
    names: ((str,), "a text"),
    tolerance: ((int, float), "a number from 0 to 1"),
    runs: ((int,), "a whole number from 1 on"),
    seconds: ((int, float), "a number of seconds above 0"),
    minutes: ((int, float), "a number of minutes, 0 or more"),
}
