"""The options of the commands beside ``minimize``, and all of them as one tree, for a shell's completion."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from layer_minimizer import completion, help_text, lambda_rules, options, report_diff, starter, trace_commands
from layer_minimizer.options import Flag, Parser

if TYPE_CHECKING:
    from collections.abc import Callable

# Options of the main command that say what runs, where, and what is looked for; the others are about layers.
TRACE = (
    "entry", "handler", "model", "event", "python", "observe", "timeout", "runner", "requirements", "image",
    "base_image", "platform", "tool_image", "provided", "base_layer", "keep", "effort", "native", "runtime", "trace",
    "save_trace",
)  # fmt: skip
_DESCRIPTIONS = {
    "publish": "Publish a layer's zip as a new version, unless the newest version is identical;\nprint its ARN.",
    "trace": "Run the entry in its own environment, and save what it used (as trace.json);\nno layer is made.",
    "compare": "Show what some traces have and others lack, by distribution.",
    "diff": "Show what has changed between two reports.",
    "probe": "Write a layer that traces a deployed function, into the function's log.",
    "init": "Find the handler of this folder, and what belongs to it, and write a settings\nfile for it.",
    "completion": "Print a script that lets a shell complete this command.",
}
_USAGES = {
    "publish": "minimize publish FILE --name NAME --runtime PYTHON [OPTIONS]",
    "trace": "minimize trace --entry FILE [OPTIONS]",
}
_EPILOGS = {
    "publish": "Credentials, region and endpoint are found as boto3 does: AWS_* variables,\nAWS_PROFILE, ~/.aws.",
    "probe": trace_commands.PROBE,
    "completion": completion.USE,
}


def parser(command: str) -> Parser:
    """Give the parser of one command; the empty text is ``minimize`` alone."""
    if not command:
        return options.main_parser()
    made = Parser(prog=f"minimize {command}", **_texts(command))
    _FILL[command](made)
    return made


def tree() -> Parser:
    """Give the parser of ``minimize`` with those of its commands in it."""
    made = options.main_parser()
    commands = made.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for command, text in help_text.COMMANDS.items():
        _FILL[command](commands.add_parser(command, help=text, **_texts(command)))
    return made


def _texts(command: str) -> dict[str, Any]:
    return {
        "usage": _USAGES.get(command),
        "description": _DESCRIPTIONS[command],
        "epilog": _EPILOGS.get(command),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _fill_publish(parser: Parser) -> None:
    parser.add_argument("archive", metavar="FILE", help="the layer's zip")
    parser.add_argument("--name", required=True, metavar="NAME", help="of the layer, or its ARN without a version")
    parser.add_argument(
        "--runtime",
        action="append",
        default=[],
        required=True,
        metavar="PYTHON",
        help="it is for: python3.12; repeatable",
    )
    parser.add_argument(
        "--architecture",
        action="append",
        default=[],
        choices=list(lambda_rules.ARCHITECTURES),
        help="it is for; repeatable",
    )
    parser.add_argument("--bucket", default="", metavar="NAME", help="in S3, through which a zip over 50 MB is sent")
    parser.add_argument("--key", default="", metavar="KEY", help="of the object in it; default: a name of its own")
    parser.add_argument("--keep-object", action=Flag, help="do not delete the object afterwards")
    parser.add_argument("--region", default="", metavar="REGION", help="default: boto3's")
    parser.add_argument("--description", default="", metavar="TEXT", help="of the version")
    parser.add_argument("--license", default="", metavar="TEXT", help="for instance MIT")
    parser.add_argument("--dry-run", action=Flag, help="only say what would be done")
    parser.add_argument("--json", action=Flag, help="print the result as JSON, and nothing else")
    options.add_config(parser)
    options.add_talk(parser)


def _fill_trace(parser: Parser) -> None:
    parser.adopt(options.main_parser(), TRACE)
    options.add_config(parser)
    options.add_talk(parser)


def _with_talk(fill: Callable[[argparse.ArgumentParser], None]) -> Callable[[Parser], None]:
    def both(parser: Parser) -> None:
        fill(parser)
        options.add_talk(parser)

    return both


_FILL: dict[str, Callable[[Parser], None]] = {
    "publish": _fill_publish,
    "trace": _fill_trace,
    "compare": _with_talk(trace_commands.add_compare),
    "diff": _with_talk(report_diff.add_arguments),
    "probe": _with_talk(trace_commands.add_probe),
    "init": _with_talk(starter.add_arguments),
    "completion": _with_talk(completion.add_arguments),
}
