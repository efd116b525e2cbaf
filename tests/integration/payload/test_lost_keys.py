"""Keys whose hash is another one than when a container took it are found, in each CPython and kind of container."""

from __future__ import annotations

import subprocess
import textwrap
from typing import TYPE_CHECKING

from layer_minimizer.execution.probe import copy_probe

if TYPE_CHECKING:
    from pathlib import Path

# The hash comes from a part of a part: a key that holds its own hash itself is told by that.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import identities

class Key(object):
    def __init__(self, number):
        self.parts = [[number]]
    def __hash__(self):
        return self.parts[0][0]

keys = [Key(number) for number in range(64)]
held = [frozenset(keys), set(keys), dict.fromkeys(keys)]
def lost():
    return sum(isinstance(key, Key) for key, _container in identities._lost_keys())
print(lost())
for key in keys:
    key.parts[0][0] += 1 << 20
print(lost())
"""


def test_all_lost_keys_are_found(cpython: str, tmp_path: Path) -> None:
    command = [cpython, "-I", "-c", textwrap.dedent(PROGRAM), copy_probe(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "192"]
