"""The files that ``minimize init`` finds, and the settings file that it writes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.aws.runtimes import load_runtimes
from layer_minimizer.cli import init_template
from layer_minimizer.cli.project import inspect_project
from layer_minimizer.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

HANDLER = "def handler(event, context):\n    return event\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_what_lies_around_a_handler(tmp_path: Path) -> None:
    names = ["src/handler.py", "src/b.onnx", "src/a.PKL", "src/notes.txt", "c.pt", "requirements.txt"]
    events = {
        "event.json": "{}",
        "event-2.json": "[1]",
        "events/x.json": '"x"',
        "event_bad.json": "{",
        "other.json": "{}",
    }
    write(tmp_path, dict.fromkeys(names, HANDLER) | events)
    project = inspect_project(tmp_path)
    assert project.entry == tmp_path / "src" / "handler.py"
    assert project.models == (tmp_path / "src" / "a.PKL", tmp_path / "src" / "b.onnx")
    assert [path.name for path in project.events] == ["event-2.json", "event.json", "x.json"]
    ((bad, why),) = project.bad_events
    assert bad.name == "event_bad.json"
    assert "not valid JSON" in why
    assert project.requirements == tmp_path / "requirements.txt"
    assert project.python is None


@pytest.mark.parametrize("name", [".venv", "venv", "env"])
def test_the_environment(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"handler.py": HANDLER})
    python = tmp_path / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    project = inspect_project(tmp_path)
    assert project.python == python
    known = load_runtimes()[f"python3.{sys.version_info.minor}"]
    supported = known.deprecated > datetime.now(UTC).date()
    assert (project.runtime, project.problem) == (known.name if supported else "", "")


def test_a_lock_in_place_of_an_environment(tmp_path: Path) -> None:
    own = f"python3.{sys.version_info.minor}"
    write(tmp_path, {"handler.py": HANDLER, "poetry.lock": "", "requirements.txt": ""})
    assert inspect_project(tmp_path).lock is None
    write(tmp_path, {"pyproject.toml": '[project]\nrequires-python = ">=3.11"\n'})
    project = inspect_project(tmp_path)
    assert (project.lock, project.python) == (tmp_path / "poetry.lock", None)
    assert project.runtime in {"", own}
    text = init_template.new_file(project, tmp_path)
    assert ('\nlock = "poetry.lock"\n' in text, "\nrequirements =" in text, "\npython =" in text) == (
        True,
        False,
        False,
    )
    write(tmp_path, {"pyproject.toml": '[project]\nrequires-python = ">=3.99"\n'})
    assert inspect_project(tmp_path).runtime == ""


def test_an_environment_that_is_broken(tmp_path: Path) -> None:
    write(tmp_path, {"handler.py": HANDLER, ".venv/bin/python": "#!/bin/sh\nexit 3\n"})
    (tmp_path / ".venv/bin/python").chmod(0o755)
    project = inspect_project(tmp_path)
    assert (project.python, project.runtime) == (None, "")
    assert str(tmp_path / ".venv/bin/python") in project.problem


def test_a_script_has_no_events(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "print(1)\n", "event.json": "{}"})
    assert inspect_project(tmp_path, str(tmp_path / "script.py")).events == ()
    with pytest.raises(UsageError, match="has a function handler"):
        inspect_project(tmp_path)
    with pytest.raises(UsageError, match="absent"):
        inspect_project(tmp_path, str(tmp_path / "absent.py"))
