"""The command leaves nothing behind and changes nothing if a signal ends it, alone or with its process group.

Fifty moments, spread over a run that searches for stand-ins and writes a cold store.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import stat
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MOMENTS = 50
SEED = 17
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HANDLER = """\
import os
import subprocess
import sys

import alpha


def handler(event, context):
    subprocess.run([sys.executable, "-c", "pass"])
    with open(os.path.join(os.environ["TMPDIR"], "scratch"), "wb") as out:
        out.write(b"x" * 100_000)
    return alpha.used.VALUE
"""
ALPHA = {
    "alpha/__init__.py": "from . import used, idle\n",
    "alpha/used.py": "import json\nVALUE = json.dumps({'n': 1})\n",
    "alpha/idle.py": "from . import deep\nVALUES = list(range(100))\n\n\ndef f():\n    return deep\n",
    "alpha/deep.py": "X = 1\n",
    "alpha/never.py": "Y = 2\n",
    "alpha/data.bin": bytes(range(256)) * 4000,
}
# After SIGKILL, another process removes what the command has left.
_SECONDS = 20


@dataclass(frozen=True)
class Place:
    """An environment, and the folders in which the command writes, or could leave files behind."""

    folder: Path
    python: str
    prefix: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command in a new process group."""
        for name in ("tmp", "out", "cache", "home"):
            (self.folder / name).mkdir(exist_ok=True)
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_", "COV"))
        }
        variables |= {"TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder / "home"), "CHAOS": str(self.folder)}
        variables["LAYER_MINIMIZER_CACHE"] = str(self.folder / "cache")
        options = ["--entry", self.folder / "task" / "handler.py", "--python", self.python]
        outputs = {"--output": "layer.zip", "--report-json": "report.json", "--save-trace": "trace.json"}
        options += [part for option, name in outputs.items() for part in (option, self.folder / "out" / name)]
        with (self.folder / "output").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "layer_minimizer", *map(str, options)],
                env=variables,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def left(self) -> list[str]:
        """Return the remains of a run: processes, and files that are neither outputs nor cache files."""
        mark = f"CHAOS={self.folder}".encode()
        found = [
            f"process {pid} {_read(pid, 'cmdline')!r}" for pid in _pids() if mark in _read(pid, "environ").split(b"\0")
        ]
        found += [str(path) for path in (self.folder / "tmp").iterdir()]
        found += [str(path) for path in (self.folder / "home").iterdir()]
        whole = {"layer.zip", "report.json", "trace.json"}
        cache_suffixes = {".json", ".chunk"}
        found += [str(path) for path in (self.folder / "out").iterdir() if path.name not in whole]
        found += [
            str(path)
            for path in (self.folder / "cache").rglob("*")
            if path.is_file() and path.suffix not in cache_suffixes
        ]
        return found

    def require_whole(self) -> None:
        """Require that each existing output is complete."""
        layer = self.folder / "out" / "layer.zip"
        if layer.exists():
            with zipfile.ZipFile(layer) as archive:
                assert archive.testzip() is None

    def clear(self) -> None:
        """Remove outputs and cache."""
        for name in ("out", "cache"):
            for path in sorted((self.folder / name).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def snapshot(*roots: Path) -> dict[str, tuple[object, ...]]:
    """Return mode, size, time and content of every file in ``roots``."""
    found: dict[str, tuple[object, ...]] = {}
    for root in roots:
        for path in (root, *root.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, hash(content))
    return found


@pytest.fixture
def place(tmp_path: Path, env: object, write: Callable[..., Path]) -> Place:
    env.install("alpha", ALPHA)  # type: ignore[attr-defined]
    write(tmp_path / "task", {"handler.py": HANDLER, "beside.txt": "x"})
    return Place(tmp_path, env.python, env.root)  # type: ignore[attr-defined]


def test_killed_at_fifty_moments(place: Place) -> None:
    start = time.monotonic()
    assert place.start().wait(120) == 0, (place.folder / "output").read_text()
    whole = time.monotonic() - start
    assert place.left() == []
    watched = (place.prefix, place.folder / "task")
    before = snapshot(*watched)
    chance = random.Random(SEED)
    codes = []
    for number in range(MOMENTS):
        moment = (number + chance.random()) / MOMENTS * whole * 1.05
        place.clear()
        chosen, group = SIGNALS[number % len(SIGNALS)], number // len(SIGNALS) % 2
        start, process = time.monotonic(), place.start()
        try:
            process.wait(moment)
            whole = time.monotonic() - start  # of a run on a machine that may have been busier before
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(process.pid, chosen)
        code = process.wait(_SECONDS)
        codes.append(code)
        text = f"{chosen.name} to {'the group' if group else 'it'} after {moment:.2f} of {whole:.2f} s: {code}\n"
        text += (place.folder / "output").read_text()
        end = time.monotonic() + (_SECONDS if code == -signal.SIGKILL else 0)
        while (left := place.left()) and time.monotonic() < end:
            time.sleep(0.02)
        assert left == [], text
        assert code in ({0, -signal.SIGKILL} if chosen is signal.SIGKILL else {0, 130, -chosen}), text
        assert "Traceback" not in text or code == -chosen, text
        place.require_whole()
        assert snapshot(*watched) == before, text
    # Most signals arrive while the command runs.
    assert codes.count(130) + codes.count(-signal.SIGKILL) >= MOMENTS // 2, codes
    place.clear()
    assert place.start().wait(120) == 0
