"""``minimize completion``: print the script with which a shell completes the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import shtab

from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import one_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from layer_minimizer.settings import Messages

SHELLS = ("bash", "zsh", "tcsh")
INSTRUCTIONS = """\
bash: put this into ~/.bashrc:   source <(minimize completion bash)
zsh:  write it as _minimize into a folder of $fpath:   minimize completion zsh > "${fpath[1]}/_minimize"
tcsh: write it into a file, and source that in ~/.tcshrc
"""


@dataclass(frozen=True, slots=True)
class CompletionOptions(Options):
    """The options of ``minimize completion``."""

    shell: str = option("", one_of(SHELLS), "the script's shell", "what is printed", positional=True, required=True)


def run(options: CompletionOptions, _messages: Messages, *, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the completion script of the shell for all commands of the ``parser``, which knows what are file names."""
    yield str(shtab.complete(parser, options.shell)).rstrip("\n") + "\n"
