"""The text of the settings file that ``minimize init`` writes: the values found, and other common keys as comments."""

from __future__ import annotations

import os
import re
import tomllib
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.container import Container, OutOfOrderTableProxy
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Item, Table

from layer_minimizer.cli.settings_file import LAYERS, PUBLISH, TOOL
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Option, declared
from layer_minimizer.settings import GROUPS, MAIN_PARTS, PublishOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from layer_minimizer.cli.project import Project

_HEAD = (
    "Settings of minimize; file names are relative to this file. Every option of the command is a key here",
    "(minimize --help-all); options on the command line take precedence.",
)
_LAYER = (
    "Several layers: each has its own table, whose keys override the shared ones above. minimize makes all layers,",
    "minimize --layer api makes one, and writes api.zip.",
)


def new_file(project: Project, folder: Path) -> str:
    """Return the text of a new settings file in ``folder``.

    Raises:
        UsageError: a file's name is not valid Unicode, which TOML requires.
    """
    document = tomlkit.document()
    _fill(document, project, folder)
    return tomlkit.dumps(document)


def add_to_pyproject(text: str, project: Project, folder: Path) -> str:
    """Return the text of a pyproject.toml in ``folder`` with the settings added; the rest is unchanged.

    Raises:
        UsageError: as `new_file`.
        ValueError: the file cannot have a table of this tool.
    """
    table = tomlkit.table()
    _fill(table, project, folder)
    try:
        document = tomlkit.parse(text)
        tools = document.setdefault("tool", tomlkit.table(is_super_table=True))
        if not isinstance(tools, Table | OutOfOrderTableProxy):
            raise ValueError("its 'tool' is an inline table or a value")  # noqa: TRY004 - an error of the text
        table.add(tomlkit.nl())
        tools[TOOL] = table
        after = tomlkit.dumps(document)
        if after.endswith(tomlkit.dumps(table)):
            after = after[:-1]
    except TOMLKitError as exc:
        raise ValueError(str(exc)) from exc
    after = re.sub(rf"(?<![\r\n])(\r?\n)(?=\[tool\.{TOOL}\]\n)", r"\1\n", after)
    if "\r\n" in text:
        after = re.sub(r"(?<!\r)\n", "\r\n", after)
    _require_unchanged(tomllib.loads(text), tomllib.loads(after))
    return after


def _require_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raise an error unless the only change is this tool's table."""
    tools = {name: table for name, table in after["tool"].items() if name != TOOL}
    rest = {name: table for name, table in after.items() if name != "tool"}
    if {**rest, "tool": tools} != {"tool": {}, **before}:
        raise ValueError("its other content would change")


def _fill(container: Container | Table, project: Project, folder: Path) -> None:
    """Add the values found, and other keys as comments, to ``container``: this tool's table or a whole document."""
    prefix = f"tool.{TOOL}." if isinstance(container, Table) else ""
    for line in _HEAD:
        container.add(tomlkit.comment(line))
    if project.other_entries:
        others = ", ".join(_path(path, folder).as_string() for path in project.other_entries)
        container.add(tomlkit.comment(f"Other files with a handler, not used as the entry: {others}"))
    found = dict(_found_values(project, folder))
    for group in GROUPS:
        options = [each for part in MAIN_PARTS for each in declared(part) if each.group == group]
        _fill_group(container, [each for each in options if each.example or each.name in found], found)
    container.add(tomlkit.nl())
    container.add(tomlkit.comment("Options of minimize publish:"))
    container.add(tomlkit.comment(f"[{prefix}{PUBLISH}]"))
    for each in declared(PublishOptions):
        if each.example:
            container.add(tomlkit.comment(_example_line(each)))
    container.add(tomlkit.nl())
    for line in (*_LAYER, f"[{prefix}{LAYERS}.api]", 'entry = "api.py"'):
        container.add(tomlkit.comment(line))


def _fill_group(container: Container | Table, options: Iterable[Option], found: Mapping[str, Item]) -> None:
    for number, each in enumerate(options):
        if number == 0:
            container.add(tomlkit.nl())
        if each.name in found:
            container.add(tomlkit.comment(each.text))
            container.add(each.name, found[each.name])
        else:
            container.add(tomlkit.comment(_example_line(each)))


def _example_line(option: Option) -> str:
    return f"{option.name} = {option.example}  # {option.text.removesuffix('; repeatable')}"


def _found_values(project: Project, folder: Path) -> Iterator[tuple[str, Item]]:
    """Yield the names and values of the options for which the project has a value."""
    yield "entry", _path(project.entry, folder)
    for name, paths in (("event", project.events), ("model", project.models)):
        if paths:
            yield name, _list(paths, folder)
    if project.lock:
        yield "lock", _path(project.lock, folder)
    elif project.python:
        yield "python", _path(project.python, folder)
    if project.runtime:
        yield "runtime", _text(project.runtime)
    if project.requirements and not project.lock:
        yield "requirements", _path(project.requirements, folder)


def _list(paths: Iterable[Path], folder: Path) -> Item:
    listed = tomlkit.array()
    listed.extend(_path(path, folder) for path in paths)
    return listed.multiline(multiline=len(listed) > 1)


def _path(path: Path, folder: Path) -> Item:
    name = os.path.relpath(path, folder)
    return _text(f"./{name}" if name.startswith(("~", "arn:")) else name)


def _text(text: str) -> Item:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise UsageError(
            f"{text!a}: the file name is not valid UTF-8 and cannot be written in TOML; rename the file"
        ) from exc
    return tomlkit.string(text)
