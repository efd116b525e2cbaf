"""The command's standard streams, in whatever state they are: closed, full, or with nobody at the other end."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from layer_minimizer.core.errors import PackError

_OUT, _ERRORS = 1, 2


class _Lenient(io.FileIO):
    """A stream whose words are worth having, but not worth failing for."""

    def write(self, data: Any, /) -> int:
        """Write, or lose it."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make all three streams usable; what cannot be said on standard error is lost, and nothing else is."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: else the next file would get it
    sys.stdout = sys.stdout or open(_OUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as we live
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    raw = io.BufferedWriter(_Lenient(_ERRORS, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def put(text: str) -> None:
    """Print a part of the result. Where nobody reads on, as behind ``| head``, it is no error.

    Raises:
        PackError: it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up()
    except OSError as exc:
        _give_up()
        raise PackError(f"the result cannot be printed: {exc.strerror}; what goes into files has been written") from exc


def _give_up() -> None:
    """Let what is still to be printed vanish."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
