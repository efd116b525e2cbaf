"""The text of the settings file to begin with: what was found, and the keys that are often used, as comments."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from layer_minimizer.cli.project import Project

_HEAD = """\
# Settings of minimize; names of files are relative to this one. Every option of the command is a key here
# (minimize --help-all), and what stands on the command line wins.
"""
# What may be added: the line, and what it is for. None begins another group.
_MORE: tuple[tuple[str, str] | None, ...] = (
    ('include = ["scipy/signal/**"]', "files to keep, whatever the events used: globs below site-packages"),
    ('exclude = ["**/*.pyi"]', "files never to keep"),
    ('keep = ["scipy.stats"]', "modules that can be imported and that nothing stands in for"),
    ('provided = ["torch"]', "distributions that another layer brings"),
    ('base-layer = ["torch.zip"]', "layers below this one: zips, or ARNs with a version"),
    ('trace = ["production.log"]', "saved traces, and logs of traced functions"),
    None,
    ('cold = "keep"', "what becomes of what no event touched: keep it compressed, drop it, or auto"),
    ('max-size = "250MB"', "of it all, unzipped; default: Lambda's limit"),
    ("effort = 5", "minutes to search for imports without use; 0: keep them all"),
    ("strip-docstrings = true", "leave docstrings out"),
    ('layout = "site"', "or flat: packages directly below python/"),
    ("tolerance = 1e-6", "for numbers in results; default: exact"),
    ("runs = 10", "of the layer, to verify it"),
    ("timeout = 600", "seconds for each run"),
    None,
    ('function-zip = "function.zip"', "write the function, too"),
    ('report = "report"', "write report.json and report.html into this folder"),
    ('verify = "lambda"', "prove the layer in an emulated Lambda, too"),
    ('runner = "docker"', "do it all in a container of the runtime, with the requirements installed there"),
)
_PUBLISH = (
    ('name = "my-packages"', "of the layer"),
    ('runtime = ["python3.12"]', "those that it is for; default: the one above"),
    ('bucket = "my-bucket"', "in S3, for a zip over 50 MB"),
    ('description = "..."', "of each version"),
    ('license = "MIT"', "of what is in it"),
)
_LAYER = """\
# Several layers: each has a table of its own, whose keys win over those above, which all of them share. minimize makes
# all of them, minimize --layer {name} one; {name}.zip is written.
"""


def render(project: Project, folder: Path, table: str) -> str:
    """Give the text of a settings file in ``folder``; its table is the top level, or ``table`` of a shared file.

    Raises:
        UsageError: a file's name cannot be written in TOML, whose text is Unicode.
    """
    below = f"{table}." if table else ""
    lines = [_HEAD.rstrip("\n")]
    if table:
        lines.append(f"[{table}]")
    lines += [*_found(project, folder), "", *_commented(_MORE)]
    lines += ["", f"# What minimize publish takes:\n# [{below}publish]", *_commented(_PUBLISH)]
    lines += ["", _LAYER.format(name="api").rstrip("\n"), f"# [{below}layers.api]", '# entry = "api.py"']
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Give a word for a shell."""
    return shlex.quote(text)


def _found(project: Project, folder: Path) -> Iterator[str]:
    yield "# The handler (a function handler or lambda_handler), or a script."
    yield f"entry = {_path(project.entry, folder)}"
    if project.other_entries:
        others = ", ".join(_path(path, folder) for path in project.other_entries)
        yield f"# Not taken, although it has a handler, too: {others}"
    yield '# handler = "predict"  # a function of another name'
    yield "# Events like those of production: JSON, one or a list in each file. Other inputs may need other files."
    yield _line("event", _list(project.events, folder), '["event.json"]')
    yield "# Models lie beside the handler; the path of the first is in MODEL_PATH while it runs."
    yield _line("model", _list(project.models, folder), '["model.pkl"]')
    yield "# Whose packages are minimized; default: those of the Python that minimize runs on."
    yield _line("python", _path(project.python, folder) if project.python else "", '".venv/bin/python"')
    yield "# Where the layer is to work: what its libraries need is compared with what is there."
    yield _line("runtime", _text(project.runtime) if project.runtime else "", '"python3.12"')
    yield '# architecture = "arm64"  # default: this machine\'s'
    if project.requirements:
        yield "# What a container installs; counts with --runner docker (or podman) only."
        yield f"requirements = {_path(project.requirements, folder)}"
    yield '# output = "layer.zip"  # the default, beside this file'


def _commented(lines: Iterable[tuple[str, str] | None]) -> Iterator[str]:
    for line in lines:
        yield f"# {line[0]}  # {line[1]}" if line else ""


def _line(key: str, value: str, example: str) -> str:
    return f"{key} = {value}" if value else f"# {key} = {example}"


def _list(paths: Iterable[Path], folder: Path) -> str:
    listed = [_path(path, folder) for path in paths]
    if not listed:
        return ""
    return f"[{listed[0]}]" if len(listed) == 1 else "[\n" + "".join(f"    {each},\n" for each in listed) + "]"


def _path(path: Path, folder: Path) -> str:
    name = os.path.relpath(path, folder)
    return _text(f"./{name}" if name.startswith(("~", "arn:")) else name)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise UsageError(f"{text!a}: a name that is no UTF-8 cannot be written in TOML; rename the file") from exc
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
