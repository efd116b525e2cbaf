"""``minimize probe``: write a layer that traces a deployed function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import OUTPUT_FILE
from layer_minimizer.trace import probe_layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.settings import Messages

INSTRUCTIONS = """\
Publish the zip as a layer, add it to the function, and set in the function's environment
AWS_LAMBDA_EXEC_WRAPPER=/opt/layer_minimizer_trace; then pass the function's log to minimize --trace.
"""


@dataclass(frozen=True, slots=True)
class ProbeOptions(Options):
    """The options of ``minimize probe``."""

    output: str = option("probe.zip", OUTPUT_FILE, "the layer", "what is written", positional=True)


def run(options: ProbeOptions, _messages: Messages) -> Iterator[str]:
    """Write the layer that traces a function; yield the text for standard output.

    Raises:
        PackError: the layer cannot be written.
    """
    archive = probe_layer.write_probe_layer(options.output)
    yield f"{archive.path}: {archive.unzipped_bytes:,} bytes\n{INSTRUCTIONS}"
