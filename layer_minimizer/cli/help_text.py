"""The text of ``minimize --help``: the common options by task, on two screens, and examples."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from layer_minimizer.core.option_declarations import declared
from layer_minimizer.settings import GROUPS, MAIN_PARTS, FileOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIPTION = "Write the smallest AWS Lambda layer that still runs your code, and prove that\nit does."
USAGE = "minimize [COMMAND] [OPTIONS]"
COMMANDS = {
    "init": "write a settings file for the handler in this folder, and files that deploy it",
    "publish": "publish a layer's zip as a new version, and print its ARN",
    "trace": "run the entry and save what it used; no layer is made",
    "compare": "show what some traces have and others lack",
    "diff": "show what has changed between two reports",
    "probe": "write a layer that traces a deployed function",
    "completion": "print a shell's completion of this command",
    "help": "list the topics of the manual, or show one",
}
# The first column of an option's text, and the width of a line.
_COLUMN, _WIDTH = 31, 80
_SHORT_HEAD = f"""\
usage: {USAGE}

{DESCRIPTION}

examples:
  minimize init                         write a settings file; then: minimize
  minimize --entry handler.py --event event.json --output layer.zip
  minimize --python .venv/bin/python --entry handler.py --model export.pkl
  minimize --entry handler.py --event event.json --explain scipy
  minimize publish layer.zip --name fastai --runtime python3.12

"""
_SHORT_TAIL = f"""\
commands:
  {", ".join(COMMANDS)}

minimize --help-all shows every option, minimize COMMAND --help a command's;
minimize help lists the pages of the manual.
"""
EPILOG = """\
commands:
{commands}

examples:
  minimize init
  minimize --entry handler.py --model export.pkl --event event.json --output layer.zip
  minimize --python .venv/bin/python --entry predict.py --provided torch
  minimize --entry handler.py --event event.json --explain scipy
  minimize --runner docker --runtime python3.12 --requirements requirements.txt --entry handler.py
  minimize --layer api --report reports
  minimize trace --entry handler.py --event a.json --save-trace a.trace
  minimize publish layer.zip --name fastai --runtime python3.12
""".format(commands="\n".join(f"  {name:10}  {text}" for name, text in COMMANDS.items()))


def short() -> str:
    """Return the short help."""
    return _SHORT_HEAD + "".join(f"{line}\n" for line in _common_options()) + _SHORT_TAIL


def _common_options() -> Iterator[str]:
    common = [each for part in (*MAIN_PARTS, FileOptions) for each in declared(part) if each.common]
    for title in GROUPS:
        if options := [each for each in common if each.group == title]:
            yield f"{title}:"
            for each in options:
                left = f"  --{each.name} {each.value}".rstrip().ljust(_COLUMN - 1) + " "
                yield from textwrap.wrap(each.text, _WIDTH, initial_indent=left, subsequent_indent=" " * _COLUMN)
