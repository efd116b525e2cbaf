"""``minimize init``: find a handler and its files, and write a first settings file, and files that deploy it."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.cli import deployment, init_template, settings_file
from layer_minimizer.cli.project import Project, inspect_project
from layer_minimizer.cli.settings_file import OWN_FILE, SHARED_FILE, TOOL, Section
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.core.files import check_output, replacing
from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import FLAG, INPUT_FILE, OUTPUT_FILE, TEXT, did_you_mean, one_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.cli.deployment import Deployment
    from layer_minimizer.core.option_declarations import Values
    from layer_minimizer.settings import Messages

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InitOptions(Options):
    """The options of ``minimize init``."""

    entry: str = option("", INPUT_FILE, "the handler; default: found in this folder or its subfolders", "what is set")
    output: str = option("", OUTPUT_FILE, f"the settings file; default: {OWN_FILE}", "where")
    pyproject: bool = option(
        default=False,
        kind=FLAG,
        help_text=f"append the settings to the existing {SHARED_FILE}",
        group="where",
        instead_of=("output",),
    )
    targets: tuple[str, ...] = option(
        (),
        one_of(deployment.TARGETS),
        "also write the files with which this tool builds and deploys the function",
        "deployment",
        name="for",
        repeat=True,
    )
    layer: str = option("", TEXT, "with --for: the layer of existing settings", "deployment", metavar="NAME")


def run(options: InitOptions, _messages: Messages) -> Iterator[str]:
    """Write the settings file, and the files for other tools; yield the text for standard output.

    Raises:
        UsageError: no handler was found, or there are settings or files already.
        PackError: a file cannot be written.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError as exc:
        raise UsageError("the working directory no longer exists; change to another one") from exc
    target = Path(SHARED_FILE if options.pyproject else options.output or OWN_FILE)
    folder = target.absolute().parent
    targets = tuple(dict.fromkeys(options.targets))
    if targets:
        deployment.require_free(folder, targets)
        if settings := _existing_settings(target, pyproject=options.pyproject):
            yield from _deploy(_described_by(settings, options), targets)
            return
    if options.layer:
        raise UsageError(f"--layer {options.layer}: it selects a layer of existing settings, for --for")
    _require_free(target, pyproject=options.pyproject)
    project = inspect_project(here, options.entry or None)
    for line in _found_lines(project):
        log.info("%s", line)
    # Nothing is written unless all of it can be.
    deployed = deployment.describe(_values(project), target, "", "", targets) if targets else None
    if options.pyproject:
        _add(target, project, folder)
    else:
        _write(target, init_template.new_file(project, folder).encode())
    command = "minimize"
    if target.name not in (OWN_FILE, SHARED_FILE) or folder != here:
        command += f" --config {shlex.quote(str(target))}"
    yield f"{target}\nNext: {command}\n"
    if deployed:
        yield from _deploy(deployed, targets)


def _deploy(deployed: Deployment, targets: Iterable[str]) -> Iterator[str]:
    """Write the files for other tools; yield their names, and the commands that use them."""
    files = [each for target in targets for each in deployed.files(target)]
    deployment.write(files)
    yield "".join(f"{os.path.relpath(path)}\n" for path, _ in files)
    if deployed.others:
        log.warning(
            "the function also needs the layers with %s; add them to the written files, before the new layer",
            ", ".join(map(os.path.basename, deployed.others)),
        )
    for target in targets:
        yield f"Next: {deployed.command(target)}\n"


def _existing_settings(target: Path, *, pyproject: bool) -> Path | None:
    """Return the settings file that exists already: ``target``, or the pyproject.toml of its folder."""
    if os.path.lexists(target) and not pyproject:
        return target
    shared = target.absolute().parent / SHARED_FILE
    is_used = (pyproject or target.name == OWN_FILE) and os.path.isfile(shared) and _has_table(shared, needed=pyproject)
    return shared if is_used else None


def _described_by(settings: Path, options: InitOptions) -> Deployment:
    """Return what the files for other tools say, from existing settings."""
    if options.entry:
        raise UsageError(f"--entry {options.entry}: {settings} exists, and names the entry")
    file = settings_file.read(settings)
    layer = options.layer or (next(iter(file.layers)) if len(file.layers) == 1 else "")
    if options.layer and options.layer not in file.layers:
        known = f"it has {', '.join(file.layers)}" if file.layers else "it has none with a name"
        raise UsageError(f"--layer {layer}: no such layer in {settings}; {known}{did_you_mean(layer, file.layers)}")
    if file.layers and not layer:
        raise UsageError(f"{settings} has several layers: {', '.join(file.layers)}; choose one with --layer")
    own = file.layers.get(layer, Section())
    published = {**file.common.publish, **own.publish}.get("name", "")
    return deployment.describe({**file.common.values, **own.values}, settings, layer, published, options.targets)


def _values(project: Project) -> Values:
    """Return what was found as options of ``minimize``."""
    return {
        "entry": str(project.entry),
        "model": tuple(map(str, project.models)),
        "event": tuple(map(str, project.events)),
        "python": str(project.python or ""),
        "runtime": project.runtime,
        "requirements": str(project.requirements or ""),
    }


def _found_lines(project: Project) -> list[str]:
    """Return lines about the files that were found, and those that were not."""
    lines = [f"entry: {os.path.relpath(project.entry)}"]
    if project.other_entries:
        others = ", ".join(map(os.path.relpath, project.other_entries))
        lines.append(f"  not used: {others}; --entry selects another one")
    lines += [f"model: {os.path.relpath(path)}" for path in project.models]
    lines += [f"event: {os.path.relpath(path)}" for path in project.events] or [
        "event: none found; the only event is {}"
    ]
    lines += [f"  not used: {os.path.relpath(path)}: {why}" for path, why in project.bad_events]
    lines += _package_lines(project)
    if project.problem:
        lines.append(f"  {project.problem}")
    if project.runtime:
        lines.append(f"runtime: {project.runtime}")
    return lines


def _package_lines(project: Project) -> Iterator[str]:
    """Yield lines about where the packages come from."""
    python = os.path.relpath(project.python) if project.python else ""
    if project.lock:
        yield f"lock: {os.path.relpath(project.lock)}; its packages are installed with uv, into the cache of minimize"
        if python:
            yield f"  not used: {python}"
    elif python or not project.requirements:
        yield f"python: {python or 'no virtual environment found; the interpreter of minimize'}"
    else:
        yield f"requirements: {os.path.relpath(project.requirements)}; they are installed with uv, into the cache"


def _require_free(target: Path, *, pyproject: bool) -> None:
    folder = target.absolute().parent
    if os.path.lexists(target) and not pyproject:
        raise UsageError(f"{target} already exists; remove it, or name another file with --output")
    if pyproject and os.path.lexists(folder / OWN_FILE):
        raise UsageError(f"{OWN_FILE} already exists; only one file of a folder may have settings")
    shared = folder / SHARED_FILE
    if not os.path.isfile(shared):
        if pyproject:
            raise UsageError(f"{shared} does not exist; without --pyproject, {OWN_FILE} is written")
    elif (pyproject or target.name == OWN_FILE) and _has_table(shared, needed=pyproject):
        raise UsageError(f"{shared} already has a table [tool.{TOOL}]")


def _has_table(file: Path, *, needed: bool) -> bool:
    try:
        tool = tomllib.loads(file.read_text("utf-8")).get("tool", {})
    except OSError as exc:
        raise UsageError(f"{file}: {exc.strerror}") from exc
    except ValueError as exc:
        if not needed:
            return False
        raise UsageError(f"{file} is not valid TOML: {exc}") from exc
    return isinstance(tool, dict) and TOOL in tool


def _add(file: Path, project: Project, folder: Path) -> None:
    """Add the settings to a pyproject.toml, and change nothing else."""
    file = Path(os.path.realpath(file))
    before = file.read_bytes()
    try:
        after = init_template.add_to_pyproject(before.decode(), project, folder)
    except ValueError as exc:
        raise UsageError(
            f"{file}: a table [tool.{TOOL}] cannot be added to it ({exc}); without --pyproject, {OWN_FILE} is written"
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
