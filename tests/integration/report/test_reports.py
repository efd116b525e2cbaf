"""The folder that --report writes, and `minimize diff` of two of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.places import TOOL
from tests.support.pythons import MAIN
from tests.support.sites import Environment, stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.desk import Desk

env = stocked_env
HANDLER = (
    "def handler(event, context):\n    import alpha\n    if event.get('more'):\n        import beta\n"
    "        return beta.TEXT\n    return alpha.TEXT\n"
)


@pytest.fixture
def two(make_env: Callable[..., Environment]) -> Environment:
    made = make_env(MAIN)
    made.install("alpha", {"alpha.py": f"TEXT = {'a' * 3000!r}\n", "alpha_unused.py": "X = 1\n"})
    return made.install("beta", {"beta.py": f"TEXT = {'b' * 5000!r}\n"})


def make(desk: Desk, env: Environment, name: str, *events: object) -> Path:
    """Make a layer for these events, and return the folder of its report."""
    desk.write("handler.py", HANDLER)
    event = desk.write("event.json", json.dumps(events))
    folder = desk.folder / "reports" / name
    folder.parent.mkdir(exist_ok=True)
    desk.output.unlink(missing_ok=True)
    desk.minimize(env, "--event", event, "--report", folder)
    return folder


def diff(desk: Desk, *arguments: object, code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [*TOOL, "diff", *map(str, arguments)],
        env=desk.variables(),
        cwd=desk.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_the_folder_has_the_report_and_its_page(
    desk: Desk, two: Environment, require_schema: Callable[[Any], None]
) -> None:
    folder = make(desk, two, "report", {"more": 1})
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"}
    report = json.loads((folder / "report.json").read_text())
    require_schema(report)
    assert report["import_time"]["before"]["distributions"].keys() >= {"beta"}
    page = (folder / "report.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    # Nothing is asked for from elsewhere.
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_a_report_replaces_an_earlier_one_and_leaves_other_files_alone(desk: Desk, two: Environment) -> None:
    folder = make(desk, two, "report", {})
    (folder / "notes.txt").write_text("mine")
    first = (folder / "report.json").read_text()
    assert make(desk, two, "report", {"more": 1}) == folder
    assert (folder / "report.json").read_text() != first
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html", "notes.txt"}


def test_a_run_that_fails_writes_no_report(desk: Desk, two: Environment) -> None:
    desk.write("handler.py", "import alpha\n\ndef handler(event, context):\n    1 / 0\n")
    desk.fails(two, 3, ["ZeroDivisionError"], "--report", desk.folder / "report")
    assert not (desk.folder / "report").exists()


def test_what_came_and_why(desk: Desk, two: Environment) -> None:
    old, new = make(desk, two, "old", {}), make(desk, two, "new", {}, {"more": 1})
    said, _ = diff(desk, old / "report.json", new / "report.json")
    assert re.search(r"beta came: 0\.0 kB \u2192 \d\.\d kB\n  \+\d\.\d kB dropped, now kept: beta\.py\n", said)
    assert "\u2190 imported as beta by handler, line 4" in said
    assert "alpha" not in said
    assert diff(desk, old, new)[0] == said  # the folders stand for the reports in them
    back, _ = diff(desk, new / "report.json", old / "report.json", "--json")
    found = json.loads(back)
    sizes = [json.loads((folder / "report.json").read_text())["layer"]["unzipped_bytes"] for folder in (new, old)]
    assert [found[key]["unzipped_bytes"] for key in ("old", "new")] == sizes
    changes = [(change["distribution"], change["kind"]) for change in found["changes"]]
    assert changes == [("beta", "went"), ("(the layer's own files)", "shrank")]  # they name what was left out


def test_growth_is_allowed_up_to_a_share(desk: Desk, two: Environment) -> None:
    old, new = make(desk, two, "old", {}), make(desk, two, "new", {}, {"more": 1})
    reports = (old / "report.json", new / "report.json")
    said, why = diff(desk, *reports, "--fail-above", "2%", code=9)
    assert "beta came" in said
    assert re.fullmatch(r"minimize: the layer has grown by [\d,]+ bytes \(\+\d+\.\d %\), .*\n", why)
    assert diff(desk, *reports, "--fail-above", "10000%")[1] == ""
    assert diff(desk, *reports[::-1], "--fail-above", "0%")[1] == ""
    assert diff(desk, reports[0], reports[0], "--fail-above", "0%")[0].endswith("size in the layer has changed.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.json", "gone.json"), ["gone.json", "No such file"]),
        ((os.curdir, os.curdir), ["report.json", "No such file"]),
        (("trace.json", "trace.json"), ["trace.json", "not a report"]),
    ],
)
def test_what_is_no_report(desk: Desk, arguments: tuple[str, str], words: list[str]) -> None:
    (desk.folder / "trace.json").write_text('{"modules": []}')
    out, err = diff(desk, *arguments, code=2)
    assert out == ""
    assert all(word in err for word in words)
    assert "Traceback" not in err


def test_as_many_of_the_largest_distributions_as_wanted(desk: Desk, two: Environment) -> None:
    desk.write("handler.py", "import alpha, beta\n\n\ndef handler(event, context):\n    return 1\n")

    def listed(*options: str) -> list[str]:
        lines = (
            desk.minimize(two, *options).out.partition("Largest in the layer:\n")[2].partition("\n\n")[0].splitlines()
        )
        return [line.split()[2] for line in lines if line.startswith("  ")]

    assert "a whole number, 1 or more" in desk.minimize(two, "--largest", "0", code=2).err
    assert sorted(listed()) == ["alpha", "beta"]
    assert len(listed("--largest", "1")) == 1
