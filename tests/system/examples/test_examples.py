"""Runs each example, and compares the layer with its expected.toml.

Environment, model and layer of an example take minutes and gigabytes; ``-m "not example"`` omits them.
"""

import hashlib
import json
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.layer import packed_bytecode
from layer_minimizer.layer.archive import unzip
from tests.support.desk import placed
from tests.support.examples import copy_example, environment_of, run_example
from tests.support.places import EXAMPLES

NO_SUCH_PYTHON = 3
pytestmark = pytest.mark.example


def run_or_skip(
    example: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = run_example(example, *arguments, variables=variables)
    if done.returncode == NO_SUCH_PYTHON and "CPython 3.6 is missing" in done.stderr:
        pytest.skip("CPython 3.6 is not installed")
    return done


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        digest.update(f"{path.relative_to(folder)} {status.st_mode} {status.st_mtime_ns} {status.st_size}\n".encode())
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as source:
                digest.update(hashlib.file_digest(source, "sha256").digest())
    return digest.hexdigest()


def in_lambda(request: pytest.FixtureRequest, name: str, where: str) -> tuple[str, ...]:
    """Return the options that verify a layer in emulated Lambda, or none if that is not possible here."""
    try:
        if where == "namespaces":
            request.getfixturevalue("namespaces")
            return ("--verify", "lambda")
        image = request.getfixturevalue("old_image" if "_v1_" in name else "image")
    except pytest.skip.Exception:
        return ()
    return ("--verify", "lambda", "--engine", "docker", "--verify-image", image)


def check_emulated(report: dict[str, Any], options: tuple[str, ...]) -> None:
    found = report["lambda"]
    if not options:
        assert found is None
        return
    assert found["where"] == (options[-1] if "--engine" in options else "namespaces")
    assert found["events"] == report["verification"]["events"]
    assert 0 < found["init_seconds"] < 60
    assert 10 << 20 < found["peak_bytes"] < found["memory"] << 20


NAMES = ["quickstart", "fastai_vision", "fastai_v1_vision", "fastai_v1_two_layers"]


@pytest.mark.parametrize("name", NAMES)
def test_example_gives_the_expected_layer(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> None:
    options = {where: in_lambda(request, name, where) for where in ("namespaces", "engine")}
    expected = tomllib.loads((EXAMPLES / name / "expected.toml").read_text())
    done = run_or_skip(EXAMPLES / name, *options["namespaces"])
    assert done.returncode == 0, done.stderr
    report = json.loads((EXAMPLES / name / "out/report.json").read_text())
    assert report["verified"] is True
    assert report["verification"]["mismatches"] == 0
    check_emulated(report, options["namespaces"])
    assert report["layer"]["unzipped_bytes"] <= expected["max_mb"] * 1e6
    budget = report["budget"]
    if expected.get("with_function"):
        assert budget["function"] > (EXAMPLES / name / "out/export.pkl").stat().st_size
        assert budget["layer"] + budget["base_layers"] + budget["function"] <= budget["limit"] == 262_144_000
    wrote = [line for line in done.stderr.splitlines() if line.startswith("==> wrote ")]
    assert wrote[-1].startswith(f"==> wrote {EXAMPLES / name}/out/report.html ")
    with zipfile.ZipFile(EXAMPLES / name / "out/layer.zip") as archive:
        unzip(Path(archive.filename or ""), tmp_path)
        names = {entry.split("/site-packages/", 1)[1] for entry in placed(archive)}
        for file in tmp_path.glob(f"python/lib/*/site-packages/{packed_bytecode.CODE}/*"):
            names |= {f"{stem}.py" for stem in packed_bytecode.stems_in(file)}
    names |= {f"{name.removesuffix('.pyc')}.py" for name in names if name.endswith(".pyc")}
    assert set(expected["must_keep"]) <= names
    texts = {file["path"] for file in report["files"] if file["reason"] == "LICENSE"}
    tops = {entry.split("/", 1)[0] for entry in names - texts}
    assert not set(expected["must_drop"]) & tops

    # A second run gives the same bytes, and leaves the environment unchanged.
    environment = environment_of(done)
    before = tree_hash(environment)
    docker = request.getfixturevalue("docker") if options["engine"] else {}
    again = run_or_skip(EXAMPLES / name, *options["engine"], variables=docker)
    assert again.returncode == 0, again.stderr
    second = json.loads((EXAMPLES / name / "out/report.json").read_text())
    check_emulated(second, options["engine"])
    assert second["layer"]["sha256"] == report["layer"]["sha256"]
    assert tree_hash(environment) == before


@pytest.mark.parametrize("where", ["namespaces", "docker"])
def test_examples_can_be_proved_in_emulated_lambda_here(request: pytest.FixtureRequest, where: str) -> None:
    """Skips the test if that is not possible here; the test above runs without it."""
    request.getfixturevalue(where)
    for name in NAMES:
        assert in_lambda(request, name, "namespaces" if where == "namespaces" else "engine")


def test_all_of_fastai_and_torch_is_refused_by_lambdas_limit_and_fits_a_larger_one(tmp_path: Path) -> None:
    example = copy_example("fastai_vision", tmp_path / "examples")
    layer = example / "out/layer.zip"
    whole = ("--native", "off", "--effort", "0", "--bytecode", "source")
    refused = run_example(example, *whole)
    assert refused.returncode == 5, refused.stderr
    assert "torch" in refused.stderr
    assert "--provided" in refused.stderr
    assert not layer.exists()
    done = run_example(example, "--max-size", "1GB", *whole)
    assert done.returncode == 0, done.stderr
    assert "Verified" in done.stdout


def test_a_layer_for_a_function_that_has_torch_from_another(tmp_path: Path) -> None:
    example = copy_example("fastai_vision", tmp_path / "examples")
    layer = tmp_path / "layer.zip"
    quick = ("--native", "off", "--effort", "0", "--bytecode", "source", "--cold", "drop")
    done = run_example(example, "--without-torch", *quick, "--output", layer)
    assert done.returncode == 0, done.stderr
    assert "Verified" in done.stdout
    with zipfile.ZipFile(layer) as archive:
        names = {entry.split("/site-packages/", 1)[1] for entry in placed(archive)}
    assert "fastai/learner.py" in names
    assert not {"torch", "torchvision", "sympy"} & {name.split("/", 1)[0] for name in names}


def test_examples_say_what_is_missing_where_there_is_no_old_python(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("bash", "dirname", "mkdir", "sort", "env", "sha256sum"):
        (programs / program).symlink_to(shutil.which(program) or program)
    done = subprocess.run(
        [EXAMPLES / "fastai_v1_vision/run.sh"],
        env={"PATH": str(programs), "HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == NO_SUCH_PYTHON
    assert "CPython 3.6 is missing" in done.stderr
