"""Where AWS's two programs come from: what is there, in order; else PyPI, once, as a whole or not at all."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.aws import programs
from layer_minimizer.core.errors import RunnerError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sites import Environment


MACHINE = os.uname().machine


def test_without_a_network_the_way_out_is_named(bare: Path, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PIP_INDEX_URL", "http://127.0.0.1:1/"), ("PIP_RETRIES", "0"), ("PIP_NO_CACHE_DIR", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(RunnerError, match=r"pip cannot download[\s\S]*pip install 'layer_minimizer\[lambda\]'"):
        programs.find_emulator("", MACHINE)
    with pytest.raises(RunnerError, match="pip cannot download awslambdaric"):
        programs.find_client(env.describe().version, env.describe().machine)
    assert [path for path in (bare / "cache").rglob("*") if path.is_file()] == []


def test_what_is_fetched_works(env: Environment) -> None:
    """The client for this Python can be imported by it, and the emulator starts."""
    interpreter = env.describe()
    client = programs.find_client(interpreter.version, interpreter.machine)
    command = [
        interpreter.base_executable,
        "-B",
        "-c",
        "import awslambdaric, runtime_client; print(awslambdaric.__file__)",
    ]
    done = subprocess.run(command, env={"PYTHONPATH": str(client)}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{client}/awslambdaric/")
    emulator = programs.find_emulator("", interpreter.machine)
    assert emulator.read_bytes().startswith(b"\x7fELF")
