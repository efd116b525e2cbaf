"""Steps of the GitHub Action, run as the action runs them: the comparison of two reports, and a wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.action import STEPS
from tests.support.places import MINIMIZE

if TYPE_CHECKING:
    from pathlib import Path


def report_of(size: int) -> dict[str, Any]:
    """Return as much of a report as is compared."""
    file = {
        "path": "alpha/data.txt", "distribution": "alpha", "bytes": size, "shipped": size, "verdict": "kept",
        "reason": "TRACED", "evidence": "read by the run", "cause": "",
    }  # fmt: skip
    layer = {"unzipped_bytes": size, "zipped_bytes": size // 2}
    return {"format": 1, "version": "0.1.0", "python": "3.12.1", "layer": layer, "files": [file], "imports": []}


@dataclass
class Comparison:
    """A job that compares the layer with that of the main branch."""

    folder: Path

    def write(self, which: str, text: str) -> None:
        (self.folder / which).mkdir(exist_ok=True)
        (self.folder / which / "report.json").write_text(text)

    def run(self, *, ref: str = "refs/pull/7/merge", limit: str = "5%") -> tuple[int, str, str]:
        """Return the exit code, the output and the summary."""
        summary = self.folder / "summary"
        summary.write_text("")
        variables = {
            **os.environ, "MINIMIZE": str(MINIMIZE), "GITHUB_REF": ref, "GITHUB_STEP_SUMMARY": str(summary),
            "REPORT": str(self.folder / "new"), "BASELINE": str(self.folder / "old"), "INPUT_NAME": "api",
            "INPUT_FAIL_ABOVE": limit, "INPUT_MAIN_BRANCH": "trunk",
        }  # fmt: skip
        command = [sys.executable, "-I", STEPS, "compare"]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, summary.read_text()


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Return a comparison with a new layer of 110,000 bytes."""
    made = Comparison(tmp_path)
    made.write("new", json.dumps(report_of(110_000)))
    return made


def test_growth_above_the_limit_fails(comparison: Comparison) -> None:
    comparison.write("old", json.dumps(report_of(100_000)))
    code, out, summary = comparison.run()
    assert code == 9
    assert "::error title=minimize::api: +10.0%25 unzipped since trunk, and 5%25 is allowed." in out
    assert summary.startswith("❌ +10.0% unzipped since trunk, and 5% is allowed.\n\n```text\n")
    assert "alpha grew: 0.1 MB → 0.1 MB" in summary
    assert json.loads((comparison.folder / "old/report.json").read_text()) == report_of(100_000)


@pytest.mark.parametrize(("limit", "allowed"), [("10%", "10% is allowed"), ("", "any growth is allowed")])
def test_growth_within_the_limit_passes(comparison: Comparison, limit: str, allowed: str) -> None:
    comparison.write("old", json.dumps(report_of(100_000)))
    code, out, summary = comparison.run(limit=limit)
    assert (code, "::" in out) == (0, False)
    assert summary.startswith(f"✅ +10.0% unzipped since trunk, and {allowed}.\n")


def test_on_the_main_branch_growth_is_a_warning_and_the_new_report_is_kept(comparison: Comparison) -> None:
    comparison.write("old", json.dumps(report_of(100_000)))
    code, out, summary = comparison.run(ref="refs/heads/trunk")
    assert code == 0
    assert "::warning title=minimize::api: +10.0%25" in out
    assert summary.startswith("❌")
    assert json.loads((comparison.folder / "old/report.json").read_text()) == report_of(110_000)


def test_without_an_earlier_report_the_step_says_so_and_passes(comparison: Comparison) -> None:
    code, out, summary = comparison.run()
    assert code == 0
    assert summary == "There is no report of trunk to compare with; the next run on trunk leaves one.\n\n"
    assert out.startswith("::notice title=minimize::api: There is no report of trunk")
    assert not (comparison.folder / "old").exists()


@pytest.mark.parametrize("damaged", ["{", json.dumps(report_of(1) | {"format": 2})])
def test_an_earlier_report_that_cannot_be_read_is_a_warning(comparison: Comparison, damaged: str) -> None:
    comparison.write("old", damaged)
    code, out, summary = comparison.run()
    assert code == 0
    assert "::warning title=minimize::The report of trunk cannot be compared: " in out
    assert summary.startswith("The report of trunk cannot be compared: ")


def test_a_limit_that_is_no_percentage_is_an_error_before_there_is_anything_to_compare(comparison: Comparison) -> None:
    code, out, _ = comparison.run(limit="5")
    assert code == 2
    assert "fail-above: '5': it must be a percentage, for instance 5%25, or empty" in out


def test_a_working_directory_that_is_missing_is_an_error_of_the_input(tmp_path: Path) -> None:
    variables = {**os.environ, "INPUT_WORKING_DIRECTORY": str(tmp_path / "missing"), "INPUT_NAME": "api"}
    command = [sys.executable, "-I", STEPS, "inputs"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("::error title=minimize::working-directory: [Errno 2] No such file or directory")
