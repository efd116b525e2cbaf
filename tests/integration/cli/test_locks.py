"""``--lock`` and ``--requirements``: a layer from what a project has, without an environment."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from layer_minimizer import minimize
from tests.support.index import need_uv, served
from tests.support.pythons import need_python
from tests.support.sites import ALPHA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.desk import Desk

PYPROJECT = '[project]\nname = "own"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["alpha"]\n'
USAGE = 2


@pytest.fixture
def variables(
    desk: Desk, handler: Path, tmp_path: Path, main_version: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """Lay a locked project on the desk, and yield the variables with which uv uses an index of this machine."""
    uv = need_uv()
    with served(tmp_path / "index") as index:
        digest = index.wheel("alpha", "1.0", {name: str(text) for name, text in ALPHA.items()})
        given = {
            "UV_DEFAULT_INDEX": index.url,
            "UV_CACHE_DIR": str(tmp_path / "uv"),
            "UV_NO_CONFIG": "1",
            "LAYER_MINIMIZER_CACHE": str(tmp_path / "cache"),
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        desk.write("pyproject.toml", PYPROJECT)
        desk.write("requirements.txt", f"alpha==1.0 --hash={digest}\n")
        subprocess.run([uv, "lock", "-q", "--python", need_python(main_version)], cwd=handler.parent, check=True)
        yield given


@pytest.mark.parametrize(("option", "name"), [("--lock", "uv.lock"), ("--requirements", "requirements.txt")])
def test_a_layer(
    desk: Desk, variables: dict[str, str], kept_of_alpha: set[str], main_version: str, option: str, name: str
) -> None:
    given = [option, desk.work / name, "--python-version", main_version]
    ended = desk.minimize(None, *given, variables=variables)
    assert f"installing {name} for Python {main_version}" in ended.err
    assert {path for path in desk.kept(main_version) if "dist-info" not in path} == kept_of_alpha
    assert "using the environment of" in desk.minimize(None, *given, variables=variables).err


def test_an_image_from_scratch_has_the_python_of_the_packages(desk: Desk, variables: dict[str, str]) -> None:
    other = "3.12"  # not the one of this tool
    need_python(other)
    given = ["--requirements", desk.work / "requirements.txt", "--python-version", other]
    image = desk.folder / "made" / "app.tar"
    image.parent.mkdir()
    desk.minimize(None, *given, "--format", "image", "--base-image", "scratch", "--output", image, variables=variables)
    assert image.stat().st_size > 0


def test_a_trace_in_python(desk: Desk, variables: dict[str, str], handler: Path, main_version: str) -> None:
    assert variables
    report = minimize(
        entry=handler,
        output=desk.output,
        requirements=desk.work / "requirements.txt",
        python_version=main_version,
        effort=0,
        cold="drop",
        runs=1,
    )
    assert report.archive.path == desk.output
    assert {each.distribution for each in report.plan.kept} == {"alpha"}


def test_what_a_folder_has(desk: Desk, variables: dict[str, str]) -> None:
    words = ["nothing to trace", "this folder has handler.py and uv.lock", "--entry handler.py --lock uv.lock"]
    desk.fails(None, USAGE, words, entry="", cwd=desk.work, variables=variables)
