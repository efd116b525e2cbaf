"""Output files that appear whole or not at all, and the scratch folder of one run."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from layer_minimizer.core.errors import PackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """Give the name under which an output is written until it is proved; it never stays behind."""
    part = part_of(output)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def part_of(output: Path) -> Path:
    """Give the name under which this process writes an output that is not finished."""
    return output.with_name(f".{output.name}.{os.getpid()}.part")


def write_text(file: Path, text: str, option: str) -> None:
    """Write a text file that an option names, whole or not at all."""
    try:
        with unfinished(file.absolute()) as part:
            part.write_text(text, "utf-8")
            part.replace(file)
    except OSError as exc:
        raise PackError(f"{option} {file}: {exc.strerror}") from exc


# Stands in the environment of all that a command starts; see session.py.
SESSION_VARIABLE = "LAYER_MINIMIZER_SESSION"
_Value = TypeVar("_Value")


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


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for everything that is written on the way; it is gone afterwards, whatever happens."""
    # No longer than it must be: sockets of the handler's may lie below it, whose names have at most 107 characters.
    prefix = "" if SESSION_VARIABLE in os.environ else "layer_minimizer-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(os.path.realpath(folder))
