"""Finds the two programs that make an emulated Lambda: its runtime interface, and Python's client of that.

Both are AWS's own. What is not installed is fetched from PyPI with pip, once, into this tool's cache.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
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
# What the project calls the processors that the kernel calls so; SAM's distribution has a static program for each.
_BUILDS = {machine: name for name, machine in ARCHITECTURES.items()}
_SAM = "aws-sam-cli"
# This line says where the program lies in the wheel.
_IN_SAM = "samcli/local/rapid/aws-lambda-rie-{}"
_CLIENT = "awslambdaric"
# The kind of thing that it is among what this tool keeps.
_CACHE = "emulator"


def find_emulator(given: str, machine: str) -> Path:
    """Return the Runtime Interface Emulator for a processor: the one given, one of this machine, or one from PyPI.

    Raises:
        UsageError: there is no such program.
        RunnerError: there is none here and none can be fetched.
    """
    if given:
        return given_emulator(given)
    if machine not in _BUILDS:
        raise RunnerError(f"--verify lambda: there is no Lambda for {machine}, and no emulator either")
    kept = cache.cache_folder(_CACHE) / f"{_EMULATOR}-{_BUILDS[machine]}"
    for path in _installed(machine):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    if not kept.exists():
        log.info("fetching %s from PyPI, into %s", _EMULATOR, kept.parent)
        _make(kept, lambda folder: _download_emulator(folder, machine))
    return kept


def given_emulator(given: str) -> Path:
    """Return the path of the program that the user has named.

    Raises:
        UsageError: there is no such program.
    """
    path = Path(given).absolute()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise UsageError(f"--emulator {given}: there is no such program")
    return path


def _installed(machine: str) -> Iterator[Path]:
    if found := shutil.which(_EMULATOR):
        yield Path(found)
    # Where AWS tells people to put it: https://docs.aws.amazon.com/lambda/latest/dg/images-test.html
    yield Path.home() / f".{_EMULATOR}" / _EMULATOR
    try:
        files = importlib.metadata.files(_SAM) or []
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in files if str(file) == _IN_SAM.format(_BUILDS[machine]))


def find_client(python: tuple[int, ...], machine: str) -> Path:
    """Return a folder with awslambdaric, and what it needs, for a version of Python and a processor.

    Raises:
        RunnerError: it cannot be fetched.
    """
    version = "{}.{}".format(*python[:2])
    kept = cache.cache_folder(_CACHE) / f"{_CLIENT}-{version}-{machine}"
    if not kept.exists():
        log.info("fetching %s for Python %s from PyPI, into %s", _CLIENT, version, kept.parent)
        options = ["--no-compile", "--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
        _make(kept, lambda folder: _pip("install", *options, f"--target={folder}", _CLIENT))
    return kept


def _download_emulator(target: Path, machine: str) -> None:
    with unfinished_folder(target) as folder:
        _pip("download", "--no-deps", "--only-binary=:all:", f"--dest={folder}", _SAM)
        wheel = next(folder.glob("*.whl"))
        name = _IN_SAM.format(_BUILDS[machine])
        with zipfile.ZipFile(wheel) as source, source.open(name) as program, target.open("wb") as sink:
            shutil.copyfileobj(program, sink)
        target.chmod(0o755)


def _make(kept: Path, fill: Callable[[Path], None]) -> None:
    """Make ``kept`` as a whole or not at all; of two runs that make it at once the first one wins.

    Raises:
        RunnerError: it cannot be made.
    """
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(kept) as folder:
            part = folder / kept.name
            fill(part)
            if not kept.exists():
                _rename(part, kept)
    except (OSError, KeyError, StopIteration, zipfile.BadZipFile) as exc:
        raise RunnerError(f"--verify lambda: cannot make {kept}: {exc}. {_by_hand()}") from exc


def _rename(part: Path, kept: Path) -> None:
    try:
        part.rename(kept)
    except OSError:
        if not kept.exists():  # another run was faster
            raise


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise RunnerError(f"--verify lambda: pip cannot fetch {arguments[-1]}:\n{said}\n{_by_hand()}")


def _by_hand() -> str:
    return (
        f"Install both where there is a network: pip install 'layer_minimizer[lambda]' brings the emulator, and "
        f"{cache.cache_folder(_CACHE)} may be copied from another machine; --emulator names a program that you have"
    )
