"""The command line's parsers, made from the declarations of the options."""

from __future__ import annotations

import argparse
import importlib.metadata
from typing import TYPE_CHECKING, Any

from layer_minimizer.aws import runtimes
from layer_minimizer.cli import help_text
from layer_minimizer.cli.commands import completion, diff, init, traces
from layer_minimizer.cli.commands.help import add_arguments
from layer_minimizer.container import emulation, run
from layer_minimizer.execution.observed_run import DEFAULT_TIMEOUT
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.plan import Cold
from layer_minimizer.settings import minutes, names, runs, seconds, size, tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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
    "help": "Show a page of the manual: formatted on a terminal, as Markdown elsewhere.",
}
_USAGES = {
    "publish": "minimize publish FILE --name NAME --runtime PYTHON [OPTIONS]",
    "trace": "minimize trace --entry FILE [OPTIONS]",
}
_EPILOGS = {
    "publish": "Credentials, region and endpoint are found as boto3 does: AWS_* variables,\nAWS_PROFILE, ~/.aws.",
    "probe": traces.PROBE,
    "completion": completion.USE,
}


def command_parser(command: str) -> Parser:
    """Give the parser of one command; the empty text is ``minimize`` alone."""
    if not command:
        return main_parser()
    made = Parser(prog=f"minimize {command}", **_texts(command))
    _FILL[command](made)
    return made


def parser_tree() -> Parser:
    """Give the parser of ``minimize`` with those of its commands in it."""
    made = main_parser()
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
        choices=list(runtimes.ARCHITECTURES),
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
    add_config(parser)
    add_talk(parser)


def _fill_trace(parser: Parser) -> None:
    parser.adopt(main_parser(), TRACE)
    add_config(parser)
    add_talk(parser)


def _with_talk(fill: Callable[[argparse.ArgumentParser], None]) -> Callable[[Parser], None]:
    def both(parser: Parser) -> None:
        fill(parser)
        add_talk(parser)

    return both


_FILL: dict[str, Callable[[Parser], None]] = {
    "publish": _fill_publish,
    "trace": _fill_trace,
    "compare": _with_talk(traces.add_compare),
    "diff": _with_talk(diff.add_arguments),
    "probe": _with_talk(traces.add_probe),
    "init": _with_talk(init.add_arguments),
    "completion": _with_talk(completion.add_arguments),
    "help": _with_talk(add_arguments),
}


# ---- the parser ---------------------------------------------------------------------------------------------------


class Flag(argparse.BooleanOptionalAction):
    """An option without a value, and its opposite: ``--json`` and ``--no-json``."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 - argparse's name
        """Be off."""
        super().__init__(option_strings, dest, default=None, help=help)
        self.default = False  # only now: some Pythons add the default to the help


class Parser(argparse.ArgumentParser):
    """A parser that also tells its options, shares them, and turns what was given back into arguments."""

    @property
    def options(self) -> dict[str, argparse.Action]:
        """Its options and arguments by their names in a namespace, but for those that only ask for help."""
        return {action.dest: action for action in self._actions if action.default != argparse.SUPPRESS}

    def adopt(self, other: Parser, wanted: Iterable[str]) -> None:
        """Take over options of another parser, group by group."""
        chosen = set(wanted)
        for group in other._action_groups:  # as argparse does with parents
            actions = [action for action in group._group_actions if action.dest in chosen]  # noqa: SLF001
            if actions:
                own = self.add_argument_group(group.title)
                for action in actions:
                    own._add_action(action)  # noqa: SLF001

    def given(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Read arguments, of which none must be there, and give those that are. The parser is of no use afterwards."""
        for action in self._actions:
            if action.help:
                action.help = action.help.replace("%(default)s", str(action.default))
            action.default = argparse.SUPPRESS
            action.required = False
            if not action.option_strings and action.nargs is None:
                action.nargs = "?"
        return vars(self.parse_args(arguments))

    def words(self, values: Mapping[str, Any]) -> list[str]:
        """Give the arguments that stand for values of a namespace."""
        found: list[str] = []
        positional: list[str] = []
        for dest, action in self.options.items():
            if dest in values:
                (found if action.option_strings else positional).extend(_words(action, values[dest]))
        return [*found, *(["--", *positional] if positional else [])]


def name_of(action: argparse.Action) -> str:
    """Give an option's own name, without dashes before it."""
    return next((text[2:] for text in action.option_strings if text.startswith("--")), action.dest)


def repeatable(action: argparse.Action) -> bool:
    """Say whether an option takes several values."""
    return isinstance(action.default, list)


def _words(action: argparse.Action, value: Any) -> list[str]:
    name = name_of(action)
    if action.nargs == 0:
        return [f"--{name}"] if value else []  # off is what it is anyway
    values = value if repeatable(action) else [value]
    texts = [",".join(each) if isinstance(each, list) else str(each) for each in values]
    return [f"--{name}={text}" for text in texts] if action.option_strings else texts


# ---- the main command ---------------------------------------------------------------------------------------------


def main_parser() -> Parser:
    """Give the parser of ``minimize`` without a command."""
    parser = Parser(
        prog="minimize",
        usage=help_text.USAGE,
        description=help_text.DESCRIPTION,
        epilog=help_text.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    _add_workload(parser)
    run.add_arguments(parser)
    _add_contents(parser)
    _add_forms(parser)
    emulation.add_arguments(parser)
    _add_results(parser)
    add_config(parser)
    talk = add_talk(parser)
    # A text to be shown is what argparse calls a version.
    talk.add_argument(
        "-h", "--help", action="version", version=help_text.SHORT, help="show the common options, and end"
    )
    talk.add_argument("--help-all", action="help", help="show every option, and end")
    version = importlib.metadata.version("layer_minimizer")
    talk.add_argument("--version", action="version", version=version, help="show the version, and end")
    return parser


def _add_workload(parser: Parser) -> None:
    what = parser.add_argument_group("what must keep working")
    what.add_argument("--entry", metavar="FILE", help="a Lambda handler, or a script")
    what.add_argument("--handler", default="", metavar="NAME", help="default: handler, else lambda_handler")
    _repeat(what, "--model", "FILE", "lies beside the entry; repeatable")
    _repeat(what, "--event", "FILE", "JSON; repeatable; default: {}")
    where = parser.add_argument_group("where it runs")
    where.add_argument("--python", default="", metavar="PATH", help="whose packages are minimized; default: this one")
    where.add_argument(
        "--observe",
        choices=("auto", "probe", "strace"),
        default="auto",
        help="how what the entry uses is seen; default: %(default)s",
    )
    where.add_argument("--timeout", type=seconds, default=DEFAULT_TIMEOUT, metavar="SECONDS", help="of each run")


def _add_contents(parser: Parser) -> None:
    which = parser.add_argument_group("what goes into the layer")
    _repeat(which, "--include", "GLOB", "keep these too; repeatable")
    _repeat(which, "--exclude", "GLOB", "never these; repeatable")
    which.add_argument(
        "--provided", type=names, nargs="+", action="extend", default=[], metavar="DIST", help="another layer has it"
    )
    _repeat(which, "--base-layer", "ZIP|ARN", "a layer below this one, in the function's order; repeatable")
    which.add_argument(
        "--closure", choices=("trace", "static"), default="trace", help="static: also what kept code could import"
    )


def _add_forms(parser: Parser) -> None:
    python = parser.add_argument_group("Python code")
    _repeat(python, "--keep", "MODULE", "it can be imported, and nothing stands in for it; repeatable")
    python.add_argument(
        "--effort", type=minutes, default=5.0, metavar="MINUTES", help="to search for imports without use; 0: keep them"
    )
    python.add_argument(
        "--bytecode",
        choices=("auto", "only", "both", "source"),
        default="auto",
        help="what modules are shipped as; default: compressed bytecode, and sources whose text was read",
    )
    python.add_argument("--strip-docstrings", action=Flag, help="leave docstrings out of the bytecode")
    native = parser.add_argument_group("shared libraries")
    native.add_argument(
        "--native", choices=("on", "off"), default="on", help="off: ship libraries whole; default: the pages in use"
    )
    native.add_argument(
        "--cold",
        choices=[str(cold) for cold in Cold],
        default="keep",
        help="pages not in use: keep them compressed, drop them, auto: keep what --max-size allows; default: keep",
    )
    native.add_argument("--runtime-library", default="", metavar="FILE", help="the runtime for another architecture")
    runtime = parser.add_argument_group("where the layer is to work")
    newest, *_, oldest = known = list(runtimes.load_runtimes())
    runtime.add_argument(
        "--runtime",
        choices=known,
        default="",
        metavar="PYTHON",
        help=f"check the layer against Lambda's: {oldest} to {newest}",
    )
    runtime.add_argument(
        "--architecture", choices=list(runtimes.ARCHITECTURES), default="", help="default: this machine's"
    )


def _add_results(parser: Parser) -> None:
    result = parser.add_argument_group("what comes out")
    result.add_argument("--output", metavar="FILE", help="the layer; default: layer.zip")
    result.add_argument(
        "--layout",
        choices=[str(layout) for layout in Layout],
        default="site",
        help="python/lib/…/site-packages, or flat: python/",
    )
    result.add_argument("--max-size", type=size, metavar="SIZE", help="unzipped; default: Lambda's 262,144,000 bytes")
    result.add_argument("--tolerance", type=tolerance, default=0.0, metavar="X", help="for numbers; default: exact")
    result.add_argument("--runs", type=runs, metavar="N", help="of the layer, to verify it; 1, without a way back 10")
    result.add_argument("--function-zip", metavar="FILE", help="also write the function: entry, local modules, models")
    result.add_argument("--json", action=Flag, help="print the report as JSON, and nothing else")
    result.add_argument("--report", metavar="DIR", help="write report.json and report.html there")
    result.add_argument("--time-imports", action=Flag, help="time imports before and after; --report does so, too")
    result.add_argument("--report-json", metavar="FILE", help="also write the report's JSON there")
    result.add_argument("--explain", metavar="NAME", help="why a path, module or distribution is kept or dropped")
    stages = parser.add_argument_group("single stages")
    stages.add_argument("--save-trace", metavar="FILE", help="write what was seen; without --output no layer is made")
    stages.add_argument("--trace", nargs="+", action="extend", default=[], metavar="FILE", help="use saved traces")
    stages.add_argument("--save-plan", metavar="FILE", help="write what becomes of each file, and why; the same")
    stages.add_argument("--plan", metavar="FILE", help="with --explain: ask a saved plan")


def _repeat(group: argparse._ArgumentGroup, name: str, metavar: str, text: str) -> None:
    group.add_argument(name, action="append", default=[], metavar=metavar, help=text)


def add_config(parser: Parser) -> None:
    """Add the options that say which settings count."""
    group = parser.add_argument_group("settings file")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--config",
        metavar="FILE",
        help="settings; default: layer_minimizer.toml, or [tool.layer_minimizer] in pyproject.toml, here or above",
    )
    which.add_argument("--no-config", action="store_true", help="read no settings file")
    group.add_argument(
        "--layer", action="append", default=[], metavar="NAME", help="one of its layers; repeatable; default: all"
    )


def add_talk(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that every command has, and give their group."""
    group = parser.add_argument_group("what is said")
    talk = group.add_mutually_exclusive_group()
    talk.add_argument("-q", "--quiet", action=Flag, help="only errors on standard error")
    talk.add_argument("-v", "--verbose", action=Flag, help="more on standard error")
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="default: auto, on a terminal, and as NO_COLOR and FORCE_COLOR say",
    )
    return group
