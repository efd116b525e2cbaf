"""The Dockerfiles in docker/, built from a checkout and run directly, on images that need no registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.places import CHECKOUT, EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.docker import Engine

    from .conftest import EngineDesk


@pytest.fixture
def container(engine: Engine) -> Iterator[str]:
    name = f"layer_minimizer_test-{uuid.uuid4().hex[:12]}"
    yield name
    engine.run("rm", "--force", "--volumes", name)


def build(engine: Engine, name: str, **arguments: str) -> str:
    tag = f"layer_minimizer_test/{name}"
    engine.images.add(tag)
    given = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    dockerfile = CHECKOUT / "docker" / name / "Dockerfile"
    engine.output("build", "--force-rm", "--file", str(dockerfile), "--tag", tag, *given, str(CHECKOUT), timeout=1800)
    return tag


def run(engine: Engine, container: str, folder: Path, image: str, *arguments: str, to: Path) -> Any:
    """Run the tool as in docker/README.md, and return its report."""
    mount = f"{folder}:/function:ro"
    out = ("--output", "/layer_minimizer/layer.zip", "--json")
    done = engine.output("run", "--name", container, "--volume", mount, image, *arguments, *out, timeout=1800)
    engine.output("cp", f"{container}:/layer_minimizer/layer.zip", str(to))
    return json.loads(done)


def test_lambda(pillow: EngineDesk, engine: Engine, trusting: str, container: str, tmp_path: Path) -> None:
    tool = build(engine, "lambda", BASE=trusting)
    assert "--runner" in engine.output("run", "--rm", tool)
    shutil.copy(pillow.folder / "requirements.txt", tmp_path)
    text = f"FROM {tool}\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n"
    mine = engine.build("layer_minimizer_test/mine", text, tmp_path)
    arguments = ["--entry", "/function/handler.py", "--event", "/function/events.json", "--effort", "0"]
    report = run(engine, container, pillow.folder, mine, *arguments, to=tmp_path / "layer.zip")
    assert report["verified"] is True
    assert report["libraries"]
    with zipfile.ZipFile(tmp_path / "layer.zip") as layer:
        assert "python/lib/python3.11/site-packages/PIL/__init__.pyc" in layer.namelist()


@pytest.mark.example
def test_fastai_v1(
    engine: Engine,
    old_and_new: str,
    container: str,
    python_of: Callable[[str], str],
    tmp_path: Path,
) -> None:
    python_of("3.6")
    tool = build(engine, "fastai_v1", BASE=old_and_new, TOOL_IMAGE=old_and_new)
    example = EXAMPLES / "fastai_v1_vision"
    # The example trains the model; its tool is to do nothing here.
    variables = {**os.environ, "MINIMIZE": "true"}
    made = subprocess.run([example / "run.sh"], env=variables, check=False, capture_output=True)
    assert (example / "out/export.pkl").is_file(), made.stderr.decode()
    arguments = ["--entry", "/function/task/predict.py", "--model", "/function/export.pkl", "--provided", "torch"]
    arguments += ["--effort", "0", "--cold", "drop", "--bytecode", "source"]
    report = run(engine, container, example / "out", tool, *arguments, to=tmp_path / "layer.zip")
    assert report["verified"] is True
    with zipfile.ZipFile(tmp_path / "layer.zip") as layer:
        assert all(name.startswith(("python/lib/python3.6/", "layer_minimizer")) for name in layer.namelist())
