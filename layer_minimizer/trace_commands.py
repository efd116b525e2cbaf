"""The commands beside `minimize` that are about traces: ``trace``, ``compare`` and ``probe``."""

from __future__ import annotations

import argparse
import json

from layer_minimizer import display, pipeline
from layer_minimizer.settings import Settings

NAMES = ("trace", "compare", "probe")
_TRACE = "trace.json"
# Options of the main command that say what runs, where, and what is looked for; the others are about layers.
_OPTIONS = {
    "--entry": "a Lambda handler, or a script",
    "--handler": "default: handler, else lambda_handler",
    "--model": "lies beside the entry; repeatable",
    "--event": "JSON; repeatable; default: {}",
    "--python": "whose packages are used; default: this one",
    "--observe": "auto, probe or strace",
    "--timeout": "seconds of each run",
    "--trace": "unite with a saved trace, or a log; repeatable",
    "--base-layer": "a layer below the one to be made; repeatable",
    "--provided": "distributions that another layer brings",
    "--keep": "a module that nothing stands in for; repeatable",
    "--effort": "minutes to search for imports without use; 0: keep them",
    "--native": "off: do not watch the pages of libraries",
    "--runner": "local, docker or podman",
    "--runtime": "python3.12: whose image --runner takes",
    "--requirements": "for pip, with --runner",
    "--image": "an image that has your packages, with --runner",
    "--base-image": "to install requirements on, with --runner",
    "--platform": "of the container, for instance linux/arm64",
}
_PROBE = """\
Publish the zip as a layer, add it to the function, and set in the function's environment
AWS_LAMBDA_EXEC_WRAPPER=/opt/layer_minimizer_trace; the log then goes to minimize --trace.
"""


def options_of(given: list[str]) -> list[str]:
    """Give the options of the main command that do what ``minimize trace`` with ``given`` is to do."""
    parser = argparse.ArgumentParser(
        prog="minimize trace",
        description="Run the entry in its own environment, and save what it used; no layer is made.",
    )
    for name, text in _OPTIONS.items():
        parser.add_argument(name, action="append", nargs="+", metavar="X", help=text)
    parser.add_argument("--save-trace", default=_TRACE, metavar="FILE", help="where to; default: %(default)s")
    _add_talk(parser)
    chosen = parser.parse_args(given)
    # The main command reads the values; here it matters only that no other options are there.
    named = any(each == "--save-trace" or each.startswith("--save-trace=") for each in given)
    return given if named else [*given, "--save-trace", chosen.save_trace]


def parser(command: str) -> argparse.ArgumentParser:
    """Give the parser of ``compare`` or ``probe``."""
    if command == "probe":
        made = argparse.ArgumentParser(
            prog="minimize probe",
            description="Write a layer that traces a deployed function, into the function's log.",
            epilog=_PROBE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.add_argument("output", metavar="FILE", nargs="?", default="probe.zip", help="default: %(default)s")
    else:
        made = argparse.ArgumentParser(
            prog="minimize compare", description="Show what some traces have and others lack, by distribution."
        )
        made.add_argument("traces", metavar="FILE", nargs="+", help="saved traces, or logs of traced functions")
        made.add_argument("--python", default="", metavar="PATH", help="whose packages the logs are about")
        made.add_argument("--json", action="store_true", help="print all of it as JSON")
    _add_talk(made)
    made.set_defaults(command=command)
    return made


def answer(options: argparse.Namespace) -> str:
    """Do what ``compare`` or ``probe`` is asked for, and give what is to be printed.

    Raises:
        MinimizeError: an input cannot be read, or the output cannot be written.
    """
    if options.command == "probe":
        archive = pipeline.write_probe(options.output)
        return f"{archive.path}: {archive.unzipped_bytes:,} bytes\n{_PROBE}"
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


def _add_talk(made: argparse.ArgumentParser) -> None:
    talk = made.add_mutually_exclusive_group()
    talk.add_argument("-q", "--quiet", action="store_true", help="only errors on standard error")
    talk.add_argument("-v", "--verbose", action="store_true", help="tell more")
    made.add_argument("--color", choices=display.COLORS, default="auto", help="default: on terminals")
