"""Merging and comparing traces of different events and environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command import Ended
from tests.support.places import TOOL
from tests.support.sites import install, stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
USAGE = 2
HANDLER = (
    "def handler(event, context):\n    import importlib\n    return importlib.import_module(event['module']).VALUE\n"
)


def command(desk: Desk, *args: object, code: int = 0) -> Ended:
    done = subprocess.run(
        [*TOOL, *map(str, args)], cwd=desk.folder, env=desk.variables(), text=True, capture_output=True, check=False
    )
    assert done.returncode == code, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def packages(make_env: Callable[..., Environment]) -> Environment:
    env = make_env()
    env.install("many", {"many/__init__.py": "", "many/one.py": "VALUE = 1\n", "many/two.py": "VALUE = 2\n"})
    text = "import os\nwith open(os.path.dirname(__file__) + '/data.txt') as f:\n    VALUE = f.read()\n"
    return env.install("other", {"other/__init__.py": text, "other/data.txt": "said", "other/more.py": "VALUE = 3\n"})


def trace(desk: Desk, env: Environment, module: str, *args: object, name: str = "") -> Path:
    """Trace the handler with one event in an environment, and return the trace file."""
    desk.write("handler.py", HANDLER)
    event = desk.write(f"{module}.json", json.dumps({"module": module}))
    file = desk.folder / (name or f"{module}.trace")
    arguments = ["--entry", desk.work / "handler.py", "--python", env.python, "--event", event, "--effort", "0"]
    ended = command(desk, "trace", *arguments, "--save-trace", file, *args)
    assert ended.out.startswith(f"{file}: 1 event of handler.py on Python")
    return file


def compared(desk: Desk, *files: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(command(desk, "compare", *files, "--json").out)
    return found


def test_differences_between_traces(desk: Desk, packages: Environment) -> None:
    one, other = trace(desk, packages, "many.one"), trace(desk, packages, "other")
    assert compared(desk, one, other) == [
        {"only_in": [str(one)], "distribution": "many", "modules": ["many", "many.one"], "libraries": [], "files": []},
        {
            "only_in": [str(other)],
            "distribution": "other",
            "modules": ["other"],
            "libraries": [],
            "files": ["other/data.txt"],
        },
    ]
    lines = command(desk, "compare", one, other).out.splitlines()
    assert lines == [f"only in {one}: many: many, many.one", f"only in {other}: other: other, other/data.txt"]
    more = command(desk, "compare", "-v", one, other).out.splitlines()
    assert "  other/data.txt" in more
    assert command(desk, "compare", one, one).out.startswith("The traces have the same")
    third = trace(desk, packages, "many.two")
    both = [each for each in compared(desk, one, other, third) if len(each["only_in"]) > 1]
    assert [(each["only_in"], each["modules"]) for each in both] == [([str(one), str(third)], ["many"])]


def test_the_run_and_its_report_show_the_differences(desk: Desk, packages: Environment) -> None:
    one, other = trace(desk, packages, "many.one"), trace(desk, packages, "other")
    ended = desk.minimize(packages, "--trace", one, "--trace", other, "--json", entry="")
    assert f"only in {other}: other: other, other/data.txt" in ended.err
    report = json.loads(ended.out)
    assert [each["only_in"] for each in report["differences"]] == [[str(one)], [str(other)]]
    assert {"many/one.py", "other/data.txt"} <= desk.kept()
    assert report["warnings"] == []
    shown = desk.minimize(packages, "--trace", one, "--trace", other, entry="").out
    assert f"Traces: only in {one}: many: many, many.one" in shown


def test_traces_of_environments_are_merged(
    desk: Desk, packages: Environment, make_env: Callable[..., Environment]
) -> None:
    """Another prefix, another site-packages folder, and another patch release of the same Python version."""
    elsewhere = make_env()
    assert elsewhere.site != packages.site
    install(elsewhere.site, "other", {"other/__init__.py": "VALUE = 9\n", "other/more.py": "VALUE = 3\n"})
    one, other = trace(desk, packages, "many.one"), trace(desk, elsewhere, "other.more", name="there.trace")
    saved = json.loads(other.read_text())
    assert str(elsewhere.root) not in json.dumps([saved["files"], saved["modules"]])
    saved["python"] = saved["python"].rpartition(".")[0] + ".99"
    other.write_text(json.dumps(saved))
    report = json.loads(desk.minimize(packages, "--trace", one, other, "--json", entry="").out)
    assert report["verification"]["events"] == 2
    assert {"many/one.py", "other/more.py"} <= desk.kept()


def test_another_version_and_another_processor_are_reported(desk: Desk, packages: Environment) -> None:
    one, other = trace(desk, packages, "many.one"), trace(desk, packages, "other")
    saved = json.loads(other.read_text())
    assert saved["distributions"] == [["other", "1.0", ["other", "other-1.0.dist-info"]]]
    assert saved["machine"] == os.uname().machine
    saved["distributions"][0][1] = "0.9"
    saved["machine"] = "riscv64"
    saved["files"].append(["absent/part.py", ["open", "spec"]])
    other.write_text(json.dumps(saved))
    report = json.loads(desk.minimize(packages, "--trace", one, other, "--json", entry="").out)
    warnings = "\n".join(report["warnings"])
    assert f"{other} used other 0.9, but 1.0 is installed" in warnings
    assert f"{other} was taken on riscv64" in warnings
    assert f"{other} used absent, which is not installed here" in warnings
    assert str(one) not in warnings


def test_wrong_inputs(desk: Desk, packages: Environment) -> None:
    one = trace(desk, packages, "many.one")
    assert "name at least two traces" in command(desk, "compare", one, code=USAGE).err
    bad = desk.write("bad.json", "{}")
    assert "no trace" in command(desk, "compare", one, bad, code=USAGE).err.replace("not a trace", "no trace")
    assert command(desk, "trace", "--output", "x.zip", "--entry", "x", code=USAGE).err
    assert "unrecognized arguments" in command(desk, "trace", "--max-size", "1", code=USAGE).err


def test_the_default_name(desk: Desk, packages: Environment) -> None:
    entry = desk.write("handler.py", "import many.one\n\n\ndef handler(event, context):\n    return 1\n")
    ended = command(desk, "trace", "--entry", entry, "--python", packages.python, "--effort", "0", "-q")
    assert ended.out.startswith("trace.json: 1 event of handler.py on Python ")
    assert ended.err == ""
    assert json.loads((desk.folder / "trace.json").read_text())["python"].startswith(
        "{}.{}".format(*sys.version_info[:2])
    )


def test_the_probe_is_the_same_each_time(desk: Desk) -> None:
    first = command(desk, "probe", desk.folder / "out" / "layer.zip").out
    assert "AWS_LAMBDA_EXEC_WRAPPER=/opt/layer_minimizer_trace" in first
    content = desk.output.read_bytes()
    command(desk, "probe", desk.output)
    assert desk.output.read_bytes() == content
    desk.require_clean()
