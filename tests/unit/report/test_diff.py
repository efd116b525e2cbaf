"""The differences between two layers: added, removed and grown distributions."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.cli import parser
from layer_minimizer.cli.commands.diff import DiffOptions
from layer_minimizer.cli.commands.diff import run as run_diff
from layer_minimizer.core.errors import GrowthError, UsageError
from layer_minimizer.report.diff import SavedReport, diff_reports
from layer_minimizer.settings import Messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIELDS = ("path", "distribution", "bytes", "shipped", "verdict", "reason", "evidence", "cause")
IMPORTS = [
    {"module": "handler", "importer": "", "line": 0, "startup": False},
    {"module": "pandas", "importer": "handler", "line": 3, "startup": False},
]
OLD = [
    ("numpy/a.so", "numpy", 900, 400, "compacted", "TRACED", "its pages were touched", ""),
    ("numpy/b.py", "numpy", 100, 60, "kept", "TRACED", "opened by the run", ""),
    ("gone/x.py", "gone", 50, 50, "kept", "TRACED", "opened by the run", ""),
    ("pandas/y.py", "pandas", 80, 0, "dropped", "UNUSED", "nothing asked for it", ""),
]
NEW = [
    ("numpy/a.so", "numpy", 900, 700, "compacted", "TRACED", "its pages were touched", ""),
    ("numpy/b.py", "numpy", 120, 70, "kept", "TRACED", "opened by the run", ""),
    ("pandas/y.py", "pandas", 80, 30, "kept", "TRACED", "opened by the run", "pandas"),
]


def report(rows: list[tuple[Any, ...]], **more: object) -> dict[str, Any]:
    unzipped = sum(row[3] for row in rows) + 10
    return {
        "format": 1,
        "version": "0.1.0",
        "python": "3.11.7",
        "layer": {"unzipped_bytes": unzipped, "zipped_bytes": unzipped // 2},
        "imports": IMPORTS,
        "files": [dict(zip(FIELDS, row, strict=True)) for row in rows],
        **more,
    }


def saved(rows: list[tuple[Any, ...]], **more: object) -> SavedReport:
    return SavedReport.from_json(report(rows, **more), "report.json")


def diff(tmp_path: Path, one: object, two: object, *arguments: str) -> list[str]:
    files = []
    for name, data in (("old.json", one), ("new.json", two)):
        (tmp_path / name).write_text(data if isinstance(data, str) else json.dumps(data))
        files.append(str(tmp_path / name))
    return list(answer([*files, *arguments]))


def answer(arguments: list[str]) -> Iterator[str]:
    values = parser.command_parser("diff").read(arguments)
    return run_diff(DiffOptions.of(values), Messages.of(values))


def test_what_came_went_and_grew() -> None:
    changes = {change.distribution: change for change in diff_reports(saved(OLD), saved(NEW)).changes}
    assert {name: (c.kind, c.before, c.after) for name, c in changes.items()} == {
        "numpy": ("grew", 460, 770),
        "gone": ("went", 50, 0),
        "pandas": ("came", 0, 30),
    }
    assert [(cause.what, cause.files, cause.bytes) for cause in changes["numpy"].causes] == [
        ("compacted, with other pages in use", 1, 300),
        ("kept, of another build", 1, 10),
    ]
    assert [cause.what for cause in changes["gone"].causes] == ["kept, now not installed"]
    assert changes["gone"].causes[0].why == ()
    assert changes["pandas"].causes[0].what == "dropped, now kept"
    assert changes["pandas"].causes[0].why == (
        "opened by the run", "pandas is imported by handler, line 3", "handler (the entry)",
    )  # fmt: skip


def test_the_largest_change_comes_first_and_the_other_way_round_is_the_reverse() -> None:
    there, back = diff_reports(saved(OLD), saved(NEW)), diff_reports(saved(NEW), saved(OLD))
    assert [change.distribution for change in there.changes] == ["numpy", "gone", "pandas"]
    assert [(c.before, c.after) for c in back.changes] == [(c.after, c.before) for c in there.changes]
    assert [c.kind for c in back.changes] == ["shrank", "came", "went"]


def test_equal_reports_have_no_changes(tmp_path: Path) -> None:
    (said,) = diff(tmp_path, report(OLD), report(OLD), "--fail-above", "0%")
    assert "(+0.0 %)" in said
    assert "No distribution's size in the layer has changed." in said


def test_the_layers_own_files_count(tmp_path: Path) -> None:
    larger = report(OLD)
    larger["layer"] = {"unzipped_bytes": larger["layer"]["unzipped_bytes"] + 5, "zipped_bytes": 1}
    (said,) = diff(tmp_path, report(OLD), larger)
    assert "(the layer's own files) grew: 0.0 kB \u2192 0.0 kB" in said


def test_the_text_and_the_json_say_the_same(tmp_path: Path) -> None:
    (said,) = diff(tmp_path, report(OLD), report(NEW, python="3.11.8"))
    assert "Python 3.11.7 \u2192 3.11.8" in said
    assert "numpy grew" in said
    assert "\u2190 pandas is imported by handler, line 3" in said
    (data,) = diff(tmp_path, report(OLD), report(NEW), "--json")
    found = json.loads(data)
    assert found["old"]["unzipped_bytes"] == 520
    assert found["growth"] == round(290 / 520, 6)
    assert [change["distribution"] for change in found["changes"]] == ["numpy", "gone", "pandas"]


@pytest.mark.parametrize(("allowed", "fails"), [("5%", True), ("55.7 %", True), ("55.8%", False), ("100%", False)])
def test_growth_above_what_is_allowed_fails_after_the_text(tmp_path: Path, allowed: str, fails: bool) -> None:  # noqa: FBT001
    (tmp_path / "old.json").write_text(json.dumps(report(OLD)))
    (tmp_path / "new.json").write_text(json.dumps(report(NEW)))
    arguments = [str(tmp_path / "old.json"), str(tmp_path / "new.json"), "--fail-above", allowed]
    given = answer(arguments)
    assert "numpy grew" in next(given)
    if fails:
        with pytest.raises(GrowthError, match="grown by 290 bytes"):
            next(given)
    else:
        assert list(given) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("no json", "is not valid JSON"),
        ([1], "not a report"),
        ({"format": 2, "layer": {}}, "format 2"),
        ({"format": 1, "layer": {}}, "no list of files"),
        (report(OLD, layer={}), "damaged"),
        (report(OLD, files=[{"path": "x"}]), "damaged"),
        (report(OLD, layer={"unzipped_bytes": math.nan, "zipped_bytes": 1}), "damaged.*nan is not a number of bytes"),
        (report(OLD, files=[{**report(OLD)["files"][0], "shipped": None}]), "None is not a number"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, data: object, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        diff(tmp_path, report(OLD), data)
    assert "new.json" in str(refused.value)


@pytest.mark.parametrize("text", ["5", "-1%", "five", "5 MB", ""])
def test_what_is_no_percentage_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        diff(tmp_path, report(OLD), report(NEW), f"--fail-above={text}")
    assert "it must be a percentage, for instance 5%" in capsys.readouterr().err
