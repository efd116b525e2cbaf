"""The files that ``minimize init`` finds, and the settings file that it writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layer_minimizer.cli import init_template, settings_file
from layer_minimizer.cli.project import Project, handlers
from layer_minimizer.core.errors import UsageError

HANDLER = "def handler(event, context):\n    return event\n"
EMPTY = Project(Path("/p/handler.py"), (), (), (), (), None, "", None)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def found(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in handlers(folder)]


def read(file: Path, text: str) -> settings_file.SettingsFile:
    file.write_text(text)
    return settings_file.read(file)


def render(project: Project, folder: Path, table: str) -> str:
    return init_template.add_to_pyproject("", project, folder) if table else init_template.new_file(project, folder)


@pytest.mark.parametrize(
    "text",
    [
        HANDLER,
        "def lambda_handler(event, context): pass\n",
        "def handler(event, context, more=1): pass\n",
        "def handler(*args): pass\n",
        "app = 1\nhandler = make(app)\n",
    ],
)
def test_a_handler(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"some.py": text})
    assert found(tmp_path) == ["some.py"]


@pytest.mark.parametrize(
    "text",
    [
        "def handler(request): pass\n",
        "def handler(a, b, c): pass\n",
        "class A:\n    def handler(self, event): pass\n",
        "def main():\n    def handler(event, context): pass\n",
        "async def handler(event, context): pass\n",
        "handler = None\n",
        "def handler(event, context) pass\n",
        "\0",
        "(" * 5000,
    ],
    ids=range(9),
)
def test_no_handler(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"some.py": text})
    assert found(tmp_path) == []


def test_the_likeliest_comes_first(tmp_path: Path) -> None:
    names = ["a.py", "app.py", "handler.py", "lambda_function.py", "main.py", "src/handler.py", "src/b.py"]
    write(tmp_path, dict.fromkeys(names, HANDLER) | {"0.py": "handler = make(app)\n"})
    assert found(tmp_path) == [
        "handler.py", "src/handler.py", "lambda_function.py", "app.py", "main.py", "a.py", "src/b.py", "0.py",
    ]  # fmt: skip


def test_where_no_handlers_are_looked_for(tmp_path: Path) -> None:
    names = [
        "tests/handler.py", "test/handler.py", "test_handler.py", "conftest.py", ".hidden/handler.py",
        "build/handler.py", "node_modules/x/handler.py", "own/lib/handler.py", "a/b/c/d/e/handler.py",
    ]  # fmt: skip
    write(tmp_path, dict.fromkeys(names, HANDLER) | {"own/pyvenv.cfg": ""})
    assert found(tmp_path) == []


# ---- the text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["", "tool.layer_minimizer"])
def test_what_was_found_is_read_again(tmp_path: Path, table: str) -> None:
    names = ['a "b"\\c.json', "größe.json", "x\x7fy\tz.json"]
    project = Project(
        entry=tmp_path / "src" / "~handler.py",
        other_entries=(tmp_path / "new\nline.py",),
        models=(tmp_path / "m.pkl",),
        events=tuple(tmp_path / name for name in names),
        bad_events=(),
        python=tmp_path / ".venv/bin/python",
        runtime="python3.12",
        requirements=tmp_path / "requirements.txt",
    )
    file = tmp_path / ("pyproject.toml" if table else "x.toml")
    settings = read(file, render(project, tmp_path, table))
    values = {
        key: re.sub(r"/\./", "/", value) if isinstance(value, str) else value
        for key, value in settings.common.values.items()
    }
    assert values == {
        "entry": str(tmp_path / "src" / "~handler.py"),
        "event": tuple(str(tmp_path / name) for name in names),
        "model": (str(tmp_path / "m.pkl"),),
        "python": str(tmp_path / ".venv/bin/python"),
        "runtime": "python3.12",
        "requirements": str(tmp_path / "requirements.txt"),
    }


@pytest.mark.parametrize("table", ["", "tool.layer_minimizer"])
def test_every_line_that_is_a_comment_may_become_a_setting(tmp_path: Path, table: str) -> None:
    text = render(EMPTY, tmp_path, table)
    setting = re.compile(r"^# (?=[a-z-]+ = |\[)", re.MULTILINE)
    assert len(setting.findall(text)) >= 25
    file = tmp_path / ("pyproject.toml" if table else "x.toml")
    settings = read(file, setting.sub("", text))
    assert len(settings.common.values) >= 20
    assert len(settings.common.publish) >= 5
    assert settings.layers.keys() == {"api"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "{}"),
        ("[project]\nname = 'x'  # mine", "[project]\nname = 'x'  # mine\n\n{}"),
        ("[project]\r\nname = 'x'\r\n", "[project]\r\nname = 'x'\r\n\r\n{}"),
        ("[tool.a]\nx=1\n\n[other]\nb=[2,\n 3]", "[tool.a]\nx=1\n\n{}\n[other]\nb=[2,\n 3]"),
        ("[tool.a]\n[other]\n[tool.b]\ny = 1", "[tool.a]\n\n{}\n[other]\n[tool.b]\ny = 1"),
        ("[tool]\na.x = 1\n# last\n", "[tool]\na.x = 1\n# last\n\n{}"),
    ],
)
def test_a_pyproject_stays_as_its_owner_has_written_it(tmp_path: Path, before: str, after: str) -> None:
    written = init_template.add_to_pyproject(before, EMPTY, tmp_path)
    newline = "\r\n" if "\r" in before else "\n"
    table = init_template.add_to_pyproject("", EMPTY, tmp_path).replace("\n", newline)
    assert written == after.replace("{}", table)


@pytest.mark.parametrize("text", ["tool = {x = 1}\n", "[project\n", "tool = 3\n"])
def test_a_pyproject_that_has_no_place_for_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        init_template.add_to_pyproject(text, EMPTY, tmp_path)


def test_a_name_that_toml_cannot_hold(tmp_path: Path) -> None:
    project = Project(tmp_path / "caf\udce9.py", (), (), (), (), None, "", None)
    with pytest.raises(UsageError, match="rename the file"):
        init_template.new_file(project, tmp_path)
