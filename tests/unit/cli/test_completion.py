"""The completion scripts name every option."""

from __future__ import annotations

import pytest

from layer_minimizer.cli import help_text, parser
from layer_minimizer.cli.commands import completion
from layer_minimizer.cli.parser import parser_tree
from layer_minimizer.settings import Messages


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_scripts_name_every_option(shell: str) -> None:
    script = "".join(completion.run(completion.CompletionOptions(shell), Messages(), parser=parser_tree()))
    known = {
        text[2:]
        for command in ("", *help_text.COMMANDS)
        for action in parser.command_parser(command)._actions
        for text in action.option_strings
        if text.startswith("--")
    }
    assert [name for name in known if name not in script] == []
