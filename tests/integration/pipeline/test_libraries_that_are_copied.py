"""A library that a program copies and loads from there: a compacted one would not find its cold pages."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

# Enough code that no event runs, so that the library is compacted.
SOURCE = """\
__asm__(".text\\nunused:\\n.fill 600000, 1, 0x90\\nret\\n");
int answer(void) { return 42; }
"""
COPIES = {
    "python": "shutil.copy(original, copy)",
    "program": "subprocess.run(['cp', original, copy], check=True)",
}
HANDLER = """\
import ctypes, os, shutil, subprocess, tempfile
import speech


def handler(event, context):
    original = os.path.join(os.path.dirname(speech.__file__), "libspeech.so")
    copy = os.path.join(tempfile.mkdtemp(), "libspeech.so")
    {copy}
    return ctypes.CDLL(copy).answer()
"""


@pytest.mark.parametrize("way", COPIES)
def test_it_is_shipped_whole(desk: Desk, env: Environment, tmp_path: Path, way: str) -> None:
    env.install("speech", {"speech/__init__.py": ""})
    library = env.site / "speech/libspeech.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=SOURCE, text=True, check=True)
    desk.write("handler.py", HANDLER.format(copy=COPIES[way]))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    report = json.loads(desk.minimize(env, "--json", "--cold", "keep", variables=cache).out)
    (shipped,) = report["libraries"]
    assert shipped["cold"] == 0
    assert shipped["problem"].startswith("shipped whole")
