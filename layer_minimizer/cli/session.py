"""Remove temporary files and unfinished outputs when the command ends, even if it is killed."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core import cache
from layer_minimizer.core.errors import RunnerError
from layer_minimizer.core.files import SESSION_VARIABLE, partial_path, partial_paths_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_REAPER = Path(__file__).parents[1] / "payload" / "reaper.py"


@contextmanager
def cleaned_up(outputs: Iterable[Path]) -> Iterator[None]:
    """Set TMPDIR to a new folder inside the ``with`` block, and remove the folder afterwards.

    A separate process, the reaper, does that even if this one is killed. It also ends leftover processes, and removes
    unfinished parts of ``outputs``, the files that the command writes, and of the caches.

    Raises:
        RunnerError: the folder cannot be created, or the reaper cannot be started.
    """
    token = secrets.token_hex(4)
    before = os.environ.get("TMPDIR")
    try:
        folder = os.path.join(tempfile.gettempdir(), f"minimize-{token}")
    except OSError as exc:
        raise RunnerError(f"no folder for temporary files: {exc.strerror}; set TMPDIR to one") from exc
    reaper = _start(token, folder, outputs)
    try:
        try:
            os.mkdir(folder, 0o700)
        except OSError as exc:
            raise RunnerError(
                f"cannot make the scratch folder {folder}: {exc.strerror}; set TMPDIR to another place"
            ) from exc
        os.environ.update({SESSION_VARIABLE: token, "TMPDIR": folder})
        tempfile.tempdir = None
        yield
    finally:
        os.environ.pop(SESSION_VARIABLE, None)
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None
        _end(reaper, folder)


def _start(token: str, folder: str, outputs: Iterable[Path]) -> subprocess.Popen[bytes]:
    parts = [glob.escape(str(partial_path(output.absolute()))) for output in outputs]
    caches = glob.escape(str(cache.cache_folder("")))
    parts.append(partial_paths_pattern(f"{caches}/*"))
    request = json.dumps({"mark": f"{SESSION_VARIABLE}={token}", "folder": folder, "parts": parts})
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, and a file of this package
            [sys.executable, "-I", "-S", str(_REAPER), request],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as exc:
        raise RunnerError(f"cannot start {sys.executable}: {exc.strerror or exc}") from exc


def _end(reaper: subprocess.Popen[bytes], folder: str) -> None:
    """Make the reaper clean up, and wait for it."""
    if reaper.stdin is not None:
        with contextlib.suppress(OSError):
            reaper.stdin.close()
    reaper.wait()
    shutil.rmtree(folder, ignore_errors=True)  # the reaper may have been killed
