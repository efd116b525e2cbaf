"""The projects and files of this machine that a list of packages names: which they are, and whether they changed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.utils import canonicalize_name

from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment.package_source import LOCAL, PYPROJECT, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.environment.package_source import PackageSource

# Folders whose content no build takes: environments, results of builds and of tests, reports of this tool.
_SKIPPED = re.compile(r"\..*|__pycache__|node_modules|build|dist|.*\.egg-info")
_ENVIRONMENT_FILE, _REPORT_FILE = "pyvenv.cfg", "report.json"
_LOCAL_VALUE = re.compile(
    r"""(?:(?:-e|--editable|-f|--find-links)[\s=]+)?(?:[\w.\[\],-]+\s*@\s*)?(?P<path>[^\s;#\[]+)""",
)


def of_uv_lock(source: PackageSource) -> Iterator[Path]:
    """Yield the projects and files of this machine that a ``uv.lock`` installs; it installs no virtual project."""
    for package in source.read().get("package", []):
        origin = package.get("source", {})
        for kind in ("editable", "directory", "path"):
            if kind in origin:
                yield Path(os.path.normpath(source.folder / origin[kind]))


def of_requirements(lines: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    """Yield the projects, files and folders of wheels that lines of requirements files name."""
    for file, line in lines:
        found = _LOCAL_VALUE.match(line) if LOCAL.match(line) else None
        if found:
            path = found["path"]
            path = url2pathname(urlsplit(path).path) if path.startswith("file:") else path
            yield Path(os.path.normpath(file.parent / path))


def of_urls(urls: Iterable[str]) -> Iterator[Path]:
    """Yield the projects and files that ``file:`` URLs name."""
    for url in urls:
        if url.startswith("file:"):
            yield Path(url2pathname(urlsplit(url).path))


def names(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the names of the projects among some paths, as their ``pyproject.toml`` has them."""
    for path in dict.fromkeys(paths):
        file = path / PYPROJECT
        try:
            data = read_toml(file, str(file)) if file.is_file() else {}
        except UsageError:
            continue  # uv says what is wrong with it
        name = data.get("project", {}).get("name") or data.get("tool", {}).get("poetry", {}).get("name")
        if isinstance(name, str):
            yield canonicalize_name(name)


def state(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return the path, size and time of every file of some projects: another list means that they changed."""
    return sorted(each for path in dict.fromkeys(paths) for each in _files(path))


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    if not path.is_dir():
        if path.is_file():
            yield _about(path)
        return
    for folder, folders, found in os.walk(path):
        inside = set(found)
        if folder != str(path) and {_ENVIRONMENT_FILE, _REPORT_FILE} & inside:
            folders.clear()
            continue
        folders[:] = sorted(each for each in folders if not _SKIPPED.fullmatch(each))
        for name in sorted(inside):
            file = Path(folder, name)
            if not name.startswith(".") and not name.endswith((".pyc", ".zip")) and file.is_file():
                yield _about(file)


def _about(file: Path) -> tuple[str, int, int]:
    status = file.stat()
    return str(file), status.st_size, status.st_mtime_ns
