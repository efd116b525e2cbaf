"""Write what a lock has as a requirements file, which pip installs in an image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.files import sha256_of
from layer_minimizer.environment import local_sources
from layer_minimizer.environment.lock_fit import read_fitting
from layer_minimizer.environment.locked_packages import requirements_text
from layer_minimizer.environment.package_source import LOCAL, SourceKind
from layer_minimizer.execution.uv import Uv

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.environment.package_source import PackageSource

# The end of the name of a wheel that works on every machine.
_ANYWHERE = "-none-any.whl"


def write_requirements(source: PackageSource, folder: Path) -> Path:
    """Return a requirements file with hashes for a lock, written into ``folder``; a requirements file as it is.

    Projects of this machine are built as wheels, beside the file.

    Raises:
        UsageError: the lock is not valid, does not fit the project, or has a project that is not pure Python.
        RunnerError: there is no uv, or uv fails.
    """
    if source.kind is SourceKind.REQUIREMENTS:
        return source.file
    file = folder / f"{source.file.name}.txt"
    if source.kind is SourceKind.UV:
        form = ("--format", "requirements.txt", "--no-header", "--no-annotate", "--output-file", str(file))
        export = ("export", "--locked", "--no-editable", "--no-default-groups", *form, *source.choice)
        Uv.find(source.option).run(*export, folder=source.folder, why=f"{source.option} cannot be exported:")
    else:
        file.write_text(requirements_text(read_fitting(source)), "utf-8")
    lines = [
        _built(source, line, folder) if LOCAL.match(line) else line for line in file.read_text("utf-8").splitlines()
    ]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def _built(source: PackageSource, line: str, folder: Path) -> str:
    """Return the line for a wheel of the project that a line names."""
    (project,) = local_sources.of_requirements([(source.file, line)])
    wheels = folder / f"wheel{len(list(folder.iterdir()))}"
    if project.is_dir():
        build = ("build", "--wheel", "--out-dir", str(wheels), str(project))
        Uv.find(source.option).run(*build, folder=source.folder, why=f"{source.option}: {project} cannot be built:")
        (project,) = wheels.glob("*.whl")
    if not project.name.endswith(_ANYWHERE):
        raise UsageError(
            f"{source.option}: {project.name} is for this machine, not for the container; build it for the container, "
            "and set PIP_FIND_LINKS to the wheel's folder"
        )
    marker = re.search(r"\s;[^#]*?(?=\s--hash|$)", line)
    return f"{project.as_uri()}{marker[0] if marker else ''} --hash=sha256:{sha256_of(project).hex()}"
