"""The function's own zip: its files, that it works with the layer alone, and the common size limit."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.layer.archive import unzip
from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
HANDLER = """\
import os

import alpha
from helpers import greet

HERE = os.path.dirname(__file__)


def handler(event, context):
    if event.get("rare"):
        import rare

        return rare.VALUE
    with open(os.path.join(HERE, "templates", "page.html")) as page, open(os.environ["MODEL_PATH"]) as model:
        return [alpha.VALUE, greet.hello(), page.read(), len(model.read())]
"""
FILES = {
    "handler.py": HANDLER,
    "helpers/__init__.py": "",
    "helpers/greet.py": "def hello():\n    return 'hello'\n",
    "helpers/never.py": "X = 1\n",
    "rare.py": "from deeper import VALUE\n",
    "deeper.py": "VALUE = 5\n",
    "templates/page.html": "page",
    "templates/other.html": "other",
    "training/data.csv": "1,2\n",
    "notes.txt": "notes",
    ".git/config": "secret",
}
IN_IT = {
    "handler.py", "helpers/__init__.py", "helpers/greet.py", "rare.py", "deeper.py", "templates/page.html",
    "templates/other.html", "weights.bin",
}  # fmt: skip


@pytest.fixture
def weights(desk: Desk) -> Path:
    """Write a function, and a model of 100 kB in another folder."""
    for name, text in FILES.items():
        desk.write(name, text)
    model = desk.folder / "models" / "weights.bin"
    model.parent.mkdir()
    model.write_text("w" * 100_000)
    return model


def function_of(desk: Desk) -> Path:
    return desk.folder / "function.zip"


def minimize(desk: Desk, env: Environment, *args: object, **kwargs: Any) -> Any:
    return json.loads(desk.minimize(env, "--json", "--function-zip", function_of(desk), *args, **kwargs).out)


def names_in(desk: Desk) -> set[str]:
    with zipfile.ZipFile(function_of(desk)) as archive:
        return set(archive.namelist())


def test_it_contains_local_modules_used_data_and_models(desk: Desk, env: Environment, weights: Path) -> None:
    report = minimize(desk, env, "--model", weights)
    assert names_in(desk) == IN_IT
    function = report["function"]
    assert function["left_out"] == ["helpers/never.py", "notes.txt", "training/data.csv"]
    assert function["model_bytes"] == 100_000
    assert function["files"] == len(IN_IT)
    with zipfile.ZipFile(function_of(desk)) as archive:
        assert function["unzipped_bytes"] == sum(entry.file_size for entry in archive.infolist())
    assert function["with_layers_bytes"] == function["unzipped_bytes"] + report["layer"]["unzipped_bytes"]


def test_function_and_layer_work_with_nothing_else(
    desk: Desk, env: Environment, weights: Path, python_of: Callable[[str], str]
) -> None:
    """Also for an event that was not in the traced run."""
    minimize(desk, env, "--model", weights)
    opt, task = desk.folder / "opt", desk.folder / "task"
    unzip(desk.output, opt)
    unzip(function_of(desk), task)
    program = "import handler; print(handler.handler({}, None), handler.handler({'rare': 1}, None))"
    site = next(opt.glob("python/lib/python*/site-packages"))
    done = subprocess.run(
        [python_of(env.version), "-S", "-c", program],
        env={"PYTHONPATH": f"{task}{os.pathsep}{site}", "MODEL_PATH": str(task / "weights.bin")},
        cwd=task,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['the data of alpha', 'hello', 'page', 100000] 5\n", done.stderr


def test_equal_input_gives_equal_bytes(desk: Desk, env: Environment, weights: Path) -> None:
    first = minimize(desk, env, "--model", weights)["function"]["sha256"]
    content = function_of(desk).read_bytes()
    for path in desk.work.rglob("*"):
        os.utime(path)
    assert minimize(desk, env, "--model", weights)["function"]["sha256"] == first
    assert function_of(desk).read_bytes() == content


def test_the_report_says_what_it_is(desk: Desk, env: Environment, weights: Path) -> None:
    output = desk.minimize(env, "--function-zip", function_of(desk), "--model", weights).out
    assert "The function: 8 files, 0.1 MB unzipped, 0.1 MB of it models" in output
    assert "Lambda's limit is 262.1 MB" in output
    assert "helpers/never.py, notes.txt, training/data.csv" in output


def test_a_model_that_does_not_fit_is_refused_with_alternatives(desk: Desk, env: Environment, weights: Path) -> None:
    layer = minimize(desk, env, "--model", weights)["layer"]["unzipped_bytes"]
    code = minimize(desk, env, "--model", weights)["function"]["unzipped_bytes"] - 100_000
    desk.output.unlink()
    function_of(desk).unlink()
    limit = layer + code + 60_000
    messages = ["S3", "/tmp", "EFS", "40,000 bytes over", "60,000 under", f"{layer + code + 100_000:,}", "100,000"]
    desk.fails(env, 5, messages, "--model", weights, "--max-size", limit, "--function-zip", function_of(desk), "--json")
    assert not function_of(desk).exists()
    # Without the model it fits.
    minimize(desk, env, "--model", weights, "--max-size", limit + 40_000)


def test_without_a_function_zip_a_warning_says_that_there_is_no_room(
    desk: Desk, env: Environment, weights: Path
) -> None:
    layer = minimize(desk, env, "--model", weights)["layer"]["unzipped_bytes"]
    function_of(desk).unlink()
    output = desk.minimize(env, "--model", weights, "--max-size", layer + 60_000).out
    assert "leaves no room" in output
    assert "S3" in output
    tight = desk.minimize(env, "--model", weights, "--max-size", layer + 10).out
    assert "S3" not in tight.partition("leaves no room")[2]
    roomy = desk.minimize(env, "--model", weights, "--max-size", layer + 200_000).out
    assert "leaves no room" not in roomy


def test_cold_files_make_room_for_the_function(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env()
    env.install("big", {"big/__init__.py": "VALUE = 1\n", "big/data.bin": os.urandom(300_000)})
    desk.write("handler.py", "import big\n\n\ndef handler(event, context):\n    return big.VALUE\n")
    model = desk.folder / "weights.bin"
    model.write_bytes(b"w" * 200_000)
    limit = ("--max-size", "500000", "--model", model)
    variables = {"XDG_CACHE_HOME": str(desk.folder / "cache")}
    alone = json.loads(desk.minimize(env, "--json", "--cold", "auto", *limit, variables=variables).out)
    assert alone["layer"]["unzipped_bytes"] > 300_000
    both = minimize(desk, env, "--cold", "auto", *limit, variables=variables)
    assert both["function"]["with_layers_bytes"] <= 500_000


def test_a_listed_folder_adds_all_files_next_to_the_entry(desk: Desk, env: Environment) -> None:
    desk.write("labels/cat", "")
    desk.write("labels/dog", "")
    desk.write("notes.txt", "")
    desk.write(
        "handler.py",
        "import os\n\nimport alpha\n\n\ndef handler(event, context):\n"
        "    return [alpha.VALUE, sorted(os.listdir(os.path.dirname(__file__) + '/labels'))]\n",
    )
    ended = desk.minimize(env, "--function-zip", function_of(desk))
    assert "all files of its folder are added" in ended.err
    assert names_in(desk) == {"handler.py", "labels/cat", "labels/dog", "notes.txt"}


def test_a_scripts_zip_does_not_contain_the_environment_next_to_it(
    desk: Desk, make_env: Callable[..., Environment]
) -> None:
    env = make_env()
    env.install("alpha", {"alpha.py": "VALUE = 3\n"})
    inside = desk.work / "venv"
    env.root.rename(inside)
    env = replace(env, root=inside)
    desk.write("script.py", "import alpha\nimport other\n\nprint(alpha.VALUE, other.X)\n")
    desk.write("other.py", "X = 4\n")
    report = minimize(desk, env, entry="script.py")
    assert names_in(desk) == {"script.py", "other.py"}
    assert report["function"]["left_out"] == []


def test_an_output_that_cannot_be_written_is_refused_at_once(desk: Desk, env: Environment, weights: Path) -> None:
    ended = desk.fails(env, 5, ["--function-zip", "/proc/"], "--model", weights, "--function-zip", "/proc/function.zip")
    assert "tracing" not in ended.err


def test_files_whose_name_is_not_utf_8_are_left_out_or_refused(desk: Desk, env: Environment) -> None:
    """No zip for Lambda can have them."""
    code = "import alpha\n\n\ndef handler(event, context):\n    return open(NAME).read()\n"
    desk.write("handler.py", code.replace("NAME", r"b'data/caf\xe9.txt'"))
    desk.write("data/a.txt", "a")
    with open(os.fsencode(desk.work / "data") + b"/caf\xe9.txt", "w") as file:
        file.write("b")
    refused = desk.minimize(env, "--function-zip", function_of(desk), code=5)
    assert r"cannot have the name of 'data/caf\udce9.txt', which is not UTF-8: rename the file" in refused.err
    desk.write("handler.py", code.replace("NAME", "'data/a.txt'"))
    report = minimize(desk, env)
    assert names_in(desk) == {"handler.py", "data/a.txt"}
    assert report["function"]["left_out"] == ["data/caf\udce9.txt"]
