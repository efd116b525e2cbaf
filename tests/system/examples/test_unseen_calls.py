"""Calls that the events of the example do not make give the same results on the layer as in the full environment."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from layer_minimizer.environment import interpreter
from layer_minimizer.execution import process
from layer_minimizer.layer.archive import unzip
from tests.support.examples import copy_example, environment_of, run_example

pytestmark = pytest.mark.example
DRIVER = Path(__file__).with_name("unseen_calls.py")
# It depends on a registration by a module that is replaced by a stand-in: see the README.
REGISTERED_ELSEWHERE = "torch_functions_of_functions"


@dataclass(frozen=True)
class Place:
    """An interpreter with the packages of the example, or with those of the layer only, and what the example made."""

    python: Path
    made: Path
    isolation: process.Isolation | None = None

    def calls(self, folder: Path, *which: str) -> dict[str, str]:
        """Make calls, and return the result of each."""
        for name in ("home", "work"):
            (folder / name).mkdir(parents=True)
        # The path of a socket is limited to about 100 characters.
        with tempfile.TemporaryDirectory(prefix="calls-") as temp:
            return self._calls(folder, temp, *which)

    def _calls(self, folder: Path, temp: str, *which: str) -> dict[str, str]:
        variables = {
            # Without a compiler, as in Lambda.
            "PATH": "/nonexistent",
            "HOME": str(folder / "home"),
            "TMPDIR": temp,
            "MPLBACKEND": "agg",
            "MODEL_PATH": str(self.made / "export.pkl"),
            "OMP_NUM_THREADS": "1",
            "LAYER_MINIMIZER_LOG": str(folder / "log"),
        }
        command = [self.python, "-I", "-B", DRIVER, self.made / "task", folder / "lines", *which]
        ended = process.run(
            list(map(str, command)),
            variables,
            folder / "work",
            timeout=900,
            output=folder / "output",
            isolation=self.isolation,
        )
        assert ended.returncode == 0, (folder / "output").read_text()[-3000:]
        return dict(line.split("\t", 1) for line in (folder / "lines").read_text().splitlines())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """Make a layer that includes torch, and return the environment of the example and the layer."""
    folder = tmp_path_factory.mktemp("unseen")
    layer = folder / "layer.zip"
    example = copy_example("fastai_vision", folder / "examples")
    done = run_example(example, "--max-size", "400MB", "--output", layer)
    assert done.returncode == 0, done.stderr
    return Place(environment_of(done) / "bin/python", example / "out"), layer


@pytest.fixture(scope="module")
def alone(full: tuple[Place, Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a virtual environment whose site-packages is the layer."""
    place, layer = full
    described = interpreter.describe_interpreter(str(place.python))
    top = tmp_path_factory.mktemp("alone")
    unzip(layer, top / "opt")
    (top / "env/bin").mkdir(parents=True)
    (top / "env/lib" / described.folder).mkdir(parents=True)
    site = top / "env/lib" / described.folder / "site-packages"
    site.symlink_to(top / "opt/python/lib" / described.folder / "site-packages")
    base = Path(described.base_executable)
    (top / "env/pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    (top / "env/bin/python").symlink_to(base)
    isolation = process.Isolation(hide=described.site_dirs, read_only=(str(top / "opt"),))
    return Place(top / "env/bin/python", place.made, isolation if process.can_isolate() else None)


@pytest.fixture(scope="module")
def expected(full: tuple[Place, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return full[0].calls(tmp_path_factory.mktemp("expected") / "run")


@pytest.mark.parametrize("step", [1, -1], ids=["forwards", "backwards"])
def test_calls_give_the_originals_results_and_errors(
    step: int, alone: Place, expected: dict[str, str], tmp_path: Path
) -> None:
    names = [name for name in expected if name != REGISTERED_ELSEWHERE][::step]
    assert len(names) > 100
    assert alone.calls(tmp_path / "run", *names) == {name: expected[name] for name in names}
    log = (tmp_path / "run/log").read_text()
    for kind in ("restored module ", "restored file ", "woke "):
        assert log.count(f"\n{kind}") > 20, kind


def test_what_is_lacking_is_an_error_and_no_other_result(
    alone: Place, expected: dict[str, str], tmp_path: Path
) -> None:
    found = alone.calls(tmp_path / "run", REGISTERED_ELSEWHERE)[REGISTERED_ELSEWHERE]
    assert found in (
        expected[REGISTERED_ELSEWHERE],
        "builtins.RuntimeError: could not find decomposition for aten.addr.default",
    )
