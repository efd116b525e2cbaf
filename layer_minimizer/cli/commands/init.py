"""``minimize init``: finds a handler and what belongs to it, and writes the settings file to begin with."""

from __future__ import annotations

import logging
import os
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.cli import init_template
from layer_minimizer.cli.project import Project, inspect_project
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.core.files import check_output, replacing

if TYPE_CHECKING:
    import argparse

log = logging.getLogger(__name__)
_OWN_FILE, _SHARED_FILE = "layer_minimizer.toml", "pyproject.toml"
_TOOL = "layer_minimizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--entry", metavar="FILE", help="the handler; default: found in this folder and below")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="FILE", help=f"the settings file; default: {_OWN_FILE}")
    where.add_argument(
        "--pyproject", action="store_true", help=f"append the settings to {_SHARED_FILE}, which must be there"
    )


def answer(options: argparse.Namespace) -> str:
    """Write the settings file, and give what is to be printed.

    Raises:
        UsageError: there is no handler, or there are settings already.
        PackError: the file cannot be written.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError as exc:
        raise UsageError("the working directory is not there any more; change to another one") from exc
    target = Path(_SHARED_FILE if options.pyproject else options.output or _OWN_FILE)
    folder = target.absolute().parent
    _require_free(target, pyproject=options.pyproject)
    project = inspect_project(here, options.entry)
    for line in _told(project):
        log.info("%s", line)
    table = f"tool.{_TOOL}" if options.pyproject else ""
    text = init_template.render(project, folder, table)
    if options.pyproject:
        _append(target, text)
    else:
        _write(target, text.encode())
    command = "minimize"
    if target.name not in (_OWN_FILE, _SHARED_FILE) or folder != here:
        command += f" --config {init_template.quoted(str(target))}"
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
    if pyproject and os.path.lexists(beside / _OWN_FILE):
        raise UsageError(f"there is a {_OWN_FILE} already; settings in two files of one folder are an error")
    shared = beside / _SHARED_FILE
    if not os.path.isfile(shared):
        if pyproject:
            raise UsageError(f"there is no {shared}; without --pyproject a {_OWN_FILE} is written")
    elif (pyproject or target.name == _OWN_FILE) and _has_table(shared, needed=pyproject):
        raise UsageError(f"{shared} has a table [tool.{_TOOL}] already")


def _has_table(file: Path, *, needed: bool) -> bool:
    try:
        tool = tomllib.loads(file.read_text("utf-8")).get("tool", {})
    except OSError as exc:
        raise UsageError(f"{file}: {exc.strerror}") from exc
    except ValueError as exc:
        if not needed:
            return False
        raise UsageError(f"{file} is no TOML: {exc}") from exc
    return isinstance(tool, dict) and _TOOL in tool


def _append(file: Path, text: str) -> None:
    """Add the settings at the end of a TOML file, which stays as it is otherwise."""
    file = Path(os.path.realpath(file))
    before = file.read_bytes()
    newline = "\r\n" if b"\r\n" in before else "\n"
    gap = newline if before.endswith(b"\n") or not before else newline * 2
    after = before + (gap + text.replace("\n", newline)).encode()
    try:
        tomllib.loads(after.decode())
    except ValueError as exc:
        raise UsageError(
            f"{file}: a table [tool.{_TOOL}] cannot be added at its end ({exc}); without --pyproject a {_OWN_FILE} is "
            "written"
        ) from exc
    _write(file, after, like=file)


def _write(target: Path, content: bytes, like: Path | None = None) -> None:
    check_output(target.absolute())
    try:
        with replacing(target.absolute()) as part:
            part.write_bytes(content)
            if like:
                shutil.copymode(like, part)
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc
