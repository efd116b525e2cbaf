"""Makes the scripts with which shells complete the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import shtab

from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import one_of

if TYPE_CHECKING:
    import argparse

SHELLS = ("bash", "zsh", "tcsh")
USE = """\
bash: put this into ~/.bashrc:   source <(minimize completion bash)
zsh:  write it as _minimize into a folder of $fpath:   minimize completion zsh > "${fpath[1]}/_minimize"
tcsh: write it into a file, and source that in ~/.tcshrc
"""


@dataclass(frozen=True, slots=True)
class CompletionOptions(Options):
    """What ``minimize completion`` takes."""

    shell: str = option("", one_of(SHELLS), "whose script to print", "what is printed", positional=True, required=True)


def script(shell: str, tree: argparse.ArgumentParser) -> str:
    """Return the script for a shell; its parsers know which values are names of files."""
    return str(shtab.complete(tree, shell)).rstrip("\n") + "\n"
