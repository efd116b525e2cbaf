"""A workspace for unusual inputs and damage; after every run it checks that nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.desk import placed
from tests.support.places import TOOL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Ended:
    """The exit code, the output and the duration of the command."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Bench:
    """An environment, and the folders in which the command writes, or could leave files behind."""

    folder: Path
    python: str
    site: Path
    install: Callable[..., Path]

    @property
    def output(self) -> Path:
        """The path of the layer."""
        return self.folder / "out" / "layer.zip"

    def write(self, name: str | bytes, content: str | bytes) -> Path:
        """Write a file of the function's folder."""
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.folder / "task"), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment variables of the command."""
        dropped = ("PYTHON", "XDG_", "COV", "LAYER_MINIMIZER")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {**kept, "TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder / "home"), **(more or {})}

    def command(
        self, *options: object, entry: object = None, output: object = None, program: Sequence[str] = TOOL
    ) -> list[str]:
        """Return the command line."""
        arguments = ["--entry", entry or self.folder / "task" / "handler.py", "--output", output or self.output]
        arguments += [] if "--python" in options else ["--python", self.python]
        return [
            *program,
            *[os.fspath(part) if isinstance(part, Path) else str(part) for part in (*arguments, *options)],
        ]

    def run(
        self,
        *options: object,
        code: int = 0,
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        timeout: float = 120,
        watched: Sequence[Path] = (),
        **where: object,
    ) -> Ended:
        """Run the command, and require its exit code, no changed file, and no file left behind."""
        folders = watched or (self.site, self.folder / "task")
        before = snapshot(*folders)
        start = time.monotonic()
        done = subprocess.run(
            [*prefix, *self.command(*options, **where)],
            env=self.variables(variables),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        seconds = time.monotonic() - start
        ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode(errors="backslashreplace"), seconds)
        assert ended.code == code, f"exit code {ended.code}, not {code}\n{ended.err[-3000:]}\n{ended.out[-2000:]}"
        assert "Traceback" not in ended.err or code == 3
        assert snapshot(*folders) == before
        assert os.listdir(self.folder / "tmp") == []
        assert [path for path in self.folder.rglob("*.part") if path.exists()] == []
        assert not code or not self.output.exists()
        return ended

    def kept(self, output: Path | None = None) -> set[str]:
        """Return the site-relative names of the layer's files."""
        with zipfile.ZipFile(output or self.output) as archive:
            assert archive.testzip() is None
            return {name.partition("site-packages/")[2] for name in placed(archive)}


def snapshot(*roots: Path) -> dict[bytes, tuple[object, ...]]:
    """Return mode, size, time and (of small files) content of every file in ``roots``."""
    found: dict[bytes, tuple[object, ...]] = {}
    for root in roots:
        for folder, folders, names in os.walk(os.fsencode(root)):
            for path in (folder, *(os.path.join(folder, name) for name in (*folders, *names))):
                status = os.lstat(path)
                content = b""
                if stat.S_ISREG(status.st_mode) and 0 < status.st_size < 1 << 20:
                    with open(path, "rb") as file:
                        content = file.read()
                found[path] = (status.st_mode, status.st_size, status.st_mtime_ns, hash(content))
    return found


@pytest.fixture
def bench(tmp_path: Path, env: object) -> Bench:
    for name in ("task", "tmp", "home", "out"):
        (tmp_path / name).mkdir()
    return Bench(tmp_path, env.python, env.site, env.install)  # type: ignore[attr-defined]


@pytest.fixture
def free_folder(tmp_path: Path) -> Path:
    """Make the folder of the test and its parents readable for all users."""
    for folder in (tmp_path, *tmp_path.parents):
        with contextlib.suppress(OSError):
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path
