"""Environments of real distributions, and copies of them with the compacted libraries of a layer."""

import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from layer_minimizer.layer import layout
from tests.support.desk import placed
from tests.support.examples import copy_example, environment_of, run_example


@dataclass(frozen=True, slots=True)
class Stack:
    """The Python of an environment, its packages, and a copy of these with the ``libraries`` of a layer."""

    python: Path
    original: Path
    mixed: Path
    libraries: tuple[str, ...]

    def run(self, script: str, packages: Path, *arguments: object, **variables: str) -> str:
        """Run a program of this folder on the original or the mixed packages, and return its output."""
        # Without site-packages: the interpreter finds only the packages in the named folder.
        command = [self.python, "-I", "-S", "-B", Path(__file__).with_name(script), packages, *arguments]
        done = subprocess.run(
            list(map(str, command)),
            env={**os.environ, **variables},
            text=True,
            capture_output=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:] or done.returncode
        return done.stdout


def copy_or_link(source: str, copy: str) -> None:
    """Copy code and link other files; OpenCV's code resolves links when it searches for its libraries."""
    (shutil.copy2 if source.endswith(".py") else os.symlink)(source, copy)


def stack_of(python: Path, layer: Path, mixed: Path) -> Stack:
    original = next((python.parent.parent / "lib").glob("python3.*/site-packages"))
    shutil.copytree(original, mixed, copy_function=copy_or_link)
    libraries = []
    with zipfile.ZipFile(layer) as archive:
        for name in placed(archive):
            library = name.split("/site-packages/", 1)[1]
            path = mixed / library
            if ".so" in path.name:
                path.unlink(missing_ok=True)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(archive.read(name))
                libraries += [library] if not library.startswith(layout.NATIVE_FOLDER) else []
    return Stack(python, original, mixed, tuple(libraries))


@pytest.fixture(scope="session")
def fastai_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_example("fastai_vision", tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="session")
def fastai_stack(fastai_example: Path, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Return the environment of the example, and its layer with libraries compacted for one small workload."""
    folder = tmp_path_factory.mktemp("fastai")
    layer = folder / "layer.zip"
    quick = ("--native", "on", "--cold", "keep", "--effort", "0")
    done = run_example(fastai_example, *quick, "--max-size", "400MB", "--output", layer)
    assert done.returncode == 0, done.stderr
    return stack_of(environment_of(done) / "bin/python", layer, folder / "mixed")
