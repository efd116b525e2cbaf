"""Fixtures that verify layers in emulated Lambda, in namespaces and in containers, and find what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import command
from tests.support.places import TOOL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.sites import Environment

# A distribution for the layer.
ALPHA = {"alpha/__init__.py": "from alpha.core import VALUE\n", "alpha/core.py": "VALUE = 41\n"}


def left_processes(mark: str) -> list[str]:
    """Return the command lines of living processes that have ``mark`` in their environment or arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in said and folder.name != str(os.getpid()):
            found.append(said.replace(b"\0", b" ").decode(errors="replace"))
    return found


@dataclass(frozen=True)
class Proved:
    code: int
    said: str
    report: dict[str, Any]


@dataclass
class LambdaDesk:
    """Runs the command in its own folder, with TMPDIR inside, so that files left behind are found."""

    folder: Path
    options: tuple[str, ...] = ()
    tool: tuple[str, ...] = TOOL
    environment: dict[str, str] = field(default_factory=dict)

    def mounts(self) -> set[str]:
        places = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
        return {place for place in places if place.startswith(str(self.folder))}

    def arguments(self, env: Environment | str, files: Mapping[str, str], *more: str) -> list[str]:
        """Write the function and the folder for temporary files; return the arguments of the command."""
        task = self.folder / "task"
        shutil.rmtree(task, ignore_errors=True)
        task.mkdir()
        for name, text in files.items():
            (task / name).write_text(text)
        (self.folder / "tmp").mkdir(exist_ok=True)
        for path in (self.folder, self.folder / "tmp"):
            path.chmod(0o777)
        python = env if isinstance(env, str) else env.python
        given = ["--python", python, "--entry", str(task / next(iter(files)))]
        given += ["--output", str(self.folder / "layer.zip"), "--json", "--effort", "0", "--observe", "probe"]
        return [*given, "--verify", "lambda", *self.options, *more]

    def variables(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.folder / "tmp"), **self.environment}

    def start(self, env: Environment | str, files: Mapping[str, str], *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.tool, *self.arguments(env, files, *more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.variables(),
        )

    def prove(self, env: Environment | str, files: Mapping[str, str], *more: str) -> Proved:
        if self.tool == TOOL:
            ended = command.run_apart(self.arguments(env, files, *more), self.variables(), self.folder, seconds=1200)
        else:
            process = self.start(env, files, *more)
            ended = command.Ended(0, *process.communicate(timeout=1200))
            ended.code = process.returncode
        self.assert_clean()
        return Proved(ended.code, ended.err, json.loads(ended.out) if ended.code == 0 else {})

    def assert_clean(self) -> None:
        assert list((self.folder / "tmp").iterdir()) == []
        assert self.mounts() == set()
        assert left_processes(str(self.folder)) == []

    def events(self, *payloads: Any) -> tuple[str, str]:
        file = self.folder / "events.json"
        file.write_text(json.dumps(list(payloads)))
        return "--event", str(file)


@pytest.fixture
def desk(tmp_path: Path, namespaces: None) -> LambdaDesk:  # noqa: ARG001 - skips
    """Emulate Lambda in namespaces of this machine."""
    folder = tmp_path / "desk"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o755)
    return LambdaDesk(folder)


@pytest.fixture
def alpha(env: Environment) -> Environment:
    env.install("alpha", ALPHA)
    return env


# ---- an engine ----------------------------------------------------------------------------------------------------


def containers(docker: Mapping[str, str], folder: Path) -> list[str]:
    """Return the containers that mount a part of ``folder``; other containers may run at the same time."""
    environment = {**os.environ, **docker}
    listed = subprocess.run(["docker", "ps", "--all", "--quiet"], env=environment, capture_output=True, check=True)
    show = "{{.Name}} {{range .Mounts}}{{.Source}} {{end}}"
    found = []
    for name in listed.stdout.decode().split():
        said = subprocess.run(
            ["docker", "inspect", "--format", show, name], env=environment, capture_output=True, text=True, check=False
        )  # one that is gone by now says nothing
        if str(folder) in said.stdout:
            found.append(said.stdout)
    return found


@pytest.fixture
def engine_desk(tmp_path: Path, docker: dict[str, str], image: str) -> Iterator[LambdaDesk]:
    """Emulate Lambda in containers."""
    folder = tmp_path / "desk"
    folder.mkdir()
    yield LambdaDesk(folder, ("--engine", "docker", "--verify-image", image), environment=docker)
    assert containers(docker, folder) == []
