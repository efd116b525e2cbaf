"""Output files that appear whole or not at all, and the scratch folder of one run."""

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

# Stands in the environment of all that a command starts; see session.py.
SESSION_VARIABLE = "LAYER_MINIMIZER_SESSION"
_Value = TypeVar("_Value")


# ---- writing ------------------------------------------------------------------------------------------------------


def part_of(output: Path) -> Path:
    """Return the name under which this process writes an output that is not finished."""
    return output.with_name(f".{output.name}.{os.getpid()}.part")


def parts_in(folder: str) -> str:
    """Return a pattern of all names in ``folder`` under which this process writes what is not finished."""
    return f"{folder}/.*.{os.getpid()}.*part"


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """Yield the name under which an output is written until it is proved; it never stays behind."""
    part = part_of(output)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """Yield the name under which an output is written; when all has gone well it takes the output's place."""
    with unfinished(output) as part:
        yield part
        part.replace(output)


@contextmanager
def unfinished_folder(output: Path) -> Iterator[Path]:
    """Yield a folder beside an output in which that is made; it never stays behind."""
    with tempfile.TemporaryDirectory(
        dir=output.parent, prefix=f".{output.name}.{os.getpid()}.", suffix=".part"
    ) as folder:
        yield Path(folder)


def write_text(file: Path, text: str, option: str) -> None:
    """Write a text file that the user has asked for with ``option``.

    Raises:
        PackError: it cannot be written.
    """
    try:
        with replacing(file.absolute()) as part:
            part.write_text(text, "utf-8")
    except OSError as exc:
        raise PackError(f"{option} {file}: {exc.strerror}") from exc


def put_in_place(part: Path, target: Path) -> None:
    """Let a finished output take its place.

    Raises:
        PackError: it cannot.
    """
    try:
        part.replace(target)
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc


def check_output(output: Path, option: str = "--output") -> None:
    """Make sure, before the work begins, that ``output`` can be written at its end.

    Raises:
        PackError: it cannot.
    """
    if os.path.isdir(output):  # also where somebody may not look
        raise PackError(f"{output} is a folder; {option} takes the name of a file")
    try:
        with unfinished(output) as part:
            part.touch()
    except OSError as exc:
        raise PackError(f"{option}: cannot write {output}: {exc.strerror}; name another place") from exc


def check_folder(folder: Path, option: str, *, new_levels: int = 1) -> None:
    """Make sure, before the work begins, that files can be written into ``folder``, which need not be there yet.

    Of its path the last ``new_levels`` folders may be missing.

    Raises:
        PackError: it cannot.
    """
    existing = folder
    for _ in range(new_levels):
        if os.path.lexists(existing):
            break
        existing = existing.parent
    if os.path.lexists(existing) and not os.path.isdir(existing):
        raise PackError(f"{existing} is no folder; {option} takes the name of one")
    if not os.path.lexists(existing):
        raise PackError(f"{option} {folder}: there is no folder {existing} to make it in")
    try:
        with unfinished(existing / "report") as part:
            part.touch()
    except OSError as exc:
        raise PackError(f"{option}: cannot write into {existing}: {exc.strerror}; name another place") from exc


# ---- scratch ------------------------------------------------------------------------------------------------------


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder for everything that is written on the way; it is gone afterwards, whatever happens."""
    # No longer than it must be: sockets of the handler's may lie below it, whose names have at most 107 characters.
    prefix = "" if SESSION_VARIABLE in os.environ else "layer_minimizer-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(os.path.realpath(folder))


@contextmanager
def scratch_errors(error: type[MinimizeError], doing: str) -> Iterator[None]:
    """Turn a failure to write into the scratch folder into ``error``, which says that there may be another place.

    ``{file}`` in ``doing``, "cannot copy {file}", becomes the name of the file in question.
    """
    try:
        yield
    except OSError as exc:
        said = doing.replace("{file}", str(exc.filename))
        raise error(f"{said}: {_why(exc)}; TMPDIR sets another place") from exc


def _why(error: OSError) -> str:
    """Say what the system said; shutil puts the errors of single files into a list."""
    listed = error.args[0] if isinstance(error, shutil.Error) else None
    return str(listed[0][2]).partition(": ")[0] if listed else error.strerror or str(error)


# ---- reading ------------------------------------------------------------------------------------------------------


def sha256_of(file: Path) -> bytes:
    """Return the digest of a file's content."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").digest()


def read_saved(file: Path, option: str, parse: Callable[[Any], _Value]) -> _Value:
    """Read the JSON form of a value that an earlier run has saved.

    Raises:
        UsageError: it cannot be read, or is something else.
    """
    try:
        return parse(json.loads(file.read_bytes()))
    except OSError as exc:
        raise UsageError(f"{option} {file}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{option} {file} is no JSON: {exc}") from exc
    except UsageError as exc:
        raise UsageError(f"{option} {file}: {exc}") from exc


# Unpacking can fail in as many ways as there are compressions; RuntimeError means encrypted.
UNREADABLE_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError)


def lies_outside(file: str) -> bool:
    """Return whether a name in a zip leads out of the folder into which that is unpacked, on some system at least."""
    return file.startswith(("/", "\\")) or ".." in re.split(r"[\\/]", file) or "\0" in file
