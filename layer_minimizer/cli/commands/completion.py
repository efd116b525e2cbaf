"""Makes the scripts with which shells complete the command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import shtab

from layer_minimizer.settings import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = ("bash", "zsh", "tcsh")
USE = """\
bash: put this into ~/.bashrc:   source <(minimize completion bash)
zsh:  write it as _minimize into a folder of $fpath:   minimize completion zsh > "${fpath[1]}/_minimize"
tcsh: write it into a file, and source that in ~/.tcshrc
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("shell", choices=SHELLS, help="whose script to print")


def script(shell: str, tree: argparse.ArgumentParser) -> str:
    """Give the script for a shell; options whose value is a file are completed with files."""
    for action in _actions(tree):
        if action.metavar in FILES:
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(tree, shell)).rstrip("\n") + "\n"


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for each in dict.fromkeys(action.choices.values()):
                yield from _actions(each)
