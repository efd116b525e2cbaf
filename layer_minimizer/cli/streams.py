"""The command's standard streams, also if they are closed, full, or connected to a program that has ended."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from layer_minimizer.core.errors import PackError

_OUT, _ERRORS = 1, 2


class _IgnoringErrors(io.FileIO):
    """A stream that ignores write errors."""

    def write(self, data: Any, /) -> int:
        """Write the data; on an error, discard it."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make all three streams usable. Errors on standard error are ignored, those on standard output are not."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the free number, which the next opened file would get otherwise
    sys.stdout = sys.stdout or open(_OUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as we live
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be valid Unicode
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    raw = io.BufferedWriter(_IgnoringErrors(_ERRORS, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def put(text: str) -> None:
    """Print a part of the result. A reader that has closed the pipe, such as ``| head``, is not an error.

    Raises:
        PackError: standard output cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_rest()
    except OSError as exc:
        _discard_rest()
        raise PackError(f"the result cannot be printed: {exc.strerror}; all files have been written") from exc


def _discard_rest() -> None:
    """Redirect standard output to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
