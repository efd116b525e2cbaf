"""Find a Lambda handler in a folder, and its models, events, interpreter and requirements."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import sys
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.aws import runtimes
from layer_minimizer.core.errors import RunnerError, UsageError
from layer_minimizer.environment import interpreter, lock_fit, package_source

if TYPE_CHECKING:
    from collections.abc import Iterator

_HANDLER_NAMES = ("handler", "lambda_handler")
# Common names of files with a handler, the most common first.
_COMMON_FILE_NAMES = ("handler.py", "lambda_function.py", "app.py", "main.py")
_MODEL_SUFFIXES = {
    ".bin", ".cbm", ".ckpt", ".gguf", ".h5", ".hdf5", ".joblib", ".keras", ".lgb", ".mlmodel", ".model", ".npz",
    ".onnx", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tflite", ".ubj",
}  # fmt: skip
_HANDLER_WORD = re.compile(rb"\b(lambda_)?handler\b")
_ENVIRONMENTS = (".venv", "venv", "env")
_REQUIREMENTS = "requirements.txt"
_SKIPPED_FOLDERS = re.compile(r"tests?|testing|node_modules|site-packages|__pycache__|build|dist|\..*")
_SKIPPED_MODULES = re.compile(r"test_.*|.*_test|conftest|setup")
# Handlers are near the top of a project; deeper folders usually hold third-party code.
_MAX_DEPTH = 4
# A handler is called with the event and the context.
_ARGUMENT_COUNT = 2
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Project:
    """The files of a project; all paths are absolute. It has many fields because ``init`` writes each of them.

    ``entry`` is the handler, ``other_entries`` are further files with a handler. ``bad_events`` are event files that
    cannot be read, each with the reason. ``python`` is the interpreter of the project's virtual environment, or None.
    ``runtime`` is Lambda's runtime for that Python, empty if there is none. ``problem`` says why the interpreter cannot
    be used. ``lock`` is the lock from which an environment is made, in place of the virtual environment.
    """

    entry: Path
    other_entries: tuple[Path, ...]
    models: tuple[Path, ...]
    events: tuple[Path, ...]
    bad_events: tuple[tuple[Path, str], ...]
    python: Path | None
    runtime: str
    requirements: Path | None
    problem: str = ""
    lock: Path | None = None


def inspect_project(folder: Path, entry: str | None = None) -> Project:
    """Return the handler in ``folder`` and its files; ``entry`` names the handler's file.

    Raises:
        UsageError: there is no handler.
    """
    if entry:
        chosen, *others = [Path(entry).absolute()]
        if not os.path.isfile(chosen) or chosen.suffix != ".py":
            raise UsageError(f"--entry {entry}: not an existing .py file")
    else:
        found = handlers(folder)
        if not found:
            raise UsageError(
                f"{folder}: no .py file here has a function {' or '.join(_HANDLER_NAMES)} with two arguments; name a "
                "handler or a script with --entry"
            )
        chosen, *others = found
    folders = list(dict.fromkeys([folder, chosen.parent]))
    # A file without a handler is a script, which takes no events.
    events, bad = _events(folders) if _HANDLER_WORD.search(chosen.read_bytes()) else ((), ())
    python = _interpreter(folders)
    runtime, problem = _runtime(str(python or ""))
    if python and problem:
        python = None
    requirements = next((each / _REQUIREMENTS for each in folders if os.path.isfile(each / _REQUIREMENTS)), None)
    lock = next(filter(None, map(package_source.find_lock, folders)), None)
    if lock and python is None and not _allows_own_python(lock.parent):
        runtime = ""  # uv chooses a Python for the project
    return Project(
        chosen, tuple(others), _models(chosen.parent), events, bad, python, runtime, requirements, problem, lock
    )


def _allows_own_python(folder: Path) -> bool:
    """Return whether a project's ``requires-python`` allows the Python that runs this tool."""
    try:
        pyproject = package_source.read_toml(folder / package_source.PYPROJECT, "init")
    except UsageError:
        return False
    return lock_fit.allows_python(pyproject, sys.version_info[:3])


def missing_entry(folder: Path) -> str:
    """Return the error message for a command that names no entry, with what there is in the folder."""
    found, lock = handlers(folder), package_source.find_lock(folder)
    message = "there is nothing to trace: name the handler or script with --entry, or a saved --trace; "
    if not (found and lock):
        return f"{message}minimize init finds them and writes a settings file"
    entry, name = (shlex.quote(os.path.relpath(path, folder)) for path in (found[0], lock))
    return (
        f"{message}this folder has {entry} and {name}: minimize init writes them into a settings file for minimize, or "
        f"use them as they are, with --entry {entry} --lock {name}"
    )


def handlers(folder: Path) -> list[Path]:
    """Return the files below ``folder`` that have a handler, the likeliest first."""
    found = [(rank, path) for path in _sources(folder) if (rank := _rank(path, folder)) is not None]
    return [path for _, path in sorted(found)]


def _sources(folder: Path, depth: int = _MAX_DEPTH) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in listed:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if depth > 1 and not _SKIPPED_FOLDERS.fullmatch(entry.name) and not (path / "pyvenv.cfg").exists():
                yield from _sources(path, depth - 1)
        elif path.suffix == ".py" and not _SKIPPED_MODULES.fullmatch(path.stem) and entry.is_file():
            yield path


def _rank(path: Path, folder: Path) -> tuple[int, int, int] | None:
    """Return how likely a file is the handler, smaller is likelier; None if it has none."""
    try:
        content = path.read_bytes()
        if len(content) > _MAX_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's warnings about the user's code
            tree = ast.parse(content)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    kinds = [kind for node in tree.body if (kind := _kind(node)) is not None]
    if not kinds:
        return None
    common = _COMMON_FILE_NAMES.index(path.name) if path.name in _COMMON_FILE_NAMES else len(_COMMON_FILE_NAMES)
    return min(kinds), common, len(path.relative_to(folder).parts)


def _kind(node: ast.stmt) -> int | None:
    """Return 0 for a handler function, 1 for a name that may be one (``handler = make(app)``), None otherwise."""
    if isinstance(node, ast.FunctionDef) and node.name in _HANDLER_NAMES:
        accepted = len(node.args.posonlyargs) + len(node.args.args)
        required = accepted - len(node.args.defaults)
        is_variadic = node.args.vararg is not None
        return 0 if required <= _ARGUMENT_COUNT and (accepted >= _ARGUMENT_COUNT or is_variadic) else None
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
        named = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return 1 if set(named) & set(_HANDLER_NAMES) else None
    return None


def _models(folder: Path) -> tuple[Path, ...]:
    return tuple(
        sorted(path for path in folder.glob("*") if path.suffix.lower() in _MODEL_SUFFIXES and os.path.isfile(path))
    )


def _events(folders: list[Path]) -> tuple[tuple[Path, ...], tuple[tuple[Path, str], ...]]:
    """Return the event files, and those that are not valid, with the reason."""
    good, bad = [], []
    listed = [
        path for folder in folders for pattern in ("event*.json", "events/*.json") for path in folder.glob(pattern)
    ]
    for path in sorted(dict.fromkeys(listed)):
        try:
            json.loads(path.read_bytes())
        except OSError as exc:
            bad.append((path, exc.strerror or str(exc)))
        except (ValueError, RecursionError) as exc:
            bad.append((path, f"not valid JSON: {exc}"))
        else:
            good.append(path)
    return tuple(good), tuple(bad)


def _interpreter(folders: list[Path]) -> Path | None:
    candidates = (folder / name / "bin" / "python" for folder in folders for name in _ENVIRONMENTS)
    return next((path for path in candidates if os.access(path, os.X_OK) and os.path.isfile(path)), None)


def runtime_of(python: str) -> str:
    """Return Lambda's runtime for an interpreter, empty if AWS no longer supports it; default: the tool's interpreter.

    Raises:
        UsageError: the interpreter cannot be used.
    """
    runtime, problem = _runtime(python)
    if problem:
        raise UsageError(problem)
    return runtime


def _runtime(python: str) -> tuple[str, str]:
    """Return Lambda's runtime for an interpreter, empty if AWS no longer supports it, and the interpreter's problem."""
    try:
        version = interpreter.describe_interpreter(python or sys.executable).version
    except RunnerError as exc:
        return "", str(exc).splitlines()[0]
    known = runtimes.load_runtimes().get(f"python{version[0]}.{version[1]}")
    today = datetime.now(UTC).date()
    return (known.name if known and known.deprecated > today else ""), ""
