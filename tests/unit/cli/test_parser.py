"""The help: its length, its completeness, and its examples."""

from __future__ import annotations

import argparse
import io
import re
import shlex
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.cli import display, help_text
from layer_minimizer.cli.parser import command_parser
from layer_minimizer.core.option_kinds import FLAG

if TYPE_CHECKING:
    from collections.abc import Iterator


COMMANDS = ("", *help_text.COMMANDS)


def examples() -> Iterator[str]:
    for text in (help_text.short(), help_text.EPILOG):
        for line in text.splitlines():
            if line.startswith("  minimize"):
                yield re.split(r"\s{3,}", line.strip())[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_group_has_a_title_and_every_option_an_explanation(command: str) -> None:
    parser = command_parser(command)
    used = [group for group in parser._action_groups if group._group_actions]
    assert [group.title for group in used if not group.title] == []
    assert len({group.title for group in used}) == len(used)
    assert [action.dest for action in parser._actions if not action.help] == []


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_examples_are_right(example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "minimize"
    command = arguments.pop(0) if arguments and arguments[0] in help_text.COMMANDS else ""
    command_parser(command).parse_args(arguments)


def test_there_are_examples() -> None:
    assert len(set(examples())) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_colors_and_talk_are_the_same_for_all(command: str) -> None:
    assert {"quiet", "verbose", "color"} <= command_parser(command).options.keys()


def test_every_flag_has_an_opposite() -> None:
    parser = command_parser("")
    flags = [option for option in parser.options.values() if option.kind is FLAG and option.key != "no_config"]
    assert {option.key for option in flags} == {
        "smallest",
        "strip_docstrings",
        "json",
        "time_imports",
        "quiet",
        "verbose",
    }
    for option in flags:
        assert parser.read([f"--{option.name}"]) == {option.key: True}
        assert parser.read([f"--no-{option.name}"]) == {option.key: False}


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon"])
def test_minutes(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser("").parse_args([f"--effort={value}"])
    assert "0 or more" in capsys.readouterr().err


def test_what_was_given_needs_nothing_that_must_be_there() -> None:
    assert command_parser("publish").read(["--name=x"]) == {"name": "x"}
    assert command_parser("publish").read(["--name=x", "layer.zip"]) == {"name": "x", "archive": "layer.zip"}
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit):
        command_parser("").read(["--help-all"])
    assert "default: 1769" in out.getvalue()
    assert argparse.SUPPRESS not in out.getvalue()


@pytest.mark.parametrize(
    ("color", "variables", "colored"),
    [
        ("auto", {}, False),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colors(monkeypatch: pytest.MonkeyPatch, color: str, variables: dict[str, str], *, colored: bool) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    display.console(color).print("text", style="red")
    assert ("\x1b[31m" in stream.getvalue()) == colored
