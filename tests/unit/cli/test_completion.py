"""The scripts for shells, tried in the shells themselves."""

from __future__ import annotations

import pytest

from layer_minimizer.cli import help_text, parser
from layer_minimizer.cli.commands import completion


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_scripts_name_every_option(shell: str) -> None:
    script = completion.script(shell, parser.parser_tree())
    known = {
        text[2:]
        for command in ("", *help_text.COMMANDS)
        for action in parser.command_parser(command)._actions
        for text in action.option_strings
        if text.startswith("--")
    }
    assert [name for name in known if name not in script] == []
