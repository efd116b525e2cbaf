"""Write the build context of an image: this tool as it is installed here, requirements files, pip's settings."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from layer_minimizer.analysis import elf
from layer_minimizer.core.errors import RunnerError, UsageError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.environment import local_sources
from layer_minimizer.environment.package_source import LOCAL, NESTED, read_requirements
from layer_minimizer.native import parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOOL, REQUIREMENTS, PIP = "tool", "requirements", "pip"
# The path of the folder ``pip`` while an image is built.
PIP_INSIDE = "/layer_minimizer_build/pip"
_PACKAGE = Path(__file__).parents[1]
# The sources of the native libraries, and how they are compiled.
_SOURCES = _PACKAGE / "native" / "src"
_IGNORED = shutil.ignore_patterns("__pycache__", "*.so")
# The oldest C library that the compiled parts may require.
_OLDEST_GLIBC = Version("2.17")
# The engines' names of processors, and those of the kernel.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Variables about pip's paths on this machine, of no use in the image.
_HOST_ONLY_PIP_VARIABLES = {
    "PIP_BREAK_SYSTEM_PACKAGES",
    "PIP_CACHE_DIR",
    "PIP_LOG",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_REPORT",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
}
_PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}


# ---- the tool -----------------------------------------------------------------------------------------------------


def add_tool(folder: Path, architecture: str) -> tuple[str, ...]:
    """Copy this tool and its dependencies into ``folder``. They are pure Python except for two small libraries.

    Returns:
        The commands that compile these libraries, to be run in the copy of ``folder`` in the image; none if the
        libraries installed here contain those for an image of this architecture.

    Raises:
        RunnerError: this tool's own installation is incomplete, or the disk is full.
    """
    machine = MACHINES.get(architecture, architecture)
    with scratch_errors(RunnerError, f"cannot copy the tool into {folder}"):
        shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=_IGNORED)
        _write_metadata(folder)
        for distribution in _dependencies():
            _copy_distribution(distribution, folder)
        compiled = _compiled_for(machine)
        for library in compiled:
            shutil.copy(library, folder / _PACKAGE.name / "native")
    return () if compiled else tuple(_compilations(machine))


def _write_metadata(folder: Path) -> None:
    version = importlib.metadata.version(_PACKAGE.name)
    information = folder / f"{_PACKAGE.name}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_PACKAGE.name}\nVersion: {version}\n")
    # `python FOLDER` runs this.
    (folder / "__main__.py").write_text(f"from {_PACKAGE.name}.cli.main import run\n\nrun()\n")


def _dependencies() -> Iterator[importlib.metadata.Distribution]:
    """Yield the distributions that this tool requires, directly or indirectly."""
    pending, seen = [_PACKAGE.name], {_PACKAGE.name}
    while pending:
        for requirement in map(Requirement, importlib.metadata.requires(pending.pop()) or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue  # of an extra, or for another Python or another system
            name = canonicalize_name(requirement.name)
            if name in seen:
                continue
            seen.add(name)
            try:
                yield importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError as exc:
                raise RunnerError(
                    f"{name}, a dependency of this tool, is not installed: install the tool again"
                ) from exc
            pending.append(name)


def _copy_distribution(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    if distribution.files is None:
        raise RunnerError(
            f"{distribution.name} has no list of its files: install this tool with pip, in a virtual environment of "
            "its own"
        )
    for file in distribution.files:
        if ".." in file.parts or "__pycache__" in file.parts or file.suffix == ".so":
            continue
        target = folder.joinpath(*file.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(distribution.locate_file(file)), target)


def _compiled_for(machine: str) -> tuple[Path, ...]:
    """Return the compiled libraries of this installation if they work in images for this machine."""
    found = (parts.runtime_library(machine), parts.page_tracer(machine))
    libraries = tuple(filter(None, found))
    needs = [elf.required_version(need.version) for library in libraries for need in elf.read_versions(library)]
    is_old_enough = all(need[1] <= _OLDEST_GLIBC for need in needs if need and need[0] == "GLIBC")
    return libraries if is_old_enough and len(libraries) == len(found) else ()


def _compilations(machine: str) -> Iterator[str]:
    """Yield the compiler command of each library."""
    folder = _SOURCES.relative_to(_PACKAGE.parent)
    for library in tomllib.loads((_SOURCES / "libraries.toml").read_text("utf-8"))["library"]:
        output = (folder.parent / parts.library_file(library["name"], machine)).as_posix()
        source = (folder / library["source"]).as_posix()
        made = ["-shared", "-fPIC", "-o", output, *library["compile-args"], source, *library["link-args"]]
        yield " ".join(["cc", *made])


# ---- requirements -------------------------------------------------------------------------------------------------


def add_requirements(file: Path, folder: Path) -> str:
    """Copy a requirements file and those it includes into ``folder``; return the first one's name there.

    Raises:
        UsageError: a file cannot be read, or requires a file of this machine.
    """
    return _add_requirements(file.absolute(), folder, {})


def _add_requirements(file: Path, folder: Path, names: dict[Path, str]) -> str:
    file = Path(os.path.normpath(file))
    if file in names:
        return names[file]
    names[file] = f"{len(names)}-{file.name}"
    text = read_requirements(file)
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        nested = NESTED.match(line.strip())
        if nested and not urlsplit(nested["file"]).netloc:
            named = _add_requirements(file.parent / nested["file"], folder, names)
            lines.append(f"{nested['option']} {named}")
        elif wheel := _pure_wheel(line.strip(), file):
            folder.mkdir(exist_ok=True)
            shutil.copyfile(wheel, folder / wheel.name)
            lines.append(f"./{wheel.name}{line.strip().partition(wheel.name)[2]}")
        elif LOCAL.match(line.strip()):
            raise UsageError(
                f"{file}, line {number}: {line.strip()} is a file or folder of this machine, which the container "
                "does not have; build a wheel of it (pip wheel), and set PIP_FIND_LINKS to the wheel's folder"
            )
        else:
            lines.append(line)
    folder.mkdir(exist_ok=True)
    (folder / names[file]).write_text("\n".join(lines) + "\n", "utf-8")
    return names[file]


def _pure_wheel(line: str, file: Path) -> Path | None:
    """Return the wheel of this machine that a line of ``file`` names, if it is there and works on every machine."""
    named = next(local_sources.of_requirements([(file, line)]), None)
    return named if named and named.name.endswith("-none-any.whl") and named.is_file() else None


# ---- pip's settings -----------------------------------------------------------------------------------------------


def add_pip_settings(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which pip in the image uses the same package sources as here.

    The files and folders that they name are copied into ``folder``.

    Raises:
        RunnerError: they cannot be copied.
    """
    settings = proxies(variables)
    folder.mkdir()
    for name, value in variables.items():
        if re.fullmatch(r"PIP_[A-Z0-9_]+", name) and name not in _HOST_ONLY_PIP_VARIABLES:
            values = [_copied(each, folder / name, f"{PIP_INSIDE}/{name}") for each in value.split()]
            settings[name] = " ".join(values)
    return settings


def proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that set network proxies; every download in the build uses them."""
    return {name: value for name, value in variables.items() if name.lower() in _PROXIES}


def _copied(value: str, folder: Path, inside: str) -> str:
    """Copy the file or folder that ``value`` names, and return its path in the image; return other values unchanged."""
    path = Path(url2pathname(urlsplit(value).path)) if value.startswith("file:") else Path(value).expanduser()
    if not (path.is_absolute() or os.sep in value) or not path.exists():
        return value
    target = folder / str(len(list(folder.iterdir())) if folder.is_dir() else 0) / path.name
    try:
        target.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, target, copy_function=_link)
        else:
            _link(str(path), str(target))
    except (OSError, shutil.Error) as exc:
        raise RunnerError(f"cannot copy {path}, named by {folder.name}, for the build of an image: {exc}") from exc
    return f"{inside}/{target.relative_to(folder).as_posix()}"


def _link(source: str, target: str) -> None:
    """Link a file, or copy it if that fails; folders of wheels can be large."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
