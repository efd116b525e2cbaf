"""Combine the command line and the settings file into jobs, one for each layer.

The command line takes precedence, key by key.
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
from layer_minimizer.core.option_kinds import File, did_you_mean
from layer_minimizer.layer.formats import Format
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
_CONTAINER_KEYS = {each.key for each in declared(ContainerOptions) if each.key != "runner"}
_MESSAGE_KEYS = {each.key for each in declared(Messages)}
_OUTPUT_KEYS = [key for key, each in _OPTIONS.items() if each.kind.file in (File.OUTPUT, File.FOLDER)]
_STAGE_KEYS = {"save_trace", "save_plan"}


@dataclass(frozen=True, slots=True)
class Job:
    """One run of ``minimize`` or ``minimize trace``: the layer's name, if it has one, and the request."""

    name: str
    request: Request

    @property
    def messages(self) -> Messages:
        """The options for messages."""
        return self.request.messages


@dataclass(frozen=True, slots=True)
class Publication:
    """One run of ``minimize publish``: the layer's name, if it has one, and its options."""

    name: str
    options: PublishOptions
    messages: Messages


def load_jobs(command: str, arguments: Sequence[str]) -> list[Job]:
    """Return the jobs of ``minimize`` or ``minimize trace`` with these arguments, at least one.

    Raises:
        UsageError: the settings file is wrong, or contradicts the arguments.
    """
    chosen, given = _read(command, arguments)
    # --explain needs nothing but the saved plan.
    file = None if "plan" in given and not chosen.layers and chosen.config is None else _settings(chosen)
    if file is None:
        return [_job(command, "", given)]
    layers = [(name, _layer_values(command, file, name, given)) for name in _layer_names(file, chosen.layers)]
    _require_distinct_files(layers, given)
    return [_job(command, name, values) for name, values in layers]


def load_request(file: str, python: str) -> Job:
    """Return the job that another process has written into ``file``; ``python`` is the interpreter with the packages.

    Raises:
        UsageError: the file is not a request of this version.
    """
    try:
        values = json.loads(Path(file).read_text("utf-8"))
        return Job("", Request.of({**values, "python": python}))
    except (OSError, ValueError, TypeError) as exc:
        raise UsageError(f"{file} is not a valid request: {exc}") from exc


def load_publications(arguments: Sequence[str]) -> list[Publication]:
    """Return the publications of ``minimize publish`` with these arguments, at least one.

    Raises:
        UsageError: as `load_jobs`, or a required option is missing.
    """
    chosen, given = _read("publish", arguments)
    file = _settings(chosen)
    if file is None:
        return [_publication("", given)]
    return _layer_publications(
        file, _selected_layers(file, _layer_names(file, chosen.layers), chosen.layers, given), given
    )


def _read(command: str, arguments: Sequence[str]) -> tuple[FileOptions, Values]:
    """Return the options that select settings, and the values of all other options on the command line."""
    given = parser.command_parser(command).read(arguments)
    chosen = FileOptions.of(given)
    for each in declared(FileOptions):
        given.pop(each.key, None)
    return chosen, given


def _settings(chosen: FileOptions) -> SettingsFile | None:
    if chosen.config == "":
        raise UsageError("--config needs the name of a file")
    try:
        path = Path(chosen.config).absolute() if chosen.config else settings_file.find(Path.cwd())
    except FileNotFoundError:  # the working directory has been removed
        path = None
    if chosen.no_config or path is None:
        if chosen.layers:
            raise UsageError(f"--layer {chosen.layers[0]}: no settings file in this folder or a parent folder")
        return None
    return settings_file.read(path)


def _layer_names(file: SettingsFile, wanted: Iterable[str]) -> list[str]:
    """Return the names of the selected layers; an empty name is the file's only layer, which has none."""
    for name in wanted:
        if name not in file.layers:
            known = f"it has {', '.join(file.layers)}" if file.layers else "it has none with a name"
            raise UsageError(f"--layer {name}: no such layer in {file.path}; {known}{did_you_mean(name, file.layers)}")
    return list(dict.fromkeys(wanted)) or list(file.layers) or [""]


def _override(lower: Values, upper: Values) -> Values:
    """Return both sets of values; ``upper`` takes precedence, also over the alternatives of its options."""
    remaining = dict(lower)
    for key, option in _OPTIONS.items():
        if upper.get(key):
            for other in option.instead_of:
                if other not in upper:
                    remaining.pop(other, None)
    return {**remaining, **upper}


# ---- layers to be made --------------------------------------------------------------------------------------------


def _job(command: str, name: str, values: Mapping[str, Any]) -> Job:
    defaults = {"save_trace": "trace.json"} if command == "trace" else {}
    return Job(name, Request.of({**defaults, **values}))


def _layer_values(command: str, file: SettingsFile, name: str, given: Values) -> Values:
    own = file.layers.get(name, Section()).values
    settings = _override(file.common.values, own)
    values = _override(settings, given)
    folder = file.path.parent
    if name and "report" in values and ("report" in given or "report" not in own):
        values["report"] = os.path.join(values["report"], name)
    if values.get("runner", LOCAL) == LOCAL:
        for key in _CONTAINER_KEYS - given.keys():
            values.pop(key, None)
        _drop_uninstalled(values, given)
        if "base_image" not in given and values.get("format") != Format.IMAGE:
            values.pop("base_image", None)
    elif "python" not in given and values.get("python", "").startswith(f"{folder}{os.sep}"):
        del values["python"]  # an interpreter of this machine, not of the container
    if command == "trace":
        values = {key: value for key, value in values.items() if _OPTIONS[key].trace}
        return {"save_trace": str(folder / (f"{name}.trace.json" if name else "trace.json")), **values}
    if _STAGE_KEYS & given.keys() and "output" not in given:
        values.pop("output", None)  # only a single stage was requested
    else:
        wanted = Format(values.get("format", Format.LAYER))
        values.setdefault("output", str(folder / wanted.file_name(name or "layer")))
    return values


def _drop_uninstalled(values: Values, given: Values) -> None:
    """Remove a file's ``requirements`` if there is an interpreter that has them, and what is only about installing."""
    if "python" in values and not given.keys() & {"requirements", "python_version"}:
        values.pop("requirements", None)
    if not values.keys() & {"requirements", "lock"} and "platform" not in given:
        values.pop("platform", None)


def _require_distinct_files(layers: Sequence[tuple[str, Values]], given: Values) -> None:
    """Raise an error if two layers would be written to the same file."""
    if len(layers) == 1:
        return
    names = ", ".join(name for name, _ in layers)
    for key in _OUTPUT_KEYS:
        if given.get(key) and _OPTIONS[key].kind.file is File.OUTPUT:
            option = f"--{_OPTIONS[key].name}"
            raise UsageError(
                f"{option} names one file, but there are several layers ({names}); choose one with --layer"
            )
    seen: dict[str, str] = {}
    for name, values in layers:
        for path in filter(None, map(values.get, _OUTPUT_KEYS)):
            other = seen.setdefault(os.path.normpath(path), name)
            if other != name:
                raise UsageError(f"{path} would be written for both layers {other} and {name}; name another file")


# ---- layers to be published ---------------------------------------------------------------------------------------


def _publication(name: str, values: Values) -> Publication:
    missing = [
        each
        for part in PUBLISH_PARTS
        for each in declared(part)
        if each.required and values.get(each.key) in (None, ())
    ]
    if missing:
        names = ", ".join(each.value if each.positional else f"--{each.name}" for each in missing)
        raise UsageError(f"publish needs {names}; see minimize publish --help")
    return Publication(name, PublishOptions.of(values), Messages.of(values))


def _selected_layers(file: SettingsFile, names: list[str], wanted: Sequence[str], given: Values) -> list[str] | None:
    """Return the layers to publish; None if the command line names an archive that belongs to no layer of the file."""
    if "archive" not in given or wanted:
        if "archive" in given and len(names) > 1:
            raise UsageError("the archive is one file, but there are several layers; choose one with --layer")
        return names
    target = os.path.normpath(os.path.abspath(given["archive"]))
    return [name for name in names if os.path.normpath(_publication_values(file, name)["archive"]) == target][
        :1
    ] or None


def _publication_values(file: SettingsFile, name: str) -> Values:
    """Return the values that the settings file has for publishing a layer."""
    layer = _layer_values("", file, name, {})
    found: Values = {key: layer[key] for key in _MESSAGE_KEYS if key in layer}
    found |= {key: (layer[key],) for key in ("runtime", "architecture") if layer.get(key)}
    found |= {"archive": layer["output"]}
    if name:
        found["name"] = name
    return _override(_override(found, file.common.publish), file.layers.get(name, Section()).publish)


def _layer_publications(file: SettingsFile, names: list[str] | None, given: Values) -> list[Publication]:
    if names is None:
        # An unrelated zip: use the settings for the upload, but not those that describe a layer.
        common = {
            key: value for key, value in file.common.publish.items() if key in ("bucket", "region", *_MESSAGE_KEYS)
        }
        return [_publication("", _override(common, given))]
    made = [(name, _override(_publication_values(file, name), given)) for name in names]
    for key in ("name", "archive"):
        seen: dict[Any, str] = {}
        for name, values in made:
            if key in values and seen.setdefault(values[key], name) != name:
                both = f"{seen[values[key]]} and {name}"
                raise UsageError(f"{values[key]} would be published for both layers {both}; choose one with --layer")
    return [_publication(name, values) for name, values in made]
