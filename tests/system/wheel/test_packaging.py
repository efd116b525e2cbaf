"""The wheel is complete, and works in an environment that has only its dependencies."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.desk import placed
from tests.support.places import CHECKOUT


@pytest.fixture(scope="module")
def wheel() -> Path:
    wheel = os.environ.get("LAYER_MINIMIZER_WHEEL")
    if not wheel:
        pytest.skip("tests/run.sh builds the wheel and names it in LAYER_MINIMIZER_WHEEL")
    return Path(wheel)


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    source = CHECKOUT / "layer_minimizer"
    expected = {
        path.relative_to(CHECKOUT).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    compiled = {name for name in packed if name.endswith(".so")}
    assert packed - compiled == expected
    if shutil.which("cc"):
        assert {name.split(".")[0] for name in compiled} == {
            "layer_minimizer/native/_coldpages",
            "layer_minimizer/native/_pagetrace",
        }


def test_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    subprocess.run([sys.executable, "-m", "venv", tool], check=True)
    subprocess.run([tool / "bin/python", "-m", "pip", "install", "-q", wheel], check=True)
    site = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", site], check=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (site / "lib" / version / "site-packages" / "answer.py").write_text("VALUE = 42\n")
    task = tmp_path / "task"
    task.mkdir()
    (task / "handler.py").write_text("import answer\n\ndef handler(event, context):\n    return answer.VALUE\n")
    command = [tool / "bin/minimize", "--json", "--python", site / "bin/python", "--entry", task / "handler.py"]
    done = subprocess.run([*command, "--output", tmp_path / "layer.zip"], check=True, stdout=subprocess.PIPE)
    assert json.loads(done.stdout)["verified"] is True
    folder = f"python/lib/{version}/site-packages/"
    with zipfile.ZipFile(tmp_path / "layer.zip") as archive:
        names = {name.removeprefix(folder).split("/")[0] for name in placed(archive)}
    own = {"_layer_minimizer", "layer_minimizer.libs", "layer_minimizer.pth", "sitecustomize.py"}
    assert names == {"answer.pyc"} | own
