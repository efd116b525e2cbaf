"""Which layers a command line is about, and what each of them is made with: the settings file's keys and the user's.

The command line wins, key by key.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.cli import parser, settings_file
from layer_minimizer.cli.settings_file import Section, SettingsFile
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Option, Values, declared
from layer_minimizer.core.option_kinds import File, nearest
from layer_minimizer.settings import (
    LOCAL,
    MAIN_PARTS,
    PUBLISH_PARTS,
    ContainerOptions,
    FileOptions,
    Messages,
    PublishOptions,
    Request,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_OPTIONS: dict[str, Option] = {each.key: each for part in MAIN_PARTS for each in declared(part)}
_IN_CONTAINERS = {each.key for each in declared(ContainerOptions) if each.key != "runner"}
_MESSAGES = {each.key for each in declared(Messages)}
_WRITTEN = [key for key, each in _OPTIONS.items() if each.kind.file in (File.OUTPUT, File.FOLDER)]
_STAGES = {"save_trace", "save_plan"}


@dataclass(frozen=True, slots=True)
class Job:
    """One run of ``minimize`` or ``minimize trace``: the layer's name, if it has one, and what it is made with."""

    name: str
    request: Request

    @property
    def messages(self) -> Messages:
        """What is said, and how."""
        return self.request.messages


@dataclass(frozen=True, slots=True)
class Publication:
    """One run of ``minimize publish``: the layer's name, if it has one, and how it is published."""

    name: str
    options: PublishOptions
    messages: Messages


def runs(command: str, arguments: Sequence[str]) -> list[Job]:
    """Return the runs that ``minimize`` or ``minimize trace`` with these arguments stands for, at least one.

    Raises:
        UsageError: the settings file is wrong, or does not fit the arguments.
    """
    chosen, given = _read(command, arguments)
    # A saved plan has all that --explain needs.
    file = None if "plan" in given and not chosen.layers and chosen.config is None else _settings(chosen)
    if file is None:
        return [_run(command, "", given)]
    made = [(name, _values(command, file, name, given)) for name in _named(file, chosen.layers)]
    _require_own_files(made, given)
    return [_run(command, name, values) for name, values in made]


def requested(file: str, python: str) -> Job:
    """Return the run that another process has written into ``file``; ``python`` has the packages.

    Raises:
        UsageError: the file is none of this version's.
    """
    try:
        values = json.loads(Path(file).read_text("utf-8"))
        return Job("", Request.of({**values, "python": python}))
    except (OSError, ValueError, TypeError) as exc:
        raise UsageError(f"{file}: it is no request: {exc}") from exc


def publications(arguments: Sequence[str]) -> list[Publication]:
    """Return the runs that ``minimize publish`` with these arguments stands for, at least one.

    Raises:
        UsageError: as `runs`, or something is missing.
    """
    chosen, given = _read("publish", arguments)
    file = _settings(chosen)
    if file is None:
        return [_published("", given)]
    return _published_layers(file, _archived(file, _named(file, chosen.layers), chosen.layers, given), given)


def _read(command: str, arguments: Sequence[str]) -> tuple[FileOptions, Values]:
    """Return which settings count, and the other options that were given."""
    given = parser.command_parser(command).read(arguments)
    chosen = FileOptions.of(given)
    for each in declared(FileOptions):
        given.pop(each.key, None)
    return chosen, given


def _settings(chosen: FileOptions) -> SettingsFile | None:
    if chosen.config == "":
        raise UsageError("--config takes the name of a file")
    try:
        path = Path(chosen.config).absolute() if chosen.config else settings_file.find(Path.cwd())
    except FileNotFoundError:  # of the working directory, which somebody has removed
        path = None
    if chosen.no_config or path is None:
        if chosen.layers:
            raise UsageError(f"--layer {chosen.layers[0]}: there is no settings file here or in a folder above")
        return None
    return settings_file.read(path)


def _named(file: SettingsFile, wanted: Iterable[str]) -> list[str]:
    """Return the names of the layers that the command is about; the empty text is the one without a name."""
    for name in wanted:
        if name not in file.layers:
            known = f"it has {', '.join(file.layers)}" if file.layers else "it has none with a name"
            raise UsageError(f"--layer {name}: no such layer in {file.path}; {known}{nearest(name, file.layers)}")
    return list(dict.fromkeys(wanted)) or list(file.layers) or [""]


def _over(lower: Values, upper: Values) -> Values:
    """Return both, where ``upper`` wins."""
    left = dict(lower)
    for key, option in _OPTIONS.items():
        if upper.get(key):
            for other in option.instead_of:
                if other not in upper:
                    left.pop(other, None)
    return {**left, **upper}


# ---- layers to be made --------------------------------------------------------------------------------------------


def _run(command: str, name: str, values: Mapping[str, Any]) -> Job:
    defaults = {"save_trace": "trace.json"} if command == "trace" else {}
    return Job(name, Request.of({**defaults, **values}))


def _values(command: str, file: SettingsFile, name: str, given: Values) -> Values:
    own = file.layers.get(name, Section()).values
    settings = _over(file.common.values, own)
    values = _over(settings, given)
    beside = file.path.parent
    if name and "report" in values and ("report" in given or "report" not in own):
        values["report"] = os.path.join(values["report"], name)
    if values.get("runner", LOCAL) == LOCAL:
        for key in _IN_CONTAINERS - given.keys():
            values.pop(key, None)
    elif "python" not in given and values.get("python", "").startswith(f"{beside}{os.sep}"):
        del values["python"]  # it is this machine's
    if command == "trace":
        values = {key: value for key, value in values.items() if _OPTIONS[key].trace}
        return {"save_trace": str(beside / (f"{name}.trace.json" if name else "trace.json")), **values}
    if _STAGES & given.keys() and "output" not in given:
        values.pop("output", None)  # a single stage was asked for
    else:
        values.setdefault("output", str(beside / f"{name or 'layer'}.zip"))
    return values


def _require_own_files(made: Sequence[tuple[str, Values]], given: Values) -> None:
    """Fail where two layers would be written to one file."""
    if len(made) == 1:
        return
    names = ", ".join(name for name, _ in made)
    for key in _WRITTEN:
        if given.get(key) and _OPTIONS[key].kind.file is File.OUTPUT:
            option = f"--{_OPTIONS[key].name}"
            raise UsageError(
                f"{option} names one file, and there are several layers ({names}); choose one with --layer"
            )
    seen: dict[str, str] = {}
    for name, values in made:
        for path in filter(None, map(values.get, _WRITTEN)):
            other = seen.setdefault(os.path.normpath(path), name)
            if other != name:
                raise UsageError(f"{path} would be written for both layers {other} and {name}; name another file")


# ---- layers to be published ---------------------------------------------------------------------------------------


def _published(name: str, values: Values) -> Publication:
    missing = [each for part in PUBLISH_PARTS for each in declared(part) if each.required and not values.get(each.key)]
    if missing:
        names = ", ".join(each.value if each.positional else f"--{each.name}" for each in missing)
        raise UsageError(f"publish needs {names}; see minimize publish --help")
    return Publication(name, PublishOptions.of(values), Messages.of(values))


def _archived(file: SettingsFile, names: list[str], wanted: Sequence[str], given: Values) -> list[str] | None:
    """Return the layers to publish; None if the command line names an archive that is none of theirs."""
    if "archive" not in given or wanted:
        if "archive" in given and len(names) > 1:
            raise UsageError("the archive is one file, and there are several layers; choose one with --layer")
        return names
    target = os.path.normpath(os.path.abspath(given["archive"]))
    return [name for name in names if os.path.normpath(_publication(file, name)["archive"]) == target][:1] or None


def _publication(file: SettingsFile, name: str) -> Values:
    """Return what the settings say about publishing a layer."""
    layer = _values("", file, name, {})
    found: Values = {key: layer[key] for key in _MESSAGES if key in layer}
    found |= {key: (layer[key],) for key in ("runtime", "architecture") if layer.get(key)}
    found |= {"archive": layer["output"]}
    if name:
        found["name"] = name
    return _over(_over(found, file.common.publish), file.layers.get(name, Section()).publish)


def _published_layers(file: SettingsFile, names: list[str] | None, given: Values) -> list[Publication]:
    if names is None:
        # Somebody else's zip: the settings say where to, but not what it is.
        common = {key: value for key, value in file.common.publish.items() if key in ("bucket", "region", *_MESSAGES)}
        return [_published("", _over(common, given))]
    made = [(name, _over(_publication(file, name), given)) for name in names]
    for key in ("name", "archive"):
        seen: dict[Any, str] = {}
        for name, values in made:
            if key in values and seen.setdefault(values[key], name) != name:
                both = f"{seen[values[key]]} and {name}"
                raise UsageError(f"{values[key]} would be published for both layers {both}; choose one with --layer")
    return [_published(name, values) for name, values in made]
