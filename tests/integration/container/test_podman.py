"""The container runs with podman, with a separate storage."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.debian import tar_of
from tests.support.images import PACKAGES
from tests.support.index import need_uv
from tests.support.places import EXAMPLES, MINIMIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = "localhost/layer_minimizer_test/debian:bookworm"


@pytest.fixture
def podman(tmp_path: Path) -> dict[str, str]:
    """Return the environment variables that podman needs here."""
    program = shutil.which("podman")
    if program is None:
        pytest.skip("podman is not installed")
    if os.geteuid() != 0:
        pytest.skip("the base image is made as root")
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    (tmp_path / "storage.conf").write_text(storage)
    # Podman raises limits as far as root may elsewhere; in a sandbox not even root may.
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1] for name in ("nofile", "nproc")}
    listed = ", ".join(f'"{name}={min(limit, 1024)}:{min(limit, 1024)}"' for name, limit in limits.items() if limit > 0)
    options = f'[containers]\ndefault_ulimits = [{listed}]\n[engine]\ncgroup_manager = "cgroupfs"\n'
    (tmp_path / "containers.conf").write_text(f'{options}events_logger = "file"\n')
    variables = {
        "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
    }
    ask(variables, "import", "--quiet", str(tar_of("bookworm", PACKAGES)), BASE)
    tried = ask(variables, "run", "--rm", "--init", BASE, "true", check=False)
    if tried.returncode != 0:
        pytest.skip(f"podman runs no container here: {tried.stderr.strip()}")
    return variables


def ask(variables: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(["podman", *arguments], env=environment, check=check, capture_output=True, text=True)


def write_lock(folder: Path, requirements: str) -> None:
    """Write a project that needs these requirements, and uv's lock of it."""
    needed = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    project = {"name": "thumbnails", "version": "1.0", "requires-python": ">=3.11"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**project, "dependencies": needed}.items()]
    (folder / "pyproject.toml").write_text("\n".join(["[project]", *lines, ""]))
    subprocess.run([need_uv(), "lock", "-q", "--python", sys.executable], cwd=folder, check=True)


def test_from_a_lock_to_a_layer_that_works_in_lambda(
    podman: dict[str, str], tmp_path: Path, requirements_env: Callable[[str, Path], Path]
) -> None:
    example, folder = EXAMPLES / "quickstart", tmp_path / "function"
    folder.mkdir()
    shutil.copy(example / "handler.py", folder)
    python = requirements_env("quickstart", example / "requirements.txt")
    subprocess.run([python, "-I", example / "make_events.py", folder / "events.json"], check=True)
    write_lock(folder, (example / "requirements.txt").read_text())
    before = {path: path.read_bytes() for path in folder.iterdir()}
    command = [str(MINIMIZE), "--runner", "podman", "--base-image", BASE, "--entry", "handler.py", "--effort", "0"]
    command += ["--lock", "uv.lock", "--event", "events.json", "--verify", "lambda"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "layer.zip"), "--json"],
        cwd=folder,
        env={**os.environ, **podman},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["lambda"]["where"] == BASE
    assert report["lambda"]["events"] == report["verification"]["events"]
    assert (tmp_path / "layer.zip").stat().st_size == report["layer"]["zipped_bytes"]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert ask(podman, "ps", "--all", "--quiet").stdout == ""
    ask(podman, "image", "rm", "--all", "--force")
