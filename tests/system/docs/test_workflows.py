"""The workflows in the documentation: validation against the schema, and two runs of each in a repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.places import EXAMPLES, PROGRAMS

from . import documents
from .conftest import Desk, cloud_variables, copy_of_checkout
from .workflow import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cloud import Cloud

    from .documents import Shown

# A fast workflow that tests workflow.py itself.
SAMPLE = """\
name: layer
on: push
env:
  EVENTS: events.json
jobs:
  layer:
    runs-on: ubuntu-latest
    strategy:
      matrix:
        python: ["3.11"]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: ${{ matrix.python }}
      - uses: actions/cache@v4
        with:
          path: ~/.cache/layer_minimizer
          key: layer-${{ hashFiles('requirements.txt') }}
      - uses: actions/download-artifact@v4
        continue-on-error: true
        with:
          name: report
          path: before
      - run: |
          mkdir -p "$HOME/tool" ~/.cache/layer_minimizer && echo "echo made for \"\\$1\"" > "$HOME/tool/make_layer"
          chmod +x "$HOME/tool/make_layer" && echo "$HOME/tool" >> "$GITHUB_PATH"
          ls ~/.cache/layer_minimizer && touch ~/.cache/layer_minimizer/chunk
      - id: layer
        run: |
          make_layer "$EVENTS" | tee report.json
          echo "bytes=$(stat --format %s report.json)" >> "$GITHUB_OUTPUT"
      - if: hashFiles('before/report.json') != ''
        run: cmp before/report.json report.json && echo "the same as before"
      - run: echo "${{ steps.layer.outputs.bytes }} bytes, ${{ env.EVENTS }}" >> "$GITHUB_STEP_SUMMARY"
      - if: failure()
        run: "false"
      - uses: actions/upload-artifact@v4
        with:
          name: report
          path: report.json
"""


def is_workflow(shown: Shown) -> bool:
    """Return whether a block is a workflow of GitHub Actions."""
    return shown.info in ("yaml", "yml") and "\njobs:" in shown.text


every_workflow = pytest.mark.parametrize(
    "workflow",
    [block for block in documents.blocks() if is_workflow(block)],
    ids=lambda shown: f"{shown.file}:{shown.line}",
)


def check_form(text: str, folder: Path) -> None:
    file = folder / "workflow.yml"
    file.write_text(text)
    command = [PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@every_workflow
def test_form(workflow: Shown, tmp_path: Path) -> None:
    check_form(workflow.text, tmp_path)


def test_a_wrong_form_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Schema validation errors"):
        check_form(SAMPLE.replace("steps:", "step:"), tmp_path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel of this project, from which pip installs it: there is no release yet."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_of_checkout(tmp_path_factory.mktemp("source") / "checkout")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True)
    return folder


@every_workflow
def test_commands(
    workflow: Shown,
    wheel: Path,
    cloud: Cloud,
    tmp_path: Path,
    requirements_env: Callable[[str, Path], Path],
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    kept = tmp_path / "kept"
    kept.mkdir()
    outputs = []
    for number in (1, 2):
        repository, home = tmp_path / f"repository{number}", tmp_path / f"home{number}"
        home.mkdir()
        check_out(repository, workflow, requirements_env)
        variables = {
            **Desk(repository, home).variables(),
            **cloud_variables(cloud),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
        }
        variables["PATH"] = f"{set_up_python(tmp_path / f'python{number}')}:{path_without_this_environment(tmp_path)}"
        variables["PIP_FIND_LINKS"] = f"{wheel} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
        runner = Runner(repository, kept, variables, commit=f"{number}" * 40)
        runner.run(yaml.safe_load(workflow.text))
        outputs.append(runner.output)
    for each in outputs:
        assert "Verified" in each or '"verified": true' in each, each
    if "minimize diff" in workflow.text:
        # The first run has nothing to compare with.
        assert [" unzipped (" in each for each in outputs] == [False, True]


def test_the_runner_of_workflows(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    outputs = []
    for number in (1, 2):
        home = tmp_path / f"home{number}"
        repository = home / "repository"
        repository.mkdir(parents=True)
        runner = Runner(repository, tmp_path / "kept", {"HOME": str(home), "PATH": os.environ["PATH"]})
        runner.run(yaml.safe_load(SAMPLE))
        outputs.append(runner.output.splitlines())
    assert outputs[0] == ["made for events.json", "21 bytes, events.json"]
    assert outputs[1] == ["chunk", "made for events.json", "the same as before", "21 bytes, events.json"]
    assert runner.actions == [
        *("actions/checkout", "actions/setup-python", "actions/cache"),
        *("actions/download-artifact", "actions/upload-artifact"),
    ]


def set_up_python(folder: Path) -> Path:
    """Create an environment for a workflow, and return its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin"


def path_without_this_environment(folder: Path) -> str:
    """Return PATH with the AWS CLI and without the tool."""
    (folder / "programs").mkdir(exist_ok=True)
    aws = folder / "programs/aws"
    if not aws.exists():
        aws.symlink_to(PROGRAMS / "aws")
    others = [entry for entry in os.environ["PATH"].split(os.pathsep) if Path(entry) != PROGRAMS]
    return os.pathsep.join([str(aws.parent), *others])


def check_out(folder: Path, workflow: Shown, requirements_env: Callable[[str, Path], Path]) -> None:
    """Create a repository with the quickstart's function, its events, and the workflow."""
    example = EXAMPLES / "quickstart"
    folder.mkdir()
    for name in ("handler.py", "requirements.txt"):
        shutil.copy(example / name, folder)
    python = requirements_env("quickstart", example / "requirements.txt")
    subprocess.run([python, "-I", example / "make_events.py", folder / "events.json"], check=True)
    events = json.loads((folder / "events.json").read_text())
    first = events["tests"][0]["event"] if isinstance(events, dict) else events[0]
    (folder / "event.json").write_text(json.dumps(first))
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / ".github/workflows/layer.yml").write_text(workflow.text)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-C", folder]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "A function"]):
        subprocess.run([*git, *command], check=True)
