"""The parsers of the command line, built from the declared options."""

from __future__ import annotations

import argparse
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import shtab

from layer_minimizer.cli import help_text
from layer_minimizer.cli.commands import compare, completion, diff, init, probe
from layer_minimizer.cli.commands import help as help_command
from layer_minimizer.core.option_declarations import Option, Options, Values, declared
from layer_minimizer.core.option_kinds import FLAG, File, WrongValueError
from layer_minimizer.settings import GROUPS, MAIN_PARTS, PUBLISH_PARTS, FileOptions, Messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its options and the texts of its help.

    ``parts`` are the classes that declare its options, ``usage``, ``description`` and ``epilog`` the texts of
    `argparse`. A ``configured`` command reads settings files, so that no option is required on the command line. A
    ``tracing`` command has only those options of its parts that affect the trace.
    """

    parts: tuple[type[Options], ...]
    description: str
    usage: str | None = None
    epilog: str | None = None
    configured: bool = False
    tracing: bool = False

    @property
    def options(self) -> Iterator[Option]:
        """The command's options."""
        parts = (*self.parts, FileOptions) if self.configured else self.parts
        return (each for part in parts for each in declared(part) if each.trace or not self.tracing)


COMMANDS = {
    "publish": Command(
        PUBLISH_PARTS,
        "Publish a layer's zip as a new version, unless the newest version is identical;\nprint its ARN.",
        "minimize publish FILE --name NAME --runtime PYTHON [OPTIONS]",
        "Credentials, region and endpoint are found as boto3 does: AWS_* variables,\nAWS_PROFILE, ~/.aws.",
        configured=True,
    ),
    "trace": Command(
        MAIN_PARTS,
        "Run the entry in its own environment, and save what it used (as trace.json);\nno layer is made.",
        "minimize trace --entry FILE [OPTIONS]",
        configured=True,
        tracing=True,
    ),
    "compare": Command(
        (compare.CompareOptions, Messages), "Show what some traces have and others lack, by distribution."
    ),
    "diff": Command((diff.DiffOptions, Messages), "Show what has changed between two reports."),
    "probe": Command(
        (probe.ProbeOptions, Messages),
        "Write a layer that traces a deployed function, into the function's log.",
        epilog=probe.INSTRUCTIONS,
    ),
    "init": Command(
        (init.InitOptions, Messages),
        "Find the handler of this folder and its files, and write a settings file for it.\n"
        "With --for, also write the files with which other tools build and deploy it.",
    ),
    "completion": Command(
        (completion.CompletionOptions, Messages),
        "Print a script that lets a shell complete this command.",
        epilog=completion.INSTRUCTIONS,
    ),
    "help": Command(
        (help_command.HelpOptions, Messages),
        "Show a page of the manual: formatted on a terminal, as Markdown elsewhere.",
    ),
}


def command_parser(command: str) -> Parser:
    """Return the parser of one command; an empty name means ``minimize`` without a command."""
    if not command:
        return main_parser()
    parser = Parser(prog=f"minimize {command}", **_texts(COMMANDS[command]))
    parser.declare(COMMANDS[command].options, complete=not COMMANDS[command].configured)
    return parser


def parser_tree() -> Parser:
    """Return the parser of ``minimize`` with the commands as subparsers."""
    parser = main_parser()
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for name, text in help_text.COMMANDS.items():
        commands.add_parser(name, help=text, **_texts(COMMANDS[name])).declare(COMMANDS[name].options)
    return parser


def _texts(command: Command) -> dict[str, Any]:
    return {"usage": command.usage, "description": command.description, "epilog": command.epilog}


_COMPLETIONS = {File.FOLDER: shtab.DIRECTORY}


class _Choices(tuple[str, ...]):
    """Values for shells to complete. `argparse` accepts any other value as well; the option's kind checks it."""

    __slots__ = ()

    def __contains__(self, _value: object) -> bool:
        """Return True: the option's kind checks the value."""
        return True


class Parser(argparse.ArgumentParser):
    """A parser of declared options. Options absent from the command line are absent from the result of `read`."""

    def __init__(self, **more: Any) -> None:
        """Create a parser without options."""
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **more})
        self.options: dict[str, Option] = {}

    def declare(self, options: Iterable[Option], *, complete: bool = False) -> None:
        """Add options, group by group; ``complete`` if required ones must be on the command line."""
        found = list(options)
        for title in sorted(dict.fromkeys(each.group for each in found), key=_group_rank):
            group = self.add_argument_group(title)
            alternatives: dict[frozenset[str], argparse._MutuallyExclusiveGroup] = {}
            for each in found:
                if each.group == title:
                    pair = _alternatives(each, found)
                    if pair and pair not in alternatives:
                        alternatives[pair] = group.add_mutually_exclusive_group()
                    self._add(alternatives[pair] if pair else group, each, needed=complete and each.required)

    def _add(self, group: argparse._ActionsContainer, option: Option, *, needed: bool) -> None:
        self.options[option.key] = option
        names = [option.short, f"--{option.name}"] if option.short else [f"--{option.name}"]
        if option.positional:
            names = [option.key]
        more: dict[str, Any] = {"help": option.long_text.replace("%", "%%"), "default": argparse.SUPPRESS}
        if option.kind is FLAG:
            one_way = option.name.startswith("no-")
            group.add_argument(*names, action="store_true" if one_way else argparse.BooleanOptionalAction, **more)
            return
        if option.positional:
            more |= {"nargs": ("+" if needed else "*") if option.repeat else (None if needed else "?")}
        elif option.repeat:
            more |= {"action": "extend", "nargs": "+"} if option.several else {"action": "append"}
        if option.kind.choices:
            more["choices"] = _Choices(option.kind.choices)
        if option.metavar or not option.kind.choices:
            more["metavar"] = option.value
        action = group.add_argument(*names, type=_reader(option), **more)
        if option.kind.file:
            action.complete = _COMPLETIONS.get(option.kind.file, shtab.FILE)  # type: ignore[attr-defined]

    def read(self, arguments: Sequence[str]) -> Values:
        """Return the values on the command line, by the options' keys."""
        return {
            key: self.options[key].collected(value) if self.options[key].repeat else value
            for key, value in vars(self.parse_args(arguments)).items()
        }


def _group_rank(title: str) -> int:
    return GROUPS.index(title) if title in GROUPS else -1


def _alternatives(option: Option, others: Iterable[Option]) -> frozenset[str]:
    """Return the keys of an option and the one it excludes, or an empty set."""
    for each in others:
        for one, two in ((option, each), (each, option)):
            if one.instead_of == (two.key,) and FLAG in (one.kind, two.kind):
                return frozenset({one.key, two.key})
    return frozenset()


def _reader(option: Option) -> Callable[[str], Any]:
    """Return the function that parses a value's text for `argparse`."""

    def read(text: str) -> Any:
        try:
            return option.kind.from_text(text)
        except WrongValueError as exc:
            raise argparse.ArgumentTypeError(f"{text!r}: it must be {exc}") from exc

    return read


def main_parser() -> Parser:
    """Return the parser of ``minimize`` without a command."""
    parser = Parser(
        prog="minimize",
        usage=help_text.USAGE,
        description=help_text.DESCRIPTION,
        epilog=help_text.EPILOG,
        add_help=False,
    )
    parser.declare(each for part in (*MAIN_PARTS, FileOptions) for each in declared(part))
    shown = parser.add_argument_group("help")
    # argparse prints a given text only by its action "version".
    shown.add_argument(
        "-h", "--help", action="version", version=help_text.short(), help="show the common options and exit"
    )
    shown.add_argument("--help-all", action="help", help="show every option and exit")
    version = importlib.metadata.version("layer_minimizer")
    shown.add_argument("--version", action="version", version=version, help="show the version and exit")
    return parser
