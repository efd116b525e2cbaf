"""The request, mounts and outputs of a run in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from layer_minimizer.cli import parser
from layer_minimizer.container import run
from layer_minimizer.core.errors import UsageError
from layer_minimizer.settings import Request


def request(**given: object) -> Request:
    return Request.of(given)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["--runner", "docker", "--image=x", "--entry", "h.py"], ["--entry", "h.py"]),
        (["--python", "p", "--platform", "linux/arm64", "--include", "a*", "-v"], ["--include", "a*", "-v"]),
        # What may be shortened without a container may be shortened with one.
        (["--req", "r.txt", "--out", "x.zip", "--runtime", "python3.12"], ["--runtime", "python3.12"]),
        (["--trace", "a", "b", "--save-trace=c"], ["--trace", "a", "b"]),
        (["--verify", "lambda", "--memory=512", "--emulator", "rie", "--report", "r", "--json"], ["--json"]),
    ],
)
def test_what_the_command_inside_does(given: list[str], left: list[str]) -> None:
    read = parser.command_parser("").read
    expected = request(
        **read(left), output="/layer_minimizer/out/output", report_json="/layer_minimizer/out/report-json"
    )
    assert run.inner_request(request(**read(given)), {"output", "report-json"}) == expected


def test_mounts_are_few_and_read_only(tmp_path: Path) -> None:
    for name in ("task/handler.py", "task/event.json", "models/a,b.pkl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    chosen = request(
        entry=str(tmp_path / "task/handler.py"),
        event=[str(tmp_path / "task/event.json"), str(tmp_path / "absent.json")],
        model=[str(tmp_path / "models/a,b.pkl")],
    )
    model = tmp_path / "models/a,b.pkl"
    assert list(run._mounts(chosen)) == [
        "--mount",
        f"type=bind,source={tmp_path}/task,target={tmp_path}/task,readonly",
        "--mount",
        f'type=bind,"source={model}","target={model}",readonly',
    ]


def test_system_folders_cannot_be_mounted() -> None:
    with pytest.raises(UsageError, match="/usr cannot be mounted"):
        list(run._mounts(request(model=["/usr"])))


@pytest.mark.parametrize(
    ("given", "outputs"),
    [
        ({}, {"output": "layer.zip"}),
        ({"output": "x.zip", "report_json": "/r.json"}, {"output": "x.zip", "report-json": "/r.json"}),
        ({"save_trace": "t.json"}, {"save-trace": "t.json"}),
        ({"explain": "numpy", "output": "x.zip"}, {}),
        ({"explain": "numpy", "save_plan": "p.json"}, {"save-plan": "p.json"}),
        ({"explain": "numpy", "plan": "p.json"}, {}),
    ],
)
def test_outputs(given: dict[str, str], outputs: dict[str, str]) -> None:
    expected = {name: Path(path).absolute() for name, path in outputs.items()}
    assert run._outputs(request(**given)) == expected
