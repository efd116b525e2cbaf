"""The Dockerfiles in docker/ and that of ``minimize init``, built and run directly, on images that need no registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.places import CHECKOUT, EXAMPLES, MINIMIZE

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


# As Lambda's runtime finds a function and its layers.
CALL = """\
import glob, json, sys
sys.path[:0] = ["/var/task", *glob.glob("/opt/python/lib/python3*/site-packages")]
import sitecustomize, handler
print(json.dumps([handler.handler(event, None) for event in json.load(sys.stdin)]))
"""


def test_of_init(
    pillow: EngineDesk, engine: Engine, trusting: str, requirements_env: Callable[[str, Path], Path]
) -> None:
    folder = pillow.folder
    seen, unseen = [each["event"] for each in json.loads((folder / "events.json").read_text())["tests"]]
    (folder / "events.json").unlink()
    (folder / "event.json").write_text(json.dumps(seen))
    done = subprocess.run([MINIMIZE, "init", "--for", "docker"], cwd=folder, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[2:4] == ["Dockerfile", "Dockerfile.dockerignore"]
    settings = folder / "layer_minimizer.toml"
    settings.write_text(settings.read_text().replace("# effort = 5 ", "effort = 0 "))
    tag = "layer_minimizer_test/of_init"
    engine.images.add(tag)
    bases = {"MINIMIZER": build(engine, "lambda", BASE=trusting), "BASE": trusting}
    given = [word for key, value in bases.items() for word in ("--build-arg", f"{key}={value}")]
    assert "Verified" in engine.output("build", "--force-rm", *given, "--tag", tag, str(folder), timeout=1800)
    assert engine.output("image", "inspect", "--format", "{{json .Config.Cmd}}", tag) == '["handler.handler"]'
    limits = ["--read-only", "--tmpfs", "/tmp:exec", "--user", "1000", "--network", "none"]
    events = json.dumps([seen, unseen])
    answers = engine.output(
        "run", "--rm", "--interactive", *limits, "--entrypoint", "python3", tag, "-c", CALL, input=events
    )
    python = requirements_env("quickstart", EXAMPLES / "quickstart" / "requirements.txt")
    code = f"sys.path.insert(0, {str(folder)!r})"
    original = CALL.replace("import sitecustomize, handler", f"{code}; import handler")
    expected = subprocess.run([python, "-B", "-c", original], input=events, check=True, capture_output=True, text=True)
    assert json.loads(answers) == json.loads(expected.stdout)
    assert "PIL" not in engine.output("run", "--rm", "--entrypoint", "python3", tag, "-m", "pip", "list")


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
