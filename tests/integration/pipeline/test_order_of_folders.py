"""Programs whose results depend on the order in which the files of a folder are listed, or on where folders lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.layer.archive import unzip

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

LISTS = """\
import os


def plugins():
    folder = os.path.join(os.path.dirname(__file__), "plugins")
    found = os.{list}(folder)
    names = [os.path.splitext(getattr(each, "name", each))[0] for each in found]
    return list(dict.fromkeys(name for name in names if name[0] != "_"))


def others():
    return len(os.listdir(os.path.dirname(__file__)))
"""
PLUGINS = {f"tool/plugins/{name}.py": "" for name in ("zebra", "ant", "mule", "crow", "bee", "__init__")}
HANDLER = """\
import tool


def handler(event, context):
    tool.others()
    return tool.plugins()
"""
ALONE = """\
import json, sys
sys.path.insert(0, sys.argv[1])
import handler
print(json.dumps(handler.handler({}, None)))
"""


def unpacked(desk: Desk) -> Path:
    unzip(desk.output, desk.folder / "opt")
    return next((desk.folder / "opt/python/lib").glob("*/site-packages"))


def call(desk: Desk, packages: Path) -> object:
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-B", "-c", ALONE, desk.work],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(desk.tmp), "PYTHONPATH": str(packages)},
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("function", "cold"), [("listdir", "keep"), ("scandir", "keep"), ("listdir", "drop")])
def test_a_layer_lists_folders_in_the_order_of_the_environment(
    desk: Desk, env: Environment, function: str, cold: str
) -> None:
    env.install("tool", {"tool/__init__.py": LISTS.replace("{list}", function), **PLUGINS})
    desk.write("handler.py", HANDLER)
    report = json.loads(desk.minimize(env, "--json", "--cold", cold, "--include", "tool/plugins/*").out)
    (warning,) = [each for each in report["warnings"] if "depend on the order" in each]
    assert "(tool/plugins)" in warning
    assert call(desk, unpacked(desk)) == call(desk, env.site)


def test_an_order_that_does_not_matter_is_not_mentioned(desk: Desk, env: Environment) -> None:
    env.install(
        "tool", {"tool/__init__.py": LISTS.replace("os.{list}(folder)", "sorted(os.listdir(folder))"), **PLUGINS}
    )
    desk.write("handler.py", HANDLER)
    report = json.loads(desk.minimize(env, "--json", "--cold", "keep").out)
    assert not [each for each in report["warnings"] if "order" in each]
    assert not list(unpacked(desk).glob("_layer_minimizer/order"))


def test_results_that_differ_by_the_place_of_folders_are_the_same(desk: Desk, env: Environment) -> None:
    env.install("tool", {"tool/__init__.py": ""})
    desk.write(
        "handler.py",
        "import os, tempfile\nimport tool\n\n\ndef handler(event, context):\n"
        "    here = os.path.dirname(os.path.abspath(__file__))\n"
        "    return {'site': f'-I{os.path.dirname(tool.__file__)}/include', 'temporary': tempfile.gettempdir(),\n"
        "            'task': here, 'real': os.path.dirname(os.path.realpath(tool.__file__))}\n",
    )
    desk.minimize(env)
