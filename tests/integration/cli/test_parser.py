"""The help: its length, its completeness, and its examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from layer_minimizer.cli import help_text
from layer_minimizer.cli.parser import Parser, command_parser

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def shown(*arguments: str) -> str:
    command = [sys.executable, "-m", "layer_minimizer", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def strings(parser: Parser) -> set[str]:
    return {text for action in parser._actions for text in action.option_strings}


def test_the_help_fits_two_screens() -> None:
    lines = shown("--help").splitlines()
    assert len(lines) <= 48
    assert max(map(len, lines)) <= 80
    assert lines == shown("-h").splitlines()


def test_the_help_names_what_there_is() -> None:
    text = shown("--help")
    assert "--help-all" in text
    known = strings(command_parser("")) | strings(command_parser("publish"))
    assert set(OPTION.findall(text)) <= known
    assert [name for name in help_text.COMMANDS if f"{name}," not in text and f", {name}" not in text] == []


def test_every_option_is_in_the_whole_help() -> None:
    text = shown("--help-all")
    found = set(OPTION.findall(text))
    assert strings(command_parser("")) - {"-h", "-q", "-v"} <= found
    for command in help_text.COMMANDS:
        assert re.search(rf"^  {command} ", text, re.MULTILINE)
    assert len(text.splitlines()) > 100


@pytest.mark.parametrize("command", help_text.COMMANDS)
def test_commands_have_a_help_of_their_own(command: str) -> None:
    text = shown(command, "--help")
    assert text.startswith(f"usage: minimize {command} ")
    assert set(OPTION.findall(text)) >= strings(command_parser(command)) - {"-h", "-q", "-v"}
    assert max(map(len, text.partition("\n\n")[2].split("\n\n")[0].splitlines())) <= 80
