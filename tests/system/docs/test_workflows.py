"""The workflows in the documentation and the action that they use: their form, and runs in a repository."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.action import ACTION, read_action
from tests.support.github import Repository, Runners
from tests.support.index import need_uv, served
from tests.support.places import PROGRAMS
from tests.support.pythons import need_python

from . import documents
from .conftest import copy_of_checkout
from .documents import MANUAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .documents import Shown

PAGE = f"{MANUAL}/ci.md"
HANDLER = """\
import alpha


def handler(event, context):
    return [len(alpha.read(name)) for name in event["names"]]
"""
READ = """\
import os


def read(name):
    with open(os.path.join(os.path.dirname(__file__), name + ".txt")) as file:
        return file.read()
"""


def is_workflow(shown: Shown) -> bool:
    """Return whether a block is a workflow of GitHub Actions."""
    return shown.info in ("yaml", "yml") and "\njobs:" in shown.text


WORKFLOWS = {block.text.splitlines()[0]: block for block in documents.blocks() if is_workflow(block)}


# ---- form -----------------------------------------------------------------------------------------------------------


def check(kind: str, file: Path) -> None:
    command = [PROGRAMS / "check-jsonschema", "--builtin-schema", f"vendor.github-{kind}", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def audit(file: Path, *options: str) -> None:
    """Look for what makes workflows and actions unsafe."""
    command = [PROGRAMS / "zizmor", "--offline", "--no-progress", *options, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=lambda shown: f"{shown.file}:{shown.line}")
def test_workflows_have_the_form_of_workflows(workflow: Shown, tmp_path: Path) -> None:
    file = tmp_path / ".github/workflows/workflow.yml"
    file.parent.mkdir(parents=True)
    file.write_text(workflow.text)
    check("workflows", file)
    # Users choose how they pin: the documentation has tags, which can be read.
    config = tmp_path / "zizmor.yml"
    config.write_text('rules: {unpinned-uses: {config: {policies: {"*": ref-pin}}}}')
    audit(file, "--config", str(config))


def test_the_action_has_the_form_of_actions() -> None:
    check("actions", ACTION / "action.yml")
    audit(ACTION / "action.yml", "--persona", "auditor")


def test_a_wrong_form_and_an_injection_are_found(tmp_path: Path) -> None:
    file = tmp_path / "action.yml"
    text = (ACTION / "action.yml").read_text()
    file.write_text(text.replace("using: composite", "uses: composite"))
    with pytest.raises(AssertionError, match="Schema validation errors"):
        check("actions", file)
    file.write_text(text.replace('"$GITHUB_ACTION_PATH/install.sh"', "echo ${{ inputs.entry }}"))
    with pytest.raises(AssertionError, match="template-injection"):
        audit(file)


def test_the_page_has_the_inputs_and_outputs_of_the_action() -> None:
    action = read_action()
    tables = {table[0][0]: table[1:] for table in documents.read(PAGE).tables}
    for kind in ("input", "output"):
        named = [name.strip(" `") for row in tables[kind] for name in row[0].split(",")]
        assert sorted(named) == sorted(action[f"{kind}s"])
    shown = {name.strip(" `"): row[1].strip("`") for row in tables["input"] for name in row[0].split(",")}
    shown.pop("main-branch")  # it is described
    assert {name: action["inputs"][name]["default"] for name in shown} == shown


# ---- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runners]:
    """Return GitHub, which has this action, and an index with a package of 450 kB."""
    need_uv()
    need_python("3.12")
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("github")
    actions = {"OWNER/layer_minimizer": copy_of_checkout(folder / "checkout")}
    # Text that compression does not make much smaller, so that cold files and files in use differ in size.
    letters = random.Random(0)
    sizes = {"base": 300_000, "little": 2_000, "big": 150_000}
    files = {f"alpha/{name}.txt": letters.randbytes(size // 2).hex() for name, size in sizes.items()}
    with served(folder / "index") as index:
        index.wheel("alpha", "1.0", {"alpha/__init__.py": READ, **files})
        variables = {
            "LAYER_MINIMIZER_CACHE": str(folder / "cache"),
            "UV_DEFAULT_INDEX": index.url,
            "UV_CACHE_DIR": str(folder / "uv"),
            "PYTHONPATH": "",
        }
        yield Runners(folder / "runners", actions, ["3.12"], variables)


def repository_with(folder: Path, workflow: str, **files: str) -> Repository:
    folder.mkdir()
    made = Repository(folder)
    common = {"handler.py": HANDLER, "requirements.txt": "alpha==1.0\n", ".github/workflows/layer.yml": workflow}
    made.commit(common | files)
    return made


def test_a_pull_request_whose_layer_is_too_large_fails(github: Runners, tmp_path: Path) -> None:
    workflow = WORKFLOWS["name: layer"].text
    repository = repository_with(tmp_path / "repository", workflow, **{"event.json": '{"names": ["base"]}'})
    first = github.run(repository)
    assert first.succeeded, first.log
    assert "Cache not found for input keys: minimize-Linux-" in first.log
    assert "making the environment" in first.log
    assert "There is no report of main to compare with; the next run on main leaves one." in first.summary
    report = first.artifacts / "layer-report"
    assert sorted(path.name for path in report.iterdir()) == ["report.html", "report.json", "report.txt"]
    assert "Verified: 1 event" in (report / "report.txt").read_text()
    assert (report / "report.txt").read_text() in first.summary

    # Another machine, which has nothing of the first one.
    shutil.rmtree(github.variables["LAYER_MINIMIZER_CACHE"])
    shutil.rmtree(github.variables["UV_CACHE_DIR"])
    repository.git("checkout", "--quiet", "-b", "big")
    repository.commit({"event.json": '{"names": ["base", "big"]}'})
    big = github.run(repository, "pull_request")
    assert not big.succeeded
    assert "Cache restored from key: minimize-Linux-" in big.log
    assert "using the environment" in big.log
    assert "making the environment" not in big.log
    assert "❌ +" in big.summary
    assert " unzipped since main, and 5% is allowed." in big.summary
    assert "cold, now kept: alpha/big.txt" in big.summary
    assert (big.artifacts / "layer-report/report.html").is_file()

    repository.git("checkout", "--quiet", "-b", "little", "main")
    repository.commit({"event.json": '{"names": ["base", "little"]}'})
    little = github.run(repository, "pull_request")
    assert little.succeeded, little.log
    assert "✅ +" in little.summary
    assert "cold, now kept: alpha/little.txt" in little.summary


def test_layers_of_a_settings_file_are_compared_each_with_its_own(github: Runners, tmp_path: Path) -> None:
    settings = (
        'requirements = "requirements.txt"\nruntime = "python3.12"\neffort = 0\n'
        '[layers.api]\nentry = "handler.py"\nevent = "api.json"\n'
        '[layers.worker]\nentry = "handler.py"\nevent = "worker.json"\n'
    )
    events = {"api.json": '{"names": ["base"]}', "worker.json": '{"names": ["base", "big"]}'}
    files = {"layer_minimizer.toml": settings, **events}
    repository = repository_with(tmp_path / "repository", WORKFLOWS["name: layers"].text, **files)
    for number in range(2):
        ended = github.run(repository)
        assert ended.succeeded, ended.log
        assert ended.summary.count("There is no report of main") == (0 if number else 2)
        assert ended.summary.count("✅ +0.0% unzipped since main") == (2 if number else 0)
    assert sorted(path.name for path in ended.artifacts.iterdir()) == ["api", "api-report", "worker", "worker-report"]
    assert (ended.artifacts / "api/api.zip").stat().st_size < (ended.artifacts / "worker/worker.zip").stat().st_size


INPUTS = """\
on: push
jobs:
  layer:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v6
      - uses: OWNER/layer_minimizer/.github/actions/minimize@v0.2.0
        id: layer
        with:
          working-directory: a $(touch injected) folder
          entry: handler.py
          event: |
            event.json
            $(touch injected) '.json
          requirements: ../requirements.txt
          python-version: "3.12"
          output: $(touch injected); "layer
          format: folder
          cold: drop
          args: --effort 0 --runs 1 --exclude 'alpha/little.*'
      - env:
          OUTPUTS: ${{ toJSON(steps.layer.outputs) }}
        run: |
          echo "$OUTPUTS"
          find . -name injected
"""


def test_inputs_reach_minimize_as_they_are(github: Runners, tmp_path: Path) -> None:
    names = ("handler.py", "event.json", "$(touch injected) '.json")
    texts = (HANDLER, '{"names": ["base"]}', '{"names": ["big"]}')
    files = {f"a $(touch injected) folder/{name}": text for name, text in zip(names, texts, strict=True)}
    ended = github.run(repository_with(tmp_path / "repository", INPUTS, **files))
    assert ended.succeeded, ended.log
    assert "Verified: 2 events" in ended.log
    path = '/a $(touch injected) folder/$(touch injected); \\"layer'
    assert f'{path}"' in ended.log
    assert '"verified": "true"' in ended.log
    assert '"zipped-bytes": "0"' in ended.log
    assert "/injected\n" not in ended.log


def test_a_layer_that_cannot_be_made_ends_the_job(github: Runners, tmp_path: Path) -> None:
    workflow = WORKFLOWS["name: layer"].text
    files = {"event.json": '{"names": ["other"]}'}
    ended = github.run(repository_with(tmp_path / "repository", workflow, **files))
    assert not ended.succeeded
    assert "No layer: `minimize` ended with exit code 3; the log says why." in ended.summary
    assert "No such file or directory" in ended.log
    assert not ended.artifacts.exists()
