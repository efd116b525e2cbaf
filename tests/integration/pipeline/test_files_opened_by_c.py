"""Files that C code opened while a module was imported that a stand-in replaces in the layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

SCHEMAS = """\
import ctypes
import os

_libc = ctypes.CDLL(None)
_folder = os.path.join(os.path.dirname(__file__), "sheets")


def first(name):
    handle = _libc.open(os.path.join(_folder, name).encode(), os.O_RDONLY)
    if handle < 0:
        raise OSError("C code cannot open " + name)
    with os.fdopen(handle) as sheet:
        return sheet.read()


LOADED = first("a.xsl")
"""
HANDLER = """\
import sheets


def handler(event, context):
    return sheets.first("b.xsl") + sheets.LOADED if event.get("use") else "imported"
"""


def test_they_come_back_when_the_module_does(desk: Desk, env: Environment, tmp_path: Path) -> None:
    data = {"sheets/sheets/a.xsl": "a", "sheets/sheets/b.xsl": "b", "sheets/other/c.xsl": "c"}
    env.install("sheets", {"sheets/__init__.py": SCHEMAS, **data})
    desk.write("handler.py", HANDLER)
    options = ("--json", "--cold", "keep", "--effort", "1")
    report = json.loads(desk.minimize(env, *options, variables={"XDG_CACHE_HOME": str(tmp_path / "cache")}).out)
    assert [each["module"] for each in report["stand_ins"]] == ["sheets"]
    assert {each["path"] for each in report["files"] if each["verdict"] == "cold"} >= data.keys()
