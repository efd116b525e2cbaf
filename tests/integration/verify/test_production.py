"""A trace that is taken in a deployed function: the emulated Lambda has the whole environment and the probe as layers.

What only such a function has seen works on the layer that is made of its log.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.aws import programs
from layer_minimizer.layer.archive import unzip
from layer_minimizer.trace.probe_layer import write_probe_layer
from layer_minimizer.verify import emulated_place
from tests.support.desk import placed
from tests.support.sites import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sites import Environment

    from .conftest import LambdaDesk

HANDLER = """\
import json, os, subprocess, sys
import alpha

def handler(event, context):
    if "child" in event:
        code = "import sys; sys.path[:0] = %r; import gamma; print(gamma.VALUE)" % ([p for p in sys.path if p],)
        return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    if "fail" in event:
        raise ValueError("as in production")
    return alpha.read(event["kind"])
"""
ALPHA = {
    "alpha/__init__.py": """\
import importlib, os
HERE = os.path.dirname(os.path.abspath(__file__))
def read(kind):
    plugin = importlib.import_module("alpha.plugins." + kind)
    with open(os.path.join(HERE, "data", kind + ".txt")) as source:
        return plugin.NAME + source.read()
""",
    "alpha/plugins/__init__.py": "",
    "alpha/plugins/gif.py": "import beta\nNAME = beta.NAME\n",
    "alpha/plugins/png.py": "NAME = 'png'\n",
    "alpha/plugins/never.py": "NAME = 'never'\n",
    "alpha/data/gif.txt": "data of gif",
    "alpha/data/png.txt": "data of png",
}
SEEN, IN_PRODUCTION = {"kind": "png"}, {"kind": "gif"}


@pytest.fixture
def packages(env: Environment) -> Environment:
    env.install("alpha", ALPHA)
    env.install("beta", {"beta/__init__.py": "NAME = 'beta'\n"})
    env.install("gamma", {"gamma.py": "VALUE = 7\n"})
    env.install("delta", {"delta.py": "VALUE = 8\n"})
    return env


def deploy(
    desk: LambdaDesk, env: Environment, events: list[Any], layout: str, **variables: str
) -> emulated_place.EmulatorRun:
    """Run events in a function that has all of the environment as a layer, and the probe above it."""
    interpreter = env.describe()
    opt, task = desk.folder / "opt", desk.folder / "deployed"
    shutil.rmtree(opt, ignore_errors=True)
    shutil.rmtree(task, ignore_errors=True)
    prefix = f"python/lib/{interpreter.folder}/site-packages" if layout == "site" else "python"
    write_files(task, {"handler.py": HANDLER})
    shutil.copytree(env.site, task if layout == "beside" else opt / prefix, dirs_exist_ok=True)
    probe = write_probe_layer(desk.folder / "probe.zip")
    # Python's zipfile forgets permissions, which Lambda does not.
    subprocess.run([sys.executable, "-m", "zipfile", "-e", probe.path, opt], check=True)
    with zipfile.ZipFile(probe.path) as archive:
        for entry in archive.infolist():
            (opt / entry.filename).chmod(entry.external_attr >> 16)
    place = emulated_place.FunctionMounts(
        task=task,
        layer=opt,
        binds=(),
        emulator=programs.find_emulator("", interpreter.machine),
        client=programs.find_client(interpreter.version, interpreter.machine),
        version=interpreter.version,
        hidden=interpreter.avoid,
        memory=512,
        tmp_size=512,
        timeout=30,
        environment={"LAMBDA_TASK_ROOT": "/var/task", "_HANDLER": "handler.handler", **variables},
    )
    rows = [(str(number), json.dumps(event)) for number, event in enumerate(events)]
    scratch = desk.folder / f"scratch{len(list(desk.folder.iterdir()))}"
    scratch.mkdir()
    return emulated_place.in_namespaces(place, rows, scratch, interpreter)


def run_on(layer: Path, folder: Path, event: Any) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(folder, ignore_errors=True)
    unzip(layer, folder / "layer")
    write_files(folder / "task", {"handler.py": HANDLER})
    site = next(folder.glob("layer/python/lib/*/site-packages"))
    code = "import sys, json; sys.path[:0] = sys.argv[1:3]; import handler; "
    code += "print(handler.handler(json.loads(sys.argv[3]), None))"
    command = [sys.executable, "-I", "-S", "-B", "-c", code, folder / "task", site, json.dumps(event)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("layout", ["site", "flat", "beside"])
def test_what_only_production_saw_works_on_the_layer(desk: LambdaDesk, packages: Environment, layout: str) -> None:
    wrapped = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/layer_minimizer_trace"}
    ran = deploy(desk, packages, [IN_PRODUCTION, {"fail": 1}, {"child": 1}], layout, **wrapped)
    assert [json.loads(body) for _, _, body in ran.answers][::2] == ["betadata of gif", "7"]
    assert "as in production" in ran.answers[1][2]
    log = desk.folder / "production.log"
    log.write_text("".join(f"2026-01-01T00:00:00.000Z {line}\n" for line in ran.log))

    done = desk.prove(packages, {"handler.py": HANDLER}, *desk.events(SEEN), "--cold", "drop")
    assert done.code == 0, done.said
    assert run_on(desk.folder / "layer.zip", desk.folder / "run", IN_PRODUCTION).returncode != 0

    done = desk.prove(packages, {"handler.py": HANDLER}, *desk.events(SEEN), "--cold", "drop", "--trace", str(log))
    assert done.code == 0, done.said
    assert f"only in {log}: alpha: alpha.plugins.gif, alpha/data/gif.txt" in done.said
    for event, expected in ((SEEN, "pngdata of png"), (IN_PRODUCTION, "betadata of gif"), ({"child": 1}, "7")):
        found = run_on(desk.folder / "layer.zip", desk.folder / "run", event)
        assert (found.stdout.strip(), found.stderr) == (expected, "")
    with zipfile.ZipFile(desk.folder / "layer.zip") as archive:
        names = placed(archive)
    assert not [name for name in names if "never" in name or "delta" in name or "layer_minimizer_probe" in name]


def test_switched_off_the_probe_costs_nothing(desk: LambdaDesk, packages: Environment) -> None:
    ran = deploy(desk, packages, [IN_PRODUCTION, {"fail": 1}], "site")
    assert json.loads(ran.answers[0][2]) == "betadata of gif"
    assert not [line for line in ran.log if "layer_minimizer" in line]


def test_a_handler_that_cannot_be_imported_says_so_as_before(desk: LambdaDesk, packages: Environment) -> None:
    wrapped = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/layer_minimizer_trace", "_HANDLER": "gone.handler"}
    ran = deploy(desk, packages, [IN_PRODUCTION], "site", **wrapped)
    assert "ImportModuleError" in ran.answers[0][2]
    assert "No module named 'gone'" in ran.answers[0][2]
