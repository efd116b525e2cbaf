"""``minimize trace``, ``compare`` and ``probe``: the commands about traces."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import read_saved, scratch_folder
from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import FLAG, INPUT_FILE, OUTPUT_FILE, PROGRAM
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.trace import Trace
from layer_minimizer.pipeline import prepare, save
from layer_minimizer.plan import planning
from layer_minimizer.settings import Messages, Settings
from layer_minimizer.trace import probe_layer
from layer_minimizer.trace.comparison import compare_traces, summarize_trace
from layer_minimizer.trace.saved_traces import read_traces

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from layer_minimizer.model.comparison import Difference
    from layer_minimizer.model.workload import Workload

    StrPath = str | os.PathLike[str]

PROBE = """\
Publish the zip as a layer, add it to the function, and set in the function's environment
AWS_LAMBDA_EXEC_WRAPPER=/opt/layer_minimizer_trace; the log then goes to minimize --trace.
"""


@dataclass(frozen=True, slots=True)
class ProbeOptions(Options):
    """What ``minimize probe`` takes."""

    output: str = option("probe.zip", OUTPUT_FILE, "the layer", "what is written", positional=True)


@dataclass(frozen=True, slots=True)
class CompareOptions(Options):
    """What ``minimize compare`` takes."""

    traces: tuple[str, ...] = option(
        (),
        INPUT_FILE,
        "saved traces, or logs of traced functions",
        "traces",
        positional=True,
        repeat=True,
        required=True,
    )
    python: str = option("", PROGRAM, "whose packages the logs are about", "traces")
    json: bool = option(default=False, kind=FLAG, help_text="print all of it as JSON", group="what is shown")


def probe(options: ProbeOptions, _messages: Messages) -> str:
    """Write the layer that traces a function, and give what is to be printed.

    Raises:
        PackError: it cannot be written.
    """
    archive = probe_layer.write_probe_layer(options.output)
    return f"{archive.path}: {archive.unzipped_bytes:,} bytes\n{PROBE}"


def compare(options: CompareOptions, messages: Messages) -> str:
    """Compare traces, and give what is to be printed.

    Raises:
        MinimizeError: a trace cannot be read, or the interpreter cannot be used.
    """
    found = compare_saved_traces(options.traces, Settings(python=options.python))
    if options.json:
        return json.dumps([difference.to_json() for difference in found], indent=2) + "\n"
    lines = [str(difference) for difference in found]
    if messages.verbose:
        lines = [line for each in found for line in (str(each), *(f"  {item}" for item in each.items))]
    return "".join(f"{line}\n" for line in lines or ["The traces have the same modules, libraries and data files."])


def summary(file: str) -> str:
    """Say in a line what a trace holds that was saved just now."""
    return f"{file}: {summarize_saved_trace(file)}\n"


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
        traced, site = prepare(source, traces, settings, scratch)
        save(save_trace, traced.trace, "--save-trace")
        if save_plan is not None:
            save(save_plan, planning.make(traced, site, settings, Adjustments()), "--save-plan")


def compare_saved_traces(files: Iterable[StrPath], settings: Settings) -> tuple[Difference, ...]:
    """Return what some of the saved traces have and others lack; see `comparison.compare`.

    Logs of traced functions are read with the eyes of the environment of ``settings.python``.

    Raises:
        UsageError: one of them is no trace, or there is only one.
        RunnerError: the interpreter cannot be used.
    """
    earlier = read_traces(map(Path, files))
    saved = [*earlier.traces]
    if earlier.logs:
        interpreter = describe_interpreter(settings.python or sys.executable)
        with scratch_folder() as scratch:
            saved += [(name, told.trace(interpreter, scratch / str(n))) for n, (name, told) in enumerate(earlier.logs)]
    if len(saved) < 2:  # noqa: PLR2004 - it takes two to differ
        raise UsageError("there is nothing to compare: name two traces, or more")
    return compare_traces(saved)


def summarize_saved_trace(file: StrPath) -> str:
    """Say in a few words what a saved trace holds.

    Raises:
        UsageError: it cannot be read, or is no trace.
    """
    return summarize_trace(read_saved(Path(file), "--trace", Trace.from_json))
