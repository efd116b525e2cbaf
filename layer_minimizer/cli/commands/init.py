"""``minimize init``: finds a handler and what belongs to it, and writes the settings file to begin with."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.cli import init_template
from layer_minimizer.cli.project import Project, inspect_project
from layer_minimizer.cli.settings_file import OWN_FILE, SHARED_FILE, TOOL
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.core.files import check_output, replacing
from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import FLAG, INPUT_FILE, OUTPUT_FILE

if TYPE_CHECKING:
    from layer_minimizer.settings import Messages

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InitOptions(Options):
    """What ``minimize init`` takes."""

    entry: str = option("", INPUT_FILE, "the handler; default: found in this folder and below", "what is set")
    output: str = option("", OUTPUT_FILE, f"the settings file; default: {OWN_FILE}", "where")
    pyproject: bool = option(
        default=False,
        kind=FLAG,
        help_text=f"append the settings to {SHARED_FILE}, which must be there",
        group="where",
        instead_of=("output",),
    )


def answer(options: InitOptions, _messages: Messages) -> str:
    """Write the settings file, and give what is to be printed.

    Raises:
        UsageError: there is no handler, or there are settings already.
        PackError: the file cannot be written.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError as exc:
        raise UsageError("the working directory is not there any more; change to another one") from exc
    target = Path(SHARED_FILE if options.pyproject else options.output or OWN_FILE)
    folder = target.absolute().parent
    _require_free(target, pyproject=options.pyproject)
    project = inspect_project(here, options.entry or None)
    for line in _told(project):
        log.info("%s", line)
    if options.pyproject:
        _add(target, project, folder)
    else:
        _write(target, init_template.own_file(project, folder).encode())
    command = "minimize"
    if target.name not in (OWN_FILE, SHARED_FILE) or folder != here:
        command += f" --config {shlex.quote(str(target))}"
    return f"{target}\nNext: {command}\n"


def _told(project: Project) -> list[str]:
    """Say what was found and what was not."""
    lines = [f"entry: {os.path.relpath(project.entry)}"]
    if project.other_entries:
        others = ", ".join(map(os.path.relpath, project.other_entries))
        lines.append(f"  not taken: {others}; --entry names another one")
    lines += [f"model: {os.path.relpath(path)}" for path in project.models]
    lines += [f"event: {os.path.relpath(path)}" for path in project.events] or ["event: none here; {} is the only one"]
    lines += [f"  not taken: {os.path.relpath(path)}: {why}" for path, why in project.bad_events]
    python = os.path.relpath(project.python) if project.python else "no environment here; the one that minimize runs on"
    lines.append(f"python: {python}")
    if project.problem:
        lines.append(f"  {project.problem}")
    if project.runtime:
        lines.append(f"runtime: {project.runtime}")
    return lines


def _require_free(target: Path, *, pyproject: bool) -> None:
    beside = target.absolute().parent
    if os.path.lexists(target) and not pyproject:
        raise UsageError(f"{target} is there already; remove it, or name another file with --output")
    if pyproject and os.path.lexists(beside / OWN_FILE):
        raise UsageError(f"there is a {OWN_FILE} already; settings in two files of one folder are an error")
    shared = beside / SHARED_FILE
    if not os.path.isfile(shared):
        if pyproject:
            raise UsageError(f"there is no {shared}; without --pyproject a {OWN_FILE} is written")
    elif (pyproject or target.name == OWN_FILE) and _has_table(shared, needed=pyproject):
        raise UsageError(f"{shared} has a table [tool.{TOOL}] already")


def _has_table(file: Path, *, needed: bool) -> bool:
    try:
        tool = tomllib.loads(file.read_text("utf-8")).get("tool", {})
    except OSError as exc:
        raise UsageError(f"{file}: {exc.strerror}") from exc
    except ValueError as exc:
        if not needed:
            return False
        raise UsageError(f"{file} is no TOML: {exc}") from exc
    return isinstance(tool, dict) and TOOL in tool


def _add(file: Path, project: Project, folder: Path) -> None:
    """Add the settings to a pyproject.toml, which stays as it is otherwise."""
    file = Path(os.path.realpath(file))
    before = file.read_bytes()
    try:
        after = init_template.added(before.decode(), project, folder)
    except ValueError as exc:
        raise UsageError(
            f"{file}: a table [tool.{TOOL}] cannot be added to it ({exc}); without --pyproject a {OWN_FILE} is written"
        ) from exc
    _write(file, after.encode(), like=file)


def _write(target: Path, content: bytes, like: Path | None = None) -> None:
    check_output(target.absolute())
    try:
        with replacing(target.absolute()) as part:
            part.write_bytes(content)
            if like:
                shutil.copymode(like, part)
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc
