"""A docker engine for the tests: a running one, or one that is started."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MINUTES = 600


def _docker_answers(variables: Mapping[str, str]) -> bool:
    program = shutil.which("docker")
    if program is None:
        return False
    environment = {**os.environ, **variables}
    done = subprocess.run([program, "info"], env=environment, check=False, capture_output=True, timeout=60)
    return done.returncode == 0 and b"Server Version" in done.stdout


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment variables for docker's client: for a running engine, or for one that is started."""
    if _docker_answers({}):
        yield {}
        return
    daemon = shutil.which("dockerd")
    if daemon is None or shutil.which("docker") is None or shutil.which("iptables") is None:
        pytest.skip("no docker engine is running, and docker, dockerd or iptables is not installed")
    if os.geteuid() != 0:
        pytest.skip("no docker engine is running, and only root can start one")
    # A machine can run one engine, so all test processes share it.
    folder = shared_folder(tmp_path_factory) / "engine"
    variables = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
    with _locked_users(folder) as users:
        if not users:
            _start_daemon(daemon, folder, variables)
        users.append(os.getpid())
    try:
        yield variables
    finally:
        with _locked_users(folder) as users:
            users.remove(os.getpid())
            if not users:
                _stop_daemon(folder)


@contextmanager
def _locked_users(folder: Path) -> Iterator[list[int]]:
    """Yield the ids of the processes that use the engine, with a lock: changes of the list are saved."""
    folder.mkdir(exist_ok=True)
    file = folder / "users.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = json.loads(file.read_text()) if file.exists() else []
        yield users
        file.write_text(json.dumps(users))


def _start_daemon(daemon: str, folder: Path, variables: dict[str, str]) -> None:
    command = [daemon, "--data-root", folder / "data", "--exec-root", folder / "exec", "--storage-driver=overlay2"]
    command += ["-H", variables["DOCKER_HOST"], "--pidfile", folder / "docker.pid"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + 30
    while not _docker_answers(variables):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            process.wait()
            output = (folder / "log").read_text(errors="replace").strip().splitlines()
            pytest.skip(f"dockerd does not start here: {' | '.join(output[-3:]) or 'no output'}")
        time.sleep(0.2)
    # The last user stops it, which may be another process: do not wait for it here.
    process.returncode = 0


def _stop_daemon(folder: Path) -> None:
    number = int((folder / "docker.pid").read_text())
    os.kill(number, signal.SIGTERM)
    for _ in range(600):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(number, os.WNOHANG)
        if not (folder / "docker.pid").exists() and not Path(f"/proc/{number}").exists():
            break
        time.sleep(0.1)
    for name in ("data", "exec"):
        shutil.rmtree(folder / name, ignore_errors=True)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a temporary folder that all test processes share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@dataclass
class Engine:
    """Docker's client, and the images that the tests have built with it."""

    program: str
    variables: dict[str, str]
    images: set[str] = field(default_factory=set)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.variables, "DOCKER_BUILDKIT": "0"}
        command = [self.program, *arguments]
        options = {"timeout": MINUTES, **options}
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, **options)

    def output(self, *arguments: str, **options: Any) -> str:
        done = self.run(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def build(self, name: str, dockerfile: str, folder: Path, *arguments: str) -> str:
        """Build an image from a folder; it is removed at the end of the tests."""
        (folder / "Dockerfile").write_text(dockerfile)
        self.images.add(name)
        self.output("build", "--force-rm", "--tag", name, *arguments, str(folder))
        return name

    def containers(self, text: str) -> list[str]:
        """Return the containers, running or not, whose name, image or command contains ``text``."""
        shown = self.output("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Command}}")
        return [line.split()[0] for line in shown.splitlines() if text in line]


@pytest.fixture(scope="session")
def engine(docker: dict[str, str]) -> Iterator[Engine]:
    """Yield the engine, and remove the images that the tests have built."""
    found = Engine(shutil.which("docker") or "docker", docker)
    yield found
    if found.images:
        found.run("image", "rm", "--force", *found.images)
