"""Which layers a command line is about, and what each of them is made with: the settings file's keys and the user's.

The command line wins, key by key. What comes out are arguments again, which say everything and need no settings file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.cli import settings_file
from layer_minimizer.cli.parser import TRACE, command_parser
from layer_minimizer.cli.settings_file import Section, SettingsFile, Values, nearest
from layer_minimizer.container import run
from layer_minimizer.core.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

# Commands that settings files are for.
CONFIGURED = ("", "trace", "publish")
# One takes the other's place.
_ALTERNATIVES = (("quiet", "verbose"), ("image", "requirements"), ("image", "base_image"))
# They are about a container; a settings file may have them for the runs that are in one.
_OF_CONTAINERS = ("requirements", "image", "base_image", "platform", "tool_image")
_TALK = ("quiet", "verbose", "color")
_FILES = ("output", "function_zip", "report_json", "save_trace", "save_plan")
_STAGES = {"save_trace", "save_plan"}


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a command: the layer's name, if it has one, and what it is made with, as arguments and as options."""

    name: str
    words: tuple[str, ...]
    options: argparse.Namespace


def runs(command: str, arguments: Sequence[str]) -> list[Job]:
    """Give the runs that ``minimize`` with a command of `CONFIGURED` and these arguments stands for, at least one.

    Raises:
        UsageError: the settings file is wrong, or does not fit the arguments.
    """
    given = command_parser(command).given(arguments)
    wanted, no_config = given.pop("layer", []), given.pop("no_config", False)
    named = given.pop("config", None)
    # A saved plan has all that --explain needs.
    file = None if no_config or ("plan" in given and not wanted and named is None) else _settings(named)
    if file is None:
        if wanted:
            raise UsageError(f"--layer {wanted[0]}: there is no settings file here or in a folder above")
        return [_run(command, "", given)]
    names = _chosen(file, wanted)
    if command == "publish":
        return _publications(file, _archived(file, names, wanted, given), given)
    made = [(name, _values(command, file, name, given)) for name in names]
    _require_own_files(made, given)
    return [_run(command, name, values) for name, values in made]


def _run(command: str, name: str, values: Values) -> Job:
    if command == "trace":
        values = {"save_trace": "trace.json", **values}
    parser = command_parser("publish" if command == "publish" else "")
    words = parser.words(values)
    return Job(name, tuple(words), parser.parse_args(words))


def _settings(named: str | None) -> SettingsFile | None:
    if named == "":
        raise UsageError("--config takes the name of a file")
    try:
        path = Path(named).absolute() if named else settings_file.find(Path.cwd())
    except FileNotFoundError:  # of the working directory, which somebody has removed
        path = None
    if path is None:
        return None
    return settings_file.read(path, command_parser(""), command_parser("publish"))


def _chosen(file: SettingsFile, wanted: Iterable[str]) -> list[str]:
    """Give the names of the layers that the command is about; the empty text is the one without a name."""
    for name in wanted:
        if name not in file.layers:
            known = f"it has {', '.join(file.layers)}" if file.layers else "it has none with a name"
            raise UsageError(f"--layer {name}: no such layer in {file.path}; {known}{nearest(name, file.layers)}")
    return list(dict.fromkeys(wanted)) or list(file.layers) or [""]


def _over(lower: Values, upper: Values) -> Values:
    """Give both, where ``upper`` wins."""
    left = dict(lower)
    for pair in _ALTERNATIVES:
        for one, other in (pair, pair[::-1]):
            if upper.get(one) and other not in upper:
                left.pop(other, None)
    return {**left, **upper}


# ---- layers to be made --------------------------------------------------------------------------------------------


def _values(command: str, file: SettingsFile, name: str, given: Values) -> Values:
    own = file.layers.get(name, Section()).values
    settings = _over(file.common.values, own)
    values = _over(settings, given)
    beside = file.path.parent
    if name and "report" in values and ("report" in given or "report" not in own):
        values["report"] = os.path.join(values["report"], name)
    if values.get("runner", run.LOCAL) == run.LOCAL:
        for dest in _OF_CONTAINERS:
            if dest not in given:
                values.pop(dest, None)
    elif "python" not in given and values.get("python", "").startswith(f"{beside}{os.sep}"):
        del values["python"]  # it is this machine's
    if command == "trace":
        values = {dest: value for dest, value in values.items() if dest in TRACE or dest in _TALK}
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
    for dest in _FILES:
        if given.get(dest):
            option = f"--{dest.replace('_', '-')}"
            raise UsageError(
                f"{option} names one file, and there are several layers ({names}); choose one with --layer"
            )
    seen: dict[str, str] = {}
    for name, values in made:
        for dest in (*_FILES, "report"):
            if path := values.get(dest):
                other = seen.setdefault(os.path.normpath(path), name)
                if other != name:
                    raise UsageError(f"{path} would be written for both layers {other} and {name}; name another file")


# ---- layers to be published ---------------------------------------------------------------------------------------


def _archived(file: SettingsFile, names: list[str], wanted: Sequence[str], given: Values) -> list[str] | None:
    """Give the layers to publish; None if the command line names an archive that is none of theirs."""
    if "archive" not in given or wanted:
        if "archive" in given and len(names) > 1:
            raise UsageError("the archive is one file, and there are several layers; choose one with --layer")
        return names
    target = os.path.normpath(os.path.abspath(given["archive"]))
    return [name for name in names if os.path.normpath(_publication(file, name)["archive"]) == target][:1] or None


def _publication(file: SettingsFile, name: str) -> Values:
    """Give what the settings say about publishing a layer."""
    layer = _values("", file, name, {})
    found: Values = {dest: layer[dest] for dest in _TALK if dest in layer}
    found |= {dest: [layer[dest]] for dest in ("runtime", "architecture") if layer.get(dest)}
    found |= {"archive": layer["output"]}
    if name:
        found["name"] = name
    return _over(_over(found, file.common.publish), file.layers.get(name, Section()).publish)


def _publications(file: SettingsFile, names: list[str] | None, given: Values) -> list[Job]:
    if names is None:
        # Somebody else's zip: the settings say where to, but not what it is.
        common = {dest: value for dest, value in file.common.publish.items() if dest in ("bucket", "region", *_TALK)}
        return [_run("publish", "", _over(common, given))]
    made = [(name, _over(_publication(file, name), given)) for name in names]
    for dest in ("name", "archive"):
        seen: dict[Any, str] = {}
        for name, values in made:
            if dest in values and seen.setdefault(values[dest], name) != name:
                both = f"{seen[values[dest]]} and {name}"
                raise UsageError(f"{values[dest]} would be published for both layers {both}; choose one with --layer")
    return [_run("publish", name, values) for name, values in made]
