"""Write output files completely or not at all, provide the scratch folder of a run, and read saved files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from layer_minimizer.core.errors import MinimizeError, PackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# In the environment of all processes that a command starts; see cli/session.py.
SESSION_VARIABLE = "LAYER_MINIMIZER_SESSION"
_Value = TypeVar("_Value")


# ---- writing ------------------------------------------------------------------------------------------------------


def partial_path(output: Path) -> Path:
    """Return the temporary name under which this process writes an output."""
    return output.with_name(f".{output.name}.{os.getpid()}.part")


def partial_paths_pattern(folder: str) -> str:
    """Return a pattern that matches all temporary names of this process in ``folder``."""
    return f"{folder}/.*.{os.getpid()}.*part"


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """Yield a temporary name for an output; a file or folder of that name is removed afterwards."""
    part = partial_path(output)
    try:
        yield part
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """Yield a temporary name for an output; without an error the file is renamed to the output afterwards."""
    with unfinished(output) as part:
        yield part
        part.replace(output)


@contextmanager
def unfinished_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder next to an output; it is removed afterwards."""
    with tempfile.TemporaryDirectory(
        dir=output.parent, prefix=f".{output.name}.{os.getpid()}.", suffix=".part"
    ) as folder:
        yield Path(folder)


def write_text(file: Path, text: str, option: str) -> None:
    """Write a text file that the user requested with ``option``.

    Raises:
        PackError: the file cannot be written.
    """
    try:
        with replacing(file.absolute()) as part:
            part.write_text(text, "utf-8")
    except OSError as exc:
        raise PackError(f"{option} {file}: {exc.strerror}") from exc


def replace_output(part: Path, target: Path) -> None:
    """Rename a finished output to its final name.

    Raises:
        PackError: that fails.
    """
    try:
        part.replace(target)
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc


def check_output(output: Path, option: str = "--output") -> None:
    """Check before any work begins that ``output`` can be written.

    Raises:
        PackError: it cannot be written.
    """
    if os.path.isdir(output):  # also if its parent folder cannot be listed
        raise PackError(f"{output} is a folder; {option} requires the name of a file")
    try:
        with unfinished(output) as part:
            part.touch()
    except OSError as exc:
        raise PackError(f"{option}: cannot write {output}: {exc.strerror}; use another folder") from exc


def check_folder(folder: Path, option: str, *, new_levels: int = 1) -> None:
    """Check before any work begins that files can be written into ``folder``.

    The last ``new_levels`` folders of its path may be missing.

    Raises:
        PackError: files cannot be written there.
    """
    existing = folder
    for _ in range(new_levels):
        if os.path.lexists(existing):
            break
        existing = existing.parent
    if os.path.lexists(existing) and not os.path.isdir(existing):
        raise PackError(f"{existing} is not a folder; {option} requires the name of a folder")
    if not os.path.lexists(existing):
        raise PackError(f"{option} {folder}: the folder {existing} does not exist")
    try:
        with unfinished(existing / "report") as part:
            part.touch()
    except OSError as exc:
        raise PackError(f"{option}: cannot write into {existing}: {exc.strerror}; use another folder") from exc


# ---- scratch ------------------------------------------------------------------------------------------------------


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder for temporary files; it is removed afterwards."""
    # The path is kept short: the handler may create sockets in it, whose paths can have 107 characters at most.
    prefix = "" if SESSION_VARIABLE in os.environ else "layer_minimizer-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(os.path.realpath(folder))


@contextmanager
def scratch_errors(error: type[MinimizeError], action: str) -> Iterator[None]:
    """Convert an OSError for the scratch folder to ``error``, with a hint at TMPDIR.

    ``action`` is the beginning of the message, such as "cannot copy {file}"; ``{file}`` is replaced by the file's name.
    """
    try:
        yield
    except OSError as exc:
        message = action.replace("{file}", str(exc.filename))
        raise error(f"{message}: {_reason(exc)}; set TMPDIR to use another folder") from exc


def _reason(error: OSError) -> str:
    """Return the system's error message; shutil.Error contains a list of the errors of single files."""
    listed = error.args[0] if isinstance(error, shutil.Error) else None
    return str(listed[0][2]).partition(": ")[0] if listed else error.strerror or str(error)


# ---- reading ------------------------------------------------------------------------------------------------------


def sha256_of(file: Path) -> bytes:
    """Return the digest of a file's content."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").digest()


def read_saved(file: Path, option: str, parse: Callable[[Any], _Value]) -> _Value:
    """Read a value that an earlier run saved as JSON.

    Raises:
        UsageError: the file cannot be read, or contains something else.
    """
    try:
        return parse(json.loads(file.read_bytes()))
    except OSError as exc:
        raise UsageError(f"{option} {file}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{option} {file} is not valid JSON: {exc}") from exc
    except UsageError as exc:
        raise UsageError(f"{option} {file}: {exc}") from exc


# Reading a damaged zip raises different errors for each compression method; RuntimeError means encrypted.
UNREADABLE_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError)


def lies_outside(file: str) -> bool:
    """Return whether a name in a zip would be unpacked outside of the target folder on any operating system."""
    return file.startswith(("/", "\\")) or ".." in re.split(r"[\\/]", file) or "\0" in file
