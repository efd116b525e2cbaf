"""Container engines and images of Debian that are made on the spot, without a registry."""

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
    """Return the variables under which docker answers: an engine that runs, else one that is started for the tests."""
    if _docker_answers({}):
        yield {}
        return
    daemon = shutil.which("dockerd")
    if daemon is None or shutil.which("docker") is None or shutil.which("iptables") is None:
        pytest.skip("no docker engine answers, and docker, dockerd or iptables is not installed")
    if os.geteuid() != 0:
        pytest.skip("no docker engine answers, and to start one takes root")
    # A machine can run one; the processes among which the tests are divided share it.
    folder = shared_folder(tmp_path_factory) / "engine"
    variables = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
    with _alone(folder) as users:
        if not users:
            _start_daemon(daemon, folder, variables)
        users.append(os.getpid())
    try:
        yield variables
    finally:
        with _alone(folder) as users:
            users.remove(os.getpid())
            if not users:
                _stop_daemon(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[list[int]]:
    """Return the processes that use the engine, for as long as no other one can become or cease to be one of them."""
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
            said = (folder / "log").read_text(errors="replace").strip().splitlines()
            pytest.skip(f"dockerd does not start here: {' | '.join(said[-3:]) or 'it says nothing'}")
        time.sleep(0.2)
    # Whoever is the last to use it ends it, and that may be another process.
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
    """Return a folder of all the processes among which the tests are divided."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@dataclass
class Engine:
    """Docker's command line, and the images that the tests have made with it."""

    program: str
    variables: dict[str, str]
    images: set[str] = field(default_factory=set)

    def ask(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.variables, "DOCKER_BUILDKIT": "0"}
        command = [self.program, *arguments]
        options = {"timeout": MINUTES, **options}
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, **options)

    def tell(self, *arguments: str, **options: Any) -> str:
        done = self.ask(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def build(self, name: str, dockerfile: str, folder: Path, *arguments: str) -> str:
        """Build an image from a folder; its name is forgotten at the end of the tests."""
        (folder / "Dockerfile").write_text(dockerfile)
        self.images.add(name)
        self.tell("build", "--force-rm", "--tag", name, *arguments, str(folder))
        return name

    def containers(self, words: str) -> list[str]:
        """Return the containers, running or not, whose name, image or command has these words."""
        shown = self.tell("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Command}}")
        return [line.split()[0] for line in shown.splitlines() if words in line]


@pytest.fixture(scope="session")
def engine(docker: dict[str, str]) -> Iterator[Engine]:
    """Yield the engine; the images that the tests have made are removed from it."""
    found = Engine(shutil.which("docker") or "docker", docker)
    yield found
    if found.images:
        found.ask("image", "rm", "--force", *found.images)
