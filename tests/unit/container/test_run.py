"""What the side outside a container makes of the user's arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from layer_minimizer.container import run
from layer_minimizer.core.errors import UsageError


def options(**given: object) -> argparse.Namespace:
    unset = {"entry": "", "explain": "", "plan": "", "output": None, "save_plan": None, "report": None}
    return argparse.Namespace(**{**unset, **given})


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["--runner", "docker", "--image=x", "--entry", "h.py"], ["--entry", "h.py"]),
        (["--python", "p", "--platform", "linux/arm64", "--include", "a*", "-v"], ["--include", "a*", "-v"]),
        # What may be shortened without a container may be shortened with one.
        (["--req", "r.txt", "--out", "x.zip", "--runtime", "python3.12"], ["--runtime", "python3.12"]),
        (["--trace", "a", "b", "--save-trace=c"], ["--trace", "a", "b"]),
    ],
)
def test_arguments_for_the_command_inside(given: list[str], left: list[str]) -> None:
    outputs = {"output": Path("/x/y.zip"), "report-json": Path("/x/r.json")}
    redirected = ["--output=/layer_minimizer/out/output", "--report-json=/layer_minimizer/out/report-json"]
    assert run._arguments(given, options(), outputs) == [*left, *redirected]


def test_mounts_are_few_and_read_only(tmp_path: Path) -> None:
    for name in ("task/handler.py", "task/event.json", "models/a,b.pkl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    chosen = options(
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


def test_folders_that_a_container_lives_from() -> None:
    with pytest.raises(UsageError, match="/usr cannot be there"):
        list(run._mounts(options(model=["/usr"])))


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
    assert run._outputs(options(**given)) == expected
