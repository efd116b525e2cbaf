"""The promise of this folder: no test in it starts a process or reaches a network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: dict[str, Callable[[], object]] = {
    "run": lambda: subprocess.run([sys.executable, "-c", ""], check=False),
    "fork": os.fork,
    "spawn": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
    "system": lambda: os.system(":"),
    "connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
}


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("way", WAYS)
def test_no_unit_test_starts_a_process(way: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="must not do this"):
        WAYS[way]()
