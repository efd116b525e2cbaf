"""The benchmark of starts counts what answers right, and says what does not; its apps can be installed again."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from . import starts

RIGHT = "def give(event):\n    return 10 // event"
APPS = sorted(folder.name for folder in starts.APPS.iterdir())


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Return the folder of a function that gives what its site-packages say."""
    shutil.copy(starts.APPS.with_name("app_runner.py"), tmp_path)
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "handler.py").write_text("import giver\n\ndef handler(event, context):\n    return giver.give(event)\n")
    (folder / "events.json").write_text("[1, 2]")
    (folder / "unseen.json").write_text("[5, 0]")
    return folder


def way(task: Path, name: str, giver: str) -> starts.ways.Way:
    site = task.parent / name
    site.mkdir()
    (site / "giver.py").write_text(giver)
    return starts.ways.Way(Path(sys.executable), site)


def test_ways_with_other_results_are_left_out(task: Path) -> None:
    made = {
        starts.REFERENCE: way(task, "environment", RIGHT),
        "equal": way(task, "equal", "give = lambda event: {1: 10, 2: 5}[event]"),
        "differs": way(task, "differs", "give = lambda event: 10"),
        "raises": way(task, "raises", "give = {1: 10}.__getitem__"),
        "ends": way(task, "ends", "raise ImportError('no giver')"),
    }
    samples, wrong = starts.play(made, 2, starts.ways.read_app(task), task)
    assert {name: len(listed) for name, listed in samples.items() if listed} == {starts.REFERENCE: 2, "equal": 2}
    assert all(0 < one["import cpu"] <= one["first cpu"] for one in samples["equal"])
    assert "['ok', '10']] instead of" in wrong["differs"]
    assert "['KeyError', '2']" in wrong["raises"]
    assert "no giver" in wrong["ends"]


def test_an_environment_that_raises_is_no_reference(task: Path) -> None:
    made = {starts.REFERENCE: way(task, "environment", "give = {1: 10}.__getitem__")}
    with pytest.raises(AssertionError, match="the environment raises errors"):
        starts.play(made, 1, starts.ways.read_app(task), task)


def test_errors_for_unseen_events_are_compared(task: Path) -> None:
    made = {
        starts.REFERENCE: way(task, "environment", RIGHT),
        "equal": way(task, "equal", RIGHT),
        "other": way(task, "other", "give = {5: 2}.__getitem__"),
        "ends": way(task, "ends", "raise ImportError('no giver')"),
    }
    found = starts.unseen(made, starts.ways.read_app(task), task)
    assert found[starts.REFERENCE] == found["equal"] == "2/2"
    assert found["other"].startswith("1/2 (['KeyError', '0'] instead of ['ZeroDivisionError',")
    assert found["ends"].startswith("0/2 (")
    assert "no giver" in found["ends"]


def test_files_are_counted_once_without_what_nobody_required(task: Path) -> None:
    site = task.parent / "site"
    for name in ("pip/a.py", "pip-23.0.dist-info/RECORD", "own/a.py", "pipes.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(b"x" * 500_000)
    (site / "own/b.py").hardlink_to(site / "own/a.py")
    known = task.parent / "sizes.json"
    made = starts.ways.Made(starts.ways.Way(Path(sys.executable), site), site, frozenset({"pip"}), known)
    whole, zipped = made.megabytes()
    assert whole == 1.0
    assert 0 < zipped < 0.01
    shutil.rmtree(site)
    assert made.megabytes() == (whole, zipped)


@pytest.mark.parametrize("name", APPS)
def test_an_app_has_pinned_requirements_and_other_events_that_no_tool_is_given(name: str) -> None:
    folder = starts.APPS / name
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines)
    events, unseen = (json.loads((folder / file).read_bytes()) for file in ("events.json", "unseen.json"))
    assert events
    assert unseen
    assert not [event for event in unseen if event in events]
