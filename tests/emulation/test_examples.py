"""The examples' layers in an emulated Lambda, in namespaces and in an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
pytestmark = pytest.mark.example
DOCKERFILE = (
    "ARG BASE\nFROM $BASE\nCOPY python /var/lang\nENV PATH=/var/lang/bin:/usr/bin:/bin LD_LIBRARY_PATH=/var/lang/lib\n"
)


@pytest.fixture
def old_image(docker: dict[str, str], image: str, python_of: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """An image with the CPython 3.6 of this machine, where Lambda's images have theirs."""
    prefix = Path(python_of("3.6")).parent.parent
    context = tmp_path / "context"
    skipped = shutil.ignore_patterns("site-packages", "test", "__pycache__")
    shutil.copytree(prefix, context / "python", symlinks=True, ignore=skipped)
    (context / "Dockerfile").write_text(DOCKERFILE)
    name = f"layer_minimizer_test/python36:{os.getpid()}"
    environment = {**os.environ, **docker}
    command = ["docker", "build", "--quiet", "--build-arg", f"BASE={image}", "--tag", name, context]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "image", "rm", "--force", name], env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("where", ["namespaces", "engine"])
@pytest.mark.parametrize("name", ["quickstart", "fastai_vision", "fastai_v1_vision"])
def test_an_example_runs_in_lambda(request: pytest.FixtureRequest, name: str, where: str, tmp_path: Path) -> None:
    request.getfixturevalue("python_of")("3.6" if name == "fastai_v1_vision" else "3.11")
    environment = {**os.environ, "MINIMIZE": str(Path(sys.executable).with_name("minimize"))}
    options = ["--effort", "0", "--cold", "drop", "--verify", "lambda", "--tolerance", "1e-4"]
    options += ["--output", str(tmp_path / "layer.zip"), "--report-json", str(tmp_path / "report.json")]
    if where == "engine":
        environment |= request.getfixturevalue("docker")
        used = request.getfixturevalue("old_image" if name == "fastai_v1_vision" else "image")
        options += ["--engine", "docker", "--verify-image", used]
    else:
        request.getfixturevalue("namespaces")
    command = [EXAMPLES / name / "run.sh", *options]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report.json").read_text())["lambda"]
    assert found["events"] >= 1
    assert 0 < found["init_seconds"] < 60
    assert 10 << 20 < found["peak_bytes"] < found["memory"] << 20
    assert "Verified in emulated Lambda" in done.stdout
