"""The program beside the GitHub Action: the command that it makes of inputs, the Python and the cache it chooses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.action import STEPS, load_steps, read_action, written
from tests.support.sites import write_files

if TYPE_CHECKING:
    from pathlib import Path

steps = load_steps()


@pytest.fixture(autouse=True)
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a job without inputs, and return the folder in which it runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("MINIMIZE", "/tool/minimize")
    monkeypatch.setenv("REPORT", "/report")
    monkeypatch.delenv("LAYER_MINIMIZER_CACHE", raising=False)
    monkeypatch.delenv("PACKAGES_PYTHON", raising=False)
    return folder


def set_inputs(monkeypatch: pytest.MonkeyPatch, **inputs: str) -> None:
    for name, text in inputs.items():
        monkeypatch.setenv(f"INPUT_{name.upper()}", text)


def outputs_of(job: Path) -> dict[str, str]:
    """Return what was written as outputs, and forget it."""
    file = job.parent / "GITHUB_OUTPUT"
    text = file.read_text()
    file.unlink()
    return written(text)


# ---- the command ----------------------------------------------------------------------------------------------------


def test_inputs_are_arguments_of_minimize(monkeypatch: pytest.MonkeyPatch) -> None:
    set_inputs(monkeypatch, entry="handler.py", event="a.json\n\n  b c.json\n", max_size="100MB", settings="a.toml")
    set_inputs(monkeypatch, args="--runs 3\n--exclude 'alpha/data/**'")
    assert steps.command() == [
        "/tool/minimize", "--config=a.toml", "--entry=handler.py", "--max-size=100MB", "--event=a.json",
        "--event=b c.json", "--report=/report", "--runs", "3", "--exclude", "alpha/data/**",
    ]  # fmt: skip


def test_without_inputs_the_settings_decide() -> None:
    assert steps.command() == ["/tool/minimize", "--report=/report"]


def test_nothing_in_an_input_is_expanded_or_taken_for_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    set_inputs(monkeypatch, entry="--help", output="$(touch x); `y` $HOME", args='"$HOME" *')
    assert steps.command()[1:] == ["--entry=--help", "--output=$(touch x); `y` $HOME", "--report=/report", "$HOME", "*"]


def test_arguments_without_an_end_are_an_error_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    set_inputs(monkeypatch, args="--exclude 'alpha")
    with pytest.raises(steps.InputError, match=r"args: .*No closing quotation"):
        steps.command()


# ---- Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "files", "version"),
    [
        ({}, {}, ""),
        ({"runtime": "python3.9"}, {}, "3.9"),
        ({"runtime": "python3.9", "python_version": "3.10"}, {}, "3.10"),
        ({"runtime": "python3.9", "python": ".venv/bin/python"}, {}, ""),
        ({}, {"layer_minimizer.toml": 'runtime = "python3.13"\n'}, "3.13"),
        ({}, {"pyproject.toml": '[tool.layer_minimizer]\npython_version = "3.8"\n'}, "3.8"),
        ({}, {"pyproject.toml": '[project]\nname = "a"\nruntime = "python3.8"\n'}, ""),
        ({"layer": "b"}, {"layer_minimizer.toml": 'runtime = "x"\n[layers.b]\nruntime = "python3.10"\n'}, "3.10"),
        ({"settings": "x/y.toml"}, {"x/y.toml": 'lock = "uv.lock"\n', "x/.python-version": "3.11\n"}, "3.11"),
        ({"requirements": "r.txt"}, {"r.txt": "", ".python-version": "3.7.1\n"}, "3.7.1"),
        ({}, {"layer_minimizer.toml": "runtime = \n"}, ""),
        ({"layer": "b"}, {"layer_minimizer.toml": "tool = 1\nlayers = 2\n"}, ""),
    ],
)  # fmt: skip
def test_python_is_that_of_inputs_settings_or_project(
    inputs: dict[str, str], files: dict[str, str], version: str, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(job, files)
    set_inputs(monkeypatch, **inputs)
    assert steps.python_version(job) == version


def test_settings_are_found_in_a_parent_folder(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(job, {"layer_minimizer.toml": 'requirements = "r.txt"\n', "a/b/handler.py": ""})
    assert steps.chosen("requirements", job / "a/b") == str(job / "r.txt")
    set_inputs(monkeypatch, requirements="other.txt")
    assert steps.chosen("requirements", job / "a/b") == str(job / "a/b/other.txt")


# ---- folders and caches ---------------------------------------------------------------------------------------------


def test_a_use_of_the_action_begins_with_empty_folders(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(job.parent / "RUNNER_TEMP/minimize/api", {"report/report.json": "old", "baseline/report.json": "old"})
    set_inputs(monkeypatch, name="api", runtime="python3.12")
    assert steps.inputs() == 0
    found = outputs_of(job)
    assert found["python-version"] == "3.12"
    assert list((job.parent / "RUNNER_TEMP/minimize/api").rglob("*.json")) == []
    assert found["report"] == str(job.parent / "RUNNER_TEMP/minimize/api/report")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".a", "-a", "a b", "a\nb", "ä"])
def test_a_name_that_is_no_name_of_files_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_inputs(monkeypatch, name=name)
    with pytest.raises(steps.InputError, match="only letters, digits"):
        steps.inputs()


def test_equal_inputs_have_an_equal_cache(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(job, {"requirements.txt": "alpha==1.0\n", "uv.lock": "", "handler.py": ""})
    set_inputs(monkeypatch, requirements="requirements.txt")

    def key() -> str:
        assert steps.cache() == 0
        return outputs_of(job)["key"]

    first = key()
    write_files(job, {"handler.py": "changed", "uv.lock": "changed"})
    assert key() == first
    assert re.fullmatch(r"minimize-Linux-\w+-[0-9a-f]{32}", first)
    keys = {first}
    write_files(job, {"requirements.txt": "alpha==1.1\n"})
    keys.add(key())
    monkeypatch.setenv("PACKAGES_PYTHON", "/tools/Python/3.12.4/x64/bin/python")
    keys.add(key())
    set_inputs(monkeypatch, requirements="", lock="uv.lock")
    keys.add(key())
    write_files(job, {"layer_minimizer.toml": 'group = ["images"]\n'})
    keys.add(key())
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", "/elsewhere")
    keys.add(key())
    assert len(keys) == 6


# ---- what GitHub reads ----------------------------------------------------------------------------------------------


def test_an_output_cannot_set_another_one(job: Path) -> None:
    steps.put("path", "a\nverified=true\nbytes<<x\n1\nx")
    assert outputs_of(job) == {"path": "a\nverified=true\nbytes<<x\n1\nx"}


def test_a_code_block_is_not_ended_by_its_text() -> None:
    assert steps.fenced("a\n```\nb") == "````text\na\n```\nb\n````"


def test_an_annotation_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    steps.annotate("error", "50% more\n::warning::x")
    assert capsys.readouterr().out == "::error title=minimize::50%25 more%0A::warning::x\n"


# ---- action.yml -----------------------------------------------------------------------------------------------------


def test_no_script_contains_an_expression() -> None:
    scripts = [step["run"] for step in read_action()["runs"]["steps"] if "run" in step]
    assert len(scripts) > 3
    assert all(script.startswith("set -euo pipefail\n") for script in scripts)
    assert not [script for script in scripts if "${{" in script]


def test_actions_are_pinned_to_commits() -> None:
    used = [step["uses"] for step in read_action()["runs"]["steps"] if "uses" in step]
    assert len(used) > 5
    assert all(re.fullmatch(r"actions/[\w/-]+@[0-9a-f]{40}", each) for each in used)


def test_each_input_is_read_and_each_step_gets_what_it_reads() -> None:
    action = read_action()
    text = STEPS.read_text()
    given = set()
    for step in action["runs"]["steps"]:
        for name, expression in step.get("env", {}).items():
            if name.startswith("INPUT_"):
                known = name.removeprefix("INPUT_").lower().replace("_", "-")
                assert expression == f"${{{{ inputs.{known} }}}}"
                given.add(known)
    assert given == set(action["inputs"])
    options = {*steps._OPTIONS, *steps._REPEATED}
    assert given == options | set(re.findall(r'(?:value|lines|chosen)\("([\w-]+)"', text))
    (making,) = [step for step in action["runs"]["steps"] if step.get("id") == "minimize"]
    assert {f"INPUT_{name.upper().replace('-', '_')}" for name in options} <= set(making["env"])
