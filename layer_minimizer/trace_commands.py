"""The commands beside `minimize` that are about traces: ``compare``, ``probe``, and what ``trace`` says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from layer_minimizer import pipeline
from layer_minimizer.settings import Settings

if TYPE_CHECKING:
    import argparse

PROBE = """\
Publish the zip as a layer, add it to the function, and set in the function's environment
AWS_LAMBDA_EXEC_WRAPPER=/opt/layer_minimizer_trace; the log then goes to minimize --trace.
"""


def add_probe(parser: argparse.ArgumentParser) -> None:
    """Add what ``probe`` takes."""
    parser.add_argument("output", metavar="FILE", nargs="?", default="probe.zip", help="default: %(default)s")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add what ``compare`` takes."""
    parser.add_argument("traces", metavar="FILE", nargs="+", help="saved traces, or logs of traced functions")
    parser.add_argument("--python", default="", metavar="PATH", help="whose packages the logs are about")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def probe(options: argparse.Namespace) -> str:
    """Write the layer that traces a function, and give what is to be printed.

    Raises:
        PackError: it cannot be written.
    """
    archive = pipeline.write_probe(options.output)
    return f"{archive.path}: {archive.unzipped_bytes:,} bytes\n{PROBE}"


def compare(options: argparse.Namespace) -> str:
    """Compare traces, and give what is to be printed.

    Raises:
        MinimizeError: a trace cannot be read, or the interpreter cannot be used.
    """
    found = pipeline.compare_traces(options.traces, Settings(python=options.python))
    if options.json:
        return json.dumps([difference.to_json() for difference in found], indent=2) + "\n"
    lines = [str(difference) for difference in found]
    if options.verbose:
        lines = [line for each in found for line in (str(each), *(f"  {item}" for item in each.items))]
    return "".join(f"{line}\n" for line in lines or ["The traces have the same modules, libraries and data files."])


def summary(file: str) -> str:
    """Say in a line what a trace holds that was saved just now."""
    return f"{file}: {pipeline.summarize(file)}\n"
