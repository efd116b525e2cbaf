"""``minimize trace``: run the entry and save its trace; no layer is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.cli.commands import minimize
from layer_minimizer.core.files import read_saved
from layer_minimizer.model.trace import Trace
from layer_minimizer.trace.comparison import summarize_trace

if TYPE_CHECKING:
    from layer_minimizer.cli.commands.minimize import Result
    from layer_minimizer.settings import Messages, Request


def run(options: Request, messages: Messages, layer: str = "") -> Result:
    """Trace the entry, here or in a container; return the result, with a line about the saved trace.

    Raises:
        MinimizeError: as `minimize.run`.
    """
    result = minimize.run(options, messages, layer)
    if result.exit_code:
        return result
    return replace(result, output=f"{result.output}{_summary(options.outputs.save_trace)}")


def _summary(file: str) -> str:
    """Return a line about the content of a saved trace.

    Raises:
        UsageError: the file cannot be read, or is not a trace.
    """
    return f"{file}: {summarize_trace(read_saved(Path(file), '--trace', Trace.from_json))}\n"
