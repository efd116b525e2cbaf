"""Where AWS's two programs come from: what is there, in order; else PyPI, once, as a whole or not at all."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.aws import programs
from layer_minimizer.core.errors import RunnerError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


MACHINE = os.uname().machine


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_nearest_emulator_is_taken(bare: Path) -> None:
    build = {"x86_64": "x86_64", "aarch64": "arm64"}[MACHINE]
    cached = program(bare / "cache/emulator" / f"aws-lambda-rie-{build}")
    assert programs.find_emulator("", MACHINE) == cached
    at_home = program(bare / "home/.aws-lambda-rie/aws-lambda-rie")
    assert programs.find_emulator("", MACHINE) == at_home
    on_path = program(bare / "bin/aws-lambda-rie")
    assert programs.find_emulator("", MACHINE) == on_path
    given = program(bare / "mine")
    assert programs.find_emulator(str(given), MACHINE) == given


def test_a_given_emulator_must_be_a_program(bare: Path) -> None:
    (bare / "text").write_text("")
    for name in ("text", "nothing"):
        with pytest.raises(UsageError, match="not an executable file"):
            programs.find_emulator(str(bare / name), MACHINE)


def test_a_processor_without_lambda(bare: Path) -> None:
    assert bare.is_dir()
    with pytest.raises(RunnerError, match="AWS Lambda does not support riscv64"):
        programs.find_emulator("", "riscv64")


def test_two_runs_at_once_make_one(bare: Path) -> None:
    both = threading.Barrier(2)
    kept = bare / "cache/thing"

    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "file").write_text(threading.current_thread().name)
        both.wait(10)

    threads = [threading.Thread(target=programs._create, args=(kept, fill)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in (bare / "cache").iterdir()] == ["thing"]
    assert [path.name for path in kept.iterdir()] == ["file"]
