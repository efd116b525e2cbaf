"""Copies of a process that CRIU has restored, as Lambda SnapStart restores them, go on with what they need."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.layer.snapshot_list import write_list
from layer_minimizer.model.snapshot import PutBack
from tests.support.checkpoints import SECONDS, start, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.checkpoints import Criu

    from .conftest import ColdLayer

# The file ``go`` says what a copy is to do: its memory is that of all others.
PROGRAM = """
import os, sys, time
from _layer_minimizer import snapshot
R, place = sys.argv[1:]
seen = [open(R + "/warm.txt").read()]
snapshot.put_back()
begun, clock = os.getpid(), time.time()
open(place + "/ready", "w").close()
while not os.path.exists(place + "/go"):
    time.sleep(0.01)
import late
seen += [late.value, open(R + "/listed.txt").read(), len(open(R + "/large.bin", "rb").read())]
assert os.getpid() == begun and time.time() > clock
os.write(os.open(place + "/answers", os.O_WRONLY | os.O_APPEND | os.O_CREAT), (repr(seen) + "\\n").encode())
"""
COLD = {
    "warm.txt": "warm",
    "listed.txt": "listed",
    "late.py": "value = __name__\n",
    "large.bin": os.urandom(1 << 16) * 200,
}


@pytest.mark.parametrize("folder", ["there", "gone", "gone, and two copies at once"])
def test_a_restored_copy_has_what_was_put_back_or_restores_it(
    folder: str, criu: Criu, layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path
) -> None:
    layer = layer_of(python, COLD, {"hot/__init__.py": ""})
    write_list(PutBack((), ("late",), ("late.py", "listed.txt")), layer.root)
    log, place = tmp_path / "log", tmp_path / "place"
    place.mkdir()
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(layer.root),
        "LAYER_MINIMIZER_LOG": str(log),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
    }
    process = start([python, "-B", "-c", PROGRAM, layer.root, place], tmp_path, variables)
    wait_for(place / "ready", process)
    criu.dump(process, tmp_path / "images")
    before = log.read_text().splitlines()
    assert {"restored file late.py", "restored file listed.txt"} <= set(before)
    if folder != "there":
        shutil.rmtree(layer.put_back)
    (place / "go").touch()
    copies = [criu.restore(tmp_path / "images") for _ in range(2 if "two" in folder else 1)]
    for copy in copies:
        assert copy.wait(SECONDS) == 0, (tmp_path / "output").read_text()
    expected = repr(["warm", "late", "listed", len(COLD["large.bin"])])
    assert (place / "answers").read_text().splitlines() == [expected] * len(copies)
    again = [] if folder == "there" else ["restored file listed.txt"]
    assert log.read_text().splitlines()[len(before) :] == [*again, "restored file large.bin"]
    assert not (layer.put_back / ".part").exists()
    assert (layer.put_back / "large.bin").read_bytes() == COLD["large.bin"]
