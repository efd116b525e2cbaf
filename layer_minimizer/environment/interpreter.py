"""Find out the version of an interpreter and the folders from which it imports distributions."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.environment import emulation
from layer_minimizer.execution import probe, process
from layer_minimizer.model.interpreter import Interpreter

OLDEST, NEWEST = (3, 6), (3, 15)
# For an interpreter to start: long, because an emulated one on a busy machine takes many seconds.
_SECONDS = 180.0


def describe_interpreter(python: str) -> Interpreter:
    """Start ``python`` (a path, or a name on PATH) and read its version and its site-packages folders.

    Raises:
        RunnerError: it does not start, is not CPython 3.6 to 3.15, or has a zip file with packages on its path.
    """
    found = _describe(python)
    version = tuple(found["version"])
    if found["implementation"] != "cpython" or not OLDEST <= version[:2] <= NEWEST:
        raise RunnerError(
            f"{python} is {found['implementation'] or 'an old Python'} {'.'.join(map(str, version))}; "
            f"CPython {'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))} is supported"
        )
    if found["platform"] != "linux":
        raise RunnerError(f"{python} runs on {found['platform']}; a layer for Lambda must be traced on Linux")
    site_dirs = _site_folders(found)
    base = found["base_executable"]
    base_packages = _describe(base)["packages"] if found["virtual"] else []
    hidden = [p for p in _real_folders([*found["packages"], *base_packages]) if p not in site_dirs]
    return Interpreter(
        executable=found["executable"],
        base_executable=base,
        version=(version[0], version[1], version[2]),
        soabi=found["soabi"],
        machine=found["machine"],
        site_dirs=tuple(site_dirs),
        stdlib_dirs=tuple(_real_folders(found["stdlib"])),
        hidden_dirs=tuple(hidden),
        user_base=found["user_base"],
        page_size=found["page_size"],
    )


def site_of(interpreter: Interpreter, prefix: Path) -> Path:
    """Return the site-packages of a virtual environment."""
    return prefix / "lib" / interpreter.folder / "site-packages"


def make_virtual_environment(interpreter: Interpreter, prefix: Path) -> Path:
    """Create a virtual environment without a site-packages folder, and return the path of its Python."""
    base = Path(interpreter.base_executable)
    (prefix / "bin").mkdir(parents=True)
    site_of(interpreter, prefix).parent.mkdir(parents=True)
    (prefix / "lib64").symlink_to("lib")
    (prefix / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    python = prefix / "bin" / interpreter.folder
    python.symlink_to(base)
    for name in ("python3", "python"):
        (prefix / "bin" / name).symlink_to(python.name)
    return python


def _describe(python: str) -> dict[str, Any]:
    program = shutil.which(python)
    if program is None:
        raise RunnerError(
            f"{python}: no such interpreter; --python takes the path of one, for instance .venv/bin/python"
        )
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as folder:
        answer, log = Path(folder) / "answer.json", Path(folder) / "log"
        script = probe.copy_probe(Path(folder)) / "describe.py"
        emulation.prepare(program)
        # Symbolic links are not resolved: Python finds its virtual environment by the path bin/python.
        command = [os.path.abspath(program), "-B", str(script), str(answer)]
        try:
            ended = process.run(command, process.clean_environment(), Path(folder), timeout=_SECONDS, output=log)
        except RunnerError as exc:
            raise RunnerError(f"{exc}{emulation.hint(program, exc.__cause__)}") from exc
        printed = log.read_text(errors="replace").strip()
        if ended.returncode != 0 or not answer.exists():
            raise RunnerError(
                f"{python} {ended.ending} when asked for its version. Its output:\n{printed or '(nothing)'}"
            )
        try:
            found: dict[str, Any] = json.loads(answer.read_bytes())
            found["version"]
        except (ValueError, TypeError, KeyError) as exc:
            raise RunnerError(
                f"{python} is not a Python interpreter: it did not run the program that reads its version"
            ) from exc
        return found


def _real_folders(folders: list[str]) -> list[str]:
    """Return the folders that exist, each once (a venv's lib64 is a link to its lib)."""
    real = (os.path.realpath(folder) for folder in folders)
    return [folder for folder in dict.fromkeys(real) if os.path.isdir(folder)]


def _site_folders(found: dict[str, Any]) -> list[str]:
    """Return the site-packages folders on sys.path."""
    stdlib = _real_folders(found["stdlib"])
    packages = _real_folders(found["packages"])
    site_dirs: list[str] = []
    for entry in found["path"]:
        real = os.path.realpath(entry)
        if os.path.isfile(real) and not _in_stdlib(real, stdlib):
            raise RunnerError(
                f"{real} is a zipped package on sys.path; its modules cannot be put into a layer one by one. "
                "Reinstall that distribution with pip, which unpacks it"
            )
        is_site = real in packages or os.path.basename(real) in {"site-packages", "dist-packages"}
        if is_site and os.path.isdir(real) and real not in site_dirs:
            site_dirs.append(real)
    return site_dirs


def _in_stdlib(path: str, stdlib: list[str]) -> bool:
    """Return whether a sys.path entry is for the standard library: its folder, lib-dynload, or its zip file."""
    parents = {os.path.dirname(folder) for folder in stdlib}
    return (
        path in stdlib
        or any(path == os.path.join(folder, "lib-dynload") for folder in stdlib)
        or (os.path.dirname(path) in parents and path.endswith(".zip"))
    )
