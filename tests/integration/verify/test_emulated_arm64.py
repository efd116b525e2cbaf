"""`--verify lambda` for a layer for arm64 on another machine: Lambda's processes are emulated by QEMU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support import emulation
from tests.support.sites import install

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import LambdaDesk

PLAIN = (
    "import os\nimport alpha\n\n\ndef handler(event, context):\n"
    "    return {'value': alpha.VALUE, 'event': event, 'machine': os.uname().machine}\n"
)


@pytest.fixture
def python(tmp_path: Path) -> str:
    """Return the interpreter of a virtual environment for arm64."""
    program = emulation.arm64_root() / "usr/bin/python3.11"
    env = tmp_path / "arm64"
    (env / "bin").mkdir(parents=True)
    (env / "pyvenv.cfg").write_text(f"home = {program.parent}\ninclude-system-site-packages = false\n")
    (env / "bin/python").symlink_to(program)
    site = env / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    install(site, "alpha", {"alpha/__init__.py": "VALUE = 41\n"})
    return str(env / "bin/python")


def test_an_emulated_function(desk: LambdaDesk, python: str) -> None:
    there = replace(desk, tool=(*emulation.prefix(), *desk.tool))
    done = there.prove(python, {"handler.py": PLAIN}, *there.events({"a": 1}, "ä€"))
    assert done.code == 0, done.said
    found = done.report["lambda"]
    assert (found["events"], found["where"], found["skipped"]) == (2, "namespaces", [])


def test_without_an_emulator_it_says_what_to_install(desk: LambdaDesk, python: str) -> None:
    done = desk.prove(python, {"handler.py": PLAIN})
    assert done.code == 7
    assert "Exec format error: it is for aarch64, and this kernel knows no emulator" in done.said
    assert "install qemu-user-static and binfmt-support" in done.said
