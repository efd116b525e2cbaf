"""``minimize compare``: show what some traces have and others lack."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import scratch_folder
from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import FLAG, INPUT_FILE, PROGRAM
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.trace.comparison import compare_traces
from layer_minimizer.trace.saved_traces import read_traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.comparison import Difference
    from layer_minimizer.settings import Messages


@dataclass(frozen=True, slots=True)
class CompareOptions(Options):
    """The options of ``minimize compare``."""

    traces: tuple[str, ...] = option(
        (),
        INPUT_FILE,
        "saved traces, or logs of traced functions",
        "traces",
        positional=True,
        repeat=True,
        required=True,
    )
    python: str = option("", PROGRAM, "interpreter with the packages of the logs", "traces")
    json: bool = option(default=False, kind=FLAG, help_text="print all differences as JSON", group="what is shown")


def run(options: CompareOptions, messages: Messages) -> Iterator[str]:
    """Compare the traces; yield the text for standard output.

    Raises:
        MinimizeError: a trace cannot be read, or the interpreter cannot be used.
    """
    differences = _compare(options)
    if options.json:
        yield json.dumps([difference.to_json() for difference in differences], indent=2) + "\n"
        return
    for difference in differences:
        yield f"{difference}\n"
        if messages.verbose:
            yield from (f"  {item}\n" for item in difference.items)
    if not differences:
        yield "The traces have the same modules, libraries and data files.\n"


def _compare(options: CompareOptions) -> tuple[Difference, ...]:
    """Return the differences. Logs of traced functions are read with the packages of the option ``python``.

    Raises:
        UsageError: a file is not a trace, or there is only one trace.
        RunnerError: the interpreter cannot be used.
    """
    saved = read_traces(map(Path, options.traces))
    traces = [*saved.traces]
    if saved.logs:
        interpreter = describe_interpreter(options.python or sys.executable)
        with scratch_folder() as scratch:
            traces += [(name, log.trace(interpreter, scratch / str(n))) for n, (name, log) in enumerate(saved.logs)]
    if len(traces) < 2:  # noqa: PLR2004 - a comparison needs two
        raise UsageError("there is nothing to compare: name at least two traces")
    return compare_traces(traces)
