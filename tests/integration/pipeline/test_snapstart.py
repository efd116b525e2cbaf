"""A log of a deployed layer makes a layer that puts back before a snapshot what the log names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from layer_minimizer.layer.archive import unzip
from tests.support.cold_layers import forget_restored

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

PACKAGE = {
    "tool.py": "def rows():\n    return 3\n",
    "plots/__init__.py": "def draw():\n    import plots.late\n    return plots.late.NAME\n",
    "plots/late.py": "NAME = 'late'\n",
    "plots/never.py": "",
    "plots/data.txt": "data",
}
HANDLER = """\
import os
import plots
import tool


def handler(event, context):
    if event.get("kind") == "draw":
        text = plots.draw()
        with open(os.path.dirname(plots.__file__) + "/data.txt") as data:
            return text + data.read()
    return tool.rows()
"""
KEEP = ("--effort", "1", "--cold", "keep", "--runs", "2")
# Of the log, what comes after the hook.
PLAY = """
import os, sys
sys.path.insert(0, sys.argv[1])
import handler
sys.modules["_layer_minimizer.snapshot"].put_back()
os.truncate(os.environ["LAYER_MINIMIZER_LOG"], 0)
print(handler.handler({"kind": "draw"}, None))
"""


def unpacked(desk: Desk, name: str) -> Path:
    unzip(desk.output, desk.folder / name)
    site = next((desk.folder / name / "python/lib").glob("*/site-packages"))
    forget_restored(site)
    return site


def log_of(desk: Desk, site: Path, program: str) -> str:
    """Return what a program logs, which calls the handler with an event that was not traced."""
    log = desk.folder / "log"
    log.unlink(missing_ok=True)
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "LAYER_MINIMIZER_LOG": str(log)}
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-B", "-c", program, desk.work],
        env={**variables, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"},
        text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "latedata\n", done.stderr
    return log.read_text()


def test_what_the_log_names_is_on_the_list_of_the_layer(desk: Desk, env: Environment, tmp_path: Path) -> None:
    env.install("tool", PACKAGE)
    desk.write("handler.py", HANDLER)
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = json.loads(desk.minimize(env, "--json", *KEEP, variables=variables).out)
    assert [each["module"] for each in first["stand_ins"]] == ["plots"]
    assert not any(first["snapshot"].values())
    site = unpacked(desk, "first")
    assert not (site / "_layer_minimizer/snapshot").exists()
    without = "\n".join(line for line in PLAY.splitlines() if "put_back" not in line and "truncate" not in line)
    log = desk.write("production.log", log_of(desk, site, without) + "restored file of/another.layer\n")

    options = (*KEEP, "--snapstart", log)
    again = json.loads(desk.minimize(env, "--json", *options, variables=variables).out)
    assert again["snapshot"] == {
        "stand_ins": ["plots"],
        "modules": ["plots.late"],
        "files": ["plots/__init__.py", "plots/late.py", "plots/data.txt"],
        "pages": [],
    }
    assert log_of(desk, unpacked(desk, "again"), PLAY) == ""
    shown = desk.minimize(env, *options, variables=variables).out
    assert "SnapStart: before a snapshot 1 stand-in is loaded, 3 files and 0 parts of libraries restored" in shown


def test_another_file_is_no_log(desk: Desk, env: Environment) -> None:
    env.install("tool", PACKAGE)
    desk.write("handler.py", HANDLER)
    desk.fails(
        env, 2, ["--snapstart", "other.log", "LAYER_MINIMIZER_LOG=1"], "--snapstart", desk.write("other.log", "START\n")
    )
    desk.fails(env, 2, ["--snapstart", "gone.log"], "--snapstart", desk.work / "gone.log")
