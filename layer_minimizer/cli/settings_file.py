"""Read settings files: ``[tool.layer_minimizer]`` in a pyproject.toml, or a layer_minimizer.toml.

Keys and values are checked by the option declarations in `settings`. The command line is combined with a file in
`jobs`.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Option, Options, Values, declared
from layer_minimizer.core.option_kinds import File, WrongValueError, did_you_mean
from layer_minimizer.settings import MAIN_PARTS, PUBLISH_PARTS, FileOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

OWN_FILE, SHARED_FILE = "layer_minimizer.toml", "pyproject.toml"
TOOL = "layer_minimizer"
PUBLISH, LAYERS = "publish", "layers"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Section:
    """The values of one table: the options of the main command, and those of ``publish``."""

    values: Values = field(default_factory=dict)
    publish: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file; ``layers`` are the named layers in the file's order. All file names are absolute."""

    path: Path
    common: Section = field(default_factory=Section)
    layers: Mapping[str, Section] = field(default_factory=dict)


def find(folder: Path) -> Path | None:
    """Return the nearest settings file in ``folder`` or its parent folders, or None.

    Raises:
        UsageError: two files of one folder have settings, or a file that may have settings cannot be read.
    """
    for each in (folder, *folder.parents):
        own, shared = each / OWN_FILE, each / SHARED_FILE
        has_own = os.path.lexists(own)
        if os.path.isfile(shared) and has_settings(shared):
            if has_own:
                raise UsageError(f"{each}: both {OWN_FILE} and {SHARED_FILE} have settings; keep one of them")
            return shared
        if has_own:
            return own
    return None


def has_settings(file: Path) -> bool:
    """Return whether a pyproject.toml has settings of this tool; errors in other files are ignored.

    Raises:
        UsageError: it cannot be read, or it mentions this tool and is not valid TOML.
    """
    content = _content(file)
    if not re.search(rb"layer[_-]minimizer", content):
        return False
    tool = _parsed(file, content).get("tool", {})
    if isinstance(tool, dict) and (wrong := TOOL.replace("_", "-")) in tool:
        raise UsageError(f"{file}: the table [tool.{wrong}] must be named [tool.{TOOL}]")
    return isinstance(tool, dict) and TOOL in tool


def read(file: Path) -> SettingsFile:
    """Read a settings file.

    Raises:
        UsageError: it cannot be read, is not valid TOML, or has an unknown key or a wrong value.
    """
    data = _parsed(file, _content(file))
    table = ""
    tool = data.get("tool", {})
    if file.name == SHARED_FILE or (file.name != OWN_FILE and isinstance(tool, dict) and TOOL in tool):
        table = f"tool.{TOOL}"
        if not isinstance(tool, dict) or TOOL not in tool:
            raise UsageError(f"{file} has no table [{table}]")
        data = tool[TOOL]
    reader = _Reader(file, _keys(MAIN_PARTS), _keys(PUBLISH_PARTS))
    common = reader.section(table, data, more=(LAYERS,))
    layers = data.get(LAYERS, {})
    under = f"{table}.{LAYERS}".lstrip(".")
    reader.require_table(under, layers)
    return SettingsFile(file, common, {name: reader.layer(under, name, each) for name, each in layers.items()})


def _content(file: Path) -> bytes:
    if os.path.isdir(file):
        raise UsageError(f"{file} is a folder; a settings file is a TOML file")
    try:
        return file.read_bytes()
    except OSError as exc:
        raise UsageError(
            f"{file}: cannot read the settings: {exc.strerror}; --no-config ignores settings files"
        ) from exc


def _parsed(file: Path, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise UsageError(f"{file}, line {line}: not valid UTF-8, which TOML requires") from exc
    except RecursionError as exc:
        raise UsageError(f"{file} is nested too deeply") from exc
    except ValueError as exc:
        end = f"at line {content.count(10) + 1}, the end of the file"
        raise UsageError(f"{file} is not valid TOML: {str(exc).replace('at end of document', end)}") from exc


def _keys(parts: Iterable[type[Options]]) -> dict[str, Option]:
    return {each.name: each for part in parts for each in declared(part) if each.in_file}


def _only_on_command_line() -> set[str]:
    return {each.key for part in (*MAIN_PARTS, FileOptions) for each in declared(part) if not each.in_file}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks one file's tables; ``main`` and ``publish`` are the known keys."""

    file: Path
    main: Mapping[str, Option]
    publish: Mapping[str, Option]

    def layer(self, under: str, name: str, data: Any) -> Section:
        """Read the table of a named layer."""
        if not re.fullmatch(r"[^/\\\x00-\x1f\x7f.-][^/\\\x00-\x1f\x7f]*", name):
            raise UsageError(f"{self._in(under)} {name!r}: a layer's name must be valid as a file name")
        return self.section(f"{under}.{_key(name)}", data)

    def section(self, table: str, data: Any, more: tuple[str, ...] = ()) -> Section:
        """Read a table of options, and its subtable ``publish``."""
        self.require_table(table, data)
        own = {key: value for key, value in data.items() if key not in (PUBLISH, *more)}
        values = self._values(table, own, self.main, (PUBLISH, *more))
        under = f"{table}.{PUBLISH}".lstrip(".")
        publish = data.get(PUBLISH, {})
        self.require_table(under, publish)
        return Section(values, self._values(under, publish, self.publish))

    def require_table(self, table: str, data: Any) -> None:
        """Raise an error if ``data`` is not a table."""
        if not isinstance(data, dict):
            raise UsageError(f"{self.file}: {table} = {_shown(data)}: it must be a table, [{table}]")

    def _values(
        self, table: str, data: Mapping[str, Any], keys: Mapping[str, Option], more: Iterable[str] = ()
    ) -> Values:
        found: Values = {}
        for key, value in data.items():
            option = keys.get(key.replace("_", "-"))
            if option is None:
                raise UsageError(f"{self._in(table)} {self._unknown(key, keys, more)}")
            if option.key in found:
                raise UsageError(f"{self._in(table)} has {option.name!r} twice, with - and with _")
            try:
                found[option.key] = self._absolute(option, option.convert(value))
            except WrongValueError as exc:
                raise UsageError(f"{self._in(table)} {key} = {_shown(value)}: it must be {exc}") from exc
        if found.get("quiet") and found.get("verbose"):
            raise UsageError(f"{self._in(table)} has both 'quiet' and 'verbose'")
        return found

    def _unknown(self, key: str, keys: Iterable[str], more: Iterable[str]) -> str:
        if key.replace("-", "_") in _only_on_command_line():
            return f"has the key {key!r}, which is an option of the command line only"
        if key == "tool":
            return f"has the key 'tool'; in a {OWN_FILE} the keys are at the top level, without [tool.{TOOL}]"
        return f"has no key {key!r}{did_you_mean(key.replace('_', '-'), [*keys, *more])}"

    def _in(self, table: str) -> str:
        return f"{self.file}: [{table}]" if table else f"{self.file}:"

    def _absolute(self, option: Option, value: Any) -> Any:
        """Return a value with its file names made absolute; they are relative to the settings file."""
        if not option.kind.file:
            return value
        if isinstance(value, tuple):
            return tuple(self._path(option, each) for each in value)
        return self._path(option, value)

    def _path(self, option: Option, value: str) -> str:
        is_on_path = option.kind.file is File.PROGRAM and os.sep not in value
        if not value or value.startswith("arn:") or is_on_path:
            return value
        return os.path.join(self.file.absolute().parent, os.path.expanduser(value))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
