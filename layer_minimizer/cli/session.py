"""Sees to it that a run of the command leaves nothing behind, even if it is killed."""

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
from layer_minimizer.core.files import SESSION_VARIABLE, part_of, parts_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KEEPER = Path(__file__).parents[1] / "payload" / "reaper.py"


@contextmanager
def watched(outputs: Iterable[Path]) -> Iterator[None]:
    """Yield the command a folder for all that it writes on the way, and a keeper that removes it when the command ends.

    The folder stands in TMPDIR for as long. ``outputs`` are the files that the command is to write: of these, and of
    what it keeps in its caches, nothing unfinished stays.

    Raises:
        RunnerError: the folder cannot be made, or the keeper cannot be started.
    """
    token = secrets.token_hex(4)
    before = os.environ.get("TMPDIR")
    try:
        folder = os.path.join(tempfile.gettempdir(), f"minimize-{token}")
    except OSError as exc:
        raise RunnerError(f"there is no folder for temporary files: {exc.strerror}; TMPDIR names one") from exc
    keeper = _start(token, folder, outputs)
    try:
        try:
            os.mkdir(folder, 0o700)
        except OSError as exc:
            raise RunnerError(f"cannot make the scratch folder {folder}: {exc.strerror}; TMPDIR sets another") from exc
        os.environ.update({SESSION_VARIABLE: token, "TMPDIR": folder})
        tempfile.tempdir = None
        yield
    finally:
        os.environ.pop(SESSION_VARIABLE, None)
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None
        _end(keeper, folder)


def _start(token: str, folder: str, outputs: Iterable[Path]) -> subprocess.Popen[bytes]:
    parts = [glob.escape(str(part_of(output.absolute()))) for output in outputs]
    kept = glob.escape(str(cache.cache_folder("")))
    parts.append(parts_in(f"{kept}/*"))
    wanted = json.dumps({"mark": f"{SESSION_VARIABLE}={token}", "folder": folder, "parts": parts})
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, and a file of this package
            [sys.executable, "-I", "-S", str(_KEEPER), wanted],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as exc:
        raise RunnerError(f"cannot start {sys.executable}: {exc.strerror or exc}") from exc


def _end(keeper: subprocess.Popen[bytes], folder: str) -> None:
    """Let the keeper clean up, and wait for it."""
    if keeper.stdin is not None:
        with contextlib.suppress(OSError):
            keeper.stdin.close()
    keeper.wait()
    shutil.rmtree(folder, ignore_errors=True)  # somebody may have killed the keeper
