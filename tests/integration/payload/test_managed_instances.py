"""Sixteen processes, forked as Lambda's runtime does on Managed Instances, share one layer and what it restores."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

WORKERS = 16
LARGE = os.urandom(1 << 16) * 100
FILES = {"late.py": "value = 7\n", "large.bin": LARGE, "small.txt": "small"}
# As in awslambdaric: forked before the handler's module is imported, which each process does by itself.
PROGRAM = """
import multiprocessing, os, sys, time
place, killed = sys.argv[1], int(sys.argv[2])

def work(number):
    while not os.path.exists(place + "/go"):
        time.sleep(0.001)
    if number < killed:
        import ctypes, threading, signal
        # In the middle of what it restores, and the lock that it holds with it.
        threading.Timer(0.001 * number, os.kill, (os.getpid(), signal.SIGKILL)).start()
    import late
    answer = [late.value, len(open(R + "/large.bin", "rb").read()), open(R + "/small.txt").read()]
    with open(place + "/answer%d" % number, "w") as out:
        out.write(repr(answer))
    if number < killed:
        time.sleep(60)

if __name__ == "__main__":
    R = os.path.dirname(sys.modules["_layer_minimizer"].__path__[0])
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(number,)) for number in range(16)]
    for worker in workers:
        worker.start()
    open(place + "/go", "w").close()
    for worker in workers:
        worker.join()
    print([worker.exitcode for worker in workers])
"""


@pytest.mark.parametrize("killed", [0, 5])
def test_sixteen_processes_restore_one_copy(
    killed: int, layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path
) -> None:
    layer = layer_of(python, FILES, {"hot/__init__.py": ""})
    log, place = tmp_path / "log", tmp_path / "place"
    place.mkdir()
    variables = {
        "AWS_LAMBDA_MAX_CONCURRENCY": str(WORKERS),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
    }
    done = layer.start("-c", PROGRAM, str(place), str(killed), LAYER_MINIMIZER_LOG=str(log), **variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [-signal.SIGKILL] * killed + [0] * (WORKERS - killed)
    answers = [(place / f"answer{number}").read_text() for number in range(killed, WORKERS)]
    assert answers == [repr([7, len(LARGE), "small"])] * (WORKERS - killed)
    # One copy of each file, whole, restored once; and nothing besides, in the folder or its lock.
    files = {path: path for path in layer.put_back.rglob("*") if path.is_file() and not path.is_symlink()}
    assert {path.relative_to(layer.put_back).as_posix() for path in files} == set(FILES)
    assert (layer.put_back / "large.bin").read_bytes() == LARGE
    restored = [line for line in log.read_text().splitlines() if line.startswith("restored file")]
    # A process that is killed between the file's name and its line in the log says nothing.
    assert len(restored) == len(set(restored)) >= len(FILES) - killed
    assert layer.start_again("-c", "import late; print(late.value)", LAYER_MINIMIZER_LOG=str(log)).stdout == "7\n"
