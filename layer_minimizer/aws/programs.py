"""Finds AWS's two programs of the Lambda emulator: the Runtime Interface Emulator and the Python runtime client.

A program that is not installed is downloaded from PyPI with pip, once, to the cache of this tool.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.aws.runtimes import ARCHITECTURES
from layer_minimizer.core import cache
from layer_minimizer.core.errors import RunnerError, UsageError
from layer_minimizer.core.files import unfinished_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)
_EMULATOR = "aws-lambda-rie"
# From the kernel's name of an architecture to the one in the emulator's file name; the SAM CLI has one static
# program for each.
_BUILDS = {machine: name for name, machine in ARCHITECTURES.items()}
_SAM = "aws-sam-cli"
# The path of the program in the wheel.
_IN_SAM = "samcli/local/rapid/aws-lambda-rie-{}"
_CLIENT = "awslambdaric"
# The folder in the cache.
_CACHE = "emulator"


def find_emulator(given: str, machine: str) -> Path:
    """Return the Runtime Interface Emulator for an architecture: ``given``, an installed one, or one from PyPI.

    Raises:
        UsageError: ``given`` is not an executable file.
        RunnerError: no emulator is installed, and none can be downloaded.
    """
    if given:
        return given_emulator(given)
    if machine not in _BUILDS:
        raise RunnerError(f"--verify lambda: AWS Lambda does not support {machine}, and there is no emulator for it")
    cached = cache.cache_folder(_CACHE) / f"{_EMULATOR}-{_BUILDS[machine]}"
    for path in _installed(machine):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    if not cached.exists():
        log.info("fetching %s from PyPI, into %s", _EMULATOR, cached.parent)
        _create(cached, lambda folder: _download_emulator(folder, machine))
    return cached


def given_emulator(given: str) -> Path:
    """Return the absolute path of the emulator that the user has named.

    Raises:
        UsageError: it is not an executable file.
    """
    path = Path(given).absolute()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise UsageError(f"--emulator {given}: this is not an executable file")
    return path


def _installed(machine: str) -> Iterator[Path]:
    if found := shutil.which(_EMULATOR):
        yield Path(found)
    # The folder that AWS documents: https://docs.aws.amazon.com/lambda/latest/dg/images-test.html
    yield Path.home() / f".{_EMULATOR}" / _EMULATOR
    try:
        files = importlib.metadata.files(_SAM) or []
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in files if str(file) == _IN_SAM.format(_BUILDS[machine]))


def find_client(python: tuple[int, ...], machine: str) -> Path:
    """Return a folder with awslambdaric and its dependencies, for a Python version and an architecture.

    Raises:
        RunnerError: it cannot be downloaded.
    """
    version = "{}.{}".format(*python[:2])
    cached = cache.cache_folder(_CACHE) / f"{_CLIENT}-{version}-{machine}"
    if not cached.exists():
        log.info("fetching %s for Python %s from PyPI, into %s", _CLIENT, version, cached.parent)
        options = ["--no-compile", "--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
        if machine != platform.machine():
            options.append(f"--platform=manylinux2014_{machine}")
        _create(cached, lambda folder: _pip("install", *options, f"--target={folder}", _CLIENT))
    return cached


def _download_emulator(target: Path, machine: str) -> None:
    with unfinished_folder(target) as folder:
        _pip("download", "--no-deps", "--only-binary=:all:", f"--dest={folder}", _SAM)
        wheel = next(folder.glob("*.whl"))
        name = _IN_SAM.format(_BUILDS[machine])
        with zipfile.ZipFile(wheel) as source, source.open(name) as program, target.open("wb") as sink:
            shutil.copyfileobj(program, sink)
        target.chmod(0o755)


def _create(cached: Path, fill: Callable[[Path], None]) -> None:
    """Create ``cached`` atomically with ``fill``. If another run creates it at the same time, the first one is used.

    Raises:
        RunnerError: it cannot be created.
    """
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(cached) as folder:
            part = folder / cached.name
            fill(part)
            if not cached.exists():
                _rename(part, cached)
    except (OSError, KeyError, StopIteration, zipfile.BadZipFile) as exc:
        raise RunnerError(f"--verify lambda: cannot create {cached}: {exc}. {_install_hint()}") from exc


def _rename(part: Path, cached: Path) -> None:
    try:
        part.rename(cached)
    except OSError:
        if not cached.exists():  # another run has created it
            raise


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    if done.returncode != 0:
        output = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise RunnerError(f"--verify lambda: pip cannot download {arguments[-1]}:\n{output}\n{_install_hint()}")


def _install_hint() -> str:
    return (
        f"With a network connection, pip install 'layer_minimizer[lambda]' installs the emulator. Without one, copy "
        f"{cache.cache_folder(_CACHE)} from another machine, or name an installed emulator with --emulator"
    )
